"""Procedural faces: the embedded default data, deterministic from an index. A test bed, never a real result.

Each face is drawn from one Philox stream and rendered straight at the wanted size with analytic anti-aliasing: head,
hair, eyes, brows, nose, mouth, beard, glasses, under a light, before a background. Parts agree with each other (both
eyes, brows and hair, skin and lips, pose and every part), so that a network can infer a hidden part from the visible
ones. Only ``+ - * / sqrt`` on float32 are used, so the pixels are the same on every platform.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

VERSION = 1
_CHUNK = 32

_SKIN = (
    np.array(
        [[255, 224, 196], [241, 194, 150], [214, 158, 112], [158, 104, 66], [94, 58, 38]], dtype=np.float32
    )
    / 255
)
_HAIR = (
    np.array(
        [[26, 20, 18], [66, 42, 28], [120, 78, 44], [196, 152, 88], [150, 62, 32], [170, 168, 166]],
        dtype=np.float32,
    )
    / 255
)
_IRIS = (
    np.array([[62, 40, 24], [98, 66, 36], [70, 98, 60], [66, 104, 146], [96, 108, 116]], dtype=np.float32)
    / 255
)


Floats = NDArray[Any]  # float32 throughout; the checker loses that at every clip and stack

NUM_DRAWS = 192


def face_draws(index: NDArray[np.int64], version: int) -> Floats:
    """Return ``(N, NUM_DRAWS)`` numbers in [0, 1), each row from the index alone.

    >>> bool((face_draws(np.array([3, 7]), 1)[1] == face_draws(np.array([7]), 1)[0]).all())
    True
    """
    # The stream's name and version are one key, the index the other: faces never share draws.
    key = int.from_bytes(b"face", "big") + (version << 40)
    rows = [np.random.Philox(key=[key, int(i)]).random_raw(NUM_DRAWS) for i in index]
    # 24 bits are what a float32 holds exactly, so the number is the same on every platform.
    unit: Floats = (np.stack(rows) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
    return unit


@dataclass
class FaceRandom:
    """Hand out columns of draws in order."""

    draws: Floats
    next: int = 0

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Floats:
        """Return ``(N,)`` in [``low``, ``high``)."""
        # Counted also where a part is not drawn, so that each part has its own columns.
        self.next += 1
        return low + (high - low) * self.draws[:, self.next - 1]

    def bell(self, spread: float) -> Floats:
        """Return numbers around 0, within +- ``spread``, denser in the middle."""
        return (self.uniform() + self.uniform() + self.uniform() - 1.5) * (spread / 1.5)

    def chance(self, p: float) -> Floats:
        """Return ``(N,)`` of 0 and 1, 1 with probability ``p``."""
        return (self.uniform() < p).astype(np.float32)

    def color(self, palette: Floats, jitter: float = 0.04) -> Floats:
        """Return ``(N, 3)`` between neighboring colors of a palette."""
        at = self.uniform() * (len(palette) - 1)
        low = at.astype(np.int64)
        mix = (at - low)[:, None]
        mixed = palette[low] * (1 - mix) + palette[low + 1] * mix
        color: Floats = np.clip(mixed + np.stack([self.bell(jitter) for _ in range(3)], axis=1), 0, 1)
        return color


def render_faces(indices: NDArray[np.int64] | list[int], size: int) -> NDArray[np.uint8]:
    """Return faces ``(len(indices), size, size, 3)`` uint8; face ``i`` depends on ``indices[i]`` and ``size`` only."""
    index = np.asarray(indices, dtype=np.int64)
    out = np.empty((len(index), size, size, 3), dtype=np.uint8)
    # In chunks, which bounds the memory whatever the number of faces.
    for start in range(0, len(index), _CHUNK):
        part = index[start : start + _CHUNK]
        out[start : start + len(part)] = _Painter(face_draws(part, VERSION), size).paint()
    return out


class _Painter:
    """Paint one chunk of faces, back to front. Coordinates: x right, y down, both -1 to 1."""

    def __init__(self, draws: Floats, size: int) -> None:
        self.size, self.random, self.count = size, FaceRandom(draws), len(draws)
        along = ((np.arange(size) + 0.5) * (2 / size) - 1).astype(np.float32)
        self.y0, self.x0 = np.meshgrid(along, along, indexing="ij")
        # Planes: NumPy's inner loop then runs along a row, not over three colors.
        self.picture = np.empty((3, self.count, size, size), dtype=np.float32)

    def paint(self) -> NDArray[np.uint8]:
        d = self.random
        self.skin, self.hair, self.iris = d.color(_SKIN), d.color(_HAIR), d.color(_IRIS)
        self.yaw, roll, scale = d.bell(0.16), d.bell(0.16), 1 + d.bell(0.12)
        self.light_x, self.light_y = d.uniform(-1, 1), d.uniform(-1, 0.2)
        self.feminine = d.chance(0.5)
        shift_x, shift_y = d.bell(0.05), d.bell(0.05)
        # Face coordinates: turned by the roll (cosine by its series: exactly rounded operations only) and scaled.
        cos, sin = 1 - roll * roll / 2, roll
        x, y = self.x0 - _c(shift_x), self.y0 - _c(shift_y)
        self.x = (x * _c(cos) + y * _c(sin)) / _c(scale)
        self.y = (y * _c(cos) - x * _c(sin)) / _c(scale)
        # The width of a pixel in the coordinates of the face, for the anti-aliasing.
        self.pixel = 2 / self.size / scale
        # Back to front: each part covers those before it, and the order of draws is fixed by it.
        self._background()
        self._body_and_hair()
        self._head()
        self._eyes()
        self._nose()
        self._mouth()
        self._glasses()
        shade = 1 + _c(self.light_x) * self.x0 * 0.12 + _c(self.light_y) * self.y0 * 0.12
        lit = np.clip(self.picture * shade, 0, 1)
        pixels: NDArray[np.uint8] = np.moveaxis(np.floor(lit * 255 + 0.5).astype(np.uint8), 0, -1)
        return pixels

    def _background(self) -> None:
        d = self.random
        gray = d.uniform(0.15, 0.9)[:, None]
        one = np.clip(gray + np.stack([d.bell(0.3) for _ in range(3)], axis=1), 0, 1)
        two = np.clip(one + np.stack([d.bell(0.35) for _ in range(3)], axis=1), 0, 1)
        tilt = d.uniform(-1, 1)
        blend = np.clip(0.5 + 0.5 * (self.y0 + _c(tilt) * self.x0), 0, 1)
        self.picture[:] = _planes(one) * (1 - blend) + _planes(two) * blend
        # A bright and blurred thing behind the head.
        spot = np.maximum(
            0, 1 - (self.x0 - _c(d.uniform(-1, 1))) ** 2 * 4 - (self.y0 - _c(d.uniform(-1, 0))) ** 2 * 4
        )
        self.picture += spot * _c(d.bell(0.3))
        np.clip(self.picture, 0, 1, out=self.picture)

    def _body_and_hair(self) -> None:
        d = self.random
        self.width, self.height = 0.56 + d.bell(0.06), 0.76 + d.bell(0.06)
        self.center_y = 0.08 + d.bell(0.02)
        long = np.maximum(self.feminine * d.chance(0.8), d.chance(0.08))
        self.fringe = d.uniform(-0.55, -0.3) - 0.08 * (1 - self.feminine)
        self.parting = d.bell(0.5)
        self.bald = (1 - self.feminine) * d.chance(0.12)
        volume = 0.1 + 0.1 * d.uniform() + 0.05 * long
        cloth = np.stack([d.uniform(0.05, 0.9) for _ in range(3)], axis=1)
        self._ellipse(cloth, 0, 1.45, 1.0, 0.55)
        haired = 1 - self.bald
        self._ellipse(
            self.hair * 0.8, 0, self.center_y - 0.1, self.width + volume, self.height + volume * 0.9, haired
        )
        # Long hair falls beside the neck.
        beside = self._box(0, 0.75, self.width + volume * 0.9, 0.75)
        self._put(self.hair * 0.7, beside * _c(long))
        self._put(self.skin * 0.72, self._box(0, 0.9, 0.24, 0.35))  # the neck, in shadow

    def _head(self) -> None:
        d = self.random
        jaw = 1 - 0.16 * np.clip((self.y - _c(self.center_y)) / 0.76, 0, 1) ** 2
        radius = np.sqrt(
            (self.x / (_c(self.width) * jaw)) ** 2 + ((self.y - _c(self.center_y)) / _c(self.height)) ** 2
        )
        self.head = self._cover((radius - 1) * 0.5)
        ear = self.skin * 0.86
        for side in (-1, 1):
            shown = (1 - self.feminine) * 0.9
            self._ellipse(ear, side * (self.width + 0.01) + self.yaw * 0.3, 0.02, 0.07, 0.15, shown)
        # A round head under the light: brighter towards it, darker at the rim.
        bulge = np.clip(1 - radius * radius, 0, 1)
        lit = (
            0.8 + 0.22 * np.sqrt(bulge) + 0.2 * (_c(self.light_x) * self.x + _c(self.light_y) * self.y * 0.6)
        )
        self._put_planes(np.clip(_planes(self.skin) * lit, 0, 1), self.head)
        blush = d.uniform(0, 0.1)
        for side in (-1, 1):
            cheek = np.maximum(
                0, 1 - ((self.x - _c(side * 0.32 + self.yaw)) / 0.2) ** 2 - ((self.y - 0.3) / 0.16) ** 2
            )
            self.picture[0] += cheek * _c(blush) * self.head
        beard = (1 - self.feminine) * d.chance(0.35) * d.uniform(0.3, 0.85)
        low = np.clip((self.y - 0.3) * 6 - np.maximum(0, 0.5 - np.abs(self.x - _c(self.yaw)) * 1.6), 0, 1)
        self._put(self.hair * 0.85, low * self.head * _c(beard))
        # The hairline: a fringe that rises towards the parting.
        # Never zero: the sign decides on which side the fringe rises.
        line = _c(self.fringe) + 0.25 * (self.x - _c(self.parting)) ** 2 * _c(np.sign(self.parting + 1e-9))
        front = self._cover((self.y - line) * 0.8) * self.head
        self._put(self.hair, front * _c(1 - self.bald))

    def _eyes(self) -> None:
        d = self.random
        apart, eye_y = 0.235 + d.bell(0.03), -0.03 + d.bell(0.025)
        width, opening = 0.105 + d.bell(0.02), 0.052 + d.bell(0.022)
        gaze_x, gaze_y = d.bell(0.04), d.bell(0.015)
        brow_y, brow_tilt, brow_thick = (
            -0.155 + d.bell(0.035),
            d.bell(0.25),
            0.018 + 0.02 * (1 - self.feminine) * d.uniform(),
        )
        lashes = 0.3 + 0.5 * self.feminine
        self.eye = (apart, eye_y)
        white = np.broadcast_to(np.array([0.93, 0.92, 0.9], dtype=np.float32), (self.count, 3))
        for side in (-1, 1):
            x = side * apart + self.yaw
            # The far eye is narrower when the head is turned.
            w = width * (1 - side * self.yaw * 0.8)
            self._ellipse(self.skin * 0.68, x, eye_y - 0.012, w * 1.3, opening * 1.9, 0.45)
            eye = self._ellipse_cover(x, eye_y, w, opening)
            self._put(white, eye)
            iris = self._ellipse_cover(x + gaze_x, eye_y + gaze_y, 0.052, 0.052) * eye
            self._put(self.iris, iris)
            self._put(self.iris * 0, self._ellipse_cover(x + gaze_x, eye_y + gaze_y, 0.024, 0.024) * eye)
            glint = self._ellipse_cover(x + gaze_x + self.light_x * 0.02, eye_y + gaze_y - 0.02, 0.012, 0.012)
            self._put(white * 1.05, glint * eye)
            lid = self._ellipse_cover(x, eye_y - 0.008, w * 1.08, opening * 1.25) - eye
            upper = np.clip(lid, 0, 1) * (self.y < _c(eye_y))
            self._put(self.hair * 0.35, upper * _c(lashes))
            bx, by = self.x - _c(x), self.y - _c(brow_y) - _c(side * brow_tilt) * (self.x - _c(x)) * 0.6
            arch = by + bx * bx * 2.2
            brow = self._cover(np.abs(arch) - _c(brow_thick)) * self._cover(np.abs(bx) - 0.15)
            self._put(self.hair * 0.62, brow * 0.9)

    def _nose(self) -> None:
        d = self.random
        width, tip = 0.085 + d.bell(0.03), 0.27 + d.bell(0.03)
        x = self.yaw * 1.5
        side = np.sign(self.light_x + 1e-9)
        shadow = self._ellipse_cover(x - side * width * 0.75, (tip - 0.1), width * 0.6, 0.2)
        self._put(self.skin * 0.7, shadow * 0.4 * self.head)
        self._ellipse(
            np.clip(self.skin * 1.1, 0, 1), x + side * width * 0.15, tip - 0.08, width * 0.45, 0.16, 0.4
        )
        self._ellipse(self.skin * 0.82, x, tip, width * 1.15, 0.05, 0.6)
        for nostril in (-1, 1):
            self._ellipse(self.skin * 0.35, x + nostril * width * 0.55, tip + 0.022, 0.024, 0.014, 0.85)

    def _mouth(self) -> None:
        d = self.random
        width, y, smile = 0.2 + d.bell(0.05), 0.46 + d.bell(0.03), d.uniform(-0.15, 0.9)
        full, open_ = 0.035 + 0.015 * self.feminine + d.bell(0.012), np.maximum(0, d.uniform(-0.6, 1)) * 0.055
        red = np.stack([d.uniform(0.02, 0.1), -d.uniform(0.06, 0.2), -d.uniform(0.04, 0.14)], axis=1)
        lips = np.clip(self.skin * 0.88 + red * (1 + self.feminine[:, None]), 0, 1)
        x = self.x - _c(self.yaw * 1.2)
        curve = self.y - _c(y) + _c(smile) * (x * x) * 1.6
        taper = np.sqrt(np.maximum(0, 1 - (x / _c(width)) ** 2))
        lip = self._cover(np.abs(curve) - _c(full + open_) * taper) * (taper > 0)
        self._put(lips, lip)
        inner = self._cover(np.abs(curve) - _c(open_) * taper * 0.9) * (taper > 0) * _c(open_ > 0.008)
        self._put(np.broadcast_to(np.array([0.92, 0.9, 0.86], dtype=np.float32), (self.count, 3)), inner)
        dark = inner * np.clip((curve / np.maximum(_c(open_), 1e-3)) * 2 - 0.4, 0, 1)
        self._put(lips * 0.3, dark)
        seam = self._cover(np.abs(curve) - 0.006) * self._cover(np.abs(x) - _c(width)) * _c(open_ <= 0.008)
        self._put(lips * 0.5, seam * 0.8)
        self._ellipse(self.skin * 0.8, self.yaw * 1.2, y + 0.13, 0.12, 0.025, 0.5)

    def _glasses(self) -> None:
        d = self.random
        worn, thick, radius = d.chance(0.14), 0.013 + 0.014 * d.uniform(), 0.15 + d.bell(0.025)
        dark = np.stack([d.uniform(0, 0.3) for _ in range(3)], axis=1)
        apart, y = self.eye
        for side in (-1, 1):
            off = np.sqrt((self.x - _c(side * apart + self.yaw)) ** 2 + ((self.y - _c(y + 0.01)) * 1.15) ** 2)
            self._put(dark, self._cover(np.abs(off - _c(radius)) - _c(thick)) * _c(worn))
        between = self._box(self.yaw, y - 0.01, np.maximum(apart - radius, 0.01), thick)
        self._put(dark, between * _c(worn))

    def _cover(self, distance: Floats) -> Floats:
        """Return the share of a pixel inside, from the signed distance of its center: the anti-aliasing."""
        covered: Floats = np.clip(0.5 - distance / _c(self.pixel), 0, 1)
        return covered

    def _ellipse_cover(
        self, x: Floats | float, y: Floats | float, rx: Floats | float, ry: Floats | float
    ) -> Floats:
        x, y, rx, ry = (_c(np.broadcast_to(v, (self.count,))) for v in (x, y, rx, ry))
        # Radii are random, and must not be zero or negative.
        rx, ry = np.maximum(rx, 1e-3), np.maximum(ry, 1e-3)
        radius = np.sqrt(((self.x - x) / rx) ** 2 + ((self.y - y) / ry) ** 2)
        return self._cover((radius - 1) * np.minimum(rx, ry))

    def _ellipse(
        self,
        color: Floats,
        x: Floats | float,
        y: Floats | float,
        rx: Floats | float,
        ry: Floats | float,
        opacity: Floats | float = 1.0,
    ) -> None:
        cover = self._ellipse_cover(x, y, rx, ry)
        self._put(color, cover * _c(np.broadcast_to(opacity, (self.count,))))

    def _box(
        self, x: Floats | float, y: Floats | float, half_width: Floats | float, half_height: Floats | float
    ) -> Floats:
        x, y, w, h = (_c(np.broadcast_to(v, (self.count,))) for v in (x, y, half_width, half_height))
        return self._cover(np.maximum(np.abs(self.x - x) - w, np.abs(self.y - y) - h))

    def _put(self, color: Floats, cover: Floats) -> None:
        """Paint ``color`` ``(N, 3)`` over the picture where ``cover`` is not 0."""
        self._put_planes(_planes(color), cover)

    def _put_planes(self, color: Floats, cover: Floats) -> None:
        """Paint ``color`` ``(3, N, H, W)`` likewise. Rows that no face of the chunk covers are left alone."""
        (rows,) = np.nonzero(np.any(cover, axis=(0, 2)))
        if len(rows):
            band = np.s_[:, rows[0] : rows[-1] + 1]
            for plane, value in zip(self.picture, color, strict=True):
                part = plane[band]
                part += ((value if value.shape[1] == 1 else value[band]) - part) * cover[band]


def _c(value: Floats) -> Floats:
    """Reshape ``(N,)`` to ``(N, 1, 1)``."""
    return np.asarray(value, dtype=np.float32)[:, None, None]


def _planes(color: Floats) -> Floats:
    """Reshape ``(N, 3)`` to ``(3, N, 1, 1)``."""
    return color.T[:, :, None, None]
