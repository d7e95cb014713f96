"""What lies beside images and is not used is named, and changes no id."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from bench.data.sources import find_source
from bench.data.sources.base import FoundImages
from bench.errors import DataError
from tests.bench.data.celeba_replicas import (
    IDS,
    PART,
    WHO,
    Opener,
    csv_lists,
    images,
    kaggle,
    some,
    text_lists,
    zipped,
)

#: Pictures and archives that are not read.
OTHER_FORMATS = ["b.jfif", "b.heic", "b.avif", "b.JXL", "b.npy", "b", "sub/b.tga", "more.zip", "more.7z"]


@pytest.mark.parametrize("other", OTHER_FORMATS)
@pytest.mark.parametrize("place", ["folder", "zip", "lone zip", "celeba's folder", "celeba's zip"])
def test_pictures_of_other_formats_are_named_and_change_no_id(tmp_path: Path, other: str, place: str) -> None:
    """``more.zip`` holds another picture, so that beside a folder it is named for that."""
    root = tmp_path / "root" / ("img_align_celeba" if "celeba" in place else "faces")
    images(root)

    def placed(name: str) -> FoundImages:
        where = root
        if "zip" in place:
            where = tmp_path / name / {"celeba's zip": "img_align_celeba.zip"}.get(place, "faces.zip")
            where.parent.mkdir()
            zipped(root, where)
        return find_source(where.parent if place in ("lone zip", "celeba's zip") else where)

    before = placed("before")
    assert not [note for note in before.notes if "not read" in note]
    (root / other).parent.mkdir(exist_ok=True)
    if other == "more.zip":
        some(tmp_path / "other", ["other.jpg"])
        zipped(tmp_path / "other", root / other)
    else:
        shutil.copy(root / IDS[0], root / other)
    for document in ("README.md", "Thumbs.db", "labels.json"):
        (root / document).write_text("x")
    after = placed("after")
    assert (after.ids, after.partition) == (before.ids, before.partition)
    (note,) = [note for note in after.notes if other in note]
    beside = other == "more.zip" and "zip" not in place
    assert (
        "not used, and holds 1 picture that" if beside else "not read, since they are none of JPEG"
    ) in note
    assert not [note for note in after.notes if "README" in note or "Thumbs" in note or "labels" in note]


@pytest.mark.parametrize("other", ["b.heic", "._b.png", "b.png", "b.zip"])
def test_what_lies_beside_a_zip_that_is_taken_is_named(tmp_path: Path, other: str) -> None:
    folder = images(tmp_path / "img_align_celeba")
    zipped(folder, tmp_path / "root.zip")
    (tmp_path / "root").mkdir()
    shutil.move(tmp_path / "root.zip", tmp_path / "root" / "img_align_celeba.zip")
    assert not [note for note in find_source(tmp_path / "root").notes if "beside" in note]
    shutil.copy(folder / IDS[0], tmp_path / "root" / other)
    found = find_source(tmp_path / "root")
    assert found.ids == IDS
    (note,) = [note for note in found.notes if "beside img_align_celeba.zip" in note]
    assert other in note


@pytest.mark.parametrize("as_zip", [False, True])
def test_a_place_without_pictures_names_what_it_holds(tmp_path: Path, as_zip: bool) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for name in ("a.heic", "b.jfif", "._c.png", "list.txt"):
        (root / name).write_bytes(b"x")
    place = zipped(root, tmp_path / "root.zip") if as_zip else root
    with pytest.raises(DataError, match=r"left out: \._c\.png \(hidden\); not read, .*: a\.heic, b\.jfif$"):
        find_source(place)


def test_too_few_pictures_are_refused_with_what_was_not_read(tmp_path: Path, opened: Opener) -> None:
    root = some(tmp_path / "few", ["a.jpg"])
    shutil.copy(root / "a.jpg", root / "b.heic")
    with pytest.raises(DataError, match=r"split is empty \(1 pictures\); not read, .*b\.heic"):
        opened(root)


@pytest.mark.parametrize("project", ["celebahq", "celeba-hq", "CelebA_HQ_256"])
@pytest.mark.parametrize("inner", ["", "images"])
def test_celeba_in_a_project_called_after_celeba_hq_is_known_by_its_own_list(
    tmp_path: Path, opened: Opener, project: str, inner: str
) -> None:
    root = tmp_path / project / "celeba"
    images(root / inner)
    text_lists(root)
    assert find_source(root).kind.name == "celeba"
    assert opened(root).split_name == "official"
    # With the mapping beside it, or under its own name, it stays what it is.
    assert find_source(some(tmp_path / project / "copy", ["00001.jpg", "00002.jpg"])).kind.name == "celeba-hq"


@pytest.mark.parametrize(
    ("header", "row", "says"),
    [
        ("image_id,partition,identity", "{0},{1},{2}", None),
        ("image_id,identity,partition", "{0},{2},{1}", None),
        ("image_id,split,person", "{0},{1},{2}", None),
        ("image_id,a,b", "{0},{1},{2}", ":1: has the columns a, b, of which none is 'partition' or 'split'"),
        ("image_id,split,partition", "{0},{1},{1}", "several is 'partition' or 'split'"),
    ],
)
def test_of_several_columns_the_one_that_is_meant_is_read(
    tmp_path: Path, header: str, row: str, says: str | None
) -> None:
    images(tmp_path / "root" / "img_align_celeba")
    text = "\n".join([header, *(row.format(i, PART[i], WHO[i]) for i in IDS)])
    for name in ("list_eval_partition.csv", "identity_CelebA.csv"):
        (tmp_path / "root" / name).write_text(text)
    if says is None:
        found = find_source(tmp_path / "root")
        assert (found.partition, found.identities) == (PART, WHO)
    else:
        with pytest.raises(DataError, match=says):
            find_source(tmp_path / "root")


@pytest.mark.parametrize("named", ["img_align_celeba", "celeba"])
@pytest.mark.parametrize("parts", [("train", "val", "test"), ("Training", "Testing")])
def test_folders_that_look_like_a_split_are_said_not_to_be_one(
    tmp_path: Path, named: str, parts: tuple[str, ...]
) -> None:
    for number, part in enumerate(parts):
        folder = images(tmp_path / "root" / named / part)
        for image in IDS[: 8 * number] + IDS[8 * number + 8 :]:
            (folder / image).unlink()
    notes = find_source(tmp_path / "root").notes
    assert any("are not taken as a split" in note and all(p in note for p in parts) for note in notes)
    images(tmp_path / "other" / "train")
    assert not any("not taken as a split" in note for note in find_source(tmp_path / "other").notes)


@pytest.mark.parametrize("where", ["", "Eval"])
def test_a_list_beside_a_folder_of_another_name_is_said(tmp_path: Path, where: str) -> None:
    images(tmp_path / "celeba" / "pictures")
    text_lists(tmp_path / "celeba" / where)
    notes = find_source(tmp_path / "celeba" / "pictures").notes
    assert any("list_eval_partition.txt lies beside this folder and is not read" in note for note in notes)
    # A list of other images is nobody's here.
    some(tmp_path / "celeba" / "others", ["a.jpg", "b.jpg"])
    assert not any("lies beside" in note for note in find_source(tmp_path / "celeba" / "others").notes)


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        ((), "list_eval_partition.csv, identity_CelebA.csv"),
        (("list_eval_partition.csv",), "identity_CelebA.csv"),
        (("identity_CelebA.csv",), "list_eval_partition.csv"),
        (("identity_CelebA.csv", "list_eval_partition.csv"), None),
    ],
)
def test_a_list_that_lies_only_in_a_zip_beside_the_images_is_said(
    tmp_path: Path, beside: tuple[str, ...], said: str | None
) -> None:
    """Images moved out of a download, and the download kept: its lists are seen and not used."""
    whole = kaggle(tmp_path / "whole")
    csv_lists(whole)
    (whole / "list_attr_celeba.csv").unlink()
    root = images(tmp_path / "root" / "img_align_celeba").parent
    zipped(whole, root / "archive.zip")
    for name in beside:
        shutil.copy(whole / name, root / name)
    told = f"archive.zip holds {said}; it is not read: to use it, unpack it beside the pictures"
    assert [note for note in find_source(root).notes if "archive.zip" in note] == ([told] if said else [])


@pytest.mark.parametrize("name", ["img_align_celeba", "archive", "my faces.v2"])
def test_a_folder_that_was_unpacked_in_part_names_the_zip_beside_it(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    images(root)
    archive = zipped(root, tmp_path / f"{name}.zip")
    whole = find_source(root)
    assert not [note for note in whole.notes if archive.name in note]
    for lost in IDS[::3]:
        (root / lost).unlink()
    part = find_source(root)
    (note,) = [note for note in part.notes if archive.name in note]
    assert note.startswith(f"../{archive.name} is not used")
    assert f"holds {len(IDS[::3])} pictures that the folder beside it lacks" in note
    assert part.ids == [image_id for image_id in IDS if image_id not in IDS[::3]]


@pytest.mark.parametrize("content", [b"", b"PK damaged"])
def test_a_damaged_zip_of_a_folders_name_beside_it_stops_nothing(tmp_path: Path, content: bytes) -> None:
    root = images(tmp_path / "faces")
    before = find_source(root)
    (tmp_path / "faces.zip").write_bytes(content)
    after = find_source(root)
    assert after.ids == before.ids
    assert [note for note in after.notes if note not in before.notes] == [
        "../faces.zip is not used: it is no readable zip"
    ]


def test_zips_of_one_name_in_a_folder_and_beside_it_are_both_named(tmp_path: Path) -> None:
    root = images(tmp_path / "faces")
    for place in (root, tmp_path):
        (place / "faces.zip").write_bytes(b"PK damaged")
    damaged = [note for note in find_source(root).notes if "no readable zip" in note]
    assert [note.split()[0] for note in damaged] == ["faces.zip", "../faces.zip"]


@pytest.mark.parametrize("stem", ["list_eval_partition", "identity_CelebA", "list_attr_celeba"])
@pytest.mark.parametrize("content", ["", "\ufeff", "\n \n", "image_id,partition\n"])
@pytest.mark.parametrize("place", ["with the images", "above", "beside a zip"])
def test_an_empty_list_is_named_and_says_nothing(tmp_path: Path, stem: str, content: str, place: str) -> None:
    """As a download that broke off leaves it."""
    root = tmp_path / "celeba"
    folder = images(root / "img_align_celeba")
    given = {"with the images": root, "above": folder, "beside a zip": root}[place]
    if place == "beside a zip":
        zipped(folder, root / "img_align_celeba.zip", "img_align_celeba/")
        shutil.rmtree(folder)
    (root / f"{stem}.txt").write_text(content, encoding="utf-8")
    source = find_source(given)
    assert not source.attributes
    (note,) = [note for note in source.notes if "says nothing of these pictures" in note]
    assert f"{stem}.txt is not used" in note
    # Beside a whole list it is named still, and the whole one is read.
    csv_lists(root)
    source = find_source(given)
    assert (source.partition, source.identities, set(source.attributes)) == (PART, WHO, {"Male", "Smiling"})
    (note,) = source.notes
    assert f"{stem}.txt is not used" in note


@pytest.mark.parametrize("kind", ["broken link", "itself", "pipe", "Anno"])
@pytest.mark.parametrize("hidden", [1, 3, 30])
def test_a_list_that_cannot_be_read_is_named_whatever_is_hidden(
    tmp_path: Path, kind: str, hidden: int
) -> None:
    """A Mac leaves a hidden file beside each picture on a disk of another system, and they come first by name."""
    root = images(tmp_path / "celeba" / "img_align_celeba").parent
    for i in range(hidden):
        (root / f"._{i:06d}.jpg").write_bytes(b"fork")
    broken = (
        [root / "Anno"] if kind == "Anno" else [root / "identity_CelebA.txt", root / "list_attr_celeba.txt"]
    )
    for path in broken:
        if kind == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to(path.name if kind == "itself" else "/nowhere/at/all")
    notes = find_source(root).notes
    for path in broken:
        assert [note for note in notes if note.startswith(f"left out: {path.name} (")], notes
    assert [note for note in notes if "._000000.jpg (hidden)" in note]


def test_what_cannot_be_read_is_named_before_what_is_hidden(tmp_path: Path) -> None:
    root = images(tmp_path / "faces")
    for i in range(9):
        (root / f"._{i}.jpg").write_bytes(b"fork")
    (root / "zz").symlink_to("/nowhere/photos")
    (note,) = find_source(root).notes
    assert note == "left out: zz (a broken link), ._0.jpg (hidden), ._1.jpg (hidden) and 7 more"


def test_attributes_of_some_pictures_say_of_how_many_they_say_nothing(tmp_path: Path) -> None:
    root = kaggle(tmp_path / "celeba")
    lines = (root / "list_attr_celeba.csv").read_text().splitlines()
    (root / "list_attr_celeba.csv").write_text("\n".join(lines[:11]))
    (note,) = find_source(root).notes
    assert note == f"the list of attributes says nothing of {len(IDS) - 10} of {len(IDS)} pictures"


def test_of_two_pictures_of_one_name_the_note_says_which_is_used(tmp_path: Path) -> None:
    root = some(tmp_path / "faces", ["a.jpg"])
    shutil.copy(root / "a.jpg", root / os.fsdecode(b"caf\xe9.jpg"))
    shutil.copy(root / "a.jpg", root / "caf%E9.jpg")
    notes = find_source(root).notes
    assert "left out: caf\\udce9.jpg, since caf%E9.jpg is called caf%E9.jpg already" in notes


@pytest.mark.parametrize("above", ["archive.zip", "img_align_celeba.zip"])
@pytest.mark.parametrize("folder", ["img_align_celeba", "img_align_celeba/img_align_celeba"])
def test_a_download_above_the_inner_folder_is_named_where_it_holds_more(
    tmp_path: Path, above: str, folder: str
) -> None:
    """Kaggle's download, unpacked in part, of which the user names the folder that holds the pictures."""
    whole = kaggle(tmp_path / "whole")
    archive = tmp_path / "celeba" / above
    archive.parent.mkdir()
    zipped(whole, archive)
    # Of other data, as anybody's folder of downloads holds.
    zipped(some(tmp_path / "other", ["x.jpg", "y.jpg"]), archive.parent / "other.zip")
    (archive.parent / "broken.zip").write_bytes(b"PK")
    place = archive.parent / folder
    place.mkdir(parents=True)
    for name in IDS[:3]:
        shutil.copy(next(whole.rglob(name)), place)
    found = find_source(place)
    assert found.ids == IDS[:3]
    note, lists = [note for note in found.notes if ".zip" in note]
    assert f"{above} holds list_eval_partition.csv, identity_CelebA.csv, list_attr_celeba.csv; it " in lists
    assert (
        f"../{above} is not used, and holds {len(IDS) - 3} pictures that the folder beside it lacks" in note
    )
    # Whole, it is no news.
    for name in IDS:
        shutil.copy(next(whole.rglob(name)), place)
    assert not [note for note in find_source(place).notes if "lacks" in note]


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("Copy of list_eval_partition.csv", "rename"),
        ("list-eval-partition.txt", "rename"),
        ("my list_eval_partition (1).txt", "rename"),
        ("LIST EVAL PARTITION.CSV", "rename"),
        ("list_eval_partition.xlsx", "save"),
        ("list_eval_partition.parquet", "save"),
        ("list_eval_partition.txt.gz", "unpack"),
    ],
)
@pytest.mark.parametrize("named", ["celeba", "celeba/img_align_celeba"])
def test_a_list_under_another_name_is_named_with_what_makes_it_one(
    tmp_path: Path, name: str, way: str, named: str
) -> None:
    images(tmp_path / "celeba" / "img_align_celeba")
    (tmp_path / "celeba" / name).write_text("".join(f"{k} {v}\n" for k, v in PART.items()))
    notes = find_source(tmp_path / named).notes
    (note,) = [note for note in notes if name in note]
    assert f"is not read: to use it, {way} it, as list_eval_partition.txt or .csv" in note


