"""Shape of a manifest: every field that a reader uses, with its kind.

A manifest may come from anywhere, and a checksum only shows that it is what somebody wrote. Whatever reads one may
rely on what is declared here; fields that are not declared are carried along and never used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from types import NoneType
from typing import Any, TypeAlias

STATUSES = ("done", "failed", "not-applicable")


@dataclass(frozen=True)
class _Table:
    """A JSON object: fields that it must have, and fields that it may have (older manifests lack them)."""

    required: Mapping[str, _Kind]
    optional: Mapping[str, _Kind] = field(default_factory=dict)


@dataclass(frozen=True)
class _ListOf:
    """A JSON array of one kind."""

    kind: _Kind


@dataclass(frozen=True)
class _MapOf:
    """A JSON object whose values are of one kind."""

    kind: _Kind


_Kind: TypeAlias = "type | tuple[type, ...] | _Table | _ListOf | _MapOf"

_NUMBER = (int, float)
_MAYBE_TEXT, _MAYBE_NUMBER, _MAYBE_WHOLE = (str, NoneType), (int, float, NoneType), (int, NoneType)
_TEXTS = _ListOf(str)
_MAX_DIGITS = 17

_SETTINGS = _Table(
    {"preset": str, "size": int, "images_seen": int, "seeds": _ListOf(int), "masks": _TEXTS},
    {
        "track": str, "models": _TEXTS, "metrics": _TEXTS,
        "learning_rate": _MAYBE_NUMBER, "batch": (int, str, NoneType), "micro_batch": _MAYBE_WHOLE,
        "steps_per_phase": _MAYBE_WHOLE, "flips": bool, "precision": str, "compile": bool, "split": str,
        "crop": str, "train_mask": str, "train_images": _MAYBE_WHOLE, "test_images": _MAYBE_WHOLE,
        "evaluate_on": str, "pictures": bool, "samples_per_image": int,
        "validate_every": _MAYBE_WHOLE, "report_every": int,
    },
)  # fmt: skip
_SKIPPED = _Table({"id": str, "reason": str})
_DATA = _Table(
    {"title": str, "procedural": bool, "fingerprint": str, "train": int, "evaluated": int},
    {
        "name": str, "licence": _MAYBE_TEXT, "source": str, "validation": int, "test": int,
        "split": str, "crop": str, "skipped": _ListOf(_SKIPPED), "claims_dataset": bool,
        "shared_identities": _MAYBE_WHOLE, "unseen_identities": (list, NoneType),
        "duplicates": _ListOf(_ListOf(str)), "attributes_sha256": str,
    },
)  # fmt: skip
_METRIC = _Table(
    {"convention": str, "unit": str, "higher_is_better": bool},
    {
        "heading": str, "digits": int, "group": str, "of": str, "unavailable": _MAYBE_TEXT,
        "source": _MAYBE_TEXT, "value_range": (list, NoneType),
    },
)  # fmt: skip
_MASK = _Table(
    {"digest": str}, {"mean_hole_ratio": _NUMBER, "summary": str, "notes": _TEXTS, "pictures_sha256": str}
)
_PHASE = _Table({"name": str, "num_steps": int})
_TRAINING = _Table(
    {"key": str, "folder": str, "num_steps": int},
    {
        "seconds": _NUMBER, "images_per_second": _NUMBER, "batch_size": int, "images_seen": int,
        "precision": str, "phases": _ListOf(_PHASE), "parameters": _MapOf(int),
        "multiply_accumulates": _MAYBE_NUMBER, "peak_memory_mb": _MAYBE_NUMBER, "events": list,
        "log": (dict, NoneType), "tuning": (dict, NoneType), "weights": (dict, NoneType),
    },
)  # fmt: skip
_SET_SCORE = _Table({"value": _MAYBE_NUMBER, "images": int})
_SAMPLE_MEAN = _Table(
    {}, {"value": _MAYBE_NUMBER, "low": _MAYBE_NUMBER, "high": _MAYBE_NUMBER, "images": int, "reason": str}
)
_SAMPLES = _Table(
    {"count": int, "diversity": _SAMPLE_MEAN, "inside": _SAMPLE_MEAN, "expected_inside": _NUMBER}
)
_EVALUATION = _Table(
    {},
    {
        "seconds": _MAYBE_NUMBER, "images_per_second": _MAYBE_NUMBER, "numbers": (dict, NoneType),
        "rows_sha256": str, "sets": _MapOf(_SET_SCORE), "samples": _SAMPLES,
    },
)  # fmt: skip
_AMBIGUITY = _Table({"topic": str, "published": str, "resolved": str}, {"field": str, "deviation": bool})
_CELL = _Table(
    {
        "cell": str, "model": str, "label": str, "mask": str, "train_mask": str, "seed": int, "trained": bool,
        "config": dict, "training": (dict, NoneType), "evaluation": (dict, NoneType),
    },
    {
        "summary": str, "paper": str, "track": str, "reason": _MAYBE_TEXT, "error": _MAYBE_TEXT,
        "ambiguities": _ListOf(_AMBIGUITY), "resolutions": _ListOf(_AMBIGUITY), "numerics": (dict, NoneType),
        "place": str, "part": int, "pictures_sha256": str,
    },
)  # fmt: skip
_PLANNED = _Table({"model": str, "label": str, "mask": str, "train_mask": str, "seed": int})
_PROTOCOL = _Table(
    {"name": str, "title": str, "data": str}, {"source": str, "known": _TEXTS, "unknown": _TEXTS}
)
#: Of an experiment that was merged: each of those it was merged from.
_PART = _Table(
    {"experiment": str},
    {
        "sha256": _MAYBE_TEXT, "hardware": dict, "software": dict, "commit": _MAYBE_TEXT, "computed_by": str,
    },
)  # fmt: skip
_MANIFEST = _Table(
    {
        "experiment": str, "created": str, "settings": _SETTINGS, "data": _DATA, "masks": _MapOf(_MASK),
        "metrics": _MapOf(_METRIC), "cells": list,
    },
    {
        "updated": str, "command": _TEXTS, "commands": _ListOf(_TEXTS), "options": _ListOf(dict),
        "software": dict, "hardware": dict, "commit": _MAYBE_TEXT, "planned": _ListOf(_PLANNED),
        "protocol": _PROTOCOL, "computed_by": str, "merged": _ListOf(_PART),
        "training_masks": _MapOf(_TEXTS),
    },
)  # fmt: skip


def find_problem(manifest: Any) -> str | None:
    """Return the first thing that is wrong with a manifest's shape; ``None`` where nothing is.

    Examples:
        >>> find_problem({"experiment": "mine"})
        'created is missing'
        >>> find_problem({"experiment": 3})
        'experiment is of another kind'
    """
    problem = _check(manifest, _MANIFEST, "")
    if problem:
        return problem
    for name, metric in manifest["metrics"].items():
        if problem := _check_metric(metric, f"metrics.{name}"):
            return problem
    for number, cell in enumerate(manifest["cells"]):
        if problem := _check_cell(cell, f"cells[{number}]"):
            return problem
    return None


def _check_metric(metric: Mapping[str, Any], where: str) -> str | None:
    # More digits than a float has, or fewer than none, cannot be printed.
    if not 0 <= metric.get("digits", 0) <= _MAX_DIGITS:
        return f"{where}.digits is out of range"
    limits = metric.get("value_range")
    if limits and (len(limits) != 2 or any(type(v) not in _MAYBE_NUMBER for v in limits)):
        return f"{where}.value_range is no pair of numbers"
    return None


def _check_cell(cell: Any, where: str) -> str | None:
    problem = _check(cell, _CELL, where)
    if problem:
        return problem
    if cell.get("status") not in STATUSES:
        return f"{where}.status is none of {', '.join(STATUSES)}"
    if cell["training"] is not None:
        problem = _check(cell["training"], _TRAINING, f"{where}.training")
        problem = problem or _check_inside(cell["training"]["folder"], f"{where}.training.folder")
    if problem is None and cell["status"] == "done":
        problem = _check(cell, _Table({"folder": str, "evaluation": _EVALUATION}), where)
        problem = problem or _check_inside(cell["folder"], f"{where}.folder")
    return problem


def _check(value: Any, kind: _Kind, where: str) -> str | None:
    """Return the first field below ``where`` that is missing or of another kind."""
    match kind:
        case _Table(required, optional):
            if not isinstance(value, dict):
                return f"{where or 'it'} is no table"
            for name, part in {**required, **optional}.items():
                place = f"{where}.{name}".lstrip(".")
                if name in value:
                    if problem := _check(value[name], part, place):
                        return problem
                elif name in required:
                    return f"{place} is missing"
            return None
        case _ListOf(item):
            if type(value) is not list:
                return f"{where} is of another kind"
            items = ((v, item, f"{where}[{i}]") for i, v in enumerate(value))
            return next((p for part in items if (p := _check(*part))), None)
        case _MapOf(item):
            if not isinstance(value, dict):
                return f"{where} is no table"
            items = ((v, item, f"{where}.{name}") for name, v in value.items())
            return next((p for part in items if (p := _check(*part))), None)
        case _:
            # By type and not isinstance: true is no number.
            kinds = kind if isinstance(kind, tuple) else (kind,)
            if type(value) not in kinds:
                return f"{where} is of another kind"
            # Integers of JSON have no end; those of tables and clocks have.
            limit = math.inf if isinstance(value, float) else 10**18
            out_of_range = isinstance(value, int | float) and not abs(value) < limit
            return f"{where} is out of range" if out_of_range else None


def _check_inside(folder: str, where: str) -> str | None:
    """Refuse a folder that does not lie below the manifest's own."""
    path = PurePosixPath(folder)
    if path.is_absolute() or ".." in path.parts or "\0" in folder or not path.parts:
        return f"{where} leaves the experiment's folder"
    return None
