"""What a data source is: one class with title, license, published split, identities and layout.

A subclass in a module of this package is in the registry: ``bench.data.sources`` imports every module here.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import ClassVar

from bench.data.name_lists import NameList, match_names, parse_list, parse_numbers, require_match
from bench.errors import DataError
from masks.image_files import FoundFiles, escape_name, find_files, find_zip_members, zip_member_name

_MAX_BYTES = 256 * 2**20  # one compressed image; more is an accident or an attack
_MAX_LIST_BYTES = 64 * 2**20
#: The longest path that Linux takes.
_MAX_LINK_BYTES = 4096
_LIST_SUFFIXES = (".txt", ".csv")
#: CelebA's own folders for its lists.
_LIST_FOLDERS = ("eval", "anno")
#: What for -> how a list with more columns than it needs may call the one that is meant, in lower case.
COLUMN_NAMES: Mapping[str, tuple[str, ...]] = {
    "split": ("partition", "split"),
    "identities": ("identity", "identity_id", "person", "label"),
}
#: Endings of archives that are not looked into, in lower case.
_OTHER_ARCHIVES = (
    ".7z", ".rar", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".001", ".z01", ".part", ".crdownload",
)  # fmt: skip
#: What reading a member of a damaged, encrypted or oddly compressed zip raises, beside OSError.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    RuntimeError,
    NotImplementedError,
    ValueError,
    EOFError,
    zlib.error,
    LookupError,
)


@dataclass(frozen=True)
class FileTree:
    """Files of the folder or zip that a user named.

    Attributes:
        place: the folder or zip.
        files: what it holds.
        outer: the folder in which a zip was found, if the user named the folder.
    """

    place: Path
    files: FoundFiles
    outer: FileTree | None = None

    @property
    def folder_names(self) -> tuple[str, ...]:
        """Names of the place and of the two folders above it, from the outside in; a zip's name without suffix."""
        return self._names(self.place.resolve())

    @property
    def names_above(self) -> frozenset[str]:
        """Names of the place and of the folder above it, both as given and where links lead."""
        given = self.place.absolute()  # not resolve(): people link data sets from other disks
        return frozenset((*self._names(given)[1:], *self._names(self.place.resolve())[1:]))

    def _names(self, place: Path) -> tuple[str, str, str]:
        return (place.parent.parent.name, place.parent.name, place.stem if place.is_file() else place.name)

    @property
    def folders_around(self) -> tuple[Path, ...]:
        """The folder above the place, as given and where links lead."""
        given = self.place.absolute()
        return tuple(dict.fromkeys((given.parent, self.place.resolve().parent)))

    def find_list(self, stem: str, beside: Sequence[Path] = ()) -> NameList | None:
        """Read the list ``stem.txt`` or ``stem.csv`` nearest to the root, here, around the zip, or in ``beside``.

        Raises:
            DataError: it is not readable as a list.
        """
        wanted = [(stem + suffix).lower() for suffix in _LIST_SUFFIXES]
        here = [p for p in self.files.others if PurePosixPath(p).name.lower() in wanted]
        if here:
            # The one nearest to the root, since copies of lists lie in sub-folders of some downloads.
            path, *others = sorted(here, key=lambda p: (p.count("/"), p))
            listed = self._parse(path)
            for name in others:
                _check_same(listed, self._parse(name))
            return listed
        # The folder around a zip is where the published downloads have the lists.
        if self.outer is not None:
            return self.outer.find_list(stem)
        for folder in beside:
            lists = [_read_list(folder, path) for path in _lists_in(folder, stem)]
            for other in lists[1:]:
                _check_same(lists[0], other)
            if lists:
                return lists[0]
        return None

    def _parse(self, path: str) -> NameList:
        return _read_list(self.place, path)

    def open_zips(self, names: Sequence[str] | None = None) -> Iterator[FileTree]:
        """Open the zips of those names that lie in this folder; all zips for ``None``."""
        for path in self.zip_paths(names):
            yield open_tree(self.place / path, outer=self)

    def zip_paths(self, names: Sequence[str] | None = None) -> list[str]:
        """Return the paths of the zips that :meth:`open_zips` opens."""
        here = self.files.others if self.place.is_dir() else []
        zips = [path for path in here if path.lower().endswith(".zip")]
        return [path for path in zips if names is None or PurePosixPath(path).name.lower() in names]


