"""Rectangular holes: the paper's centre and random rectangle, halves, and the frame of outpainting."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from masks.raster import boxes
from masks.seeding import integer

Masks = NDArray[np.uint8]
Raw = NDArray[np.uint64]


def center_box(size: int) -> tuple[int, int, int, int]:
    """(top, left, height, width) of the centre hole: half of the side, 80 x 80 at 160 (DeepFill, AOT-GAN)."""
    side = size // 2
    return (size - side) // 2, (size - side) // 2, side, side


def center(draws: Raw, size: int) -> Masks:
    """The same centre box for every image."""
    top, left, height, width = center_box(size)
    mask = np.zeros((len(draws), size, size), dtype=np.uint8)
    mask[:, top : top + height, left : left + width] = 1
    return mask


def random_rect(draws: Raw, size: int) -> Masks:
    """One rectangle, each side U[0.3, 0.6] of the image (GLCIC: U[48, 96] at 160), anywhere inside."""
    low, high = round(0.3 * size), round(0.6 * size)
    height, width = integer(draws[:, 0], low, high + 1), integer(draws[:, 1], low, high + 1)
    top, left = integer(draws[:, 2], 0, size - height + 1), integer(draws[:, 3], 0, size - width + 1)
    return boxes(size, top, left, height, width)


def half(draws: Raw, size: int) -> Masks:
    """The left, right, upper or lower half."""
    which = integer(draws[:, 0], 0, 4)
    h = size // 2
    top, left = np.where(which == 3, size - h, 0), np.where(which == 1, size - h, 0)
    height, width = np.where(which < 2, size, h), np.where(which < 2, h, size)
    return boxes(size, top, left, height, width)


def outpaint(draws: Raw, size: int) -> Masks:
    """Everything but the centre box: three quarters of the image."""
    return (1 - center(draws, size)).astype(np.uint8)
