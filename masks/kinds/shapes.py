"""Boxes and simple shapes: the paper's three kinds of mask, halves, and the frame of outpainting."""

from __future__ import annotations

import numpy as np

from masks.kinds import HoleBox, MaskInfo, Masks, Raw, register_mask
from masks.raster import Canvas, rasterize_boxes, unit_direction
from masks.seeding import random_integer, random_uniform

VERSION = 2
MAX_SHAPES = 5
_DRAWS = 8  # raw numbers of one shape


def center_box(size: int) -> HoleBox:
    """Return (top, left, height, width) of the center hole: half of the side (DeepFill, AOT-GAN).

    >>> center_box(160)
    (40, 40, 80, 80)
    """
    side = size // 2
    return (size - side) // 2, (size - side) // 2, side, side


@register_mask(
    MaskInfo(
        name="center",
        summary="the center box of half the side: 25 % of the image",
        source="MGS-IIM section 4.1; size as in DeepFill and AOT-GAN",
        parameters={"side": "1/2"},
        version=VERSION,
    ),
    fixed_box=center_box,
)
def draw_center(draws: Raw, size: int) -> Masks:
    """Draw the same center box for every image."""
    top, left, height, width = center_box(size)
    mask = np.zeros((len(draws), size, size), dtype=np.uint8)
    mask[:, top : top + height, left : left + width] = 1
    return mask


@register_mask(
    MaskInfo(
        name="random-rect",
        summary="one rectangle anywhere, sides 30-60 % of the image",
        source="MGS-IIM section 4.1; sizes of GLCIC (U[48, 96] at 160)",
        parameters={"sides": "U[0.3, 0.6]"},
        version=VERSION,
    ),
    num_draws=4,
)
def draw_random_rect(draws: Raw, size: int) -> Masks:
    """Draw one rectangle, each side U[0.3, 0.6] of the image (GLCIC: U[48, 96] at 160), anywhere inside."""
    low, high = round(0.3 * size), round(0.6 * size)
    height, width = random_integer(draws[:, 0], low, high + 1), random_integer(draws[:, 1], low, high + 1)
    top, left = (
        random_integer(draws[:, 2], 0, size - height + 1),
        random_integer(draws[:, 3], 0, size - width + 1),
    )
    return rasterize_boxes(size, top, left, height, width)


@register_mask(
    MaskInfo(
        name="shapes",
        summary="1-5 boxes, ellipses, triangles or thick lines",
        source='MGS-IIM section 4.1: "random number of different shape masks"; sizes are ours',
        parameters={"count": "1-5", "extent": "0.15-0.4 of the side"},
        version=VERSION,
    ),
    num_draws=1 + MAX_SHAPES * _DRAWS,
)
def draw_shapes(draws: Raw, size: int) -> Masks:
    """Draw 1 to 5 shapes: boxes, ellipses, triangles or thick lines of 0.15 to 0.4 of the side, centered inside.

    The paper names "a random number of different shape masks" and no sizes; these give holes of 1 to 46 % of the
    image, 16 % in the mean.
    """
    count = random_integer(draws[:, 0], 1, MAX_SHAPES + 1)
    each = draws[:, 1 : 1 + MAX_SHAPES * _DRAWS].reshape(len(draws), MAX_SHAPES, _DRAWS)
    used = np.arange(MAX_SHAPES) < count[:, None]
    owner = np.nonzero(used)[0]
    d = each[used]
    kind = random_integer(d[:, 0], 0, 4)
    y, x = random_uniform(d[:, 1], 0.15, 0.85) * size, random_uniform(d[:, 2], 0.15, 0.85) * size
    a, b = random_uniform(d[:, 3], 0.15, 0.4) * size, random_uniform(d[:, 4], 0.15, 0.4) * size
    canvas = Canvas(len(draws), size)

    # The same two numbers are half-axes, sides or lengths, whichever kind a shape is: all kinds are drawn
    # from one layout, and only those of the kind are used.
    box = kind == 0
    height, width = a[box].astype(np.int64), b[box].astype(np.int64)
    top, left = (y[box] - a[box] / 2).astype(np.int64), (x[box] - b[box] / 2).astype(np.int64)
    canvas.boxes(owner[box], top, left, height, width)

    oval = kind == 1
    canvas.ellipses(owner[oval], y[oval], x[oval], a[oval] / 2, b[oval] / 2)

    # Three corners about 120 degrees apart, each up to 30 degrees away: never flat.
    corner = kind == 2
    turn = random_integer(d[corner, 4], 0, 360)
    ys, xs = [], []
    for i in range(3):
        dx, dy = unit_direction(turn + 120 * i + random_integer(d[corner, 5 + i], -30, 31))
        ys.append(y[corner] + dy * a[corner] * 0.7)
        xs.append(x[corner] + dx * a[corner] * 0.7)
    canvas.polygons(owner[corner], np.stack(ys, axis=1), np.stack(xs, axis=1))

    line = kind == 3
    dx, dy = unit_direction(random_integer(d[line, 5], 0, 360))
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


@register_mask(
    MaskInfo(
        name="half",
        summary="the left, right, upper or lower half",
        source="EdgeConnect (Nazeri et al., 2019), mask type 2",
        version=VERSION,
    ),
    num_draws=1,
)
def draw_half(draws: Raw, size: int) -> Masks:
    """Draw the left, right, upper or lower half."""
    which = random_integer(draws[:, 0], 0, 4)
    h = size // 2
    # 0 left, 1 right, 2 upper, 3 lower. An odd side gives the hole the smaller half.
    top, left = np.where(which == 3, size - h, 0), np.where(which == 1, size - h, 0)
    height, width = np.where(which < 2, size, h), np.where(which < 2, h, size)
    return rasterize_boxes(size, top, left, height, width)


@register_mask(
    MaskInfo(
        name="outpaint",
        summary="everything but the center box: 75 % of the image",
        source="the complement of center",
        version=VERSION,
    ),
)
def draw_outpaint(draws: Raw, size: int) -> Masks:
    """Draw everything but the center box: three quarters of the image.

    >>> from masks.registry import draw_masks
    >>> float(draw_masks("outpaint", ["7"], 64).mean())
    0.75
    """
    return (1 - draw_center(draws, size)).astype(np.uint8)
