"""What the manifest holds of a cell: how it ended, what of, where, and its numbers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.data import ImageSet
from bench.errors import UsageError
from bench.evaluation.evaluator import identities_of
from bench.evaluation.feature_sets import SetScore
from bench.evaluation.stochastic_samples import SampleSpread, expected_inside
from bench.runner.plan import Cell
from bench.runner.prepare import PreparedRun
from bench.runner.train import TrainedModel
from reports.results.schema import cell_numbers, rows_digest
from reports.statistics.bootstrap import cluster_codes
from reports.statistics.intervals import seed_interval


def done_entry(
    prepared: PreparedRun,
    cell: Cell,
    trained: TrainedModel,
    seconds: float,
    rows: pd.DataFrame,
    sets: Mapping[str, Any],
    samples: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the manifest's entry of a finished cell.

    Args:
        prepared: the run.
        cell: which cell.
        trained: its model.
        seconds: of completing the test images.
        rows: of its images, as they are stored.
        sets: value and number of images by metric of sets.
        samples: how the samples of a stochastic model differ, from :func:`samples_entry`.
    """
    store, images = prepared.context.store, len(prepared.test_images.ids) * cell.samples
    folder = store.cell(cell.slug, cell.key)
    return {
        **_entry(cell, "done"),
        "cell": folder.name,
        "folder": str(folder.relative_to(store.folder)),
        "what": cell.key,
        "where": prepared.context.where,
        "training": trained.summary,
        "fit": trained.fit,
        "evaluation": {
            "seconds": seconds,
            "images_per_second": images / max(seconds, 1e-9),
            "numbers": cell_numbers(rows),
            "rows_sha256": rows_digest(rows),
            "sets": dict(sets),
            **({"samples": dict(samples)} if samples else {}),
        },
    }


def samples_entry(spread: SampleSpread, count: int, images: ImageSet) -> dict[str, Any]:
    """Record how the samples of a stochastic model differ: means over the images, with 95 % intervals over people.

    Args:
        spread: by image.
        count: samples of each image.
        images: the test images.
    """
    codes, _ = cluster_codes(identities_of(images))

    def mean(values: NDArray[np.float64]) -> dict[str, Any]:
        estimate = seed_interval(values[None], codes)
        return set_entry(SetScore(estimate.value, estimate.low, estimate.high), len(images))

    diversity = spread.diversity
    return {
        "count": count,
        "diversity": {"reason": diversity} if isinstance(diversity, str) else mean(diversity),
        "inside": mean(spread.inside),
        "expected_inside": expected_inside(count),
    }


def set_entry(score: SetScore, images: int) -> dict[str, Any]:
    """Record a number of a set of images, with its interval where the metric has one."""
    numbers = {"value": score.value, "low": score.low, "high": score.high}
    # JSON has no NaN.
    kept = {name: None if math.isnan(value) else value for name, value in numbers.items()}
    # A metric without an interval has no entries for it, rather than two that say nothing.
    if kept["low"] is None:
        del kept["low"], kept["high"]
    return {**kept, "images": images}


def failed_entry(cell: Cell, reason: str, error: str) -> dict[str, Any]:
    """Return the manifest's entry of a cell that failed, with its traceback."""
    return {**_entry(cell, "failed"), "reason": reason, "error": error}


def not_applicable_entry(cell: Cell) -> dict[str, Any]:
    """Return the manifest's entry of a cell that does not apply, with the reason."""
    return {**_entry(cell, "not-applicable"), "reason": cell.not_applicable}


def _entry(cell: Cell, status: str) -> dict[str, Any]:
    plan = cell.training
    card = plan.entry.card if plan else None
    return {
        "cell": cell.slug,
        "folder": None,
        "model": cell.model,
        "label": cell.label,
        "summary": card.summary if card else "",
        "paper": card.paper if card else "",
        "groups": list(card.groups) if card else [],
        "trained": cell.trained,
        "mask": cell.mask,
        "train_mask": cell.train_mask,
        "seed": cell.seed,
        "track": plan.budget.track if plan else "",
        "status": status,
        "reason": None,
        "error": None,
        "config": dataclasses.asdict(plan.config) if plan else {},
        "ambiguities": [dataclasses.asdict(a) for a in plan.entry.model.ambiguities] if plan else [],
        "training": None,
        "evaluation": None,
    }


def replaces(new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Return whether two entries are of one cell, so that the manifest holds the new one only."""
    same = all(new[k] == old[k] for k in ("model", "mask", "seed"))
    # "-" is what a cell without a training says; see the note at Manifest.add.
    unknown = any(c["status"] == "failed" and c["train_mask"] == "-" for c in (new, old))
    return same and (unknown or new["train_mask"] == old["train_mask"])


def refuse_shared_labels(methods: Iterable[tuple[str, str]]) -> None:
    """Refuse two models under one label, by which tables and figures tell methods apart.

    Args:
        methods: model and label of each cell.

    Raises:
        UsageError: with both models.
    """
    models: dict[str, str] = {}
    for model, label in methods:
        if models.setdefault(label, model) != model:
            raise UsageError(
                f"two models are called {label!r}: {models[label]} and {model}; give one of them another label (in its "
                "@register, or as 'label' in the file of its program)"
            )


def evaluated_where(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return where a recorded cell was evaluated.

    Raises:
        TypeError: it does not say.
    """
    where = entry.get("where", entry.get("numerics"))
    if not isinstance(where, dict):
        raise TypeError("a cell does not say where it was computed")
    return where


def machines_of(entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return where a recorded cell was computed: its evaluation, and every machine that had a part in its training.

    Manifests of earlier versions name one place, as ``numerics``.

    >>> machines_of({"where": {"threads": 2}, "training": {"where": [{"threads": 8}]}})
    [{'threads': 2}, {'threads': 8}]
    >>> machines_of({"numerics": {"threads": 2}, "training": None})
    [{'threads': 2}]
    """
    evaluated = entry.get("where", entry.get("numerics"))
    trained = (entry.get("training") or {}).get("where", [])
    return [place for place in (evaluated, *trained) if isinstance(place, dict)]
