"""Spectral normalisation: a convolution or linear layer whose weight has largest singular value one.

Miyato et al., "Spectral Normalization for Generative Adversarial Networks" (ICLR 2018), algorithm 1.

Own layers rather than ``torch.nn.utils.parametrizations.spectral_norm``, for three reasons. Under autocast
torch's power iteration may run in bfloat16, whose norm is wrong in the third digit; here it is float32
always. Torch divides the weight, 28 million numbers in MGS-IIM; here the *input* is divided, which is the
same function and far smaller. And torch keeps both singular vectors; here the right one is recomputed from
the left, so that a checkpoint does not depend on the memory format of the weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.cpu_kernels import SmallMapConv2d

#: Power iterations at construction, so that the first step already sees a norm near one.
_INITIAL_ITERATIONS = 15
_EPS = 1e-12


def as_matrix(weight: Tensor) -> Tensor:
    """The weight as ``(out, in * kh * kw)`` without copying it, whichever its memory format.

    In channels-last memory the columns are permuted, which changes no singular value.
    """
    if weight.dim() == 4 and weight.is_contiguous(memory_format=torch.channels_last):
        return weight.permute(0, 2, 3, 1).flatten(1)
    return weight.flatten(1)


def estimate_norm(weight: Tensor, left: Tensor, *, update: bool) -> Tensor:
    """Spectral norm by one power iteration from ``left``, in float32 also under autocast; a scalar.

    The singular vectors are constants of the gradient: d sigma / d W = u v^T.

    Args:
        weight: ``(out, in)`` or ``(out, in, kh, kw)``.
        left: ``(out,)``, the estimate of the left singular vector so far; replaced in place if ``update``.
        update: keep the improved estimate.
    """
    with torch.autocast(weight.device.type, enabled=False):
        matrix = as_matrix(weight).float()
        with torch.no_grad():
            right = F.normalize(torch.mv(matrix.t(), left), dim=0, eps=_EPS)
        image = torch.mv(matrix, right)
        # A new tensor: the buffer may change again before this graph is used.
        u = F.normalize(image.detach(), dim=0, eps=_EPS)
        if update:
            with torch.no_grad():
                left.copy_(u)
        return torch.dot(u, image)


def _initial_left(weight: Tensor) -> Tensor:
    left = F.normalize(torch.randn(weight.shape[0]), dim=0)
    if weight.is_meta:  # only shapes are asked for
        return left
    with torch.no_grad():
        for _ in range(_INITIAL_ITERATIONS):
            estimate_norm(weight, left, update=True)
    return left


class SpectralConv2d(SmallMapConv2d):
    """:class:`torch.nn.Conv2d` with its weight divided by its spectral norm; the bias is not touched.

    In training mode every forward improves the estimate by one power iteration; evaluation keeps none.
    """

    left: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding)
        self.register_buffer("left", _initial_left(self.weight))

    def forward(self, input: Tensor) -> Tensor:
        """``(N, in_channels, H, W)`` to ``(N, out_channels, H', W')``."""
        sigma = estimate_norm(self.weight, self.left, update=self.training)
        return super().forward(input / sigma.to(input.dtype))


class SpectralLinear(nn.Linear):
    """:class:`torch.nn.Linear` with its weight divided by its spectral norm; see :class:`SpectralConv2d`."""

    left: Tensor

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.register_buffer("left", _initial_left(self.weight))

    def forward(self, input: Tensor) -> Tensor:
        """``(N, in_features)`` to ``(N, out_features)``."""
        sigma = estimate_norm(self.weight, self.left, update=self.training)
        return super().forward(input / sigma.to(input.dtype))