@pytest.mark.parametrize("named", ["celeba", "celeba/img_align_celeba"])
def test_a_list_that_windows_unpacked_into_a_folder_of_its_name_is_read(tmp_path: Path, named: str) -> None:
    images(tmp_path / "celeba" / "img_align_celeba")
    for stem, values in (("list_eval_partition", PART), ("identity_CelebA", WHO)):
        inner = tmp_path / "celeba" / f"{stem}.csv"
        inner.mkdir()
        (inner / f"{stem}.csv").write_text("image_id,x\n" + "".join(f"{k},{v}\n" for k, v in values.items()))
    found = find_source(tmp_path / named)
    assert (found.partition, found.identities) == (PART, WHO)


@pytest.mark.parametrize(
    "outputs", ["a_results/img_align_celeba", "img_align_celeba_png", "img_align_celeba/0"]
)
@pytest.mark.parametrize("few", [3, None])
def test_outputs_of_the_same_names_are_not_taken_for_the_data(
    tmp_path: Path, outputs: str, few: int | None
) -> None:
    """Whatever their folder's name sorts before, and whether there are as many or fewer."""
    data = tmp_path / "celeba" / "img_align_celeba"
    images(data)
    other = tmp_path / "celeba" / outputs
    other.mkdir(parents=True)
    for name in IDS[:few]:
        shutil.copy(data / name, other / (f"{name[:-4]}.png" if "png" in outputs else name))
    found = find_source(tmp_path / "celeba")
    assert set(found.paths.values()) == {f"img_align_celeba/{name}" for name in IDS}
    assert any(f"{few or len(IDS)} pictures are not used: {outputs}/" in note for note in found.notes)


