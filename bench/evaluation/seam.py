"""The seam score: how much more visible the hole's border is in the completion than in the truth."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.evaluation.image_batch import ImageBatch
from bench.evaluation.metrics import image_metric
from reports.results.metric_info import MetricInfo


@image_metric(
    MetricInfo(
        name="seam",
        heading="seam",
        digits=4,
        value_range=(0.0, 1.0),
        higher_is_better=False,
        convention="difference between composite and truth in the mean absolute step across the hole's border (pairs "
        "of neighbors of which one is in the hole), 8-bit RGB, of [0, 1]; 0: the border is as visible as in the "
        "truth; not a number where the hole has no border",
        source="this benchmark",
        oracle="calculation by hand, pair by pair",
    )
)
def seam(images: ImageBatch) -> Tensor:
    """Compare the mean step across the hole's border with the truth's own; NaN where there is no border.

    A step is the absolute difference of two pixels that share an edge, one in the hole and one outside. It is taken
    along the normal of the border, in both images over the same pairs, and averaged over pairs and channels. The score
    is the absolute difference of the two means: a visible edge and a fill that is too smooth both cost.

    Examples:
        >>> from bench.evaluation.image_batch import example_batch
        >>> seam(example_batch()).numpy().round(4)  # a step of 10 levels where the truth has none
        array([0.0392])
    """
    return (_mean_step(images.composite, images.mask) - _mean_step(images.truth, images.mask)).abs() / 255


def _mean_step(image: Tensor, mask: Tensor) -> Tensor:
    """Average the absolute steps across the border: ``(N,)`` float64, in levels."""
    # Levels are unsigned, and their differences are not.
    levels = image.short()
    total = torch.zeros(len(image), dtype=torch.float64, device=image.device)
    pairs = torch.zeros_like(total)
    for axis in (-2, -1):
        # 1 where exactly one of two neighbors is in the hole: the pair lies across the border.
        across = mask.diff(dim=axis).abs()
        # Sums of whole numbers below 2^24, each image's in float64: exact on every device.
        total += (levels.diff(dim=axis).abs() * across).double().sum(dim=(1, 2, 3))
        pairs += across.double().sum(dim=(1, 2, 3))
    return total / (pairs * image.shape[1])
