"""The inverse of :func:`masks.bank.pack_masks`, which only tests need."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def unpack_masks(packed: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """``(N, ceil(S * S / 8))`` bytes to ``(N, S, S)`` masks."""
    bits = np.unpackbits(packed, axis=1, count=size * size)
    return bits.reshape(len(packed), size, size)
