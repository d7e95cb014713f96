"""Metrics: pure functions from pictures to one number an image, in a registry.

Headline metrics are on the composite, clamped and rounded to 8 bits, RGB, one value an image; averages are
for reports. scikit-image and the ``lpips`` package are the oracles (``tests/bench/test_metrics_*.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cached_property, partial, wraps

import torch
from torch import Tensor

from bench.errors import BenchError
from bench.evaluation.cards import METRIC_INFO, MetricInfo, expand_metrics, psnr_cap_db
from bench.evaluation.lpips import lpips_distance
from bench.evaluation.ssim import GAUSSIAN_11, UNIFORM_7, mean_of_map, mean_ssim, ssim_map
from bench.pretrained_weights import MetricUnavailableError

__all__ = [
    "METRICS",
    "ImageBatch",
    "Metric",
    "MetricUnavailableError",
    "NotFiniteError",
    "prepare_metrics",
    "to_uint8",
]

#: BT.601 luma of R, G, B, the Y of ``ssim_y`` (scikit-image's ``rgb2yuv``).
_LUMA = (0.299, 0.587, 0.114)


class NotFiniteError(BenchError):
    """A model's output holds NaN or infinite numbers, so that no metric of it means anything."""


@dataclass(frozen=True)
class ImageBatch:
    """A batch of completions with its truth, on one device.

    Attributes:
        truth: ``(N, 3, H, W)`` uint8.
        composite: ``(N, 3, H, W)`` uint8: clamped and rounded, known pixels those of the truth.
        raw: ``(N, 3, H, W)`` float32 in [0, 1] (may overshoot): the network's output before compositing.
        mask: ``(N, 1, H, W)`` float32, 1 = hole.
    """

    truth: Tensor
    composite: Tensor
    raw: Tensor
    mask: Tensor

    @cached_property
    def similarity(self) -> Tensor:
        """The Gaussian map of :func:`bench.evaluation.ssim.ssim_map`, made once for all metrics that ask for it."""
        return ssim_map(self.composite, self.truth, GAUSSIAN_11)


Function = Callable[[ImageBatch], Tensor]


@dataclass(frozen=True, kw_only=True)
class Metric(MetricInfo):
    """A card with its function: :class:`ImageBatch` of N images to ``(N,)`` float64 on the same device."""

    compute: Function


def to_uint8(image: Tensor, what: str = "the model's output") -> Tensor:
    """8-bit levels of an image in [0, 1]: clamped, times 255, rounded to the nearest (halves to even).

    Args:
        image: any shape.
        what: the image's name in the error.

    Raises:
        NotFiniteError: a value is NaN or infinite; a level for it would be made up, black or white.
    """
    if not torch.isfinite(image).all():
        found = "NaN" if torch.isnan(image).any() else "infinite numbers"
        raise NotFiniteError(f"{what} holds {found}, so it cannot be scored; its training went wrong")
    return image.float().clamp(0, 1).mul(255).round().to(torch.uint8)


def psnr_db(pictures: ImageBatch) -> Tensor:
    """``10 log10(255^2 / MSE)`` over all pixels and channels of the composite."""
    return _decibels(_mean(_squared_error(pictures.composite, pictures.truth)), pictures)


def raw_psnr_db(pictures: ImageBatch) -> Tensor:
    """PSNR of the network's own output, rounded to 8 bits like the composite."""
    raw = to_uint8(pictures.raw, "the model's output outside the hole (raw_psnr_db)")
    return _decibels(_mean(_squared_error(raw, pictures.truth)), pictures)


def hole_psnr_db(pictures: ImageBatch) -> Tensor:
    """PSNR over the pixels of the hole; NaN where there is no hole."""
    squared_error = _squared_error(pictures.composite, pictures.truth)
    return _decibels(_hole_mean(squared_error, pictures.mask), pictures)


def hole_mae(pictures: ImageBatch) -> Tensor:
    """Mean absolute error over the pixels of the hole, of [0, 1]; NaN where there is no hole."""
    difference = (pictures.composite.float() - pictures.truth.float()).abs()
    return _hole_mean(difference, pictures.mask) / 255


def ssim(pictures: ImageBatch) -> Tensor:
    """Gaussian SSIM per channel (:mod:`bench.evaluation.ssim`)."""
    return mean_of_map(pictures.similarity)


def ssim_uniform7(pictures: ImageBatch) -> Tensor:
    """SSIM with scikit-image's default window."""
    return mean_ssim(pictures.composite, pictures.truth, UNIFORM_7)