def test_a_few_jpegs_replace_no_whole_folder_of_png(tmp_path: Path) -> None:
    jpegs = images(tmp_path / "celeba" / "outputs" / "img_align_celeba")
    png = tmp_path / "celeba" / "img_align_celeba_png"
    png.mkdir()
    for name in IDS:
        shutil.copy(jpegs / name, png / f"{name[:-4]}.png")
    for name in IDS[3:]:
        (jpegs / name).unlink()
    found = find_source(tmp_path / "celeba")
    assert found.ids == IDS
    assert {path.split("/")[0] for path in found.paths.values()} == {"img_align_celeba_png"}


@pytest.mark.parametrize("says", ["-1", "0"])
def test_attributes_with_zero_for_minus_one_do_not_contradict(tmp_path: Path, says: str) -> None:
    root = images(tmp_path / "celeba")
    for name, no in (("list_attr_celeba.txt", "-1"), ("list_attr_celeba.csv", says)):
        lines = [f"{k} {1 if i % 2 else no}" for i, k in enumerate(IDS)]
        (root / name).write_text("image_id Smiling\n" + "\n".join(lines) + "\n")
    text_lists(root)
    assert find_source(root).attributes["Smiling"] == {k: bool(i % 2) for i, k in enumerate(IDS)}


@pytest.mark.parametrize("through", ["", "elsewhere/"])
@pytest.mark.parametrize("leads", ["..", "../..", "/"])
def test_a_link_to_a_folder_around_the_pictures_is_left_out(tmp_path: Path, through: str, leads: str) -> None:
    """Wine's ``z:`` leads to the whole machine; what lies beside the pictures is not among them."""
    root = some(tmp_path / "a" / "pictures", ["1.jpg", "2.jpg"])
    some(tmp_path / "a" / "beside", ["3.jpg"])
    place = root
    if through:
        place = tmp_path / "elsewhere"
        place.mkdir()
        (root / "elsewhere").symlink_to(place)
    (place / "z:").symlink_to("/" if leads == "/" else (root / leads).resolve())
    found = find_source(root)
    assert found.ids == ["1.jpg", "2.jpg"]
    (note,) = found.notes
    assert f"{through}z: (a link to a folder around this one)" in note


