"""Layers and initialisations that several models share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MatrixConv2d(nn.Conv2d):
    """A stride-1, unpadded convolution over a map hardly larger than its kernel, as one matrix product.

    The same numbers and the same 4-D weight as :class:`torch.nn.Conv2d` (square kernel, no bias). Convolution
    kernels are built to reuse a small weight over many positions; here a weight of 33 million meets one to
    four positions, and a matrix product reads it at memory speed.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """``(N, in, H, W)`` to ``(N, out, H - k + 1, W - k + 1)``."""
        batch, _, height, width = input.shape
        kernel = self.kernel_size[0]
        rows, columns = height - kernel + 1, width - kernel + 1
        patches = input.unfold(2, kernel, 1).unfold(3, kernel, 1).permute(0, 2, 3, 1, 4, 5)
        weight = self.weight
        if not weight.is_contiguous():
            # Flatten in the order in which a channels-last weight lies, or 33 million numbers would be moved.
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
        """``(N, in, H, W)`` to ``(N, out, H + k - 1, W + k - 1)``."""
        batch, _, height, width = input.shape
        kernel, channels, weight = self.kernel_size[0], self.out_channels, self.weight
        rows = input.permute(0, 2, 3, 1).reshape(batch * height * width, -1)
        # A product with the weight as it lies: its gradient then lies the same way, and neither is copied.
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


def per_channel(values: Sequence[float], device: torch.device) -> Tensor:
    """``(1, C, 1, 1)``, sent to the device without waiting for it (as ``torch.tensor(..., device=)`` would)."""
    return torch.tensor(values).view(1, -1, 1, 1).to(device, non_blocking=True)


def initialise_dcgan(module: nn.Module) -> None:
    """Weights as DCGAN and Context Encoder draw them: convolutions N(0, 0.02), batch-norm N(1, 0.02)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
