"""Correction for many comparisons: Holm's procedure over a named family, and what it could have decided."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from reports.statistics.bootstrap import CONFIDENCE, Floats

#: Family-wise error rate: how often a family without any true difference may contain a decided one.
ALPHA = 1 - CONFIDENCE


def holm_correction(p_values: ArrayLike) -> Floats:
    """Correct p-values by Holm's step-down procedure (Scandinavian Journal of Statistics 6, 1979).

    NaN stay NaN and do not count.

    Examples:
        >>> holm_correction([0.01, 0.04, 0.03]).tolist()
        [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    corrected = np.full(p.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    # The smallest p-value answers for all, the next for one fewer, and so
    # on; none may fall below one before it.
    factors = len(order) - np.arange(len(order))
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return corrected


def holm_thresholds(p_values: ArrayLike, alpha: float = ALPHA) -> Floats:
    """Compute, for each p-value, the largest that Holm's procedure would have rejected, the others as they are.

    Args:
        p_values: ``(M,)``; NaN are not part of the family and get NaN.
        alpha: family-wise error rate.

    Examples:
        >>> holm_thresholds([0.2, 0.3], alpha=0.05).tolist()  # neither rejected: Bonferroni for both
        [0.025, 0.025]
        >>> holm_thresholds([0.001, 0.3], alpha=0.05).tolist()  # the first is rejected, one is left
        [0.025, 0.05]
    """
    p = np.asarray(p_values, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(p))
    thresholds = np.full(p.shape, np.nan)
    size = len(known)
    for place in known:
        others = np.sort(p[known[known != place]])
        # As many of the others as are rejected one after another leave a smaller family to this one.
        allowed = alpha / (size - np.arange(len(others)))
        kept = others > allowed
        rejected = int(kept.argmax()) if kept.any() else len(others)
        thresholds[place] = alpha / (size - rejected)
    return thresholds
