"""Intervals over trainings: seeds are the outer level and few, images the inner level and many.

Scores of ``S`` trainings on the same ``N`` images are crossed: a training has an offset, an image a
difficulty, and the two interact. With ``s^2`` the variance of the seeds' means, the variance of the grand mean
is estimated without bias by ``s^2 / S + v_images - v_interaction``, where ``v_images`` is the cluster-robust
variance of the mean of the seed-averaged scores, and ``v_interaction`` is the share that both contain.

The half width of the interval is that standard error times the average of two quantiles of Student's t:
Satterthwaite's, which is too small with three seeds where both components weigh alike, and Cochran and Cox's
(1957: the components' own quantiles weighted by their variances), which is too large there. Beyond 95 %, where
Satterthwaite's degrees of freedom are too many if one method's trainings scatter much more than the other's, it moves
by up to 3 % towards the quantile of the component with the fewest degrees of freedom.
``docs/statistics.md`` has the derivation and the simulated coverage of each.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from reports.statistics.bootstrap import CONFIDENCE, Floats, cluster_sums

#: With fewer trainings than this, nothing is decided about a method.
MIN_SEEDS = 3
_SMALLEST_P = 1e-15
#: Share of the quantile of the fewest degrees of freedom, far beyond 95 %: as little as holds the family-wise error
#: of 45 pairs of models, half of which scatter six times as much as the others, at 6 % (``benchmarks/coverage.py``).
_TAIL_SHARE = 0.03


@dataclass(frozen=True)
class Estimate:
    """A mean or difference with its interval, which can be given at any other confidence.

    Attributes:
        value: the estimate.
        low, high: limits of the interval; NaN where there is none.
        standard_error: square root of the estimated variance.
        degrees_of_freedom: Satterthwaite's.
        images: variance that images add, and its degrees of freedom; zero variance where there is none.
        seeds: variance that trainings add, and its degrees of freedom; zero variance with a training each.
        fewest: degrees of freedom of the component that has fewest.
    """

    value: float
    low: float
    high: float
    standard_error: float
    degrees_of_freedom: float
    images: tuple[float, float] = (0.0, math.inf)
    seeds: tuple[float, float] = (0.0, math.inf)
    fewest: float = math.inf

    def half_width(self, p: float) -> float:
        """Half the width of the interval with confidence ``1 - p``; NaN where there is none."""
        if self.standard_error == 0.0 or math.isnan(self.standard_error):
            return self.standard_error
        quantile = _quantile(self.degrees_of_freedom, p)
        if self.seeds[0] > 0:
            parts = (self.images, self.seeds)
            # Cochran and Cox: each component's own quantile, weighted by its share of the variance.
            weighted = sum(v * _quantile(df, p) for v, df in parts) / sum(v for v, _ in parts)
            quantile = (quantile + weighted) / 2
            quantile += tail_share(p) * max(0.0, _quantile(self.fewest, p) - quantile)
        return quantile * self.standard_error

    def p_value(self) -> float:
        """Two-sided p-value of zero, by inverting the interval: that at ``1 - p`` just reaches zero.

        Examples:
            >>> estimate = seed_interval(np.array([[1.0, 2.0, 3.0, 4.0]]), np.arange(4))
            >>> f"{estimate.p_value():.4f}"  # the one-sample t test: t = 3.87, 3 degrees of freedom
            '0.0305'
        """
        distance = abs(self.value)
        if math.isnan(self.standard_error):
            return math.nan
        if distance == 0.0:
            return 1.0
        if self.half_width(_SMALLEST_P) <= distance:
            return _SMALLEST_P
        # The half width falls as p grows, so its logarithm is bisected; 60 halvings exhaust a double.
        low, high = math.log(_SMALLEST_P), 0.0
        for _ in range(60):
            middle = (low + high) / 2
            if self.half_width(math.exp(middle)) > distance:
                low = middle
            else:
                high = middle
        return math.exp(high)


@dataclass(frozen=True)
class _Group:
    """Trainings of one method: means ``(S,)`` and linearized scores ``(S, C)``, which sum to each mean's error."""

    means: Floats
    influence: Floats

    @property
    def seeds(self) -> int:
        return len(self.means)


