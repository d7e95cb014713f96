"""Data sets as people really have them: every layout is the same data, and what is seen and not used is said."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.data.dataset import UNKNOWN
from bench.data.name_lists import match_names, parse_list, parse_numbers
from bench.data.sources import find_source
from bench.data.splits import assign_split
from bench.errors import DataError
from masks.file_names import escape_name
from masks.image_files import find_files
from masks.zip_members import find_zip_members
from tests.bench.data.celeba_replicas import (
    COUNT,
    IDS,
    LAYOUTS,
    PART,
    WHO,
    Opener,
    csv_lists,
    images,
    kaggle,
    some,
    text_lists,
    torchvision,
    zipped,
)
from tests.bench.data.other_user import holds_for_nobody, needs_root


@pytest.mark.parametrize("make", LAYOUTS, ids=lambda make: make.__name__)
def test_every_layout_of_celeba_is_the_same_data(
    tmp_path: Path, opened: Opener, make: Callable[[Path], Path]
) -> None:
    (tmp_path / "there").mkdir()
    data = opened(make(tmp_path / "there"))
    assert (data.name, data.title, data.split_name) == ("celeba", "CelebA (aligned)", "official")
    assert "non-commercial" in data.license
    for images_of, part in ((data.train, 0), (data.validation, 1), (data.test, 2)):
        assert images_of.ids == [i for i in IDS if PART[i] == part]
        assert np.array_equal(images_of.identities, [WHO[i] for i in images_of.ids])
    images(tmp_path / "plain" / "img_align_celeba")
    text_lists(tmp_path / "plain")
    assert data.fingerprint == opened(tmp_path / "plain").fingerprint


def test_attributes_are_read_where_they_lie(tmp_path: Path, opened: Opener) -> None:
    data = opened(kaggle(tmp_path / "csv"))
    assert data.attributes["Male"] == {name: bool(i % 2) for i, name in enumerate(IDS)}
    assert not any(data.attributes["Smiling"].values())
    images(tmp_path / "txt" / "img_align_celeba")
    rows = [str(COUNT), "Male Smiling", *(f"{k}  {1 if i % 2 else -1} -1" for i, k in enumerate(IDS))]
    (tmp_path / "txt" / "list_attr_celeba.txt").write_text("\n".join(rows))
    assert opened(tmp_path / "txt").attributes == data.attributes


# --- Lists that name some images, or none -----------------------------------------------------------------------


@pytest.mark.parametrize("place", ["people/a", ""])
def test_an_identity_list_matches_copies_under_other_suffixes_and_folders(
    tmp_path: Path, opened: Opener, place: str
) -> None:
    folder = tmp_path / "mine"
    images(folder / place, ".png")
    for path in (folder / place).iterdir():
        path.rename(path.with_name(f"img-{path.name}"))
    (folder / "identity_CelebA.txt").write_text("".join(f"img-{k} {v}\n" for k, v in WHO.items()))
    data = opened(folder)
    assert data.name == "mine"
    assert data.unnamed_images == {"train": 0, "validation": 0, "test": 0}
    assert data.test.identities is not None
    assert UNKNOWN not in data.test.identities


@pytest.mark.parametrize("kept", [COUNT // 2, 1])
def test_a_list_of_some_images_counts_them_alone_and_says_so(
    tmp_path: Path, opened: Opener, kept: int
) -> None:
    root = kaggle(tmp_path / "half")
    rows = (root / "identity_CelebA.csv").read_text().splitlines()
    (root / "identity_CelebA.csv").write_text("\n".join(rows[: kept + 1]))
    data = opened(root)
    assert data.unnamed_images is not None
    assert sum(data.unnamed_images.values()) == COUNT - kept
    assert any(f"names no person for {COUNT - kept} of {COUNT}" in note for note in data.notes)
    named = {i: WHO[i] for i in IDS[:kept]}
    train, test = ({named[i] for i in s.ids if i in named} for s in (data.train, data.test))
    assert data.shared_identities == len(train & test)
    seeds = (
        seed
        for seed in range(99)
        if set(assign_split(IDS, "identity", partition={}, identities=named, seed=seed)[1]) >= {0, 2}
    )
    alone = opened(root, split="identity", split_seed=next(seeds))
    assert any("each counts as a person of its own" in note for note in alone.notes)


@pytest.mark.parametrize("name", ["identity_CelebA.txt", "list_eval_partition.txt"])
def test_a_list_that_names_no_image_is_an_error_with_a_name_of_each_side(
    tmp_path: Path, opened: Opener, name: str
) -> None:
    images(tmp_path / "mine")
    for path in (tmp_path / "mine").iterdir():
        path.rename(path.with_name(f"my-{path.name}"))
    (tmp_path / "mine" / name).write_text("".join(f"{k} 1\n" for k in IDS))
    with pytest.raises(
        DataError, match=rf"{name} names none of the 24 images: it has '000001.jpg'.* 'my-000001.jpg'"
    ):
        opened(tmp_path / "mine")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"000001.jpg 0\n000002.jpg\n", r":2: expected 'NAME NUMBER', found '000002.jpg'"),
        (b"000001.jpg 0\n\n000002.jpg 0 7\n", r":3: expected 'NAME NUMBER'"),
        (b"000001.jpg 0\n000002.jpg -1\n", r":2: expected 'NAME NUMBER', found '000002.jpg -1'"),
        (b"000001.jpg 0\n000002.jpg 99999999999999999999\n", r":2: expected 'NAME NUMBER'"),
        (b"000001.jpg 0\n000001.jpg 1\n", r":2: 000001.jpg is listed twice with different values"),
        (b"image_id,partition\n000001.jpg,0\n000002.jpg\n", r":3: expected 'NAME NUMBER'"),
        (b"\xff\xfe\x00", r"not readable as text"),
        (b"caf\xe9.jpg x\n", r":1: expected 'NAME NUMBER', found 'caf%E9.jpg x'"),
    ],
)
def test_wrong_lines_of_a_list_are_named(content: bytes, says: str) -> None:
    with pytest.raises(DataError, match=says):
        parse_numbers(parse_list(content, "list.txt"))


@pytest.mark.parametrize(
    "content",
    [
        b"a.jpg 1\nb.jpg 2\n", b"\xef\xbb\xbfa.jpg 1\r\nb.jpg 2\r\n", b"name;who\na.jpg;1\nb.jpg;2",
        b'image_id,identity\n"a.jpg", 1\n"b.jpg", 2\n', b"a.jpg\t1\n\nb.jpg\t2\n",
        "a.jpg 1\nb.jpg 2\n".encode("utf-16"),
    ],
)  # fmt: skip
def test_lists_in_every_form_are_the_same_list(content: bytes) -> None:
    assert parse_numbers(parse_list(content, "list.txt")) == {"a.jpg": 1, "b.jpg": 2}


def test_bare_names_match_only_where_they_are_unique() -> None:
    assert match_names(["a/1.png", "b/1.png"], {"1.jpg": 5}) == {}
    assert match_names(["1.png"], {"a/1.jpg": 5, "b/1.jpg": 6}) == {}
    assert match_names(["a/1.png"], {"x/1.jpg": 5}) == {"a/1.png": 5}


# --- Walking ----------------------------------------------------------------------------------------------------


def test_links_to_folders_are_followed_without_a_circle(tmp_path: Path, opened: Opener) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    images(root / "a")
    images(outside / "b")
    (root / "link").symlink_to(outside)
    (outside / "back").symlink_to(root)
    (root / "a" / "self").symlink_to(root / "a")
    (root / "again").symlink_to(outside)
    (root / "broken.png").symlink_to(tmp_path / "nowhere.png")
    found = find_files(root)
    assert found.images == sorted([f"a/{i}" for i in IDS] + [f"again/b/{i}" for i in IDS])
    left = {x.path: x.reason for x in found.left_out}
    assert set(left) == {"link", "again/back", "a/self", "broken.png"}
    assert left["broken.png"] == "a broken link"
    assert "read already" in left["link"]
    data = opened(root)
    assert len(data.train) + len(data.validation) + len(data.test) == 2 * COUNT
    assert any("left out: a/self" in note for note in data.notes)


@pytest.mark.parametrize(
    "hidden",
    [
        ".ipynb_checkpoints/1.png",
        ".thumbnails/deep/1.png",
        "@eaDir/1.png",
        "._000001.png",
        "a/__MACOSX/1.png",
        "#recycle/1.png",
    ],
)
@pytest.mark.parametrize("as_zip", [False, True])
def test_hidden_parts_are_left_out_and_named(
    tmp_path: Path, opened: Opener, hidden: str, as_zip: bool
) -> None:
    root = images(tmp_path / "root")
    (root / hidden).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(root / IDS[0], root / hidden)
    data = opened(zipped(root, tmp_path / "root.zip") if as_zip else root)
    assert sorted([*data.train.ids, *data.validation.ids, *data.test.ids]) == IDS
    assert any("left out" in note and hidden.split("/")[0] in note for note in data.notes)


def test_unreadable_folders_and_odd_files_are_named(tmp_path: Path) -> None:
    root = images(tmp_path / "root")
    os.mkfifo(root / "pipe.png")
    (root / "folder.jpg").mkdir()
    found = find_files(root)
    assert found.images == IDS
    assert [(x.path, x.reason) for x in found.left_out] == [("pipe.png", "not a regular file")]


def test_a_zip_is_sorted_out_by_the_same_rules(tmp_path: Path) -> None:
    root = images(tmp_path / "root" / "a" / "b")
    (root / "notes.txt").write_text("x")
    (root / ".hidden.png").write_bytes(b"x")
    zipped(tmp_path / "root", tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        in_zip = find_zip_members(archive.namelist())
    in_folder = find_files(tmp_path / "root")
    assert (in_zip.images, in_zip.others) == (in_folder.images, in_folder.others)
    assert [x.path for x in in_zip.left_out] == [x.path for x in in_folder.left_out]


@pytest.mark.parametrize("depth", ["only", "only/one/folder"])
def test_ids_begin_where_there_is_more_than_one_folder(tmp_path: Path, opened: Opener, depth: str) -> None:
    images(tmp_path / "root" / depth / "x")
    images(tmp_path / "root" / depth / "y")
    data = opened(tmp_path / "root")
    assert {i.split("/")[0] for i in data.train.ids} == {"x", "y"}
    assert data.name == "root"


# --- Names that are not UTF-8 -----------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
@pytest.mark.parametrize(
    "raw", [b"caf\xe9.png", b"\x83\x65\x83\x58\x83\x67.png", b"100%\xff.png", b"\xe9/deep.png"]
)
def test_names_that_are_not_utf8_become_names_that_every_file_can_hold(
    tmp_path: Path, opened: Opener, raw: bytes
) -> None:
    root = images(tmp_path / "root")
    path = Path(os.fsdecode(bytes(root) + b"/" + raw))
    path.parent.mkdir(exist_ok=True)
    shutil.copy(root / IDS[0], path)
    data = opened(root)
    ids = [*data.train.ids, *data.validation.ids, *data.test.ids]
    assert len(ids) == COUNT + 1
    (odd,) = set(ids) - set(IDS)
    odd.encode("utf-8")
    assert "%" in odd
    assert any("not printable UTF-8" in note and odd in note for note in data.notes)


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_a_folder_whose_name_is_not_utf8(tmp_path: Path, opened: Opener) -> None:
    root = images(Path(os.fsdecode(bytes(tmp_path) + b"/bilder-\xfc")))
    data = opened(root)
    assert (data.name, data.title) == ("bilder-%FC", "Folder bilder-%FC")
    assert opened(tmp_path / "bilder-%FC").fingerprint == data.fingerprint  # as it is called in files


# --- A source is one class ----------------------------------------------------------------------------------------


def test_two_lists_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    """As where a list was changed and its other form was not."""
    root = images(tmp_path / "celeba" / "img_align_celeba").parent
    text_lists(root)
    csv_lists(root)
    assert find_source(root).partition == PART
    path = root / "list_eval_partition.txt"
    path.write_text(path.read_text().replace("000005.jpg 2", "000005.jpg 0"))
    with pytest.raises(
        DataError, match=r"partition\.txt:5: says 0 of 000005\.jpg, and .*\.csv says 2; remove one"
    ):
        find_source(root)


def test_pictures_that_are_seen_and_not_used_are_said(tmp_path: Path, opened: Opener) -> None:
    root = images(tmp_path / "celeba" / "img_align_celeba").parent
    images(root / "img_align_celeba_png", ".png")
    text_lists(root)
    (note,) = opened(root).notes
    assert note == (
        f"{COUNT} pictures are not used: img_align_celeba_png/000001.png and so on; those in img_align_celeba/ are"
    )


@pytest.mark.parametrize("masks", ["masks/{}.png", "masks/{}.jpg", "results/{}.jpg"])
@pytest.mark.parametrize("parts", [("train", "test"), ("train", "val", "test")])
@pytest.mark.parametrize("folder", ["celeba/images", "img_align_celeba", "celeba_hq"])
def test_a_divided_data_set_is_one_beside_a_folder_of_masks(
    tmp_path: Path, folder: str, parts: tuple[str, ...], masks: str
) -> None:
    """Each part alone is smaller than the masks of all."""
    names = [f"{k}" for k in range(COUNT)] if folder == "celeba_hq" else [i.removesuffix(".jpg") for i in IDS]
    root = tmp_path / folder
    some(root, [f"{parts[k % len(parts)]}/{name}.jpg" for k, name in enumerate(names)])
    beside = root.parent if folder == "celeba/images" else root
    some(beside, [masks.format(name) for name in names])
    text_lists(tmp_path / folder.split("/")[0] if "hq" not in folder else tmp_path / "nowhere")
    found = find_source(tmp_path / folder.split("/")[0])
    assert len(found.ids) == COUNT
    assert {path.removeprefix("images/").split("/")[0] for path in found.paths.values()} == set(parts)
    assert any(f"{COUNT} pictures are not used: {masks.split('/')[0]}/" in note for note in found.notes)


def test_celeba_hq_beside_celeba_in_a_folder_of_another_name_is_another_data_set(tmp_path: Path) -> None:
    images(tmp_path / "images")
    some(tmp_path / "celeba_hq_256", [f"{k:05d}.jpg" for k in range(9)])
    text_lists(tmp_path)
    found = find_source(tmp_path)
    assert (found.kind.name, found.ids, found.partition) == ("celeba", IDS, PART)
    (note,) = found.notes
    assert note == "9 pictures are not used: celeba_hq_256/00000.jpg and so on; those in images/ are"


@pytest.mark.parametrize("inner", ["img_align_celeba", "img_align_celeba_png", "sub/img_align_celeba - Copy"])
@pytest.mark.parametrize("given", ["celeba", "celeba/img_align_celeba", "img_align_celeba.zip"])
def test_a_part_below_the_whole_does_not_hide_it(tmp_path: Path, inner: str, given: str) -> None:
    """A copy of some pictures, or a program's outputs, in a folder of the same name in the whole one."""
    whole = images(tmp_path / "celeba" / "img_align_celeba")
    part = some(whole / inner, IDS[:3])
    text_lists(whole.parent)
    if given.endswith(".zip"):
        zipped(whole, tmp_path / "celeba" / given)
        shutil.rmtree(whole)
        given = f"celeba/{given}"
    found = find_source(tmp_path / given)
    assert (found.ids, found.partition) == (IDS, PART)
    assert not any(
        "img_align_celeba" in path.removeprefix("img_align_celeba/") for path in found.paths.values()
    )
    assert any("3 pictures are not used" in note and part.name in note for note in found.notes)


