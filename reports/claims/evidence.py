"""Evidence for one comparison of a claim: its direction, its size, and the reason in a sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import special

from reports.claims.paper import Claim, ClaimComparison, EquivalenceMargin
from reports.claims.power import MAX_SEEDS, POWER, measure_spread, seeds_to_decide, seeds_to_fit
from reports.statistics.bootstrap import CONFIDENCE, Floats, cluster_codes
from reports.statistics.intervals import Estimate, seed_interval
from reports.statistics.multiplicity import ALPHA
from reports.statistics.pair_verdicts import PairedDifference
from reports.statistics.scores import Scores

Leaning = Literal["for", "against", "neither"]
#: How a difference stands to the claimed one. The last five are of claims of size.
Relation = Literal[
    "as claimed", "opposite sign", "undecided", "within the margin", "consistent", "smaller", "larger"
]


@dataclass(frozen=True)
class ComparisonEvidence:
    """The outcome of one comparison under one metric.

    Attributes:
        comparison: what was compared.
        metric: metric or SSIM convention it was measured in.
        a, b: labels of the better and the worse model as claimed.
        difference: ``a`` minus ``b`` in the metric's unit; for stability the ratio of fluctuations, ``a`` over ``b``.
        low, high: 95 % interval of it.
        relation: to what is claimed.
        leaning: ``for`` or ``against`` the claim, or ``neither``.
        reason: in a sentence.
        p_holm: p-value corrected for the family; NaN where there is none.
        smallest_gap: smallest difference that would have been decided; NaN where there is none.
        seeds_needed: trainings of each model that would decide it, if the observed difference is the true one;
            ``None`` where it is decided, or where no reasonable number would.
    """

    comparison: ClaimComparison
    metric: str
    a: str
    b: str
    difference: float
    low: float
    high: float
    relation: Relation
    leaning: Leaning
    reason: str
    p_holm: float = math.nan
    smallest_gap: float = math.nan
    seeds_needed: int | None = None


@dataclass(frozen=True)
class ModelPair:
    """The scores of a comparison's models in one metric, with their corrected difference.

    Attributes:
        comparison: what is compared.
        metric: measured in.
        a, b: scores of the better and the worse model as claimed.
        line: their difference, corrected for all pairs of trained models of the metric and mask.
        higher_is_better: direction of the metric.
    """

    comparison: ClaimComparison
    metric: str
    a: Scores
    b: Scores
    line: PairedDifference
    higher_is_better: bool = True

    def evidence(
        self, relation: Relation, leaning: Leaning, note: str = "", seeds_needed: int | None = None
    ) -> ComparisonEvidence:
        """Make the evidence, with its sentence."""
        line = self.line
        return ComparisonEvidence(
            self.comparison,
            self.metric,
            self.a.label,
            self.b.label,
            line.difference,
            line.low,
            line.high,
            relation,
            leaning,
            self.describe() + (f": {note}" if note else ""),
            line.p_holm,
            line.smallest_gap,
            seeds_needed,
        )

    def describe(self) -> str:
        """Name the models, the difference and its interval."""
        line = self.line
        interval = "" if math.isnan(line.low) else f" [{self.show(line.low)}, {self.show(line.high)}]"
        return f"{self.a.label} - {self.b.label}: {self.show(line.difference, unit=True)}{interval}"

    def show(self, value: float, *, unit: bool = False) -> str:
        """Format a difference with the metric's digits."""
        decibels = self.metric.endswith("_db")
        return f"{value:+.{2 if decibels else 4}f}" + (" dB" if decibels and unit else "")


def compare_order(pair: ModelPair) -> ComparisonEvidence:
    """Judge whether ``a`` is better than ``b``: decided by the corrected p-value, in either direction."""
    line = pair.line
    if line.verdict == "a better":
        return pair.evidence("as claimed", "for")
    if line.verdict == "b better":
        return pair.evidence("opposite sign", "against", "decided against the claim")
    spread = measure_spread(pair.a, pair.b)
    needed = None
    if spread is not None and not math.isnan(line.p_value):
        # The family stays as it is, so the strictest step that this comparison may face is Bonferroni's.
        threshold = ALPHA / max(1, line.family_size)
        needed = seeds_to_decide(spread, line.difference, threshold, at_least=len(pair.a.seeds) + 1)
    return pair.evidence("undecided", "neither", _explain_undecided(pair, needed), needed)


