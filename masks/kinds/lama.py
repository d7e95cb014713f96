"""LaMa's thin, medium and thick masks. Lengths are those published at 256 pixels, scaled with the image."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from masks.kinds import MaskInfo, MaskKind, Masks, Raw, add_kind
from masks.raster import Canvas, hole_shares, unit_direction
from masks.seeding import random_integer, random_uniform

VERSION = 2


@dataclass(frozen=True)
class LamaParameters:
    """Hold a ``configs/data_gen/random_*_256.yaml`` of LaMa: strokes, or with ``box_share`` boxes instead.

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
_VERTICES, _ANGLES = 5, np.array([1, 58, 115, 172])
#: Holes above half of the image are drawn again, five draws in all; then the smallest is kept.
_LARGEST_SHARE, _TRIES = 0.5, 5
_PER_STROKE = 3 + 3 * _VERTICES


def _draws_per_try(kind: LamaParameters) -> int:
    """Return how many raw numbers one try takes."""
    return 3 + kind.strokes[1] * _PER_STROKE + kind.boxes[1] * 4


def draw_lama(draws: Raw, size: int, kind: LamaParameters) -> Masks:
    """Draw LaMa's ``RandomIrregularMaskGenerator`` or boxes; a stroke is a walk of 1-5 segments from a random point.

    Its angles are 0.01 + {0, 1, 2, 3} radians, to and fro: here 1, 58, 115 and 172 degrees. Strokes drawn with
    OpenCV's thick lines have round ends, as here.

    >>> from masks.registry import draw_masks
    >>> draw_masks("lama-thick", ["7"], 64).shape
    (1, 64, 64)
    """
    n, per_try = len(draws), _draws_per_try(kind)
    best, least = np.ones((n, size, size), dtype=np.uint8), np.ones(n)
    open_ = np.arange(n)
    for attempt in range(_TRIES):
        # Every try has numbers of its own at a fixed place, so a mask does not
        # depend on how often others were drawn.
        part = draws[open_, attempt * per_try : (attempt + 1) * per_try]
        masks = _draw_once(part, size, kind)
        area = hole_shares(masks)
        smaller = (area > 0) & (area < least[open_])  # an empty try is no mask
        best[open_[smaller]], least[open_[smaller]] = masks[smaller], area[smaller]
        open_ = open_[least[open_] > _LARGEST_SHARE]
        if not len(open_):
            break
    return best


def _draw_once(draws: Raw, size: int, kind: LamaParameters) -> Masks:
    n, scale = len(draws), size / 256
    canvas = Canvas(n, size)
    as_boxes = random_uniform(draws[:, 0]) < kind.box_share
    most = kind.strokes[1]
    each = draws[:, 3 : 3 + most * _PER_STROKE].reshape(n, most, _PER_STROKE)
    count = random_integer(draws[:, 1], kind.strokes[0], kind.strokes[1] + 1)
    used = (np.arange(most) < count[:, None]) & ~as_boxes[:, None]
    owner, index = np.nonzero(used)
    d = each[used]
    y, x = random_uniform(d[:, 0]) * size, random_uniform(d[:, 1]) * size
    segments = random_integer(d[:, 2], 1, _VERTICES + 1)
    for v in range(_VERTICES):
        a, length_draw, width_draw = (d[:, 3 + 3 * v + i] for i in range(3))
        angle = _ANGLES[random_integer(a, 0, 4)]
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
        _draw_boxes(canvas, draws, as_boxes, size, kind)
    return canvas.fill()


def _draw_boxes(
    canvas: Canvas, draws: Raw, chosen: NDArray[np.bool_], size: int, kind: LamaParameters
) -> None:
    most, scale = kind.boxes[1], size / 256
    each = draws[:, -4 * most :].reshape(len(draws), most, 4)
    used = (np.arange(most) < random_integer(draws[:, 2], *kind.boxes)[:, None]) & chosen[:, None]
    owner, d = np.nonzero(used)[0], each[used]
    low, high, margin = (max(1, round(v * scale)) for v in (*kind.box_side, kind.margin))
    # max(1, ...) above is for sides, which must not vanish at small sizes; a margin of zero stays zero.
    margin = margin if kind.margin else 0
    height, width = random_integer(d[:, 0], low, high), random_integer(d[:, 1], low, high)
    # A box that leaves no room between the margins is put at the first one: a
    # range must hold at least one number.
    top = random_integer(d[:, 2], margin, np.maximum(size - margin - height, margin) + 1)
    left = random_integer(d[:, 3], margin, np.maximum(size - margin - width, margin) + 1)
    canvas.boxes(owner, top, left, height, width)


def _register(name: str, kind: LamaParameters, summary: str) -> None:
    parameters = {
        "strokes": f"{kind.strokes[0]}-{kind.strokes[1]}",
        "width at 256": f"{kind.width[0]}-{kind.width[1]} px",
        "length at 256": f"{kind.length[0]}-{kind.length[1]} px",
        "boxes": f"{100 * kind.box_share:.0f} % of masks" if kind.box_share else "none",
        "hole": "at most 50 %, or the smallest of five draws",
    }
    source = "LaMa (Suvorov et al., WACV 2022), configs/data_gen/random_*_256.yaml; numbers as really drawn"
    info = MaskInfo(name=name, summary=summary, source=source, parameters=parameters, version=VERSION)
    add_kind(MaskKind(info, partial(draw_lama, kind=kind), _draws_per_try(kind) * _TRIES))


_register("lama-thin", THIN, "4-51 thin strokes")
_register("lama-medium", MEDIUM, "4-6 medium strokes, or a few boxes")
_register("lama-thick", THICK, "1-6 thick strokes, or 1-3 large boxes")
