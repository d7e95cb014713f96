"""Structural similarity (Wang, Bovik, Sheikh, Simoncelli 2004), batched, in float64: windows, maps, metrics.

Equal to scikit-image's ``structural_similarity`` (whose mean leaves out a border of the window's radius, so
that no padding is seen). float64 is needed: variances are differences of large numbers, and float32 loses
3e-5 on nearly constant images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.evaluation.image_batch import ImageBatch, hole_mean
from bench.evaluation.metrics import image_metric
from reports.results.metric_info import MetricInfo

#: Means computed by one product along an axis: 18 products where the Gaussian window has 11 weights, at the speed of
#: the BLAS, and too few for it to wake threads. Larger blocks multiply more zeros, smaller ones take more calls.
_BLOCK = 8
_K1, _K2 = 0.01, 0.03
#: Rows of an image's map that are computed at a time on the CPU, so that their planes stay in the caches.
STRIP = 96
#: BT.601 luma of R, G, B, the Y of ``ssim_y`` (scikit-image's ``rgb2yuv``).
_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Window:
    """A separable window.

    Attributes:
        taps: weights along one axis, of odd number, symmetric, summing to 1.
        covariance_norm: 1 for the population covariance, n / (n - 1) for the sample covariance of n pixels.
    """

    taps: tuple[float, ...]
    covariance_norm: float

    @property
    def radius(self) -> int:
        """Pixels lost on every side, since the map covers the region where the window fits."""
        return len(self.taps) // 2


def gaussian_window(sigma: float = 1.5, radius: int = 5) -> Window:
    """Build Gaussian weights with population covariance (Wang et al. 2004, section III-B: 11 x 11, sigma 1.5).

    Examples:
        >>> gaussian_window().radius, round(sum(gaussian_window().taps), 12)
        (5, 1.0)
    """
    weights = [math.exp(-0.5 * (offset / sigma) ** 2) for offset in range(-radius, radius + 1)]
    # Normalized by their own sum, as SciPy's filter is, and not by the formula's constant.
    return Window(tuple(weight / sum(weights) for weight in weights), 1.0)


def uniform_window(side: int = 7) -> Window:
    """Build equal weights with sample covariance: scikit-image's defaults."""
    return Window((1 / side,) * side, side * side / (side * side - 1))


GAUSSIAN_11 = gaussian_window()
UNIFORM_7 = uniform_window()


@image_metric(
    MetricInfo(
        name="ssim",
        heading="SSIM",
        digits=4,
        value_range=(-1.0, 1.0),
        higher_is_better=True,
        convention="8-bit RGB composite, Gaussian window of 11 (sigma 1.5), valid region, per channel, "
        "population covariance, data range 255",
        source="Wang et al. 2004 (doi:10.1109/TIP.2003.819861)",
        oracle="scikit-image structural_similarity",
        group="primary",
    )
)
def ssim(images: ImageBatch) -> Tensor:
    """Compute Gaussian SSIM per channel, averaged over pixels and channels.

    Examples:
        >>> from bench.evaluation.image_batch import example_batch
        >>> ssim(example_batch()).numpy().round(4)
        array([0.8624])
    """
    return mean_of_map(images.shared(gaussian_map))


@image_metric(
    MetricInfo(
        name="hole_ssim",
        heading="hole SSIM",
        digits=4,
        value_range=(-1.0, 1.0),
        higher_is_better=True,
        convention="mean of the map of ssim over the pixels of the hole in the valid region "
        "(not a number where the hole has none)",
        source="Wang et al. 2004 (doi:10.1109/TIP.2003.819861)",
        oracle="scikit-image structural_similarity (full=True)",
    )
)
def hole_ssim(images: ImageBatch) -> Tensor:
    """Average the Gaussian SSIM map over the hole; NaN where no pixel of it lies in the valid region.

    Examples:
        >>> from bench.evaluation.image_batch import example_batch
        >>> hole_ssim(example_batch()).numpy().round(4)
        array([0.8748])
    """
    # The map has no values at the image's border, so the mask is cut to the same region.
    inner = slice(GAUSSIAN_11.radius, -GAUSSIAN_11.radius)
    return hole_mean(images.shared(gaussian_map), images.mask[..., inner, inner])


@image_metric(
    MetricInfo(
        name="ssim_uniform7",
        heading="SSIM (uniform 7)",
        digits=4,
        value_range=(-1.0, 1.0),
        higher_is_better=True,
        convention="8-bit RGB composite, uniform window of 7, valid region, per channel, sample covariance, "
        "data range 255 (scikit-image's defaults)",
        source="Wang et al. 2004 (doi:10.1109/TIP.2003.819861)",
        oracle="scikit-image structural_similarity",
    )
)
def ssim_uniform7(images: ImageBatch) -> Tensor:
    """Compute SSIM with scikit-image's default window.

    Examples:
        >>> from bench.evaluation.image_batch import example_batch
        >>> ssim_uniform7(example_batch()).numpy().round(4)
        array([0.8681])
    """
    return mean_ssim(images.composite, images.truth, UNIFORM_7)


