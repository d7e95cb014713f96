"""Brush strokes: DeepFillv2's free form, LaMa's thin, medium and thick, and irregular holes of a given area.

Linear sizes are those of the published generators at 256 pixels, scaled with the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from masks.raster import Canvas, unit_direction
from masks.seeding import random_integer, random_normal, random_uniform

Masks = NDArray[np.uint8]
Raw = NDArray[np.uint64]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# --- DeepFillv2 ------------------------------------------------------------------------------------------------
_FREE_STROKES, _FREE_VERTICES = 3, 11
_FREE_PER_VERTEX = 5
_FREE_PER_STROKE = 6 + _FREE_VERTICES * _FREE_PER_VERTEX
FREEFORM_DRAWS = 1 + _FREE_STROKES * _FREE_PER_STROKE


def draw_freeform(draws: Raw, size: int) -> Masks:
    """DeepFillv2's ``brush_stroke_mask``: 1-3 strokes of 4-11 segments, turning by 72 +- 24 degrees to and fro.

    Lengths are N(D/8, D/16) clipped to [0, D/4] with D the diagonal; widths U[12, 40) at 256 pixels. The published
    random flip has no effect there (its result is dropped), and is left out.
    """
    n = len(draws)
    strokes = random_integer(draws[:, 0], 1, _FREE_STROKES + 1)
    each = draws[:, 1:].reshape(n, _FREE_STROKES, _FREE_PER_STROKE)
    head, tail = each[..., :6], each[..., 6:].reshape(n, _FREE_STROKES, _FREE_VERTICES, _FREE_PER_VERTEX)
    vertices = random_integer(head[..., 0], 4, 12)
    low = 72 - random_integer(head[..., 1], 0, 25)
    high = 72 + random_integer(head[..., 2], 0, 25)
    width = random_uniform(head[..., 3], 12.0, 40.0) * (size / 256)
    y, x = random_uniform(head[..., 4]) * size, random_uniform(head[..., 5]) * size
    diagonal = np.sqrt(2.0 * size * size)
    canvas = Canvas(n, size)
    owner = np.broadcast_to(np.arange(n)[:, None], y.shape)
    for v in range(_FREE_VERTICES):
        drawn = (v < vertices) & (np.arange(_FREE_STROKES) < strokes[:, None])
        angle = random_integer(tail[:, :, v, 0], low, high + 1)
        dx, dy = unit_direction(np.where(v % 2 == 0, 360 - angle, angle))
        length = np.clip(
            random_normal(tail[:, :, v, 1:5]) * (diagonal / 16) + diagonal / 8, 0.0, diagonal / 4
        )
        next_y, next_x = np.clip(y + dy * length, 0.0, size), np.clip(x + dx * length, 0.0, size)
        canvas.capsules(owner[drawn], y[drawn], x[drawn], next_y[drawn], next_x[drawn], width[drawn] / 2)
        y, x = next_y, next_x
    return canvas.fill()


# --- LaMa ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class LamaParameters:
    """A ``configs/data_gen/random_*_256.yaml`` of LaMa: strokes, or with ``box_share`` boxes instead.

    ``strokes`` and ``boxes`` are the numbers really drawn (its ``max_times`` is off by one); lengths in pixels at 256.
    """

    strokes: tuple[int, int]
    width: tuple[int, int]
    length: tuple[int, int]
    box_share: float = 0.0
    boxes: tuple[int, int] = (0, 0)
    box_side: tuple[int, int] = (0, 0)
    margin: int = 0


THIN = LamaParameters((4, 51), (5, 15), (10, 50))
MEDIUM = LamaParameters((4, 6), (5, 55), (10, 110), 0.3 / 1.3, (1, 6), (10, 50))
THICK = LamaParameters((1, 6), (5, 105), (10, 210), 0.3 / 1.3, (1, 4), (30, 150), 10)
_LAMA_VERTICES, _LAMA_ANGLES = 5, np.array([1, 58, 115, 172])
#: Holes above half of the image are drawn again, five draws in all; then the smallest is kept.
_LAMA_AREA, LAMA_TRIES = 0.5, 5
_LAMA_PER_STROKE = 3 + 3 * _LAMA_VERTICES


def lama_draws(kind: LamaParameters) -> int:
    """Raw numbers for one try."""
    return 3 + kind.strokes[1] * _LAMA_PER_STROKE + kind.boxes[1] * 4


def draw_lama(draws: Raw, size: int, kind: LamaParameters) -> Masks:
    """LaMa's ``RandomIrregularMaskGenerator`` (or boxes): each stroke is a walk of 1-5 segments from a random point.

    Its angles are 0.01 + {0, 1, 2, 3} radians, to and fro: here 1, 58, 115 and 172 degrees. Strokes drawn with
    OpenCV's thick lines have round ends, as here.
    """
    n, per_try = len(draws), lama_draws(kind)
    best, least = np.ones((n, size, size), dtype=np.uint8), np.ones(n)
    open_ = np.arange(n)
    for attempt in range(LAMA_TRIES):
        part = draws[open_, attempt * per_try : (attempt + 1) * per_try]
        masks = _lama_once(part, size, kind)
        area = _area(masks)
        smaller = (area > 0) & (area < least[open_])  # an empty try is no mask
        best[open_[smaller]], least[open_[smaller]] = masks[smaller], area[smaller]
        open_ = open_[least[open_] > _LAMA_AREA]
        if not len(open_):
            break
    return best


def _lama_once(draws: Raw, size: int, kind: LamaParameters) -> Masks:
    n, scale = len(draws), size / 256
    canvas = Canvas(n, size)
    as_boxes = random_uniform(draws[:, 0]) < kind.box_share
    most = kind.strokes[1]
    each = draws[:, 3 : 3 + most * _LAMA_PER_STROKE].reshape(n, most, _LAMA_PER_STROKE)
    count = random_integer(draws[:, 1], kind.strokes[0], kind.strokes[1] + 1)
    used = (np.arange(most) < count[:, None]) & ~as_boxes[:, None]
    owner, index = np.nonzero(used)
    d = each[used]
    y, x = random_uniform(d[:, 0]) * size, random_uniform(d[:, 1]) * size
    segments = random_integer(d[:, 2], 1, _LAMA_VERTICES + 1)
    for v in range(_LAMA_VERTICES):
        a, length_draw, width_draw = (d[:, 3 + 3 * v + i] for i in range(3))
        angle = _LAMA_ANGLES[random_integer(a, 0, 4)]
        # LaMa steps by the sine along x and by the cosine along y: its strokes lean to the vertical.
        dy, dx = unit_direction(np.where(index % 2 == 0, 360 - angle, angle))
        length, width = (
            random_uniform(length_draw, *kind.length) * scale,
            random_uniform(width_draw, *kind.width) * scale,
        )
        next_y, next_x = np.clip(y + dy * length, 0.0, size), np.clip(x + dx * length, 0.0, size)
        on = v < segments
        canvas.capsules(owner[on], y[on], x[on], next_y[on], next_x[on], width[on] / 2)
        y, x = next_y, next_x
    if kind.boxes[1]:
        _lama_boxes(canvas, draws, as_boxes, size, kind)
    return canvas.fill()


def _lama_boxes(
    canvas: Canvas, draws: Raw, chosen: NDArray[np.bool_], size: int, kind: LamaParameters
) -> None:
    most, scale = kind.boxes[1], size / 256
    each = draws[:, -4 * most :].reshape(len(draws), most, 4)
    used = (np.arange(most) < random_integer(draws[:, 2], *kind.boxes)[:, None]) & chosen[:, None]
    owner, d = np.nonzero(used)[0], each[used]
    low, high, margin = (max(1, round(v * scale)) for v in (*kind.box_side, kind.margin))
    margin = margin if kind.margin else 0
    height, width = random_integer(d[:, 0], low, high), random_integer(d[:, 1], low, high)
    top = random_integer(d[:, 2], margin, np.maximum(size - margin - height, margin) + 1)
    left = random_integer(d[:, 3], margin, np.maximum(size - margin - width, margin) + 1)
    canvas.boxes(owner, top, left, height, width)


# --- Irregular holes by area (PConv) ----------------------------------------------------------------------------
_IRREGULAR_STROKES = 12
IRREGULAR_DRAWS = 2 + _IRREGULAR_STROKES * 6
_BISECTIONS = 14


def draw_irregular(draws: Raw, size: int, low: float, high: float, *, border: bool) -> Masks:
    """Strokes whose common width is set by bisection so that the hole's share lies in ``(low, high]``.

    The bins are those of PConv's test masks. With ``border`` the first stroke starts at an edge of the image; without,
    nothing within 50/512 of the side from the border is hole (PConv's definition).
    """
    n = len(draws)
    target = random_uniform(draws[:, 0], low + 0.1 * (high - low), high - 0.1 * (high - low))
    count = random_integer(draws[:, 1], 3, _IRREGULAR_STROKES + 1)
    d = draws[:, 2:].reshape(n, _IRREGULAR_STROKES, 6)
    edge = 0.0 if border else 50 / 512
    y0, x0 = (random_uniform(d[..., i], edge, 1 - edge) * size for i in (0, 1))
    if border:
        side = random_integer(d[:, 0, 5], 0, 4)
        y0[:, 0] = np.where(side == 0, 0.5, np.where(side == 1, size - 0.5, y0[:, 0]))
        x0[:, 0] = np.where(side == 2, 0.5, np.where(side == 3, size - 0.5, x0[:, 0]))
    dx, dy = unit_direction(random_integer(d[..., 2], 0, 360))
    # Short strokes for small holes, so that even the thinnest width is not too much.
    length = random_uniform(d[..., 3], 0.1, 0.6) * size * np.minimum(1.0, 0.3 + 2 * target)[:, None]
    y1, x1 = np.clip(y0 + dy * length, 0.0, size), np.clip(x0 + dx * length, 0.0, size)
    share = random_uniform(d[..., 4], 0.5, 1.5)
    used = np.arange(_IRREGULAR_STROKES) < count[:, None]
    inner = np.zeros((size, size), dtype=np.uint8)
    margin = 0 if border else -(-50 * size // 512)
    inner[margin : size - margin, margin : size - margin] = 1

    def draw(width: Floats, some: Ints) -> Masks:
        chosen = used[some]
        canvas = Canvas(len(some), size)
        radius = np.maximum((width[some][:, None] * share[some])[chosen], 0.5)
        at_y0, at_x0, at_y1, at_x1 = (a[some][chosen] for a in (y0, x0, y1, x1))
        canvas.capsules(np.nonzero(chosen)[0], at_y0, at_x0, at_y1, at_x1, radius)
        return canvas.fill() & inner

    narrow, wide = np.zeros(n), np.full(n, float(size))
    masks = np.zeros((n, size, size), dtype=np.uint8)
    open_ = np.arange(n)
    for _ in range(_BISECTIONS):
        width = (narrow + wide) / 2
        drawn = draw(width, open_)
        masks[open_], area = drawn, _area(drawn)
        too_big = area > target[open_]
        wide[open_[too_big]] = width[open_[too_big]]
        narrow[open_[~too_big]] = width[open_[~too_big]]
        open_ = open_[np.abs(area - target[open_]) > 0.08 * (high - low)]
        if not len(open_):
            break
    return masks


def _area(masks: Masks) -> Floats:
    # Mask by mask: NumPy counts the whole of an array many times faster than it sums along axes.
    areas: Floats = np.array([np.count_nonzero(mask) for mask in masks]) / (masks.shape[1] * masks.shape[2])
    return areas