@pytest.mark.parametrize("inner", ["results", "masks", "zz/deeper"])
@pytest.mark.parametrize("folder", ["img_align_celeba", "faces"])
def test_results_for_images_that_the_data_lack_are_not_taken_for_them(
    tmp_path: Path, inner: str, folder: str
) -> None:
    """Of a folder most of whose names are the data's, what is left over is a program's output too."""
    root = images(tmp_path / "celeba" / folder)
    text_lists(tmp_path / "celeba")
    (root / inner).mkdir(parents=True)
    for name in IDS[:12]:
        shutil.copy(root / name, root / inner / f"{name[:-4]}.png")
    for name in IDS[9:12]:
        (root / name).unlink()
    found = find_source(tmp_path / "celeba")
    assert found.ids == [name for name in IDS if name not in IDS[9:12]]
    assert not [path for path in found.paths.values() if inner in path]
    assert any("12 pictures are not used" in note and inner in note for note in found.notes)


@pytest.mark.parametrize("inner", ["masks", "part2"])
def test_pictures_from_several_folders_are_said_to_be(tmp_path: Path, inner: str) -> None:
    """Without a name in common nobody can tell a second part of the data from masks of other images."""
    root = images(tmp_path / "celeba" / "img_align_celeba")
    text_lists(tmp_path / "celeba")
    (root / inner).mkdir()
    for name in IDS[:5]:
        (root / name).rename(root / inner / name)
    found = find_source(tmp_path / "celeba")
    assert found.ids == IDS
    few, many = f"img_align_celeba/{inner} (5)", f"img_align_celeba ({len(IDS) - 5})"
    assert f"the pictures lie in 2 folders, and all of them are used: {many}, {few}" in found.notes


