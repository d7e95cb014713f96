"""Partial convolution against equations 1 and 2 of the paper, computed window by window."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.layers.partial_conv import MaskedTensor, PartialConv2d, UpsampledPartialConv2d


def slow(layer: PartialConv2d, features: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Direct formula with one mask channel per feature channel, padding being hole; loops over windows."""
    batch, channels, height, width = features.shape
    kernel, stride, pad = layer.kernel_size[0], layer.stride[0], layer.kernel_size[0] // 2
    rows, columns = (height - 1) // stride + 1, (width - 1) // stride + 1
    padded = torch.zeros(batch, channels, height + 2 * pad, width + 2 * pad, dtype=features.dtype)
    holes = torch.zeros_like(padded)
    padded[:, :, pad : pad + height, pad : pad + width] = features
    holes[:, :, pad : pad + height, pad : pad + width] = valid
    output = torch.zeros(batch, layer.out_channels, rows, columns, dtype=features.dtype)
    updated = torch.zeros(batch, 1, rows, columns, dtype=features.dtype)
    for n in range(batch):
        for y in range(rows):
            for x in range(columns):
                window = (
                    n,
                    slice(None),
                    slice(y * stride, y * stride + kernel),
                    slice(x * stride, x * stride + kernel),
                )
                total = holes[window].sum()
                if total == 0:
                    continue
                ratio = kernel * kernel * channels / total
                product = (layer.weight * (padded[window] * holes[window])).sum((1, 2, 3))
                output[n, :, y, x] = product * ratio + (0 if layer.bias is None else layer.bias)
                updated[n, 0, y, x] = 1
    return output, updated


def random_source(
    channels: int, size: int, density: float, generator: torch.Generator, hole: int = 9
) -> tuple[Tensor, Tensor]:
    """Features everywhere, and a mask with an all-hole corner, by default larger than any window."""
    features = torch.randn(2, channels, size, size, generator=generator, dtype=torch.float64)
    valid = (torch.rand(2, 1, size, size, generator=generator) < density).double()
    valid[:, :, :hole, :hole] = 0
    return features, valid


@pytest.mark.parametrize(("kernel", "stride"), [(7, 2), (5, 2), (3, 2), (3, 1)])
@pytest.mark.parametrize("bias", [False, True])
def test_one_source_equals_the_direct_formula(kernel: int, stride: int, bias: bool) -> None:
    generator = torch.Generator().manual_seed(kernel)
    layer = PartialConv2d(3, 4, kernel, stride=stride, bias=bias).double()
    features, valid = random_source(3, 14, 0.4, generator)
    output, updated = layer(MaskedTensor.of(features, valid.float()))
    expected, expected_mask = slow(layer, features, valid.expand_as(features))
    # The ratio is computed in float32, hence 1e-6.
    torch.testing.assert_close(output, expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(updated.double(), expected_mask)
    assert (expected_mask == 0).any()
    assert (output[expected_mask.expand_as(output) == 0] == 0).all()


def test_two_sources_equal_concatenated_channels_and_masks() -> None:
    generator = torch.Generator().manual_seed(1)
    layer = PartialConv2d(5 + 3, 4, 3, bias=True).double()
    wide, wide_valid = random_source(5, 12, 0.5, generator)
    narrow, narrow_valid = random_source(3, 12, 0.2, generator)
    output, updated = layer(
        MaskedTensor.of(wide, wide_valid.float()), MaskedTensor.of(narrow, narrow_valid.float())
    )
    masks = torch.cat([wide_valid.expand_as(wide), narrow_valid.expand_as(narrow)], 1)
    expected, expected_mask = slow(layer, torch.cat([wide, narrow], 1), masks)
    torch.testing.assert_close(output, expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(updated.double(), expected_mask)


@pytest.mark.parametrize("size", [2, 4, 6, 10])
def test_an_upsampled_map_is_never_made_and_nothing_else_changes(size: int) -> None:
    """Values, mask and every gradient are those of the concatenation; 2 x 2 maps take another way than the rest."""
    generator = torch.Generator().manual_seed(size)
    layer = UpsampledPartialConv2d(5, 3, 4, bias=True).double()
    below = random_source(5, size, 0.6, generator, hole=size // 2)
    skip = random_source(3, 2 * size, 0.3, generator, hole=size)
    results = []
    for concatenated in (False, True):
        low, high = (features.clone().requires_grad_() for features, _ in (below, skip))
        sources = MaskedTensor.of(low, below[1].float()), MaskedTensor.of(high, skip[1].float())
        if concatenated:
            output, valid = PartialConv2d.forward(layer, sources[0].upsample(), sources[1])
        else:
            output, valid = layer(*sources)
        weights = torch.arange(output.numel(), dtype=torch.float64).view_as(output).cos()
        layer.zero_grad()
        (output * weights).sum().backward()
        results.append(
            [output, valid, low.grad, high.grad, layer.weight.grad.clone(), layer.bias.grad.clone()]
        )  # type: ignore[union-attr]
    assert (results[0][1] == 0).any()
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_without_holes_and_away_from_the_border_it_is_a_plain_convolution() -> None:
    layer = PartialConv2d(2, 3, 5, bias=True)
    features = torch.randn(1, 2, 16, 16)
    output, updated = layer(MaskedTensor.of(features, torch.ones(1, 1, 16, 16)))
    plain = torch.nn.functional.conv2d(features, layer.weight, layer.bias, padding=2)
    torch.testing.assert_close(output[:, :, 2:-2, 2:-2], plain[:, :, 2:-2, 2:-2])
    assert updated.min() == 1


def test_window_counts_stay_exact_under_bfloat16_autocast() -> None:
    """1024 channels of 9 positions: 9,216 and its neighbours are no bfloat16 numbers."""
    layer = PartialConv2d(512 + 512, 1, 3)
    generator = torch.Generator().manual_seed(2)
    valid = [(torch.rand(1, 1, 8, 8, generator=generator) < 0.5).float() for _ in range(2)]
    masks = [(512, v) for v in valid]
    plain = layer.window(masks)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = layer.window(masks)
    for a, b in zip(plain, cast, strict=True):
        assert a.dtype == b.dtype == torch.float32
        assert torch.equal(a, b)
    counts = sum(512 * torch.nn.functional.conv2d(v, torch.ones(1, 1, 3, 3), padding=1) for v in valid)
    assert isinstance(counts, Tensor)
    expected = torch.where(counts > 0, 9 * 1024 / counts, 0.0)
    torch.testing.assert_close(plain[0], expected, rtol=1e-6, atol=0)