def compare_size(pair: ModelPair, margin: EquivalenceMargin, comparisons: int) -> ComparisonEvidence:
    """Judge whether ``a`` is ahead of ``b`` by about the published difference.

    The published difference comes from one training of each model. It is *consistent* with ours where it lies in
    the interval for one further training of each, widened for the claim's ``comparisons`` (Bonferroni). That speaks
    for the claim only where the interval of our own difference also lies within ``margin``. Otherwise the published
    difference is inconsistent with ours, which is smaller, larger or of opposite sign.
    """
    comparison, line = pair.comparison, pair.line
    published = comparison.published
    assert published is not None, "a claim of size has a published difference"
    low, high = margin.limits(comparison)
    against = f"published {pair.show(published, unit=True)}, margin {pair.show(low)} to {pair.show(high)}"
    # First, because a precise difference may exclude the published value and still be of the same size.
    if low <= line.low and line.high <= high:
        return pair.evidence("within the margin", "for", against)
    # For one further training of each model, since one is what the paper had.
    wide = _estimate(pair, 1 - ALPHA / comparisons, single=True)
    if line.verdict != "inconclusive" and (line.difference > 0) != (published > 0):
        return pair.evidence("opposite sign", "against", against)
    if not math.isnan(wide.low) and not wide.low <= published <= wide.high:
        # Larger means further in the direction that was published, whatever its sign.
        in_its_direction = line.difference if published > 0 else -line.difference
        relation: Relation = "smaller" if in_its_direction < abs(published) else "larger"
        return pair.evidence(relation, "against", against)
    spread = measure_spread(pair.a, pair.b)
    needed = None
    if spread is not None:
        # The interval must fit between the nearer limit and the observed difference.
        room = min(line.difference - low, high - line.difference)
        needed = seeds_to_fit(spread, room, at_least=len(pair.a.seeds) + 1)
    note = f"{against}; the interval is not within the margin"
    if needed is not None:
        note += f", with {needed} trainings of each it would be"
    return pair.evidence("consistent", "neither", note, needed)


def _explain_undecided(pair: ModelPair, needed: int | None) -> str:
    line = pair.line
    if math.isnan(line.p_value):
        return line.reason or "no interval"
    text = "the interval includes zero" if line.low <= 0 <= line.high else line.reason
    # A gap is a distance, without a sign.
    text += f"; a gap of {pair.show(line.smallest_gap, unit=True).lstrip('+')} would have been decided"
    if needed is None:
        return f"{text}; {MAX_SEEDS} trainings of each would not decide a difference of this size"
    return (
        f"{text}; about {needed} trainings of each would decide a difference of this size ({POWER:.0%} power)"
    )


def _estimate(pair: ModelPair, confidence: float, *, single: bool) -> Estimate:
    images = pair.a.images.intersection(pair.b.images, sort=False)
    if not len(images):
        return Estimate(math.nan, math.nan, math.nan, math.nan, math.nan)
    a, b = pair.a.on(images), pair.b.on(images)
    codes, _ = cluster_codes(a.identities)
    return seed_interval(a.values, codes, b.values, confidence=confidence, single_training=single)


#: What "stabilizes training" is taken to mean: validation PSNR fluctuates less. Validations needed in the second half
#: of a training; every training validates at least ten times.
MIN_VALIDATIONS = 4
_RELATIONS: dict[Leaning, Relation] = {
    "for": "as claimed",
    "against": "opposite sign",
    "neither": "undecided",
}


