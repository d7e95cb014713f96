"""Windows of SSIM, and weighted means of images with them where the window fits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Means that one product gives along an axis: 18 products where the Gaussian window has 11 weights, at the speed of the
#: BLAS, and too few for it to wake threads. Larger blocks multiply more zeros, smaller ones take more calls.
_BLOCK = 8


@dataclass(frozen=True)
class Window:
    """A separable window.

    Attributes:
        taps: weights along one axis, of odd number, symmetric, summing to 1.
        covariance_norm: 1 for the population covariance, n / (n - 1) for the sample covariance of n pixels.
    """

    taps: tuple[float, ...]
    covariance_norm: float

    @property
    def radius(self) -> int:
        """Pixels lost on every side: the map covers the region where the window fits."""
        return len(self.taps) // 2


def gaussian_window(sigma: float = 1.5, radius: int = 5) -> Window:
    """Gaussian weights and population covariance: Wang et al. 2004, section III-B (11 x 11, sigma 1.5)."""
    weights = [math.exp(-0.5 * (offset / sigma) ** 2) for offset in range(-radius, radius + 1)]
    return Window(tuple(weight / sum(weights) for weight in weights), 1.0)


def uniform_window(side: int = 7) -> Window:
    """Equal weights and sample covariance: scikit-image's defaults."""
    return Window((1 / side,) * side, side * side / (side * side - 1))


GAUSSIAN_11 = gaussian_window()
UNIFORM_7 = uniform_window()


def weighted_means(planes: Tensor, window: Window) -> Tensor:
    """Means of float64 ``(..., H, W)`` under the window: ``(..., H - 2 r, W - 2 r)`` with r its radius."""
    if not planes.is_cuda:
        return _by_products(planes, window.taps)
    for axis in (-2, -1):
        planes = _by_shifts(planes, window.taps, axis)
    return planes


def _by_shifts(planes: Tensor, taps: tuple[float, ...], axis: int) -> Tensor:
    """Means along one axis as a sum of shifted views; torch has no fast float64 convolution."""
    length, last = planes.shape[axis] - len(taps) + 1, len(taps) - 1
    total = planes.narrow(axis, last // 2, length) * taps[last // 2]
    for k in range(last // 2):
        total.add_(planes.narrow(axis, k, length), alpha=taps[k])
        total.add_(planes.narrow(axis, last - k, length), alpha=taps[k])
    return total


def _by_products(planes: Tensor, taps: tuple[float, ...]) -> Tensor:
    """Means along rows, then columns, a block of them at a time as a product with a small banded matrix.

    NumPy's, since torch's products of the same slices made the whole map take half as long again.
    """
    *leading, height, width = planes.shape
    rows, columns = height - len(taps) + 1, width - len(taps) + 1
    source = planes.reshape(-1, height, width).numpy()
    means_of_rows = np.empty((len(source), rows, width))
    for here, seen, weights in _blocks(rows, taps):
        np.matmul(weights, source[:, seen], out=means_of_rows[:, here])
    lines = means_of_rows.reshape(-1, width)
    means = np.empty((len(lines), columns))
    for here, seen, weights in _blocks(columns, taps):
        np.matmul(lines[:, seen], weights.T, out=means[:, here])
    return torch.from_numpy(means).view(*leading, rows, columns)


def _blocks(count: int, taps: tuple[float, ...]) -> list[tuple[slice, slice, NDArray[np.float64]]]:
    """Which of ``count`` means are made at a time, which values they see, and the weights.

    The last block may overlap the one before it, which makes the same means twice.
    """
    size = min(_BLOCK, count)
    starts = [*range(0, count - size, size), count - size]
    reach, weights = len(taps) - 1, _banded(taps, size)
    return [(slice(i, i + size), slice(i, i + size + reach), weights) for i in starts]


@cache
def _banded(taps: tuple[float, ...], size: int) -> NDArray[np.float64]:
    """``(size, size + taps - 1)``: row i holds the taps from column i on."""
    weights = np.zeros((size, size + len(taps) - 1))
    for i in range(size):
        weights[i, i : i + len(taps)] = taps
    weights.flags.writeable = False  # shared by all threads
    return weights