def ssim_y(pictures: ImageBatch) -> Tensor:
    """Gaussian SSIM of luma."""
    return mean_ssim(_luma(pictures.composite), _luma(pictures.truth), GAUSSIAN_11)


def hole_ssim(pictures: ImageBatch) -> Tensor:
    """Mean of the Gaussian SSIM map over the hole; NaN where no pixel of it lies in the valid region."""
    inner = slice(GAUSSIAN_11.radius, -GAUSSIAN_11.radius)
    return _hole_mean(pictures.similarity, pictures.mask[..., inner, inner])


def _lpips(backbone: str, pictures: ImageBatch) -> Tensor:
    return lpips_distance(backbone, pictures.truth.device)(pictures.composite, pictures.truth)


def _squared_error(a: Tensor, b: Tensor) -> Tensor:
    # Exact: differences of levels fit int16, and float32 holds their squares (integers below 2^24).
    return (a.short() - b.short()).float().square_()


def _decibels(mean_squared_error: Tensor, pictures: ImageBatch) -> Tensor:
    """PSNR of 8-bit images, :func:`psnr_cap_db` for identical ones (and for no others: it is never reached)."""
    height, width = pictures.truth.shape[-2:]
    return (20 * torch.log10(255 / mean_squared_error.sqrt())).clamp(max=psnr_cap_db(height * width))


def _mean(values: Tensor) -> Tensor:
    """``(N,)`` float64 means of ``(N, C, H, W)`` float32."""
    return _sum(values) / values[0].numel()


def _sum(values: Tensor) -> Tensor:
    # Image by image: torch sums a whole tensor in float64 ten times faster than three axes of a permuted one.
    return torch.stack([image.sum(dtype=torch.float64) for image in values])


def _hole_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over channels and pixels of the hole: the sum is divided by the hole's area, never the image's."""
    return _sum(values * mask) / (_sum(mask) * values.shape[1])


def _luma(image: Tensor) -> Tensor:
    weights = torch.tensor(_LUMA, dtype=torch.float64, device=image.device).view(1, 3, 1, 1)
    return (image.double() * weights).sum(dim=1, keepdim=True)


def _on_one_thread(function: Function) -> Function:
    """Every operation of these metrics takes microseconds: waking threads for it costs more than they save."""

    @wraps(function)
    def alone(pictures: ImageBatch) -> Tensor:
        threads = torch.get_num_threads()
        if threads == 1 or pictures.truth.is_cuda:
            return function(pictures)
        torch.set_num_threads(1)
        try:
            return function(pictures)
        finally:
            torch.set_num_threads(threads)

    return alone


_FUNCTIONS: dict[str, Function] = {
    "psnr_db": psnr_db,
    "ssim": ssim,
    "lpips_alex": partial(_lpips, "alex"),
    "hole_psnr_db": hole_psnr_db,
    "hole_mae": hole_mae,
    "hole_ssim": hole_ssim,
    "raw_psnr_db": raw_psnr_db,
    "ssim_uniform7": ssim_uniform7,
    "ssim_y": ssim_y,
    "lpips_vgg": partial(_lpips, "vgg"),
    "lpips_squeeze": partial(_lpips, "squeeze"),
}

#: Metric name -> metric, for every card of a number an image. LPIPS raises :class:`MetricUnavailableError`
#: without its backbone.
METRICS: dict[str, Metric] = {
    name: Metric(
        **asdict(card),
        compute=_FUNCTIONS[name] if name.startswith("lpips_") else _on_one_thread(_FUNCTIONS[name]),
    )
    for name, card in METRIC_INFO.items()
    if card.of == "image"
}


def prepare_metrics(names: Iterable[str], device: torch.device) -> tuple[dict[str, Function], dict[str, str]]:
    """Load what the metrics need, once, before anything is computed.

    Args:
        names: metrics or groups (:func:`bench.evaluation.cards.expand_metrics`); those of sets are passed over.
        device: where pictures will be.

    Returns:
        The metrics that are ready, by name, and for the others the reason in one line.

    Raises:
        UnknownMetricError: a name that is no metric.
    """
    ready: dict[str, Function] = {}
    unavailable: dict[str, str] = {}
    for name in (name for name in expand_metrics(names) if name in METRICS):
        try:
            if name.startswith("lpips_"):
                lpips_distance(name.removeprefix("lpips_"), device)
            ready[name] = METRICS[name].compute
        except MetricUnavailableError as error:
            unavailable[name] = str(error)
    return ready, unavailable