def test_celeba_without_its_published_split_says_so(tmp_path: Path, opened: Opener) -> None:
    root = images(tmp_path / "celeba" / "img_align_celeba").parent
    data = opened(root)
    assert (data.name, data.split_name) == ("celeba", "digest")
    (note,) = data.notes
    assert "no list_eval_partition.txt or .csv that names these pictures was read" in note
    assert opened(root, split="digest").notes == []  # asked for
    assert opened(images(tmp_path / "mine")).notes == []  # no data set with a published split


@pytest.mark.parametrize(
    "inner", ["", "Img", "Img/img_align_celeba", "packed", "Img packed", "Img/img_align_celeba.zip"]
)
def test_the_official_download_is_whole_from_any_of_its_folders(
    tmp_path: Path, opened: Opener, inner: str
) -> None:
    root = tmp_path / "CelebA"
    folder = images(root / "Img" / "img_align_celeba")
    if "packed" in inner or inner.endswith(".zip"):
        zipped(folder, root / "Img" / "img_align_celeba.zip", "img_align_celeba/")
        shutil.rmtree(folder)
        inner = inner.removesuffix("packed").strip()
    text_lists(root / "lists")
    for part, name in (("Eval", "list_eval_partition.txt"), ("Anno", "identity_CelebA.txt")):
        (root / part).mkdir()
        (root / "lists" / name).rename(root / part / name)
    data = opened(root / inner)
    assert data.split_name == "official"
    assert data.shared_identities is not None
    assert data.test.ids == [i for i in IDS if PART[i] == 2]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_byte_order_mark_more_loses_no_name(encoding: str) -> None:
    """Programs that write one before another's."""
    text = "\ufeff" + "".join(f"{k} {v}\n" for k, v in PART.items())
    assert parse_numbers(parse_list(text.encode(encoding), "list.txt")) == PART


