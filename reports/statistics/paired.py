"""Paired differences between methods: how large, how sure, how often."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from reports.statistics.bootstrap import (
    Floats,
    cluster_bootstrap_means,
    cluster_codes,
    cluster_sums,
    percentile_interval,
)
from reports.statistics.intervals import MIN_SEEDS, seed_interval
from reports.statistics.scores import Scores, group_scores, is_higher_better, resample_together


@dataclass(frozen=True)
class PairedDifference:
    """Method ``a`` less method ``b`` on the images that both have.

    Attributes:
        a, b: labels.
        difference: mean of ``a`` less mean of ``b``, in the metric's unit.
        low, high: 95 % interval.
        interval: ``seeds and images``, or ``images`` where a trained side has a single seed.
        n_images, n_identities: paired images and their clusters.
        seeds_a, seeds_b: trainings of each.
        p_value: Wilcoxon signed-rank test on the identity means, for these very trainings.
        superiority: probability that ``a`` beats ``b`` on an image (ties count half), in the metric's
            direction.
        effect: standardised mean difference of identities (Cohen's d_z), positive where ``a`` is better.
        verdict: ``a better``, ``b better`` or ``inconclusive``.
        reason: why it is inconclusive, else empty.
    """

    a: str
    b: str
    difference: float
    low: float
    high: float
    interval: str
    n_images: int
    n_identities: int
    seeds_a: int
    seeds_b: int
    p_value: float
    superiority: float
    effect: float
    verdict: str
    reason: str


def compare_scores(
    a: Scores,
    b: Scores,
    *,
    higher_is_better: bool,
    resamples: int = 10_000,
    resampled: Floats | None = None,
) -> PairedDifference:
    """The paired comparison of two methods on one mask and metric.

    With fewer than three trainings of a trained method the verdict is inconclusive by rule: a test on images
    sees only how two trainings differ, which they do for the same method too.

    ``resampled`` gives the resampled mean differences, ``(resamples, 1)``, where they are known already.
    """
    images = a.images.intersection(b.images, sort=False)
    seeds = {"seeds_a": len(a.seeds), "seeds_b": len(b.seeds)}
    if not len(images):
        nan = float("nan")
        return PairedDifference(
            a.label, b.label, nan, nan, nan, "none", 0, 0, **seeds, p_value=nan, superiority=nan, effect=nan,
            verdict="inconclusive", reason="no image has a value for both",
        )  # fmt: skip
    a, b = a.on(images), b.on(images)
    codes, clusters = cluster_codes(a.identities)
    paired = a.values.mean(axis=0) - b.values.mean(axis=0)
    sign = 1.0 if higher_is_better else -1.0
    if all(len(side.seeds) > 1 or not side.trained for side in (a, b)) and (a.trained or b.trained):
        estimate = seed_interval(a.values, codes, b.values)
        low, high, kind = estimate.low, estimate.high, "seeds and images"
    else:
        if resampled is None:
            resampled = cluster_bootstrap_means(paired, codes, resamples=resamples)
        limits = percentile_interval(resampled, clusters)
        low, high, kind = float(limits[0][0]), float(limits[1][0]), "images"
    verdict, reason = _verdict(a, b, low * sign, high * sign)
    return PairedDifference(
        a=a.label,
        b=b.label,
        difference=float(paired.mean()),
        low=low,
        high=high,
        interval=kind if clusters > 1 else "none",
        n_images=len(images),
        n_identities=clusters,
        **seeds,
        p_value=wilcoxon_on_clusters(paired, codes),
        superiority=probability_of_superiority(sign * a.values, sign * b.values),
        effect=effect_size(sign * paired, codes),
        verdict=verdict,
        reason=reason,
    )


def _verdict(a: Scores, b: Scores, one: float, other: float) -> tuple[str, str]:
    few = [side for side in (a, b) if side.trained and len(side.seeds) < MIN_SEEDS]
    if few:
        names = " and ".join(f"{side.label} has {len(side.seeds)}" for side in few)
        return "inconclusive", f"fewer than {MIN_SEEDS} trainings: {names}"
    low, high = min(one, other), max(one, other)
    if low > 0:
        return "a better", ""
    if high < 0:
        return "b better", ""
    return "inconclusive", "the interval includes zero" if np.isfinite(low) else "no interval"


def paired_differences(
    rows: pd.DataFrame,
    metrics: Sequence[str],
    *,
    pairs: Iterable[tuple[str, str]] | None = None,
    higher_is_better: Mapping[str, bool] | None = None,
    resamples: int = 10_000,
) -> pd.DataFrame:
    """Every pair of methods on every mask and metric.

    Args:
        rows: results.
        metrics: names of metric columns; those that ``rows`` lacks are passed over.
        pairs: labels to compare; every pair in the order of ``rows`` by default.
        higher_is_better: direction of each metric (:attr:`reports.results.experiment.Experiment.higher_is_better`).
        resamples: of the bootstrap.

    Returns:
        Columns ``mask``, ``metric``, then the fields of :class:`PairedDifference`, and ``p_holm``: the p-values
        corrected within each mask and metric (Holm 1979).
    """
    chosen = None if pairs is None else list(pairs)
    fields = list(PairedDifference.__dataclass_fields__)
    tables = []
    for metric in metrics:
        if metric not in rows.columns:
            continue
        arranged = group_scores(rows, metric)
        better = is_higher_better(metric, higher_is_better)
        for mask in dict.fromkeys(key[0] for key in arranged):
            methods = [scores for key, scores in arranged.items() if key[0] == mask]
            few = any(len(method.seeds) == 1 for method in methods)
            shared = resample_together(methods, resamples) if few else {}
            compared = list(_pairs(methods, chosen))
            found = [
                compare_scores(
                    a,
                    b,
                    higher_is_better=better,
                    resamples=resamples,
                    resampled=shared[a.key] - shared[b.key]
                    if a.key in shared and a.images.equals(b.images)
                    else None,
                )
                for a, b in compared
            ]
            if found:
                table = pd.DataFrame([vars(d) for d in found], columns=fields)
                names = _names(methods)
                for side, place in (("a", 0), ("b", 1)):
                    table[side] = [names[pair[place].key] for pair in compared]
                table.insert(0, "metric", metric)
                table.insert(0, "mask", mask)
                table["p_holm"] = holm_correction(table["p_value"].to_numpy())
                tables.append(table)
    if not tables:
        return pd.DataFrame(columns=["mask", "metric", *fields, "p_holm"])
    return pd.concat(tables, ignore_index=True)


def _names(methods: list[Scores]) -> dict[tuple[str, str], str]:
    """Labels, with what a method was trained on where its label has several trainings."""
    labels = [method.label for method in methods]
    return {
        m.key: f"{m.label} (trained on {m.train_mask})" if labels.count(m.label) > 1 else m.label
        for m in methods
    }


def _pairs(methods: list[Scores], chosen: list[tuple[str, str]] | None) -> Iterable[tuple[Scores, Scores]]:
    if chosen is None:
        return itertools.combinations(methods, 2)
    by_label = {scores.label: scores for scores in methods}
    return [(by_label[a], by_label[b]) for a, b in chosen if a in by_label and b in by_label]


# Tests and effect sizes for paired scores whose images are clustered by identity.


def cluster_means(values: ArrayLike, codes: NDArray[np.int64]) -> Floats:
    """``(C,)`` mean of ``values (N,)`` in each cluster."""
    count = int(codes.max()) + 1
    sums: Floats = cluster_sums(values, codes, count)[0]
    return sums / np.bincount(codes, minlength=count)


def wilcoxon_on_clusters(differences: ArrayLike, codes: NDArray[np.int64]) -> float:
    """Two-sided Wilcoxon signed-rank test that identity means of paired differences are centred on zero.

    It asks about these very trainings; it says nothing about a method (``docs/statistics.md``).

    Args:
        differences: ``(N,)`` paired differences.
        codes: ``(N,)`` cluster of each image.

    Returns:
        The p-value; 1 where no identity differs.
    """
    means = cluster_means(differences, codes)
    means = means[means != 0]
    if not len(means):
        return 1.0
    return float(stats.wilcoxon(means).pvalue)


def holm_correction(p_values: ArrayLike) -> Floats:
    """Holm's step-down correction (Scandinavian Journal of Statistics 6, 1979). NaN stay NaN and do not
    count.
    """
    p = np.asarray(p_values, dtype=np.float64)
    corrected = np.full(p.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    factors = len(order) - np.arange(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return corrected


def probability_of_superiority(a: Floats, b: Floats) -> float:
    """Probability that a training of ``a (S, N)`` has a higher score than one of ``b (T, N)`` on the same
    image.

    Over images and all pairs of trainings; ties count half.
    """
    total = 0.0
    for row in np.atleast_2d(a):
        for other in np.atleast_2d(b):
            total += float(np.mean(row > other)) + 0.5 * float(np.mean(row == other))
    return total / (len(np.atleast_2d(a)) * len(np.atleast_2d(b)))


def effect_size(differences: ArrayLike, codes: NDArray[np.int64]) -> float:
    """Cohen's d_z: mean over standard deviation of the identities' mean differences; NaN where that is
    zero.
    """
    means = cluster_means(differences, codes)
    deviation = float(means.std(ddof=1)) if len(means) > 1 else 0.0
    return float(means.mean()) / deviation if deviation > 0 else float("nan")