def _lists_in(folder: Path, stem: str) -> list[str]:
    """List the lists of that stem in a folder, then in CelebA's own folders for lists; the case of letters is free."""
    wanted = [(stem + suffix).lower() for suffix in _LIST_SUFFIXES]

    def names_in(place: Path, usual: Sequence[str]) -> list[str]:
        try:
            return sorted(path.name for path in place.iterdir())
        except OSError:
            # A folder that may be entered and not listed: the usual spelling is all that can be asked.
            return list(usual)

    lists = [stem + suffix for suffix in _LIST_SUFFIXES]
    inner = [name for name in names_in(folder, ("Eval", "Anno")) if name.lower() in _LIST_FOLDERS]
    below = [
        f"{prefix}{name}"
        for prefix in ("", *(f"{name}/" for name in inner))
        for name in names_in(folder / prefix, lists)
        if name.lower() in wanted
    ]
    return [path for path in below if _is_file(folder / path)]


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # in a folder that may not be entered
        return False


def _read_list(place: Path, path: str) -> NameList:
    """Read one list of a folder or zip.

    Raises:
        DataError: it cannot be read.
    """
    shown = escape_name(str(place / path))
    try:
        content = read_bytes(place, path, _MAX_LIST_BYTES)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{shown}: not readable ({reason}); get it again, or remove it") from error
    return parse_list(content, shown)


def _check_same(listed: NameList, other: NameList) -> None:
    """Refuse two lists of one kind that contradict each other: nobody could say which one is meant.

    Raises:
        DataError: with the first name of which they differ.
    """
    if len(listed.columns) > 1 and listed.columns != other.columns:
        return  # their values do not stand in one order
    values = match_names(other.rows, listed.rows)
    for name, value in other.rows.items():
        if values.get(name, value) != value:
            raise DataError(
                f"{other.place}:{other.line_numbers[name]}: says {' '.join(value)} of {name}, and {listed.place} says "
                f"{' '.join(values[name])}; remove one of the two lists"
            )


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
    #: Zips to look into, in lower case.
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

    def attributes(self, tree: FileTree, paths: Mapping[str, str]) -> dict[str, dict[str, bool]]:
        """Return attribute -> image id -> whether the image has it, where it is published."""
        return {}

    def _numbers(
        self, tree: FileTree, what: str, paths: Mapping[str, str], highest: int | None = None
    ) -> dict[str, int]:
        stem = self.lists.get(what)
        listed = tree.find_list(stem, self.list_folders(tree)) if stem else None
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
        unsafe: entries of a zip whose path would leave its folder.
        notes: what was seen and is not used, in sentences.
    """

    kind: DataSource
    name: str
    title: str
    place: Path
    paths: dict[str, str]
    partition: dict[str, int] = field(default_factory=dict)
    identities: dict[str, int] = field(default_factory=dict)
    attributes: dict[str, dict[str, bool]] = field(default_factory=dict)
    unsafe: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        """Image ids, in order."""
        return list(self.paths)

    def file_signature(self) -> str:
        """Return a text that changes whenever files do; part of the name of the cache file."""
        # A zip is one file: its own size and time stand for all members.
        if self.place.is_file():
            state = self.place.stat()
            return f"{self.place.resolve()} {state.st_size} {state.st_mtime_ns} {len(self.paths)}"
        return f"{self.place.resolve()} {[_size_and_time(self.place / path) for path in self.paths.values()]}"


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        state = path.stat()
    except (
        OSError
    ):  # vanished since it was listed, or in a folder that may not be entered: skipped when it is read
        return (-1, -1)
    return (state.st_size, state.st_mtime_ns)


def split_by_folder(paths: Mapping[str, str], parts: Mapping[str, int]) -> dict[str, int]:
    """Return the part of each image from the outermost folder in its path that has one; an empty table if some lack it.

    >>> split_by_folder({"1": "train/a/1.png", "2": "val/2.png"}, {"train": 0, "val": 2})
    {'1': 0, '2': 2}
    """
    found = {}
    for image_id, path in paths.items():
        # Folders only: an image may itself be called "test".
        part = next((parts[folder] for folder in PurePosixPath(path).parts[:-1] if folder in parts), None)
        if part is None:
            return {}
        found[image_id] = part
    return found


#: What people call the folders of a data set that is divided already, in lower case.
_SPLIT_FOLDERS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing"})


def split_folders(paths: Iterable[str]) -> list[str]:
    """Return the folders around images that are called like the parts of a split, if there are several.

    >>> split_folders(["a/train/1.png", "a/test/2.png"]), split_folders(["test/1.png"])
    (['test', 'train'], [])
    """
    found = {
        part for path in paths for part in PurePosixPath(path).parts[:-1] if part.lower() in _SPLIT_FOLDERS
    }
    return sorted(found) if len(found) > 1 else []


def lists_beside(tree: FileTree, stem: str) -> list[NameList]:
    """Read the lists of that stem in the folder above; none where they cannot be read, or the place is a zip."""
    if tree.place.is_file():
        return []
    found = []
    for folder in tree.folders_around:
        for path in _lists_in(folder, stem):
            with contextlib.suppress(DataError):
                found.append(_read_list(folder, path))
    return found


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


def open_tree(place: Path, outer: FileTree | None = None) -> FileTree:
    """List the files of a folder or zip.

    Raises:
        DataError: a folder that cannot be read, or a damaged zip.
    """
    try:
        if place.is_file():
            return FileTree(place, _open_zip(place)[1], outer)
        return FileTree(place, find_files(place), outer)
    except (OSError, *_ZIP_ERRORS) as error:
        if place.is_file() and is_other_archive(place.name):
            raise DataError(f"--data {place}: not a zip; unpack it, and give its folder as --data") from error
        what = "zip of images" if place.is_file() else "folder"
        raise DataError(f"--data {place}: not a readable {what} ({error}); get it again") from error


def is_other_archive(name: str) -> bool:
    """Return whether a file's name is that of an archive that is not looked into.

    >>> is_other_archive("img_align_celeba_png.7z.001"), is_other_archive("faces.tar.gz"), is_other_archive("a.zip")
    (True, True, False)
    """
    return name.lower().endswith(_OTHER_ARCHIVES)


def is_packed(name: str) -> bool:
    """Return whether a file's name is that of an archive of any kind."""
    return is_other_archive(name) or name.lower().endswith(".zip")


