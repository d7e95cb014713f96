"""GLCIC's post-processing: off by default, in evaluation only, and it does what Poisson blending promises."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from models.base import Batch, Task
from models.discovery import load_model
from models.errors import MissingPackageError


def picture(size: int) -> torch.Tensor:
    """Build a smooth image ``(1, 3, size, size)`` with structure in it."""
    y, x = torch.meshgrid(torch.linspace(0, 6, size), torch.linspace(0, 6, size), indexing="ij")
    return torch.stack([0.5 + 0.2 * torch.sin(x + k) * torch.cos(y - k) for k in range(3)]).unsqueeze(0)


@pytest.mark.parametrize(
    "hole",
    [(16, 48, 16, 48), (5, 30, 9, 20), (20, 41, 33, 60), (0, 20, 10, 40)],
    ids=["centre", "odd", "near the border", "at the top"],
)
def test_a_wrong_tint_of_the_completion_is_removed(hole: tuple[int, int, int, int]) -> None:
    """A completion that is right but for a constant: its gradients are right, so blending restores the truth."""
    pytest.importorskip("cv2")
    from models.glcic import telea_and_poisson

    truth, mask = picture(64), torch.zeros(1, 1, 64, 64)
    mask[..., hole[0] : hole[1], hole[2] : hole[3]] = 1
    tinted = truth + 0.1 * mask
    blended = telea_and_poisson(tinted, mask)
    inside = mask.expand_as(truth) > 0.5
    before, after = ((p - truth)[inside].abs().mean() for p in (tinted, blended))
    assert after < 0.4 * before


@pytest.mark.parametrize("width", [1, 2, 3])
def test_a_narrow_hole_is_no_error(width: int) -> None:
    """``seamlessClone`` refuses a hole of two pixels across, which a mask of one's own may have."""
    pytest.importorskip("cv2")
    from models.glcic import telea_and_poisson

    image, mask = picture(32), torch.zeros(1, 1, 32, 32)
    mask[..., 8:24, 10 : 10 + width] = 1
    blended = telea_and_poisson(image, mask)
    assert torch.isfinite(blended).all()
    assert (blended - image).abs().mean() < 0.01


def test_it_is_off_by_default_and_in_training() -> None:
    pytest.importorskip("cv2")
    entry = load_model("glcic")
    assert entry.config().post_processing == "none"
    mask = torch.zeros(2, 1, 64, 64)
    mask[..., 16:48, 16:48] = 1
    batch = Batch(picture(64).expand(2, 3, 64, 64), mask, torch.arange(2), 0, torch.Generator())
    torch.manual_seed(0)
    model = entry.model(entry.config("smoke", post_processing="telea+poisson"), Task(size=64))
    training = model.complete(batch)
    assert torch.equal(training.composite[..., 16:48, 16:48], training.raw[..., 16:48, 16:48])
    assert training.composite.requires_grad
    model.networks.eval()
    evaluated = model.complete(batch)
    known = mask.expand_as(batch.image) == 0
    assert torch.equal(evaluated.composite[known], batch.image[known])
    assert not torch.equal(evaluated.composite[..., 16:48, 16:48], evaluated.raw[..., 16:48, 16:48])


def test_it_labels_the_row_and_asks_for_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    entry, task = load_model("glcic"), Task(size=64)
    config = entry.config(post_processing="telea+poisson")
    assert entry.model.label_suffix(config, task) == "(post-processed)"
    assert entry.model.label_suffix(entry.config(), task) == ""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    entry.model.requirements(entry.config())
    with pytest.raises(MissingPackageError, match=r"inpaint-bench\[opencv\]"):
        entry.model.requirements(config)
