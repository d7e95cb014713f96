"""Metrics of a set of images, as FID: one number a cell, kept in the manifest, since it belongs to no image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

#: Below so many images FID is biased upwards so much that only tables of the same images can be compared.
FEW_IMAGES = 10_000

_COLUMNS = ["mask", "model", "label", "train_mask", "metric", "seed", "value", "images"]


def set_scores(cells: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """One row for each finished cell and metric of sets: ``mask``, ``model``, ``label``, ``train_mask``, ``metric``,
    ``seed``, ``value``, ``images``.
    """
    records = [
        {
            **{key: cell[key] for key in ("mask", "model", "label", "train_mask", "seed")},
            "metric": metric,
            "value": np.nan if score["value"] is None else float(score["value"]),
            "images": int(score["images"]),
        }
        for cell in cells
        if cell["status"] == "done"
        for metric, score in ((cell["evaluation"] or {}).get("sets") or {}).items()
    ]
    return pd.DataFrame(records, columns=_COLUMNS)


def summarise_sets(cells: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The lines of :func:`reports.statistics.summary.summarise` for metrics of sets: means over trainings.

    There is no interval (``interval`` is ``none``): the number is of all images together, so that there is nothing to
    resample without computing features again.
    """
    scores = set_scores(cells)
    keys = ["mask", "model", "label", "train_mask", "metric"]
    records = [
        {
            **dict(zip(keys, key, strict=True)),
            "mean": of["value"].mean(),
            "low": np.nan,
            "high": np.nan,
            "interval": "none",
            "n_images": int(of["images"].min()),
            "n_seeds": len(of),
            "seed_sd": of["value"].std(ddof=1) if len(of) > 1 else np.nan,
        }
        for key, of in scores.groupby(keys, sort=False, observed=True)
    ]
    return pd.DataFrame(records)


def set_note(metric: str, images: int) -> str:
    """What must be said beside a metric of sets: over how many images it is, and what few of them do to it."""
    note = f"{metric} is one number over {images:,} images, without an interval"
    if images >= FEW_IMAGES:
        return note + "."
    return (
        f"{note}; below {FEW_IMAGES:,} images it is biased upwards, so compare it only with numbers over the "
        "same images, never with a publication."
    )
