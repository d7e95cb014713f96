"""The mask suite: golden digests, and what a user relies on."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masks import bank, registry

GOLDEN = json.loads((Path(__file__).parent / "golden.json").read_text(encoding="utf-8"))
IDS = [f"{i:06d}.jpg" for i in range(64)]
names = st.sampled_from(registry.mask_names())


@pytest.mark.parametrize("key", GOLDEN)
def test_golden_digest(key: str) -> None:
    name, size, stream = key.split("/")
    drawn = registry.draw_masks(name, IDS, int(size), stream=stream)  # type: ignore[arg-type]
    assert bank.masks_digest(drawn) == GOLDEN[key]


def test_every_mask_has_golden_digests() -> None:
    keys = {f"{name}/{size}/evaluation" for name in registry.mask_names() for size in (64, 160)}
    assert keys <= set(GOLDEN)


@given(
    name=names,
    size=st.integers(32, 96),
    seed=st.integers(0, 3),
    ids=st.lists(st.text(max_size=8), max_size=4),
)
@settings(deadline=None, max_examples=60)
def test_binary_never_empty_never_full(name: str, size: int, seed: int, ids: list[str]) -> None:
    masks = registry.draw_masks(name, ids, size, base_seed=seed)
    assert masks.shape == (len(ids), size, size)
    assert masks.dtype == np.uint8
    assert np.isin(masks, (0, 1)).all()
    areas = masks.sum(axis=(1, 2))
    assert ((areas > 0) & (areas < size * size)).all()


@given(name=names, order=st.permutations(range(8)), cut=st.integers(1, 8))
@settings(deadline=None, max_examples=40)
def test_a_mask_depends_on_its_own_id_only(name: str, order: list[int], cut: int) -> None:
    whole = registry.draw_masks(name, IDS[:8], 48)
    part = registry.draw_masks(name, [IDS[i] for i in order[:cut]], 48)
    assert np.array_equal(part, whole[order[:cut]])


def test_the_same_in_another_process() -> None:
    code = (
        "import sys; from masks import bank, registry;"
        "print(bank.masks_digest(registry.draw_masks('freeform', [f'{i:06d}.jpg' for i in range(64)], 64)));"
        "assert 'torch' not in sys.modules"
    )
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == GOLDEN["freeform/64/evaluation"]


def test_more_masks_than_a_chunk_are_the_same_masks() -> None:
    many = [str(i) for i in range(300)]
    assert np.array_equal(
        registry.draw_masks("shapes", many, 32)[290:], registry.draw_masks("shapes", many[290:], 32)
    )


@pytest.mark.parametrize("name", [n for n in registry.mask_names() if n.startswith("irregular")])
@pytest.mark.parametrize("size", [64, 160])
def test_irregular_holes_lie_in_their_bin_and_keep_to_their_border(name: str, size: int) -> None:
    low, high = (int(part) / 100 for part in name.split("-")[1:3])
    masks = registry.draw_masks(name, IDS, size)
    ratio = masks.mean(axis=(1, 2))
    assert ((ratio > max(low, 0.01)) & (ratio <= high)).all(), (ratio.min(), ratio.max())
    rim = np.ones((size, size), dtype=bool)
    rim[1:-1, 1:-1] = False
    touches = masks[:, rim].any(axis=1)
    assert touches.all() if name.endswith("border") else not touches.any()


@pytest.mark.parametrize("size", [64, 65, 160])
def test_centre_is_the_middle_of_half_the_side(size: int) -> None:
    box = registry.fixed_hole_box("center", size)
    assert box is not None
    top, left, height, width = box
    (mask,) = registry.draw_masks("center", ["x"], size)
    expected = np.zeros_like(mask)
    expected[top : top + height, left : left + width] = 1
    assert np.array_equal(mask, expected)
    assert (height, width) == (size // 2, size // 2)
    assert np.array_equal(registry.draw_masks("outpaint", ["x"], size)[0], 1 - mask)


def test_random_rectangles_have_the_declared_sides() -> None:
    masks = registry.draw_masks("random-rect", [str(i) for i in range(500)], 160)
    heights, widths = masks.any(axis=2).sum(axis=1), masks.any(axis=1).sum(axis=1)
    assert np.array_equal(heights * widths, masks.sum(axis=(1, 2)))  # full boxes
    for sides in (heights, widths):
        assert (sides.min(), sides.max()) == (48, 96)


def test_training_masks_are_not_the_evaluation_masks() -> None:
    same = registry.draw_masks("freeform", IDS, 64) == registry.draw_masks(
        "freeform", IDS, 64, stream="training"
    )
    assert not same.all(axis=(1, 2)).any()


def test_seeds_and_sizes_name_other_masks() -> None:
    first, second = (registry.draw_masks("shapes", IDS, 64, base_seed=seed) for seed in (0, 1))
    assert not (first == second).all(axis=(1, 2)).any()


def test_names_resolve() -> None:
    assert registry.resolve_masks(["paper"]) == ["center", "random-rect", "shapes"]
    assert registry.resolve_masks(["all"]) == registry.mask_names()
    assert registry.resolve_masks(["half", "paper", "half"]) == ["half", "center", "random-rect", "shapes"]
    with pytest.raises(registry.UnknownMaskError, match="did you mean 'lama-thick'"):
        registry.draw_masks("lama-thik", IDS, 64)
    with pytest.raises(ValueError, match="at least 32 pixels"):
        registry.draw_masks("center", IDS, 31)


def test_bank_takes_names_by_turns_from_the_training_stream() -> None:
    drawn = bank.draw_bank(["center", "freeform"], 10, 64, 5)
    masks = bank.unpack_masks(drawn.packed, 64)
    assert np.array_equal(masks[::2], registry.draw_masks("center", ["x"] * 5, 64))
    ids = [f"training-{i}" for i in range(1, 10, 2)]
    assert np.array_equal(
        masks[1::2], registry.draw_masks("freeform", ids, 64, base_seed=5, stream="training")
    )
    assert bank.draw_bank(["center"], 100, 64, 0).packed.shape == (1, 512)
    assert bank.draw_bank(["center", "freeform"], 10, 64, 5).digest == drawn.digest


@given(size=st.integers(1, 40), count=st.integers(1, 5), seed=st.integers(0, 9))
@settings(deadline=None, max_examples=30)
def test_pack_and_unpack_are_inverse(size: int, count: int, seed: int) -> None:
    masks = np.random.default_rng(seed).integers(0, 2, (count, size, size), dtype=np.uint8)
    assert np.array_equal(bank.unpack_masks(bank.pack_masks(masks), size), masks)


@pytest.mark.parametrize("name", ["lama-thin", "lama-medium", "lama-thick"])
def test_lama_strokes_lean_to_the_vertical(name: str) -> None:
    """LaMa adds length * sin(angle) to x and length * cos(angle) to y; of its angles 0.01 + {0, 1, 2, 3} radians the
    cosines sum to 2.9 and the sines to 1.9 in size, so that rows cross more edges than columns do.
    """
    masks = registry.draw_masks(name, [str(i) for i in range(400)], 96).astype(int)
    along_rows, along_columns = np.abs(np.diff(masks, axis=2)).sum(), np.abs(np.diff(masks, axis=1)).sum()
    assert along_rows > 1.1 * along_columns


@given(name=names, chunk=st.integers(1, 9), count=st.integers(1, 12))
@settings(deadline=None, max_examples=40)
def test_batches_of_any_size_give_the_same_masks(name: str, chunk: int, count: int) -> None:
    whole = registry.draw_masks(name, IDS[:count], 40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_CHUNK", chunk)
        assert np.array_equal(registry.draw_masks(name, IDS[:count], 40), whole)


def _digest(task: tuple[str, list[str]]) -> str:
    return bank.masks_digest(registry.draw_masks(task[0], task[1], 40))


def test_every_mask_is_the_same_in_other_processes() -> None:
    """Whatever process draws which part, in whatever order."""
    tasks = [(name, IDS[start : start + 8]) for name in registry.mask_names() for start in (16, 0, 8)]
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        assert list(pool.map(_digest, tasks)) == [_digest(task) for task in tasks]


#: Least and greatest share of the hole.
DECLARED = {
    "center": (0.25, 0.25),
    "half": (0.5, 0.5),
    "outpaint": (0.75, 0.75),
    "random-rect": (0.3**2, 0.6**2),
    **{
        name: (max(int(name.split("-")[1]), 1) / 100, int(name.split("-")[2]) / 100)
        for name in registry.mask_names()
        if name.startswith("irregular")
    },
}


@given(
    name=st.sampled_from(sorted(DECLARED)),
    size=st.integers(32, 128),
    ids=st.lists(st.text(max_size=8), min_size=1),
)
@settings(deadline=None, max_examples=80)
def test_the_hole_has_the_declared_area(name: str, size: int, ids: list[str]) -> None:
    low, high = DECLARED[name]
    # A box whose sides are rounded to whole pixels is up to a pixel off along each; a bin is exact.
    slack = 0.0 if name.startswith("irregular") else 2 / size + 1 / size**2
    areas = registry.draw_masks(name, ids[:4], size).mean(axis=(1, 2))
    assert ((areas >= low - slack) & (areas <= high + slack)).all()
