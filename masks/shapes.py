"""The paper's "random number of different shape masks"."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from masks.raster import Canvas, direction
from masks.seeding import integer, uniform

MAX_SHAPES = 5
_DRAWS = 8  # raw numbers of one shape


def shapes(draws: NDArray[np.uint64], size: int) -> NDArray[np.uint8]:
    """1 to 5 shapes: boxes, ellipses, triangles or thick lines of 0.15 to 0.4 of the side, centred inside.

    The paper names "a random number of different shape masks" and no sizes; these give holes of 1 to 46 % of the
    image, 16 % in the mean.
    """
    count = integer(draws[:, 0], 1, MAX_SHAPES + 1)
    each = draws[:, 1 : 1 + MAX_SHAPES * _DRAWS].reshape(len(draws), MAX_SHAPES, _DRAWS)
    used = np.arange(MAX_SHAPES) < count[:, None]
    owner = np.nonzero(used)[0]
    d = each[used]
    kind = integer(d[:, 0], 0, 4)
    y, x = uniform(d[:, 1], 0.15, 0.85) * size, uniform(d[:, 2], 0.15, 0.85) * size
    a, b = uniform(d[:, 3], 0.15, 0.4) * size, uniform(d[:, 4], 0.15, 0.4) * size
    canvas = Canvas(len(draws), size)

    box = kind == 0
    height, width = a[box].astype(np.int64), b[box].astype(np.int64)
    top, left = (y[box] - a[box] / 2).astype(np.int64), (x[box] - b[box] / 2).astype(np.int64)
    canvas.boxes(owner[box], top, left, height, width)

    oval = kind == 1
    canvas.ellipses(owner[oval], y[oval], x[oval], a[oval] / 2, b[oval] / 2)

    # Three corners about 120 degrees apart, each up to 30 degrees away: never flat.
    corner = kind == 2
    turn = integer(d[corner, 4], 0, 360)
    ys, xs = [], []
    for i in range(3):
        dx, dy = direction(turn + 120 * i + integer(d[corner, 5 + i], -30, 31))
        ys.append(y[corner] + dy * a[corner] * 0.7)
        xs.append(x[corner] + dx * a[corner] * 0.7)
    canvas.polygons(owner[corner], np.stack(ys, axis=1), np.stack(xs, axis=1))

    line = kind == 3
    dx, dy = direction(integer(d[line, 5], 0, 360))
    half = a[line]
    canvas.capsules(
        owner[line],
        y[line] - dy * half,
        x[line] - dx * half,
        y[line] + dy * half,
        x[line] + dx * half,
        b[line] / 5,
    )
    return canvas.fill()
