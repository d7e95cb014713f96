"""The mask suite: golden digests, and what a user relies on."""

from __future__ import annotations

import dataclasses
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

from masks import bank, kinds, registry, seeding
from tests.masks.packing import unpack_masks

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
    with pytest.raises(
        registry.UnknownMaskError, match="unknown mask 'lama-thik'; there are: center, "
    ) as error:
        registry.draw_masks("lama-thik", IDS, 64)
    assert error.value.name == "lama-thik"
    assert {"lama-thick", "paper", "all"} <= set(error.value.known)
    with pytest.raises(ValueError, match="at least 32 pixels"):
        registry.draw_masks("center", IDS, 31)


def test_bank_takes_names_by_turns_from_the_training_stream() -> None:
    drawn = bank.draw_bank(["center", "freeform"], 10, 64, 5)
    masks = unpack_masks(drawn.packed, 64)
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
    assert np.array_equal(unpack_masks(bank.pack_masks(masks), size), masks)


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


#: (mean, quantiles 0.1, 0.25, 0.5, 0.75, 0.9) of the hole's share and its standard deviation, of 4,000 masks of the
#: published generators (MAT's mask_generator_{256,512}{,_small}.py and CoModGAN's mask_generator.py, NumPy seed 0).
PUBLISHED = {
    ("mat-small", 256): (0.2184, (0.0477, 0.1050, 0.1994, 0.3028, 0.4135), 0.1438),
    ("mat-small", 512): (0.2149, (0.0574, 0.1110, 0.1910, 0.2926, 0.4029), 0.1390),
    ("mat-large", 256): (0.4027, (0.1435, 0.2651, 0.4110, 0.5383, 0.6415), 0.1850),
    ("mat-large", 512): (0.4003, (0.1705, 0.2701, 0.3955, 0.5223, 0.6412), 0.1776),
    ("comodgan", 256): (0.7284, (0.4694, 0.6357, 0.7726, 0.8648, 0.9206), 0.1820),
    ("comodgan", 512): (0.6473, (0.3930, 0.5381, 0.6752, 0.7826, 0.8566), 0.1798),
}


@pytest.mark.parametrize(("name", "size"), PUBLISHED)
def test_mat_and_comodgan_have_the_distribution_of_the_published_generators(name: str, size: int) -> None:
    mean, quantiles, deviation = PUBLISHED[name, size]
    count = 1000 if size == 256 else 500
    shares = registry.draw_masks(name, [str(i) for i in range(count)], size).mean(axis=(1, 2))
    # Four standard errors of the difference between our mean and that of the 4,000.
    error = deviation * np.sqrt(1 / count + 1 / 4000)
    assert abs(shares.mean() - mean) < 4 * error
    # The standard error of a quantile of a bell-shaped distribution is at most about twice that of its mean here.
    assert np.abs(np.quantile(shares, (0.1, 0.25, 0.5, 0.75, 0.9)) - quantiles).max() < 9 * error
    assert abs(shares.std() / deviation - 1) < 0.12


#: Center of each part and a box that holds it, in shares of the side: (x0, y0, x1, y1).
FACE_PARTS = {
    "eyes": (0.24, 0.40, 0.76, 0.62),
    "nose": (0.36, 0.47, 0.63, 0.79),
    "mouth": (0.28, 0.64, 0.71, 0.90),
    "lower-face": (0.15, 0.50, 0.85, 1.0),
    "glasses": (0.20, 0.36, 0.79, 0.66),
}


@pytest.mark.parametrize("name", FACE_PARTS)
@pytest.mark.parametrize("size", [64, 160, 256])
def test_parts_of_a_face_lie_where_they_are_in_aligned_images(name: str, size: int) -> None:
    assert registry.mask_info(name).needs_aligned_faces
    masks = registry.draw_masks(name, [str(i) for i in range(200)], size)
    x0, y0, x1, y1 = (round(share * size) for share in FACE_PARTS[name])
    outside = masks.copy()
    outside[:, y0:y1, x0:x1] = 0
    assert not outside.any()
    shares = masks.mean(axis=(1, 2))
    assert shares.max() < 1.9 * shares.min()  # scales 0.9 to 1.15
    assert len({mask.tobytes() for mask in masks}) > 50
    always = masks.all(axis=0)  # what every image loses
    x = {"eyes": 0.615, "glasses": 0.38}.get(name, 0.495)
    y = {"eyes": 0.51, "glasses": 0.51, "mouth": 0.77}.get(name, 0.68)
    assert always[int(y * size), int(x * size)]


