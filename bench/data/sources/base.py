"""What a data source is: one class with title, license, published split, identities and layout.

A subclass in a module of this package is in the registry: ``bench.data.sources`` imports every module here.
"""

from __future__ import annotations

import hashlib
import re
import stat
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import ClassVar

from bench.data.attribute_list import attributes_of, check_attributes
from bench.data.name_lists import NameList, match_names, parse_numbers, require_match
from bench.data.sources.file_tree import FileTree
from bench.errors import DataError
from masks.file_names import folder_of, stem_of

#: What for -> how a list with more columns than it needs may call the one that is meant, in lower case.
COLUMN_NAMES: Mapping[str, tuple[str, ...]] = {
    "split": ("partition", "split"),
    "identities": ("identity", "identity_id", "person", "label"),
    "mapping": ("orig_file",),
}


class DataSource(ABC):
    """A data set known by its layout.

    Subclasses set the class attributes and :meth:`select`, and say what is published besides.
    """

    #: As in results, file names and ``bench list data``.
    name: ClassVar[str]
    #: As the report calls it.
    title: ClassVar[str]
    #: Whose images these are and on what terms, in one line.
    license: ClassVar[str]
    #: Where to get it.
    homepage: ClassVar[str] = ""
    #: The layouts that are recognized, for the documentation.
    layout: ClassVar[str] = ""
    #: The published split, for the documentation; empty if there is none.
    published_split: ClassVar[str] = ""
    #: Sources are asked in ascending order; the folder of any images comes last.
    order: ClassVar[int] = 10
    #: Zips to look into, in lower case: :mod:`~bench.data.sources.find_zips` finds them.
    zip_names: ClassVar[tuple[str, ...]] = ()
    #: Side of ``--crop center`` in pixels; ``None`` is the largest centered square.
    center_side: ClassVar[int | None] = None
    #: The largest square that an image holds, where all have one size.
    largest_side: ClassVar[int | None] = None
    #: Whether eyes, nose and mouth lie at the same place in every image.
    aligned_faces: ClassVar[bool] = False
    #: Where real, aligned faces lie in the square of ``--crop center``: center and side, as fractions of its side.
    face_box: ClassVar[tuple[float, float, float] | None] = None
    #: Whether the images are drawn by this program: no real data, never a result.
    procedural: ClassVar[bool] = False
    #: Whether the claims of the MGS-IIM paper are about these images.
    claims_dataset: ClassVar[bool] = False
    #: Lists that are published with the images: what for -> stem of the file.
    lists: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def select(self, tree: FileTree) -> dict[str, str] | None:
        """Return image id -> path in the tree, or ``None`` where the tree is not this data set.

        Ids are the same in every layout of a data set: masks and splits are functions of them.
        """

    def called(self, tree: FileTree) -> tuple[str, str]:
        """Return name and title of these images."""
        return self.name, self.title

    def list_folders(self, tree: FileTree) -> list[Path]:
        """Return folders outside the tree in which lists may lie."""
        return list(tree.folders_around) if tree.place.is_file() else []

    def partition(self, tree: FileTree, paths: Mapping[str, str]) -> dict[str, int]:
        """Return image id -> 0 training, 1 validation, 2 test, where it is published; else an empty table."""
        return self._numbers(tree, "split", paths, highest=2)

    def identities(self, tree: FileTree, paths: Mapping[str, str]) -> dict[str, int]:
        """Return image id -> number of the person shown, where it is published."""
        return self._numbers(tree, "identities", paths)

    def attributes(self, tree: FileTree, paths: Mapping[str, str]) -> Mapping[str, Mapping[str, bool]]:
        """Return attribute -> image id -> whether the image has it, where a list of them lies with the other lists.

        Raises:
            DataError: the list has no header, names none of the images, or a value is none of an attribute.
        """
        stem = self.lists.get("attributes")
        listed = tree.find_list(stem, self.list_folders(tree)) if stem else None
        # A header alone would be attributes that no picture has.
        if listed is None or not listed.rows:
            return {}
        check_attributes(listed)
        found = match_names(paths, listed.rows)
        require_match(found, list(paths), listed)
        return attributes_of(listed, found)

    def remarks(self, tree: FileTree, paths: Mapping[str, str]) -> list[str]:
        """Return sentences about what is unusual in the images that are used, of which somebody may not know."""
        return []

    def concerns(self, what: str, listed: NameList, paths: Mapping[str, str]) -> bool:
        """Return whether a list that lies beside the images names some of them, or of several of one name."""
        listed_stems = {stem_of(name.replace("\\", "/")) for name in listed.rows}
        return not listed_stems.isdisjoint(map(stem_of, paths))

    def _numbers(
        self, tree: FileTree, what: str, paths: Mapping[str, str], highest: int | None = None
    ) -> dict[str, int]:
        stem = self.lists.get(what)
        listed = tree.find_list(stem, self.list_folders(tree), COLUMN_NAMES[what]) if stem else None
        if listed is None:
            return {}
        # Checked before matching: a wrong number is a wrong list, whichever images it names.
        numbers = parse_numbers(listed, COLUMN_NAMES[what])
        wrong = next((n for n, value in numbers.items() if highest is not None and value > highest), None)
        if wrong is not None:
            raise DataError(f"{listed.place}: {wrong} is in part {numbers[wrong]}; there are 0, 1 and 2")
        found = match_names(paths, numbers)
        # A list for other images would leave every image without a value, and nobody would notice.
        require_match(found, list(paths), listed)
        return found


