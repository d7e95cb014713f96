"""Where a data set's zip is looked for: a download that nobody unpacked lies in the folder that the user named.

A source says what its zip is called (``zip_names``: ``img_align_celeba.zip`` of CelebA). Of a folder without pictures a
lone zip of any name is looked into too (Kaggle's ``archive.zip``):
:mod:`~bench.data.sources.find_source` asks for either.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from bench.data.sources.file_tree import FileTree, open_tree
from bench.errors import DataError
from masks.file_names import name_of


def find_zips(tree: FileTree, names: Sequence[str] | None = None) -> list[str]:
    """Return the paths of the zips of those names (in lower case) in a folder; of all zips for ``None``."""
    here = tree.files.others if tree.place.is_dir() else []
    zips = [path for path in here if path.lower().endswith(".zip")]
    return [path for path in zips if names is None or name_of(path).lower() in names]


def open_zips(tree: FileTree, names: Sequence[str] | None = None) -> Iterator[FileTree]:
    """Open the zips that :func:`find_zips` finds, one after another.

    Raises:
        DataError: one is damaged.
    """
    for path in find_zips(tree, names):
        yield open_tree(tree.place / path, outer=tree)


def readable_zips(tree: FileTree, names: Sequence[str]) -> Iterator[FileTree]:
    """Open the zips of those names that can be read, one after another."""
    for path in find_zips(tree, names):
        with contextlib.suppress(DataError):
            yield open_tree(tree.place / path, outer=tree)
