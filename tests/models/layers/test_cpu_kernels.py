"""Weight gradients by tap against torch's own, and the layers against torch's layers of the same parameters."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.layers.cpu_kernels import BiasedConvTranspose2d, TapConv2d, tap_gradient


@pytest.mark.parametrize("dilation", [1, 2, 8, 16])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (7, 20)])
@pytest.mark.parametrize("kernel", [3, 5])
def test_tap_gradient_is_that_of_the_convolution(dilation: int, height: int, width: int, kernel: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, height, width, dtype=torch.double)
    weight = torch.randn(4, 3, kernel, kernel, dtype=torch.double, requires_grad=True)
    y = F.conv2d(x, weight, padding=dilation * (kernel // 2), dilation=dilation)
    g = torch.randn_like(y)
    (expected,) = torch.autograd.grad(y, weight, g)
    torch.testing.assert_close(tap_gradient(x, g, kernel, dilation), expected)


def gradients(layer: nn.Module, x: Tensor, bf16: bool) -> list[Tensor]:
    """Output, and gradients of input, weight and bias, of a step through ``layer``."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        y = layer(x)
    y.float().square().mean().backward()
    assert isinstance(layer.weight, Tensor)
    assert isinstance(layer.bias, Tensor)
    return [
        value.detach().float()
        for value in (y, x.grad, layer.weight.grad, layer.bias.grad)
        if value is not None
    ]


def error(ours: Tensor, truth: Tensor) -> float:
    """Relative error by norm."""
    return float((ours - truth).norm() / truth.norm())


def pair(kind: str) -> tuple[nn.Module, nn.Module]:
    """One of ours and torch's own, with the same parameters."""
    ours: nn.Module
    plain: nn.Module
    if kind == "transposed":
        ours, plain = BiasedConvTranspose2d(8, 6, 4, 2, 1), nn.ConvTranspose2d(8, 6, 4, 2, 1)
    else:
        dilation = int(kind)
        ours = TapConv2d(8, 6, 3, 1, dilation, dilation)
        plain = nn.Conv2d(8, 6, 3, 1, dilation, dilation)
    plain.load_state_dict(ours.state_dict())
    return ours, plain


@pytest.mark.parametrize("kind", ["1", "8", "16", "transposed"])
def test_in_bf16_as_near_to_float32_as_torchs_layers(kind: str) -> None:
    torch.manual_seed(0)
    ours, plain = pair(kind)
    x = torch.randn(4, 8, 16, 16).contiguous(memory_format=torch.channels_last)
    mine, theirs = gradients(ours, x, bf16=True), gradients(plain, x, bf16=True)
    plain.zero_grad()
    truth = gradients(plain, x, bf16=False)
    assert len(mine) == len(theirs) == len(truth) == 4
    for name, a, b, t in zip(("output", "input", "weight", "bias"), mine, theirs, truth, strict=True):
        assert error(a, t) < 1.5 * error(b, t) + 1e-3, name


@pytest.mark.parametrize("kind", ["1", "16", "transposed"])
def test_in_float32_torchs_layers_bit_for_bit(kind: str) -> None:
    ours, plain = pair(kind)
    x = torch.randn(2, 8, 16, 16)
    for a, b in zip(gradients(ours, x, bf16=False), gradients(plain, x, bf16=False), strict=True):
        assert torch.equal(a, b)


def test_small_or_mostly_padded_maps_go_by_tap() -> None:
    def by_tap(dilation: int, side: int) -> bool:
        layer = TapConv2d(4, 4, 3, 1, dilation, dilation)
        with torch.autocast("cpu", torch.bfloat16):
            y = layer(torch.randn(1, 4, side, side))
        return "TapGradient" in type(y.grad_fn).__name__

    assert [by_tap(1, 16), by_tap(1, 40), by_tap(8, 40), by_tap(16, 40)] == [True, False, False, True]
    with torch.no_grad():
        assert not by_tap(1, 16)
