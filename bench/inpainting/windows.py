"""Which part of a large picture a model is shown for each part of the hole."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage


@dataclass(frozen=True)
class Window:
    """A square of the picture, possibly reaching over its border, and the part of the hole it is to fill.

    Attributes:
        top, left, side: in pixels of the picture; ``top`` and ``left`` may be negative.
        parts: labels of the hole's connected parts that are filled from this window.
    """

    top: int
    left: int
    side: int
    parts: tuple[int, ...]


def plan(
    hole: NDArray[np.bool_], size: int, context: float, *, centred: bool
) -> tuple[NDArray[np.int32], list[Window]]:
    """A window for each connected part of the hole.

    A window is ``context`` times as wide as its part, and never narrower than ``size``, so that nothing is
    enlarged where the picture allows. Parts that lie well within a window of that least side share it.

    Args:
        hole: ``(H, W)``.
        size: side of the model's pictures.
        context: side of a window over the longer side of its part, above 1.
        centred: keep the part in the window's middle even where the window then leaves the picture.

    Returns:
        The label of each pixel, ``(H, W)``, 0 where known; and the windows, largest part first.
    """
    labels, _ = ndimage.label(hole, structure=np.ones((3, 3)))
    boxes = [(s[0].start, s[0].stop, s[1].start, s[1].stop) for s in ndimage.find_objects(labels)]
    order = sorted(range(len(boxes)), key=lambda i: -_longer(boxes[i]))
    windows: list[Window] = []
    taken = np.zeros(len(boxes), dtype=bool)
    corners = np.array(boxes)
    for i in order:
        if taken[i]:
            continue
        window = _around(boxes[i], hole.shape, size, context, centred)
        parts = [i]
        if window.side <= size and not centred:
            inner = window.side // 8
            inside = (
                (corners[:, 0] >= window.top + (inner if window.top > 0 else 0))
                & (corners[:, 2] >= window.left + (inner if window.left > 0 else 0))
                & (corners[:, 1] <= window.top + window.side - inner)
                & (corners[:, 3] <= window.left + window.side - inner)
                & ~taken
            )
            parts = sorted({i, *np.flatnonzero(inside).tolist()})
        taken[parts] = True
        windows.append(Window(window.top, window.left, window.side, tuple(p + 1 for p in parts)))
    return labels.astype(np.int32), windows


def _longer(box: tuple[int, int, int, int]) -> int:
    return max(box[1] - box[0], box[3] - box[2])


def _around(
    box: tuple[int, int, int, int], shape: tuple[int, ...], size: int, context: float, centred: bool
) -> Window:
    side = max(size, math.ceil(_longer(box) * context))
    top = (box[0] + box[1] - side) // 2
    left = (box[2] + box[3] - side) // 2
    if not centred:
        top, left = (_inside(a, side, length) for a, length in ((top, shape[0]), (left, shape[1])))
    return Window(top, left, side, ())


def _inside(start: int, side: int, length: int) -> int:
    """Shifted into the picture, or centred on it where the window is the longer."""
    return (length - side) // 2 if side >= length else min(max(start, 0), length - side)
