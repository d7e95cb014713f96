"""Complete one image by tiles: the model sees each at its own size, and its hole is pasted back at the image's.

Pixels under the hole never reach the model, not even through resizing: they are replaced by the nearest known pixel
first, and a reduced pixel that covers any of the hole counts as hole.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch import Tensor

from bench.errors import BenchError
from bench.training.device import Compute
from models.base import Box
from models.errors import ModelError

_BATCH = 16
#: Side of a tile over the longer side of its hole: as the center hole of half the side in training.
CONTEXT = 2.0
#: Untrained fills have no size of their own: tiles up to this side are filled as they are.
UNTRAINED_SIDE = 256


@dataclass(frozen=True)
class ImageCompleter:
    """What completes squares.

    Attributes:
        complete: ``(image, mask)`` as in :mod:`models.base` to completed images, on ``compute``'s device.
        size: side of the squares, or ``None`` where any will do.
        hole_box: the hole of every mask it was trained on, if that was one box in the middle: every part of a photo's
            hole is shown as that box.
        compute: device and precision.
    """

    complete: Callable[[Tensor, Tensor], Tensor]
    size: int | None
    hole_box: Box | None
    compute: Compute

    def tiles(self, hole: NDArray[np.bool_]) -> tuple[NDArray[np.int32], list[Tile]]:
        """Find the parts of the hole and the tiles to show for them."""
        if self.size is None:
            # Baselines look at the border of the hole only, so little context is enough.
            return plan_tiles(hole, 32, 1.5)
        if self.hole_box is None:
            if hole.shape == (
                self.size,
                self.size,
            ):  # an image like those of training is seen whole, as in evaluation
                labels = hole.astype(np.int32)
                return labels, [Tile(0, 0, self.size, (1,))]
            return plan_tiles(hole, self.size, CONTEXT)
        # Two pixels of the reduced tile more: a reduced hole is at most that much larger.
        longest = min(self.hole_box.height, self.hole_box.width)
        return plan_tiles(hole, self.size, self.size / (longest - 2), centered_hole=longest)


def complete_tiled(
    completer: ImageCompleter, rgb: NDArray[np.float32], hole: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Fill the hole of ``rgb``, ``(H, W, 3)`` in [0, 1]; every tile is filled from known pixels alone.

    Raises:
        BenchError: the model failed on it.
    """
    # Replaced by the nearest known pixels, since resizing mixes neighbors into each other.
    nearest = ndimage.distance_transform_edt(hole, return_distances=False, return_indices=True)
    # Windows are cut from this picture; the result below keeps the photo's own pixels.
    shown = rgb[tuple(nearest)]
    labels, tiles = completer.tiles(hole)
    # Every tile is filled from known pixels, never from another tile: the order does not matter.
    result = rgb.copy()
    by_side: dict[int, list[Tile]] = {}
    for tile in tiles:
        # Squares of one side form a batch, whatever their tiles' sides were.
        side = completer.size or min(tile.side, UNTRAINED_SIDE)
        by_side.setdefault(side, []).append(tile)
    for side, group in by_side.items():
        for start in range(0, len(group), _BATCH):
            some = group[start : start + _BATCH]
            squares = [_square(shown, hole, tile, side) for tile in some]
            if completer.hole_box is not None:
                squares = [(image, _grown(covered, completer.hole_box)) for image, covered in squares]
            for tile, square in zip(some, _complete(completer, squares), strict=True):
                _paste(result, labels, tile, square)
    return result


