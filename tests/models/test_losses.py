"""Adversarial losses against torch's binary cross-entropy and hand values."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from models.losses import discriminator_loss, discriminator_score, generator_loss

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