def validation_fluctuation(curves: pd.DataFrame, model: str, train_mask: str | None = None) -> pd.Series:
    """Measure how much validation PSNR fluctuates in the second half of each training, in dB.

    Root mean square of the steps between successive validations: a steady climb has small steps too, a training that
    swings has large ones. Trainings with fewer than :data:`MIN_VALIDATIONS` in that half are left out.

    Returns:
        Indexed by seed, as text.
    """
    logged = (curves["kind"] == "validation") & (curves["term"] == "psnr_db")
    chosen = curves[logged & (curves["model"] == model)]
    if train_mask is not None and (chosen["train_mask"] == train_mask).any():
        chosen = chosen[chosen["train_mask"] == train_mask]
    # Of one training on two machines, or of two configurations, the first counts, as it does for scores.
    chosen = chosen[chosen["label"] == chosen["label"].iloc[0]] if len(chosen) else chosen
    found: dict[str, float] = {}
    for seed, curve in chosen.sort_values("step").groupby("seed"):
        late = curve.loc[curve["step"] > curve["step"].max() / 2, "value"].to_numpy(dtype=np.float64)
        if len(late) >= MIN_VALIDATIONS:
            # Steps between neighbors, not the deviation from a mean: a curve
            # that climbs steadily is not unstable.
            found[str(seed)] = float(np.sqrt(np.mean(np.square(np.diff(late)))))
    return pd.Series(found, dtype="float64")


def compare_stability(
    curves: pd.DataFrame, comparison: ClaimComparison, train_mask: str | None = None
) -> ComparisonEvidence | str:
    """Judge whether ``better`` fluctuates less than ``worse``: Welch's t on the logarithms, one value a training.

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
                "by which its stability is judged"
            )
    # Fluctuations are positive and skewed, so they are compared by their ratio, on logarithms.
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
    relation = _RELATIONS[leaning]
    return ComparisonEvidence(
        comparison, comparison.metric, first, second, ratio, low, high, relation, leaning, what
    )


def diverged_trainings(cell: Mapping[str, Any]) -> bool:
    """Return whether a cell of a manifest failed because losses or weights were no longer finite."""
    return cell["status"] == "failed" and "NonFiniteLossError" in (cell.get("error") or "")


def compare_divergence(cells: Sequence[Mapping[str, Any]], claim: Claim) -> ComparisonEvidence | None:
    """Judge whether ``worse`` diverges more often than ``better``: Fisher's exact test, two-sided.

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
    reason = f"{what} (Fisher's exact test: p = {p:.2g})"
    relation = _RELATIONS[leaning]
    return ComparisonEvidence(
        comparison, comparison.metric, first, second, nan, nan, nan, relation, leaning, reason
    )


def _fisher(a: int, of_a: int, b: int, of_b: int) -> float:
    """Sum the probabilities of all tables with these margins that are no likelier than this one."""

    def ways(x: int) -> int:
        return math.comb(of_a, x) * math.comb(of_b, a + b - x)

    possible = range(max(0, a + b - of_b), min(of_a, a + b) + 1)
    # Compared as whole numbers: rounded probabilities of equally likely
    # tables might differ in the last digit.
    return sum(w for x in possible if (w := ways(x)) <= ways(a)) / math.comb(of_a + of_b, a + b)


def welch_ratio(a: Floats, b: Floats, confidence: float = CONFIDENCE) -> tuple[float, float, float]:
    """Compute the ratio of geometric means of ``exp(a)`` and ``exp(b)`` with Welch's interval, NaN below two values.

    Examples:
        >>> ratio, low, high = welch_ratio(np.log([1.0, 2.0]), np.log([4.0, 8.0]))
        >>> f"{ratio:.2f} [{low:.3f}, {high:.2f}]"
        '0.25 [0.030, 2.06]'
    """
    difference = float(a.mean() - b.mean())
    if min(len(a), len(b)) < 2:
        return float(np.exp(difference)), float("nan"), float("nan")
    parts = np.array([a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)])
    # Welch and Satterthwaite; without any spread the interval has no width, whatever the degrees of freedom.
    df = parts.sum() ** 2 / (parts**2 / [len(a) - 1, len(b) - 1]).sum() if parts.sum() > 0 else np.inf
    half = float(special.stdtrit(df, 0.5 + confidence / 2) * np.sqrt(parts.sum()))
    ratio, low, high = (float(np.exp(v)) for v in (difference, difference - half, difference + half))
    return ratio, low, high
