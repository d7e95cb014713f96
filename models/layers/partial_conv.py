"""Partial convolution: Liu et al., "Image Inpainting for Irregular Holes Using Partial Convolutions", 2018.

This file keeps the paper's polarity: **1 = valid, 0 = hole**. Every map of features travels with its mask in
one channel, however many channels the features have; where maps are concatenated, each keeps its own mask and the
window counts are combined, which equals the published multi-channel masks without their C copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from models.layers.cpu_kernels import SmallMapConv2d


class MaskedTensor(NamedTuple):
    """Features and where they are valid.

    Attributes:
        features: ``(N, C, H, W)``, **zero wherever ``valid`` is 0**.
        valid: ``(N, 1, H, W)`` float32, 1 = valid.
    """

    features: Tensor
    valid: Tensor

    @classmethod
    def of(cls, features: Tensor, valid: Tensor) -> MaskedTensor:
        """Zero the features in the holes: the product of X and M in eq. 1."""
        return cls(features * valid.to(features.dtype), valid)

    def upsample(self) -> MaskedTensor:
        """Double the size of features and mask by nearest neighbor."""
        return MaskedTensor(*map(upsample_nearest, self))


def upsample_nearest(map: Tensor) -> Tensor:
    """Map ``(N, C, H, W)`` to ``(N, C, 2 H, 2 W)`` by nearest neighbor."""
    # Copying is exact in any dtype; the CPU's autocast would convert to float32 and back.
    with torch.autocast(map.device.type, enabled=False):
        return F.interpolate(map, scale_factor=2.0, mode="nearest")


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

    def forward(self, *sources: MaskedTensor) -> MaskedTensor:  # type: ignore[override]
        """Convolve the concatenation of ``sources`` (all of one height and width)."""
        features = sources[0].features
        if len(sources) > 1:
            # Convert to one dtype, or the image's three float32 channels would widen all others under autocast.
            features = torch.cat([s.features.to(features.dtype) for s in sources], 1)
        return self.renormalize(
            self.convolve(features, None), [(s.features.shape[1], s.valid) for s in sources]
        )

    def renormalize(self, output: Tensor, masks: Sequence[tuple[int, Tensor]]) -> MaskedTensor:
        """Compute ``x'`` and ``m'`` from ``W(X*M)``; ``masks``: channels and validity of each source."""
        scale, valid = self.window(masks)
        # The scale is 0 where a window is all hole, and so is the product; the bias must not be added there.
        output = output * scale.to(output.dtype)
        if self.bias is not None:
            output = output + self.bias.to(output.dtype).view(1, -1, 1, 1) * valid.to(output.dtype)
        return MaskedTensor(output, valid)

    def window(self, masks: Sequence[tuple[int, Tensor]]) -> tuple[Tensor, Tensor]:
        """Compute ``sum(1)/sum(M)``, 0 in all-hole windows, and the updated mask; ``(N, 1, H', W')`` float32."""
        kernel, (height, width) = self.kernel_size[0], self.stride
        with torch.no_grad(), torch.autocast(masks[0][1].device.type, enabled=False):
            # Means times the window, rounded: the exact counts. (ONNX has no divisor_override, and drops it silently.)
            count = sum(
                channels
                * F.avg_pool2d(valid.float(), kernel, (height, width), padding=kernel // 2)
                .mul_(kernel * kernel)
                .round_()
                for channels, valid in masks
            )
            assert isinstance(count, Tensor)
            valid = (count > 0).float()
            return valid * (kernel * kernel * self.in_channels) / count.clamp(min=1.0), valid


class UpsampledPartialConv2d(PartialConv2d):
    """A 3 x 3 partial convolution of a map upsampled by two (nearest) and a skip of that size, concatenated.

    The same function of the same parameters as ``PartialConv2d`` of ``below.upsample()`` and ``skip``, without the
    upsampled map: each output pixel sees at most 2 x 2 different pixels of ``below``, so sums of the 3 x 3 weights
    make a transposed convolution with 4/9 of the products (on one CPU core 1.2 to 3 times as fast, and 8 times
    in the layer that returns the image).

    Args:
        below_channels: of the map to be upsampled.
        skip_channels: of the skip.
        out_channels: channels out.
        bias: see :class:`PartialConv2d`.
    """

    pairs: Tensor

    def __init__(
        self, below_channels: int, skip_channels: int, out_channels: int, bias: bool = False
    ) -> None:
        super().__init__(below_channels + skip_channels, out_channels, 3, bias=bias)
        self.below_channels = below_channels
        # An output row 2 i sees rows i - 1, i, i of the map below, and 2 i + 1 sees i, i, i + 1: two of the three taps
        # always see the same row, and are added. Row a of the transposed weight is the sum of these taps:
        rows = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
        self.register_buffer("pairs", torch.kron(rows, rows).T.contiguous(), persistent=False)

    def forward(self, below: MaskedTensor, skip: MaskedTensor) -> MaskedTensor:  # type: ignore[override]
        """Convolve ``below`` ``(N, C, H, W)``, upsampled, and ``skip`` ``(N, C', 2 H, 2 W)``."""
        if self.is_small(skip.features.shape[2] * skip.features.shape[3], skip.features.device):
            return super().forward(below.upsample(), skip)
        split = [self.below_channels, self.in_channels - self.below_channels]
        for_below, for_skip = torch.split(self.weight, split, dim=1)
        output = F.conv_transpose2d(below.features, self.for_pairs(for_below), stride=2, padding=1)
        output = output + F.conv2d(skip.features, for_skip, padding=1)
        return self.renormalize(output, [(split[0], upsample_nearest(below.valid)), (split[1], skip.valid)])

    def for_pairs(self, weight: Tensor) -> Tensor:
        """Map ``(O, C, 3, 3)`` to the ``(C, O, 4, 4)`` of a stride-2 transposed convolution, each a sum of taps."""
        with torch.autocast(weight.device.type, enabled=False):
            sums = weight.reshape(*weight.shape[:2], 9) @ self.pairs
        return sums.view(*weight.shape[:2], 4, 4).transpose(0, 1)
