"""Distances between pictures, and smoothness: what the published losses are made of.

All return scalars in float32 whatever autocast does, and all average over **every** element of the picture
("size-averaged": NVIDIA/partialconv#9), not over the hole alone: a term's weight then means what it meant to
its authors.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def weighted_l1(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """``mean(weight * |output - target|)`` over all of ``(N, C, H, W)``; ``weight`` is ``(N, 1, H, W)``."""
    return (weight.float() * (output.float() - target.float()).abs()).mean()


def weighted_mse(output: Tensor, target: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """``mean(weight * (output - target)^2)`` over all of ``(N, C, H, W)``; ``weight`` broadcasts."""
    return (weight * (output.float() - target.float()).square()).mean()


def band_weight(
    height: int, width: int, band: int, weight: float, device: torch.device | None = None
) -> Tensor:
    """``(1, 1, height, width)``: ``weight`` within ``band`` pixels of the border, 1 inside."""
    result = torch.full((1, 1, height, width), weight, device=device)
    result[:, :, band : height - band, band : width - band] = 1.0
    return result


def total_variation(image: Tensor, region: Tensor | None = None) -> Tensor:
    """Anisotropic total variation: mean absolute difference of neighbours, down plus across.

    Args:
        image: ``(N, C, H, W)``.
        region: ``(N, 1, H, W)`` in {0, 1}; only pairs with both pixels inside count, divided by all pairs
            (Liu et al. 2018, eq. 6). ``None``: the whole picture.
    """
    image = image.float()
    down = (image[:, :, 1:] - image[:, :, :-1]).abs()
    across = (image[:, :, :, 1:] - image[:, :, :, :-1]).abs()
    if region is not None:
        region = region.float()
        down = down * (region[:, :, 1:] * region[:, :, :-1])
        across = across * (region[:, :, :, 1:] * region[:, :, :, :-1])
    return down.mean() + across.mean()


def dilate(mask: Tensor, pixels: int = 1) -> Tensor:
    """``mask`` ``(N, 1, H, W)`` grown by ``pixels`` in all eight directions."""
    return F.max_pool2d(mask.float(), 2 * pixels + 1, stride=1, padding=pixels)
