"""Means with intervals: the numbers that tables show.

Metrics of images have one value an image, and an interval. Distribution metrics, as FID, have one value for all
images of a cell; it is kept in the manifest, since it belongs to no image, and has no interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reports.statistics.bootstrap import Floats, cluster_bootstrap_means, percentile_interval
from reports.statistics.intervals import seed_interval
from reports.statistics.scores import Scores, group_scores, resample_together

#: Below this many images FID is biased upwards so much that only tables of the same images can be compared.
FEW_IMAGES = 10_000

_DISTRIBUTION_COLUMNS = ["mask", "model", "label", "train_mask", "metric", "seed", "value", "images"]


def summarize(rows: pd.DataFrame, metrics: Sequence[str], *, resamples: int = 10_000) -> pd.DataFrame:
    """Average each metric of each method on each mask, one row each, in the order of ``rows``.

    Columns: ``mask``, ``model``, ``label``, ``train_mask``, ``metric``, ``mean`` (over seeds of the mean over
    images), ``low`` and ``high`` (95 %), ``interval``, ``n_images``, ``n_identities`` (clusters; images
    without a known person count one each), ``n_seeds``, ``seed_sd`` (of the seeds' means; NaN for one), and
    ``n_capped`` (rows whose composite equals the truth).

    ``interval`` says what the limits are about: ``images`` is a cluster bootstrap over the images of this one
    training; ``seeds and images`` is the two-component interval, which is about the method.

    A metric that is NaN throughout has mean NaN and ``n_images`` 0; one that ``rows`` lacks is skipped.
    """
    records = []
    for metric in metrics:
        if metric not in rows.columns:
            continue
        grouped = group_scores(rows, metric)
        for mask in dict.fromkeys(key[0] for key in grouped):
            methods = [scores for key, scores in grouped.items() if key[0] == mask]
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
    """Name a method as tables do: its label, with its training mask where the label has several.

    Args:
        part: lines of :func:`summarize` for one mask.
        label: its label.
        train_mask: mask it was trained on.

    Examples:
        >>> part = pd.DataFrame({"label": ["GLCIC", "GLCIC"], "train_mask": ["center", "paper"]})
        >>> method_name(part, "GLCIC", "paper"), method_name(part[:1], "GLCIC", "center")
        ('GLCIC (trained on paper)', 'GLCIC')
    """
    several = part.loc[part["label"] == label, "train_mask"].nunique() > 1
    return f"{label} (trained on {train_mask})" if several else str(label)


def distribution_scores(cells: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """List the distribution metrics of finished cells, one row each.

    Columns: ``mask``, ``model``, ``label``, ``train_mask``, ``metric``, ``seed``, ``value``, ``images``.
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
    return pd.DataFrame(records, columns=_DISTRIBUTION_COLUMNS)


def summarize_distribution_metrics(cells: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Average distribution metrics over trainings, in the columns of :func:`summarize`.

    There is no interval (``interval`` is ``none``): the value belongs to all images together, and resampling them would
    take their features.
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
    """State over how many images a distribution metric is, and what few of them do to it.

    Examples:
        >>> distribution_note("FID", 19_962)
        'FID is one number over 19,962 images, without an interval.'
    """
    note = f"{metric} is one number over {images:,} images, without an interval"
    if images >= FEW_IMAGES:
        return note + "."
    return (
        f"{note}; below {FEW_IMAGES:,} images it is biased upwards, so compare it only with numbers over the "
        "same images, never with a publication."
    )
