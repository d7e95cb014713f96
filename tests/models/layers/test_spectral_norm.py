"""Spectral norm against singular value decomposition, and small maps against torch's convolution."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.layers.cpu_kernels import SmallMapConv2d
from models.layers.spectral_norm import SpectralConv2d, SpectralLinear, iterate_power


def largest_singular_value(weight: torch.Tensor) -> torch.Tensor:
    """Oracle: LAPACK's SVD of the weight as an (out, in * kh * kw) matrix."""
    return torch.linalg.svdvals(weight.detach().double().flatten(1))[0]


@pytest.mark.parametrize("channels_last", [False, True])
def test_converges_to_the_largest_singular_value(channels_last: bool) -> None:
    torch.manual_seed(0)
    layer = SpectralConv2d(4, 8, 5, stride=2, padding=2)
    if channels_last:
        layer.to(memory_format=torch.channels_last)
    x = torch.randn(2, 4, 16, 16)
    for _ in range(200):
        result = layer(x)
    weight = layer.weight.detach() / largest_singular_value(layer.weight).float()
    torch.testing.assert_close(result, F.conv2d(x, weight, layer.bias, 2, 2), rtol=1e-4, atol=1e-5)


def test_linear_has_gain_one() -> None:
    torch.manual_seed(0)
    layer = SpectralLinear(12, 7)
    for _ in range(200):
        layer(torch.zeros(1, 12))
    _, _, right = torch.linalg.svd(layer.weight.detach())
    gain = (layer(right[:1]) - layer.bias).norm()
    assert gain.item() == pytest.approx(1.0, abs=1e-4)


def test_gradient_is_that_of_the_normalised_weight() -> None:
    """Oracle: autograd through W divided by its 2-norm, once the power iteration has converged."""
    torch.manual_seed(0)
    layer = SpectralLinear(6, 5)
    x = torch.randn(3, 6)
    for _ in range(300):
        layer(x)
    layer(x).square().sum().backward()
    weight = layer.weight.detach().clone().requires_grad_()
    exact = F.linear(x, weight / torch.linalg.matrix_norm(weight, 2), layer.bias.detach())
    exact.square().sum().backward()
    torch.testing.assert_close(layer.weight.grad, weight.grad, rtol=1e-3, atol=1e-4)


def test_iterates_in_training_only_and_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    layer = SpectralConv2d(4, 8, 3, padding=1)
    x = torch.randn(1, 4, 8, 8)
    before = layer.left.clone()
    layer.eval()
    layer(x)
    assert torch.equal(layer.left, before)
    layer.train()
    twin = SpectralConv2d(4, 8, 3, padding=1)
    twin.load_state_dict(layer.state_dict())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    twin(x)
    assert not torch.equal(layer.left, before)
    assert torch.equal(layer.left, twin.left), "the power iteration must not see bfloat16"


def test_the_norm_is_not_rounded_to_bfloat16() -> None:
    """A norm halfway between two bfloat16 values: rounding it would scale every output by 0.28 %."""
    torch.manual_seed(0)
    layer = SpectralConv2d(16, 32, 3, padding=1).eval()
    x, norm = torch.randn(4, 16, 24, 24), 1 + 101 / 256
    with torch.no_grad():
        layer.weight.mul_(norm / iterate_power(layer.weight, layer.left)[0])
        exact = F.conv2d(x, layer.weight / norm, padding=1)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = layer(x.bfloat16()).float() - layer.bias.view(1, -1, 1, 1)
    factor = (found * exact).sum() / exact.square().sum()
    assert factor.item() == pytest.approx(1.0, abs=5e-4)


def test_micro_batches_of_a_step_share_one_power_iteration() -> None:
    torch.manual_seed(0)
    layer, twin = SpectralConv2d(4, 8, 3, padding=1), SpectralConv2d(4, 8, 3, padding=1)
    twin.load_state_dict(layer.state_dict())
    for step in range(3):
        x = torch.randn(6, 4, 8, 8)
        whole = layer(x)
        pieces = [twin(part, advance=number == 0) for number, part in enumerate(x.split(2))]
        torch.testing.assert_close(whole, torch.cat(pieces), msg=f"step {step}")
        assert torch.equal(layer.left, twin.left)
    assert "start" not in layer.state_dict(), "checkpoints keep one vector a layer"


def test_two_forwards_before_a_backward() -> None:
    """The estimate moves in place between them, which autograd must not mind."""
    layer = SpectralConv2d(3, 4, 3, padding=1)
    x = torch.randn(2, 3, 4, 4)
    (layer(x) + layer(x)).sum().backward()
    assert torch.isfinite(layer.weight.grad).all()  # type: ignore[arg-type]


@pytest.mark.parametrize("side", [1, 2, 3, 5, 8, 9])
def test_small_maps_equal_torch(side: int) -> None:
    """Values and all gradients, either side of the switch; oracle: torch.nn.Conv2d."""
    torch.manual_seed(0)
    small = SmallMapConv2d(3, 4, 5, 2, 2).double()
    plain = nn.Conv2d(3, 4, 5, 2, 2).double()
    plain.load_state_dict(small.state_dict())
    x = torch.randn(2, 3, side, side, dtype=torch.float64, requires_grad=True)
    twin = x.detach().clone().requires_grad_()
    torch.testing.assert_close(small(x), plain(twin))
    small(x).square().sum().backward()
    plain(twin).square().sum().backward()
    torch.testing.assert_close(x.grad, twin.grad)
    torch.testing.assert_close(small.weight.grad, plain.weight.grad)
    torch.testing.assert_close(small.bias.grad, plain.bias.grad)
