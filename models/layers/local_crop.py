"""Square crops around holes, the input of a local discriminator; vectorized, without synchronizing the device."""

from __future__ import annotations

import torch
from torch import Tensor


def default_local_size(size: int) -> int:
    """Return the side of the local crop for images of side ``size``: three fifths of it, rounded to a multiple of 8.

    96 at 160 pixels is that of GLCIC's public port for CelebA (the largest random rectangle there).

    >>> default_local_size(160), default_local_size(64)
    (96, 40)
    """
    return round(0.6 * size / 8) * 8


def hole_corners(mask: Tensor, side: int) -> Tensor:
    """Return the top left corners of crops centered on the bounding box of each hole, clamped to the image.

    Where the margins differ by one pixel, the smaller is at the top left. A mask without a hole gives the center of the
    image. A hole larger than the crop is seen in part: the middle of its bounding box.

    >>> mask = torch.zeros(1, 1, 8, 8)
    >>> mask[..., 4:8, 0:2] = 1
    >>> hole_corners(mask, 4).tolist()
    [[4, 0]]

    Args:
        mask: ``(N, 1, H, W)``, 1 = hole.
        side: of the crop, at most H and W.

    Returns:
        ``(N, 2)`` int64: row, column.
    """
    hole = mask[:, 0] > 0.5
    corners = []
    for across in (2, 1):  # rows that meet the hole, then columns
        meets = hole.any(dim=across).to(torch.uint8)
        length = meets.shape[1]
        # argmax finds the first 1, and 0 where there is none, which makes the whole
        # length the bounding box of an empty mask.
        first = meets.argmax(dim=1)
        last = length - 1 - meets.flip(1).argmax(dim=1)
        corners.append(((first + last + 1 - side) // 2).clamp(0, length - side))
    return torch.stack(corners, dim=1)


def random_corners(
    count: int, size: int, side: int, generator: torch.Generator, device: torch.device
) -> Tensor:
    """Draw ``(count, 2)`` int64 corners of crops, uniformly over all positions in square images of ``size``.

    They are drawn on the CPU from ``generator``, so that they are the same on every device.
    """
    # The upper end is exclusive: the last position is size - side.
    corners = torch.randint(0, size - side + 1, (count, 2), generator=generator)
    if device.type == "cuda":  # from pageable memory the copy might wait for the device
        corners = corners.pin_memory()
    return corners.to(device, non_blocking=True)


def crop_at(image: Tensor, corners: Tensor, side: int) -> Tensor:
    """Cut each image's square of ``side`` pixels at its corner.

    Args:
        image: ``(N, C, H, W)``.
        corners: ``(N, 2)`` int64: row, column.
        side: of the crop.

    Returns:
        ``(N, C, side, side)``, differentiable in ``image``.
    """
    n, channels, _, width = image.shape
    offsets = torch.arange(side, device=image.device)
    # Gathering takes a corner from each image; slices would have to read the corners on the host.
    rows = (corners[:, 0, None] + offsets).view(n, 1, side, 1).expand(n, channels, side, width)
    columns = (corners[:, 1, None] + offsets).view(n, 1, 1, side).expand(n, channels, side, side)
    return image.gather(2, rows).gather(3, columns)