@image_metric(
    MetricInfo(
        name="ssim_y",
        heading="SSIM (luma)",
        digits=4,
        value_range=(-1.0, 1.0),
        higher_is_better=True,
        convention="as ssim, on luma Y = 0.299 R + 0.587 G + 0.114 B (BT.601, full range, not rounded)",
        source="Wang et al. 2004 (doi:10.1109/TIP.2003.819861)",
        oracle="scikit-image structural_similarity of rgb2yuv",
    )
)
def ssim_y(images: ImageBatch) -> Tensor:
    """Compute Gaussian SSIM of luma.

    Examples:
        >>> from bench.evaluation.image_batch import example_batch
        >>> ssim_y(example_batch()).numpy().round(4)
        array([0.8624])
    """
    return mean_ssim(_luma(images.composite), _luma(images.truth), GAUSSIAN_11)


def gaussian_map(images: ImageBatch) -> Tensor:
    """Compute the map that ``ssim`` and ``hole_ssim`` share; see :func:`ssim_map`."""
    return ssim_map(images.composite, images.truth, GAUSSIAN_11)


def _luma(image: Tensor) -> Tensor:
    weights = torch.tensor(_LUMA, dtype=torch.float64, device=image.device).view(1, 3, 1, 1)
    return (image.double() * weights).sum(dim=1, keepdim=True)


def weighted_means(planes: Tensor, window: Window) -> Tensor:
    """Average float64 ``(..., H, W)`` under the window: ``(..., H - 2 r, W - 2 r)`` with r its radius."""
    # The products below are NumPy's, which cannot see a tensor on the GPU.
    if not planes.is_cuda:
        return _by_products(planes, window.taps)
    for axis in (-2, -1):
        planes = _by_shifts(planes, window.taps, axis)
    return planes


