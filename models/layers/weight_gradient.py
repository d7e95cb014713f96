"""Convolutions whose weight gradient the CPU finds slow, computed another way; the same functions.

oneDNN's bfloat16 kernels reach the rate of plain matrix products in a convolution's forward pass and in the gradient
of its input, but not in the gradient of its weight: over small maps, and where a dilated kernel mostly meets padding,
one matrix product for each tap is up to 25 times as fast. Elsewhere, in float32, on other devices and under
``torch.compile``, these are torch's layers unchanged.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from models.layers.cpu_kernels import SmallMapConv2d

#: Output positions up to which products by tap win whatever the dilation (256 channels, two cores).
MAX_POSITIONS = 256
#: Share of tap positions that lie within the map, below which they win on larger maps too.
MAX_OVERLAP = 0.6


class TapConv2d(SmallMapConv2d):
    """:class:`torch.nn.Conv2d`, by taps where it is of stride 1 and keeps the size: square odd kernel, zero padding."""

    def convolve(self, input: Tensor, bias: Tensor | None) -> Tensor:
        """``(N, in_channels, H, W)`` to ``(N, out_channels, H', W')``, with a bias of the caller's."""
        if not (self.stride == (1, 1) and _trains_in_bf16(input) and self._pays(*input.shape[2:])):
            return super().convolve(input, bias)
        padding, dilation = self.padding, self.dilation
        fixed = None if bias is None else bias.detach()
        output = F.conv2d(input, self.weight.detach(), fixed, padding=padding, dilation=dilation)
        result: Tensor = _WithTapGradient.apply(output, input.detach(), self.weight, bias, dilation[0])
        return result

    def _pays(self, height: int, width: int) -> bool:
        overlap = 1.0
        for side in (height, width):
            offsets = [
                abs(self.dilation[0] * (i - self.kernel_size[0] // 2)) for i in range(self.kernel_size[0])
            ]
            overlap *= sum(max(0, side - offset) for offset in offsets) / (side * len(offsets))
        return height * width <= MAX_POSITIONS or overlap < MAX_OVERLAP


class BiasedConvTranspose2d(nn.ConvTranspose2d):
    """:class:`torch.nn.ConvTranspose2d` that adds its bias apart: oneDNN's gradient of both takes twice as long."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """``(N, in_channels, H, W)`` to ``(N, out_channels, H * stride, W * stride)``."""
        if self.bias is None or not _trains_in_bf16(input):
            return super().forward(input, output_size)
        output = F.conv_transpose2d(input, self.weight, None, self.stride, int(self.padding[0]))
        return output + self.bias.to(output.dtype).view(1, -1, 1, 1)


def _trains_in_bf16(input: Tensor) -> bool:
    return (
        input.device.type == "cpu"
        and torch.is_grad_enabled()
        and torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and not torch.compiler.is_compiling()
    )


class _WithTapGradient(torch.autograd.Function):
    """The output of a convolution as it is; in the backward pass, the gradients of weight and bias."""

    @staticmethod
    def forward(
        ctx: Any, output: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None, dilation: int
    ) -> Tensor:
        """Hand ``output`` on, keeping what the gradients need."""
        ctx.save_for_backward(input.to(output.dtype))
        ctx.kernel, ctx.dilation, ctx.weight_dtype = weight.shape[2], dilation, weight.dtype
        ctx.mark_dirty(output)  # not a view: what follows may work in place
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """``gradient`` itself for the convolution's own backward pass, and those of weight and bias."""
        (input,) = ctx.saved_tensors
        weight = bias = None
        if ctx.needs_input_grad[2]:
            weight = tap_gradient(input, gradient, ctx.kernel, ctx.dilation).to(ctx.weight_dtype)
        if ctx.needs_input_grad[3]:
            bias = gradient.sum((0, 2, 3), dtype=torch.float32).to(ctx.weight_dtype)
        return gradient, None, weight, bias, None


def tap_gradient(input: Tensor, gradient: Tensor, kernel: int, dilation: int) -> Tensor:
    """Gradient of the weight: for each tap one product over the positions at which it lies within the map.

    Args:
        input: ``(N, in, H, W)``.
        gradient: ``(N, out, H, W)``, of the output.
        kernel: its odd side.
        dilation: spacing of the taps.

    Returns:
        ``(out, in, kernel, kernel)``.
    """
    x, g = input.permute(0, 2, 3, 1), gradient.permute(0, 2, 3, 1)
    height, width = x.shape[1:3]
    result = input.new_zeros(kernel, kernel, g.shape[-1], x.shape[-1])
    shifts = [dilation * (i - kernel // 2) for i in range(kernel)]
    for i, down in enumerate(shifts):
        for j, right in enumerate(shifts):
            if abs(down) >= height or abs(right) >= width:
                continue  # this tap meets nothing but padding
            seen = x[:, max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]
            made = g[:, max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
            result[i, j] = made.flatten(0, 2).t() @ seen.flatten(0, 2)
    return result.permute(2, 3, 0, 1)
