"""Irregular holes of a given area: the bins of PConv's test masks."""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from masks.kinds import MaskInfo, MaskKind, Masks, Raw, add_kind
from masks.raster import Canvas, hole_shares, unit_direction
from masks.seeding import random_integer, random_uniform

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

VERSION = 2
_STROKES = 12
_NUM_DRAWS = 2 + _STROKES * 6
_BISECTIONS = 14


def draw_irregular(draws: Raw, size: int, low: float, high: float, *, border: bool) -> Masks:
    """Draw strokes whose common width is set by bisection so that the hole's share lies in ``(low, high]``.

    The bins are those of PConv's test masks. With ``border`` the first stroke starts at an edge of the image; without,
    nothing within 50/512 of the side from the border is hole (PConv's definition).

    >>> from masks.registry import draw_masks
    >>> bool((abs(draw_masks("irregular-20-30", ["7"], 64).mean() - 0.25) <= 0.05).all())
    True
    """
    n = len(draws)
    # A tenth of the bin is kept free at both ends, because the bisection below stops within 0.08 of the bin's
    # width from its target: what it accepts lies in the bin.
    target = random_uniform(draws[:, 0], low + 0.1 * (high - low), high - 0.1 * (high - low))
    count = random_integer(draws[:, 1], 3, _STROKES + 1)
    d = draws[:, 2:].reshape(n, _STROKES, 6)
    edge = 0.0 if border else 50 / 512
    y0, x0 = (random_uniform(d[..., i], edge, 1 - edge) * size for i in (0, 1))
    if border:
        side = random_integer(d[:, 0, 5], 0, 4)
        # On the center of the outermost pixels, so that even the thinnest stroke covers one of them.
        y0[:, 0] = np.where(side == 0, 0.5, np.where(side == 1, size - 0.5, y0[:, 0]))
        x0[:, 0] = np.where(side == 2, 0.5, np.where(side == 3, size - 0.5, x0[:, 0]))
    dx, dy = unit_direction(random_integer(d[..., 2], 0, 360))
    # Short strokes for small holes, so that even the thinnest width is not too much.
    length = random_uniform(d[..., 3], 0.1, 0.6) * size * np.minimum(1.0, 0.3 + 2 * target)[:, None]
    y1, x1 = np.clip(y0 + dy * length, 0.0, size), np.clip(x0 + dx * length, 0.0, size)
    share = random_uniform(d[..., 4], 0.5, 1.5)
    used = np.arange(_STROKES) < count[:, None]
    inner = np.zeros((size, size), dtype=np.uint8)
    margin = 0 if border else -(-50 * size // 512)
    inner[margin : size - margin, margin : size - margin] = 1

    def draw(width: Floats, some: Ints) -> Masks:
        chosen = used[some]
        canvas = Canvas(len(some), size)
        # Half a pixel at least: a thinner stroke may pass between all pixel centers and cover nothing.
        radius = np.maximum((width[some][:, None] * share[some])[chosen], 0.5)
        at_y0, at_x0, at_y1, at_x1 = (a[some][chosen] for a in (y0, x0, y1, x1))
        canvas.capsules(np.nonzero(chosen)[0], at_y0, at_x0, at_y1, at_x1, radius)
        return canvas.fill() & inner

    # The share grows with the width, pixel by pixel, so bisection finds the target up to that grain. 14
    # halvings of the side are finer than any pixel.
    narrow, wide = np.zeros(n), np.full(n, float(size))
    masks = np.zeros((n, size, size), dtype=np.uint8)
    open_ = np.arange(n)
    for _ in range(_BISECTIONS):
        width = (narrow + wide) / 2
        drawn = draw(width, open_)
        masks[open_], area = drawn, hole_shares(drawn)
        too_big = area > target[open_]
        wide[open_[too_big]] = width[open_[too_big]]
        narrow[open_[~too_big]] = width[open_[~too_big]]
        # Masks that are good enough are not drawn again; each row narrows on its own, so
        # a mask does not depend on its batch.
        open_ = open_[np.abs(area - target[open_]) > 0.08 * (high - low)]
        if not len(open_):
            break
    return masks


def _register(low: int, high: int, *, border: bool) -> None:
    where = "touching the border" if border else "away from the border"
    info = MaskInfo(
        name=f"irregular-{low:02d}-{high}" + ("-border" if border else ""),
        summary=f"strokes, {max(low, 1)}-{high} % of the image, {where}",
        source="PConv (Liu et al., ECCV 2018), section 4: bins of its test masks; the strokes are ours",
        parameters={
            "hole": f"{max(low, 1)}-{high} %",
            "border": "touched" if border else "50/512 of the side free",
        },
        version=VERSION,
    )
    # The first bin starts at 1 %, as published: (0.01, 0.1].
    draw = partial(draw_irregular, low=max(low, 1) / 100, high=high / 100, border=border)
    add_kind(MaskKind(info, draw, _NUM_DRAWS))


for _low in range(0, 60, 10):
    _register(_low, _low + 10, border=False)
    _register(_low, _low + 10, border=True)
