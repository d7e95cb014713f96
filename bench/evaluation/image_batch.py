"""What metrics of images are computed from: a batch of completions with its truth, in 8 bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bench.errors import BenchError

#: Where aligned faces lie in a square image: horizontal and vertical center and side, as fractions of its side.
FaceBox = tuple[float, float, float]


class NotFiniteError(BenchError):
    """Raised for a model's output with NaN or infinite values, of which no metric means anything."""


@dataclass(frozen=True)
class ImageBatch:
    """A batch of completions with its truth, on one device.

    Attributes:
        truth: ``(N, 3, H, W)`` uint8.
        composite: ``(N, 3, H, W)`` uint8: clamped and rounded, known pixels those of the truth.
        raw: ``(N, 3, H, W)`` float32 in [0, 1] (may overshoot): the network's output before compositing.
        mask: ``(N, 1, H, W)`` float32, 1 = hole.
        face_box: where the faces lie; ``None`` where they are not aligned, or are none.
    """

    truth: Tensor
    composite: Tensor
    raw: Tensor
    mask: Tensor
    face_box: FaceBox | None = None
    _shared: dict[Callable[[ImageBatch], Tensor], Tensor] = field(
        default_factory=dict, repr=False, compare=False, init=False
    )

    def shared(self, function: Callable[[ImageBatch], Tensor]) -> Tensor:
        """Return ``function(self)``, computed once for all metrics that ask for it."""
        if function not in self._shared:
            self._shared[function] = function(self)
        return self._shared[function]


def example_batch() -> ImageBatch:
    """Return the batch of the docstrings' examples: one gray image, its hole filled 10 levels too bright.

    32 x 32 pixels of level 100, with a centered hole of 16 x 16, a quarter of the image.

    Examples:
        >>> images = example_batch()
        >>> images.truth.shape, images.composite[0, 0, 16, 14:18].tolist(), float(images.mask.mean())
        (torch.Size([1, 3, 32, 32]), [110, 110, 110, 110], 0.25)
    """
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 8:24, 8:24] = 1
    truth = torch.full((1, 3, 32, 32), 100, dtype=torch.uint8)
    composite = truth + (10 * mask).to(torch.uint8)
    return ImageBatch(truth, composite, composite.float() / 255, mask)


def to_uint8(image: Tensor, what: str = "the model's output") -> Tensor:
    """Convert an image in [0, 1] to 8-bit levels: clamped, times 255, rounded to the nearest (halves to even).

    Args:
        image: any shape.
        what: the image's name in the error.

    Raises:
        NotFiniteError: a value is NaN or infinite; a level for it would be made up, black or white.

    Examples:
        >>> to_uint8(torch.tensor([-0.2, 0.5, 0.501, 3.0])).tolist()
        [0, 128, 128, 255]
    """
    if not torch.isfinite(image).all():
        found = "NaN" if torch.isnan(image).any() else "infinite numbers"
        raise NotFiniteError(f"{what} holds {found}, so it cannot be scored; its training went wrong")
    return image.float().clamp(0, 1).mul(255).round().to(torch.uint8)


def sum_by_image(values: Tensor) -> Tensor:
    """Sum ``(N, C, H, W)`` float32 to ``(N,)`` float64."""
    # Image by image: torch sums a whole tensor in float64 ten times faster than three axes of a permuted one.
    return torch.stack([image.sum(dtype=torch.float64) for image in values])


def hole_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Average ``(N, C, H, W)`` over channels and the pixels where ``mask`` is 1: ``(N,)`` float64, NaN for none.

    The sum is divided by the area of the mask, never by the image's.
    """
    return sum_by_image(values * mask) / (sum_by_image(mask) * values.shape[1])
