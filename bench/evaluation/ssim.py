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
        x: ``(N, C, H, W)``, any number type, values in ``[0, data_range]``.
        y: the other images, of the same shape; SSIM is symmetric.
        window: weights and covariance.
        data_range: the span of possible values.

    Returns:
        ``(N, C, H - 2 r, W - 2 r)`` float64 with r the window's radius, in [-1, 1].

    Raises:
        ValueError: images of different shapes, or smaller than the window.
    """
    if x.shape != y.shape:
        raise ValueError(f"images of different shapes: {tuple(x.shape)} and {tuple(y.shape)}")
    count, channels, height, width = x.shape
    if min(height, width) < len(window.taps):
        raise ValueError(f"SSIM's window of {len(window.taps)} needs larger images than {height} x {width}")
    if x.is_cuda:
        return _similarity(x.double(), y.double(), window, data_range)
    similarity = torch.ones(
        (count, channels, height - 2 * window.radius, width - 2 * window.radius), dtype=torch.float64
    )
    for one, other, out in zip(x, y, similarity, strict=True):
        _fill(out, one, other, window, data_range)
    return similarity


def _fill(out: Tensor, x: Tensor, y: Tensor, window: Window, data_range: float) -> None:
    """Write one image's map (whose values are 1) where its windows see a differing pixel.

    Where both windows hold the same pixels the similarity is 1 to the last bit, and most of a composite is known.
    One image at a time also stays in the cache.
    """
    reach = 2 * window.radius
    differs = (x != y).any(dim=0)
    rows, columns = _reached(differs.any(dim=1), reach), _reached(differs.any(dim=0), reach)
    if rows is None or columns is None:
        return
    seen = (slice(None), slice(rows.start, rows.stop + reach), slice(columns.start, columns.stop + reach))
    out[:, rows, columns] = _similarity(x[seen].double(), y[seen].double(), window, data_range)


def _reached(differs: Tensor, reach: int) -> slice | None:
    """The windows along one axis that see a differing pixel; ``None`` for no pixel."""
    positions = differs.nonzero()
    if len(positions) == 0:
        return None
    return slice(max(0, int(positions[0]) - reach), min(len(differs) - reach, int(positions[-1]) + 1))


def mean_ssim(x: Tensor, y: Tensor, window: Window = GAUSSIAN_11, data_range: float = 255.0) -> Tensor:
    """``(N,)`` float64: mean of :func:`ssim_map` over pixels, then channels, of ``(N, C, H, W)`` images."""
    return ssim_map(x, y, window, data_range).mean(dim=(-1, -2)).mean(dim=-1)


def _similarity(x: Tensor, y: Tensor, window: Window, data_range: float) -> Tensor:
    """Equation 13 of Wang et al. 2004, on float64 planes ``(..., H, W)``."""
    # The variances are only needed as their sum, so four means are enough: of x, y, x^2 + y^2 and x y.
    mean_x, mean_y, squares, product = _filter(torch.stack([x, y, x * x + y * y, x * y]), window.taps)
    mean_xy = mean_x * mean_y
    mean_squares = mean_x.square_().add_(mean_y.square_())
    covariance, variances = product.sub_(mean_xy), squares.sub_(mean_squares)
    if window.covariance_norm != 1:
        covariance.mul_(window.covariance_norm)
        variances.mul_(window.covariance_norm)
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    # (2 a + c1) (2 b + c2) as 4 (a + c1 / 2) (b + c2 / 2): the same to the last bit, in one pass less.
    numerator = mean_xy.add_(c1 / 2).mul_(covariance.add_(c2 / 2)).mul_(4)
    ssim: Tensor = numerator.div_(mean_squares.add_(c1).mul_(variances.add_(c2)))
    return ssim


def _filter(planes: Tensor, taps: tuple[float, ...]) -> Tensor:
    """Weighted means of ``(..., H, W)`` where the window fits, one axis after the other."""
    for axis in (-2, -1):
        planes = _filter_axis(planes, taps, axis)
    return planes


def _filter_axis(planes: Tensor, taps: tuple[float, ...], axis: int) -> Tensor:
    # Sums of shifted views beat a product with the banded matrix on the CPU (11 of its 160 entries a row are
    # not zero), and torch has no fast float64 convolution.
    length, last = planes.shape[axis] - len(taps) + 1, len(taps) - 1
    total = planes.narrow(axis, last // 2, length) * taps[last // 2]
    for k in range(last // 2):
        total.add_(planes.narrow(axis, k, length), alpha=taps[k])
        total.add_(planes.narrow(axis, last - k, length), alpha=taps[k])
    return total
