"""The files of the folder or zip that a user named, and the lists that lie among them."""

from __future__ import annotations

import io
import re
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import combinations
from pathlib import Path, PurePosixPath

from PIL import Image

from bench.data.name_lists import NameList, find_column, match_names, parse_list, plain_name
from bench.data.sources.zip_files import ZIP_ERRORS, is_other_archive, read_zip_member, zip_files
from bench.errors import DataError
from masks.file_names import escape_name, folder_of, link_steps, name_of, real_path, stem_of
from masks.image_files import IMAGE_FORMATS, FoundFiles, find_files, is_hidden

_MAX_BYTES = 256 * 2**20  # one compressed image; more is an accident or an attack
_MAX_LIST_BYTES = 64 * 2**20
_MAX_EMPTY_BYTES = 2**16  # of a list without a row: a header, and blank lines
_LIST_SUFFIXES = (".txt", ".csv")
#: CelebA's own folders for its lists.
LIST_FOLDERS = ("eval", "anno")


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
    # All of CelebA has 200,000 lines in each list, and every data source asks for some of them.
    _lists: dict[tuple[Path, str], NameList] = field(default_factory=dict, repr=False, compare=False)
    _found: dict[object, NameList | None] = field(default_factory=dict, repr=False, compare=False)

    @property
    def folder_names(self) -> tuple[str, ...]:
        """Names of the place and of the two folders above it, from the outside in; a zip's name without suffix."""
        return self._names(self.place.resolve())

    @property
    def names_above(self) -> frozenset[str]:
        """Names of the place and of the folder above it, both as given and where links lead."""
        return frozenset(name for place in self.places for name in self._names(place)[1:])

    @cached_property
    def places(self) -> tuple[Path, ...]:
        """The place as given, and where a link that it is leads, step by step."""
        return tuple(link_steps(self.place))

    @property
    def own_names(self) -> tuple[str, ...]:
        """Names of the place itself, as given and where links lead, step by step."""
        return tuple(self._names(place)[2] for place in self.places)

    def _names(self, place: Path) -> tuple[str, str, str]:
        return (place.parent.parent.name, place.parent.name, place.stem if place.is_file() else place.name)

    @cached_property
    def image_folders(self) -> dict[str, list[str]]:
        """The images by the folder in which they lie; that of the place itself is empty."""
        folders: dict[str, list[str]] = {}
        for path in self.files.images:
            folders.setdefault(folder_of(path), []).append(path)
        return folders

    @cached_property
    def _links(self) -> dict[str, list[Path]]:
        """Folders of images, and those above them below the place, that are links: path -> where it leads, in steps."""
        if not self.place.is_dir():
            return {}
        above = {
            parent.as_posix() for folder in self.image_folders for parent in PurePosixPath(folder).parents
        }
        folders = sorted({*self.image_folders, *above} - {"", "."})
        return {f: link_steps(self.place / f)[1:] for f in folders if (self.place / f).is_symlink()}

    @property
    def linked_folders(self) -> tuple[Path, ...]:
        """The folders of images below the place that are links, where they lie themselves."""
        return tuple(dict.fromkeys(step for steps in self._links.values() for step in steps))

    def names_of(self, folder: str) -> list[str]:
        """Return the names of a folder below the place, as given and where a link leads; none of the place itself."""
        names = [name_of(folder)] if folder not in ("", ".") else []
        return [*names, *(step.name for step in self._links.get(folder, ()))]

    def names_below(self, folder: str) -> list[str]:
        """Return the names of a folder below the place and of those above it there, and of what they lead to."""
        parts = folder.split("/")
        return [name for k in range(len(parts)) for name in self.names_of("/".join(parts[: k + 1]))]

    @property
    def folders_around(self) -> tuple[Path, ...]:
        """The folder above the place, as given and where links lead."""
        return tuple(dict.fromkeys(place.parent for place in self.places))

    def find_list(
        self, stem: str, beside: Sequence[Path] = (), called: Sequence[str] = ()
    ) -> NameList | None:
        """Read the list ``stem.txt`` or ``stem.csv``, here, around the zip, or in ``beside``.

        Of several that agree the one that names most of the images, of as many the nearest to the root.

        Args:
            stem: of its file name.
            beside: folders in which it may lie too.
            called: names of the column that is meant, in lower case, for a list that has several.

        Raises:
            DataError: one of the lists in sight is not readable as a list, or two contradict each other.
        """
        key = (stem, tuple(beside), tuple(called))
        if key not in self._found:
            self._found[key] = self._find_list(stem, beside, called)
        return self._found[key]

    def _find_list(self, stem: str, beside: Sequence[Path], called: Sequence[str]) -> NameList | None:
        # All of them are read: which one is nearest depends on the folder that was named, and a split must not.
        lists = self.read_lists(stem, beside)
        if len(lists) < 2:
            return lists[0] if lists else None
        images = [*self.files.images, *(self.outer.files.images if self.outer else ())]
        # Of those that agree the one that says most of these images, whichever folder the user named. An empty one,
        # which a download that broke off leaves, says nothing.
        best = max(lists, key=lambda listed: (len(match_names(images, listed.rows)), len(listed.rows)))
        # It first, since a list with fewer columns than the one that is used is no loss, and one with more is.
        for listed, other in combinations([best, *(listed for listed in lists if listed is not best)], 2):
            _check_same(listed, other, called, images)
        return best

    def read_lists(self, stem: str, beside: Sequence[Path] = ()) -> list[NameList]:
        """Read all lists of a stem among which :meth:`find_list` chooses.

        Raises:
            DataError: one is not readable as a list.
        """
        return [self._read(place, path) for place, path in self.list_places(stem, beside)]

    def _read(self, place: Path, path: str) -> NameList:
        if (place, path) not in self._lists:
            self._lists[place, path] = read_list(place, path)
        return self._lists[place, path]

    def image_size(self, path: str) -> tuple[int, int] | None:
        """Return width and height of an image, from its header; ``None`` where it cannot be read."""
        try:
            # A header is small; of a zip's member the whole is read, since it is packed.
            source = self.place / path if self.place.is_dir() else io.BytesIO(read_bytes(self.place, path))
            with Image.open(source, formats=IMAGE_FORMATS) as image:
                return image.size
        except Exception:  # a decoder of damaged bytes may raise anything, and the picture is skipped later
            return None

    def empty_lists(self, stem: str, beside: Sequence[Path] = ()) -> list[str]:
        """Name the lists of a stem, among those that :meth:`find_list` reads, that hold no line but a header."""
        return [
            self.shown(place, path)
            for place, path in self.list_places(stem, beside)
            if _is_empty(place, path)
        ]

    def shown(self, place: Path, path: str) -> str:
        """Return how messages name a file: below the place as the walk does, by its whole path elsewhere."""
        return escape_name(path if place == self.place else str(place / path))

    def list_places(self, stem: str, beside: Sequence[Path] = ()) -> list[tuple[Path, str]]:
        """Return folder or zip, and path in it, of each list that :meth:`find_list` reads, the one it returns first."""
        # The one nearest to the root, since copies of lists lie in sub-folders of some downloads.
        here = sorted((p for p in self.files.others if is_called(p, stem)), key=lambda p: (p.count("/"), p))
        found = [(self.place, path) for path in here]
        # The folder around a zip is where the published downloads have the lists.
        if self.outer is not None:
            found += self.outer.list_places(stem)
        found += [(folder, path) for folder in beside for path in _lists_in(folder, stem)]
        # One file may be seen from several folders, and through links.
        files: dict[Path, tuple[Path, str]] = {}
        for place, path in found:
            files.setdefault(real_path(place / path), (place, path))
        return list(files.values())


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


