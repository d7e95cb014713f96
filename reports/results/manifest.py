"""Read, check and seal ``manifest.json``. One that is not what was written is refused, never guessed at.

Imports nothing heavy: ``bench status`` reads manifests.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from reports.results.manifest_shape import find_problem
from reports.results.regular_file import read_text

SCHEMA = 1
#: Field of a manifest that holds the digest of all others; manifests of earlier versions have none.
SEAL = "sha256"
#: Of a cell, the digest of its file of images; of a mask, that of the content of its own. Earlier versions have none.
PICTURES = "pictures_sha256"
#: Beside a log that an import made from a table of curves: the lines and SHA-256 of what it made, and the training.
IMPORTED_LOG = "train.imported.json"
#: Beside the rows of a cell that an import wrote: of which experiment. What a run needs to go on did not travel.
IMPORTED_CELL = "cell.imported.json"
#: Beside a manifest: the resolved options of the last command that wrote into the experiment, its name among them.
CONFIG = "config.toml"
#: One half of a pair that stands for a character beyond 16 bits, as JSON escapes it.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class ManifestError(ValueError):
    """A manifest is missing, damaged, or of another version. The message says which file, why, and what to do."""


class DamagedManifestError(ManifestError):
    """A manifest is there, and is not what was written."""


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest of this version as it was written.

    Raises:
        ManifestError: it is missing, damaged, or of another version.
    """
    if not path.is_file():
        raise ManifestError(f"{path.parent}: no experiment here (no {path.name})")
    try:
        text = read_text(path)
        manifest = json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        # An OSError's own text repeats the path, which the message names already.
        reason = getattr(error, "strerror", None) or error
        raise DamagedManifestError(f"{path}: not readable as a manifest ({reason}); {_REMEDY}") from error
    if not isinstance(manifest, dict) or "schema" not in manifest:
        raise ManifestError(f"{path}: not a manifest of inpaint-bench")
    if manifest["schema"] != SCHEMA:
        raise ManifestError(
            f"{path}: schema {manifest['schema']!r}, this version reads {SCHEMA}; "
            "run the experiment again under another --name"
        )
    # The shape first: its message says what is wrong, where a digest only says that something is.
    problem = find_problem(manifest)
    if problem is None and SEAL in manifest and manifest[SEAL] != manifest_checksum(manifest):
        problem = "its content is not what was written"
    # Earlier versions sealed neither manifests nor cells: beside a sealed cell, or with fields that only sealed
    # manifests have (an import has no sealed cell), a manifest has lost its own seal.
    if (
        problem is None
        and SEAL not in manifest
        and (_is_of_sealed_kind(manifest) or _holds_sealed_cell(path.parent))
    ):
        problem = "its checksum is gone"
    if problem is None:
        problem = _find_other_experiment(manifest, path.parent)
    if problem is not None:
        raise DamagedManifestError(f"{path}: damaged ({problem}); {_REMEDY}")
    # Half a character, which JSON can write and no page, table or file name can hold: shown as its escape.
    if _SURROGATE.search(text):
        escaped: dict[str, Any] = _escaped(manifest)
        return {**escaped, SEAL: manifest_checksum(escaped)} if SEAL in escaped else escaped
    return manifest


def _find_other_experiment(manifest: Mapping[str, Any], folder: Path) -> str | None:
    """Say that a manifest was copied here from another experiment; ``None`` where it is this folder's own.

    A folder that was renamed keeps the name in its manifest and in its options, and the manifest knows all its cells.
    """
    name = manifest["experiment"]
    if name == folder.name or (given := _name_in_options(folder / CONFIG)) in (None, name):
        return None
    known = {cell["folder"] for cell in manifest["cells"]}
    others = [cell for cell in folder.glob("cells/*/cell.json") if f"cells/{cell.parent.name}" not in known]
    if not others:
        return None
    count = "1 finished cell" if len(others) == 1 else f"{len(others):,} finished cells"
    return f"it is that of experiment {name}, not of {given}, and lacks {count} of this folder"


def _name_in_options(path: Path) -> str | None:
    """Return the name of an experiment by the options beside its manifest, where it is known."""
    try:
        name = tomllib.loads(read_text(path)).get("name")
    except (OSError, ValueError, RecursionError):  # none, or edited: they are the user's to edit
        return None
    return name if isinstance(name, str) else None


def _is_of_sealed_kind(manifest: Mapping[str, Any]) -> bool:
    """Return whether a manifest of a right shape has digests that no version wrote before it sealed manifests."""
    if "attributes_sha256" in manifest["data"] or any(PICTURES in m for m in manifest["masks"].values()):
        return True
    return any(
        PICTURES in cell
        or "rows_sha256" in (cell["evaluation"] or {})
        or "values_sha256" in ((cell["training"] or {}).get("log") or {})
        for cell in manifest["cells"]
    )


def digests_all(cells: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether the finished ones of these cells were recorded by a version that gave all that it kept a digest.

    A file without a digest beside such cells was never written by the run, and is not shown. Beside cells of earlier
    versions, which lack ``rows_sha256`` too, it may have been.

    >>> digests_all([{"status": "done", "evaluation": {"rows_sha256": "ab"}}, {"status": "failed", "evaluation": None}])
    True
    >>> digests_all([{"status": "done", "evaluation": {"numbers": {}}}])
    False
    """
    return all("rows_sha256" in (c["evaluation"] or {}) for c in cells if c["status"] == "done")


def _escaped(value: Any) -> Any:
    """Return a value of JSON in which every text can be written as UTF-8."""
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode("utf-8")
        case dict():
            return {_escaped(name): _escaped(part) for name, part in value.items()}
        case list():
            return [_escaped(part) for part in value]
        case _:
            return value


def _holds_sealed_cell(folder: Path) -> bool:
    """Return whether an experiment's folder holds a ``cell.json`` with a checksum."""
    for path in folder.glob("cells/*/cell.json"):
        try:
            if SEAL in json.loads(read_text(path)):
                return True
        except (OSError, ValueError, TypeError, RecursionError):  # a damaged cell is the run's business
            continue
    return False


def trained_seeds(manifest: Mapping[str, Any]) -> list[int]:
    """Return the seeds of an experiment's trainings, in order; those asked for where nothing was trained.

    The settings hold what the last command asked for, which may have added one seed to others.

    >>> cells = [{"seed": seed, "trained": True, "train_mask": "center"} for seed in (1, 0)]
    >>> trained_seeds({"settings": {"seeds": [1]}, "cells": cells})
    [0, 1]
    """
    # Not above: a manifest is read without pandas.
    from reports.results.schema import EXTERNAL

    found = {int(c["seed"]) for c in manifest["cells"] if c["trained"] and c["train_mask"] != EXTERNAL}
    return sorted(found) or [int(seed) for seed in manifest["settings"]["seeds"]]


def is_claims_dataset(data: Mapping[str, Any]) -> bool:
    """Return whether the paper's claims are about the images of a manifest's ``data``."""
    # Manifests of earlier versions name the data set and say nothing of its properties.
    return bool(data.get("claims_dataset", data.get("name") == "celeba"))


_REMEDY = "get an intact copy of it, or run the experiment's command again, which rebuilds it from the cells"


def manifest_checksum(value: Mapping[str, Any]) -> str:
    """Compute the digest of everything in a manifest but the seal itself, independent of the order of keys.

    Examples:
        >>> manifest_checksum({"a": 1, "b": 2}) == manifest_checksum({"b": 2, "a": 1, "sha256": "..."})
        True
    """
    rest = {key: part for key, part in value.items() if key != SEAL}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
