"""When a difference between two methods is decided: "a better", "b better" or "inconclusive".

It is decided where its p-value, corrected by Holm's procedure for every comparison of its family, is below 5 %, and
each trained side has enough trainings. A family holds all pairs of one kind for one metric on one mask: all pairs of
trained models, all pairs of a trained model and a training-free baseline, or all pairs of baselines.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from reports.statistics.intervals import MIN_SEEDS
from reports.statistics.multiplicity import ALPHA, holm_correction, holm_thresholds
from reports.statistics.scores import Scores

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


def too_few_trainings(a: Scores, b: Scores) -> str:
    """Return why the trainings of two methods are too few for a verdict, or an empty text where they are enough."""
    few = [side for side in (a, b) if side.trained and len(side.seeds) < MIN_SEEDS]
    if not few:
        return ""
    return f"fewer than {MIN_SEEDS} trainings: " + " and ".join(f"{x.label} has {len(x.seeds)}" for x in few)


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
        verdict, reason = pair_verdict(comparison, float(p_holm), size)
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


def pair_verdict(comparison: Comparison, p_holm: float, size: int) -> tuple[str, str]:
    """Return the verdict on one comparison, and why where it is inconclusive.

    Args:
        comparison: the difference as measured.
        p_holm: its p-value, corrected for the family.
        size: comparisons in the family that have a p-value.
    """
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
