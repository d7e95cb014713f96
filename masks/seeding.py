"""Make seeds from names and numbers from seeds.

A mask's stream depends on (version of its family, mask name, base seed, stream, image id, size) and on nothing else.
Only ``random_raw`` of NumPy's Philox is used, whose output is guaranteed; distributions, whose streams may change
between NumPy versions, are made here with exactly rounded operations.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SEPARATOR = "\x1f"


def raw_bits(
    name: str, ids: Sequence[str], draws: int, *, version: int, size: int, base_seed: int, stream: str
) -> NDArray[np.uint64]:
    """Return ``(len(ids), draws)`` raw 64-bit numbers; row ``i`` is a function of ``ids[i]`` and the other names only.

    >>> first = raw_bits("half", ["a", "b"], 2, version=2, size=64, base_seed=0, stream="evaluation")
    >>> last = raw_bits("half", ["b"], 1, version=2, size=64, base_seed=0, stream="evaluation")
    >>> bool(first[1, 0] == last[0, 0])
    True
    """
    # A separator that no name contains, so that two different lists of names never join to the same text.
    prefix = _SEPARATOR.join(["masks", str(version), name, str(base_seed), stream, str(size), ""])
    start = hashlib.sha256(prefix.encode())
    out = np.empty((len(ids), draws), dtype=np.uint64)
    bits = np.random.Philox(key=0)
    state = bits.state
    # Philox makes four numbers from a counter and hands them out from a buffer. Position 4 says that the
    # buffer is used up, so the first number after setting a state comes from the new key. Setting a state
    # costs a fraction of building a generator for every mask.
    state["buffer_pos"] = 4
    for row, image_id in enumerate(ids):
        key = start.copy()
        key.update(image_id.encode("utf-8", "surrogateescape"))
        # Philox takes a key of 128 bits. The byte order is named, so that
        # big-endian machines get the same masks.
        state["state"]["key"] = np.frombuffer(key.digest()[:16], dtype="<u8")
        state["state"]["counter"] = np.zeros(4, dtype=np.uint64)
        bits.state = state
        out[row] = bits.random_raw(draws)
    return out


def random_integer(
    draw: NDArray[np.uint64], low: int | NDArray[np.int64], high: int | NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return whole numbers in ``low .. high - 1`` from raw draws, by multiplication of their upper 32 bits.

    >>> random_integer(np.array([0, 2**63, 2**64 - 1], dtype=np.uint64), 10, 20).tolist()
    [10, 15, 19]
    """
    span = np.asarray(high, dtype=np.int64) - np.asarray(low, dtype=np.int64)
    # One draw for each number, whatever its range: rejection would remove a bias of at most range / 2^32, and
    # make the place of every later draw depend on the values before it.
    scaled = ((draw >> np.uint64(32)) * span.astype(np.uint64)) >> np.uint64(32)
    return scaled.astype(np.int64) + np.asarray(low, dtype=np.int64)


def random_uniform(draw: NDArray[np.uint64], low: float = 0.0, high: float = 1.0) -> NDArray[np.float64]:
    """Return numbers in ``[low, high)`` from the upper 53 bits of raw draws.

    >>> random_uniform(np.array([0, 2**63], dtype=np.uint64), -1, 1).tolist()
    [-1.0, 0.0]
    """
    # 53 bits are what a double holds, so the conversion and the product with a power of two are exact.
    unit: NDArray[np.float64] = (draw >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return unit * (high - low) + low


def random_normal(draws: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return nearly standard normal numbers from the last axis of 4 raw draws: the sum of 12 uniforms minus 6.

    Each uniform takes 21 bits (Irwin-Hall). A logarithm or cosine would not be the same on every platform.

    >>> random_normal(np.array([[0, 0, 0, 0]], dtype=np.uint64)).tolist()
    [-6.0]
    """
    total = np.zeros(draws.shape[:-1], dtype=np.int64)
    # Three numbers of 21 bits in each draw of 64. They are summed as integers, because the rounding of
    # a sum of floats depends on its order.
    for shift in (0, 21, 42):
        total += ((draws >> np.uint64(shift)) & np.uint64(0x1FFFFF)).astype(np.int64).sum(axis=-1)
    return np.asarray(total * 2.0**-21 - 6.0, dtype=np.float64)
