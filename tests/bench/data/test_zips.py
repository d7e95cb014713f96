"""Zips of images: their ids and links are those of the folder that unpacking them gives."""

from __future__ import annotations

import os
import random
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.data.sources import find_source, read_bytes
from bench.data.sources.zip_files import zip_files
from bench.errors import DataError
from masks.image_files import find_files
from tests.bench.data.celeba_replicas import (
    COUNT,
    IDS,
    PART,
    WHO,
    Opener,
    images,
    kaggle,
    linked_zip,
    some,
    unmarked_zip,
    write_list,
    zip_by,
    zipped,
)


@pytest.mark.parametrize(
    ("link", "target", "reason"),
    [
        ("copy.jpg", IDS[0], None),
        ("sub/copy.jpg", f"../{IDS[0]}", None),
        ("chain.jpg", "sub/copy.jpg", None),
        ("more", "sub", "read already"),
        ("gone.jpg", "nothing.jpg", "broken link"),
        ("out.jpg", "../../etc/out.jpg", "leads out of the zip"),
        ("root.jpg", "/etc/root.jpg", "leads out of the zip"),
        ("circle.jpg", "circle.jpg", "broken link"),
        ("identity_CelebA.txt", "lists/who.txt", None),
    ],
)
def test_links_in_a_zip_are_followed_or_named_as_in_a_folder(
    tmp_path: Path, opened: Opener, link: str, target: str, reason: str | None
) -> None:
    root = images(tmp_path / "root")
    shutil.copytree(root, root / "sub")
    (root / "lists").mkdir()
    (root / "lists" / "who.txt").write_text("".join(f"{k} {v}\n" for k, v in WHO.items()))
    (root / "sub" / "copy.jpg").symlink_to(f"../{IDS[0]}")
    if not (root / link).is_symlink():
        (root / link).symlink_to(target)
    archive = linked_zip(root, tmp_path / "root.zip")
    data, from_zip = find_source(root), find_source(archive)
    assert from_zip.ids == data.ids
    assert from_zip.identities == data.identities
    named = [note for note in from_zip.notes if "left out" in note and f"{link} (" in note]
    assert bool(named) == (reason is not None)
    assert reason is None or reason in named[0]
    assert opened(archive).fingerprint == opened(root).fingerprint


