"""What lies with the images of a data source and is not used, in sentences: nothing is passed over in silence.

A list of the split that is seen and not read would divide the images otherwise than published, a zip that holds more
than the folder beside it would hide the whole data set.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from bench.data.sources.base import DataSource, split_folders
from bench.data.sources.file_tree import (
    LIST_FOLDERS,
    FileTree,
    is_called_alike,
    open_tree,
    why_no_file,
)
from bench.data.sources.find_zips import find_zips
from bench.data.sources.zip_files import files_in, folders_in, is_other_archive, zips_in
from bench.errors import DataError
from bench.wording import format_count
from masks.file_names import escape_name, first_names, name_example, name_of
from masks.image_files import HIDDEN, is_document

#: Google Drive packs a large folder into several zips, of which each holds a part of the files.
_PART = re.compile(r"(.+-)\d{3}")
#: A folder is told to be one of them by the time in its name.
_UNPACKED_PART = re.compile(r"(.+-\d{8}T\d{6}Z-(\d+-)?)\d{3}")


def files_not_used(kind: DataSource, tree: FileTree) -> list[str]:
    """Return sentences about the files of a place, and of the folder in which a zip was found, that are not used."""
    return [
        *_unread_beside_lists(kind, tree), *_unused_around(kind, tree), *_other_parts(tree), *_archives_beside(tree),
    ]  # fmt: skip


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
        folder = name_of(path).lower().startswith(LIST_FOLDERS)
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
        sentences.append(
            f"beside {shown}: {format_count(len(zips), 'zip', 'are')} not used: {first_names(zips)}"
        )
    if images := outer.files.images:
        what = format_count(len(images), "picture", "are")
        sentences.append(f"beside {shown}: {what} not used: {first_names(images)}")
    return sentences


def _other_parts(tree: FileTree) -> list[str]:
    """Return a sentence about the other parts of a download of which one is given, packed or unpacked."""
    place = tree.place.absolute()
    own = place.stem if place.is_file() else place.name
    part = _PART.fullmatch(own)
    if not part or tree.outer is not None:  # what lies in the folder around is named already
        return []
    parts = {path.stem: path.name for path in zips_in(place.parent)}
    if _UNPACKED_PART.fullmatch(own):
        for folder in folders_in(place.parent):
            parts.setdefault(folder.name, folder.name)  # one that was unpacked beside its zip is named once
    others = sorted(
        name
        for stem, name in parts.items()
        if stem != own and (other := _PART.fullmatch(stem)) and other[1] == part[1]
    )
    if not others:
        return []
    return [
        f"beside {escape_name(place.name)}, the other parts of its download are not used: {first_names(others)}"
    ]


def _archives_beside(tree: FileTree) -> list[str]:
    """Return a sentence about the archives beside a folder that are called alike: it may be unpacked in part.

    Of zips, which are looked into, other sentences tell.
    """
    place = tree.place.absolute()
    if not place.is_dir():
        return []
    start = f"{place.name.lower()}."
    archives = files_in(place.parent, lambda name: name.lower().startswith(start) and is_other_archive(name))
    if not archives:
        return []
    what, named = format_count(len(archives), "archive", "are"), first_names(path.name for path in archives)
    return [
        f"beside {escape_name(place.name)}, {what} not looked into: {named}; what this folder lacks of it is not used"
    ]


def _lists_in(kind: DataSource, tree: FileTree) -> list[str]:
    """Return the lists of a place and what is called like one, packed ones too."""
    stems = kind.lists.values()
    return [path for path in tree.files.others if any(is_called_alike(path, stem) for stem in stems)]


def zips_not_used(kind: DataSource, tree: FileTree, found: Mapping[str, str]) -> list[str]:
    """Return a sentence for each zip that holds pictures that the folder taken instead lacks.

    A folder that was unpacked in part, or that lost files, would otherwise hide the whole data set; so would a stray
    picture beside a download, whatever its name.
    """
    here = {name_of(image_id) for image_id in found}
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
        except DataError as error:  # one of its lists is not readable
            sentences.append(f"{shown} is not used: {error}")
            continue
        # Whatever else it holds is seen and not used, too.
        held = same or (dict.fromkeys(packed.files.images, "") if own else {})
        # By file name, since a zip of any images may have other folders around them than the folder beside it.
        if more := sorted(image_id for image_id in held if name_of(image_id) not in here):
            sentences.append(
                f"{shown} is not used, and holds {format_count(len(more), 'picture')} that the folder beside it "
                f"lacks ({name_example(more)}); give it as --data to use it"
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
        for path in zips_in(folder):
            found.setdefault(os.path.relpath(path, place), path)
    return {shown: path for shown, path in found.items() if not why_no_file(path) and path.is_file()}


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
    what = format_count(len(unsafe), "picture")
    return [f"the path of {what} leaves the zip: {first_names(unsafe)}"] if unsafe else []
