"""The cluster bootstrap: intervals for means over images when several images show one person.

Images of a person are alike, so persons are drawn, not images. Vectorised over statistics, deterministic by
seed.
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
#: Below this the percentiles of resamples do not cover (51 % for two clusters, 92 % for five).
FEW_CLUSTERS = 20
_CHUNK_VALUES = 4_000_000  # weights in memory at a time: 32 MB
_KEPT_VALUES = 64_000_000  # weights kept between calls: 128 MB

Floats = NDArray[np.float64]


def cluster_codes(identities: ArrayLike) -> tuple[NDArray[np.int64], int]:
    """Number the clusters from 0.

    Args:
        identities: ``(N,)`` persons; an image whose person is unknown (NA) is a cluster of its own.

    Returns:
        ``(N,)`` codes and their number.
    """
    codes, uniques = pd.factorize(pd.Series(identities), use_na_sentinel=True)
    codes = codes.astype(np.int64)
    unknown = codes < 0
    codes[unknown] = len(uniques) + np.arange(int(unknown.sum()))
    return codes, len(uniques) + int(unknown.sum())


def cluster_sums(values: ArrayLike, codes: NDArray[np.int64], count: int) -> Floats:
    """Sum of each row of ``values (K, N)`` within each cluster: ``(K, count)``."""
    rows = np.atleast_2d(np.asarray(values, dtype=np.float64))
    return np.stack([np.bincount(codes, weights=row, minlength=count) for row in rows])


def cluster_bootstrap_means(
    values: ArrayLike, codes: NDArray[np.int64], *, resamples: int = RESAMPLES, seed: int = 0
) -> Floats:
    """Means over images in each resample of the clusters, drawn with replacement.

    All rows share the resamples, so differences of rows are paired. A resample's mean is the sum over the
    images drawn divided by their number, which varies where clusters differ in size.

    Args:
        values: ``(K, N)`` or ``(N,)``, finite.
        codes: ``(N,)`` cluster of each image, from 0 (:func:`cluster_codes`).
        resamples: number of resamples.
        seed: of the draws.

    Returns:
        ``(resamples, K)``.
    """
    count = int(codes.max()) + 1
    totals = np.vstack([cluster_sums(values, codes, count), np.bincount(codes, minlength=count)])
    # A report asks for the same draws once for every metric and mask: the last ones are kept where they are small.
    kept = resamples * count <= _KEPT_VALUES
    chunks = _kept_weights(count, resamples, seed) if kept else _weights(count, resamples, seed)
    sums = np.concatenate([weights.astype(np.float64) @ totals.T for weights in chunks])
    means: Floats = sums[:, :-1] / sums[:, -1:]
    return means


def _weights(count: int, resamples: int, seed: int) -> Iterator[NDArray[np.uint16]]:
    """How often each of ``count`` clusters is drawn in each resample, ``(some, count)`` at a time."""
    # Raw Philox bits, whose stream NumPy guarantees, scaled to [0, count): no Generator distribution.
    bits = np.random.Philox(key=seed)
    step = max(1, _CHUNK_VALUES // count)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = _integers(bits, size * count, count).reshape(size, count)
        drawn += np.arange(size, dtype=np.int64)[:, None] * count
        yield np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count).astype(np.uint16)


@lru_cache(maxsize=1)
def _kept_weights(count: int, resamples: int, seed: int) -> list[NDArray[np.uint16]]:
    return list(_weights(count, resamples, seed))


def _integers(bits: Any, size: int, below: int) -> NDArray[np.int64]:
    """Integers in [0, below), two from each 64-bit word; their bias is below 2^-32 * ``below``."""
    words = bits.random_raw((size + 1) // 2).view(np.uint32)[:size]
    scaled: NDArray[np.uint64] = (words.astype(np.uint64) * np.uint64(below)) >> np.uint64(32)
    return scaled.astype(np.int64)


def percentile_interval(
    resampled: Floats, clusters: int, confidence: float = CONFIDENCE
) -> tuple[Floats, Floats]:
    """Expanded percentile interval of each column; with few clusters the t interval.

    The plain percentile interval is too narrow for few clusters. Its tail probability is set so that, for
    normal data, it has the width of the t interval (Hesterberg, The American Statistician 69, 2015, section
    4.2). No percentile of resamples reaches far enough for a handful of clusters, though: below
    :data:`FEW_CLUSTERS` it is Student's t with the deviation of the resamples.

    Args:
        resampled: ``(B, K)`` from :func:`cluster_bootstrap_means`.
        clusters: their number; below 2 there is no interval (NaN).
        confidence: of the interval.

    Returns:
        Lower and upper limits, ``(K,)`` each.
    """
    if clusters < 2:
        nothing = np.full(resampled.shape[1], np.nan)
        return nothing, nothing.copy()
    t = special.stdtrit(clusters - 1, 0.5 + confidence / 2)
    if clusters < FEW_CLUSTERS:
        half = t * math.sqrt(clusters / (clusters - 1)) * resampled.std(axis=0)
        middle = resampled.mean(axis=0)
        return middle - half, middle + half
    tail = float(special.ndtr(-t * math.sqrt(clusters / (clusters - 1))))
    low, high = np.quantile(resampled, [tail, 1 - tail], axis=0)
    return low, high
