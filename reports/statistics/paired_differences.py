"""Paired differences between methods: how large, and how certain.

Whether a difference is decided is judged in :mod:`reports.statistics.pair_verdicts`.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.statistics.bootstrap import (
    RESAMPLES,
    Floats,
    bootstrap_p_value,
    cluster_bootstrap_means,
    cluster_codes,
    percentile_interval,
)
from reports.statistics.effect_sizes import effect_size, probability_of_superiority
from reports.statistics.intervals import MIN_SEEDS, seed_interval
from reports.statistics.pair_verdicts import (
    BASELINE_PAIRS,
    MIXED_PAIRS,
    TRAINED_PAIRS,
    Comparison,
    PairedDifference,
    correct_family,
    too_few_trainings,
)
from reports.statistics.scores import Scores, group_scores, is_higher_better, resample_together


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
    reason = too_few_trainings(a, b)
    if reason:
        # No p-value beside "inconclusive": one over images would answer another question than the one asked.
        p_value = math.nan
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
