"""The files of the folder or zip that a user named, and the lists that lie among them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from bench.data.name_lists import NameList, match_names, parse_list
from bench.data.sources.zip_files import ZIP_ERRORS, is_other_archive, read_zip_member, zip_files
from bench.errors import DataError
from masks.image_files import FoundFiles, escape_name, find_files

_MAX_BYTES = 256 * 2**20  # one compressed image; more is an accident or an attack
_MAX_LIST_BYTES = 64 * 2**20
_LIST_SUFFIXES = (".txt", ".csv")
#: CelebA's own folders for its lists.
_LIST_FOLDERS = ("eval", "anno")


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
            return self.outer.find_list(stem, beside)
        for folder in beside:
            lists = [_read_list(folder, path) for path in _lists_in(folder, stem)]
            for other in lists[1:]:
                _check_same(lists[0], other)
            if lists:
                return lists[0]
        return None

    def _parse(self, path: str) -> NameList:
        return _read_list(self.place, path)


def open_tree(place: Path, outer: FileTree | None = None) -> FileTree:
    """List the files of a folder or zip.

    Raises:
        DataError: a folder that cannot be read, or a damaged zip.
    """
    try:
        if place.is_file():
            return FileTree(place, zip_files(place), outer)
        return FileTree(place, find_files(place), outer)
    except (OSError, *ZIP_ERRORS) as error:
        if place.is_file() and is_other_archive(place.name):
            raise DataError(f"--data {place}: not a zip; unpack it, and give its folder as --data") from error
        what = "zip of images" if place.is_file() else "folder"
        raise DataError(f"--data {place}: not a readable {what} ({error}); get it again") from error


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
    return read_zip_member(place, path, limit)


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
