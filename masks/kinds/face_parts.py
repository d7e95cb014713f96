"""Parts of an aligned face: eyes, nose, mouth, the lower face and glasses.

The places are those of CelebA's aligned images in its center crop, which the procedural faces share and FFHQ and
CelebA-HQ are close to. Each image gets its own small shift and scale, so that no two holes are alike. Sizes are ours:
no generator of such masks is published.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from masks.kinds import MaskInfo, Masks, Raw, register_mask
from masks.raster import Canvas
from masks.seeding import random_uniform

VERSION = 1

Floats = NDArray[np.float64]
#: Centers of the parts as shares of the side: (x, y).
LEFT_EYE, RIGHT_EYE, NOSE, MOUTH = (0.38, 0.51), (0.615, 0.51), (0.495, 0.63), (0.495, 0.77)
_SHIFT, _SCALE = 0.015, (0.9, 1.15)


@dataclass(frozen=True)
class Placement:
    """Where the parts of each image lie: shifts ``(N,)`` in shares of the side, and scales of the hole."""

    size: int
    dx: Floats
    dy: Floats
    scale: Floats

    def ellipse(self, canvas: Canvas, center: tuple[float, float], rx: float, ry: float) -> None:
        """Add an ellipse with half-axes in shares of the side."""
        owner = np.arange(canvas.count)
        y, x = (center[1] + self.dy) * self.size, (center[0] + self.dx) * self.size
        canvas.ellipses(owner, y, x, ry * self.scale * self.size, rx * self.scale * self.size)

    def polygon(self, canvas: Canvas, corners: list[tuple[float, float]]) -> None:
        """Add a convex polygon with corners (x, y) in shares of the side, scaled about its middle."""
        xs, ys = np.array(corners).T
        middle_x, middle_y = xs.mean(), ys.mean()
        x = middle_x + (xs - middle_x) * self.scale[:, None] + self.dx[:, None]
        y = middle_y + (ys - middle_y) * self.scale[:, None] + self.dy[:, None]
        canvas.polygons(np.arange(canvas.count), y * self.size, x * self.size)


def _start(draws: Raw, size: int) -> tuple[Canvas, Placement]:
    """Prepare an empty canvas and the place of the part in each image."""
    dx, dy = (random_uniform(draws[:, i], -_SHIFT, _SHIFT) for i in (0, 1))
    return Canvas(len(draws), size), Placement(size, dx, dy, random_uniform(draws[:, 2], *_SCALE))


def _info(name: str, summary: str) -> MaskInfo:
    return MaskInfo(
        name=name,
        summary=summary,
        source="ours, on the landmarks of CelebA's aligned images",
        parameters={"shift": "1.5 % of the side", "scale": "0.9-1.15"},
        version=VERSION,
        needs_aligned_faces=True,
    )


@register_mask(_info("eyes", "both eyes of an aligned face, two ellipses"), num_draws=3)
def draw_eyes(draws: Raw, size: int) -> Masks:
    """Draw an ellipse over each eye."""
    canvas, place = _start(draws, size)
    for eye in (LEFT_EYE, RIGHT_EYE):
        place.ellipse(canvas, eye, 0.105, 0.075)
    return canvas.fill()


@register_mask(_info("nose", "the nose of an aligned face"), num_draws=3)
def draw_nose(draws: Raw, size: int) -> Masks:
    """Draw a trapezium from the bridge down to an ellipse over the wings."""
    canvas, place = _start(draws, size)
    x, y = NOSE
    bridge, wings = y - 0.13, y + 0.09
    place.polygon(canvas, [(x - 0.035, bridge), (x + 0.035, bridge), (x + 0.1, wings), (x - 0.1, wings)])
    place.ellipse(canvas, (x, y + 0.07), 0.105, 0.05)
    return canvas.fill()


@register_mask(_info("mouth", "the mouth of an aligned face, an ellipse"), num_draws=3)
def draw_mouth(draws: Raw, size: int) -> Masks:
    """Draw an ellipse over the mouth."""
    canvas, place = _start(draws, size)
    place.ellipse(canvas, MOUTH, 0.165, 0.095)
    return canvas.fill()


@register_mask(_info("lower-face", "what a medical mask covers of an aligned face"), num_draws=3)
def draw_lower_face(draws: Raw, size: int) -> Masks:
    """Draw what a medical mask covers: from the bridge of the nose to the chin."""
    canvas, place = _start(draws, size)
    top, cheek, chin = NOSE[1] - 0.02, 0.80, 0.97
    upper = [(0.22, top), (0.5, top - 0.04), (0.78, top)]
    place.polygon(canvas, [*upper, (0.74, cheek), (0.6, chin), (0.4, chin), (0.26, cheek)])
    return canvas.fill()


@register_mask(_info("glasses", "both eyes and the bridge between them, as glasses cover them"), num_draws=3)
def draw_glasses(draws: Raw, size: int) -> Masks:
    """Draw an ellipse over each eye and the bridge between them."""
    canvas, place = _start(draws, size)
    for eye in (LEFT_EYE, RIGHT_EYE):
        place.ellipse(canvas, eye, 0.13, 0.1)
    left, right, y = LEFT_EYE[0], RIGHT_EYE[0], LEFT_EYE[1]
    place.polygon(canvas, [(left, y - 0.04), (right, y - 0.04), (right, y), (left, y)])
    return canvas.fill()
