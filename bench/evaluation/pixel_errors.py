"""Metrics of single pixels: PSNR and mean absolute error, of the whole image, of the hole, of the raw output."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bench.evaluation.image_batch import ImageBatch, hole_mean, sum_by_image, to_uint8
from bench.evaluation.metrics import image_metric
from reports.results.metric_info import MetricInfo

#: PSNR of identical images (infinite by definition) is stored as this many dB up to 226 x 226 pixels, where one wrong
#: level in one channel gives 99.98 dB; :func:`psnr_cap_db` has the rule. The column ``identical`` counts them.
PSNR_CAP_DB = 100.0


def psnr_cap_db(pixels: int) -> float:
    """Return the PSNR stored for identical RGB images of ``pixels`` pixels: more than any two that differ.

    :data:`PSNR_CAP_DB`, or the next whole dB above one wrong level in one channel of one pixel if that is more.

    Examples:
        >>> psnr_cap_db(160 * 160), psnr_cap_db(256 * 256)
        (100.0, 102.0)
    """
    return max(PSNR_CAP_DB, math.floor(10 * math.log10(255**2 * 3 * pixels)) + 1.0)


@image_metric(
    MetricInfo(
        name="psnr_db",
        heading="PSNR",
        digits=2,
        unit="dB",
        value_range=(0.0, None),
        higher_is_better=True,
        convention="8-bit RGB composite, whole image, data range 255, mean of per-image values; "
        "identical images count as 100 dB (more above 226 x 226 pixels)",
        source="mean squared error in decibels",
        oracle="scikit-image peak_signal_noise_ratio",
        group="primary",
    )
)
def psnr_db(images: ImageBatch) -> Tensor:
    """Compute ``10 log10(255^2 / MSE)`` over all pixels and channels of the composite.

    Examples:
        >>> from bench.evaluation.image_batch import example_batch
        >>> psnr_db(example_batch()).numpy().round(2)  # a quarter of the image is 10 levels off
        array([34.15])
    """
    squared_error = _squared_error(images.composite, images.truth)
    return _decibels(sum_by_image(squared_error) / squared_error[0].numel(), images)


@image_metric(
    MetricInfo(
        name="raw_psnr_db",
        heading="raw PSNR",
        digits=2,
        unit="dB",
        value_range=(0.0, None),
        higher_is_better=True,
        convention="as psnr_db, on the raw output of the network instead of the composite",
        source="mean squared error in decibels",
        oracle="scikit-image peak_signal_noise_ratio",
    )
)
def raw_psnr_db(images: ImageBatch) -> Tensor:
    """Compute the PSNR of the network's own output, rounded to 8 bits like the composite.

    Raises:
        NotFiniteError: the raw output holds NaN or infinite values.

    Examples:
        >>> from bench.evaluation.image_batch import example_batch
        >>> raw_psnr_db(example_batch()).numpy().round(2)
        array([34.15])
    """
    # Rounded and clamped like the composite, so that the two columns differ in the known pixels alone.
    raw = to_uint8(images.raw, "the model's output outside the hole (raw_psnr_db)")
    squared_error = _squared_error(raw, images.truth)
    return _decibels(sum_by_image(squared_error) / squared_error[0].numel(), images)


@image_metric(
    MetricInfo(
        name="hole_psnr_db",
        heading="hole PSNR",
        digits=2,
        unit="dB",
        value_range=(0.0, None),
        higher_is_better=True,
        convention="as psnr_db, squared error averaged over the pixels of the hole only",
        source="mean squared error in decibels",
        oracle="scikit-image peak_signal_noise_ratio on the pixels of the hole",
    )
)
def hole_psnr_db(images: ImageBatch) -> Tensor:
    """Compute the PSNR over the pixels of the hole; NaN where there is no hole.

    Examples:
        >>> from bench.evaluation.image_batch import example_batch
        >>> hole_psnr_db(example_batch()).numpy().round(2)  # 6.02 dB less: the hole is a quarter
        array([28.13])
    """
    squared_error = _squared_error(images.composite, images.truth)
    return _decibels(hole_mean(squared_error, images.mask), images)


@image_metric(
    MetricInfo(
        name="hole_mae",
        heading="hole MAE",
        digits=4,
        value_range=(0.0, 1.0),
        higher_is_better=False,
        convention="mean absolute error over the pixels of the hole only, 8-bit RGB composite, of [0, 1]",
        source="mean absolute error, divided by the area of the hole and not of the image",
        oracle="calculation by hand",
    )
)
def hole_mae(images: ImageBatch) -> Tensor:
    """Compute the mean absolute error over the pixels of the hole, of [0, 1]; NaN where there is no hole.

    Examples:
        >>> from bench.evaluation.image_batch import example_batch
        >>> hole_mae(example_batch()).numpy().round(4)  # 10 of 255 levels
        array([0.0392])
    """
    difference = (images.composite.float() - images.truth.float()).abs()
    return hole_mean(difference, images.mask) / 255


@image_metric(
    MetricInfo(
        name="raw_known_mae",
        heading="raw known MAE",
        digits=4,
        value_range=(0.0, 1.0),
        higher_is_better=False,
        convention="mean absolute error of the network's raw output over the known pixels, rounded to 8 bits, of "
        "[0, 1]; not a number where nothing is known",
        source="mean absolute error, divided by the area that is known",
        oracle="calculation by hand",
    )
)
def raw_known_mae(images: ImageBatch) -> Tensor:
    """Compute how much the raw output changes what was given; compositing hides it. NaN where nothing is known.

    Raises:
        NotFiniteError: the raw output holds NaN or infinite values.

    Examples:
        >>> from bench.evaluation.image_batch import example_batch
        >>> raw_known_mae(example_batch()).numpy()
        array([0.])
    """
    raw = to_uint8(images.raw, "the model's output outside the hole (raw_known_mae)")
    return hole_mean((raw.float() - images.truth.float()).abs(), 1 - images.mask) / 255


def _squared_error(a: Tensor, b: Tensor) -> Tensor:
    # Exact: differences of levels fit int16, and float32 holds their squares (integers below 2^24).
    return (a.short() - b.short()).float().square_()


def _decibels(mean_squared_error: Tensor, images: ImageBatch) -> Tensor:
    """Convert to PSNR; :func:`psnr_cap_db` for identical images (and for no others: it is never reached)."""
    height, width = images.truth.shape[-2:]
    # Equal images have an error of 0 and infinitely many decibels; the clamp gives them their number.
    return (20 * torch.log10(255 / mean_squared_error.sqrt())).clamp(max=psnr_cap_db(height * width))