@dataclass(frozen=True)
class FoundImages:
    """The images of a data source that were found.

    Attributes:
        kind: which data source it is.
        name: its name, or the folder's.
        title: as the report calls it.
        place: the folder or zip.
        paths: image id -> path below the place, in the order of ids.
        partition: image id -> 0 train, 1 validation, 2 test, where a published split is known.
        identities: image id -> who is shown, where known.
        attributes: attribute -> image id -> whether it has it.
        unsafe: images of a zip whose path would leave its folder.
        notes: what was seen and is not used, in sentences.
    """

    kind: DataSource
    name: str
    title: str
    place: Path
    paths: dict[str, str]
    partition: dict[str, int] = field(default_factory=dict)
    identities: dict[str, int] = field(default_factory=dict)
    attributes: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)
    unsafe: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        """Image ids, in order."""
        return list(self.paths)

    def file_signature(self) -> str:
        """Return a text that changes whenever files do; part of the name of the cache file."""
        # A zip is one file: its own size and times stand for all members.
        if self.place.is_file():
            return f"{self.place.resolve()} {_size_and_times(self.place)} {len(self.paths)}"
        return (
            f"{self.place.resolve()} {[_size_and_times(self.place / path) for path in self.paths.values()]}"
        )


def _size_and_times(path: Path) -> tuple[int, int, int, int]:
    """Return size, time of modification and ctime, which no program can set and renaming changes too; of a link both.

    Not the inode: some network file systems number files anew at each mount, and all would be decoded again.
    """
    try:
        state = path.lstat()
        link = state.st_ctime_ns if stat.S_ISLNK(state.st_mode) else 0
        state = path.stat() if link else state
    except (
        OSError
    ):  # vanished since it was listed, or in a folder that may not be entered: skipped when it is read
        return (-1, -1, -1, -1)
    return (state.st_size, state.st_mtime_ns, state.st_ctime_ns, link)


def split_by_folder(paths: Mapping[str, str], parts: Mapping[str, int]) -> dict[str, int]:
    """Return the part of each image from the outermost folder in its path that has one; an empty table if some lack it.

    >>> split_by_folder({"1": "train/a/1.png", "2": "val/2.png"}, {"train": 0, "val": 2})
    {'1': 0, '2': 2}
    """
    found = {}
    for image_id, path in paths.items():
        # Folders only: an image may itself be called "test".
        part = next((parts[folder] for folder in path.split("/")[:-1] if folder in parts), None)
        if part is None:
            return {}
        found[image_id] = part
    return found