def _group(scores: Floats, codes: NDArray[np.int64], clusters: int) -> _Group:
    scores = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    sizes = np.bincount(codes, minlength=clusters)
    means = scores.mean(axis=1)
    # A cluster's part of the mean's error. The mean is a ratio of sums, and this its linear form: squares of
    # the parts add up to the variance, whatever the sizes of the clusters.
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
    """Estimate the mean of a method over its trainings and images, or the difference of two methods.

    A single training has no variance between seeds. A side with a single row is taken as fixed: right for a
    training-free baseline; for a trained model the interval is then one for that very training.

    Args:
        scores: ``(S, N)``, a row for each training, all on the same images.
        codes: ``(N,)`` cluster of each image, from 0.
        against: ``(T, N)`` of the other method, on the same images; the estimate is then ``scores`` minus
            ``against``. Trainings are independent, images are paired.
        confidence: of the interval.
        single_training: predict the value that one further training of each method would give, as a paper
            with a single run reports it, rather than locate the methods' means.

    Examples:
        >>> a = np.repeat([[24.0], [25.0], [26.0]], 4, axis=1)  # three trainings, four images
        >>> estimate = seed_interval(a, np.arange(4))
        >>> f"{estimate.value:.1f} [{estimate.low:.2f}, {estimate.high:.2f}]"
        '25.0 [22.52, 27.48]'
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
    # Without bias for few clusters, as n - 1 does for single values.
    few = clusters / (clusters - 1)
    v_images = few * float(np.square(per_cluster).sum())
    # (variance, degrees of freedom) of images, then of each method's seeds
    terms = [(v_images, clusters - 1.0)]
    shared, shared_terms = 0.0, []
    for group in groups:
        # One training shows no spread between trainings.
        if group.seeds < 2:
            continue
        spread_of_seeds = float(group.means.var(ddof=1))
        # One more training scatters by all of its variance around the mean, as in any prediction interval.
        further = spread_of_seeds if single_training else 0.0
        terms.append((spread_of_seeds / group.seeds + further, group.seeds - 1.0))
        # What is left after each image's average over the trainings is their interaction with images.
        residual = group.influence - group.influence.mean(axis=0)
        within = few * float(np.square(residual).sum()) / (group.seeds * (group.seeds - 1))
        # Degrees of freedom of an interaction in a table of trainings by clusters.
        shared_terms.append((within, (group.seeds - 1.0) * (clusters - 1.0)))
        shared += within
    # The interaction is in both components and counts once. What images add beyond it may come out negative by
    # chance, and partly stays so: clipped at zero, intervals cover up to 98 % where trainings differ by chance only.
    v_seeds = sum(v for v, _ in terms[1:])
    net = max(v_images - shared, -v_seeds / 3)
    variance = net + v_seeds
    if variance == 0.0:
        return Estimate(value, value, value, 0.0, np.inf)
    # Satterthwaite's denominator. The share that is subtracted is
    # uncertain as well, so it enters with a plus.
    spread = sum(v**2 / df for v, df in [*terms, *shared_terms])
    # A sum has at least the degrees of freedom of its worst term; with a difference in it the formula can fall below.
    fewest = min(d for _, d in terms)
    df = max(variance**2 / spread, fewest)
    # Of the trainings' part alone, which Cochran and Cox's average weights as one component.
    df_seeds = v_seeds**2 / sum(v**2 / d for v, d in terms[1:]) if v_seeds > 0 else np.inf
    error = float(np.sqrt(variance))
    # A negative part has no weight in that average.
    images, seeds = (max(net, 0.0), clusters - 1.0), (v_seeds, float(df_seeds))
    bare = Estimate(value, np.nan, np.nan, error, float(df), images, seeds, fewest)
    # One formula for the interval, the p-value and the smallest gap, so that the three always agree.
    half = bare.half_width(1 - confidence)
    return dataclasses.replace(bare, low=value - half, high=value + half)


def tail_share(p: float) -> float:
    """Return the share of the fewest degrees of freedom in the quantile for ``p``; none at 95 % and below."""
    return max(0.0, _TAIL_SHARE * (1 - p / (1 - CONFIDENCE)))


def _quantile(degrees_of_freedom: float, p: float) -> float:
    """Half the width of Student's t interval with confidence ``1 - p``, in standard errors."""
    # The lower tail: 1 - p / 2 would round to 1 for the smallest p.
    return -float(special.stdtrit(degrees_of_freedom, p / 2))