def test_lines_are_those_of_an_editor() -> None:
    """Characters that end a line for Python alone may stand in names."""
    names = ["a\x0bb.png", "c\u2028d.png", "e\x85f.png", "g\x1ch.png"]
    listed = parse_list("".join(f"{name},1\r\n" for name in names).encode(), "list.csv")
    assert list(listed.rows) == list(map(escape_name, names))
    with pytest.raises(DataError, match=r"list\.csv:5: expected"):
        parse_list("".join(f"{name},1\n" for name in [*names, "x,y"]).encode(), "list.csv")


def test_several_zips_in_a_folder_are_named(tmp_path: Path) -> None:
    images(tmp_path / "some" / "pictures")
    (tmp_path / "zips").mkdir()
    for name in ("a.zip", "b.zip"):
        zipped(tmp_path / "some", tmp_path / "zips" / name)
    with pytest.raises(DataError, match=r"it holds zips, of which --data takes one: a\.zip, b\.zip"):
        find_source(tmp_path / "zips")


def celeba_of_every_case(root: Path) -> Path:
    images(root / "Img_Align_CelebA", ".JPG")
    text_lists(root)
    for path in root.glob("*.txt"):
        path.rename(path.with_name(path.name.upper()))
    return root


def lists_of_another_case_around(root: Path) -> Path:
    images(root / "IMG" / "img_align_celeba")
    text_lists(root / "ANNO")
    for path in (root / "ANNO").iterdir():
        path.rename(path.with_name(path.name.lower()))
    return root / "IMG" / "img_align_celeba"