#: What people call the folders of a data set that is divided already.
_PART = re.compile(
    r"(train|val|test)(ing|id|idation)?([-_ ]?(imgs?|images?|pictures?|data|set|\d+))?", re.IGNORECASE
)


def part_of_split(folder: str) -> str:
    """Return which part of a split a folder is called after, ``train``, ``val`` or ``test``; empty for none.

    >>> part_of_split("Validation"), part_of_split("test_img"), part_of_split("tests of mine")
    ('val', 'test', '')
    """
    part = _PART.fullmatch(folder)
    return part[1].lower() if part else ""


def split_folders(paths: Iterable[str]) -> list[str]:
    """Return the folders around images that are called like the parts of a split, if there are several.

    >>> split_folders(["a/train/1.png", "a/test/2.png"]), split_folders(["test/1.png"])
    (['test', 'train'], [])
    """
    found = {
        part
        for folder in {folder_of(path) for path in paths}
        for part in folder.split("/")
        if part_of_split(part)
    }
    return sorted(found) if len(found) > 1 else []


def hold_out_validation(partition: Mapping[str, int], name: str, share: float = 0.02) -> dict[str, int]:
    """Turn a share of the training images into validation images, chosen by a digest of name and id.

    For data sets whose published validation images are what everybody tests on.
    """
    limit = int(share * 2**32)

    def is_held_out(image_id: str) -> bool:
        digest = hashlib.sha256(f"validation\x1f{name}\x1f{image_id}".encode()).digest()
        # 32 bits of the digest: the share needs no more, and images come and go without changing the others.
        return int.from_bytes(digest[:4], "big") < limit

    return {i: 1 if part == 0 and is_held_out(i) else part for i, part in partition.items()}


def take_larger_folders(folders: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return image id -> path from folders that may hold images of the same ids.

    Of two files with one id, the one in the larger folder is taken, since a few samples, or a program's outputs, may
    lie beside the whole data set; of two as large a JPEG, then what lies less deep. Of a folder most of whose ids are
    taken the rest is not, which would be outputs for images that the data lack. The folders of a division (``train``,
    ``val``, ``test``) count as one.

    Args:
        folders: folder -> image id -> path.
    """

    def rank(folder: str) -> tuple[int, bool, int, str]:
        jpegs = all(path.lower().endswith(".jpg") for path in folders[folder].values())
        # The name last, so that every machine takes the same folder.
        return -len(folders[folder]), not jpegs, len(PurePosixPath(folder).parts), folder

    folders = _join_parts(folders)
    found: dict[str, str] = {}
    for folder in sorted(folders, key=rank):
        inside = folders[folder]
        if 2 * len(inside.keys() & found.keys()) <= len(inside):
            found = {**inside, **found}
    return found


def _join_parts(folders: Mapping[str, Mapping[str, str]]) -> dict[str, Mapping[str, str]]:
    """Join the folders that differ in the part of a split alone and have no id in common.

    >>> _join_parts({"a/train": {"1": "a/train/1.png"}, "a/test": {"2": "a/test/2.png"}, "b": {"1": "b/1.png"}})
    {'b': {'1': 'b/1.png'}, 'a': {'2': 'a/test/2.png', '1': 'a/train/1.png'}}
    """
    wholes = {
        folder: "/".join(part for part in folder.split("/") if not part_of_split(part)) for folder in folders
    }
    # Those without such a part first, so that they have their own name.
    joined: dict[str, dict[str, str]] = {}
    for folder in sorted(folders, key=lambda folder: (wholes[folder] != folder, folder)):
        whole = wholes[folder]
        key = whole if joined.get(whole, {}).keys().isdisjoint(folders[folder]) else folder
        joined.setdefault(key, {}).update(folders[folder])
    return dict(joined)
