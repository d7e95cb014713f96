"""CelebA before its alignment is a data set of its own, told from the aligned one by names of folders and by sizes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from bench.data.sources import find_source
from masks.file_names import folder_of
from tests.bench.data.celeba_replicas import (
    COUNT,
    IDS,
    PART,
    images,
    some,
    text_lists,
    zipped,
)


@pytest.mark.parametrize("around", ["img_align_celeba", "img_align_celeba_png", "a/img_align_celeba/b"])
@pytest.mark.parametrize("aligned", [False, True])
def test_the_inner_name_counts_whichever_folder_is_given(tmp_path: Path, around: str, aligned: bool) -> None:
    """``aligned``: there are aligned ones in a folder of their own, too."""
    wild = images(tmp_path / around / "img_celeba")
    if aligned:
        some(tmp_path / around / "img_align_celeba", IDS[:9])
    text_lists(tmp_path)
    (tmp_path / "zipped").mkdir()
    packed = zipped(tmp_path, tmp_path / "zipped" / "archive.zip")
    for given in (tmp_path, tmp_path / around, packed):
        found = find_source(given)
        assert found.kind.name == ("celeba" if aligned else "celeba-in-the-wild"), given
        assert found.ids == (IDS[:9] if aligned else IDS)
    assert find_source(wild).kind.name == "celeba-in-the-wild"


@pytest.mark.parametrize("folder", ["img_celeba.zip", "CelebA_in_the_wild", "raw"])
@pytest.mark.parametrize("as_zip", [False, True])
def test_images_of_any_size_are_not_the_aligned_ones(tmp_path: Path, folder: str, as_zip: bool) -> None:
    """In a folder whose name does not say it: before the alignment every image has a size of its own."""
    root = tmp_path / "celeba"
    (root / folder).mkdir(parents=True)
    for k, name in enumerate(IDS):
        Image.new("RGB", (40 + k, 60 + k // 2)).save(root / folder / name)
    text_lists(root)
    (root / folder / IDS[3]).write_bytes(b"damaged")
    found = find_source(zipped(root, tmp_path / "archive.zip") if as_zip else root)
    assert (found.kind.name, found.ids, found.partition) == ("celeba-in-the-wild", IDS, PART)
    # Copies of one size are the aligned ones, made smaller.
    for name in IDS:
        Image.new("RGB", (64, 64)).save(root / folder / name)
    assert find_source(root).kind.name == "celeba"


MADE = [
    "_256",
    "-256x256",
    "_64",
    " 128px",
    "_png",
    "_resized",
    "_resized_256",
    "_crop",
    "_CenterCrop",
    "_small_jpg",
]


@pytest.mark.parametrize("suffix", MADE)
@pytest.mark.parametrize("given", ["", "img_celeba{}", "img_celeba{}.zip", "archive.zip"])
@pytest.mark.parametrize("divided", [False, True])
def test_copies_of_one_size_of_the_images_before_the_alignment_are_told_by_their_folder(
    tmp_path: Path, suffix: str, given: str, divided: bool
) -> None:
    root = tmp_path / "CelebA"
    folder = root / "Img" / f"img_celeba{suffix}"
    parts = {"train": 0, "val": 1, "test": 2} if divided else {".": None}
    for name, part in parts.items():
        some(folder / name, [i for i in IDS if part is None or PART[i] == part])
    text_lists(folder if given == "img_celeba{}" else root / "Eval")
    place = folder if given == "img_celeba{}" else root
    if given == "img_celeba{}.zip":
        place = zipped(folder, root / "Img" / f"{folder.name}.zip").parent.parent
        shutil.rmtree(folder)
    elif given == "archive.zip":
        place = zipped(root, tmp_path / given)
    found = find_source(place)
    assert (found.kind.name, found.ids, found.partition) == ("celeba-in-the-wild", IDS, PART)


@pytest.mark.parametrize(
    ("aligned", "wild", "kind"),
    [(COUNT, COUNT, "celeba"), (COUNT, 3, "celeba"), (COUNT - 3, COUNT, "celeba-in-the-wild")],
)
@pytest.mark.parametrize("name", ["img_align_celeba_128", "faces"])
def test_of_copies_of_both_the_aligned_ones_are_used_unless_they_are_fewer(
    tmp_path: Path, name: str, aligned: int, wild: int, kind: str
) -> None:
    some(tmp_path / name, IDS[:aligned])
    some(tmp_path / "img_celeba_128", IDS[:wild])
    text_lists(tmp_path)
    found = find_source(tmp_path)
    used, of = ("img_celeba_128", wild) if "wild" in kind else (name, aligned)
    assert (found.kind.name, found.ids) == (kind, IDS[:of])
    assert {folder_of(path) for path in found.paths.values()} == {used}
    assert any("not used" in note and f"those in {used}/ are" in note for note in found.notes), found.notes


@pytest.mark.parametrize("name", ["img_celeba_faces", "img_celeba_project/images", "my_img_celeba_256"])
def test_other_folders_that_are_called_after_the_images_before_the_alignment_are_told_by_sizes(
    tmp_path: Path, name: str
) -> None:
    images(tmp_path / name)
    text_lists(tmp_path)
    assert find_source(tmp_path).kind.name == "celeba"


@pytest.mark.parametrize("inner", ["", "img_celeba"])
def test_celeba_before_its_alignment_is_another_data_set(tmp_path: Path, inner: str) -> None:
    images(tmp_path / "Img" / "img_celeba")
    text_lists(tmp_path / "Img")
    source = find_source(tmp_path / "Img" / inner)
    assert (source.name, source.kind.claims_dataset, source.kind.aligned_faces) == (
        "celeba-in-the-wild",
        False,
        False,
    )
    assert "non-commercial" in source.kind.license
    assert source.partition == PART
