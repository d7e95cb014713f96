"""Whole batches of shapes to pixels at once, the same on every platform.

Every primitive is convex, so each row of it is one span. The spans of all primitives of all masks go into one
difference array; one cumulative sum over the batch fills them. Only ``+ - * / sqrt`` on float64 are used, which
IEEE 754 rounds exactly; directions come from a table of integers, since the last bit of a library's sine differs
between platforms.

A pixel belongs to a shape if its centre does; the centre of row ``i`` is at ``y = i + 0.5``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: round(sin(degree) * 32768) for 0 to 90 degrees.
_QUARTER = np.array(
    [
        0,
        572,
        1144,
        1715,
        2286,
        2856,
        3425,
        3993,
        4560,
        5126,
        5690,
        6252,
        6813,
        7371,
        7927,
        8481,
        9032,
        9580,
        10126,
        10668,
        11207,
        11743,
        12275,
        12803,
        13328,
        13848,
        14365,
        14876,
        15384,
        15886,
        16384,
        16877,
        17364,
        17847,
        18324,
        18795,
        19261,
        19720,
        20174,
        20622,
        21063,
        21498,
        21926,
        22348,
        22763,
        23170,
        23571,
        23965,
        24351,
        24730,
        25102,
        25466,
        25822,
        26170,
        26510,
        26842,
        27166,
        27482,
        27789,
        28088,
        28378,
        28660,
        28932,
        29197,
        29452,
        29698,
        29935,
        30163,
        30382,
        30592,
        30792,
        30983,
        31164,
        31336,
        31499,
        31651,
        31795,
        31928,
        32052,
        32166,
        32270,
        32365,
        32449,
        32524,
        32588,
        32643,
        32688,
        32723,
        32748,
        32763,
        32768,
    ],
    dtype=np.int64,
)
_SINE = np.concatenate([_QUARTER, _QUARTER[-2::-1], -_QUARTER[1:], -_QUARTER[-2:0:-1]])


def direction(degrees: Ints) -> tuple[Floats, Floats]:
    """(dx, dy) of whole degrees, to 1/32768."""
    turned = degrees % 360
    return _SINE[(turned + 90) % 360] / 32768.0, _SINE[turned] / 32768.0


@dataclass
class Canvas:
    """Collects spans for ``count`` masks of side ``size``; :meth:`fill` makes the masks.

    Every method takes the mask each primitive belongs to (``owner``, int) and its geometry in pixels (float).
    """

    count: int
    size: int
    _start: list[Ints] = field(default_factory=list)
    _stop: list[Ints] = field(default_factory=list)

    def boxes(self, owner: Ints, top: Ints, left: Ints, height: Ints, width: Ints) -> None:
        """Rectangles of whole pixels, clipped to the image."""
        rows = np.arange(self.size)
        inside = (rows >= top[:, None]) & (rows < (top + height)[:, None])
        first = np.broadcast_to(left[:, None], inside.shape)
        stop = np.broadcast_to((left + width)[:, None], inside.shape)
        self._add(owner, inside, first, stop)

    def ellipses(self, owner: Ints, y: Floats, x: Floats, ry: Floats, rx: Floats) -> None:
        """Axis-parallel ellipses with centre (y, x) and half-axes."""
        centre = np.arange(self.size) + 0.5
        off = (centre - y[:, None]) / ry[:, None]
        inside = 1.0 - off * off
        half = np.sqrt(np.maximum(inside, 0.0)) * rx[:, None]
        self._spans(owner, inside >= 0, x[:, None] - half, x[:, None] + half)

    def polygons(self, owner: Ints, y: Floats, x: Floats) -> None:
        """Convex polygons; vertices ``(K, V)`` in order."""
        centre = (np.arange(self.size) + 0.5)[None, :]
        low = np.full((len(y), self.size), np.inf)
        high = np.full((len(y), self.size), -np.inf)
        for i in range(y.shape[1]):
            j = (i + 1) % y.shape[1]
            y0, y1, x0, x1 = (a[:, None] for a in (y[:, i], y[:, j], x[:, i], x[:, j]))
            rise = y1 - y0
            crosses = (np.minimum(y0, y1) <= centre) & (centre <= np.maximum(y0, y1)) & (rise != 0)
            at = x0 + (centre - y0) * (x1 - x0) / np.where(rise == 0, 1.0, rise)
            low = np.where(crosses, np.minimum(low, at), low)
            high = np.where(crosses, np.maximum(high, at), high)
        inside = low <= high
        self._spans(owner, inside, np.where(inside, low, 0.0), np.where(inside, high, 0.0))

    def capsules(self, owner: Ints, y0: Floats, x0: Floats, y1: Floats, x1: Floats, radius: Floats) -> None:
        """Thick lines with round ends: two discs and the rectangle between them."""
        self.ellipses(owner, y0, x0, radius, radius)
        self.ellipses(owner, y1, x1, radius, radius)
        dy, dx = y1 - y0, x1 - x0
        length = np.sqrt(dy * dy + dx * dx)
        drawn = length > 0
        if not drawn.any():
            return
        owner, radius, dy, dx, length = owner[drawn], radius[drawn], dy[drawn], dx[drawn], length[drawn]
        y0, x0, y1, x1 = y0[drawn], x0[drawn], y1[drawn], x1[drawn]
        ny, nx = dx / length * radius, -dy / length * radius
        self.polygons(
            owner,
            np.stack([y0 + ny, y1 + ny, y1 - ny, y0 - ny], axis=1),
            np.stack([x0 + nx, x1 + nx, x1 - nx, x0 - nx], axis=1),
        )

    def fill(self) -> NDArray[np.uint8]:
        """The masks ``(count, size, size)``, 1 = inside any primitive."""
        width = self.size + 1
        cells = self.count * self.size * width
        if not self._start:
            return np.zeros((self.count, self.size, self.size), dtype=np.uint8)
        # At most a few hundred primitives overlap in a pixel, so 16 bits hold every count.
        change = np.zeros(cells, dtype=np.int16)
        np.add.at(change, np.concatenate(self._start), np.int16(1))
        np.subtract.at(change, np.concatenate(self._stop), np.int16(1))
        lines = change.reshape(-1, width)
        np.cumsum(lines, axis=1, out=lines)
        covered = lines[:, : self.size] > 0
        return covered.reshape(self.count, self.size, self.size).view(np.uint8)

    def _spans(self, owner: Ints, inside: NDArray[np.bool_], low: Floats, high: Floats) -> None:
        """From real ends to pixels whose centres lie between them."""
        limit = self.size + 1.0
        first = np.ceil(np.clip(low, -1.0, limit) - 0.5).astype(np.int64)
        stop = np.floor(np.clip(high, -1.0, limit) - 0.5).astype(np.int64) + 1
        self._add(owner, inside, first, stop)

    def _add(self, owner: Ints, inside: NDArray[np.bool_], first: Ints, stop: Ints) -> None:
        first, stop = np.clip(first, 0, self.size), np.clip(stop, 0, self.size)
        which, row = np.nonzero(inside & (first < stop))
        base = (owner[which] * self.size + row) * (self.size + 1)
        self._start.append(base + first[which, row])
        self._stop.append(base + stop[which, row])


def boxes(size: int, top: Ints, left: Ints, height: Ints, width: Ints) -> NDArray[np.uint8]:
    """One box of whole pixels for each mask, ``(N, size, size)``: no spans needed."""
    along = np.arange(size)
    rows = (along >= top[:, None]) & (along < (top + height)[:, None])
    columns = (along >= left[:, None]) & (along < (left + width)[:, None])
    return (rows[:, :, None] & columns[:, None, :]).view(np.uint8)
