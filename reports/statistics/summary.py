"""Means with intervals: the numbers that tables show.

Metrics of images have one value an image, and an interval. Distribution metrics, as FID, have one value for all
images of a cell; it is kept in the manifest, since it belongs to no image, and has no interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from reports.results.metric_info import MetricInfo
from reports.statistics.bootstrap import Floats, cluster_bootstrap_means, percentile_interval
from reports.statistics.intervals import seed_interval
from reports.statistics.scores import Scores, group_scores, resample_together

#: Below this many images FID is biased upwards so much that only tables of the same images can be compared.
FEW_IMAGES = 10_000

_DISTRIBUTION_COLUMNS = [
    "mask",
    "model",
    "label",
    "train_mask",
    "metric",
    "seed",
    "value",
    "low",
    "high",
    "images",
]


def summarize(rows: pd.DataFrame, metrics: Sequence[str], *, resamples: int = 10_000) -> pd.DataFrame:
    """Average each metric of each method on each mask, one row each, in the order of ``rows``.

    Columns: ``mask``, ``model``, ``label``, ``train_mask``, ``metric``, ``mean`` (over seeds of the mean over
    images), ``low`` and ``high`` (95 %), ``interval``, ``n_images``, ``n_identities`` (clusters; images
    without a known person count one each), ``n_seeds``, ``n_samples`` (of each image, averaged first), ``seed_sd`` (of
    the seeds' means; NaN for one), and ``n_capped`` (pairs of training and image whose composites equal the truth).

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
            # Several trainings have an interval in closed form: only single ones are resampled.
            shared = resample_together([m for m in methods if len(m.seeds) == 1], resamples)
            records += [
                {"mask": mask, "metric": metric, **_line(m, resamples, shared.get(m.key))} for m in methods
            ]
    columns = [
        "mask", "model", "label", "train_mask", "metric", "mean", "low", "high", "interval",
        "n_images", "n_identities", "n_seeds", "n_samples", "seed_sd", "n_capped",
    ]  # fmt: skip
    table = pd.DataFrame(records, columns=columns)
    # Metrics were taken one after another; the lines of a method belong together, in the order of the rows.
    order = {key: i for i, key in enumerate(dict.fromkeys(zip(table["mask"], table["label"], strict=True)))}
    place = pd.Series([order[k] for k in zip(table["mask"], table["label"], strict=True)], dtype="int64")
    return table.iloc[place.argsort(kind="stable")].reset_index(drop=True)


def _line(scores: Scores, resamples: int, resampled: Floats | None) -> dict[str, object]:
    about = {"model": scores.model, "label": scores.label, "train_mask": scores.train_mask}
    nothing = {
        "mean": np.nan, "low": np.nan, "high": np.nan, "interval": "none", "seed_sd": np.nan,
        "n_images": 0, "n_identities": 0, "n_seeds": len(scores.seeds), "n_samples": scores.samples,
        "n_capped": scores.capped,
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

    Columns: ``mask``, ``model``, ``label``, ``train_mask``, ``metric``, ``seed``, ``value``, ``low``, ``high`` (95 %
    interval over the images of this training, NaN where the metric has none), ``images``.
    """
    records = [
        {
            **{key: cell[key] for key in ("mask", "model", "label", "train_mask", "seed")},
            "metric": metric,
            **{name: _number(score.get(name)) for name in ("value", "low", "high")},
            "images": int(score["images"]),
        }
        for cell in cells
        if cell["status"] == "done"
        for metric, score in ((cell["evaluation"] or {}).get("sets") or {}).items()
    ]
    return pd.DataFrame(records, columns=_DISTRIBUTION_COLUMNS)


def summarize_distribution_metrics(cells: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Average distribution metrics over trainings, in the columns of :func:`summarize`.

    A metric that comes with an interval over images (KID) keeps it for one training; over several, the spread of the
    trainings is added: the half width is ``sqrt((t sd / sqrt(S))^2 + w^2)`` with S trainings, Student's t and w the
    mean half width over images. A metric without one (FID) has none (``interval`` is ``none``).
    """
    scores = distribution_scores(cells)
    keys = ["mask", "model", "label", "train_mask", "metric"]
    records = [
        {
            **dict(zip(keys, key, strict=True)),
            "mean": of["value"].mean(),
            **_distribution_interval(of),
            "n_images": int(of["images"].min()),
            "n_seeds": len(of),
            "seed_sd": of["value"].std(ddof=1) if len(of) > 1 else np.nan,
        }
        for key, of in scores.groupby(keys, sort=False, observed=True)
    ]
    return pd.DataFrame(records)


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)


def _distribution_interval(scores: pd.DataFrame) -> dict[str, Any]:
    """Return ``low``, ``high`` and ``interval`` of the mean over the trainings in ``scores``."""
    count = len(scores)
    # NaN where a metric has no interval: the mean of gaps is a gap.
    over_images = float(((scores["high"] - scores["low"]) / 2).mean())
    if np.isnan(over_images):
        return {"low": np.nan, "high": np.nan, "interval": "none"}
    if count == 1:
        low, high = scores[["low", "high"]].iloc[0]
        return {"low": float(low), "high": float(high), "interval": "images"}
    spread = float(scores["value"].std(ddof=1)) / np.sqrt(count)
    # Both are half widths of independent errors, so their squares add.
    reach = float(np.hypot(stats.t.ppf(0.975, count - 1) * spread, over_images))
    mean = float(scores["value"].mean())
    return {"low": mean - reach, "high": mean + reach, "interval": "seeds and images"}


def distribution_note(metric: MetricInfo, images: int, *, interval: bool = False) -> str:
    """State over how many images a distribution metric is, and what few of them do to it.

    Args:
        metric: which.
        images: their number.
        interval: whether the metric comes with an interval.

    Examples:
        >>> fid = MetricInfo(name="fid", heading="FID", digits=2, convention="", higher_is_better=False)
        >>> distribution_note(fid, 19_962)
        'FID is one number over 19,962 images, without an interval.'
    """
    note = f"{metric.heading} is one number over {images:,} images"
    if not interval:
        note += ", without an interval"
    if images >= FEW_IMAGES or not metric.few_images:
        return note + "."
    return (
        f"{note}; below {FEW_IMAGES:,} images {metric.few_images}, so compare it only with numbers over the "
        "same images, never with a publication."
    )
