"""What lies beside a manifest: files that it records, what they are called and which are gone, and cells it lacks.

Imports nothing heavy: ``bench status`` looks for them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from reports.results.manifest import PICTURES, SEAL, manifest_checksum
from reports.results.regular_file import read_text

#: Published attributes of the images.
ATTRIBUTES = "attributes.parquet"
#: Of a manifest's description of the data: the digest of the attributes that are kept beside it.
ATTRIBUTES_SHA256 = "attributes_sha256"


def pictures_path(folder: Path, mask: str) -> Path:
    """Return the file of truths and masks of the images that reports show for ``mask``."""
    return folder / "pictures" / f"{mask_file_name(mask)}.npz"


def mask_file_name(mask: str) -> str:
    """Turn a mask's name into part of a file name, told apart by a digest where it had to be changed or cut.

    Examples:
        >>> mask_file_name("center"), mask_file_name("files:a b")
        ('center', 'files_a_b-84130f7e')
    """
    plain = "".join(c if c.isalnum() or c in "-+" else "_" for c in mask)
    if plain == mask and len(plain) <= 60:
        return plain
    return f"{plain[-50:]}-{hashlib.sha256(mask.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


def missing_files(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """List the files of images and attributes that a run has written and that are empty or gone.

    What rests on them would be left out of a page without a word. An import's manifest is that of another folder, from
    which rows alone have come: nothing is missed there.

    Args:
        folder: the experiment's.
        manifest: its ``manifest.json``.

    Returns:
        paths below ``folder``.
    """
    return [
        path.relative_to(folder).as_posix()
        for path in _recorded_files(folder, manifest)
        # Sizes and not contents: whoever reads a file checks it.
        if not (path.is_file() and path.stat().st_size)
    ]


def unlisted_cells(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """List the finished cells that a folder holds and of which its manifest says nothing.

    So it is where the manifest of an earlier day was put back: tables and pages would lack results without a word.
    Earlier results of a method that the manifest lists with newer ones, or as planned, are not meant.

    Args:
        folder: the experiment's.
        manifest: its ``manifest.json``.

    Returns:
        paths below ``folder``.
    """
    listed = {cell["folder"] for cell in manifest["cells"]}
    known = {_method_of(cell) for cell in (*manifest["cells"], *manifest.get("planned", []))}
    unlisted = []
    for path in sorted(folder.glob("cells/*/cell.json")):
        place = path.parent.relative_to(folder).as_posix()
        if place in listed:
            continue
        try:
            cell = json.loads(read_text(path))
            if cell.get(SEAL) == manifest_checksum(cell) and _method_of(cell) not in known:
                unlisted.append(place)
        except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
            continue  # of a cell that is damaged nobody can tell
    return unlisted


def describe_unlisted(place: str) -> str:
    """Say of a folder that :func:`unlisted_cells` found what it means and what helps."""
    return (
        f"{place} holds a finished cell of which manifest.json says nothing, and is left out: give the command that "
        "made it again, or remove it"
    )


def _method_of(cell: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(cell[field] for field in ("model", "mask", "train_mask", "seed"))


def _recorded_files(folder: Path, manifest: Mapping[str, Any]) -> Iterator[Path]:
    made: list[Mapping[str, Any]] = []
    foreign: list[Mapping[str, Any]] = []
    for cell in manifest["cells"]:
        if cell["status"] == "done":
            place = folder / cell["folder"]
            # A cell that was made here says so, whatever lies beside it.
            (made if (place / "cell.json").is_file() else foreign).append(cell)
    # Beside imported cells, as after 'bench score', the record may still be that of the other folder.
    if ATTRIBUTES_SHA256 in manifest["data"] and made and not foreign:
        yield folder / ATTRIBUTES
    shown = {cell["mask"] for cell in made} - {cell["mask"] for cell in foreign}
    yield from (
        pictures_path(folder, m)
        for m, described in manifest["masks"].items()
        if m in shown and PICTURES in described
    )
    yield from (folder / cell["folder"] / "pictures.npz" for cell in made if PICTURES in cell)
