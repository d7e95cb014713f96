"""Convolution layers that compute the same functions as torch's, by matrix products where the CPU finds those faster.

Convolution kernels are built to reuse a small weight over many positions. They are slow where a large weight meets few
positions, and oneDNN's bfloat16 kernels are slow in the gradient of the weight:

* :class:`SmallMapConv2d`: any convolution with few output positions, on the CPU;
* :class:`TapConv2d`: its stride-1 form, which in bf16 training also takes the weight's gradient tap by tap;
* :class:`BiasedConvTranspose2d`: a transposed convolution that adds its bias separately in bf16 training;
* :class:`MatrixConv2d` and :class:`MatrixConvTranspose2d`: the bottleneck of Context Encoder, on every device.

Elsewhere, in float32, on other devices and under ``torch.compile``, they are torch's layers unchanged. Speeds were
measured on two cores.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

#: Output positions up to which one matrix product is faster on the CPU (weights of 256 to 512 channels, batch 32).
MAX_OUTPUT_POSITIONS = 16
#: Output positions up to which products by tap are faster whatever the dilation (256 channels).
MAX_POSITIONS_BY_TAP = 256
#: Share of tap positions inside the map, below which products by tap are faster on larger maps too.
MAX_OVERLAP_BY_TAP = 0.6


class SmallMapConv2d(nn.Conv2d):
    """:class:`torch.nn.Conv2d` that on the CPU computes small output maps as one matrix product.

    The last convolutions of a discriminator have 6.6 million weights for one to nine positions; as a matrix product
    their backward pass takes a fifth of the time (30 instead of 200 ms for 3 x 3 to 2 x 2). Square kernels, strides
    and paddings, zero padding, no groups.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, out_channels, H', W')``."""
        return self.convolve(input, self.bias)

    def is_small(self, positions: int, device: torch.device) -> bool:
        """Return whether a map of ``positions`` output positions is computed as one product."""
        return device.type == "cpu" and positions <= MAX_OUTPUT_POSITIONS and self.dilation == (1, 1)

    def convolve(self, input: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve with the weight of this layer and a bias given by the caller."""
        kernel, stride, padding = self.kernel_size[0], self.stride[0], int(self.padding[0])
        rows, columns = ((side + 2 * padding - kernel) // stride + 1 for side in input.shape[2:])
        if not self.is_small(rows * columns, input.device):
            return self._conv_forward(input, self.weight, bias)  # type: ignore[no-any-return]
        # Patches follow the memory layout of the weight, so that neither it nor its gradient is copied.
        padded, weight = F.pad(input, (padding,) * 4), self.weight
        if not weight.is_contiguous():
            padded, weight = padded.permute(0, 2, 3, 1), weight.permute(0, 2, 3, 1)
        # The axis of columns in either layout; rows are the one before it.
        across = 3 if weight is self.weight else 2
        patches = torch.stack(
            [
                padded.narrow(across - 1, y * stride, kernel).narrow(across, x * stride, kernel).flatten(1)
                for y in range(rows)
                for x in range(columns)
            ],
            dim=1,
        )
        weight = weight.flatten(1)
        output = F.linear(patches, weight, bias)
        return output.reshape(-1, rows, columns, self.out_channels).permute(0, 3, 1, 2)


class TapConv2d(SmallMapConv2d):
    """:class:`torch.nn.Conv2d` of stride 1 that keeps the size, with the weight's gradient by taps in bf16 training.

    oneDNN's bfloat16 kernels reach the speed of plain matrix products in the forward pass and in the gradient of the
    input, but not in the gradient of the weight: over small maps, and where a dilated kernel mostly meets padding, one
    matrix product per tap is up to 25 times as fast. Square odd kernels, zero padding.
    """

    def convolve(self, input: Tensor, bias: Tensor | None) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, out_channels, H', W')``, with a bias given by the caller."""
        if not (self.stride == (1, 1) and _trains_in_bf16(input) and self._pays(*input.shape[2:])):
            return super().convolve(input, bias)
        padding, dilation = self.padding, self.dilation
        # Weight and bias are detached, so that autograd computes only the input's gradient here; the two
        # others come from the function below.
        fixed = None if bias is None else bias.detach()
        output = F.conv2d(input, self.weight.detach(), fixed, padding=padding, dilation=dilation)
        result: Tensor = _WithTapGradient.apply(output, input.detach(), self.weight, bias, dilation[0])
        return result

    def _pays(self, height: int, width: int) -> bool:
        overlap = 1.0
        for side in (height, width):
            # A tap that is shifted by as much as the map's side meets nothing but padding.
            offsets = [
                abs(self.dilation[0] * (i - self.kernel_size[0] // 2)) for i in range(self.kernel_size[0])
            ]
            overlap *= sum(max(0, side - offset) for offset in offsets) / (side * len(offsets))
        return height * width <= MAX_POSITIONS_BY_TAP or overlap < MAX_OVERLAP_BY_TAP


class BiasedConvTranspose2d(nn.ConvTranspose2d):
    """:class:`torch.nn.ConvTranspose2d` that adds its bias separately in bf16 training.

    oneDNN's gradient of weight and bias together takes twice as long.
    """

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, out_channels, H * stride, W * stride)``."""
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
    """The identity on a convolution's output, with the gradients of its weight and bias in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, output: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None, dilation: int
    ) -> Tensor:
        """Return ``output`` unchanged and save what the gradients need."""
        ctx.save_for_backward(input.to(output.dtype))
        ctx.kernel, ctx.dilation, ctx.weight_dtype = weight.shape[2], dilation, weight.dtype
        ctx.mark_dirty(output)  # the result is not a view, so that later layers may work in place
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return ``gradient`` itself for the convolution's own backward pass, and those of weight and bias."""
        (input,) = ctx.saved_tensors
        weight = bias = None
        if ctx.needs_input_grad[2]:
            weight = tap_gradient(input, gradient, ctx.kernel, ctx.dilation).to(ctx.weight_dtype)
        if ctx.needs_input_grad[3]:
            # A sum over all positions needs more digits than bfloat16 has.
            bias = gradient.sum((0, 2, 3), dtype=torch.float32).to(ctx.weight_dtype)
        return gradient, None, weight, bias, None