def is_called(path: str, stem: str) -> bool:
    """Return whether a file's name is that of a list of that stem; the case of letters is free."""
    name = name_of(path).lower()
    return name.startswith(stem.lower()) and name[len(stem) :] in _LIST_SUFFIXES


def _lists_in(folder: Path, stem: str) -> list[str]:
    """List the lists of that stem in a folder, then in CelebA's own folders for lists.

    Windows unpacks a list that is zipped alone to a folder of its name, which is looked into too.
    """
    lists = [stem + suffix for suffix in _LIST_SUFFIXES]
    # A folder that may be entered and not listed: the usual spelling is all that can be asked.
    inner = [
        name
        for name in names_in(folder, ("Eval", "Anno"))
        if name.lower() in LIST_FOLDERS or (is_called(name, stem) and is_folder(folder / name))
    ]
    return [
        f"{prefix}{name}"
        for prefix in ("", *(f"{name}/" for name in inner))
        for name in names_in(folder / prefix, lists)
        if is_called(name, stem) and is_file(folder / prefix / name)
    ]


def names_in(folder: Path, usual: Sequence[str] = ()) -> list[str]:
    """List the names in a folder, hidden ones left out: a Mac's ``._list_eval_partition.txt`` is no list.

    Args:
        folder: to list.
        usual: what is returned where that is forbidden.
    """
    try:
        return sorted(path.name for path in folder.iterdir() if not is_hidden(path.name))
    except OSError:
        return list(usual)


