"""Spectral normalization: a convolution or linear layer whose weight has largest singular value one.

Miyato et al., "Spectral Normalization for Generative Adversarial Networks" (ICLR 2018), algorithm 1.

These layers differ from ``torch.nn.utils.parametrizations.spectral_norm`` in four ways:

* Under autocast torch's power iteration may run in bfloat16, whose norm is wrong in the third digit; here it and the
  division by it are float32.
* Torch divides the weight, 28 million numbers in MGS-IIM; here the *input* is divided, which is the same function and
  far smaller.
* Torch stores both singular vectors; here the right one is recomputed from the left, so that a checkpoint does not
  depend on the memory format of the weights.
* Torch iterates in every forward; here the micro-batches of a step share one iteration, so that the step is that of the
  whole batch.
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
    """Reshape the weight to ``(out, in * kh * kw)`` without copying it, whatever its memory format.

    In channels-last memory the columns are permuted, which changes no singular value.
    """
    if weight.dim() == 4 and weight.is_contiguous(memory_format=torch.channels_last):
        return weight.permute(0, 2, 3, 1).flatten(1)
    return weight.flatten(1)


def iterate_power(weight: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
    """Estimate the spectral norm by one power iteration from ``left``, in float32 even under autocast.

    The singular vectors are constants of the gradient: ``d sigma / d W = u v^T``.

    >>> sigma, left = iterate_power(torch.diag(torch.tensor([3.0, 1.0])), torch.tensor([1.0, 0.0]))
    >>> sigma.item(), left.tolist()
    (3.0, [1.0, 0.0])

    Args:
        weight: ``(out, in)`` or ``(out, in, kh, kw)``.
        left: ``(out,)``, the estimate of the left singular vector so far.

    Returns:
        The norm, a scalar with gradient, and the improved left singular vector without.
    """
    with torch.autocast(weight.device.type, enabled=False):
        matrix = as_matrix(weight).float()
        with torch.no_grad():
            right = F.normalize(torch.mv(matrix.t(), left), dim=0, eps=_EPS)
        image = torch.mv(matrix, right)
        # A new tensor: the buffer may change again before this graph is used.
        improved = F.normalize(image.detach(), dim=0, eps=_EPS)
        return torch.dot(improved, image), improved


def _initial_left(weight: Tensor) -> Tensor:
    left = F.normalize(torch.randn(weight.shape[0]), dim=0)
    if weight.is_meta:  # only shapes are needed
        return left
    with torch.no_grad():
        for _ in range(_INITIAL_ITERATIONS):
            _, left = iterate_power(weight, left)
    return left


class _PowerIteration(nn.Module):
    """The state of a layer's power iteration: the left singular vector, and that at the start of the step."""

    weight: Tensor
    left: Tensor
    start: Tensor

    def add_state(self) -> None:
        """Register the buffers; call once, after the weight exists."""
        self.register_buffer("left", _initial_left(self.weight))
        # Not saved: each step begins by copying ``left`` into it.
        self.register_buffer("start", self.left.clone(), persistent=False)

    def divide(self, input: Tensor, advance: bool) -> Tensor:
        """Divide ``input`` by the spectral norm of the weight.

        Args:
            input: of any shape and dtype.
            advance: in training, take this step's power iteration; false repeats the last one, so that all
                micro-batches of a step see the same norm.
        """
        if not self.training:
            sigma, _ = iterate_power(self.weight, self.left)
        else:
            if advance:
                self.start.copy_(self.left)
            sigma, improved = iterate_power(self.weight, self.start)
            if advance:
                self.left.copy_(improved)
        # A norm rounded to bfloat16 would scale the whole layer by up to 0.4 %; a quotient's rounding averages out.
        return (input.float() / sigma).to(input.dtype)


class SpectralConv2d(SmallMapConv2d, _PowerIteration):
    """:class:`torch.nn.Conv2d` with its weight divided by its spectral norm; the bias is unchanged."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding)
        self.add_state()

    def forward(self, input: Tensor, advance: bool = True) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, out_channels, H', W')``; see :meth:`_PowerIteration.divide`."""
        return super().forward(self.divide(input, advance))


class SpectralLinear(nn.Linear, _PowerIteration):
    """:class:`torch.nn.Linear` with its weight divided by its spectral norm; the bias is unchanged."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self.add_state()

    def forward(self, input: Tensor, advance: bool = True) -> Tensor:
        """Map ``(N, in_features)`` to ``(N, out_features)``; see :meth:`_PowerIteration.divide`."""
        return super().forward(self.divide(input, advance))


def call_layer(layer: nn.Module, input: Tensor, advance: bool) -> Tensor:
    """Call a layer, passing ``advance`` on if it is spectrally normalized."""
    output: Tensor = layer(input, advance) if isinstance(layer, _PowerIteration) else layer(input)
    return output
