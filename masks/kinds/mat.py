"""The masks of MAT and CoModGAN: rectangles that may reach over the border, and brush strokes.

Both programs draw widths of 12 to 48 pixels whatever the size of the image, and MAT has other counts at 256 and 512
pixels. Here the counts of 256 hold below 384 pixels and those of 512 from there on, with widths scaled to match.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from masks.kinds import MaskInfo, MaskKind, Masks, Raw, add_kind
from masks.raster import Canvas, hole_shares, unit_direction
from masks.seeding import random_integer, random_normal, random_uniform

VERSION = 1


@dataclass(frozen=True)
class MatCounts:
    """Hold upper ends, exclusive as in ``numpy.random.randint``: ``MultiFill(small, s // 2)``, and so on."""

    small_boxes: int
    large_boxes: int
    strokes: int


#: Below 384 pixels, and from there on (``mask_generator_256.py``, ``_512.py``, ``_256_small.py``, ``_512_small.py``).
LARGE = (MatCounts(4, 2, 8), MatCounts(5, 3, 9))
SMALL = (MatCounts(2, 2, 3), MatCounts(3, 2, 4))
#: CoModGAN's ``mask_generator.py`` has one set of counts.
COMODGAN = (MatCounts(10, 5, 20), MatCounts(10, 5, 20))

#: An empty or full mask is drawn again; one try in twelve is empty at worst (``mat-small``).
_TRIES = 8
_VERTICES, _PER_VERTEX = 17, 5
_PER_STROKE = 6 + _VERTICES * _PER_VERTEX


def draw_mat(draws: Raw, size: int, counts: tuple[MatCounts, MatCounts]) -> Masks:
    """Draw ``RandomMask`` of MAT and CoModGAN for a hole range of (0, 1).

    >>> from masks.registry import draw_masks
    >>> [round(float(draw_masks(name, ["7"], 64).mean()), 2) for name in ("mat-small", "mat-large", "comodgan")]
    [0.51, 0.32, 0.54]
    """
    chosen = counts[size >= 384]
    per_try = _draws_per_try(counts)
    masks = np.zeros((len(draws), size, size), dtype=np.uint8)
    open_ = np.arange(len(draws))
    for attempt in range(_TRIES):
        masks[open_] = _draw_once(draws[open_, attempt * per_try : (attempt + 1) * per_try], size, chosen)
        share = hole_shares(masks[open_])
        open_ = open_[(share == 0) | (share == 1)]
        if not len(open_):
            break
    # One mask in 4e8 is left: a hole must be neither nothing nor everything.
    middle = slice(size // 4, size - size // 4)
    masks[open_] = 0
    for row in open_:
        masks[row, middle, middle] = 1
    return masks


def _draw_once(draws: Raw, size: int, counts: MatCounts) -> Masks:
    canvas = Canvas(len(draws), size)
    # Numbers 0 to 3 are the two counts of boxes, the count of strokes, and the flips.
    start = 4
    for column, most, largest in ((0, counts.small_boxes, size // 2), (1, counts.large_boxes, size)):
        number = random_integer(draws[:, column], 0, most)
        each = draws[:, start : start + 4 * (most - 1)].reshape(len(draws), most - 1, 4)
        start += 4 * (most - 1)
        _draw_boxes(canvas, each, number, largest)
    number = random_integer(draws[:, 2], 0, counts.strokes)
    strokes = draws[:, start : start + (counts.strokes - 1) * _PER_STROKE]
    _draw_strokes(canvas, strokes.reshape(len(draws), counts.strokes - 1, _PER_STROKE), number, draws[:, 3])
    return canvas.fill()


def _draw_boxes(canvas: Canvas, each: Raw, number: NDArray[np.int64], largest: int) -> None:
    """Add boxes with sides U[0, largest) whose position may be up to half a side outside the image."""
    used = np.arange(each.shape[1]) < number[:, None]
    owner, d = np.nonzero(used)[0], each[used]
    width, height = random_integer(d[:, 0], 0, largest), random_integer(d[:, 1], 0, largest)
    half_width, half_height = width // 2, height // 2
    left = random_integer(d[:, 2], -half_width, canvas.size - width + half_width)
    top = random_integer(d[:, 3], -half_height, canvas.size - height + half_height)
    # The canvas clips a box's far sides; its near ones must lie inside.
    inside_top, inside_left = np.maximum(top, 0), np.maximum(left, 0)
    canvas.boxes(owner, inside_top, inside_left, top + height - inside_top, left + width - inside_left)


def _draw_strokes(canvas: Canvas, each: Raw, number: NDArray[np.int64], flips: Raw) -> None:
    """Add ``RandomBrush``: walks of 4-17 segments at 72 +- 24 degrees, flipped together along either axis."""
    size, (n, most, _) = canvas.size, each.shape
    head, tail = each[..., :6], each[..., 6:].reshape(n, most, _VERTICES, _PER_VERTEX)
    vertices = random_integer(head[..., 0], 4, 18)
    low, high = 72 - random_integer(head[..., 1], 0, 25), 72 + random_integer(head[..., 2], 0, 25)
    # The publications' widths hold at 256 and at 512 pixels alike, so each set
    # of counts is scaled from its own size.
    published_size = 256 if size < 384 else 512
    width = random_uniform(head[..., 3], 12.0, 48.0) * (size / published_size)
    y, x = random_uniform(head[..., 4]) * size, random_uniform(head[..., 5]) * size
    # ``average_radius`` of the published code is the mean length of a segment; half of it is the
    # standard deviation, and twice it the bound.
    radius = np.sqrt(2.0 * size * size) / 8
    flip_y = ((flips >> np.uint64(63)) & np.uint64(1)).astype(bool)[:, None]
    flip_x = ((flips >> np.uint64(62)) & np.uint64(1)).astype(bool)[:, None]
    owner = np.broadcast_to(np.arange(n)[:, None], y.shape)
    for v in range(_VERTICES):
        drawn = (v < vertices) & (np.arange(most) < number[:, None])
        angle = random_integer(tail[:, :, v, 0], low, high + 1)
        dx, dy = unit_direction(np.where(v % 2 == 0, 360 - angle, angle))
        length = np.clip(random_normal(tail[:, :, v, 1:5]) * (radius / 2) + radius, 0.0, 2 * radius)
        next_y, next_x = np.clip(y + dy * length, 0.0, size), np.clip(x + dx * length, 0.0, size)
        y0, y1 = (np.where(flip_y, size - at, at)[drawn] for at in (y, next_y))
        x0, x1 = (np.where(flip_x, size - at, at)[drawn] for at in (x, next_x))
        canvas.capsules(owner[drawn], y0, x0, y1, x1, width[drawn] / 2)
        y, x = next_y, next_x


def _draws_per_try(counts: tuple[MatCounts, MatCounts]) -> int:
    """Return the raw numbers of one try at the size that takes more."""
    return max(4 + 4 * (c.small_boxes + c.large_boxes - 2) + (c.strokes - 1) * _PER_STROKE for c in counts)


def _register(name: str, counts: tuple[MatCounts, MatCounts], summary: str, source: str) -> None:
    at_256, at_512 = counts
    shown = (f"{c.small_boxes - 1}, {c.large_boxes - 1}, {c.strokes - 1}" for c in (at_256, at_512))
    parameters = {
        "most small boxes, large boxes and strokes, at 256 and 512": " and ".join(dict.fromkeys(shown)),
        "box sides": "U[0, 1/2) and U[0, 1) of the side",
        "stroke width": "12-48 px at 256 and at 512",
    }
    info = MaskInfo(name=name, summary=summary, source=source, parameters=parameters, version=VERSION)
    add_kind(MaskKind(info, partial(draw_mat, counts=counts), _draws_per_try(counts) * _TRIES))


_MAT = "MAT (Li et al., CVPR 2022), datasets/mask_generator_{256,512}"
_register("mat-small", SMALL, "free-form, small: up to 3 strokes and a few boxes", f"{_MAT}_small.py")
_register("mat-large", LARGE, "free-form, large: up to 8 strokes and 6 boxes", f"{_MAT}.py")
_register(
    "comodgan",
    COMODGAN,
    "free-form, very large: up to 19 strokes and 13 boxes",
    "CoModGAN (Zhao et al., ICLR 2021), training/mask_generator.py",
)
