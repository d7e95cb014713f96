"""The numbers behind the procedural faces: drawn from an index alone, handed out in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]  # float32 throughout; the checker loses that at every clip and stack

NUM_DRAWS = 192


def draws(index: NDArray[np.int64], version: int) -> Floats:
    """``(N, NUM_DRAWS)`` numbers in [0, 1), each row from the index alone."""
    key = int.from_bytes(b"face", "big") + (version << 40)
    rows = [np.random.Philox(key=[key, int(i)]).random_raw(NUM_DRAWS) for i in index]
    unit: Floats = (np.stack(rows) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
    return unit


@dataclass
class Dice:
    """Hands out columns of draws in order."""

    draws: Floats
    next: int = 0

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Floats:
        """``(N,)`` in [``low``, ``high``)."""
        self.next += 1
        return low + (high - low) * self.draws[:, self.next - 1]

    def bell(self, spread: float) -> Floats:
        """Around 0, within +- ``spread``, denser in the middle."""
        return (self.uniform() + self.uniform() + self.uniform() - 1.5) * (spread / 1.5)

    def chance(self, p: float) -> Floats:
        """``(N,)`` of 0 and 1, 1 with probability ``p``."""
        return (self.uniform() < p).astype(np.float32)

    def colour(self, palette: Floats, jitter: float = 0.04) -> Floats:
        """``(N, 3)`` between neighbouring colours of a palette."""
        at = self.uniform() * (len(palette) - 1)
        low = at.astype(np.int64)
        mix = (at - low)[:, None]
        mixed = palette[low] * (1 - mix) + palette[low + 1] * mix
        colour: Floats = np.clip(mixed + np.stack([self.bell(jitter) for _ in range(3)], axis=1), 0, 1)
        return colour