@pytest.mark.parametrize("named", ["celeba", "celeba/img_align_celeba"])
def test_a_zip_of_lists_alone_is_named_wherever_the_user_points(tmp_path: Path, named: str) -> None:
    images(tmp_path / "celeba" / "img_align_celeba")
    (tmp_path / "lists").mkdir()
    text_lists(tmp_path / "lists")
    zipped(tmp_path / "lists", tmp_path / "celeba" / "Eval.zip")
    (note,) = [note for note in find_source(tmp_path / named).notes if "Eval.zip" in note]
    assert "is not read: to use it, unpack it beside the pictures" in note


def test_an_empty_folder_beside_the_zip_of_its_name_says_so(tmp_path: Path) -> None:
    (tmp_path / "celeba" / "img_align_celeba").mkdir(parents=True)
    zipped(images(tmp_path / "img_align_celeba"), tmp_path / "celeba" / "img_align_celeba.zip")
    with pytest.raises(DataError, match=r"img_align_celeba\.zip lies beside it: give that as --data"):
        find_source(tmp_path / "celeba" / "img_align_celeba")


@pytest.mark.parametrize("named", ["celeba", "celeba/img_align_celeba"])
def test_a_macs_hidden_file_of_a_lists_name_is_no_list(tmp_path: Path, named: str) -> None:
    images(tmp_path / "celeba" / "img_align_celeba")
    (tmp_path / "celeba" / "._list_eval_partition.txt").write_bytes(b"\x00\x05\x16\x07")
    assert not [note for note in find_source(tmp_path / named).notes if "rename" in note]


