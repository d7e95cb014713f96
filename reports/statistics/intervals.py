"""Intervals over trainings: seeds are the outer level and few, images the inner level and many.

Scores of ``S`` trainings on the same ``N`` images are crossed: a training's offset, an image's difficulty,
and their interaction. With ``s^2`` the variance of the seeds' means, the variance of the grand mean is
estimated without bias by ``s^2 / S + v_images - v_interaction``, where ``v_images`` is the cluster-robust
variance of the mean of the seed-averaged scores and ``v_interaction`` the share that both of them contain.
The interval's half width is that error times the average of two quantiles of Student's t: Satterthwaite's, which is
too small with three seeds where both components weigh alike, and Cochran and Cox's (1957, the components' own quantiles
weighted by their variances), which is too large there. ``docs/statistics.md`` has the derivation and the simulated
coverage of each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from reports.statistics.bootstrap import CONFIDENCE, Floats, cluster_sums

#: Fewer trainings than this decide nothing about a method.
MIN_SEEDS = 3


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval.

    Attributes:
        value: the estimate.
        low, high: limits of the interval; NaN where there is none.
        standard_error: square root of the estimated variance.
        degrees_of_freedom: Satterthwaite's.
    """

    value: float
    low: float
    high: float
    standard_error: float
    degrees_of_freedom: float


@dataclass(frozen=True)
class _Group:
    """Trainings of one method: linearised scores ``(S, C)`` whose sum over clusters is the error of each
    mean.
    """

    means: Floats
    influence: Floats

    @property
    def seeds(self) -> int:
        return len(self.means)


def _group(scores: Floats, codes: NDArray[np.int64], clusters: int) -> _Group:
    scores = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    sizes = np.bincount(codes, minlength=clusters)
    means = scores.mean(axis=1)
    influence = (cluster_sums(scores, codes, clusters) - means[:, None] * sizes) / scores.shape[1]
    return _Group(means, influence)


def seed_interval(
    scores: Floats,
    codes: NDArray[np.int64],
    against: Floats | None = None,
    *,
    confidence: float = CONFIDENCE,
    single_training: bool = False,
) -> Estimate:
    """Interval for the mean of a method over its trainings and images, or for the difference of two methods.

    Args:
        scores: ``(S, N)``, a row for each training; all on the same images.
        codes: ``(N,)`` cluster of each image, from 0.
        against: ``(T, N)`` of the other method, on the same images; the estimate is then ``scores`` less
            ``against``. Trainings are independent, images are paired.
        confidence: of the interval.
        single_training: predict the value that one further training of each method would give, as a paper
            with a single run reports it, rather than locate the methods' means.

    One training has no variance between seeds: with a single row on a side, that side is taken as fixed,
    which is right for an untrained fill, and for a trained model makes the interval one for that very
    training.
    """
    clusters = int(codes.max()) + 1
    first = _group(scores, codes, clusters)
    groups = [first]
    value = float(first.means.mean())
    per_cluster = first.influence.mean(axis=0)
    if against is not None:
        second = _group(against, codes, clusters)
        groups.append(second)
        value -= float(second.means.mean())
        per_cluster = per_cluster - second.influence.mean(axis=0)
    if clusters < 2:
        return Estimate(value, np.nan, np.nan, np.nan, np.nan)
    few = clusters / (clusters - 1)
    v_images = few * float(np.square(per_cluster).sum())
    # (variance, degrees of freedom, sign)
    terms = [(v_images, clusters - 1.0)]
    shared, shared_terms = 0.0, []
    for group in groups:
        if group.seeds < 2:
            continue
        spread_of_seeds = float(group.means.var(ddof=1))
        further = spread_of_seeds if single_training else 0.0
        terms.append((spread_of_seeds / group.seeds + further, group.seeds - 1.0))
        residual = group.influence - group.influence.mean(axis=0)
        within = few * float(np.square(residual).sum()) / (group.seeds * (group.seeds - 1))
        shared_terms.append((within, (group.seeds - 1.0) * (clusters - 1.0)))
        shared += within
    # What both components hold is counted once. What is left of the images' may come out negative by chance, and is
    # let be so in part: clipped at zero, intervals cover up to 98 % where trainings differ by chance only.
    v_seeds = sum(v for v, _ in terms[1:])
    net = max(v_images - shared, -v_seeds / 3)
    variance = net + v_seeds
    spread = sum(v**2 / df for v, df in [*terms, *shared_terms])
    if variance == 0.0:
        return Estimate(value, value, value, 0.0, np.inf)
    # A sum has no fewer than its worst term; with a difference in it the formula can fall below.
    df = max(variance**2 / spread, min(d for _, d in terms))
    quantile = _quantile(df, confidence)
    if v_seeds > 0:
        df_seeds = v_seeds**2 / sum(v**2 / d for v, d in terms[1:])
        parts = [(max(net, 0.0), clusters - 1.0), (v_seeds, df_seeds)]
        weighted = sum(v * _quantile(d, confidence) for v, d in parts) / sum(v for v, _ in parts)
        quantile = (quantile + weighted) / 2
    error = float(np.sqrt(variance))
    half = quantile * error
    return Estimate(value, value - half, value + half, error, float(df))


def _quantile(degrees_of_freedom: float, confidence: float) -> float:
    """Half the width of Student's t interval, in standard errors."""
    return float(special.stdtrit(degrees_of_freedom, 0.5 + confidence / 2))
