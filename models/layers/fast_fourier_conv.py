"""Fast Fourier convolution: local features are convolved as usual, global ones in the frequency domain.

Chi, Jiang, Mu, "Fast Fourier Convolution" (NeurIPS 2020), in the form that LaMa uses: no local Fourier unit, no bias,
reflected borders.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FourierUnit(nn.Module):
    """A 1 x 1 convolution, batch-norm and ReLU over the real Fourier transform, real and imaginary parts as channels.

    Every output pixel depends on every input pixel: the receptive field is the whole map after one layer.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * channels, 2 * channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to the same shape, in float32: half precision has no transform for most sizes."""
        height, width = x.shape[2:]
        with torch.autocast(x.device.type, enabled=False):
            # Orthonormal, so that the size of the numbers does not depend on the size of the map.
            spectrum = torch.fft.rfft2(x.float(), norm="ortho")
            # Real and imaginary part of a channel side by side, as in the authors' ffc.py.
            parts = torch.stack([spectrum.real, spectrum.imag], dim=2).flatten(1, 2)
            parts = torch.relu(self.norm(self.conv(parts)))
            real, imaginary = parts[:, 0::2].contiguous(), parts[:, 1::2].contiguous()
            # The size is given, since spectra of an even width and of the
            # odd one above it have the same shape.
            output: Tensor = torch.fft.irfft2(torch.complex(real, imaginary), s=(height, width), norm="ortho")
            return output


class SpectralTransform(nn.Module):
    """The path from global to global features: to half the channels, a Fourier unit with a bypass, and back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.reduce = nn.Sequential(
            nn.Conv2d(channels, half, 1, bias=False), nn.BatchNorm2d(half), nn.ReLU(inplace=True)
        )
        self.fourier = FourierUnit(half)
        self.expand = nn.Conv2d(half, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to the same shape."""
        x = self.reduce(x)
        expanded: Tensor = self.expand(x + self.fourier(x).to(x.dtype))
        return expanded


class FastFourierConv(nn.Module):
    """A 3 x 3 convolution with four paths between local and global features, batch-norm and ReLU on both.

    Args:
        local_channels: of the local features, in and out.
        global_channels: of the global features, in and out; even.
    """

    def __init__(self, local_channels: int, global_channels: int) -> None:
        super().__init__()

        def conv(inputs: int, outputs: int) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False, padding_mode="reflect")

        self.local_to_local = conv(local_channels, local_channels)
        self.local_to_global = conv(local_channels, global_channels)
        self.global_to_local = conv(global_channels, local_channels)
        self.global_to_global = SpectralTransform(global_channels)
        self.local_norm = nn.BatchNorm2d(local_channels)
        self.global_norm = nn.BatchNorm2d(global_channels)

    def forward(self, local: Tensor, whole: Tensor) -> tuple[Tensor, Tensor]:
        """Map local ``(N, L, H, W)`` and global ``(N, G, H, W)`` features to the same shapes."""
        new_local = self.local_to_local(local) + self.global_to_local(whole)
        new_whole = self.local_to_global(local) + self.global_to_global(whole)
        return torch.relu(self.local_norm(new_local)), torch.relu(self.global_norm(new_whole))


class FastFourierBlock(nn.Module):
    """Two fast Fourier convolutions with a residual connection around them."""

    def __init__(self, local_channels: int, global_channels: int) -> None:
        super().__init__()
        self.first = FastFourierConv(local_channels, global_channels)
        self.second = FastFourierConv(local_channels, global_channels)

    def forward(self, local: Tensor, whole: Tensor) -> tuple[Tensor, Tensor]:
        """Map local and global features to the same shapes; see :class:`FastFourierConv`."""
        new_local, new_whole = self.second(*self.first(local, whole))
        return local + new_local, whole + new_whole