def _square(
    shown: NDArray[np.float32], hole: NDArray[np.bool_], tile: Tile, side: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Cut out the tile at ``side`` pixels; beyond the image's border lies its mirror image."""
    rows = _mirrored(tile.top, tile.side, hole.shape[0])
    columns = _mirrored(tile.left, tile.side, hole.shape[1])
    part, inside = shown[np.ix_(rows, columns)], hole[np.ix_(rows, columns)]
    if tile.side == side:
        return part, inside
    # Any share of a hole makes a reduced pixel a hole: a known pixel must be wholly known.
    covered = _resize(inside.astype(np.float32), side, Image.Resampling.BOX) > 0
    if tile.side < side:  # enlarged: a box of less than a pixel is no cover
        covered = _resize(inside.astype(np.float32), side, Image.Resampling.BILINEAR) > 0
    planes = [_resize(part[..., c], side, Image.Resampling.BICUBIC) for c in range(3)]
    # Bicubic resampling overshoots at edges.
    return np.clip(np.stack(planes, axis=-1), 0, 1), covered


def _grown(covered: NDArray[np.bool_], box: Box) -> NDArray[np.bool_]:
    """Return the hole grown to the one of training.

    A network that has seen one hole only may fail on one that is a pixel smaller: partial convolutions normalize by how
    much of a tile is known.
    """
    grown = covered.copy()
    grown[box.top : box.top + box.height, box.left : box.left + box.width] = True
    return grown


def _complete(
    completer: ImageCompleter, squares: list[tuple[NDArray[np.float32], NDArray[np.bool_]]]
) -> NDArray[np.float32]:
    device = completer.compute.device
    image = torch.from_numpy(np.stack([s for s, _ in squares])).permute(0, 3, 1, 2).contiguous().to(device)
    mask = torch.from_numpy(np.stack([m for _, m in squares])).unsqueeze(1).float().to(device)
    try:
        with torch.inference_mode(), completer.compute.autocast():
            output = completer.complete(image, mask)
    except ModelError as error:
        raise BenchError(str(error)) from error
    # A number that is not finite would become some level all the same.
    if not bool(output.isfinite().all()):
        raise BenchError("the model made numbers that are not finite")
    completed: NDArray[np.float32] = output.float().permute(0, 2, 3, 1).cpu().numpy()
    return completed


def _paste(
    result: NDArray[np.float32], labels: NDArray[np.int32], tile: Tile, square: NDArray[np.float32]
) -> None:
    """Write the tile's own parts of the hole, enlarged to the image's pixels."""
    # A tile may reach over the border; what lies outside of the image is dropped.
    top, left = max(tile.top, 0), max(tile.left, 0)
    bottom = min(tile.top + tile.side, labels.shape[0])
    right = min(tile.left + tile.side, labels.shape[1])
    if square.shape[0] != tile.side:
        planes = [_resize(square[..., c], tile.side, Image.Resampling.BICUBIC) for c in range(3)]
        square = np.clip(np.stack(planes, axis=-1), 0, 1)
    # A tile may hold other parts of the hole, which are filled from tiles of their own.
    own = np.isin(labels[top:bottom, left:right], tile.parts)
    seen = square[top - tile.top : bottom - tile.top, left - tile.left : right - tile.left]
    result[top:bottom, left:right][own] = seen[own]


def _resize(plane: NDArray[np.float32], side: int, how: Any) -> NDArray[np.float32]:
    # Plane by plane: Pillow resizes floats in one channel only.
    image = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    return np.asarray(image.resize((side, side), how))


def _mirrored(start: int, count: int, length: int) -> NDArray[np.int64]:
    """Return indices ``start .. start + count - 1`` folded back into ``0 .. length - 1``, the border pixel repeated."""
    # A period is the image and its mirror image, so tiles larger than the image repeat both.
    folded = np.arange(start, start + count) % (2 * length)
    return np.where(folded < length, folded, 2 * length - 1 - folded)


# Which part of a large image a model is shown for each part of the hole.


@dataclass(frozen=True)
class Tile:
    """A square of the image, possibly reaching over its border, and the part of the hole it is to fill.

    Attributes:
        top, left, side: in pixels of the image; ``top`` and ``left`` may be negative.
        parts: labels of the hole's connected parts that are filled from this tile.
    """

    top: int
    left: int
    side: int
    parts: tuple[int, ...]


def plan_tiles(
    hole: NDArray[np.bool_], size: int, context: float, *, centered_hole: int | None = None
) -> tuple[NDArray[np.int32], list[Tile]]:
    """Plan a tile for each connected part of the hole.

    A tile is ``context`` times as wide as its part, and never narrower than ``size``, so that nothing is
    enlarged where the image allows. Parts that lie well within a tile of that least side share it.

    Args:
        hole: ``(H, W)``.
        size: side of the model's images.
        context: side of a tile over the longer side of its part, above 1.
        centered_hole: side of the hole that the model knows in the middle of its images, and no other: each part has a
            tile of its own and lies in its middle, even where the tile then leaves the image. A part of up to that
            side is shown as it is.

    Returns:
        The label of each pixel, ``(H, W)``, 0 where known; and the tiles, largest part first.
    """
    # With diagonals: a stroke one pixel wide is one part.
    labels, _ = ndimage.label(hole, structure=np.ones((3, 3)))
    boxes = [(s[0].start, s[0].stop, s[1].start, s[1].stop) for s in ndimage.find_objects(labels)]
    # The largest first, so that it chooses its tile before small ones share it.
    order = sorted(range(len(boxes)), key=lambda i: -_longer(boxes[i]))
    tiles: list[Tile] = []
    taken = np.zeros(len(boxes), dtype=bool)
    corners = np.array(boxes)
    for i in order:
        if taken[i]:
            continue
        tile = _around(boxes[i], hole.shape, size, context, centered_hole)
        parts = [i]
        # Near a tile's border a model sees little context, unless that border is the image's own.
        if tile.side <= size and centered_hole is None:
            inner = tile.side // 8
            inside = (
                (corners[:, 0] >= tile.top + (inner if tile.top > 0 else 0))
                & (corners[:, 2] >= tile.left + (inner if tile.left > 0 else 0))
                & (corners[:, 1] <= tile.top + tile.side - inner)
                & (corners[:, 3] <= tile.left + tile.side - inner)
                & ~taken
            )
            parts = sorted({i, *np.flatnonzero(inside).tolist()})
        taken[parts] = True
        # Labels begin at 1; 0 is what is known.
        tiles.append(Tile(tile.top, tile.left, tile.side, tuple(p + 1 for p in parts)))
    return labels.astype(np.int32), tiles


def _longer(box: tuple[int, int, int, int]) -> int:
    return max(box[1] - box[0], box[3] - box[2])


def _around(
    box: tuple[int, int, int, int],
    shape: tuple[int, ...],
    size: int,
    context: float,
    centered_hole: int | None,
) -> Tile:
    longer = _longer(box)
    fits = centered_hole is not None and longer <= centered_hole
    side = size if fits else max(size, math.ceil(longer * context))
    top = (box[0] + box[1] - side) // 2
    left = (box[2] + box[3] - side) // 2
    if centered_hole is None:
        # Moved inside the image where that leaves real pixels instead of mirrored ones.
        top, left = (_inside(a, side, length) for a, length in ((top, shape[0]), (left, shape[1])))
    return Tile(top, left, side, ())


def _inside(start: int, side: int, length: int) -> int:
    """Shift into the image, or center on it where the tile is longer."""
    return (length - side) // 2 if side >= length else min(max(start, 0), length - side)
