"""Rasterize whole batches of shapes at once, the same on every platform.

Every primitive is convex, so each row of it is one span. The spans of all primitives of all masks go into one
difference array; one cumulative sum over the batch fills them. Only ``+ - * / sqrt`` on float64 are used, which
IEEE 754 rounds exactly; directions come from a table of integers, since the last bit of a library's sine differs
between platforms.

A pixel belongs to a shape if its center does; the center of row ``i`` is at ``y = i + 0.5``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: round(sin(degree) * 32768) for 0 to 90 degrees.
# fmt: off
_QUARTER = np.array(
    [
            0,   572,  1144,  1715,  2286,  2856,  3425,  3993,  4560,  5126,
         5690,  6252,  6813,  7371,  7927,  8481,  9032,  9580, 10126, 10668,
        11207, 11743, 12275, 12803, 13328, 13848, 14365, 14876, 15384, 15886,
        16384, 16877, 17364, 17847, 18324, 18795, 19261, 19720, 20174, 20622,
        21063, 21498, 21926, 22348, 22763, 23170, 23571, 23965, 24351, 24730,
        25102, 25466, 25822, 26170, 26510, 26842, 27166, 27482, 27789, 28088,
        28378, 28660, 28932, 29197, 29452, 29698, 29935, 30163, 30382, 30592,
        30792, 30983, 31164, 31336, 31499, 31651, 31795, 31928, 32052, 32166,
        32270, 32365, 32449, 32524, 32588, 32643, 32688, 32723, 32748, 32763,
        32768,
    ],
    dtype=np.int64,
)
# fmt: on
# The first quadrant mirrored and negated, so that opposite directions are exactly opposite; shared
# ends are left out of every second part.
_SINE = np.concatenate([_QUARTER, _QUARTER[-2::-1], -_QUARTER[1:], -_QUARTER[-2:0:-1]])


def unit_direction(degrees: Ints) -> tuple[Floats, Floats]:
    """Return (dx, dy) of whole degrees, to 1/32768.

    >>> dx, dy = unit_direction(np.array([0, 90, 180]))
    >>> dx.tolist(), dy.tolist()
    ([1.0, 0.0, -1.0], [0.0, 1.0, 0.0])
    """
    turned = degrees % 360
    # Division by a power of two is exact.
    return _SINE[(turned + 90) % 360] / 32768.0, _SINE[turned] / 32768.0


@dataclass
class Canvas:
    """Collect spans for ``count`` masks of side ``size``; :meth:`fill` makes the masks.

    Every method takes the mask each primitive belongs to (``owner``, int) and its geometry in pixels (float).
    A primitive costs as much as it has rows.
    """

    count: int
    size: int
    _start: list[Ints] = field(default_factory=list)
    _stop: list[Ints] = field(default_factory=list)

    def boxes(self, owner: Ints, top: Ints, left: Ints, height: Ints, width: Ints) -> None:
        """Add rectangles of whole pixels, clipped to the image."""
        which, row = self._rows(top, top + height)
        first, stop = np.clip(left, 0, self.size), np.clip(left + width, 0, self.size)
        self._add(owner[which], row, first[which], stop[which])

    def ellipses(self, owner: Ints, y: Floats, x: Floats, ry: Floats, rx: Floats) -> None:
        """Add axis-parallel ellipses with center (y, x) and half-axes."""
        which, row = self._rows_between(y - ry, y + ry)
        x = x[which]
        off = (row + 0.5 - y[which]) / ry[which]
        inside = 1.0 - off * off
        half = np.sqrt(np.maximum(inside, 0.0)) * rx[which]
        # A row beyond the ellipse gets a span from right to left, which is empty.
        self._spans(owner[which], row, np.where(inside >= 0, x - half, np.inf), x + half)

    def polygons(self, owner: Ints, y: Floats, x: Floats) -> None:
        """Add convex polygons; vertices ``(K, V)`` in order."""
        which, row = self._rows_between(y.min(axis=1), y.max(axis=1))
        center = row + 0.5
        low, high = np.full(len(row), np.inf), np.full(len(row), -np.inf)
        for i in range(y.shape[1]):
            j = (i + 1) % y.shape[1]
            rise = y[:, j] - y[:, i]
            # A level edge crosses no row: its neighbours end where it does.
            top = np.where(rise == 0, np.inf, np.minimum(y[:, i], y[:, j]))
            crossed = np.nonzero((top[which] <= center) & (center <= np.maximum(y[:, i], y[:, j])[which]))[0]
            of = which[crossed]
            at = x[of, i] + (center[crossed] - y[of, i]) * (x[:, j] - x[:, i])[of] / rise[of]
            # A convex polygon cuts a row in one span: from its leftmost to its rightmost crossing.
            low[crossed] = np.minimum(low[crossed], at)
            high[crossed] = np.maximum(high[crossed], at)
        self._spans(owner[which], row, low, high)

    def capsules(self, owner: Ints, y0: Floats, x0: Floats, y1: Floats, x1: Floats, radius: Floats) -> None:
        """Add thick lines with round ends: two discs and the rectangle between them."""
        self.ellipses(owner, y0, x0, radius, radius)
        self.ellipses(owner, y1, x1, radius, radius)
        dy, dx = y1 - y0, x1 - x0
        length = np.sqrt(dy * dy + dx * dx)
        # A stroke of length zero has no direction, and its two discs are the whole capsule.
        drawn = length > 0
        if not drawn.any():
            return
        owner, radius, dy, dx, length = owner[drawn], radius[drawn], dy[drawn], dx[drawn], length[drawn]
        y0, x0, y1, x1 = y0[drawn], x0[drawn], y1[drawn], x1[drawn]
        # The normal of the segment, scaled to the radius: half the width to either side.
        ny, nx = dx / length * radius, -dy / length * radius
        self.polygons(
            owner,
            np.stack([y0 + ny, y1 + ny, y1 - ny, y0 - ny], axis=1),
            np.stack([x0 + nx, x1 + nx, x1 - nx, x0 - nx], axis=1),
        )

    def fill(self) -> NDArray[np.uint8]:
        """Return the masks ``(count, size, size)``, 1 = inside any primitive."""
        masks = np.zeros((self.count, self.size, self.size), dtype=np.uint8)
        if not self._start:
            return masks
        # Columns before rows, so that a sum along x adds whole columns at once. At most a few hundred primitives
        # overlap in a pixel: 16 bits hold every count.
        change = np.zeros((self.count, self.size + 1, self.size), dtype=np.int16)
        np.add.at(change.reshape(-1), np.concatenate(self._start), np.int16(1))
        np.subtract.at(change.reshape(-1), np.concatenate(self._stop), np.int16(1))
        for x in range(1, self.size):
            change[:, x] += change[:, x - 1]
        np.greater(change[:, : self.size].transpose(0, 2, 1), 0, out=masks.view(np.bool_))
        return masks

    def _rows(self, first: Ints, stop: Ints) -> tuple[Ints, Ints]:
        """Return rows ``first .. stop - 1`` of each primitive inside the image: (primitive, row), in order."""
        first = np.clip(first, 0, self.size)
        many = np.maximum(np.clip(stop, 0, self.size) - first, 0)
        which = np.repeat(np.arange(len(many)), many)
        # A running count, shifted for each primitive so that it starts
        # again at the primitive's own first row.
        row = np.arange(len(which)) + (first - (np.cumsum(many) - many))[which]
        return which, row

    def _rows_between(self, low: Floats, high: Floats) -> tuple[Ints, Ints]:
        """Return every row whose center may lie between two heights; a row too many at each end allows for rounding."""
        limit = self.size + 1.0
        first = np.floor(np.clip(low, -1.0, limit) - 0.5).astype(np.int64)
        stop = np.ceil(np.clip(high, -1.0, limit) + 0.5).astype(np.int64)
        return self._rows(first, stop)

    def _spans(self, owner: Ints, row: Ints, low: Floats, high: Floats) -> None:
        """Add the pixels whose centers lie between real ends."""
        # Clipped before the conversion, because infinity has no integer. The bounds are chosen so that a
        # span outside the image comes out empty.
        first = np.ceil(np.clip(low, 0.5, self.size + 0.5) - 0.5).astype(np.int64)
        stop = np.floor(np.clip(high, -0.5, self.size - 0.5) - 0.5).astype(np.int64) + 1
        self._add(owner, row, first, stop)

    def _add(self, owner: Ints, row: Ints, first: Ints, stop: Ints) -> None:
        some = np.nonzero(first < stop)[0]
        base = owner[some] * ((self.size + 1) * self.size) + row[some]
        # A span adds one where it starts and subtracts one just behind its end. Column ``size`` takes the
        # ends of spans that reach the border.
        self._start.append(base + first[some] * self.size)
        self._stop.append(base + stop[some] * self.size)


def rasterize_boxes(size: int, top: Ints, left: Ints, height: Ints, width: Ints) -> NDArray[np.uint8]:
    """Draw one box of whole pixels for each mask, ``(N, size, size)``: no spans needed."""
    along = np.arange(size)
    rows = (along >= top[:, None]) & (along < (top + height)[:, None])
    columns = (along >= left[:, None]) & (along < (left + width)[:, None])
    return (rows[:, :, None] & columns[:, None, :]).view(np.uint8)


def hole_shares(masks: NDArray[np.uint8]) -> Floats:
    """Return the hole's share of each mask ``(N, H, W)``, in [0, 1]."""
    # Mask by mask: NumPy counts the nonzero values of one array many times faster than it sums along axes.
    counts = np.array([np.count_nonzero(mask) for mask in masks])
    shares: Floats = counts / (masks.shape[1] * masks.shape[2])
    return shares
