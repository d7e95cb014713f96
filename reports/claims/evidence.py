"""What one comparison of a claim shows: which way it went, by how much, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from reports.statistics.intervals import Estimate, seed_interval
from reports.claims.paper import Comparison
from reports.statistics.bootstrap import CONFIDENCE, cluster_codes
from reports.statistics.scores import Scores

Leaning = Literal["for", "against", "neither"]

_UNITS = {"psnr_db": (" dB", 2), "ssim": ("", 4)}


@dataclass(frozen=True)
class Finding:
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

    comparison: Comparison
    a: str
    b: str
    difference: float
    low: float
    high: float
    leaning: Leaning
    reason: str


def compare_means(
    comparison: Comparison, a: Scores, b: Scores, *, higher_is_better: bool = True, comparisons: int = 1
) -> Finding:
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
    comparison: Comparison, a: Scores, b: Scores, *, higher_is_better: bool = True, comparisons: int = 1
) -> Finding:
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
    comparison: Comparison, a: Scores, b: Scores, estimate: Estimate, leaning: Leaning, reason: str
) -> Finding:
    return Finding(comparison, a.label, b.label, estimate.value, estimate.low, estimate.high, leaning, reason)


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
