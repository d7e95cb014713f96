"""Tests and effect sizes for paired scores whose images are clustered by identity."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from reports.statistics.bootstrap import Floats, cluster_sums


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


def holm(p_values: ArrayLike) -> Floats:
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
