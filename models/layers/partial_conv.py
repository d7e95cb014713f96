"""Partial convolution: Liu et al., "Image Inpainting for Irregular Holes Using Partial Convolutions", 2018.

This file keeps the paper's polarity: **1 = valid, 0 = hole**. Every map of features travels with its mask in
one channel, however many channels the features have; where maps are concatenated, each keeps its own mask and
the window counts are combined, which equals the published multi-channel masks without their C copies.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from models.layers.small_map_conv import SmallMapConv2d


class Masked(NamedTuple):
    """Features and where they are valid.

    Attributes:
        features: ``(N, C, H, W)``, **zero wherever ``valid`` is 0**.
        valid: ``(N, 1, H, W)`` float32, 1 = valid.
    """

    features: Tensor
    valid: Tensor

    @classmethod
    def of(cls, features: Tensor, valid: Tensor) -> Masked:
        """Zero the features in the holes: the product of X and M in eq. 1."""
        return cls(features * valid.to(features.dtype), valid)

    def upsample(self) -> Masked:
        """Twice the size, nearest neighbour, features and mask alike."""
        # A copy is exact in any type; the CPU's autocast would widen it to float32 and back.
        with torch.autocast(self.features.device.type, enabled=False):
            return Masked(*(F.interpolate(x, scale_factor=2.0, mode="nearest") for x in self))


class PartialConv2d(SmallMapConv2d):
    """Eq. 1, 2: ``x' = W(X*M) * sum(1)/sum(M) + b`` where ``sum(M) > 0``, else 0; ``m' = [sum(M) > 0]``.

    ``sum(1)`` is ``k * k * C`` at the border too: padding is a hole. Counts are exact float32 integers
    outside autocast (bfloat16 cannot count beyond 256), so no epsilon is needed.

    Args:
        in_channels: channels of all sources together.
        out_channels: channels out.
        kernel_size: odd; padding is ``kernel_size // 2``.
        stride: 1 or 2.
        bias: as published only where no batch-norm follows and the layer is the last.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, bias: bool = False
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=bias
        )

    def forward(self, *sources: Masked) -> Masked:  # type: ignore[override]
        """Convolve the concatenation of ``sources`` (all of one height and width)."""
        features = sources[0].features
        if len(sources) > 1:
            # Of one type, or the picture's three float32 channels would widen all others under autocast.
            features = torch.cat([s.features.to(features.dtype) for s in sources], 1)
        scale, valid = self.window(sources)
        output = self.convolve(features, None)
        # The scale is 0 where a window is all hole, and so is the product; a bias must be kept out of there.
        output = output * scale.to(output.dtype)
        if self.bias is not None:
            output = output + self.bias.to(output.dtype).view(1, -1, 1, 1) * valid.to(output.dtype)
        return Masked(output, valid)

    def window(self, sources: tuple[Masked, ...]) -> tuple[Tensor, Tensor]:
        """``sum(1)/sum(M)``, 0 in all-hole windows, and the updated mask; ``(N, 1, H', W')`` float32."""
        kernel, (height, width) = self.kernel_size[0], self.stride
        with torch.no_grad(), torch.autocast(sources[0].valid.device.type, enabled=False):
            # Means times the window, rounded: the exact counts. (ONNX has no divisor_override, and drops it silently.)
            count = sum(
                s.features.shape[1]
                * F.avg_pool2d(s.valid.float(), kernel, (height, width), padding=kernel // 2)
                .mul_(kernel * kernel)
                .round_()
                for s in sources
            )
            assert isinstance(count, Tensor)
            valid = (count > 0).float()
            return valid * (kernel * kernel * self.in_channels) / count.clamp(min=1.0), valid
