"""Gated convolution: a soft mask, learned for every channel at every position.

Yu et al., "Free-Form Image Inpainting with Gated Convolution" (DeepFillv2, ICCV 2019), equation 3;
MGS-IIM section 3.1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.layers.cpu_kernels import BiasedConvTranspose2d, TapConv2d


class GatedConv2d(nn.Module):
    """``activation(features) * sigmoid(gates)``, both halves from **one** convolution.

    One convolution of ``2 * out_channels`` reads its input once; it is the same function as two separate
    ones. The first half of the channels are the features. Odd kernels are padded with zeros so that stride 1
    keeps the size and stride 2 halves it.

    Args:
        in_channels: channels in.
        out_channels: channels out, after gating.
        kernel_size: side of the kernel.
        stride: 1 or 2; of the upsampling where ``transposed``.
        dilation: spacing of the taps.
        transposed: a transposed convolution (kernel 4, stride 2 doubles the size).
        activation: of the features before they are gated; ``None`` leaves them linear.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        transposed: bool = False,
        activation: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.conv = same_conv(
            in_channels,
            2 * out_channels,
            kernel_size,
            stride=stride,
            dilation=dilation,
            transposed=transposed,
        )
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, out_channels, H', W')``."""
        features, gates = self.conv(x).chunk(2, dim=1)
        # Halves of a channels-last map are not contiguous; contiguous copies run seven times faster on the CPU than
        # ``F.glu``, forward and backward.
        if x.device.type == "cpu":
            features, gates = _dense(features), _dense(gates)
        if self.activation is not None:
            features = self.activation(features)
        gated: Tensor = features * gates.sigmoid()
        return gated


def _dense(half: Tensor) -> Tensor:
    """Copy to contiguous channels-last memory."""
    return half.contiguous(memory_format=torch.channels_last)


def same_conv(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    transposed: bool = False,
) -> nn.Conv2d | nn.ConvTranspose2d:
    """Build a convolution with bias and output side ``ceil(side / stride)``, or ``side * stride`` if transposed."""
    if transposed:
        # (side - 1) * stride - 2 * padding + kernel_size is side * stride exactly with this padding.
        padding = (kernel_size - stride) // 2
        return BiasedConvTranspose2d(in_channels, out_channels, kernel_size, stride, padding)
    # Half of the dilated kernel's reach to either side.
    padding = dilation * (kernel_size - 1) // 2
    layer = TapConv2d if stride == 1 else nn.Conv2d
    return layer(in_channels, out_channels, kernel_size, stride, padding, dilation)
