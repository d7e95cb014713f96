"""Adversarial losses against torch's binary cross-entropy, squared errors by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from models.losses import (
    discriminator_loss,
    discriminator_score,
    generator_loss,
    mse_over_pixels,
    mse_over_weights,
    squared_norm,
)

REAL = torch.tensor([[2.0], [-1.0]])
FAKE = torch.tensor([[0.5], [-3.0]])


def test_bce_is_torchs() -> None:
    bce = F.binary_cross_entropy_with_logits
    expected = bce(REAL, torch.ones(2, 1)) + bce(FAKE, torch.zeros(2, 1))
    torch.testing.assert_close(discriminator_loss(REAL, FAKE, "bce"), expected)
    torch.testing.assert_close(generator_loss(FAKE, "bce"), bce(FAKE, torch.ones(2, 1)))


def test_undecided_discriminator_loses_log_four() -> None:
    zero = torch.zeros(3, 1)
    assert discriminator_loss(zero, zero, "bce").item() == pytest.approx(math.log(4))
    assert discriminator_loss(zero, zero, "hinge").item() == 2
    assert discriminator_score(zero, "bce").item() == 0.5


def test_hinge_by_hand() -> None:
    # real: max(0, 1 - 2) = 0 and max(0, 1 + 1) = 2; fake: 1.5 and 0.
    assert discriminator_loss(REAL, FAKE, "hinge").item() == pytest.approx(1 + 0.75)
    assert generator_loss(FAKE, "hinge").item() == pytest.approx(1.25)


def test_large_logits_stay_finite_in_bfloat16() -> None:
    huge = torch.tensor([[3e4], [-3e4]], dtype=torch.bfloat16)
    for kind in ("bce", "hinge"):
        loss = discriminator_loss(huge, huge, kind)
        assert loss.dtype == torch.float32
        assert torch.isfinite(loss)


def test_squared_errors_by_hand() -> None:
    """Two of eight pixels are hole; the error is 0.5 there and 0.1 elsewhere, in each of three channels."""
    mask = torch.zeros(1, 1, 2, 4)
    mask[..., 0, :2] = 1
    target = torch.zeros(1, 3, 2, 4)
    output = torch.where(mask > 0, 0.5, 0.1).expand_as(target)
    assert mse_over_weights(output, target, mask).item() == pytest.approx(0.25)
    half_outside = mask + 0.5 * (1 - mask)
    assert mse_over_weights(output, target, half_outside).item() == pytest.approx(
        (2 * 0.25 + 6 * 0.5 * 0.01) / 5
    )
    assert mse_over_pixels(output, target, mask).item() == pytest.approx(2 * 0.25 / 8)
    assert squared_norm(output, target, mask).item() == pytest.approx(3 * 2 * 0.25)


def test_an_image_without_a_hole_has_no_error() -> None:
    image = torch.rand(1, 3, 4, 4)
    assert mse_over_weights(image, 1 - image, torch.zeros(1, 1, 4, 4)).item() == 0
