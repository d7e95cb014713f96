"""Gated convolution against its equation, and the order of norm and activation around it."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from models.layers.conv_block import ConvBlock, LayerRow
from models.layers.gated_conv import GatedConv2d


def test_hand_computation() -> None:
    """A 1 x 1 gate: (2x + 1) * sigmoid(3x - 1) at x = 0.5 is 2 * sigmoid(0.5)."""
    layer = GatedConv2d(1, 1, 1)
    with torch.no_grad():
        layer.conv.weight.copy_(torch.tensor([2.0, 3.0]).view(2, 1, 1, 1))
        layer.conv.bias.copy_(torch.tensor([1.0, -1.0]))
    result = layer(torch.full((1, 1, 1, 1), 0.5))
    assert result.item() == pytest.approx(2 * 0.6224593312018546, abs=1e-6)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("activation", [None, F.elu])
def test_one_convolution_is_two(transposed: bool, activation: object) -> None:
    """Oracle: two convolutions of torch with the halves of the weight."""
    torch.manual_seed(0)
    layer = GatedConv2d(3, 5, 4 if transposed else 3, stride=2, transposed=transposed, activation=activation)  # type: ignore[arg-type]
    x = torch.randn(2, 3, 8, 8)
    apply = F.conv_transpose2d if transposed else F.conv2d
    halves = layer.conv.weight.chunk(2, dim=1 if transposed else 0)
    features, gates = (
        apply(x, weight, bias, stride=2, padding=1)
        for weight, bias in zip(halves, layer.conv.bias.chunk(2), strict=True)
    )
    if activation is not None:
        features = F.elu(features)
    torch.testing.assert_close(layer(x), features * torch.sigmoid(gates))


def test_memory_format_changes_nothing() -> None:
    torch.manual_seed(0)
    layer = GatedConv2d(3, 5, 3).double()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    last = layer(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, layer(x))
    assert last.is_contiguous(memory_format=torch.channels_last)


def test_block_orders() -> None:
    """norm-act ends in an activation, act-norm in a batch-norm (mean 0), act-gate has no norm at all."""
    torch.manual_seed(0)
    x = torch.randn(4, 3, 8, 8)
    row = LayerRow(kind="conv", kernel=3, stride=1, inputs=3, outputs=6)
    assert (ConvBlock(3, 6, row, order="norm-act")(x) >= 0).all()
    last = ConvBlock(3, 6, row, order="act-norm")(x)
    assert last.mean(dim=(0, 2, 3)).abs().max() < 1e-5
    assert last.min() < 0
    assert ConvBlock(3, 6, row, gated=True, order="act-gate").norm is None
    assert ConvBlock(3, 6, row, gated=False, order="act-gate").norm is not None
