"""Seeds are digests of names; numbers are the raw output of Philox.

A mask's stream depends on (suite version, mask name, base seed, stream, image id, size) and on nothing else. Only
``random_raw`` of NumPy's Philox is used, whose output is guaranteed; distributions, whose streams may change between
NumPy versions, are made here with exactly rounded operations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

#: Raised whenever a pixel of any mask changes; part of every key.
SUITE_VERSION = 2

_SEPARATOR = "\x1f"


def raw_bits(
    name: str, ids: Sequence[str], size: int, base_seed: int, stream: str, draws: int
) -> NDArray[np.uint64]:
    """``(len(ids), draws)`` raw 64-bit numbers, row ``i`` a function of ``ids[i]`` and the other names only."""
    prefix = _SEPARATOR.join(["masks", str(SUITE_VERSION), name, str(base_seed), stream, str(size), ""])
    start = hashlib.sha256(prefix.encode())
    out = np.empty((len(ids), draws), dtype=np.uint64)
    bits = np.random.Philox(key=0)
    state = bits.state
    state["buffer_pos"] = 4
    for row, image_id in enumerate(ids):
        key = start.copy()
        key.update(image_id.encode("utf-8", "surrogateescape"))
        state["state"]["key"] = np.frombuffer(key.digest()[:16], dtype="<u8")
        state["state"]["counter"] = np.zeros(4, dtype=np.uint64)
        bits.state = state
        out[row] = bits.random_raw(draws)
    return out


def random_integer(
    draw: NDArray[np.uint64], low: int | NDArray[np.int64], high: int | NDArray[np.int64]
) -> NDArray[np.int64]:
    """Whole numbers in ``low .. high - 1`` from raw draws, by multiplication of the upper 32 bits."""
    span = np.asarray(high, dtype=np.int64) - np.asarray(low, dtype=np.int64)
    scaled = ((draw >> np.uint64(32)) * span.astype(np.uint64)) >> np.uint64(32)
    return scaled.astype(np.int64) + np.asarray(low, dtype=np.int64)


def random_uniform(draw: NDArray[np.uint64], low: float = 0.0, high: float = 1.0) -> NDArray[np.float64]:
    """Numbers in ``[low, high)`` from the upper 53 bits of raw draws."""
    unit: NDArray[np.float64] = (draw >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return unit * (high - low) + low


def random_normal(draws: NDArray[np.uint64]) -> NDArray[np.float64]:
    """About standard normal numbers from the last axis of 4 raw draws, as the sum of 12 uniforms of 21 bits less 6.

    (Irwin-Hall; a logarithm or cosine would not be the same on every platform.)
    """
    total = np.zeros(draws.shape[:-1], dtype=np.int64)
    for shift in (0, 21, 42):
        total += ((draws >> np.uint64(shift)) & np.uint64(0x1FFFFF)).astype(np.int64).sum(axis=-1)
    return np.asarray(total * 2.0**-21 - 6.0, dtype=np.float64)
