"""Lists that come with data sets: a name and its values on each line, as text or CSV; and how names find images."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from bench.errors import DataError
from masks.file_names import escape_name, one_line, stem_of
from masks.image_files import is_image

V = TypeVar("V")
#: First cell of a header line whose first column is one of row numbers, as pandas writes one, in lower case.
_ROW_NUMBERS = frozenset({"", "idx", "id", "index", "row", "unnamed: 0"})
#: What the column of file names that then follows is called: the letters of it, in lower case.
_FILE_NAMES = frozenset(
    {
        *("imageid", "image", "images", "imagename", "imagefile", "imagepath", "img", "imgname", "path"),
        *("filename", "file", "files", "filepath", "fname", "name"),
    }
)
#: First cell of a header line, as above. An empty one is that of pandas, whose table's index has the names.
_HEADERS = _FILE_NAMES | {"idx", "id", "index", "unnamed0"}
#: In this order: a file name may hold spaces, and a CSV cell may too.
_SEPARATORS = (",", ";", "\t")
_MAX_VALUE = 2**63 - 1
#: Zeros before the number that is the whole name of a file.
_LEADING_ZEROS = re.compile(r"(?<![^/])0+(?=\d+(?:\.[^/.]*)?$)")


@dataclass(frozen=True)
class NameList:
    """A list as read.

    Attributes:
        place: where it lies, for messages.
        columns: names of the values, where the list has a header, as they are shown.
        rows: name -> values.
        line_numbers: name -> line, from 1.
        header_line: the line of the header, from 1, where there is one.
    """

    place: str
    columns: list[str]
    rows: dict[str, list[str]]
    line_numbers: dict[str, int]
    header_line: int = 1


def parse_list(content: bytes, place: str) -> NameList:
    """Parse a list of names: cells separated by commas, semicolons, tabs or spaces, with or without a header.

    A byte-order mark is ignored, and UTF-16 is recognized by it. Attribute lists may begin with their number of lines,
    and a first column of row numbers before that of the names, as pandas writes one, is passed over.

    Raises:
        DataError: a line without a value, of another length than the first, or with other values for a name.

    >>> parse_list(b"\\xef\\xbb\\xbfimage_id,partition\\n000001.jpg,0\\n", "list.csv").rows
    {'000001.jpg': ['0']}
    """
    # Empty lines are passed over after counting, so that line numbers in messages are those of an editor.
    # Not by splitlines(), which ends a line at ten other characters too, some of which names may hold.
    whole = _decode(content, place)
    lines = [(n, line) for n, line in enumerate(re.split(r"\r\n|\r|\n", whole), start=1) if line.strip()]
    is_plain = '"' not in whole and _is_plain(whole)
    header_line, columns, start, at = _take_header(lines, place)
    rows: dict[str, list[str]] = {}
    line_numbers: dict[str, int] = {}
    # Millions of cells are one of few values.
    known: dict[str, str] = {}
    for number, line in lines:
        cells = _plain_cells(line) if is_plain else _cells(line, f"{place}:{number}")
        # Numbers of rows, which stand before the names, are no value of an image.
        name, values = (cells[at : at + 1] or [""])[0], [*cells[start:at], *cells[at + 1 :]]
        values = [known.setdefault(value, value) for value in values]
        expected = len(columns) or 1
        if not name or len(values) != expected:
            wanted = "'NAME NUMBER'" if expected == 1 else f"a name and {expected} values"
            raise DataError(f"{place}:{number}: expected {wanted}, found {escape_name(line[:60])!r}")
        # Lists are sometimes concatenated: a repetition does no harm as long as it says the same.
        if rows.setdefault(name, values) != values:
            raise DataError(f"{place}:{number}: {name} is listed twice with different values")
        line_numbers.setdefault(name, number)
    return NameList(place, columns, rows, line_numbers, header_line)


def _take_header(lines: list[tuple[int, str]], place: str) -> tuple[int, list[str], int, int]:
    """Take what stands before the rows off the lines of a list.

    Returns:
        The line of the header, or of the first row; the names of the values, if they have any; the position of the
        first column, 1 behind one of row numbers; and that of the column of names.

    Raises:
        DataError: not readable as CSV, or nothing says which column has the names.
    """
    # The first line of attribute lists is their length; a lone number elsewhere would be a name without a value.
    counted = len(lines) > 2 and is_number(lines[0][1].strip())
    if counted:
        lines.pop(0)
    if not lines:
        return 1, [], 0, 0
    number, line = lines[0]
    first = _cells(line, f"{place}:{number}")
    if line.startswith("\t"):
        first.insert(0, "")  # of a table with row numbers
    second = _cells(lines[1][1], f"{place}:{lines[1][0]}") if len(lines) > 1 else []
    headless = len(second) == len(first) + 1 > 2 and not (is_image(first[0]) or any(map(is_number, first)))
    if headless or (counted and len(first) != len(second)):
        # As in list_attr_celeba.txt, also without its first line: the column of names has none itself.
        lines.pop(0)
        return number, list(map(one_line, first)), 0, 0
    at = _name_position(first, second)
    if not at and _is_numbered(first, second):
        raise DataError(
            f"{place}:{number}: the first column has numbers of rows, and nothing says which one has the names of the "
            "images; call it image_id"
        )
    # An empty name is that of pandas' index, unless it is one that was lost.
    named = _letters(first[0]) in _HEADERS or (not first[0] and not is_number(first[-1]))
    if not at and not named:
        return number, [], 0, 0
    lines.pop(0)
    # What occurs twice is no number of a row, whatever it is called: the number of a person, say.
    numbers = {_cells(line, place)[0] for _, line in lines} if at else set()
    start = int(at > 0 and len(numbers) == len(lines))
    return number, list(map(one_line, [*first[start:at], *first[at + 1 :]])), start, at


def _name_position(header: Sequence[str], row: Sequence[str]) -> int:
    """Return the position of the column of file names after one of row numbers; 0 where the first one has the names.

    Args:
        header: cells of the first line.
        row: cells of the second one.

    >>> _name_position(["", "image_id", "partition"], ["0", "000001.jpg", "2"])
    1
    >>> _name_position(["id", "name", "partition"], ["000001.jpg", "Ann", "2"])
    0
    """
    if (
        len(header) < 3
        or len(row) != len(header)
        or header[0].lower() not in _ROW_NUMBERS
        or is_image(row[0])
    ):
        return 0
    letters = [_letters(name) for name in header]
    # CelebA-HQ's mapping is by number, and has names of files as values.
    if not {"origidx", "origfile"}.isdisjoint(letters):
        numbers = _FILE_NAMES | {"idx", "hqidx", "index", "id"}
        named = [position for position, name in enumerate(letters) if position and name in numbers]
        return named[0] if named and letters[0] != "idx" else 0
    files = [p for p in range(1, len(row)) if is_image(row[p])]
    known = [p for p, name in enumerate(letters) if p and name in _FILE_NAMES]
    # Of a column called name without names of files nobody knows: it may be that of people.
    sure = [p for p in known if p in files] or [p for p in known if letters[p] != "name"]
    # Of several unknown columns of files one has the names, and others what belongs to them.
    sure = sure or (files if len(files) == 1 else [])
    if not sure and letters[0] not in ("id", "idx"):
        sure = [p for p, name in enumerate(letters) if name in ("id", "idx")]
    return sure[0] if sure else 0


def _is_numbered(header: Sequence[str], row: Sequence[str]) -> bool:
    """Return whether the first column of a table of several is one of row numbers, as pandas writes without a name."""
    if len(header) < 3 or header[0].lower() not in _ROW_NUMBERS - {"id", "idx"} or not row:
        return False
    # Names by number, of files without a suffix, are filled up with zeros.
    return is_number(row[0]) and (row[0] == "0" or not row[0].startswith("0"))


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))


def parse_numbers(listed: NameList, called: Sequence[str] = ()) -> dict[str, int]:
    """Return the value of each name as a whole number from 0.

    Args:
        listed: the list.
        called: names of the column, in lower case, for a list that has several.

    Raises:
        DataError: a value is not one, or nothing says which of several columns is meant.
    """
    column = find_column(listed, called)
    numbers = {}
    for name, values in listed.rows.items():
        value = values[column]
        if not is_number(value):
            where = f"{listed.place}:{listed.line_numbers[name]}"
            raise DataError(f"{where}: expected 'NAME NUMBER', found {escape_name(f'{name} {value}'[:60])!r}")
        numbers[name] = int(value)
    return numbers


def is_number(text: str) -> bool:
    """Return whether a text of a file is a whole number from 0 that ``int`` reads and 64 bits hold.

    >>> [is_number(text) for text in ("007", "²", "٧", "+7", "7_0", "9" * 5000, "")]
    [True, False, False, False, False, False, False]
    """
    # isdigit alone takes digits of other scripts, and int() takes signs, spaces and underscores.
    return text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= _MAX_VALUE


def find_column(listed: NameList, called: Sequence[str]) -> int:
    """Return the position of the column that is meant: one of ``called``, in lower case, where there are several.

    Raises:
        DataError: there are several, of which none or more than one is called so.
    """
    if len(listed.columns) < 2:
        return 0
    found = [position for position, name in enumerate(listed.columns) if name.lower() in called]
    # The first one would be a guess: a table of everything that is known of an image has them in any order.
    if len(found) != 1:
        wanted = " or ".join(map(repr, called)) or "the wanted one"
        raise DataError(
            f"{listed.place}:{listed.header_line}: has the columns {escape_name(', '.join(listed.columns))}, of which "
            f"{'none' if not found else 'several'} is {wanted}; give a list of names with one value each"
        )
    return found[0]


def match_names(ids: Iterable[str], listed: Mapping[str, V]) -> dict[str, V]:
    """Return the values of those ids that a list names: by the whole name, else by the bare name without a suffix.

    A bare name is used only where it is unique on both sides.

    >>> match_names(["a/1.png", "a/2.png", "b/2.png"], {"1.jpg": 10, "2.jpg": 20, "b/2.png": 30})
    {'a/1.png': 10, 'b/2.png': 30}
    >>> match_names(["a/1.png", "b/1.png"], {"a\\\\1.png": 10, "b\\\\1.png": 20})
    {'a/1.png': 10, 'b/1.png': 20}
    """
    ids = list(ids)
    # Lists made on Windows have backslashes, which are a letter of a name elsewhere.
    if any("\\" in name for name in listed) and not any("\\" in image_id for image_id in ids):
        slashed = {name.replace("\\", "/"): value for name, value in listed.items()}
        listed = slashed if len(slashed) == len(listed) else listed
    # Whole names win, so that one image with its full name in the list is never taken by a bare one.
    exact = {i: listed[i] for i in ids if i in listed}
    if len(exact) == len(ids):
        return exact
    # Copies often come with other suffixes (PNG for JPEG), or without their folders.
    bare_ids = Counter(map(_bare, ids))
    bare_listed = Counter(map(_bare, listed))
    by_bare = {_bare(name): value for name, value in listed.items() if bare_listed[_bare(name)] == 1}
    found = {}
    for image_id in ids:
        bare = _bare(image_id)
        if image_id in exact:
            found[image_id] = exact[image_id]
        elif bare in by_bare and bare_ids[bare] == 1:
            found[image_id] = by_bare[bare]
    return found


def plain_name(name: str) -> str:
    """Return a name as another list of the same images may write it, for comparing: see :func:`match_names`.

    >>> plain_name("img_align_celeba\\\\000001.jpg"), plain_name("00000"), plain_name("a/010b.png")
    ('img_align_celeba/1.jpg', '0', 'a/010b.png')
    """
    return _LEADING_ZEROS.sub("", name.replace("\\", "/"))


def require_match(found: Mapping[str, V], ids: Sequence[str], listed: NameList) -> None:
    """Raise where a list names none of the images.

    Raises:
        DataError: with one name of each side.
    """
    if not found and ids and listed.rows:
        theirs = next(iter(listed.rows))
        raise DataError(
            f"{listed.place} names none of the {len(ids):,} images: it has {theirs!r}, the images are named "
            f"{ids[0]!r}; give the list of these images, or remove it"
        )


def _decode(content: bytes, place: str) -> str:
    try:
        # A byte-order mark decides; without one, UTF-16 looks like text full of zeros.
        if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return content.decode("utf-16").lstrip("\ufeff")
    except UnicodeDecodeError as error:
        raise DataError(f"{place}: not readable as text ({error.reason})") from error
    # Names are bytes to the file system: what is not UTF-8 must still match the name of its file.
    return content.decode("utf-8", errors="surrogateescape").lstrip("\ufeff")


def _is_plain(text: str) -> bool:
    """Return whether a text has nothing but what a line can show, beside ends of lines and tabs."""
    cells = text.replace("\n", "").replace("\r", "").replace("\t", "")
    return cells.isascii() and cells.isprintable()


def _plain_cells(line: str) -> list[str]:
    """Split a line as :func:`_cells` does, where nothing is quoted or to be escaped, in a fifth of the time."""
    line = line.strip()
    separator = next((separator for separator in _SEPARATORS if separator in line), None)
    return line.split() if separator is None else [cell.strip() for cell in line.split(separator)]


def _cells(line: str, place: str) -> list[str]:
    """Split a line at the first kind of separator that it holds; cells are text that UTF-8 can hold."""
    line = line.strip()
    for separator in _SEPARATORS:
        if separator in line:
            try:
                cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
            except csv.Error as error:
                raise DataError(f"{place}: not readable as CSV ({error})") from error
            cells = [cell.strip() for cell in cells]
            break
    else:
        cells = line.split()
    return list(map(escape_name, cells))


def _bare(name: str) -> str:
    return stem_of(name)
