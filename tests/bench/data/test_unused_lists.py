"""Lists that are seen around images and not used are named, whatever they are and wherever they lie."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from bench.data.sources import find_source
from bench.errors import DataError
from tests.bench.data.celeba_replicas import IDS, PART, images, some, text_lists, zipped

#: Where a list may lie, from the folder around that of the images.
PLACES = [
    "", "Eval", "Anno", "Eval (1)", "Eval/Eval", "lists", "annotations", "CelebA lists", "list_eval_partition",
    "list_eval_partition.csv", "list_eval_partition.txt (1)",
]  # fmt: skip
#: Of these, where lists are read beside their images.
READ_FROM = ("", "Eval", "Anno", "list_eval_partition.csv")
#: What a list may be: its name, or what is made of it.
FORMS = [
    "list_eval_partition.txt", "list_eval_partition.csv", "List-Eval-Partition (1).csv",
    "list_eval_partition.txt.txt", "list_eval_partition.csv.gz", "list_eval_partition.xlsx",
    ".list_eval_partition.txt.icloud", "broken link", "link to itself", "garbage", "zip of lists", "zip of one",
]  # fmt: skip


def _put_list(folder: Path, form: str) -> str:
    """Put a list of the split into a folder; returns what a note must hold of it."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "list_eval_partition.txt"
    rows = "".join(f"{name} {part}\n" for name, part in PART.items())
    if "link" in form:
        file.symlink_to(file.name if "itself" in form else "nowhere")
    elif form == "garbage":
        file.write_bytes(bytes(range(256)) * 3)
    elif "zip" in form:
        packed = folder / ("lists.zip" if "lists" in form else f"{file.name}.zip")
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr(file.name, rows)
        return packed.name
    else:
        file = folder / form
        text = rows.replace(" ", ",") if form.endswith(".csv") else rows
        file.write_bytes(b"packed" if form.endswith((".gz", ".xlsx", ".icloud")) else text.encode())
    return file.name


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "given",
    ["root", "img_align_celeba", "pictures", "img_align_celeba.zip", "pictures.zip", "a zip in a folder"],
)
def test_every_list_in_sight_is_read_or_named(tmp_path: Path, given: str, form: str) -> None:
    """Wherever it lies and whatever it is, and whatever of the download the user names."""
    for number, place in enumerate(PLACES):
        root = tmp_path / str(number)
        folder = images(root / ("pictures" if "pictures" in given else "img_align_celeba"))
        if "zip" in given:
            inner = root / "downloads" if given == "a zip in a folder" else root
            inner.mkdir(exist_ok=True)
            zipped(folder, inner / ("pictures.zip" if "pictures" in given else "img_align_celeba.zip"))
            shutil.rmtree(folder)
        told = _put_list(root / place, form)
        target = {"root": root, "a zip in a folder": root / "downloads"}.get(given, root / given)
        around = place in READ_FROM and given not in ("pictures", "a zip in a folder")
        if form == "garbage" and (around or given == "root"):
            with pytest.raises(DataError, match=told):
                find_source(target)
            continue
        found = find_source(target)
        assert found.ids == IDS
        assert found.partition == PART or any(told in note for note in found.notes), (place, found.notes)


@pytest.mark.parametrize("place", ["", "Eval", "lists", "list_eval_partition.txt"])
@pytest.mark.parametrize("form", FORMS)
def test_lists_around_pictures_that_have_none_are_nobodys(tmp_path: Path, place: str, form: str) -> None:
    some(tmp_path / "holidays", ["a.jpg", "b.jpg"])
    _put_list(tmp_path / place, form)
    assert not find_source(tmp_path / "holidays").notes


@pytest.mark.parametrize("inner", ["", "Img"])
def test_lists_beside_a_link_and_beside_what_it_leads_to_are_compared(tmp_path: Path, inner: str) -> None:
    elsewhere = images(tmp_path / "disk" / "CelebA" / inner / "img_align_celeba")
    text_lists(tmp_path / "disk" / "CelebA")
    root = tmp_path / "celeba"
    root.mkdir()
    (root / "img_align_celeba").symlink_to(elsewhere)
    notes = find_source(root).notes
    assert any("CelebA/list_eval_partition.txt lies beside this folder and is not read" in n for n in notes)
    shutil.copy(tmp_path / "disk" / "CelebA" / "list_eval_partition.txt", root)
    assert not any("list_eval_partition" in note for note in find_source(root).notes)
    (root / "list_eval_partition.txt").write_text("".join(f"{k} {2 - v}\n" for k, v in PART.items()))
    notes = find_source(root).notes
    assert any("beside this folder" in n and "only the list with the pictures is read" in n for n in notes)
    assert find_source(root).partition == {k: 2 - v for k, v in PART.items()}


def test_a_zip_of_lists_beside_a_zip_that_says_something_else_is_named(tmp_path: Path) -> None:
    archive = zipped(images(tmp_path / "img_align_celeba"), tmp_path / "img_align_celeba.zip")
    shutil.rmtree(tmp_path / "img_align_celeba")
    text_lists(tmp_path)
    with zipfile.ZipFile(tmp_path / "Eval.zip", "w") as packed:
        packed.write(tmp_path / "list_eval_partition.txt", "list_eval_partition.txt")
    assert not [note for note in find_source(archive).notes if "Eval.zip" in note]
    with zipfile.ZipFile(tmp_path / "Eval.zip", "w") as packed:
        packed.writestr("list_eval_partition.txt", "".join(f"{k} {2 - v}\n" for k, v in PART.items()))
    (note,) = [note for note in find_source(archive).notes if "Eval.zip" in note]
    assert f"says {2 - PART[IDS[0]]} of {IDS[0]}" in note
