"""What lies with the images of a data source and is not used, in sentences: nothing is passed over in silence.

A list of the split that is seen and not read would divide the images otherwise than published, a zip that holds more
than the folder beside it would hide the whole data set.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from bench.data.name_lists import NameList
from bench.data.sources.base import COLUMN_NAMES, DataSource, split_folders
from bench.data.sources.file_tree import (
    LIST_FOLDERS,
    FileTree,
    called_alike,
    files_beside,
    find_contradiction,
    is_called,
    is_called_alike,
    lists_beside,
    open_tree,
    why_no_file,
)
from bench.data.sources.find_zips import find_zips
from bench.data.sources.zip_files import is_packed
from bench.errors import DataError
from masks.file_names import escape_name
from masks.image_files import HIDDEN, is_document

#: Tables that are no text, in lower case.
_OTHER_TABLES = frozenset(
    {
        ".xlsx",
        ".xls",
        ".xlsm",
        ".ods",
        ".numbers",
        ".parquet",
        ".feather",
        ".pkl",
        ".pickle",
        ".npy",
        ".npz",
        ".mat",
    }
    | {".json", ".jsonl", ".xml", ".html", ".pdf", ".docx", ".doc", ".rtf", ".db", ".sqlite", ".h5", ".hdf5"}
)


def files_not_used(kind: DataSource, tree: FileTree) -> list[str]:
    """Return sentences about the files of a place, and of the folder in which a zip was found, that are not used."""
    return [*_unread_beside_lists(kind, tree), *_unused_around(kind, tree)]


def _unread_beside_lists(kind: DataSource, tree: FileTree) -> list[str]:
    """Return what a place holds that is not looked into: each list that cannot be read, then the first of the rest."""
    lists = _lists_out_of_reach(kind, tree)
    sentences = [f"left out: {escape_name(path)} ({reason})" for path, reason in lists.items()]
    rest = [left_out for left_out in tree.files.left_out if left_out.path not in lists]
    shown = dataclasses.replace(tree, files=dataclasses.replace(tree.files, left_out=rest))
    return [*sentences, *_unread(shown, _lists_in(kind, tree))]


def _lists_out_of_reach(kind: DataSource, tree: FileTree) -> dict[str, str]:
    """Return what is called like a list, or like a folder of lists, and cannot be read, with the reason."""
    if not kind.lists:
        return {}

    def is_meant(path: str) -> bool:
        folder = PurePosixPath(path).name.lower().startswith(LIST_FOLDERS)
        return folder or any(is_called_alike(path, stem) for stem in kind.lists.values())

    return {
        left_out.path: left_out.reason
        for left_out in tree.files.left_out
        if left_out.reason != HIDDEN and is_meant(left_out.path)
    }


def _unused_around(kind: DataSource, tree: FileTree) -> list[str]:
    """Return sentences about what lies in the folder in which a zip was found, and is not used."""
    if tree.outer is None:
        return []
    outer, shown = tree.outer, escape_name(tree.place.name)
    lists = _lists_in(kind, outer)
    sentences = [f"beside {shown}: {sentence}" for sentence in _unread_beside_lists(kind, outer)]
    zips = [path for path in find_zips(outer) if path not in lists and outer.place / path != tree.place]
    if zips:
        sentences.append(f"beside {shown}: {len(zips):,} zips are not used: {first_names(zips)}")
    if images := outer.files.images:
        sentences.append(f"beside {shown}: {len(images):,} pictures are not used: {first_names(images)}")
    return sentences


def _lists_in(kind: DataSource, tree: FileTree) -> list[str]:
    """Return the lists of a place and what is called like one, packed ones too."""
    stems = kind.lists.values()
    return [path for path in tree.files.others if any(is_called_alike(path, stem) for stem in stems)]


def zips_not_used(kind: DataSource, tree: FileTree, found: Mapping[str, str]) -> list[str]:
    """Return a sentence for each zip that holds pictures, or lists, that the folder taken instead lacks.

    A folder that was unpacked in part, or that lost files, would otherwise hide the whole data set; so would a stray
    picture beside a download, whatever its name.
    """
    here = {PurePosixPath(image_id).name for image_id in found}
    sentences = []
    # Of packed lists another sentence tells.
    packed_lists = set(_lists_in(kind, tree))
    zips = {path: tree.place / path for path in find_zips(tree) if path not in packed_lists}
    around = _zips_around(kind, tree)
    for path, place in {**zips, **around}.items():
        shown = escape_name(path)
        # Above the folder lies what is no business of these images, unless it bears the folder's name.
        own = path not in around or place.stem == tree.place.absolute().name
        try:
            packed = open_tree(place, tree)
        except DataError:
            if own:
                sentences.append(f"{shown} is not used: it is no readable zip")
            continue
        try:
            same = kind.select(packed)
            # Of lists alone nobody can say whose they are but by where they lie.
            listed = not packed.files.images and any(map(packed.holds_list, kind.lists.values()))
            if not (same or own or listed):
                continue
            # Whatever else it holds is seen and not used, too.
            held = same or dict.fromkeys(packed.files.images, "")
            for what, stem in kind.lists.items():
                # A zip of lists alone is of these images; one of other images has its own.
                if (same or not packed.files.images) and packed.holds_list(stem):
                    packed.find_list(stem, kind.list_folders(tree), COLUMN_NAMES.get(what, ()))
        except DataError as error:  # its list is not readable, or contradicts the one that is used
            sentences.append(f"{shown} is not used: {error}")
        else:
            # By file name, since a zip of any images may have other folders around them than the folder beside it.
            if more := sorted(image_id for image_id in held if PurePosixPath(image_id).name not in here):
                sentences.append(
                    f"{shown} is not used, and holds {len(more):,} pictures that the folder beside it lacks "
                    f"({escape_name(more[0])} and so on); give it as --data to use it"
                )
            elif lists := [p for p in packed.files.others if _is_list_of(kind, p) and not _has_list(tree, p)]:
                sentences.append(
                    f"{escape_name(lists[0])} in {shown} is not read: to use it, unpack it beside the pictures"
                )
    return sentences


def _zips_around(kind: DataSource, tree: FileTree) -> dict[str, Path]:
    """Return the zips from which a folder may be unpacked: the one beside it that is called alike, and those by lists.

    Where the user named the inner folder of a download, the download lies above it (Kaggle's ``archive.zip``).
    """
    place = tree.place.absolute()
    if not place.is_dir():
        return {}
    found = {f"../{place.name}.zip": place.parent / f"{place.name}.zip"}
    for folder in kind.list_folders(tree):
        for path in _zips_in(folder):
            found.setdefault(os.path.relpath(path, place), path)
    return {shown: path for shown, path in found.items() if not why_no_file(path) and path.is_file()}


def _is_list_of(kind: DataSource, path: str) -> bool:
    name = PurePosixPath(path.lower())
    return name.stem in {stem.lower() for stem in kind.lists.values()} and name.suffix in (".txt", ".csv")


def _has_list(tree: FileTree, path: str) -> bool:
    """Return whether a folder has a list that is called like the one at ``path`` in a zip."""
    stem = PurePosixPath(path.lower()).stem
    return any(PurePosixPath(other.lower()).stem == stem for other in tree.files.others)


def lists_not_used(
    kind: DataSource, tree: FileTree, paths: Mapping[str, str], given: Mapping[str, bool]
) -> list[str]:
    """Return a sentence for each list that is seen and not used, also for one that is read and gives nothing.

    Args:
        kind: of the images.
        tree: where they are.
        paths: image id -> path.
        given: what for -> whether a list has given it.
    """
    sentences = _lists_not_read(kind, tree, paths)
    for what, stem in kind.lists.items():
        lists = tree.empty_lists(stem, kind.list_folders(tree))
        if not lists and not given.get(what, True):
            lists = [escape_name(path) for path in tree.files.others if is_called(path, stem)][:1]
        sentences += [f"{path} is not used: it says nothing of these pictures" for path in lists]
    for stem in kind.lists.values():
        sentences += _lists_of_other_names(kind, tree, stem)
    return sentences


def _lists_not_read(kind: DataSource, tree: FileTree, paths: Mapping[str, str]) -> list[str]:
    """Return a sentence for each list that names these images and lies where it is not read, beside their folder."""
    sentences = []
    folders = kind.list_folders(tree)
    for what, stem in kind.lists.items():
        for file, listed in lists_beside(tree, stem):
            # Where lists are read, one under another name is told of elsewhere.
            if any(file.is_relative_to(folder) for folder in folders):
                continue
            # What is no list of these images is nobody's here, readable or not.
            with contextlib.suppress(DataError):
                if kind.concerns(what, listed, paths):
                    sentences += _list_not_read(what, stem, listed, tree.find_list(stem, folders), paths)
        sentences += _no_lists_beside(tree, stem, folders, paths)
    return [*sentences, *_zipped_lists_beside(kind, tree, paths)]


def _are_numbered(image_ids: Iterable[str]) -> bool:
    """Return whether most images are called by numbers, as those are that come with lists."""
    numbered = [PurePosixPath(image_id).stem.isdigit() for image_id in image_ids]
    return 2 * sum(numbered) >= len(numbered)


def _zipped_lists_beside(kind: DataSource, tree: FileTree, paths: Iterable[str]) -> list[str]:
    """Return a sentence for each zip of lists alone that lies beside the folder of images, where none is looked for."""
    sentences = []
    searched = kind.list_folders(tree)
    named = tree.outer or tree
    for folder in named.folders_around if named.place.is_dir() and _are_numbered(paths) else ():
        for place in _zips_in(folder) if folder not in searched else ():
            try:
                packed = open_tree(place)
            except DataError:  # whatever it is, nobody knows of a list in it
                continue
            lists = [
                path for path in packed.files.others if _is_list_of(kind, path) and not _has_list(tree, path)
            ]
            if lists and not packed.files.images:
                shown = f"{escape_name(lists[0])} in {escape_name(str(place))}"
                way = "unpack it, and give the folder around both as --data"
                sentences.append(f"{shown} lies beside this folder and is not read; {way}")
    return sentences


def _zips_in(folder: Path) -> list[Path]:
    # A folder that may be entered and not listed has no names to offer.
    with contextlib.suppress(OSError):
        return sorted(path for path in folder.iterdir() if path.suffix.lower() == ".zip" and path.is_file())
    return []


def _no_lists_beside(tree: FileTree, stem: str, folders: Sequence[Path], paths: Iterable[str]) -> list[str]:
    """Return a sentence about what is called like a list, lies beside the folder of images, and cannot be read as one.

    Whose list it is nobody can say: it is named where the images are called by numbers, as those with such lists are.
    """
    if not _are_numbered(paths) or tree.list_places(stem, folders):
        return []
    for file in files_beside(tree, stem):
        if any(file.is_relative_to(folder) for folder in folders):
            continue
        shown = escape_name(str(file))
        if why := why_no_file(file):
            return [f"{shown} lies beside this folder and is not read: {why}"]
        if is_packed(file.name) or file.suffix.lower() in _OTHER_TABLES:
            way = f"{_way_to_list(file.name)} it, as {stem}.txt or .csv"
            return [
                f"{shown} lies beside this folder and is not read; {way}, and give the folder around both as --data"
            ]
    return []


def _list_not_read(
    what: str, stem: str, listed: NameList, here: NameList | None, paths: Iterable[str]
) -> list[str]:
    """Return what to say of a list of these images that lies beside their folder; nothing if the one in it agrees."""
    if here is not None:
        says = find_contradiction(here, listed, COLUMN_NAMES.get(what, ()), paths)
        return [f"beside this folder, {says}; only the list with the pictures is read"] if says else []
    name = "" if is_called(listed.place, stem) else f", and call the list {stem}.txt or .csv"
    return [
        f"{listed.place} lies beside this folder and is not read; give the folder around both as --data{name}"
    ]


def _lists_of_other_names(kind: DataSource, tree: FileTree, stem: str) -> list[str]:
    """Return a sentence about what looks like a list and is not read, where that list is not there.

    Browsers and programs that download call it ``list (1).txt``, ``Copy of list.csv``, ``list.txt.txt`` or
    ``list.csv.zip``, and spreadsheets save it as ``list.xlsx``.
    """
    folders = kind.list_folders(tree)
    # The list itself is there: what lies beside it is a copy.
    if tree.list_places(stem, folders):
        return []
    files = [*tree.files.others, *(tree.outer.files.others if tree.outer else ())]
    alike = [path for path in files if is_called_alike(path, stem)]
    beside = [folder / path for folder in folders for path in called_alike(folder, stem)]
    alike += [str(path) for path in beside if not is_called(path.name, stem) and not why_no_file(path)]
    # What has the name and cannot be read; what lies in the tree itself has been named.
    broken = [
        (path, why_no_file(path))
        for path in beside
        if is_called(path.name, stem) and not path.is_relative_to(tree.place.absolute())
    ]
    sentences = [f"{escape_name(str(path))} is not read: {why}" for path, why in broken if why][:1]
    return sentences or [
        f"{escape_name(path)} is not read: to use it, {_way_to_list(path)} it, as {stem}.txt or .csv"
        for path in alike[:1]
    ]


def _way_to_list(path: str) -> str:
    """Return what makes a list of a file that is called like one."""
    if is_packed(path):
        return "unpack"
    # Renaming a workbook would make a list that is not readable.
    return "save" if PurePosixPath(path).suffix.lower() in _OTHER_TABLES else "rename"


def divisions_not_used(paths: Mapping[str, str]) -> list[str]:
    """Return a sentence where images that are divided by a digest look divided already."""
    if not (folders := split_folders(paths.values())):
        return []
    return [
        f"the folders {', '.join(folders)} are not taken as a split: all pictures are divided anew, so those that "
        "somebody tested on may be trained on here"
    ]


def unread_sentences(tree: FileTree, told: Collection[str] = ()) -> list[str]:
    """Return sentences about what a place holds and nobody reads; of what is in ``told`` another sentence tells."""
    return [*_unsafe(tree), *_unread(tree, told)]


def _unread(tree: FileTree, told: Collection[str] = ()) -> list[str]:
    """Return what a place holds that is not looked into, in up to two sentences: hidden parts, other formats.

    Texts and tables are left out, and zips in a folder: of those that matter other sentences tell, as of ``told``.
    """
    told = {*told, *find_zips(tree)}
    others = [path for path in tree.files.others if path not in told and not is_document(path)]
    return dataclasses.replace(tree.files, others=others).unused_sentences()


def _unsafe(tree: FileTree) -> list[str]:
    """Return a sentence about the pictures of a zip whose path leaves it, if there are any."""
    unsafe = tree.files.unsafe
    return [f"the path of {len(unsafe):,} pictures leaves the zip: {first_names(unsafe)}"] if unsafe else []


def first_names(names: Iterable[str]) -> str:
    """Return the first three of some paths, for a sentence."""
    return ", ".join(escape_name(name) for name in list(names)[:3])
