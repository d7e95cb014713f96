"""DeepFillv2: contextual attention against a slow formula, and the network's sizes."""

from __future__ import annotations

import pytest
import torch

from models.base import Batch, Budget, Task
from models.discovery import load_model
from models.errors import UnsupportedSizeError
from models.layers.contextual_attention import contextual_attention, fuse_scores


def slow_attention(features: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """One image, patch by patch, without fusion: the definition of DeepFillv1 section 4.1."""
    channels, side, _ = features.shape
    small, small_mask = features[:, ::2, ::2], mask[:, ::2, ::2]
    count = side // 2
    padded = torch.nn.functional.pad(small, (1, 1, 1, 1))
    padded_mask = torch.nn.functional.pad(small_mask, (1, 1, 1, 1))
    wide = torch.nn.functional.pad(features, (1, 1, 1, 1))
    canvas = torch.zeros(channels, side + 2, side + 2)
    positions = [(y, x) for y in range(count) for x in range(count)]
    for fy, fx in positions:
        sought = padded[:, fy : fy + 3, fx : fx + 3]
        scores, usable = [], []
        for by, bx in positions:
            known = padded[:, by : by + 3, bx : bx + 3]
            usable.append(bool((padded_mask[:, by : by + 3, bx : bx + 3] < 0.5).all()))
            scores.append((known * sought).sum() / known.norm().clamp(min=1e-4) * usable[-1])
        weights = torch.softmax(10 * torch.stack(scores), dim=0)
        for (by, bx), weight, use in zip(positions, weights, usable, strict=True):
            if use:
                patch = wide[:, 2 * by : 2 * by + 4, 2 * bx : 2 * bx + 4]
                canvas[:, 2 * fy : 2 * fy + 4, 2 * fx : 2 * fx + 4] += weight * patch
    return canvas[:, 1:-1, 1:-1] / 4


def test_attention_equals_the_slow_formula() -> None:
    torch.manual_seed(0)
    features, mask = torch.rand(2, 3, 12, 12), torch.zeros(2, 1, 12, 12)
    mask[0, :, 4:8, 4:8] = 1
    mask[1, :, :6, :4] = 1
    fast = contextual_attention(features, mask, fuse=False)
    slow = torch.stack([slow_attention(f, m) for f, m in zip(features, mask, strict=True)])
    torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)


def test_without_a_known_patch_nothing_is_rebuilt() -> None:
    rebuilt = contextual_attention(torch.rand(1, 3, 16, 16), torch.ones(1, 1, 16, 16))
    assert torch.equal(rebuilt, torch.zeros_like(rebuilt))


def test_fusion_adds_neighbours_that_shift_together() -> None:
    """A score at known (1, 1) and sought (2, 2) spreads to pairs of the same shift around it."""
    scores = torch.zeros(1, 5, 5, 5, 5)
    scores[0, 1, 1, 2, 2] = 1
    fused = fuse_scores(scores)
    expected = torch.zeros_like(scores)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            expected[0, 1 + dy, 1 + dx, 2 + dy, 2 + dx] = 1
    assert torch.equal(fused, expected)


@pytest.mark.parametrize("size", [64, 160])
def test_both_stages_and_losses(size: int) -> None:
    torch.manual_seed(0)
    entry = load_model("deepfillv2")
    model = entry.model(entry.config("smoke"), Task(size=size))
    mask = torch.zeros(2, 1, size, size)
    mask[..., size // 4 : 3 * size // 4, size // 4 : 3 * size // 4] = 1
    batch = Batch(torch.rand(2, 3, size, size), mask, torch.arange(2), 0, torch.Generator())
    phase = model.phases(Budget(num_steps=5))[0]
    assert (phase.num_steps, phase.networks) == (5, ("discriminator", "generator"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        completion = model.complete(batch)
        assert completion.extras["coarse"].shape == completion.raw.shape == batch.image.shape
        terms = model.loss("generator", batch, completion, phase)
        critic = model.loss("discriminator", batch, completion.detach(), phase)
    published = model.config.l1_weight * (terms["l1_refined"] + terms["l1_coarse"])
    torch.testing.assert_close(
        terms["loss"], published + model.config.adversarial_weight * terms["adversarial"]
    )
    assert torch.isfinite(critic["loss"])
    terms["loss"].backward(inputs=list(model.networks["generator"].parameters()))
    assert all(p.grad is not None for p in model.networks["generator"].parameters())
    assert all(p.grad is None for p in model.networks["discriminator"].parameters())
    names = [row.kind for row in model.layer_table()["coarse"]]
    assert names == [*["Gateconv"] * 16, "Output"]


def test_refused_size() -> None:
    entry = load_model("deepfillv2")
    with pytest.raises(UnsupportedSizeError, match="multiples of 8"):
        entry.model.validate(entry.config(), 68)