def _by_shifts(planes: Tensor, taps: tuple[float, ...], axis: int) -> Tensor:
    """Average along one axis by summing shifted views; torch has no fast float64 convolution."""
    length, last = planes.shape[axis] - len(taps) + 1, len(taps) - 1
    total = planes.narrow(axis, last // 2, length) * taps[last // 2]
    for k in range(last // 2):
        total.add_(planes.narrow(axis, k, length), alpha=taps[k])
        total.add_(planes.narrow(axis, last - k, length), alpha=taps[k])
    return total


def _by_products(planes: Tensor, taps: tuple[float, ...]) -> Tensor:
    """Average along rows, then columns, one block at a time by a product with a small banded matrix.

    The products are NumPy's: with torch's the whole map took half as long again.
    """
    *leading, height, width = planes.shape
    # Only means whose window fits: no padding is ever seen.
    rows, columns = height - len(taps) + 1, width - len(taps) + 1
    source = planes.reshape(-1, height, width).numpy()
    means_of_rows = np.empty((len(source), rows, width))
    for here, seen, weights in _blocks(rows, taps):
        np.matmul(weights, source[:, seen], out=means_of_rows[:, here])
    lines = means_of_rows.reshape(-1, width)
    means = np.empty((len(lines), columns))
    for here, seen, weights in _blocks(columns, taps):
        np.matmul(lines[:, seen], weights.T, out=means[:, here])
    return torch.from_numpy(means).view(*leading, rows, columns)


def _blocks(count: int, taps: tuple[float, ...]) -> list[tuple[slice, slice, NDArray[np.float64]]]:
    """Split ``count`` means into blocks: which means, which values they need, and the weights.

    The last block may overlap the one before it and compute the same means twice.
    """
    size = min(_BLOCK, count)
    # The last block is moved back instead of being cut short, so that all blocks share one matrix.
    starts = [*range(0, count - size, size), count - size]
    reach, weights = len(taps) - 1, _banded(taps, size)
    return [(slice(i, i + size), slice(i, i + size + reach), weights) for i in starts]


@cache
def _banded(taps: tuple[float, ...], size: int) -> NDArray[np.float64]:
    """Build ``(size, size + taps - 1)`` weights, whose row i holds the taps from column i on."""
    weights = np.zeros((size, size + len(taps) - 1))
    for i in range(size):
        weights[i, i : i + len(taps)] = taps
    weights.flags.writeable = False  # shared by all threads
    return weights


def ssim_map(x: Tensor, y: Tensor, window: Window = GAUSSIAN_11, data_range: float = 255.0) -> Tensor:
    """Compute the local similarity of every pixel around which the window fits.

    Args:
        x: ``(N, C, H, W)``, any number type, values in ``[0, data_range]``.
        y: the other images, of the same shape; SSIM is symmetric.
        window: weights and covariance.
        data_range: the span of possible values.

    Returns:
        ``(N, C, H - 2 r, W - 2 r)`` float64 with r the window's radius, in [-1, 1].

    Raises:
        ValueError: images of different shapes, or smaller than the window.
    """
    if x.shape != y.shape:
        raise ValueError(f"images of different shapes: {tuple(x.shape)} and {tuple(y.shape)}")
    count, channels, height, width = x.shape
    if min(height, width) < len(window.taps):
        raise ValueError(f"SSIM's window of {len(window.taps)} needs larger images than {height} x {width}")
    # All at once on a GPU: looking for differing regions would make the host wait for each image.
    if x.is_cuda:
        return ssim_formula(x.double(), y.double(), window, data_range)
    # One is the similarity of equal windows, which are left as they are below.
    found = torch.ones(
        (count, channels, height - 2 * window.radius, width - 2 * window.radius), dtype=torch.float64
    )
    for one, other, out in zip(x, y, found, strict=True):
        _fill(out, one, other, window, data_range)
    return found


def _fill(out: Tensor, x: Tensor, y: Tensor, window: Window, data_range: float) -> None:
    """Write one image's map (filled with 1) where its windows see a differing pixel.

    Where both windows hold the same pixels the similarity is 1 to the last bit, and most of a composite is known.
    Working image by image also stays in the cache.
    """
    reach = 2 * window.radius
    # In any channel: the region is one rectangle for all three.
    differs = (x != y).any(dim=0)
    rows, columns = _reached(differs.any(dim=1), reach), _reached(differs.any(dim=0), reach)
    if rows is None or columns is None:
        return
    across = slice(columns.start, columns.stop + reach)
    for top in range(rows.start, rows.stop, STRIP):
        bottom = min(top + STRIP, rows.stop)
        seen = (slice(None), slice(top, bottom + reach), across)
        out[:, top:bottom, columns] = ssim_formula(x[seen].double(), y[seen].double(), window, data_range)


def _reached(differs: Tensor, reach: int) -> slice | None:
    """Return the windows along one axis that see a differing pixel; ``None`` for no pixel."""
    positions = differs.nonzero()
    if len(positions) == 0:
        return None
    # A pixel is seen by the windows that begin up to reach before it.
    return slice(max(0, int(positions[0]) - reach), min(len(differs) - reach, int(positions[-1]) + 1))


def mean_ssim(x: Tensor, y: Tensor, window: Window = GAUSSIAN_11, data_range: float = 255.0) -> Tensor:
    """Average :func:`ssim_map` over pixels, then channels: ``(N,)`` float64 of ``(N, C, H, W)`` images.

    Examples:
        >>> image = torch.arange(3 * 16 * 16.0).view(1, 3, 16, 16) % 251
        >>> mean_ssim(image, image).tolist()
        [1.0]
    """
    return mean_of_map(ssim_map(x, y, window, data_range))


def mean_of_map(values: Tensor) -> Tensor:
    """Average a map ``(N, C, H, W)`` over pixels, then channels: ``(N,)``."""
    return values.mean(dim=(-1, -2)).mean(dim=-1)


def ssim_formula(x: Tensor, y: Tensor, window: Window, data_range: float) -> Tensor:
    """Evaluate equation 13 of Wang et al. 2004 on float64 planes ``(..., H, W)``.

    By the sum ``s = x + y`` and the difference ``d = x - y``: with S, D their means under the window and U, V their
    variances, ``4 mean(x) mean(y) = S^2 - D^2``, ``2 (mean(x)^2 + mean(y)^2) = S^2 + D^2``, and so for the covariance
    and the variances. Four planes are filtered instead of five, and where x equals y the value is 1 to the last bit.
    """
    planes = x.new_empty((4, *x.shape))
    torch.add(x, y, out=planes[0])
    torch.sub(x, y, out=planes[1])
    # Squares are formed before filtering, since the mean of squares is what variances need.
    torch.mul(planes[:2], planes[:2], out=planes[2:])
    filtered = weighted_means(planes, window)
    means, variances = filtered[:2], filtered[2:]
    # The means are not needed themselves, only their squares.
    means.square_()
    variances.sub_(means)
    if window.covariance_norm != 1:
        variances.mul_(window.covariance_norm)
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    # In place where a plane is not needed again: on the CPU these passes cost a third of the whole.
    sums, differences = means[0].add_(2 * c1), means[1]
    spread, opposed = variances[0].add_(2 * c2), variances[1]
    numerator = (sums - differences).mul_(spread - opposed)
    return numerator.div_(sums.add_(differences).mul_(spread.add_(opposed)))
