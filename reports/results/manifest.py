"""``manifest.json``: read, checked, sealed. What is not what was written is refused, never guessed at.

Imports nothing heavy: ``bench status`` reads manifests.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from types import NoneType
from typing import Any

SCHEMA = 1
#: Field of a manifest that holds the digest of all others; manifests of earlier versions have none.
SEAL = "sha256"

STATUSES = ("done", "failed", "not-applicable")
_Shape = Mapping[str, type | tuple[type, ...]]
_MANIFEST: _Shape = {
    "experiment": str,
    "created": str,
    "settings": dict,
    "data": dict,
    "masks": dict,
    "metrics": dict,
    "cells": list,
}
_SETTINGS: _Shape = {"preset": str, "size": int, "images_seen": int}
_DATA: _Shape = {"title": str, "procedural": bool, "fingerprint": str}
_METRIC: _Shape = {"convention": str, "unit": str, "higher_is_better": bool}
#: Fields of metrics that manifests of earlier versions lack.
_METRIC_SINCE: _Shape = {"heading": str, "digits": int, "group": str, "of": str}
_CELL: _Shape = {
    "cell": str,
    "model": str,
    "label": str,
    "mask": str,
    "train_mask": str,
    "seed": int,
    "trained": bool,
    "config": dict,
    "training": (dict, NoneType),
    "evaluation": (dict, NoneType),
}
_TRAINING: _Shape = {"key": str, "folder": str, "num_steps": int}
_PLANNED: _Shape = {"model": str, "label": str, "mask": str, "train_mask": str, "seed": int}


class ManifestError(ValueError):
    """A manifest is missing, damaged, or of another version. The message says which file, why, and what to do."""


class DamagedManifestError(ManifestError):
    """A manifest is there, and is not what was written."""


def read_manifest(path: Path) -> dict[str, Any]:
    """A manifest of this version, as it was written.

    Raises:
        ManifestError: it is not.
    """
    if not path.is_file():
        raise ManifestError(f"{path.parent}: no experiment here (no {path.name})")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DamagedManifestError(f"{path}: not readable as a manifest ({reason}); {_REMEDY}") from error
    if not isinstance(manifest, dict) or "schema" not in manifest:
        raise ManifestError(f"{path}: not a manifest of inpaint-bench")
    if manifest["schema"] != SCHEMA:
        raise ManifestError(
            f"{path}: schema {manifest['schema']!r}, this version reads {SCHEMA}; "
            "run the experiment again under another --name"
        )
    problem = _problem(manifest)
    if problem is None and SEAL in manifest and manifest[SEAL] != manifest_checksum(manifest):
        problem = "its content is not what was written"
    if problem is not None:
        raise DamagedManifestError(f"{path}: damaged ({problem}); {_REMEDY}")
    return manifest


def is_claims_dataset(data: Mapping[str, Any]) -> bool:
    """Return whether the paper's claims are about the images of a manifest's ``data``."""
    # Manifests of earlier versions name the data set and say nothing of its properties.
    return bool(data.get("claims_dataset", data.get("name") == "celeba"))


_REMEDY = (
    "get an intact copy of it, or run the experiment's command again, which makes it again from the cells"
)


def manifest_checksum(value: Mapping[str, Any]) -> str:
    """Digest of everything in a manifest but the seal itself, independent of the order of keys."""
    rest = {key: part for key, part in value.items() if key != SEAL}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _problem(manifest: dict[str, Any]) -> str | None:
    """What is wrong with a manifest's shape; ``None`` where nothing is."""
    told = (
        _fields(manifest, _MANIFEST, "")
        or _fields(manifest["settings"], _SETTINGS, "settings.")
        or _fields(manifest["data"], _DATA, "data.")
    )
    for name, mask in () if told else manifest["masks"].items():
        told = told or _fields(mask, {"digest": str}, f"masks.{name}.")
    for name, metric in () if told else manifest["metrics"].items():
        shape = {**_METRIC, **(_METRIC_SINCE if isinstance(metric, dict) and "heading" in metric else {})}
        told = told or _fields(metric, shape, f"metrics.{name}.")
    for number, cell in () if told else enumerate(manifest["cells"]):
        told = told or _cell(cell, f"cells[{number}].")
    for number, planned in () if told else enumerate(manifest.get("planned") or ()):
        told = told or _fields(planned, _PLANNED, f"planned[{number}].")
    return told


def _cell(cell: Any, where: str) -> str | None:
    told = _fields(cell, _CELL, where)
    if told:
        return told
    if cell.get("status") not in STATUSES:
        return f"{where}status is none of {', '.join(STATUSES)}"
    if cell["training"] is not None:
        told = _fields(cell["training"], _TRAINING, f"{where}training.")
        told = told or _inside(cell["training"]["folder"], f"{where}training.folder")
    if told is None and cell["status"] == "done":
        told = _fields(cell, {"folder": str, "evaluation": dict}, where)
        told = told or _inside(cell["folder"], f"{where}folder")
    return told


def _fields(value: Any, shape: _Shape, where: str) -> str | None:
    """The first field that is missing or of another kind."""
    if not isinstance(value, dict):
        return f"{where.rstrip('.') or 'it'} is no table"
    for name, kind in shape.items():
        wanted = kind if isinstance(kind, tuple) else (kind,)
        if name not in value:
            return f"{where}{name} is missing"
        if type(value[name]) not in wanted:
            return f"{where}{name} is of another kind"
    return None


def _inside(folder: str, where: str) -> str | None:
    """A folder named by a manifest lies below the manifest's own."""
    path = PurePosixPath(folder)
    if path.is_absolute() or ".." in path.parts or "\0" in folder or not path.parts:
        return f"{where} leaves the experiment's folder"
    return None
