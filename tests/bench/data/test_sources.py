"""Where pictures lie: CelebA's layouts, zips, folders; splits and what a fingerprint sees."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.data import Dataset, DataSpec, open_data
from bench.data.dataset import UNKNOWN, unseen_identities
from bench.data.procedural_faces import render_faces
from bench.data.splits import assign_split
from bench.errors import DataError
from bench.evaluation.evaluator import identities_of

COUNT, PEOPLE = 80, 16
IDS = [f"{i + 1:06d}.jpg" for i in range(COUNT)]
PARTITION = {name: 0 if i < 60 else 1 if i < 68 else 2 for i, name in enumerate(IDS)}
IDENTITY = {name: 100 + i % PEOPLE for i, name in enumerate(IDS)}

Opener = Callable[..., Dataset]


@pytest.fixture
def opened(tmp_path: Path) -> Opener:
    """``open_data`` with a cache of the test's own."""

    def opener(source: Path, **choice: object) -> Dataset:
        spec = {"size": 32, "cache": tmp_path / "cache", **choice}
        return open_data(DataSpec(source=str(source), **spec))  # type: ignore[arg-type]

    return opener


@pytest.fixture(scope="module")
def celeba(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CelebA's official layout as a folder, with procedural faces."""
    root = tmp_path_factory.mktemp("celeba")
    (root / "img_align_celeba").mkdir()
    for name, face in zip(IDS, render_faces(list(range(COUNT)), 64), strict=True):
        Image.fromarray(face).save(root / "img_align_celeba" / name)
    _lists(root)
    return root


@pytest.fixture(scope="module")
def celeba_zip(celeba: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, straight from the zip."""
    root = tmp_path_factory.mktemp("zipped")
    _zip(root / "img_align_celeba.zip", celeba / "img_align_celeba", "img_align_celeba/")
    _lists(root)
    return root


def _lists(root: Path) -> None:
    root.joinpath("list_eval_partition.txt").write_text("".join(f"{k} {v}\n" for k, v in PARTITION.items()))
    root.joinpath("identity_CelebA.txt").write_text("".join(f"{k} {v}\n" for k, v in IDENTITY.items()))


def _zip(path: Path, folder: Path, prefix: str = "") -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for picture in sorted(folder.iterdir(), reverse=True):
            archive.write(picture, prefix + picture.name)


def _ids(data: Dataset) -> list[str]:
    return [*data.train.ids, *data.validation.ids, *data.test.ids]


def test_celeba_folder_and_zip_are_the_same_data(celeba: Path, celeba_zip: Path, opened: Opener) -> None:
    folder, zipped = opened(celeba), opened(celeba_zip)
    assert folder.fingerprint == zipped.fingerprint
    assert [len(s) for s in (folder.train, folder.validation, folder.test)] == [60, 8, 12]
    assert folder.split_name == "official"
    assert folder.name == zipped.name == "celeba"
    assert "non-commercial" in folder.license
    assert folder.train.identities is not None
    assert folder.train.identities.tolist() == [IDENTITY[i] for i in folder.train.ids]
    assert folder.shared_identities == 12  # every person of the test split is in the training split too
    first = np.asarray(
        Image.open(celeba / "img_align_celeba" / IDS[0]).resize((32, 32), Image.Resampling.BICUBIC)
    )
    assert np.array_equal(folder.train.pixels[0], first)
    assert np.allclose(folder.mean_pixel, folder.train.pixels.reshape(-1, 3).mean(axis=0) / 255, rtol=1e-12)


def test_a_person_who_is_not_named_does_not_hide_the_others(
    celeba: Path, tmp_path: Path, opened: Opener
) -> None:
    other = shutil.copytree(celeba, tmp_path / "celeba")
    first = opened(celeba).test.ids[0]
    listed = (other / "identity_CelebA.txt").read_text().splitlines()
    (other / "identity_CelebA.txt").write_text(
        "\n".join(line for line in listed if not line.startswith(first)) + "\n"
    )
    data = opened(other)
    assert data.test.identities is not None
    assert data.test.identities.tolist() == [UNKNOWN, *(IDENTITY[i] for i in data.test.ids[1:])]
    column = identities_of(data.test)
    assert column.isna().tolist() == [True] + [False] * (len(data.test) - 1)
    assert data.shared_images == len(data.test) - 1
    assert UNKNOWN not in (unseen_identities(data.test, data.train) or [])


@pytest.mark.parametrize("where", ["img_align_celeba", "", "Img/img_align_celeba", "celeba"])
def test_every_layout_of_celeba_is_known_as_celeba(
    celeba: Path, tmp_path: Path, opened: Opener, where: str
) -> None:
    root = tmp_path / "data"
    root.mkdir()
    if where.startswith("Img"):
        for folder in ("Img", "Eval", "Anno"):
            (root / folder).mkdir()
        (root / "Img" / "img_align_celeba").symlink_to(celeba / "img_align_celeba")
        (root / "Eval" / "list_eval_partition.txt").symlink_to(celeba / "list_eval_partition.txt")
        (root / "Anno" / "identity_CelebA.txt").symlink_to(celeba / "identity_CelebA.txt")
        given = root
    elif where == "celeba":
        (root / "celeba").symlink_to(celeba)
        given = root
    else:
        given = celeba / where
    data = opened(given)
    assert (data.name, data.split_name, data.shared_identities) == ("celeba", "official", 12)
    assert "non-commercial" in data.license


def test_any_folder_is_searched_recursively(celeba: Path, tmp_path: Path, opened: Opener) -> None:
    root = tmp_path / "mine"
    for i, name in enumerate(IDS):
        place = root / ("a" if i % 2 else "b/c")
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes((celeba / "img_align_celeba" / name).read_bytes())
    (root / "notes.txt").write_text("not a picture")
    (root / "._a.jpg").write_bytes(b"a shadow file of macOS")
    data = opened(root)
    assert sorted(_ids(data)) == sorted(f"{'a' if i % 2 else 'b/c'}/{name}" for i, name in enumerate(IDS))
    assert (data.name, data.split_name, data.skipped) == ("mine", "digest", [])
    assert data.shared_identities is None


def test_zip_entries_that_leave_the_folder_are_skipped_counted_and_named(
    celeba: Path, tmp_path: Path, opened: Opener
) -> None:
    path = tmp_path / "pictures.zip"
    _zip(path, celeba / "img_align_celeba")
    bad = ["../outside.jpg", "/etc/absolute.jpg", "a/../../b.jpg", "C:/drive.jpg"]
    with zipfile.ZipFile(path, "a") as archive:
        for name in bad:
            archive.writestr(name, (celeba / "img_align_celeba" / IDS[0]).read_bytes())
        archive.writestr("__MACOSX/._000001.jpg", b"shadow")
    with pytest.raises(DataError, match=r"4 of 84 pictures.*\.\./outside\.jpg.*--allow-unreadable"):
        opened(path)
    data = opened(path, allow_unreadable=True)
    assert sorted(s.id for s in data.skipped) == sorted(bad)
    assert sorted(_ids(data)) == IDS
    assert not list(tmp_path.glob("**/outside.jpg"))


def test_a_zip_replaced_by_another_is_read_anew(celeba: Path, tmp_path: Path, opened: Opener) -> None:
    path = tmp_path / "pictures.zip"
    _zip(path, celeba / "img_align_celeba")
    before = opened(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("extra.jpg", (celeba / "img_align_celeba" / IDS[5]).read_bytes())
    assert sorted(_ids(opened(path))) == sorted([*_ids(before), "extra.jpg"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable zip"),
        (b"PK\x05\x06 cut short", "not a readable zip"),
        (b"hello", "not a readable zip"),
    ],
)
def test_a_broken_zip_is_one_line(tmp_path: Path, opened: Opener, content: bytes, message: str) -> None:
    (tmp_path / "img_align_celeba.zip").write_bytes(content)
    with pytest.raises(DataError, match=message):
        opened(tmp_path)


def test_an_empty_folder_and_broken_lists_say_where(celeba: Path, tmp_path: Path, opened: Opener) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no pictures"):
        opened(tmp_path / "empty")
    root = tmp_path / "celeba"
    root.mkdir()
    (root / "img_align_celeba").symlink_to(celeba / "img_align_celeba")
    for text, message in [
        ("000001.jpg zero\n", r"list_eval_partition\.txt:1: expected 'NAME NUMBER'"),
        ("000001.jpg 3\n", "000001.jpg is in part 3"),
        (
            "000001.jpg 0\n",
            r"says nothing of 000002\.jpg \(79 in all\); give the whole list, or --split digest",
        ),
    ]:
        (root / "list_eval_partition.txt").write_text(text)
        with pytest.raises(DataError, match=message):
            opened(root)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"crop": "middle"}, "--crop middle: unknown; there are: center"),
        ({"split": "mine"}, "--split mine: unknown; there are: auto"),
        ({"size": 256}, "the center crop has 160 x 160 pixels; give --crop resize"),
    ],
)
def test_impossible_choices_are_refused_before_packing(
    celeba: Path, tmp_path: Path, opened: Opener, choice: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        opened(celeba, **choice)
    assert not (tmp_path / "cache").exists()


def test_identity_split_shares_nobody_and_needs_the_list(
    celeba: Path, tmp_path: Path, opened: Opener
) -> None:
    seeds = [
        seed
        for seed in range(40)
        if set(assign_split(IDS, "identity", partition={}, identities=IDENTITY, seed=seed)[1]) >= {0, 2}
    ]
    data = opened(celeba, split="identity", split_seed=seeds[0])
    assert data.shared_identities == 0
    assert sorted(_ids(data)) == IDS
    paper = opened(celeba, split="paper")
    assert paper.shared_identities is not None
    assert paper.shared_identities > 0  # what a random split leaks
    (tmp_path / "alone").mkdir()
    for name in IDS:
        (tmp_path / "alone" / name).symlink_to(celeba / "img_align_celeba" / name)
    with pytest.raises(DataError, match=r"identity_CelebA\.txt"):
        opened(tmp_path / "alone", split="identity")


@pytest.mark.parametrize("split", ["paper", "identity", "digest", "official"])
def test_a_subset_keeps_its_splits(split: str) -> None:
    ids = [f"{i:06d}.jpg" for i in range(1, 3001)]
    facts = {"partition": dict.fromkeys(ids, 1), "identities": {name: i % 300 for i, name in enumerate(ids)}}
    _, whole = assign_split(ids, split, **facts, seed=3)  # type: ignore[arg-type]
    _, part = assign_split(ids[::-7], split, **facts, seed=3)  # type: ignore[arg-type]
    assert part == whole[::-7]


@pytest.mark.parametrize(("split", "shares"), [("paper", (0.855, 0.045, 0.1)), ("digest", (0.9, 0.05, 0.05))])
def test_shares_of_the_seeded_splits(split: str, shares: tuple[float, ...]) -> None:
    ids = [f"{i:06d}.jpg" for i in range(20000)]
    first, second = (
        np.array(assign_split(ids, split, partition={}, identities={}, seed=s)[1]) for s in (0, 1)
    )
    # Four standard deviations of a binomial share at 20,000.
    for part, share in enumerate(shares):
        assert abs((first == part).mean() - share) < 4 * np.sqrt(share * (1 - share) / 20000)
    # Another seed is another, independent split.
    both, one = ((first == 2) & (second == 2)).mean(), shares[2] ** 2
    assert abs(both - one) < 4 * np.sqrt(one / 20000)


def test_splits_are_the_published_ones() -> None:
    """Golden: a change here changes everybody's test set."""
    ids = [f"{i:06d}.jpg" for i in range(1, 41)]
    name, parts = assign_split(ids, "paper", partition={}, identities={}, seed=0)
    assert name == "paper"
    assert "".join(map(str, parts)) == "2200000000000000000000200000000010000000"


def test_the_fingerprint_sees_pixels_crop_size_split_and_not_the_order_of_listing(
    celeba: Path, tmp_path: Path, opened: Opener
) -> None:
    folder = tmp_path / "copy"
    folder.mkdir()
    for name in reversed(IDS):
        (folder / name).write_bytes((celeba / "img_align_celeba" / name).read_bytes())
    (tmp_path / "other").mkdir()
    for name in IDS:
        (tmp_path / "other" / name).write_bytes((celeba / "img_align_celeba" / name).read_bytes())
    one = opened(folder).fingerprint
    assert opened(tmp_path / "other").fingerprint == one
    changed = [opened(folder, size=48).fingerprint, opened(folder, crop="resize").fingerprint]
    changed.append(opened(folder, split="paper").fingerprint)
    pixels = np.asarray(Image.open(folder / IDS[7])).copy()
    pixels[20:40, 20:40, 0] ^= 64
    Image.fromarray(pixels).save(folder / IDS[7])
    changed.append(opened(folder).fingerprint)
    (folder / IDS[7]).rename(folder / "renamed.jpg")
    changed.append(opened(folder).fingerprint)
    assert len({one, *changed}) == 6


def test_duplicates_across_splits_are_reported(celeba: Path, tmp_path: Path, opened: Opener) -> None:
    root = tmp_path / "celeba"
    (root / "img_align_celeba").mkdir(parents=True)
    _lists(root)
    for name in IDS:
        (root / "img_align_celeba" / name).write_bytes((celeba / "img_align_celeba" / name).read_bytes())
    copied = root / "img_align_celeba"
    (copied / IDS[70]).write_bytes((copied / IDS[3]).read_bytes())  # test = training: told
    (copied / IDS[5]).write_bytes((copied / IDS[4]).read_bytes())  # training = training: no matter
    assert opened(root).duplicates == [(IDS[3], IDS[70])]


@pytest.mark.long
def test_real_celeba(celeba_dir: Path, opened: Opener) -> None:
    data = opened(celeba_dir)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [12000, 500, 1500]
    assert (data.name, data.split_name, data.skipped) == ("celeba", "official", [])
    assert data.shared_identities == 0
    # Faces are centred: the mean picture is warmer and brighter in the middle than at its left and right border.
    middle, border = data.mean_image[8:24, 10:22], data.mean_image[8:24, [0, 31]]
    assert middle.mean() > border.mean()
    assert data.mean_pixel[0] > data.mean_pixel[1] > data.mean_pixel[2]