def a_link_to_the_images(root: Path) -> Path:
    images(root / "disk" / "abc")
    text_lists(root / "data")
    (root / "data" / "img_align_celeba").symlink_to(root / "disk" / "abc")
    return root / "data" / "img_align_celeba"


def a_link_to_a_zip(root: Path) -> Path:
    images(root / "made")
    (root / "store").mkdir()
    zipped(root / "made", root / "store" / "blob-17")
    text_lists(root / "data")
    (root / "data" / "img_align_celeba.zip").symlink_to(root / "store" / "blob-17")
    return root / "data" / "img_align_celeba.zip"


def below_a_project_called_after_celeba_hq(root: Path) -> Path:
    return kaggle(root / "celeba-hq-and-celeba")


def pictures_below_a_project_called_after_celeba_hq(root: Path) -> Path:
    images(root / "celebahq_project" / "img_align_celeba")
    text_lists(root / "celebahq_project")
    return root / "celebahq_project" / "img_align_celeba"


def beside_the_images_in_the_wild(root: Path) -> Path:
    images(root / "img_celeba")
    return torchvision(root)


def whole_beside_a_broken_zip(root: Path) -> Path:
    (root / "img_align_celeba.zip").write_bytes(b"PK\x03\x04 cut short")
    return torchvision(root)


