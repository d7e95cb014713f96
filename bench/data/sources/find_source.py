"""The way from a path to the images of a data source: a folder, a zip, or a download that was not unpacked."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from bench.data.name_lists import NameList
from bench.data.sources.base import COLUMN_NAMES, DataSource, FoundImages, split_folders
from bench.data.sources.file_tree import (
    LIST_FOLDERS,
    FileTree,
    called_alike,
    find_contradiction,
    is_called,
    is_called_alike,
    lists_beside,
    open_tree,
    why_no_file,
)
from bench.data.sources.find_zips import find_zips, open_zips
from bench.data.sources.registry import data_sources
from bench.data.sources.zip_files import forget_open_zip, is_other_archive, is_packed
from bench.errors import DataError
from masks.image_files import (
    HIDDEN,
    IMAGE_SUFFIXES,
    escape_name,
    is_document,
    one_line,
    resolve_path,
)

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


def find_source(path: Path) -> FoundImages:
    """Return the images at ``path`` as the first data source that recognizes them.

    Raises:
        DataError: nothing is there, no image, or a list that cannot be read.
    """
    # The zip may have been replaced since the last call in this process.
    forget_open_zip()
    path = resolve_path(str(path))
    if not path.exists():
        raise DataError(f"--data {path}: no such file or folder")
    tree = open_tree(path)
    # By source first: a known data set in a zip wins over the folder of images around it.
    for kind in data_sources():
        if (found := kind.select(tree)) is not None:
            return _describe(kind, tree, found, _unused_zips(kind, tree, found))
        for candidate in open_zips(tree, kind.zip_names):
            if (found := kind.select(candidate)) is not None:
                return _describe(kind, candidate, found)
    # No images in the folder itself: a download that was not extracted (Kaggle's archive.zip).
    # Only a lone zip: of several, nobody could say which one is meant.
    zips = list(open_zips(tree))
    if len(zips) == 1:
        for kind in data_sources():
            if (found := kind.select(zips[0])) is not None:
                return _describe(kind, zips[0], found)
    reasons = [f"holds no pictures ({', '.join(sorted(IMAGE_SUFFIXES))})"]
    if len(zips) > 1:
        reasons.append(
            f"it holds zips, of which --data takes one: {_first_names(z.place.name for z in zips)}"
        )
    # A lone zip was looked into.
    inner = zips[0] if len(zips) == 1 else tree
    packed = [
        name for name in inner.files.others
        if (is_packed(name) if inner.place.is_file() else is_other_archive(name))
    ]  # fmt: skip
    if packed:
        reasons.append(f"it holds archives that are not looked into: {_first_names(packed)}; unpack them")
    reasons += [*_unsafe(tree), *_unread(tree, packed)]
    if inner is not tree:
        unread = [*_unsafe(inner), *_unread(inner, packed)]
        reasons += [f"{escape_name(inner.place.name)}: {sentence}" for sentence in unread]
    raise DataError(f"--data {path}: {'; '.join(reasons)}")


def _first_names(names: Iterable[str]) -> str:
    return ", ".join(escape_name(name) for name in list(names)[:3])


def _unsafe(tree: FileTree) -> list[str]:
    """Return a sentence about the pictures of a zip whose path leaves it, if there are any."""
    unsafe = tree.files.unsafe
    return [f"the path of {len(unsafe):,} pictures leaves the zip: {_first_names(unsafe)}"] if unsafe else []


def _unread(tree: FileTree, told: Collection[str] = ()) -> list[str]:
    """Return what a place holds that is not looked into, in up to two sentences: hidden parts, other formats.

    Texts and tables are left out, and zips in a folder: of those that matter other sentences tell, as of ``told``.
    """
    told = {*told, *find_zips(tree)}
    others = [path for path in tree.files.others if path not in told and not is_document(path)]
    return dataclasses.replace(tree.files, others=others).unused_sentences()


def _lists_in(kind: DataSource, tree: FileTree) -> list[str]:
    """Return the lists of a place and what is called like one, packed ones too."""
    stems = kind.lists.values()
    return [path for path in tree.files.others if any(is_called_alike(path, stem) for stem in stems)]


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


def _unread_beside_lists(kind: DataSource, tree: FileTree) -> list[str]:
    """Return what a place holds that is not looked into: each list that cannot be read, then the first of the rest."""
    lists = _lists_out_of_reach(kind, tree)
    sentences = [f"left out: {escape_name(path)} ({reason})" for path, reason in lists.items()]
    rest = [left_out for left_out in tree.files.left_out if left_out.path not in lists]
    shown = dataclasses.replace(tree, files=dataclasses.replace(tree.files, left_out=rest))
    return [*sentences, *_unread(shown, _lists_in(kind, tree))]


def _unused_around(kind: DataSource, tree: FileTree) -> list[str]:
    """Return sentences about what lies in the folder in which a zip was found, and is not used."""
    if tree.outer is None:
        return []
    outer, shown = tree.outer, escape_name(tree.place.name)
    lists = _lists_in(kind, outer)
    sentences = [f"beside {shown}: {sentence}" for sentence in _unread_beside_lists(kind, outer)]
    zips = [path for path in find_zips(outer) if path not in lists and outer.place / path != tree.place]
    if zips:
        sentences.append(f"beside {shown}: {len(zips):,} zips are not used: {_first_names(zips)}")
    if images := outer.files.images:
        sentences.append(f"beside {shown}: {len(images):,} pictures are not used: {_first_names(images)}")
    return sentences


def _unused_zips(kind: DataSource, tree: FileTree, found: Mapping[str, str]) -> list[str]:
    """Return a sentence for each zip that holds pictures, or lists, that the folder taken instead lacks.

    A folder that was unpacked in part, or that lost files, would otherwise hide the whole data set; so would a stray
    picture beside a download, whatever its name.
    """
    here = {PurePosixPath(image_id).name for image_id in found}
    sentences = []
    # Of packed lists another sentence tells.
    zips = {path: tree.place / path for path in find_zips(tree) if path not in _lists_in(kind, tree)}
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
            if not (same or own):
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
        # A folder that may be entered and not listed has no names to offer.
        with contextlib.suppress(OSError):
            for path in sorted(folder.iterdir()):
                if path.suffix.lower() == ".zip":
                    found.setdefault(os.path.relpath(path, place), path)
    return {shown: path for shown, path in found.items() if not why_no_file(path) and path.is_file()}


def _is_list_of(kind: DataSource, path: str) -> bool:
    name = PurePosixPath(path.lower())
    return name.stem in {stem.lower() for stem in kind.lists.values()} and name.suffix in (".txt", ".csv")


def _has_list(tree: FileTree, path: str) -> bool:
    """Return whether a folder has a list that is called like the one at ``path`` in a zip."""
    stem = PurePosixPath(path.lower()).stem
    return any(PurePosixPath(other.lower()).stem == stem for other in tree.files.others)


def _unused_divisions(paths: Mapping[str, str]) -> list[str]:
    """Return a sentence where images that are divided by a digest look divided already."""
    if not (folders := split_folders(paths.values())):
        return []
    return [
        f"the folders {', '.join(folders)} are not taken as a split: all pictures are divided anew, so those that "
        "somebody tested on may be trained on here"
    ]


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
    return sentences


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


def _describe(
    kind: DataSource, tree: FileTree, found: dict[str, str], notes: Sequence[str] = ()
) -> FoundImages:
    """Put together what is known of the images."""
    notes = [*_unread_beside_lists(kind, tree), *_unused_around(kind, tree), *notes]
    paths: dict[str, str] = {}
    # Sorted, so that of two files with one id the same one is kept on every file system.
    for image_id, path in sorted(found.items()):
        escaped = escape_name(image_id)
        if escaped in paths:
            notes.append(
                f"left out: {one_line(image_id)}, since {one_line(paths[escaped])} is called {escaped} already"
            )
        paths.setdefault(escaped, path)
    # Again, since escaping may have changed the order; ids are sorted everywhere.
    paths = dict(sorted(paths.items()))
    unnamed = [image_id for image_id in paths if image_id not in found]
    if unnamed:
        notes.append(f"{len(unnamed):,} file names are not UTF-8; they are called {unnamed[0]} and so on")
    used = set(paths.values())
    unused = [path for path in tree.files.images if path not in used and escape_name(path) not in used]
    if unused:
        notes.append(f"{len(unused):,} pictures are not used: {escape_name(unused[0])} and so on")
    partition, identities = kind.partition(tree, paths), kind.identities(tree, paths)
    attributes = kind.attributes(tree, paths)
    if identities and len(identities) < len(paths):
        missing = len(paths) - len(identities)
        notes.append(f"the list of identities names no person for {missing:,} of {len(paths):,} pictures")
    if missing := len(paths) - min(map(len, attributes.values()), default=len(paths)):
        notes.append(f"the list of attributes says nothing of {missing:,} of {len(paths):,} pictures")
    if not partition:
        notes += _unused_divisions(paths)
    notes += _lists_not_read(kind, tree, paths)
    # A list that is there and gives nothing would otherwise be passed over in silence.
    for what, stem in kind.lists.items():
        lists = tree.empty_lists(stem, kind.list_folders(tree))
        given = {"split": partition, "identities": identities}.get(what, True)
        if not lists and not given:
            lists = [escape_name(path) for path in tree.files.others if is_called(path, stem)][:1]
        notes += [f"{path} is not used: it says nothing of these pictures" for path in lists]
    for stem in kind.lists.values():
        notes += _lists_of_other_names(kind, tree, stem)
    name, title = kind.called(tree)
    return FoundImages(
        kind=kind,
        name=name,
        title=title,
        place=tree.place,
        paths=paths,
        partition=partition,
        identities=identities,
        attributes=attributes,
        unsafe=[escape_name(member) for member in tree.files.unsafe],
        notes=notes,
    )


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
