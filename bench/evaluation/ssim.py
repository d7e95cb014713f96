"""Structural similarity (Wang, Bovik, Sheikh, Simoncelli 2004), batched, in float64.

Equal to scikit-image's ``structural_similarity`` (whose mean leaves out a border of the window's radius, so
that no padding is seen). float64 is needed: variances are differences of large numbers, and float32 loses
3e-5 on nearly constant images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_K1, _K2 = 0.01, 0.03
#: Numbers filtered at once on the CPU: what stays in a core's cache (float64, so 2.5 MiB).
_CACHED_ELEMENTS = 320_000


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


def ssim_map(x: Tensor, y: Tensor, window: Window = GAUSSIAN_11, data_range: float = 255.0) -> Tensor:
    """The local similarity of every pixel around which the window fits.

    Args:
        x: ``(..., H, W)``, any number type, values in ``[0, data_range]``.
        y: the other image, of the same shape; SSIM is symmetric.
        window: weights and covariance.
        data_range: the span of possible values.

    Returns:
        ``(..., H - 2 r, W - 2 r)`` float64 with r the window's radius, in [-1, 1].

    Raises:
        ValueError: images of different shapes, or smaller than the window.
    """
    if x.shape != y.shape:
        raise ValueError(f"images of different shapes: {tuple(x.shape)} and {tuple(y.shape)}")
    if min(x.shape[-2:]) < len(window.taps):
        raise ValueError(
            f"SSIM's window of {len(window.taps)} needs larger images than {x.shape[-2]} x {x.shape[-1]}"
        )
    height, width = x.shape[-2:]
    first, second = x.reshape(-1, height, width), y.reshape(-1, height, width)
    step = len(first) if x.is_cuda else max(1, _CACHED_ELEMENTS // (4 * height * width))
    parts = [
        _similarity(first[i : i + step].double(), second[i : i + step].double(), window, data_range)
        for i in range(0, len(first), step)
    ]
    values = torch.cat(parts) if parts else x.new_empty((0, *_valid(x, window)), dtype=torch.float64)
    return values.reshape(*x.shape[:-2], *_valid(x, window))


def mean_ssim(x: Tensor, y: Tensor, window: Window = GAUSSIAN_11, data_range: float = 255.0) -> Tensor:
    """``(N,)`` float64: mean of :func:`ssim_map` over pixels, then channels, of ``(N, C, H, W)`` images."""
    return ssim_map(x, y, window, data_range).mean(dim=(-1, -2)).mean(dim=-1)


def _valid(x: Tensor, window: Window) -> tuple[int, int]:
    return x.shape[-2] - 2 * window.radius, x.shape[-1] - 2 * window.radius


def _similarity(x: Tensor, y: Tensor, window: Window, data_range: float) -> Tensor:
    """Equation 13 of Wang et al. 2004, on float64 planes ``(P, H, W)``."""
    # The variances are only needed as their sum, so four means are enough: of x, y, x^2 + y^2 and x y.
    mean_x, mean_y, squares, product = _filter(torch.stack([x, y, x * x + y * y, x * y]), window.taps)
    mean_xy = mean_x * mean_y
    mean_squares = mean_x.square_().add_(mean_y.square_())
    covariance = product.sub_(mean_xy).mul_(window.covariance_norm)
    variances = squares.sub_(mean_squares).mul_(window.covariance_norm)
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    numerator = mean_xy.mul_(2).add_(c1).mul_(covariance.mul_(2).add_(c2))
    return numerator.div_(mean_squares.add_(c1).mul_(variances.add_(c2)))


def _filter(planes: Tensor, taps: tuple[float, ...]) -> Tensor:
    """Weighted means of ``(..., H, W)`` where the window fits, one axis after the other."""
    for axis in (-2, -1):
        planes = _filter_axis(planes, taps, axis)
    return planes


def _filter_axis(planes: Tensor, taps: tuple[float, ...], axis: int) -> Tensor:
    # Sums of shifted views beat a product with the banded matrix three-fold on the CPU (11 of its 160 entries
    # a row are not zero), and torch has no fast float64 convolution.
    length, last = planes.shape[axis] - len(taps) + 1, len(taps) - 1
    total = planes.narrow(axis, last // 2, length) * taps[last // 2]
    for k in range(last // 2):
        total.add_(planes.narrow(axis, k, length), alpha=taps[k])
        total.add_(planes.narrow(axis, last - k, length), alpha=taps[k])
    return total