def is_called_alike(path: str, stem: str) -> bool:
    """Return whether a file's name holds that of a list of that stem, whatever its signs, spaces and suffix are.

    >>> [is_called_alike(n, "list_eval_partition") for n in ("a/Copy of list-eval-partition (1).csv", "list_eval.txt")]
    [True, False]
    """
    return bool(_alike(stem).search(name_of(path)))


@lru_cache
def _alike(stem: str) -> re.Pattern[str]:
    # One search a name: captions may lie beside each of 200,000 pictures.
    return re.compile(r"[\W_]*".join(filter(str.isalnum, stem)), re.IGNORECASE)


def is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # in a folder that may not be entered
        return False


def why_no_file(path: Path) -> str:
    """Return why what is at a path cannot be read as a file; empty for a file, and where nothing is."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return "a broken link" if path.is_symlink() else ""
    except OSError as error:  # also in a folder that may not be entered, where nobody can say what there is
        return error.strerror or str(error)
    return "" if stat.S_ISREG(mode) else "a folder" if stat.S_ISDIR(mode) else "not a regular file"


def read_list(place: Path, path: str) -> NameList:
    """Read one list of a folder or zip, whatever it is called.

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


def _is_empty(place: Path, path: str) -> bool:
    """Return whether a list holds no line but a header; a whole one, which takes seconds to parse, is not read."""
    try:
        return not parse_list(read_bytes(place, path, _MAX_EMPTY_BYTES), path).rows
    except (OSError, DataError):  # larger, or no list: whoever reads it says what is wrong
        return False


def _check_same(listed: NameList, other: NameList, called: Sequence[str], images: Iterable[str]) -> None:
    """Refuse two lists of one kind that contradict each other: nobody could say which one is meant.

    Raises:
        DataError: with the first name of which they differ, or of a list without the column that is meant.
    """
    if contradiction := find_contradiction(listed, other, called, images):
        raise DataError(f"{contradiction}; remove one of the two lists")


def find_contradiction(
    listed: NameList, other: NameList, called: Sequence[str], images: Iterable[str]
) -> str:
    """Return the place and the first name of which two lists say different things; empty if there is none.

    Of two without a name in common, both of these images, one would be passed over; so would columns of one alone.

    Raises:
        DataError: one has several columns, and none that is ``called`` so.
    """
    if not listed.rows or not other.rows or (listed.columns, listed.rows) == (other.columns, other.rows):
        return ""
    ours, theirs = _same_columns(listed, other, called)
    # Only one of the two is used: what the other one has besides would be passed over in silence.
    if not called and (not ours or len(theirs) < len(other.columns)):
        return f"{other.place} has other columns than {listed.place}"
    # Two lists may write one name in two ways, 0 and 00000; the way it stands there comes first.
    plain = {plain_name(name): row for name, row in listed.rows.items()}
    values = match_names([plain_name(name) for name in other.rows], plain)
    values |= {name: listed.rows[name] for name in other.rows if name in listed.rows}
    for name, row in other.rows.items():
        same = values.get(name, values.get(plain_name(name)))
        said = [row[column] for column in theirs]
        known = [same[column] for column in ours] if same else said
        # Some copies of a table of attributes have 0 for -1.
        if known != said and (called or list(map(_no_as_zero, known)) != list(map(_no_as_zero, said))):
            where = f"{other.place}:{other.line_numbers[name]}"
            return f"{where}: says {' '.join(said)} of {name}, and {listed.place} says {' '.join(known)}"
    # A list of other images is nobody's here.
    if values or _bare_names(other.rows).isdisjoint(_bare_names(images)):
        return ""
    return f"{other.place} and {listed.place} have no name in common"


def _no_as_zero(value: str) -> str:
    return "0" if value == "-1" else value


def _bare_names(names: Iterable[str]) -> set[str]:
    """Return names without folders, suffixes and leading zeros, as another list or copy may write them."""
    return {stem_of(plain_name(name)) for name in names}


def _same_columns(listed: NameList, other: NameList, called: Sequence[str]) -> tuple[list[int], list[int]]:
    """Return the positions of the columns that two lists share, in each of them."""
    if called or max(len(listed.columns), len(other.columns)) < 2:
        return [find_column(listed, called)], [find_column(other, called)]
    # By name: two tables may have them in any order.
    shared = [name for name in listed.columns if name in other.columns]
    return [listed.columns.index(name) for name in shared], [other.columns.index(name) for name in shared]