@pytest.mark.parametrize("stem", ["list_eval_partition", "identity_CelebA"])
@pytest.mark.parametrize("kind", [".csv.zip", ".xlsx", " (1).txt.gz", "broken link", "folder"])
def test_what_is_called_like_a_list_beside_a_folder_of_another_name_is_named(
    tmp_path: Path, stem: str, kind: str
) -> None:
    """Packed, of a format that is not read, or not there: whose it is nobody can say, but for the images' numbers."""
    images(tmp_path / "celeba" / "pictures")
    some(tmp_path / "celeba" / "holidays", ["a.jpg", "b.jpg"])
    file = tmp_path / "celeba" / f"{stem}{kind if kind.startswith(('.', ' ')) else '.txt'}"
    if kind == "broken link":
        file.symlink_to("nowhere")
    elif kind == "folder":
        file.mkdir()
    else:
        file.write_bytes(b"packed")
    (note,) = [note for note in find_source(tmp_path / "celeba" / "pictures").notes if stem in note]
    assert f"{file} lies beside this folder and is not read" in note
    assert not [note for note in find_source(tmp_path / "celeba" / "holidays").notes if stem in note]


@pytest.mark.parametrize("name", ["img_align_celeba.zip", "archive.zip"])
def test_a_list_above_the_folder_of_a_zip_is_said(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "celeba" / "downloads"
    folder.mkdir(parents=True)
    zipped(images(tmp_path / "img_align_celeba"), folder / name)
    text_lists(tmp_path / "celeba")
    notes = find_source(folder).notes
    assert any("list_eval_partition.txt lies beside this folder and is not read" in note for note in notes)
    assert find_source(tmp_path / "celeba").partition == PART


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize(
    "name", [f".{IDS[0]}.icloud", ".list_eval_partition.txt.icloud", "sub/.a.png.iCloud"]
)
def test_what_lies_in_icloud_alone_is_named(tmp_path: Path, name: str, as_zip: bool) -> None:
    root = images(tmp_path / "img_align_celeba")
    for i in range(5):
        (root / f"._{i}.jpg").write_bytes(b"fork")
    (root / name).parent.mkdir(exist_ok=True)
    (root / name).write_bytes(b"bplist00")
    found = find_source(zipped(root, tmp_path / "img_align_celeba.zip") if as_zip else root)
    assert found.ids == IDS
    assert any(f"{name} (in iCloud, not on this disk)" in note for note in found.notes)


@pytest.mark.parametrize("counted", ["", "1-"])
@pytest.mark.parametrize("unpacked", [False, True])
@pytest.mark.parametrize("kept", [False, True])
def test_the_other_parts_of_a_download_are_named(
    tmp_path: Path, unpacked: bool, kept: bool, counted: str
) -> None:
    """Google Drive makes several zips of a large folder, each with some of the files."""
    for number, ids in (("001", IDS[:3]), ("002", IDS[3:]), ("003", ["readme.jpg"])):
        part = tmp_path / f"Img-20251127T194942Z-{counted}{number}"
        some(part, [f"img_align_celeba/{name}" for name in ids])
        if kept or not unpacked:
            zipped(part, tmp_path / f"{part.name}.zip")
        if not unpacked:
            shutil.rmtree(part)
    some(tmp_path / "Img-20251127T194942Z-copy", ["b.jpg"])
    some(tmp_path / "other", ["a.jpg"])
    zipped(tmp_path / "other", tmp_path / "other-002.zip")
    given = part.with_name(f"{part.name[:-1]}1{'' if unpacked else '.zip'}")
    found = find_source(given)
    assert found.ids == IDS[:3]
    (note,) = [note for note in found.notes if "other parts of its download" in note]
    suffix = ".zip" if kept or not unpacked else ""
    assert note.endswith(f"not used: {', '.join(f'{part.name[:-1]}{k}{suffix}' for k in (2, 3))}")


@pytest.mark.parametrize("folder", ["img_celeba", "Img_Align_CelebA", "photos"])
@pytest.mark.parametrize("archives", [["{}.tar.gz"], ["{}.7z.001", "{}.7z.002"], ["{}.RAR"]])
def test_archives_beside_the_folder_that_is_given_are_named(
    tmp_path: Path, folder: str, archives: list[str]
) -> None:
    """It may be unpacked in part; where the folder around is given, what it holds is named already."""
    root = some(tmp_path / folder, IDS[:5])
    names = [archive.format(folder.lower()) for archive in archives]
    for name in [*names, f"{folder}.txt", "holidays.tar"]:
        (tmp_path / name).write_bytes(b"7z or tar")
    (note,) = [note for note in find_source(root).notes if "archive" in note]
    assert f"beside {folder}, 1 archive is not looked into: {names[0]};" in note, "by its first part"


def test_folders_that_are_only_counted_are_no_parts_of_a_download(tmp_path: Path) -> None:
    for number in ("001", "002"):
        some(tmp_path / f"holidays-{number}", ["a.jpg", "b.jpg"])
    assert find_source(tmp_path / "holidays-001").notes == []


@pytest.mark.parametrize("given", ["pictures", "downloads"])
def test_a_zip_of_lists_beside_a_folder_of_another_name_is_named(tmp_path: Path, given: str) -> None:
    """``downloads``: the images lie in a zip in the folder that is given."""
    images(tmp_path / "celeba" / "pictures")
    (tmp_path / "celeba" / "downloads").mkdir()
    zipped(tmp_path / "celeba" / "pictures", tmp_path / "celeba" / "downloads" / "pics.zip")
    (tmp_path / "lists").mkdir()
    text_lists(tmp_path / "lists")
    archive = zipped(tmp_path / "lists", tmp_path / "celeba" / "lists.zip")
    some(tmp_path / "celeba" / "holidays", ["a.jpg", "b.jpg"])
    (note,) = [note for note in find_source(tmp_path / "celeba" / given).notes if "lists.zip" in note]
    assert f"{archive} holds list_eval_partition.txt" in note
    assert "it lies beside this folder and is not read; unpack it" in note
    assert not [note for note in find_source(tmp_path / "celeba" / "holidays").notes if "lists.zip" in note]


@pytest.mark.parametrize("inner", ["masks", "a/results"])
def test_masks_beside_the_data_sets_own_zip_are_not_taken_for_it(tmp_path: Path, inner: str) -> None:
    root = tmp_path / "celeba"
    some(root / inner, IDS)
    text_lists(root)
    zipped(images(tmp_path / "img_align_celeba"), root / "img_align_celeba.zip")
    found = find_source(root)
    assert (found.ids, found.place.name, found.partition) == (IDS, "img_align_celeba.zip", PART)
    assert any(f"{len(IDS)} pictures are not used: {inner}/" in note for note in found.notes)
    # One that cannot be read leaves them what they were.
    (root / "img_align_celeba.zip").write_bytes(b"PK")
    assert find_source(root).place == root
