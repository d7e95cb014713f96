"""Several samples of each image: how much of a mean's uncertainty each level adds, and what the best sample would give.

A score is the method's mean, plus the training's offset, plus the image's difficulty, plus their interaction, plus what
the sample adds. The noise of every (training, sample, image) is its own, so samples are nested in pairs of training and
image: the interval of the mean over samples already holds their share (:mod:`reports.statistics.intervals`), and
this module says how large it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.statistics.bootstrap import Floats, cluster_codes
from reports.statistics.intervals import seed_interval
from reports.statistics.scores import METHOD, is_higher_better

_COLUMNS = [
    "mask", "model", "label", "train_mask", "metric", "n_samples", "n_seeds", "n_images", "mean", "low", "high",
    "se_training", "se_image", "se_sample", "sample_sd", "best_of_samples",
]  # fmt: skip


@dataclass(frozen=True)
class VarianceSplit:
    """Variances that the levels add to the grand mean; they sum to that of the mean. Each is unbiased.

    A part that is small beside the others may come out negative by chance.

    Attributes:
        training: of trainings that differ in their seed; NaN for a single training, which shows none.
        image: of images, and of how trainings differ from image to image.
        sample: of the samples of one training and image.
        within: variance of single samples about the mean of their training and image.
    """

    training: float
    image: float
    sample: float
    within: float


def split_variance(values: Floats, codes: NDArray[np.int64]) -> VarianceSplit:
    """Split the variance of a grand mean into the parts of trainings, images and samples.

    With ``S`` trainings, ``N`` images and ``K`` samples: the part of samples is their pooled variance over ``S N K``;
    trainings and images are those of :func:`reports.statistics.intervals.seed_interval` on the means over samples,
    where the part of images holds that of samples, which is taken off it.

    Args:
        values: ``(S, N, K)``, K at least 2.
        codes: ``(N,)`` cluster of each image, from 0.

    Examples:
        >>> values = np.array([[[1.0, 3.0], [5.0, 7.0], [9.0, 11.0]]])  # one training, three images, two samples
        >>> split = split_variance(values, np.arange(3))
        >>> split.within, round(split.sample, 4), round(split.image + split.sample, 4)
        (2.0, 0.3333, 5.3333)
    """
    trainings, images, samples = values.shape
    within = float(values.var(axis=2, ddof=1).mean())
    of_samples = within / (trainings * images * samples)
    means = values.mean(axis=2)
    clusters = int(codes.max()) + 1
    if clusters < 2:
        return VarianceSplit(math.nan, math.nan, of_samples, within)
    # One row has no variance between trainings: what is estimated is that of the images of their mean.
    v_images = seed_interval(means.mean(axis=0, keepdims=True), codes).standard_error ** 2
    of_trainings = math.nan
    if trainings > 1:
        residual = means - means.mean(axis=0)
        # Relative to each image's mean over trainings, scores hold the interaction alone.
        errors = [seed_interval(row[None], codes).standard_error ** 2 for row in residual]
        shared = sum(errors) / (trainings * (trainings - 1))
        of_trainings = float(means.mean(axis=1).var(ddof=1)) / trainings - shared
    return VarianceSplit(of_trainings, v_images - of_samples, of_samples, within)


def summarize_samples(
    rows: pd.DataFrame, metrics: Sequence[str], higher_is_better: Mapping[str, bool] | None = None
) -> pd.DataFrame:
    """Describe methods with several samples of each image, a line for each mask, method and metric.

    Columns: ``mask``, ``model``, ``label``, ``train_mask``, ``metric``, ``n_samples``, ``n_seeds``, ``n_images``,
    ``mean`` (over samples), ``low`` and ``high`` (95 %, over trainings, images and samples), ``se_training``,
    ``se_image`` and ``se_sample`` (standard errors of the mean that each level adds; zero where the estimated variance
    is negative), ``sample_sd`` (standard deviation of single samples), ``best_of_samples`` (mean over images of each
    image's best sample: an oracle that looks at the truth, never a method's result).

    Args:
        rows: results; methods with one sample are left out.
        metrics: names of metric columns.
        higher_is_better: direction of each metric.
    """
    if "sample" not in rows.columns or not (rows["sample"] > 0).any():
        return pd.DataFrame(columns=_COLUMNS)
    records = []
    for key, part in rows.groupby(list(METHOD), sort=False, observed=True):
        if not (part["sample"] > 0).any():
            continue
        for metric in metrics:
            if metric in part.columns and part[metric].notna().any():
                about = dict(zip(METHOD, key, strict=True)) | {
                    "model": part["model"].iloc[0],
                    "metric": metric,
                }
                records.append(about | _line(part, metric, is_higher_better(metric, higher_is_better)))
    return pd.DataFrame(records, columns=_COLUMNS)


def _line(part: pd.DataFrame, metric: str, better: bool) -> dict[str, Any]:
    """Describe one metric of one method on one mask."""
    # Only images that every training and sample has.
    table = part.pivot(index="image_id", columns=["seed", "sample"], values=metric).dropna()
    seeds = list(dict.fromkeys(table.columns.get_level_values("seed")))
    # Trainings may have been evaluated with another number of samples each; the smallest is what all have.
    samples = min(int((table.columns.get_level_values("seed") == seed).sum()) for seed in seeds)
    values = np.stack([table[seed].to_numpy(dtype=np.float64)[:, :samples] for seed in seeds])
    about = part.drop_duplicates("image_id").set_index("image_id").loc[table.index, "identity"]
    codes, _ = cluster_codes(about)
    estimate = seed_interval(values.mean(axis=2), codes)
    found = {
        "n_samples": samples,
        "n_seeds": len(seeds),
        "n_images": len(table),
        "mean": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "best_of_samples": float((values.max(axis=2) if better else values.min(axis=2)).mean()),
    }
    if samples < 2:
        return found
    split = split_variance(values, codes)
    return found | {
        "se_training": _root(split.training),
        "se_image": _root(split.image),
        "se_sample": _root(split.sample),
        "sample_sd": _root(split.within),
    }


def _root(variance: float) -> float:
    """Return a standard error; zero for a variance that came out negative, NaN for an unknown one."""
    return variance if math.isnan(variance) else math.sqrt(max(variance, 0.0))


def sample_spread(cells: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """List how the samples of finished cells differ: one line for each cell with several samples of an image.

    Columns: ``mask``, ``model``, ``label``, ``train_mask``, ``seed``, ``n_samples``, then ``diversity`` and ``inside``
    with their limits (``_low``, ``_high``; NaN where there is none), ``expected_inside``, and ``reason`` (why there is
    no diversity).
    """
    records = []
    for cell in cells:
        found = (cell["evaluation"] or {}).get("samples") if cell["status"] == "done" else None
        if not found:
            continue
        record = {k: cell[k] for k in ("mask", "model", "label", "train_mask", "seed")}
        record |= {"n_samples": found["count"], "expected_inside": found["expected_inside"]}
        for name in ("diversity", "inside"):
            for part, column in (("value", name), ("low", f"{name}_low"), ("high", f"{name}_high")):
                value = found[name].get(part)
                record[column] = math.nan if value is None else float(value)
        records.append(record | {"reason": found["diversity"].get("reason", "")})
    return pd.DataFrame(records)
