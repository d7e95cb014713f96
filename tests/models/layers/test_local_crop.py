"""Local crops against a slow loop."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from masks.registry import draw_masks
from models.layers.local_crop import crop_at, default_local_size, hole_corners, random_corners
from models.three_phase import LARGE_HOLES


def slow_crop(image: torch.Tensor, mask: torch.Tensor, side: int) -> torch.Tensor:
    """One image at a time, with Python integers."""
    crops = []
    for picture, hole in zip(image, mask, strict=True):
        rows, columns = torch.nonzero(hole[0] > 0.5, as_tuple=True)
        corner = []
        for across, length in ((rows.tolist(), hole.shape[1]), (columns.tolist(), hole.shape[2])):
            first, last = (min(across), max(across)) if across else (0, length - 1)
            start = (first + last + 1 - side) // 2
            corner.append(min(max(start, 0), length - side))
        top, left = corner
        crops.append(picture[:, top : top + side, left : left + side])
    return torch.stack(crops)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**31), size=st.integers(8, 24), part=st.floats(0.3, 1.0), density=st.floats(0, 0.1)
)
def test_equals_the_slow_loop(seed: int, size: int, part: float, density: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    side = max(1, int(size * part))
    image = torch.rand(3, 2, size, size, generator=generator)
    mask = (torch.rand(3, 1, size, size, generator=generator) < density).float()
    fast = crop_at(image, hole_corners(mask, side), side)
    assert torch.equal(fast, slow_crop(image, mask, side))


def test_centre_hole_at_160_leaves_a_ring_of_eight() -> None:
    mask = torch.zeros(1, 1, 160, 160)
    mask[:, :, 40:120, 40:120] = 1
    assert hole_corners(mask, 96).tolist() == [[32, 32]]
    local = crop_at(mask, hole_corners(mask, 96), 96)
    assert local[0, 0, 8:88, 8:88].all()
    assert local.sum() == 80 * 80


def test_default_sides() -> None:
    assert default_local_size(160) == 96
    assert default_local_size(64) == 40


def test_gradient_reaches_the_crop_and_nothing_else() -> None:
    image = torch.zeros(1, 3, 16, 16, requires_grad=True)
    crop_at(image, torch.tensor([[2, 5]]), 8).sum().backward()
    expected = torch.zeros(1, 3, 16, 16)
    expected[:, :, 2:10, 5:13] = 1
    assert image.grad is not None
    assert torch.equal(image.grad, expected)


def test_random_corners_come_from_the_generator_and_reach_both_ends() -> None:
    def draw() -> torch.Tensor:
        return random_corners(400, 16, 12, torch.Generator().manual_seed(3), torch.device("cpu"))

    corners = draw()
    assert torch.equal(corners, draw())
    assert corners.min() == 0
    assert corners.max() == 4
    assert (corners[:, 0] != corners[:, 1]).any()


@pytest.mark.parametrize(
    ("kind", "exceeds", "seen"),
    [("center", 0.0, 1.0), ("random-rect", 0.0, 1.0), ("shapes", 0.72, 0.81), ("freeform", 0.64, 0.76)],
)
def test_what_the_local_discriminator_sees_of_a_hole_is_what_the_table_says(
    kind: str, exceeds: float, seen: float
) -> None:
    """The shares that GLCIC's and MGS-IIM's tables of ambiguities state, at 160 px."""
    masks = torch.from_numpy(draw_masks(kind, [str(number) for number in range(300)], 160)).float()[:, None]
    side = default_local_size(160)
    crops = crop_at(masks, hole_corners(masks, side), side)
    shares = crops.sum((1, 2, 3)) / masks.sum((1, 2, 3))
    assert shares.mean().item() == pytest.approx(seen, abs=0.02)
    extents = torch.stack([masks.amax(dim).flatten(1).sum(1) for dim in (2, 3)])
    # An extent counts rows or columns with hole; a hole of several parts may have gaps between them.
    assert (extents.amax(0) > side).float().mean().item() <= exceeds + 0.02
    assert (shares < 1).float().mean().item() == pytest.approx(exceeds, abs=0.02)
    if exceeds:
        assert f"{exceeds:.0%}".replace("%", " %") in LARGE_HOLES.resolved
        assert f"{seen:.0%}".replace("%", " %") in LARGE_HOLES.resolved
