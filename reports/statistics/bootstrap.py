"""Cluster bootstrap: intervals for means over images when several images show the same person.

Images of one person are alike, so people are resampled, not images. Vectorized over statistics, and a pure
function of its seed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special

RESAMPLES = 10_000
CONFIDENCE = 0.95
#: Below this many clusters, percentiles of resamples do not cover (51 % for two clusters, 92 % for five).
FEW_CLUSTERS = 20
_CHUNK_VALUES = 4_000_000  # weights in memory at a time: 32 MB
_CACHED_VALUES = 64_000_000  # weights kept between calls: 128 MB

Floats = NDArray[np.float64]


def cluster_codes(identities: ArrayLike) -> tuple[NDArray[np.int64], int]:
    """Assign each cluster a number from 0.

    Args:
        identities: ``(N,)`` people; an image of an unknown person (NA) is a cluster of its own.

    Returns:
        ``(N,)`` codes and the number of clusters.

    Examples:
        >>> codes, count = cluster_codes(pd.array([7, 7, pd.NA, 3], dtype="Int64"))
        >>> codes.tolist(), count
        ([0, 0, 2, 1], 3)
    """
    codes, uniques = pd.factorize(pd.Series(identities), use_na_sentinel=True)
    codes = codes.astype(np.int64)
    unknown = codes < 0
    # Numbered after the known people, so that no two images of unknown persons share a number.
    codes[unknown] = len(uniques) + np.arange(int(unknown.sum()))
    return codes, len(uniques) + int(unknown.sum())


def cluster_sums(values: ArrayLike, codes: NDArray[np.int64], count: int) -> Floats:
    """Sum each row of ``values (K, N)`` within each of ``count`` clusters: ``(K, count)``.

    Examples:
        >>> cluster_sums([1.0, 2.0, 4.0], np.array([0, 0, 1]), 2).tolist()
        [[3.0, 4.0]]
    """
    rows = np.atleast_2d(np.asarray(values, dtype=np.float64))
    return np.stack([np.bincount(codes, weights=row, minlength=count) for row in rows])


def cluster_bootstrap_means(
    values: ArrayLike, codes: NDArray[np.int64], *, resamples: int = RESAMPLES, seed: int = 0
) -> Floats:
    """Compute means over images in resamples of the clusters, drawn with replacement.

    All rows share the resamples, so differences of rows are paired. The mean of a resample is the sum over
    its images divided by their number, which varies where clusters differ in size.

    Args:
        values: ``(K, N)`` or ``(N,)``, finite.
        codes: ``(N,)`` cluster of each image, from 0 (:func:`cluster_codes`).
        resamples: number of resamples.
        seed: of the draws.

    Returns:
        ``(resamples, K)``.

    Examples:
        >>> means = cluster_bootstrap_means([1.0, 3.0], np.array([0, 1]), resamples=1000)
        >>> means.shape, sorted(set(means[:, 0].tolist()))
        ((1000, 1), [1.0, 2.0, 3.0])
    """
    count = int(codes.max()) + 1
    # Sums of clusters are all that a resample needs: drawing a cluster twice adds its sum and its size twice.
    totals = np.vstack([cluster_sums(values, codes, count), np.bincount(codes, minlength=count)])
    # A report needs the same draws once for each metric and mask, so small sets of them are cached.
    cached = resamples * count <= _CACHED_VALUES
    chunks = _cached_weights(count, resamples, seed) if cached else _weights(count, resamples, seed)
    sums = np.concatenate([weights.astype(np.float64) @ totals.T for weights in chunks])
    means: Floats = sums[:, :-1] / sums[:, -1:]
    return means


def _weights(count: int, resamples: int, seed: int) -> Iterator[NDArray[np.uint16]]:
    """Yield how often each cluster is drawn in each resample, ``(chunk, count)`` at a time."""
    # Raw Philox bits, whose stream NumPy guarantees; distributions of a Generator may change between versions.
    bits = np.random.Philox(key=seed)
    step = max(1, _CHUNK_VALUES // count)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = _integers(bits, size * count, count).reshape(size, count)
        # Offsetting each resample by its row turns one bincount into a histogram for every resample.
        drawn += np.arange(size, dtype=np.int64)[:, None] * count
        # 16 bits hold every count: a cluster is drawn about once in a resample, and never 65,536 times.
        yield np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count).astype(np.uint16)


@lru_cache(maxsize=1)
def _cached_weights(count: int, resamples: int, seed: int) -> list[NDArray[np.uint16]]:
    # Only the last set is kept: the next metric or mask has the same people,
    # and two sets would double the memory.
    return list(_weights(count, resamples, seed))


def _integers(bits: Any, size: int, below: int) -> NDArray[np.int64]:
    """Draw integers in [0, below), two from each 64-bit word; their bias is less than 2^-32 * ``below``."""
    words = bits.random_raw((size + 1) // 2).view(np.uint32)[:size]
    scaled: NDArray[np.uint64] = (words.astype(np.uint64) * np.uint64(below)) >> np.uint64(32)
    return scaled.astype(np.int64)


def percentile_interval(
    resampled: Floats, clusters: int, confidence: float = CONFIDENCE
) -> tuple[Floats, Floats]:
    """Compute the expanded percentile interval of each column; with few clusters, Student's t interval.

    The plain percentile interval is too narrow for few clusters. Its tail probability is set so that, for
    normal data, it is as wide as the t interval (Hesterberg, The American Statistician 69, 2015, section
    4.2). For a handful of clusters no percentile of resamples reaches far enough: below
    :data:`FEW_CLUSTERS` the interval is Student's t with the standard deviation of the resamples.

    Args:
        resampled: ``(B, K)`` from :func:`cluster_bootstrap_means`.
        clusters: their number; below 2 there is no interval (NaN).
        confidence: of the interval.

    Returns:
        Lower and upper limits, ``(K,)`` each.

    Examples:
        >>> resampled = np.linspace(0.0, 1.0, 1001)[:, None]
        >>> low, high = percentile_interval(resampled, clusters=1000)
        >>> f"{low[0]:.3f} {high[0]:.3f}"
        '0.025 0.975'
    """
    if clusters < 2:
        nothing = np.full(resampled.shape[1], np.nan)
        return nothing, nothing.copy()
    # The lower tail, negated: close to 1 the upper one has no digits left.
    t = float(-special.stdtrit(clusters - 1, (1 - confidence) / 2))
    if clusters < FEW_CLUSTERS:
        # Resampled means scatter by s / sqrt(n) with the variance divided by n
        # instead of n - 1: the root makes up for it.
        half = t * math.sqrt(clusters / (clusters - 1)) * resampled.std(axis=0)
        middle = resampled.mean(axis=0)
        return middle - half, middle + half
    # Of a normal resampling distribution, the percentile that reaches as far as the t interval.
    tail = float(special.ndtr(-t * math.sqrt(clusters / (clusters - 1))))
    low, high = np.quantile(resampled, [tail, 1 - tail], axis=0)
    return low, high


def bootstrap_p_value(resampled: Floats, clusters: int) -> float:
    """Compute the two-sided p-value of zero by inverting :func:`percentile_interval`.

    Args:
        resampled: ``(B,)`` resampled means.
        clusters: their number.

    Returns:
        One minus the confidence of the widest interval without zero: at least about 2 / B; NaN below two
        clusters; 1 where all resamples are zero.

    Examples:
        >>> resampled = np.linspace(-0.1, 0.9, 1001)
        >>> p = bootstrap_p_value(resampled, clusters=1000)
        >>> low, _ = percentile_interval(resampled[:, None], 1000, confidence=1 - p)
        >>> bool(abs(low[0]) < 0.002)
        True
    """
    if clusters < 2:
        return math.nan
    expand = math.sqrt(clusters / (clusters - 1))
    if clusters < FEW_CLUSTERS:
        deviation, middle = float(resampled.std()), float(resampled.mean())
        if deviation == 0.0:
            return 1.0 if middle == 0.0 else 0.0
        t = abs(middle) / (deviation * expand)
    else:
        # Resamples at zero count on both sides, which can only make p larger.
        beyond = min(int((resampled <= 0).sum()), int((resampled >= 0).sum()))
        # One resample is added to both sides, so that a finite number of resamples never claims p = 0.
        tail = min(0.5, (beyond + 1) / (len(resampled) + 1))
        # The expansion of percentile_interval backwards: from the percentile to t, and from t to p below.
        t = float(-special.ndtri(tail)) / expand
    return float(2 * special.stdtr(clusters - 1, -t))