#: Names as programs write them into a zip without saying what their bytes are.
RAW_NAMES = {
    "UTF-8": "été.png".encode(),
    "Latin-1": b"caf\xe9.png",
    "Shift-JIS": "写真.png".encode("shift_jis"),
    # Its second byte is a backslash.
    "Shift-JIS with a backslash": "表.png".encode("shift_jis"),
    "a folder": "写真".encode("shift_jis") + b"/1.png",
}


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
@pytest.mark.parametrize("kind", RAW_NAMES)
def test_a_zip_that_does_not_say_what_its_names_are_has_the_ids_of_its_folder(
    tmp_path: Path, kind: str
) -> None:
    root, name = images(tmp_path / "root"), RAW_NAMES[kind]
    path = Path(os.fsdecode(bytes(root) + b"/" + name))
    path.parent.mkdir(exist_ok=True)
    shutil.copy(root / IDS[0], path)
    who = b"".join(b"%s %d\n" % (n, i) for i, n in enumerate([name, *(i.encode() for i in IDS)]))
    (root / "identity_CelebA.txt").write_bytes(who)
    files = {os.fsencode(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    folder, archive = find_source(root), find_source(unmarked_zip(tmp_path / "root.zip", files))
    assert archive.ids == folder.ids
    assert archive.identities == folder.identities
    assert len(archive.identities) == COUNT + 1
    assert [n for n in archive.notes if "UTF-8" in n] == [n for n in folder.notes if "UTF-8" in n]


def unicode_path(replaced: bytes, name: str, *, version: int = 1, kind: int = 0x7075) -> bytes:
    """Return Info-ZIP's extra field with the name of a member in UTF-8 (APPNOTE 4.6.9)."""
    encoded = name.encode()
    return struct.pack("<HHBI", kind, 5 + len(encoded), version, zlib.crc32(replaced)) + encoded


def test_a_zip_of_windows_keeps_the_names_that_unpacking_it_gives(tmp_path: Path) -> None:
    """DOS names are in the PC's own encoding, unless Info-ZIP's extra field or their being UTF-8 says otherwise."""
    content = images(tmp_path / "root").joinpath(IDS[0]).read_bytes()
    dos = unmarked_zip(tmp_path / "dos.zip", {"é.png".encode("cp437"): content}, system=0)
    assert find_source(dos).ids == ["é.png"]
    told = unmarked_zip(
        tmp_path / "told.zip", {b"\xfa.png": content}, system=0, extra=unicode_path(b"\xfa.png", "日.png")
    )
    assert find_source(told).ids == ["日.png"]


@pytest.mark.parametrize(
    "stale",
    [
        {"replaced": b"old.png"},
        {"replaced": b"\x82.png", "version": 2},
        {"replaced": b"\x82.png", "kind": 0x6375},
    ],
    ids=str,
)
def test_a_zips_second_name_of_a_member_that_was_renamed_is_not_believed(
    tmp_path: Path, stale: dict[str, Any]
) -> None:
    content = images(tmp_path / "root").joinpath(IDS[0]).read_bytes()
    zipped = unmarked_zip(
        tmp_path / "renamed.zip",
        {"é.png".encode("cp437"): content},
        system=0,
        extra=unicode_path(name="日.png", **stale),
    )
    assert find_source(zipped).ids == ["é.png"]


def test_a_zips_second_name_is_found_behind_other_fields(tmp_path: Path) -> None:
    content = images(tmp_path / "root").joinpath(IDS[0]).read_bytes()
    old = unicode_path(b"old.png", "月.png")
    extra = struct.pack("<HH2s", 0x0001, 2, b"ab") + old + unicode_path(b"\xfa.png", "日.png")
    zipped = unmarked_zip(tmp_path / "fields.zip", {b"\xfa.png": content}, system=0, extra=extra)
    assert find_source(zipped).ids == ["日.png"]


@pytest.mark.parametrize(
    "litter",
    ["@Recycle", "@Recently-Snapshot", "@tmp", "~snapshot", "RECYCLER", "lost+found", "Temporary Items"],
)
@pytest.mark.parametrize("as_zip", [False, True])
def test_what_file_servers_keep_beside_images_is_left_out(tmp_path: Path, litter: str, as_zip: bool) -> None:
    root = images(tmp_path / "root" / "images").parent
    (root / litter / "images").mkdir(parents=True)
    shutil.copy(root / "images" / IDS[0], root / litter / "images" / "deleted.jpg")
    found = find_source(zipped(root, tmp_path / "root.zip") if as_zip else root)
    assert [Path(i).name for i in found.ids] == IDS
    assert any("left out" in note and litter in note for note in found.notes)


@pytest.mark.parametrize(
    "name", ["archive.zip", "img_align_celeba (1).zip", "CelebA-20240101T000000Z-001.zip"]
)
@pytest.mark.parametrize("there", ["half of the images", "a stray picture"])
def test_a_download_under_any_name_is_not_hidden_by_what_lies_beside_it(
    tmp_path: Path, name: str, there: str
) -> None:
    whole = kaggle(tmp_path / "whole")
    root = tmp_path / "root"
    root.mkdir()
    zipped(whole, root / name)
    if there == "a stray picture":
        shutil.copy(whole / "img_align_celeba" / "img_align_celeba" / IDS[0], root / "sample.jpg")
    else:
        images(root / "img_align_celeba")
        for image in IDS[::2]:
            (root / "img_align_celeba" / image).unlink()
    notes = find_source(root).notes
    lacks = COUNT if there == "a stray picture" else COUNT // 2
    assert any(f"{name} is not used, and holds {lacks} pictures" in note for note in notes), notes


def test_a_zip_of_what_is_there_already_is_passed_over(tmp_path: Path) -> None:
    root = images(tmp_path / "root")
    zipped(root, tmp_path / "copy.zip", "root/")
    shutil.move(tmp_path / "copy.zip", root / "copy.zip")
    assert find_source(root).notes == []


@pytest.mark.skipif(os.name != "posix", reason="a backslash is a letter on POSIX only")
@pytest.mark.parametrize("name", ["a\\b.png", "é\\日.png", "sub/c\\d.png", "a\\..\\b.png", "\\e.png", "x\\"])
def test_a_backslash_is_a_letter_in_a_zip_of_unix_and_a_separator_in_one_of_windows(
    tmp_path: Path, name: str
) -> None:
    names = ["1.png", "2.png", name]
    root = some(tmp_path / "root", names)
    for system in (3, 19):
        archive = zip_by(tmp_path / "unix.zip", names, system)
        assert find_source(archive).ids == find_source(root).ids
    windows = find_source(zip_by(tmp_path / "windows.zip", ["p\\1.png", "q\\r\\2.png", "3.png"], 0))
    assert windows.ids == ["3.png", "p/1.png", "q/r/2.png"]


@pytest.mark.parametrize("encoding", ["shift_jis", "gbk", "big5"])
def test_no_letter_that_ends_in_a_backslash_cuts_a_name_of_a_windows_zip(
    tmp_path: Path, encoding: str
) -> None:
    """Cut in two there, 'ソ.jpg' would be a hidden file, and left out."""
    # Each has a letter whose second byte is 5C in this encoding.
    names = {
        "shift_jis": ["ソ.jpg", "一覧表.jpg", "能面/b.jpg", "写真/予.jpg", "表紙.jpg", "ｱ表.jpg"],
        "gbk": ["乗.jpg", "猏/a.jpg"],
        "big5": ["功.jpg", "許功蓋.jpg", "功/a.jpg"],
    }[encoding]
    assert all(b"\\" in name.encode(encoding) for name in names)
    content = (images(tmp_path / "root") / IDS[0]).read_bytes()
    archive = unmarked_zip(
        tmp_path / "windows.zip", {name.encode(encoding): content for name in [*names, "p\\q.jpg"]}, system=0
    )
    source = find_source(archive)
    assert len(source.ids) == len(names) + 1
    assert "p/q.jpg" in source.ids
    assert sorted(i.count("/") for i in source.ids) == sorted([1, *(name.count("/") for name in names)])


def test_a_hidden_picture_whose_name_is_a_suffix_is_named_too(tmp_path: Path) -> None:
    root = images(tmp_path / "root")
    (root / ".jpg").write_bytes((root / IDS[0]).read_bytes())
    archive = zipped(root, tmp_path / "all.zip", "")
    for place in (root, archive):
        source = find_source(place)
        assert source.ids == IDS
        assert any(".jpg" in note for note in source.notes), source.notes


def annex(root: Path) -> None:
    """As git-annex keeps files: links into a hidden folder, to names without a suffix."""
    for name in IDS:
        (root / ".git" / "annex" / name[:4]).mkdir(parents=True, exist_ok=True)
        key = root / ".git" / "annex" / name[:4] / f"SHA-{name[:-4]}"
        (root / name).rename(key)
        (root / name).symlink_to(key.relative_to(root))


def through_a_linked_folder(root: Path) -> None:
    (root / "way").symlink_to("real")
    (root / "real").mkdir()
    (root / IDS[0]).rename(root / "real" / IDS[0])
    (root / IDS[0]).symlink_to(f"way/{IDS[0]}")
    (root / "chain.jpg").symlink_to(f"way/../way/./{IDS[0]}")


def a_hidden_folder_by_a_link(root: Path) -> None:
    (root / ".store" / "deep" / ".thumbs").mkdir(parents=True)
    for name in IDS[:6]:
        (root / name).rename(root / ".store" / "deep" / name)
    shutil.copy(root / IDS[9], root / ".store" / "deep" / ".thumbs" / "x.jpg")
    (root / ".store" / "copy.jpg").symlink_to(f"../{IDS[9]}")
    (root / ".store" / "circle").symlink_to("..")
    (root / "more").symlink_to(".store")
    (root / "zagain").symlink_to(".store/deep")


def a_list_in_a_hidden_folder_by_a_link(root: Path) -> None:
    write_list(root / ".lists" / "who", WHO)
    (root / "identity_CelebA.txt").symlink_to(".lists/who")


@pytest.mark.parametrize(
    "change",
    [annex, through_a_linked_folder, a_hidden_folder_by_a_link, a_list_in_a_hidden_folder_by_a_link],
    ids=lambda change: change.__name__,
)
def test_links_of_a_zip_lead_where_those_of_its_folder_do(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    root = images(tmp_path / "root")
    change(root)
    archive = linked_zip(root, tmp_path / "root.zip")
    folder, packed = find_source(root), find_source(archive)
    assert packed.ids == folder.ids
    assert len(folder.ids) >= COUNT
    assert packed.identities == folder.identities
    left = {(x.path, x.reason) for x in find_files(root).left_out}
    assert {(x.path, x.reason) for x in zip_files(archive).left_out} == left
    for image_id in folder.ids:
        there = read_bytes(archive, packed.paths[image_id])
        assert there == (root / folder.paths[image_id]).read_bytes()


@pytest.mark.parametrize(
    "name",
    ["../identity_CelebA.txt", "/identity_CelebA.txt", "a/../identity_CelebA.csv", "C:/identity_CelebA.txt"],
)
def test_a_list_whose_path_leaves_the_zip_is_named(tmp_path: Path, opened: Opener, name: str) -> None:
    archive = zipped(images(tmp_path / "mine"), tmp_path / "mine.zip")
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(name, "".join(f"{k} {v}\n" for k, v in WHO.items()))
    data = opened(archive)
    assert data.shared_identities is None
    (note,) = data.notes
    assert note == f"left out: {name} (its path leaves the zip)"


@pytest.mark.parametrize("hidden", ["__MACOSX", ".lists", "a/@eaDir"])
def test_a_hidden_folder_of_a_zip_is_named_for_a_list_too_and_once(tmp_path: Path, hidden: str) -> None:
    root = images(tmp_path / "mine")
    write_list(root / hidden / "identity_CelebA.txt", WHO)
    write_list(root / hidden / "deep" / "list_eval_partition.txt", PART)
    notes = find_source(root).notes
    assert notes == [f"left out: {hidden} (hidden)"]
    assert find_source(zipped(root, tmp_path / "mine.zip")).notes == notes


@pytest.mark.parametrize("prefix", ["../", "/", "x/../", "C:/"])
@pytest.mark.parametrize("as_folder", [False, True])
def test_a_zip_of_nothing_but_paths_that_leave_it_names_them(
    tmp_path: Path, prefix: str, as_folder: bool
) -> None:
    (tmp_path / "there").mkdir()
    # Not by ZipFile.write, which would mend the names.
    zip_by(tmp_path / "there" / "mine.zip", [prefix + name for name in IDS], 3)
    says = rf"holds no pictures .*the path of 24 pictures leaves the zip: {re.escape(prefix)}000001\.jpg, "
    with pytest.raises(DataError, match=says):
        find_source(tmp_path / "there" / ("" if as_folder else "mine.zip"))


@pytest.mark.parametrize(
    "name", ["Thumbs.db", "desktop.ini", "Desktop.ini", "ehthumbs.db", "Icon\r", ".DS_Store"]
)
@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize("depth", ["pics", "a/pics"])
def test_files_of_the_system_beside_a_lone_folder_change_no_id(
    tmp_path: Path, name: str, as_zip: bool, depth: str
) -> None:
    root = images(tmp_path / "root" / depth).parents[depth.count("/")]
    (root / name).write_text("x")
    (root / depth / name).write_text("x")
    source = find_source(zipped(root, tmp_path / "root.zip") if as_zip else root)
    assert (source.ids, source.notes) == (IDS, [])
    # A file of the user's does, as it always did.
    (root / "notes.txt").write_text("x")
    assert find_source(root).ids == [f"{depth}/{i}" for i in IDS]


@pytest.mark.parametrize("number", range(60))
def test_any_tree_of_folders_and_links_is_the_same_in_a_zip(tmp_path: Path, number: int) -> None:
    """Hidden folders, and links to files, folders, links and nothing, some of them through other links."""
    draw = random.Random(number)
    root = tmp_path / "root"
    folders = [root]
    for _ in range(4):
        folders.append(draw.choice(folders) / draw.choice(["a", "b", ".h", "@eaDir"]))
        folders[-1].mkdir(parents=True, exist_ok=True)
        (folders[-1] / "z.png").write_text("z")
    places = [*folders]
    for _ in range(6):
        places.append(draw.choice(folders) / draw.choice(["x.png", "y.png", "l.txt", ".k.png", "Thumbs.db"]))
        places[-1].write_text("x")
    links = ["k.png", "m", "n", "o.txt", ".q.png", "q"]
    for _ in range(6):
        link = draw.choice(folders) / draw.choice(links)
        if not os.path.lexists(link):
            target = draw.choice([*places, *(root / name for name in links)])
            way = draw.choice(["", "", "", "m/", "m/../"])
            link.symlink_to(way + os.path.relpath(target, draw.choice([link.parent, link.parent, root])))
    folder, packed = find_files(root), zip_files(linked_zip(root, tmp_path / "root.zip"))
    assert (packed.images, packed.others) == (folder.images, folder.others)
    assert {x.path for x in packed.left_out} == {x.path for x in folder.left_out}


@pytest.mark.parametrize("link", [".hidden", "@eaDir", "sub/.deeper"])
def test_a_hidden_link_to_a_folder_is_named_in_a_zip_as_in_a_folder(tmp_path: Path, link: str) -> None:
    root = images(tmp_path / "root")
    shutil.copytree(root, root / "sub")
    (root / link).symlink_to("sub" if "/" not in link else ".")
    (root / ".note").symlink_to(IDS[0])
    notes = [find_source(place).notes for place in (root, linked_zip(root, tmp_path / "root.zip"))]
    assert [f"{link} (hidden)" in " ".join(n) for n in notes] == [True, True]
    assert [".note" in " ".join(n) for n in notes] == [False, False]


def test_a_folder_that_ends_in_a_colon_is_no_drive(tmp_path: Path) -> None:
    """Unlike ``C:``, which Windows would unpack elsewhere; a zip has the ids of its folder."""
    root = tmp_path / "root"
    images(root / "Trip:")
    some(root / "more", ["x.jpg"])
    archive = zipped(root, tmp_path / "root.zip")
    assert find_source(archive).ids == find_source(root).ids
    assert not find_source(archive).unsafe
