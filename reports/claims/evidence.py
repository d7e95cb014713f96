"""What one comparison of a claim shows: which way it went, by how much, and why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import special

from reports.claims.paper import Claim, ClaimComparison
from reports.statistics.bootstrap import CONFIDENCE, Floats, cluster_codes
from reports.statistics.intervals import Estimate, seed_interval
from reports.statistics.scores import Scores

Leaning = Literal["for", "against", "neither"]

_UNITS = {"psnr_db": (" dB", 2), "ssim": ("", 4)}


@dataclass(frozen=True)
class ComparisonEvidence:
    """The outcome of one comparison.

    Attributes:
        comparison: what was compared.
        a, b: labels of the better and the worse model as claimed.
        difference: ``a`` less ``b`` in the metric's unit; for stability the ratio of fluctuations, ``a`` over
            ``b``.
        low, high: 95 % interval of it.
        leaning: ``for`` or ``against`` the claim, or ``neither``.
        reason: in a sentence.
    """

    comparison: ClaimComparison
    a: str
    b: str
    difference: float
    low: float
    high: float
    leaning: Leaning
    reason: str


def compare_means(
    comparison: ClaimComparison, a: Scores, b: Scores, *, higher_is_better: bool = True, comparisons: int = 1
) -> ComparisonEvidence:
    """Is ``a`` better than ``b``? For: the 95 % interval lies on that side of zero. Against: it lies on the
    other even when widened for ``comparisons`` chances to go wrong (Bonferroni).
    """
    usual, wide = _estimate(a, b, CONFIDENCE), _estimate(a, b, _widened(comparisons))
    sign = 1.0 if higher_is_better else -1.0
    what = _describe(a, b, comparison.metric, usual)
    if min(sign * usual.low, sign * usual.high) > 0:
        return _finding(comparison, a, b, usual, "for", what)
    if max(sign * wide.low, sign * wide.high) < 0:
        return _finding(comparison, a, b, usual, "against", what)
    return _finding(comparison, a, b, usual, "neither", f"{what}: {_undecided(usual)}")


def compare_sizes(
    comparison: ClaimComparison, a: Scores, b: Scores, *, higher_is_better: bool = True, comparisons: int = 1
) -> ComparisonEvidence:
    """Is ``a`` ahead of ``b`` by about the published difference, which comes from one training of each?

    For: ``a`` and ``b`` differ in the published direction, and the published difference lies in the 95 % interval for
    one further training of each. Against, even when widened for ``comparisons`` chances to go wrong: it lies outside
    that interval, or they differ in the other direction.
    """
    published = comparison.published
    assert published is not None, "a claim of size has a published difference"
    usual = _estimate(a, b, CONFIDENCE)
    predicted = _estimate(a, b, CONFIDENCE, single=True)
    wide = _estimate(a, b, _widened(comparisons), single=True)
    sure = _estimate(a, b, _widened(comparisons))
    sign = float(np.sign(published))
    unit, digits = _UNITS.get(comparison.metric, ("", 4))
    what = f"{_describe(a, b, comparison.metric, usual)}; published {published:+.{digits}f}{unit}"
    if not wide.low <= published <= wide.high and np.isfinite(wide.low):
        return _finding(comparison, a, b, usual, "against", f"{what} is outside what trainings here give")
    if max(sign * sure.low, sign * sure.high) < 0:
        return _finding(comparison, a, b, usual, "against", f"{what} has the other sign")
    if predicted.low <= published <= predicted.high and min(sign * usual.low, sign * usual.high) > 0:
        return _finding(comparison, a, b, usual, "for", what)
    return _finding(comparison, a, b, usual, "neither", f"{what}: {_undecided(usual)}")


def _widened(comparisons: int) -> float:
    return 1 - (1 - CONFIDENCE) / comparisons


def _estimate(a: Scores, b: Scores, confidence: float, *, single: bool = False) -> Estimate:
    images = a.images.intersection(b.images, sort=False)
    a, b = a.on(images), b.on(images)
    if not len(images):
        nan = float("nan")
        return Estimate(nan, nan, nan, nan, nan)
    codes, _ = cluster_codes(a.identities)
    return seed_interval(a.values, codes, b.values, confidence=confidence, single_training=single)


def _finding(
    comparison: ClaimComparison, a: Scores, b: Scores, estimate: Estimate, leaning: Leaning, reason: str
) -> ComparisonEvidence:
    return ComparisonEvidence(
        comparison, a.label, b.label, estimate.value, estimate.low, estimate.high, leaning, reason
    )


def _describe(a: Scores, b: Scores, metric: str, estimate: Estimate) -> str:
    unit, digits = _UNITS.get(metric, ("", 4))
    return (
        f"{a.label} less {b.label}: {estimate.value:+.{digits}f}{unit} "
        f"[{estimate.low:+.{digits}f}, {estimate.high:+.{digits}f}]"
    )


def _undecided(estimate: Estimate) -> str:
    if not np.isfinite(estimate.low):
        return "no interval can be given"
    return "the interval includes zero" if estimate.low <= 0 <= estimate.high else "near the interval's edge"


# How much a training's validation PSNR fluctuates: what "stabilises training" is taken to mean.


#: In the second half of a training. Every training validates at least ten times.
MIN_VALIDATIONS = 4


def validation_fluctuation(curves: pd.DataFrame, model: str, train_mask: str | None = None) -> pd.Series:
    """Root mean square of the steps between successive validations in the second half of each training, in
    dB.

    A steady climb has small steps too; a training that swings has large ones. At least
    :data:`MIN_VALIDATIONS` are needed in that half; trainings with fewer are left out.

    Returns:
        Indexed by seed, as text.
    """
    logged = (curves["kind"] == "validation") & (curves["term"] == "psnr_db")
    chosen = curves[logged & (curves["model"] == model)]
    if train_mask is not None and (chosen["train_mask"] == train_mask).any():
        chosen = chosen[chosen["train_mask"] == train_mask]
    found: dict[str, float] = {}
    for seed, curve in chosen.sort_values("step").groupby("seed"):
        late = curve.loc[curve["step"] > curve["step"].max() / 2, "value"].to_numpy(dtype=np.float64)
        if len(late) >= MIN_VALIDATIONS:
            found[str(seed)] = float(np.sqrt(np.mean(np.square(np.diff(late)))))
    return pd.Series(found, dtype="float64")


def compare_stability(
    curves: pd.DataFrame, comparison: ClaimComparison, train_mask: str | None = None
) -> ComparisonEvidence | str:
    """Does ``better`` fluctuate less than ``worse``? Welch's t on the logarithms, one value a training.

    Returns:
        The ratio of the geometric means of :func:`validation_fluctuation`, or why there is none.
    """
    a, b = (
        validation_fluctuation(curves, name, train_mask) for name in (comparison.better, comparison.worse)
    )
    for name, found in ((comparison.better, a), (comparison.worse, b)):
        if found.empty or not (found > 0).all():
            return (
                f"no training of {name} logged {MIN_VALIDATIONS} differing validations in its second half, "
                "by which its steadiness is judged"
            )
    ratio, low, high = welch_ratio(np.log(a.to_numpy()), np.log(b.to_numpy()))
    first, second = (
        str(curves.loc[curves["model"] == name, "label"].iloc[0])
        for name in (comparison.better, comparison.worse)
    )
    what = f"{first} fluctuates {ratio:.2f} times as much as {second}"
    leaning: Leaning = "for" if high < 1 else "against" if low > 1 else "neither"
    if math.isnan(low):
        what += ": no interval, which takes two trainings of each"
    else:
        what += f" [{low:.2f}, {high:.2f}]" + ": the interval includes 1" * (leaning == "neither")
    return ComparisonEvidence(comparison, first, second, ratio, low, high, leaning, what)


def diverged_trainings(cell: Mapping[str, Any]) -> bool:
    """Whether a cell of a manifest failed since losses or weights were no longer finite."""
    return cell["status"] == "failed" and "NonFiniteLossError" in (cell["error"] or "")


def compare_divergence(cells: Sequence[Mapping[str, Any]], claim: Claim) -> ComparisonEvidence | None:
    """Did trainings of ``worse`` diverge more often than those of ``better``? Fisher's exact test, two-sided.

    Returns:
        ``None`` where no training diverged. Below about four trainings of each the test cannot decide.
    """
    (comparison,) = claim.comparisons
    gone, all_of, labels = [], [], []
    for name in (comparison.better, comparison.worse):
        own = [c for c in cells if c["model"] == name and c["mask"] == claim.mask]
        trained = [c for c in own if c["status"] == "done" or diverged_trainings(c)]
        gone.append(sum(map(diverged_trainings, trained)))
        all_of.append(len(trained))
        labels.append(str(trained[0]["label"]))
    if not any(gone):
        return None
    p = _fisher(gone[0], all_of[0], gone[1], all_of[1])
    shares = [g / n for g, n in zip(gone, all_of, strict=True)]
    leaning: Leaning = "neither" if p > 1 - CONFIDENCE else "for" if shares[0] < shares[1] else "against"
    what = " and ".join(
        f"{g} of {n} trainings of {label} diverged" for g, n, label in zip(gone, all_of, labels, strict=True)
    )
    nan = float("nan")
    first, second = labels
    return ComparisonEvidence(
        comparison, first, second, nan, nan, nan, leaning, f"{what} (Fisher's exact test: p = {p:.2g})"
    )


def _fisher(a: int, of_a: int, b: int, of_b: int) -> float:
    """Two-sided p-value: the tables with these margins that are no likelier than this one."""

    def ways(x: int) -> int:
        return math.comb(of_a, x) * math.comb(of_b, a + b - x)

    possible = range(max(0, a + b - of_b), min(of_a, a + b) + 1)
    return sum(w for x in possible if (w := ways(x)) <= ways(a)) / math.comb(of_a + of_b, a + b)


def welch_ratio(a: Floats, b: Floats, confidence: float = CONFIDENCE) -> tuple[float, float, float]:
    """Ratio of geometric means of ``exp(a)`` and ``exp(b)`` with Welch's interval; no interval below two
    values.
    """
    difference = float(a.mean() - b.mean())
    if min(len(a), len(b)) < 2:
        return float(np.exp(difference)), float("nan"), float("nan")
    parts = np.array([a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)])
    df = parts.sum() ** 2 / (parts**2 / [len(a) - 1, len(b) - 1]).sum() if parts.sum() > 0 else np.inf
    half = float(special.stdtrit(df, 0.5 + confidence / 2) * np.sqrt(parts.sum()))
    ratio, low, high = (float(np.exp(v)) for v in (difference, difference - half, difference + half))
    return ratio, low, high