def around_a_list_folder_that_is_a_circle(root: Path) -> Path:
    images(root / "img_align_celeba")
    text_lists(root)
    (root / "Eval").symlink_to(root)
    return root / "img_align_celeba"


@pytest.mark.parametrize(
    "make",
    [
        celeba_of_every_case, lists_of_another_case_around, a_link_to_the_images, a_link_to_a_zip,
        below_a_project_called_after_celeba_hq, pictures_below_a_project_called_after_celeba_hq,
        beside_the_images_in_the_wild, whole_beside_a_broken_zip, around_a_list_folder_that_is_a_circle,
    ],
    ids=lambda make: make.__name__,
)  # fmt: skip
def test_neighbors_links_and_cases_do_not_hide_celeba(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    (tmp_path / "there").mkdir()
    source = find_source(make(tmp_path / "there"))
    assert (source.name, source.ids) == ("celeba", IDS)
    assert source.partition == PART
    assert source.identities == WHO


@pytest.mark.parametrize(("kept", "lacks"), [(COUNT, 0), (COUNT - 4, 4), (1, COUNT - 1)])
def test_a_folder_unpacked_in_part_names_the_whole_zip_beside_it(
    tmp_path: Path, kept: int, lacks: int
) -> None:
    folder = images(tmp_path / "img_align_celeba")
    zipped(folder, tmp_path / "img_align_celeba.zip", "img_align_celeba/")
    for name in IDS[kept:]:
        (folder / name).unlink()
    source = find_source(tmp_path)
    assert source.ids == IDS[:kept]
    assert [f"holds {lacks} pictures that the folder beside it lacks" in note for note in source.notes] == [
        True
    ] * bool(lacks)


@pytest.mark.parametrize("name", ["archive.zip", "faces.tar.gz", "img_align_celeba_png.7z.001", "x.RAR"])
@pytest.mark.parametrize("as_folder", [True, False])
def test_archives_that_are_not_looked_into_are_named_with_what_to_do(
    tmp_path: Path, name: str, as_folder: bool
) -> None:
    images(tmp_path / "made")
    (tmp_path / "there").mkdir()
    path = tmp_path / "there" / name
    if name.endswith(".zip"):  # a zip in a zip
        (tmp_path / "outer").mkdir()
        zipped(tmp_path / "made", tmp_path / "outer" / "inner.zip")
        zipped(tmp_path / "outer", path)
    else:
        path.write_bytes(b"7z or tar")
    with pytest.raises(DataError, match="unpack") as raised:
        find_source(path.parent if as_folder else path)
    assert "get it again" not in str(raised.value)
    assert ("inner.zip" if name.endswith(".zip") else name) in str(raised.value)


def _flag(path: Path, member: bytes, *, encrypted: bool) -> None:
    """Mark a member as encrypted, or as compressed by a method that nothing here reads, in both of its headers."""
    content = bytearray(path.read_bytes())
    local, central = content.find(member), content.rfind(member)
    for position, length in ((local, 30), (central, 46)):
        flags, method = (
            position - length + (6 if length == 30 else 8),
            position - length + (8 if length == 30 else 10),
        )
        if encrypted:
            content[flags] |= 1
        else:
            content[method] = 9
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["list_eval_partition.csv", "identity_CelebA.csv", "list_attr_celeba.csv"])
@pytest.mark.parametrize("damage", ["checksum", "encrypted", "method", "large"])
def test_a_list_that_cannot_be_read_is_one_line(tmp_path: Path, name: str, damage: str) -> None:
    root = kaggle(tmp_path / "there")
    path = root / name
    if damage == "large":
        os.truncate(path, 65 << 20)
    else:
        path = zipped(root, tmp_path / "archive.zip")
        if damage == "checksum":
            content = path.read_bytes()
            path.write_bytes(content.replace((root / name).read_bytes(), (root / name).read_bytes().upper()))
        else:
            _flag(path, name.encode(), encrypted=damage == "encrypted")
        root = path
    with pytest.raises(DataError, match=rf"{name}: not readable \(.*\); get it again, or remove it"):
        find_source(root)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("image_id,Male\n{0},True\n{1},False", ":2: an attribute is 1, or -1 or 0; found 'True'"),
        ("image_id,Male\n{0},1\n{1},1.0", ":3: an attribute is 1, or -1 or 0; found '1.0'"),
        ("{0},1\n{1},-1", "no line of column names"),
        ("image_id,Male,Male\n{0},1,-1", "two columns are called Male"),
        ("image_id,Male,image_id\n{0},1,-1", "a column of values is called image_id"),
        ("image_id,Male\nx{0},1\nx{1},1", "names none of the 24 images"),
    ],
)
def test_a_list_of_attributes_that_would_be_misread_is_refused(tmp_path: Path, lines: str, says: str) -> None:
    root = kaggle(tmp_path / "there")
    (root / "list_attr_celeba.csv").write_text(lines.format(*IDS))
    with pytest.raises(DataError, match="list_attr_celeba") as raised:
        find_source(root)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("x.png", "x.png"), ("x", "x"), (".x", ".x"), ("x.png", "y.png"), ("x.png", "n" * 300),
        ("x.png", f"{IDS[0]}/inside"), ("list_eval_partition.txt", "nowhere.txt"), ("x.png", "/dev/zero"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("below", ["", "sub"])
def test_one_entry_that_is_no_file_costs_none_of_its_neighbors(
    tmp_path: Path, name: str, target: str, below: str
) -> None:
    """Links to themselves, in a circle, through a file, of names too long, to devices."""
    root = images(tmp_path / "root")
    folder = root / below
    folder.mkdir(exist_ok=True)
    (folder / name).symlink_to(target)
    if target == "y.png":
        (folder / target).symlink_to(name)
    shutil.copy(root / IDS[0], folder / "zz.png")
    found = find_files(root)
    assert set(found.images) == {*IDS, f"{below}/zz.png".lstrip("/")}
    assert f"{below}/{name}".lstrip("/") in {x.path for x in found.left_out}
    if target == "/dev/zero":
        assert found.left_out[0].reason == "not a regular file"


@pytest.mark.parametrize("name", ["x" * 251, "é" * 125, "漢" * 83, "a [b] (c)*"])
def test_a_folder_may_have_any_name_that_a_file_system_allows(
    tmp_path: Path, opened: Opener, name: str
) -> None:
    data = opened(images(tmp_path / name))
    assert data.name == name
    assert opened(tmp_path / name).fingerprint == data.fingerprint


@pytest.mark.parametrize("how", ["vanished", "locked"])
def test_a_picture_that_cannot_be_asked_for_its_size_is_skipped(
    tmp_path: Path, opened: Opener, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between listing and reading, or in a folder that may be listed and not entered."""
    root = images(tmp_path / "root")
    before, stat = find_source(root).file_signature(), Path.stat

    def fail(path: Path, **words: bool) -> os.stat_result:
        if path.name == IDS[3]:
            raise FileNotFoundError if how == "vanished" else PermissionError
        return stat(path, **words)

    monkeypatch.setattr(Path, "stat", fail)
    assert find_source(root).file_signature() != before
    data = opened(root, allow_unreadable=True)
    assert [s.id for s in data.skipped] == [IDS[3]]


@needs_root
def test_folders_that_may_not_be_entered_cost_nothing_else(tmp_path: Path) -> None:
    """As a user who is not root: links into a locked folder, lists beside locked ones."""
    place = Path(tempfile.mkdtemp())  # tmp_path itself lies in a folder of root's alone
    images(place / "img_align_celeba")
    (place / "Anno").mkdir()
    (place / "locked").mkdir()
    shutil.copy(place / "img_align_celeba" / IDS[0], place / "locked" / "x.png")
    text_lists(place / "Eval")
    (place / "img_align_celeba" / "x.png").symlink_to(place / "locked" / "x.png")
    for name, mode in (("", 0o755), ("img_align_celeba", 0o755), ("locked", 0o700), ("Anno", 0o744)):
        (place / name).chmod(mode)
    (place / "Anno" / "identity_CelebA.txt").write_text("in a folder that may be listed and not entered")

    def check() -> bool:
        source = find_source(place / "img_align_celeba")
        left = [(x.path, x.reason) for x in find_files(place / "img_align_celeba").left_out]
        return (source.partition, source.ids, left) == (PART, IDS, [("x.png", "Permission denied")])

    assert holds_for_nobody(check)
    shutil.rmtree(place)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("list_eval_partition (1).txt", "rename it, as list_eval_partition.txt"),
        ("list_eval_partition.txt.txt", "rename it, as list_eval_partition.txt"),
        ("List_Eval_Partition.csv.zip", "unpack it, as list_eval_partition.txt"),
        ("list_eval_partition.tar.gz", "unpack it, as list_eval_partition.txt"),
    ],
)
@pytest.mark.parametrize("zip_too", [False, True])
def test_a_list_of_another_name_is_seen_and_said(tmp_path: Path, name: str, says: str, zip_too: bool) -> None:
    folder = images(tmp_path / "img_align_celeba")
    if zip_too:
        zipped(folder, tmp_path / "img_align_celeba.zip")
        shutil.rmtree(folder)
    (tmp_path / name).write_text("".join(f"{k} {v}\n" for k, v in PART.items()))
    source = find_source(tmp_path)
    assert source.partition == {}
    (note,) = source.notes
    assert note.startswith(f"{name} is not read: to use it, {says}")
    text_lists(tmp_path)
    assert find_source(tmp_path).notes == []


@needs_root
@pytest.mark.parametrize("mode", [0o644, 0o000])
def test_a_list_in_a_folder_that_may_not_be_entered_is_named(mode: int) -> None:
    place = Path(tempfile.mkdtemp())  # as above
    images(place / "img_align_celeba")
    text_lists(place / "Eval")
    for name, mode_of in (("", 0o755), ("img_align_celeba", 0o755), ("Eval", mode)):
        (place / name).chmod(mode_of)

    def check() -> bool:
        notes = find_source(place / "img_align_celeba").notes
        return any("list_eval_partition.txt is not read: Permission denied" in note for note in notes)

    assert holds_for_nobody(check)
    shutil.rmtree(place)