def tap_gradient(input: Tensor, gradient: Tensor, kernel: int, dilation: int) -> Tensor:
    """Compute the gradient of a weight: one product per tap, over the positions at which the tap is inside the map.

    Args:
        input: ``(N, in, H, W)``.
        gradient: ``(N, out, H, W)``, with respect to the output.
        kernel: side of the kernel, odd.
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
                continue  # this tap sees nothing but padding
            seen = x[:, max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]
            made = g[:, max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
            result[i, j] = made.flatten(0, 2).t() @ seen.flatten(0, 2)
    return result.permute(2, 3, 0, 1)


class MatrixConv2d(nn.Conv2d):
    """A stride-1, unpadded convolution over a map hardly larger than its kernel, as one matrix product.

    The same numbers and the same 4-D weight as :class:`torch.nn.Conv2d` (square kernel, no bias). A weight of 33
    million elements meets one to four positions; a matrix product reads it at the speed of memory.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """Map ``(N, in, H, W)`` to ``(N, out, H - k + 1, W - k + 1)``."""
        batch, _, height, width = input.shape
        kernel = self.kernel_size[0]
        rows, columns = height - kernel + 1, width - kernel + 1
        patches = input.unfold(2, kernel, 1).unfold(3, kernel, 1).permute(0, 2, 3, 1, 4, 5)
        weight = self.weight
        if not weight.is_contiguous():
            # Flatten in the memory order of a channels-last weight, or 33 million numbers would be moved.
            patches, weight = patches.permute(0, 1, 2, 4, 5, 3), weight.permute(0, 2, 3, 1)
        flat = patches.reshape(batch * rows * columns, -1)
        output = F.linear(flat, weight.reshape(self.out_channels, -1))
        return output.reshape(batch, rows, columns, -1).permute(0, 3, 1, 2)


class MatrixConvTranspose2d(nn.ConvTranspose2d):
    """The transpose of :class:`MatrixConv2d`: one matrix product, then overlapping patches are summed.

    The same numbers and the same 4-D weight as :class:`torch.nn.ConvTranspose2d` (stride 1, no bias).
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, bias=False)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Map ``(N, in, H, W)`` to ``(N, out, H + k - 1, W + k - 1)``."""
        batch, _, height, width = input.shape
        kernel, channels, weight = self.kernel_size[0], self.out_channels, self.weight
        rows = input.permute(0, 2, 3, 1).reshape(batch * height * width, -1)
        # Multiply by the weight in its own memory layout: its gradient then has the same, and neither is copied.
        if weight.is_contiguous():
            patches = (rows @ weight.reshape(self.in_channels, -1)).reshape(-1, channels, kernel, kernel)
            patches = patches.permute(0, 2, 3, 1)
        else:
            patches = rows @ weight.permute(0, 2, 3, 1).reshape(self.in_channels, -1)
        patches = patches.reshape(batch, height, width, kernel, kernel, channels)
        # Each position's patch lands at its offset; with one position (64 and 128 px) it is the whole output.
        landed = [
            F.pad(patches[:, y, x], (0, 0, x, width - 1 - x, y, height - 1 - y))
            for y in range(height)
            for x in range(width)
        ]
        output = landed[0]
        for patch in landed[1:]:
            output = output + patch
        return output.permute(0, 3, 1, 2)
