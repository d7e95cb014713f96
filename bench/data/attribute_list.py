"""Attributes of images from a published list, as CelebA's ``list_attr_celeba``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from bench.data.name_lists import NameList
from bench.errors import DataError
from masks.file_names import escape_name

#: What an attribute may be in ``list_attr_celeba``; some copies have 0 for -1.
_VALUES = frozenset({"1", "-1", "0"})


class Attribute(Mapping[str, bool]):
    """One attribute of each image: a view of the table, since a dictionary for each of 40 takes a gigabyte."""

    def __init__(self, rows: Mapping[str, Sequence[str]], column: int) -> None:
        self._rows = rows
        self._column = column

    def __getitem__(self, image_id: str) -> bool:
        return self._rows[image_id][self._column] == "1"

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


def attributes_of(listed: NameList, rows: Mapping[str, Sequence[str]]) -> dict[str, Attribute]:
    """Return attribute -> image id -> whether the image has it.

    Args:
        listed: the list as read.
        rows: image id -> its values in that list.
    """
    return {name: Attribute(rows, column) for column, name in enumerate(listed.columns)}


def check_attributes(listed: NameList) -> None:
    """Refuse a list whose values would be taken for something else.

    Raises:
        DataError: with the line.
    """
    if listed.rows and not listed.columns:
        raise DataError(f"{listed.place}: no line of column names, so its attributes are not known")
    if "image_id" in listed.columns:  # as the images themselves are called in every table
        raise DataError(
            f"{listed.place}: a column of values is called image_id; give it the attribute's name"
        )
    if twice := [name for name, count in Counter(listed.columns).items() if count > 1]:
        raise DataError(f"{listed.place}: two columns are called {escape_name(twice[0])}")
    for name, values in listed.rows.items():
        if not _VALUES.issuperset(values):
            wrong = next(value for value in values if value not in _VALUES)
            raise DataError(
                f"{listed.place}:{listed.line_numbers[name]}: an attribute is 1, or -1 or 0; found "
                f"{escape_name(wrong[:60])!r}"
            )
