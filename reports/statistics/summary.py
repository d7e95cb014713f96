"""Means with intervals: what tables show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reports.statistics.bootstrap import Floats, cluster_bootstrap_means, percentile_interval
from reports.statistics.intervals import seed_interval
from reports.statistics.paired import paired_differences
from reports.statistics.scores import Scores, group_scores, resample_together

__all__ = ["paired_differences", "summarize"]


def summarize(rows: pd.DataFrame, metrics: Sequence[str], *, resamples: int = 10_000) -> pd.DataFrame:
    """One row for each mask, method and metric, in the order of ``rows``.

    Columns: ``mask``, ``model``, ``label``, ``train_mask``, ``metric``, ``mean`` (over seeds of the mean over
    images), ``low`` and ``high`` (95 %), ``interval``, ``n_images``, ``n_identities`` (clusters; images
    without a known person count one each), ``n_seeds``, ``seed_sd`` (of the seeds' means; NaN for one), and
    ``n_capped`` (rows whose composite equals the truth).

    ``interval`` says what the limits speak of: ``images`` is a cluster bootstrap over images of this one
    training; ``seeds and images`` is the two-component interval, which speaks of the method.

    A metric that is missing or NaN throughout has mean NaN and ``n_images`` 0.
    """
    records = []
    for metric in metrics:
        if metric not in rows.columns:
            continue
        arranged = group_scores(rows, metric)
        for mask in dict.fromkeys(key[0] for key in arranged):
            methods = [scores for key, scores in arranged.items() if key[0] == mask]
            shared = resample_together([m for m in methods if len(m.seeds) == 1], resamples)
            records += [
                {"mask": mask, "metric": metric, **_line(m, resamples, shared.get(m.key))} for m in methods
            ]
    columns = [
        "mask", "model", "label", "train_mask", "metric", "mean", "low", "high", "interval",
        "n_images", "n_identities", "n_seeds", "seed_sd", "n_capped",
    ]  # fmt: skip
    table = pd.DataFrame(records, columns=columns)
    order = {key: i for i, key in enumerate(dict.fromkeys(zip(table["mask"], table["label"], strict=True)))}
    place = pd.Series([order[k] for k in zip(table["mask"], table["label"], strict=True)], dtype="int64")
    return table.iloc[place.argsort(kind="stable")].reset_index(drop=True)


def _line(scores: Scores, resamples: int, resampled: Floats | None) -> dict[str, object]:
    about = {"model": scores.model, "label": scores.label, "train_mask": scores.train_mask}
    nothing = {
        "mean": np.nan, "low": np.nan, "high": np.nan, "interval": "none", "seed_sd": np.nan,
        "n_images": 0, "n_identities": 0, "n_seeds": len(scores.seeds), "n_capped": scores.capped,
    }  # fmt: skip
    if scores.values.size == 0:
        return {**about, **nothing}
    codes = scores.codes
    clusters = int(codes.max()) + 1
    if len(scores.seeds) > 1:
        estimate = seed_interval(scores.values, codes)
        low, high, kind = estimate.low, estimate.high, "seeds and images"
    else:
        if resampled is None:
            resampled = cluster_bootstrap_means(scores.values, codes, resamples=resamples)
        low, high = (float(limit[0]) for limit in percentile_interval(resampled, clusters))
        kind = "images"
    seed_means = scores.values.mean(axis=1)
    return {
        **about,
        **nothing,
        "mean": float(seed_means.mean()),
        "low": low,
        "high": high,
        "interval": kind if clusters > 1 else "none",
        "seed_sd": float(seed_means.std(ddof=1)) if len(seed_means) > 1 else np.nan,
        "n_images": scores.values.shape[1],
        "n_identities": clusters,
    }


def method_name(part: pd.DataFrame, label: object, train_mask: object) -> str:
    """A method as a table names it: its label, with what it was trained on where the label has several trainings.

    Args:
        part: lines of :func:`summarize` for one mask.
        label: its label.
        train_mask: what it was trained on.
    """
    several = part.loc[part["label"] == label, "train_mask"].nunique() > 1
    return f"{label} (trained on {train_mask})" if several else str(label)


# Metrics of a set of images, as FID: one number a cell, kept in the manifest, since it belongs to no image.


#: Below so many images FID is biased upwards so much that only tables of the same images can be compared.
FEW_IMAGES = 10_000

_COLUMNS = ["mask", "model", "label", "train_mask", "metric", "seed", "value", "images"]


def distribution_scores(cells: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
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


def summarize_distribution_metrics(cells: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """The lines of :func:`reports.statistics.summary.summarize` for metrics of sets: means over trainings.

    There is no interval (``interval`` is ``none``): the number is of all images together, so that there is nothing to
    resample without computing features again.
    """
    scores = distribution_scores(cells)
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


def distribution_note(metric: str, images: int) -> str:
    """What must be said beside a metric of sets: over how many images it is, and what few of them do to it."""
    note = f"{metric} is one number over {images:,} images, without an interval"
    if images >= FEW_IMAGES:
        return note + "."
    return (
        f"{note}; below {FEW_IMAGES:,} images it is biased upwards, so compare it only with numbers over the "
        "same images, never with a publication."
    )
