"""Pre-drawn training masks, bit-packed, so that the step loop draws none."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from masks import registry


@dataclass(frozen=True)
class MaskBank:
    """Pre-drawn masks.

    ``packed`` is ``(count, ceil(size * size / 8))`` uint8, :func:`numpy.packbits` in big bit order.
    """

    packed: NDArray[np.uint8]
    size: int
    names: tuple[str, ...]
    digest: str


def draw_bank(names: Sequence[str], count: int, size: int, base_seed: int) -> MaskBank:
    """Draw ``count`` training masks, the names in equal shares and in turn. A fixed box alone needs one mask.

    Raises:
        masks.registry.UnknownMaskError: with suggestions.
    """
    names = registry.resolve_masks(names)
    if len(names) == 1 and registry.fixed_hole_box(names[0], size):
        count = 1
    # The whole bank in bits: 50,000 masks of 160 pixels take 160 MB instead of 1.3 GB. A side that is not a
    # multiple of 8 leaves padding bits at the end of a mask, never between its rows.
    packed = np.empty((count, -(-size * size // 8)), dtype=np.uint8)
    for turn, name in enumerate(names):
        # An id is the place in the bank, not in the name's own share. Every mask can
        # be drawn again from its place alone.
        ids = [f"training-{i}" for i in range(turn, count, len(names))]
        for start in range(0, len(ids), 1024):
            masks = registry.draw_masks(
                name, ids[start : start + 1024], size, base_seed=base_seed, stream="training"
            )
            rows = np.arange(start, start + len(masks)) * len(names) + turn
            packed[rows] = pack_masks(masks)
    return MaskBank(packed, size, tuple(names), hashlib.sha256(packed.tobytes()).hexdigest())


def pack_masks(masks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pack ``(N, H, W)`` masks into ``(N, ceil(H * W / 8))`` bytes.

    Examples:
        >>> pack_masks(np.ones((1, 4, 4), dtype=np.uint8)).tolist()
        [[255, 255]]
    """
    return np.packbits(masks.reshape(len(masks), -1), axis=1)


def masks_digest(masks: NDArray[np.uint8]) -> str:
    """Return the hex SHA-256 over shape and bits of ``(N, H, W)`` masks."""
    start = hashlib.sha256(repr(masks.shape).encode())
    start.update(pack_masks(masks).tobytes())
    return start.hexdigest()
