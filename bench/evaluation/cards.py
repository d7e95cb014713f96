"""What every metric is: its convention, unit, range, direction and source. Imports no torch.

The functions behind the names are in :mod:`bench.evaluation.metrics`; a test holds the two together.
``docs/metrics.md`` explains the conventions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from bench.errors import UsageError
from models.registry import did_you_mean

#: PSNR of identical images (infinite by definition) is stored as this many dB up to 226 x 226 pixels, where one wrong
#: level in one channel gives 99.98 dB; :func:`psnr_cap_db` has the rule. The column ``identical`` counts them.
PSNR_CAP_DB = 100.0

Group = Literal["primary", "secondary"]


def psnr_cap_db(pixels: int) -> float:
    """What identical RGB images of so many pixels count as: more than any two that differ.

    :data:`PSNR_CAP_DB`, or the next whole dB above one wrong level in one channel of one pixel if that is more (102 dB
    for 256 x 256).
    """
    return max(PSNR_CAP_DB, math.floor(10 * math.log10(255**2 * 3 * pixels)) + 1.0)


class UnknownMetricError(UsageError):
    """A metric's name that is not in :data:`METRIC_INFO`."""


@dataclass(frozen=True, kw_only=True)
class MetricInfo:
    """What a metric's numbers mean.

    Attributes:
        name: column in every table; carries the unit or variant.
        convention: what exactly is computed, on what.
        unit: ``dB`` or empty.
        value_range: lowest and highest value.
        higher_is_better: direction.
        source: paper, and the program whose numbers these equal.
        group: ``primary`` metrics are in every run, ``secondary`` ones by name or group.
        of: ``image``: one number an image, averaged by reports; ``set``: one number for all images of a cell.
    """

    name: str
    convention: str
    unit: str
    value_range: tuple[float, float]
    higher_is_better: bool
    source: str
    group: Group
    of: Literal["image", "set"] = "image"

    @property
    def facts(self) -> str:
        """Range, unit, direction, group and source in one phrase."""
        low, high = (f"{limit:g}" for limit in self.value_range)
        span = f"from {low}" if high == "inf" else f"{low} to {high}"
        better = "higher" if self.higher_is_better else "lower"
        return f"{span} {self.unit}".rstrip() + f", {better} is better; {self.group} [{self.source}]"


_PSNR_SOURCE = "scikit-image peak_signal_noise_ratio"
_SSIM_SOURCE = "Wang et al. 2004 (doi:10.1109/TIP.2003.819861); scikit-image structural_similarity"
_LPIPS_SOURCE = "Zhang et al. 2018 (arXiv:1801.03924); the lpips package, v0.1"
_INF = float("inf")

_ALL = (
    MetricInfo(
        name="psnr_db",
        convention="8-bit RGB composite, whole image, data range 255, mean of per-image values; "
        f"identical images count as {PSNR_CAP_DB:.0f} dB (more above 226 x 226 pixels)",
        unit="dB",
        value_range=(0.0, _INF),
        higher_is_better=True,
        source=_PSNR_SOURCE,
        group="primary",
    ),
    MetricInfo(
        name="ssim",
        convention="8-bit RGB composite, Gaussian window of 11 (sigma 1.5), valid region, per channel, "
        "population covariance, data range 255",
        unit="",
        value_range=(-1.0, 1.0),
        higher_is_better=True,
        source=_SSIM_SOURCE,
        group="primary",
    ),
    MetricInfo(
        name="lpips_alex",
        convention="8-bit RGB composite scaled to [-1, 1], AlexNet with the linear weights v0.1",
        unit="",
        value_range=(0.0, _INF),
        higher_is_better=False,
        source=_LPIPS_SOURCE,
        group="primary",
    ),
    MetricInfo(
        name="hole_psnr_db",
        convention="as psnr_db, squared error averaged over the pixels of the hole only",
        unit="dB",
        value_range=(0.0, _INF),
        higher_is_better=True,
        source=_PSNR_SOURCE + " on the pixels of the hole",
        group="secondary",
    ),
    MetricInfo(
        name="hole_mae",
        convention="mean absolute error over the pixels of the hole only, 8-bit RGB composite, of [0, 1]",
        unit="",
        value_range=(0.0, 1.0),
        higher_is_better=False,
        source="masked mean absolute error, divided by the area of the hole and not of the image",
        group="secondary",
    ),
    MetricInfo(
        name="hole_ssim",
        convention="mean of the map of ssim over the pixels of the hole in the valid region "
        "(not a number where the hole has none)",
        unit="",
        value_range=(-1.0, 1.0),
        higher_is_better=True,
        source=_SSIM_SOURCE + " (full=True)",
        group="secondary",
    ),
    MetricInfo(
        name="raw_psnr_db",
        convention="as psnr_db, on the raw output of the network instead of the composite",
        unit="dB",
        value_range=(0.0, _INF),
        higher_is_better=True,
        source=_PSNR_SOURCE,
        group="secondary",
    ),
    MetricInfo(
        name="ssim_uniform7",
        convention="8-bit RGB composite, uniform window of 7, valid region, per channel, sample covariance, "
        "data range 255 (scikit-image's defaults)",
        unit="",
        value_range=(-1.0, 1.0),
        higher_is_better=True,
        source=_SSIM_SOURCE,
        group="secondary",
    ),
    MetricInfo(
        name="ssim_y",
        convention="as ssim, on luma Y = 0.299 R + 0.587 G + 0.114 B (BT.601, full range, not rounded)",
        unit="",
        value_range=(-1.0, 1.0),
        higher_is_better=True,
        source=_SSIM_SOURCE,
        group="secondary",
    ),
    MetricInfo(
        name="lpips_vgg",
        convention="as lpips_alex, with VGG16",
        unit="",
        value_range=(0.0, _INF),
        higher_is_better=False,
        source=_LPIPS_SOURCE,
        group="secondary",
    ),
    MetricInfo(
        name="lpips_squeeze",
        convention="as lpips_alex, with SqueezeNet 1.1",
        unit="",
        value_range=(0.0, _INF),
        higher_is_better=False,
        source=_LPIPS_SOURCE,
        group="secondary",
    ),
    MetricInfo(
        name="fid",
        convention="Fréchet distance between the Inception features (2048, TensorFlow's weights of 2015) of all "
        "truths and all 8-bit RGB composites: one number a set, biased upwards where images are few",
        unit="",
        value_range=(0.0, _INF),
        higher_is_better=False,
        source="Heusel et al. 2017 (arXiv:1706.08500); torch-fidelity",
        group="secondary",
        of="set",
    ),
)

#: Metric name -> card, primary ones first.
METRIC_INFO: dict[str, MetricInfo] = {card.name: card for card in _ALL}

#: Names that stand for several.
GROUPS = ("primary", "secondary", "all")


def expand_metrics(names: Iterable[str]) -> list[str]:
    """Metric names, each once and in the order of :data:`METRIC_INFO`, with the groups of :data:`GROUPS` spelt out.

    Raises:
        UnknownMetricError: neither a metric nor a group; the message suggests what may be meant.
    """
    wanted: set[str] = set()
    for name in names:
        if name in GROUPS:
            wanted |= {card.name for card in _ALL if name in ("all", card.group)}
        elif name in METRIC_INFO:
            wanted.add(name)
        else:
            raise UnknownMetricError(f"no metric {name!r}{did_you_mean(name, [*METRIC_INFO, *GROUPS])}")
    return [name for name in METRIC_INFO if name in wanted]
