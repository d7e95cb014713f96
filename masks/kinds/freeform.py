"""DeepFillv2's free-form strokes. Lengths are those published at 256 pixels, scaled with the image."""

from __future__ import annotations

import numpy as np

from masks.kinds import MaskInfo, Masks, Raw, register_mask
from masks.raster import Canvas, unit_direction
from masks.seeding import random_integer, random_normal, random_uniform

VERSION = 2
_STROKES, _VERTICES = 3, 11
_PER_VERTEX = 5
_PER_STROKE = 6 + _VERTICES * _PER_VERTEX


@register_mask(
    MaskInfo(
        name="freeform",
        summary="1-3 brush strokes that turn left and right",
        source="DeepFillv2 (Yu et al., ICCV 2019), inpaint_ops.py: brush_stroke_mask",
        parameters={
            "strokes": "1-3",
            "segments": "4-11, at 72 +- 24 degrees",
            "length": "N(D/8, D/16) in [0, D/4], D the diagonal",
            "width at 256": "12-40 px",
        },
        version=VERSION,
    ),
    num_draws=1 + _STROKES * _PER_STROKE,
)
def draw_freeform(draws: Raw, size: int) -> Masks:
    """Draw DeepFillv2's ``brush_stroke_mask``: 1-3 strokes of 4-11 segments, turning by 72 +- 24 degrees.

    Lengths are N(D/8, D/16) clipped to [0, D/4] with D the diagonal; widths U[12, 40) at 256 pixels. The published
    random flip has no effect (its result is dropped), and is left out.

    >>> from masks.registry import draw_masks
    >>> round(float(draw_masks("freeform", ["000001.jpg"], 64).mean()), 3)
    0.065
    """
    n = len(draws)
    strokes = random_integer(draws[:, 0], 1, _STROKES + 1)
    # Every stroke has places for the most vertices, used or not: what one number decides
    # never moves the places of the others.
    each = draws[:, 1:].reshape(n, _STROKES, _PER_STROKE)
    head, tail = each[..., :6], each[..., 6:].reshape(n, _STROKES, _VERTICES, _PER_VERTEX)
    vertices = random_integer(head[..., 0], 4, 12)
    # 2 pi / 5 +- 2 pi / 15, in whole degrees because the table of directions has no others.
    low = 72 - random_integer(head[..., 1], 0, 25)
    high = 72 + random_integer(head[..., 2], 0, 25)
    width = random_uniform(head[..., 3], 12.0, 40.0) * (size / 256)
    y, x = random_uniform(head[..., 4]) * size, random_uniform(head[..., 5]) * size
    diagonal = np.sqrt(2.0 * size * size)
    canvas = Canvas(n, size)
    owner = np.broadcast_to(np.arange(n)[:, None], y.shape)
    for v in range(_VERTICES):
        # Walks run to the end for all strokes of the batch at once; segments beyond a
        # stroke's own count are just not drawn.
        drawn = (v < vertices) & (np.arange(_STROKES) < strokes[:, None])
        angle = random_integer(tail[:, :, v, 0], low, high + 1)
        # Every second segment turns back, so a stroke zigzags instead of closing a circle.
        dx, dy = unit_direction(np.where(v % 2 == 0, 360 - angle, angle))
        length = np.clip(
            random_normal(tail[:, :, v, 1:5]) * (diagonal / 16) + diagonal / 8, 0.0, diagonal / 4
        )
        next_y, next_x = np.clip(y + dy * length, 0.0, size), np.clip(x + dx * length, 0.0, size)
        canvas.capsules(owner[drawn], y[drawn], x[drawn], next_y[drawn], next_x[drawn], width[drawn] / 2)
        y, x = next_y, next_x
    return canvas.fill()
