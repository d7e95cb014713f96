"""Published attributes of the evaluated images (CelebA's ``Smiling``, ``Eyeglasses`` ...), kept beside an experiment.

They describe images, not results: no key depends on them, and a page made later can use them and compute nothing.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from reports.results.atomic_io import atomic_write
from reports.results.recorded_files import ATTRIBUTES
from reports.results.regular_file import read_bytes

#: The table of an experiment of whose images none are known.
NO_ATTRIBUTES = pd.DataFrame(index=pd.Index([], name="image_id", dtype=object))


def attribute_table(ids: Sequence[str], attributes: Mapping[str, Mapping[str, bool]]) -> pd.DataFrame:
    """Make a table of the images of which attributes are known: ``image_id``, then a boolean column each.

    Args:
        ids: of the images that are wanted, in order.
        attributes: attribute -> image id -> whether the image has it.

    Examples:
        >>> attribute_table(["a", "b", "c"], {"Smiling": {"a": True, "c": False, "d": True}})
          image_id  Smiling
        0        a     True
        1        c    False
    """
    # Only images of which every attribute is known: a table of booleans has no gaps.
    known = [i for i in ids if attributes and all(i in of for of in attributes.values())]
    columns = {name: [bool(of[i]) for i in known] for name, of in attributes.items()}
    return pd.DataFrame({"image_id": known, **columns})


def attributes_digest(table: pd.DataFrame) -> str:
    """Compute SHA-256 of a table of attributes: images and columns with their order, whatever file holds them.

    Examples:
        >>> table = attribute_table(["a", "b"], {"Smiling": {"a": True, "b": False}})
        >>> attributes_digest(table) == attributes_digest(table.assign(Smiling=[True, True]))
        False
    """
    names = [str(name) for name in table.columns if name != "image_id"]
    # As JSON, which neither names nor ids can get out of.
    said = json.dumps([names, [str(i) for i in table["image_id"]]]).encode()
    return hashlib.sha256(said + table[names].to_numpy(dtype=bool).tobytes()).hexdigest()


def write_attributes(table: pd.DataFrame, folder: Path) -> None:
    """Write a table of attributes into an experiment's folder.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    atomic_write(
        folder / ATTRIBUTES,
        lambda path: path.write_bytes(table.to_parquet(index=False, write_page_checksum=True)),
    )


def read_attributes(folder: Path, digest: str | None = None) -> pd.DataFrame:
    """Read the attributes of an experiment's images, indexed by ``image_id``; empty where none are kept.

    Args:
        folder: the experiment's.
        digest: what its manifest records of them (:func:`attributes_digest`); those of earlier versions record nothing.

    Raises:
        ValueError: the file is damaged, no table of attributes, or not the one that was written.
    """
    path = folder / ATTRIBUTES
    if not path.is_file():
        return NO_ATTRIBUTES.copy()
    try:
        table = pd.read_parquet(io.BytesIO(read_bytes(path)))  # by bytes: its name may not be UTF-8
        return checked_attributes(table, digest).set_index("image_id")
    except Exception as error:  # a reader of damaged bytes may raise anything
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"{path}: not readable as attributes of images ({line}); delete it, "
            "and where the data set has them the command writes them again"
        ) from error


def checked_attributes(table: pd.DataFrame, digest: str | None = None) -> pd.DataFrame:
    """Return a table of attributes, if it is one, and the one of ``digest`` where that is known.

    Raises:
        ValueError: an image comes twice, a column is of another kind, or the content is not what was written.
    """
    if "image_id" not in table.columns or not table["image_id"].is_unique:
        raise ValueError("image_id is missing or comes twice")
    wrong = [n for n in table.columns if n != "image_id" and not pd.api.types.is_bool_dtype(table[n])]
    if wrong:
        raise ValueError(f"{wrong[0]} is not boolean")
    if digest is not None and attributes_digest(table) != digest:
        raise ValueError("not what was written")
    return table