def read_bytes(place: Path, path: str, limit: int = _MAX_BYTES) -> bytes:
    """Return the bytes of one file of a folder or zip.

    Raises:
        OSError: unreadable, or larger than ``limit``.
    """
    if place.is_dir():
        file = place / path
        if file.stat().st_size > limit:
            raise OSError(f"larger than {limit >> 20} MiB")
        return file.read_bytes()
    archive, found, infos = _open_zip(place)
    member = infos[found.members[path]]
    # The size in the directory is checked before anything is decompressed.
    if member.file_size > limit:
        raise OSError(f"larger than {limit >> 20} MiB")
    try:
        return archive.read(member)
    except _ZIP_ERRORS as error:
        raise OSError(str(error)) from error


def forget_open_zip() -> None:
    """Close the zip that is kept open: it may have been replaced by another one."""
    _open_zip.cache_clear()


@lru_cache(maxsize=1)
def _open_zip(place: Path) -> tuple[zipfile.ZipFile, FoundFiles, dict[str, zipfile.ZipInfo]]:
    """Open a zip and keep it open for this process: reading its directory once is enough. Nothing is extracted."""
    archive = zipfile.ZipFile(place)
    infos = {zip_member_name(info): info for info in archive.infolist()}
    links = {name: _link_target(archive, info) for name, info in infos.items() if _is_link(info)}
    return archive, find_zip_members(infos, links), infos


def _is_link(info: zipfile.ZipInfo) -> bool:
    """Return whether a member of a zip is a symbolic link (``zip -y``): its content is where it leads."""
    return stat.S_ISLNK(info.external_attr >> 16)


def _link_target(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> str:
    """Return where a link in a zip leads; the root, where there is nothing, if that cannot be read."""
    try:
        return os.fsdecode(archive.read(info)) if info.file_size <= _MAX_LINK_BYTES else "/"
    except _ZIP_ERRORS:
        return "/"
