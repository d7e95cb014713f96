"""Effect sizes of paired scores whose images are clustered by identity."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reports.statistics.bootstrap import Floats, cluster_sums


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