#: Where CelebA's alignment puts the eyes and the middle between the corners of the mouth, in pixels of the 178 x 218
#: images counted from 1: the targets of ``align_face_celeba.m``, "the face alignment method used in generating CelebA",
#: which the data set's first author publishes (github.com/liuziwei7/mobile-id).
ALIGNED = {"left eye": (70.745, 112.0), "right eye": (108.237, 112.0), "mouth": (89.432, 153.514)}
#: Whole pixels, counted from 0, near the means of the landmarks that CelebA publishes, as the head of ALAE's
#: ``align_faces.py`` notes them (github.com/podgorskiy/ALAE).
NOTED = {"nose": (88, 136), "left corner": (72, 152), "right corner": (105, 152)}
#: Mask -> landmarks that every hole covers, and landmarks that none does.
COVERED = {
    "eyes": (("left eye", "right eye"), ("nose", "mouth", "left corner", "right corner")),
    "nose": (("nose",), ("left eye", "right eye", "left corner", "right corner")),
    "mouth": (("mouth", "left corner", "right corner"), ("left eye", "right eye")),
    "lower-face": (("nose", "mouth", "left corner", "right corner"), ("left eye", "right eye")),
    "glasses": (("left eye", "right eye"), ("nose", "mouth", "left corner", "right corner")),
}


def published_landmarks() -> dict[str, tuple[float, float]]:
    """Landmarks (x, y) as shares of the side of CelebA's center crop: 160 x 160 from the middle of 178 x 218."""
    pixels = {name: (x - 1, y - 1) for name, (x, y) in ALIGNED.items()} | NOTED
    # A pixel's middle lies half a pixel behind its number.
    return {name: ((x - 9 + 0.5) / 160, (y - 29 + 0.5) / 160) for name, (x, y) in pixels.items()}


@pytest.mark.parametrize("size", [64, 160, 256])
def test_parts_of_a_face_lie_on_the_published_landmarks(size: int) -> None:
    at = published_landmarks()
    middles = (np.arange(size) + 0.5) / size
    for name, (inside, outside) in COVERED.items():
        masks = registry.draw_masks(name, [str(i) for i in range(300)], size)
        holes = {point: masks[:, int(y * size), int(x * size)] for point, (x, y) in at.items()}
        assert all(holes[point].all() for point in inside), name
        assert not any(holes[point].any() for point in outside), name
        if name not in ("eyes", "mouth", "glasses"):
            continue  # a nose and a lower face have no middle that anybody publishes
        # Mean center of the holes; of each eye's half, which the middle between the eyes divides.
        between = (at["left eye"][0] + at["right eye"][0]) / 2
        halves = {"left eye": middles < between, "right eye": middles >= between}
        if name == "mouth":
            halves = {"mouth": np.ones(size, dtype=bool)}
        for point, columns in halves.items():
            weights = masks[:, :, columns].mean(axis=0)
            x = float((weights.sum(axis=0) * middles[columns]).sum() / weights.sum())
            y = float((weights.sum(axis=1) * middles).sum() / weights.sum())
            # One and a half pixels of CelebA's 160; the bridge of glasses pulls their halves inward.
            assert abs(x - at[point][0]) < (0.02 if name == "glasses" else 0.01), (name, point)
            assert abs(y - at[point][1]) < 0.01, (name, point)


def test_a_mask_is_one_function_and_its_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a new file of masks/kinds does, and where the kind then is."""
    monkeypatch.setattr(kinds, "KINDS", dict(kinds.KINDS))
    monkeypatch.setattr(registry, "KINDS", kinds.KINDS)

    @kinds.register_mask(
        kinds.MaskInfo(name="corner", summary="a corner", source="a test", parameters={"side": "1/4"}),
        num_draws=1,
    )
    def draw_corner(draws: kinds.Raw, size: int) -> kinds.Masks:
        """Draw a box in the upper left or right corner."""
        masks = np.zeros((len(draws), size, size), dtype=np.uint8)
        right = seeding.random_integer(draws[:, 0], 0, 2)
        for mask, flip in zip(masks, right, strict=True):
            mask[: size // 4, : size // 4] = 1
            if flip:
                mask[:] = mask[:, ::-1]
        return masks

    assert registry.mask_names()[-1] == "corner"
    masks = registry.draw_masks("corner", IDS, 64)
    assert {float(m.mean()) for m in masks} == {1 / 16}
    assert len({m.tobytes() for m in masks}) == 2
    assert "| `corner` | a corner | side: 1/4 | a test |" in registry.markdown_table()
    assert "corner" in registry.resolve_masks(["all"])
    assert registry.fixed_hole_box("corner", 64) is None
    with pytest.raises(ValueError, match="two masks named 'corner'"):
        kinds.add_kind(kinds.KINDS["corner"])


def test_another_version_of_a_family_redraws_it_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: registry.draw_masks(name, IDS[:4], 64) for name in registry.mask_names()}
    changed = {}
    for name, kind in kinds.KINDS.items():
        info = kind.info
        if kind.draw.__module__ == "masks.kinds.freeform":
            info = dataclasses.replace(info, version=info.version + 1)
        changed[name] = dataclasses.replace(kind, info=info)
    monkeypatch.setattr(registry, "KINDS", changed)
    other = [
        n for n, masks in before.items() if not np.array_equal(registry.draw_masks(n, IDS[:4], 64), masks)
    ]
    assert other == ["freeform"]


def test_the_docs_table_is_the_registry() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "masks.md").read_text(encoding="utf-8")
    assert registry.markdown_table() in page, f"docs/masks.md should hold:\n{registry.markdown_table()}"
