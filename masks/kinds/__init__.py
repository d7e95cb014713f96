"""What a kind of mask is, and the table that :func:`register_mask` fills.

A kind is one function and its entry in the decorator above it, in a module of this folder. A module is a family: its
``VERSION`` is part of the seed of every mask in it, so that a change to one family does not redraw the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Masks = NDArray[np.uint8]
#: Raw 64-bit numbers ``(N, num_draws)``, see :func:`masks.seeding.raw_bits`.
Raw = NDArray[np.uint64]
#: ``(N, num_draws)`` raw numbers and the side in pixels -> ``(N, size, size)`` masks, 1 = hole.
DrawFunction = Callable[[Raw, int], Masks]
#: (top, left, height, width) in pixels.
HoleBox = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class MaskInfo:
    """Describe a mask.

    Attributes:
        name: as given on the command line.
        summary: one line.
        source: where the definition comes from.
        parameters: the numbers, in the units in which they are published.
        version: raised when a pixel of any mask of the family changes; part of every seed and key.
        needs_aligned_faces: whether the hole is a part of a face, at a fixed place in aligned images.
    """

    name: str
    summary: str
    source: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    version: int = 1
    needs_aligned_faces: bool = False


@dataclass(frozen=True)
class MaskKind:
    """A registered kind.

    Attributes:
        info: what it is.
        draw: the function.
        num_draws: raw numbers that one mask takes.
        fixed_box: the hole at a given size, where it is the same box for every image.
    """

    info: MaskInfo
    draw: DrawFunction
    num_draws: int
    fixed_box: Callable[[int], HoleBox] | None = None


#: Name -> kind, in the order of registration.
KINDS: dict[str, MaskKind] = {}


def add_kind(kind: MaskKind) -> None:
    """Add a kind to the table.

    Raises:
        ValueError: the name is taken.
    """
    if kind.info.name in KINDS:
        raise ValueError(f"there are two masks named {kind.info.name!r}")
    KINDS[kind.info.name] = kind


def register_mask(
    info: MaskInfo, *, num_draws: int = 0, fixed_box: Callable[[int], HoleBox] | None = None
) -> Callable[[DrawFunction], DrawFunction]:
    """Register the decorated function as a kind of mask.

    Raises:
        ValueError: the name is taken.
    """

    def register(draw: DrawFunction) -> DrawFunction:
        add_kind(MaskKind(info, draw, num_draws, fixed_box))
        return draw

    return register
