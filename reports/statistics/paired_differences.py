"""Paired differences between methods: how large, how certain, and whether they are decided.

A difference is *decided* where its p-value, corrected by Holm's procedure for every comparison of its family, is
below 5 %. A family holds all pairs of one kind for one metric on one mask: all pairs of trained models, all
pairs of a trained model and a training-free baseline, or all pairs of baselines.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from reports.statistics.bootstrap import (
    RESAMPLES,
    Floats,
    bootstrap_p_value,
    cluster_bootstrap_means,
    cluster_codes,
    cluster_sums,
    percentile_interval,
)
from reports.statistics.intervals import MIN_SEEDS, seed_interval
from reports.statistics.multiplicity import ALPHA, holm_correction, holm_thresholds
from reports.statistics.scores import Scores, group_scores, is_higher_better, resample_together

#: Names of the families that a difference can belong to.
TRAINED_PAIRS = "all pairs of trained models"
MIXED_PAIRS = "all pairs of a trained model and a baseline"
BASELINE_PAIRS = "all pairs of baselines"


@dataclass(frozen=True)
class PairedDifference:
    """Method ``a`` minus method ``b`` on the images that both have.

    Attributes:
        a, b: labels.
        difference: mean of ``a`` minus mean of ``b``, in the metric's unit.
        low, high: 95 % interval, for this comparison alone.
        interval: ``seeds and images``, or ``images`` where a trained side has a single seed.
        n_images, n_identities: paired images and their clusters.
        seeds_a, seeds_b: trainings of each.
        superiority: probability that ``a`` beats ``b`` on an image (ties count half), in the metric's direction.
        effect: standardized mean difference of identities (Cohen's d_z), positive where ``a`` is better.
        p_value: two-sided, of no difference, by inverting the interval; NaN below three trainings.
        family: what the correction is over.
        family_size: comparisons in the family that have a p-value.
        p_holm: ``p_value`` corrected for the family (Holm 1979).
        smallest_gap: smallest difference that would have been decided at the observed spread.
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
    superiority: float
    effect: float
    p_value: float
    family: str = "this comparison alone"
    family_size: int = 0
    p_holm: float = math.nan
    smallest_gap: float = math.nan
    verdict: str = "inconclusive"
    reason: str = ""

    def reversed(self) -> PairedDifference:
        """Return ``b`` minus ``a``."""
        swapped = {"a better": "b better", "b better": "a better"}
        return dataclasses.replace(
            self,
            a=self.b,
            b=self.a,
            difference=-self.difference,
            low=-self.high,
            high=-self.low,
            seeds_a=self.seeds_b,
            seeds_b=self.seeds_a,
            superiority=1 - self.superiority,
            effect=-self.effect,
            verdict=swapped.get(self.verdict, self.verdict),
        )


@dataclass(frozen=True)
class Comparison:
    """A difference before its correction.

    Attributes:
        line: the difference, without a verdict.
        higher_is_better: direction of the metric.
        reach: p -> distance from the estimate to the limit of the ``1 - p`` interval that faces zero.
    """

    line: PairedDifference
    higher_is_better: bool
    reach: Callable[[float], float]


def compare_scores(
    a: Scores,
    b: Scores,
    *,
    higher_is_better: bool,
    resamples: int = RESAMPLES,
    resampled: Floats | None = None,
) -> PairedDifference:
    """Compare two methods on one mask and metric, as a family of its own.

    With fewer than three trainings of a trained method the verdict is inconclusive by rule: a test on images
    sees only how two trainings differ, which trainings of the same method do too.

    Args:
        a: the method that is subtracted from.
        b: the method that is subtracted.
        higher_is_better: direction of the metric.
        resamples: of the bootstrap.
        resampled: resampled mean differences ``(resamples, 1)``, where they are known already.
    """
    compared = measure_difference(
        a, b, higher_is_better=higher_is_better, resamples=resamples, resampled=resampled
    )
    return correct_family([compared], "this comparison alone")[0]


def measure_difference(
    a: Scores,
    b: Scores,
    *,
    higher_is_better: bool,
    resamples: int = RESAMPLES,
    resampled: Floats | None = None,
) -> Comparison:
    """Measure the difference of two methods, without a verdict; the arguments are :func:`compare_scores`'."""
    # Paired: the others say nothing about the difference.
    images = a.images.intersection(b.images, sort=False)
    if not len(images):
        nan = math.nan
        line = PairedDifference(
            a.label, b.label, nan, nan, nan, "none", 0, 0, len(a.seeds), len(b.seeds), superiority=nan, effect=nan,
            p_value=nan, reason="no image has a value for both",
        )  # fmt: skip
        return Comparison(line, higher_is_better, lambda p: nan)
    a, b = a.on(images), b.on(images)
    codes, clusters = cluster_codes(a.identities)
    paired = a.values.mean(axis=0) - b.values.mean(axis=0)
    # Only superiority and effect are turned so that larger is better; the
    # difference keeps the metric's own sign.
    sign = 1.0 if higher_is_better else -1.0
    low, high, kind, p_value, reach = _interval(a, b, codes, clusters, resamples, resampled)
    few = [side for side in (a, b) if side.trained and len(side.seeds) < MIN_SEEDS]
    reason = ""
    if few:
        # No p-value beside "inconclusive": one over images would answer another question than the one asked.
        p_value = math.nan
        reason = f"fewer than {MIN_SEEDS} trainings: " + " and ".join(
            f"{side.label} has {len(side.seeds)}" for side in few
        )
    line = PairedDifference(
        a=a.label,
        b=b.label,
        difference=float(paired.mean()),
        low=low,
        high=high,
        interval=kind if clusters > 1 else "none",
        n_images=len(images),
        n_identities=clusters,
        seeds_a=len(a.seeds),
        seeds_b=len(b.seeds),
        superiority=probability_of_superiority(sign * a.values, sign * b.values),
        effect=effect_size(sign * paired, codes),
        p_value=p_value,
        reason=reason,
    )
    return Comparison(line, higher_is_better, reach)


def _interval(
    a: Scores, b: Scores, codes: NDArray[np.int64], clusters: int, resamples: int, resampled: Floats | None
) -> tuple[float, float, str, float, Callable[[float], float]]:
    """Return limits, what they are over, p-value and reach of ``a`` minus ``b``."""
    # Trainings count only where every trained side has two of them, and baselines have none. Everything else
    # is about these very trainings, and images alone are resampled.
    if all(len(side.seeds) > 1 or not side.trained for side in (a, b)) and (a.trained or b.trained):
        estimate = seed_interval(a.values, codes, b.values)
        return estimate.low, estimate.high, "seeds and images", estimate.p_value(), estimate.half_width
    paired = a.values.mean(axis=0) - b.values.mean(axis=0)
    drawn = cluster_bootstrap_means(paired, codes, resamples=resamples) if resampled is None else resampled
    value = float(paired.mean())

    def reach(p: float) -> float:
        lower, upper = percentile_interval(drawn, clusters, confidence=1 - p)
        return value - float(lower[0]) if value > 0 else float(upper[0]) - value

    limits = percentile_interval(drawn, clusters)
    p_value = bootstrap_p_value(drawn[:, 0], clusters)
    return float(limits[0][0]), float(limits[1][0]), "images", p_value, reach


def correct_family(compared: Sequence[Comparison], family: str) -> list[PairedDifference]:
    """Give every comparison of a family its corrected p-value, smallest decidable gap and verdict.

    Args:
        compared: all comparisons of the family.
        family: its name.
    """
    p_values = [c.line.p_value for c in compared]
    corrected, thresholds = holm_correction(p_values), holm_thresholds(p_values)
    size = int(np.isfinite(corrected).sum())
    found = []
    for comparison, p_holm, threshold in zip(compared, corrected, thresholds, strict=True):
        line = comparison.line
        # The widest interval that Holm would have judged this comparison by: a difference just
        # beyond its reach would have been decided.
        gap = math.nan if math.isnan(threshold) else comparison.reach(float(threshold))
        verdict, reason = _pair_verdict(comparison, float(p_holm), size)
        found.append(
            dataclasses.replace(
                line,
                family=family,
                family_size=size,
                p_holm=float(p_holm),
                smallest_gap=gap,
                verdict=verdict,
                reason=reason,
            )
        )
    return found


def _pair_verdict(comparison: Comparison, p_holm: float, size: int) -> tuple[str, str]:
    line = comparison.line
    if line.reason:
        return "inconclusive", line.reason
    if math.isnan(p_holm):
        return "inconclusive", "no interval"
    if p_holm < ALPHA:
        a_is_better = (line.difference > 0) == comparison.higher_is_better
        return ("a better" if a_is_better else "b better"), ""
    # Decided if it were the only comparison, but not among so many.
    if line.p_value < ALPHA:
        return "inconclusive", f"not after Holm's correction for {size} comparisons (p = {p_holm:.2g})"
    return "inconclusive", "the interval includes zero"


def paired_differences(
    rows: pd.DataFrame,
    metrics: Sequence[str],
    *,
    pairs: Iterable[tuple[str, str]] | None = None,
    higher_is_better: Mapping[str, bool] | None = None,
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """Compare every pair of methods on every mask and metric.

    Args:
        rows: results.
        metrics: names of metric columns; those that ``rows`` lacks are skipped.
        pairs: labels to compare; every pair in the order of ``rows`` by default. The correction is for the
            whole family in any case, since a pair is usually chosen for what it shows.
        higher_is_better: direction of each metric (:attr:`reports.results.experiment.Experiment.higher_is_better`).
        resamples: of the bootstrap.

    Returns:
        Columns ``mask``, ``metric``, then the fields of :class:`PairedDifference`.
    """
    chosen = None if pairs is None else list(pairs)
    tables = []
    for metric in metrics:
        if metric not in rows.columns:
            continue
        grouped = group_scores(rows, metric)
        better = is_higher_better(metric, higher_is_better)
        for mask in dict.fromkeys(key[0] for key in grouped):
            methods = [scores for key, scores in grouped.items() if key[0] == mask]
            table = pd.DataFrame(
                [vars(d) for d in _compare_methods(methods, chosen, better, resamples)], columns=_FIELDS
            )
            table.insert(0, "metric", metric)
            table.insert(0, "mask", mask)
            tables.append(table)
    tables = [table for table in tables if len(table)]
    if not tables:
        return pd.DataFrame(columns=["mask", "metric", *_FIELDS])
    return pd.concat(tables, ignore_index=True)


_FIELDS = list(PairedDifference.__dataclass_fields__)


def compare_families(
    methods: Sequence[Scores],
    *,
    higher_is_better: bool,
    resamples: int = RESAMPLES,
) -> dict[tuple[tuple[str, str], tuple[str, str]], PairedDifference]:
    """Compare all pairs of methods of one metric and mask, by the keys of both (:attr:`Scores.key`)."""
    compared = _measure_all(methods, higher_is_better, resamples, lambda a, b: True)
    return _correct_by_family(methods, compared)


_Pair = tuple[tuple[str, str], tuple[str, str]]


def _compare_methods(
    methods: list[Scores], chosen: list[tuple[str, str]] | None, better: bool, resamples: int
) -> list[PairedDifference]:
    by_label = {scores.label: scores for scores in methods}
    if chosen is None:
        wanted = list(itertools.combinations(methods, 2))
    else:
        wanted = [(by_label[a], by_label[b]) for a, b in chosen if a in by_label and b in by_label]
    # The correction needs every p-value of the families that the wanted pairs belong to.
    families = {_family(a, b) for a, b in wanted}
    keys = {frozenset((a.key, b.key)) for a, b in wanted}

    def needed(a: Scores, b: Scores) -> bool:
        # Pairs that were not asked for matter by their p-value alone, which too few trainings do not have.
        asked = frozenset((a.key, b.key)) in keys
        return asked or (_family(a, b) in families and _has_p_value(a) and _has_p_value(b))

    corrected = _correct_by_family(methods, _measure_all(methods, better, resamples, needed))
    names = method_names(methods)
    found = []
    for a, b in wanted:
        # Each pair is measured once, in the order of the methods, and turned round
        # where it was asked for the other way.
        line = corrected.get((a.key, b.key)) or corrected[b.key, a.key].reversed()
        found.append(dataclasses.replace(line, a=names[a.key], b=names[b.key]))
    return found


def _has_p_value(scores: Scores) -> bool:
    return not scores.trained or len(scores.seeds) >= MIN_SEEDS


def _measure_all(
    methods: Sequence[Scores], better: bool, resamples: int, needed: Callable[[Scores, Scores], bool]
) -> dict[_Pair, Comparison]:
    # One set of draws serves every pair: the difference of resampled means is the resampled difference.
    single = any(len(method.seeds) == 1 for method in methods)
    shared = resample_together(methods, resamples) if single else {}
    compared = {}
    for a, b in itertools.combinations(methods, 2):
        if needed(a, b):
            # Only of equal images: otherwise the pair has draws of its own, over those that both have.
            known = a.key in shared and b.key in shared and a.images.equals(b.images)
            resampled = shared[a.key] - shared[b.key] if known else None
            compared[a.key, b.key] = measure_difference(
                a, b, higher_is_better=better, resamples=resamples, resampled=resampled
            )
    return compared


def _correct_by_family(
    methods: Sequence[Scores], compared: dict[_Pair, Comparison]
) -> dict[_Pair, PairedDifference]:
    by_key = {scores.key: scores for scores in methods}
    families: dict[str, list[_Pair]] = {}
    for a, b in compared:
        families.setdefault(_family(by_key[a], by_key[b]), []).append((a, b))
    corrected: dict[_Pair, PairedDifference] = {}
    for name, pairs in families.items():
        lines = correct_family([compared[pair] for pair in pairs], name)
        corrected.update(zip(pairs, lines, strict=True))
    return corrected


def _family(a: Scores, b: Scores) -> str:
    if a.trained and b.trained:
        return TRAINED_PAIRS
    return MIXED_PAIRS if a.trained or b.trained else BASELINE_PAIRS


def method_names(methods: Sequence[Scores]) -> dict[tuple[str, str], str]:
    """Name methods by label, and by training mask too where a label has several trainings."""
    labels = [method.label for method in methods]
    return {
        m.key: f"{m.label} (trained on {m.train_mask})" if labels.count(m.label) > 1 else m.label
        for m in methods
    }


# Effect sizes of paired scores whose images are clustered by identity.


def cluster_means(values: ArrayLike, codes: NDArray[np.int64]) -> Floats:
    """Average ``values (N,)`` within each cluster: ``(C,)``.

    Examples:
        >>> cluster_means([1.0, 3.0, 5.0], np.array([0, 0, 1])).tolist()
        [2.0, 5.0]
    """
    count = int(codes.max()) + 1
    sums: Floats = cluster_sums(values, codes, count)[0]
    return sums / np.bincount(codes, minlength=count)


def probability_of_superiority(a: Floats, b: Floats) -> float:
    """Estimate how often a training of ``a (S, N)`` scores higher than one of ``b (T, N)`` on the same image.

    Over images and all pairs of trainings; ties count half.

    Examples:
        >>> probability_of_superiority(np.array([[1.0, 2.0, 3.0, 4.0]]), np.array([[0.0, 2.0, 4.0, 1.0]]))
        0.625
    """
    total = 0.0
    for row in np.atleast_2d(a):
        for other in np.atleast_2d(b):
            total += float(np.mean(row > other)) + 0.5 * float(np.mean(row == other))
    return total / (len(np.atleast_2d(a)) * len(np.atleast_2d(b)))


def effect_size(differences: ArrayLike, codes: NDArray[np.int64]) -> float:
    """Compute Cohen's d_z: mean over standard deviation of the identities' mean differences.

    NaN where that deviation is zero.

    Examples:
        >>> round(effect_size([1.0, 3.0, 5.0, 7.0], np.array([0, 0, 1, 1])), 3)
        1.414
    """
    means = cluster_means(differences, codes)
    deviation = float(means.std(ddof=1)) if len(means) > 1 else 0.0
    return float(means.mean()) / deviation if deviation > 0 else float("nan")
