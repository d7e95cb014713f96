"""The span rasteriser against a test of every pixel's centre, one at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masks.raster import Canvas, rasterize_boxes, unit_direction

SIZE = 24
CENTRES = np.arange(SIZE) + 0.5
Y, X = np.meshgrid(CENTRES, CENTRES, indexing="ij")
coordinate = st.floats(-8, SIZE + 8).map(lambda v: round(v, 3))
length = st.floats(0.3, 12).map(lambda v: round(v, 3))
ONE = np.array([0])


def column(*values: float) -> list[np.ndarray]:
    return [np.array([v], dtype=np.float64) for v in values]


def differs_beyond_rounding(mask: np.ndarray, signed: np.ndarray) -> bool:
    """Whether a pixel is wrong although its centre is clearly inside or outside."""
    clear = np.abs(signed) > 1e-9
    return bool((mask.astype(bool) != (signed < 0))[clear].any())


@given(y=coordinate, x=coordinate, ry=length, rx=length)
@settings(deadline=None, max_examples=100)
def test_ellipse(y: float, x: float, ry: float, rx: float) -> None:
    canvas = Canvas(1, SIZE)
    canvas.ellipses(ONE, *column(y, x, ry, rx))
    assert not differs_beyond_rounding(canvas.fill()[0], ((Y - y) / ry) ** 2 + ((X - x) / rx) ** 2 - 1)


@given(y0=coordinate, x0=coordinate, y1=coordinate, x1=coordinate, radius=length)
@settings(deadline=None, max_examples=100)
def test_capsule(y0: float, x0: float, y1: float, x1: float, radius: float) -> None:
    canvas = Canvas(1, SIZE)
    canvas.capsules(ONE, *column(y0, x0, y1, x1, radius))
    dy, dx = y1 - y0, x1 - x0
    squared = dy * dy + dx * dx
    along = np.clip(((Y - y0) * dy + (X - x0) * dx) / squared, 0, 1) if squared else 0 * Y
    distance = np.sqrt((Y - y0 - along * dy) ** 2 + (X - x0 - along * dx) ** 2)
    assert not differs_beyond_rounding(canvas.fill()[0], (distance - radius))


@given(corners=st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=3))
@settings(deadline=None, max_examples=100)
def test_triangle(corners: list[tuple[float, float]]) -> None:
    y, x = np.array([c[0] for c in corners]), np.array([c[1] for c in corners])
    area = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
    if abs(area) < 1e-3:
        return
    canvas = Canvas(1, SIZE)
    canvas.polygons(ONE, y[None], x[None])
    sides = []
    for i in range(3):
        j = (i + 1) % 3
        cross = (x[j] - x[i]) * (Y - y[i]) - (X - x[i]) * (y[j] - y[i])
        sides.append(-cross * np.sign(area))
    assert not differs_beyond_rounding(canvas.fill()[0], np.max(sides, axis=0))


@given(top=st.integers(-4, 24), left=st.integers(-4, 24), height=st.integers(0, 12), width=st.integers(0, 12))
@settings(deadline=None, max_examples=50)
def test_boxes_both_ways(top: int, left: int, height: int, width: int) -> None:
    expected = np.zeros((SIZE, SIZE), dtype=np.uint8)
    expected[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)] = 1
    values = [np.array([v]) for v in (top, left, height, width)]
    canvas = Canvas(1, SIZE)
    canvas.boxes(ONE, *values)
    assert np.array_equal(canvas.fill()[0], expected)
    assert np.array_equal(rasterize_boxes(SIZE, *values)[0], expected)


def test_shapes_of_one_mask_do_not_leak_into_the_next() -> None:
    canvas = Canvas(3, SIZE)
    canvas.ellipses(np.array([1]), *column(12, 30, 6, 9))  # reaches beyond the right edge
    masks = canvas.fill()
    assert masks[1].any()
    assert not masks[0].any()
    assert not masks[2].any()


@pytest.mark.parametrize("degrees", range(-360, 720, 7))
def test_directions_are_cosine_and_sine(degrees: int) -> None:
    dx, dy = unit_direction(np.array([degrees]))
    assert dx[0] == pytest.approx(np.cos(np.radians(degrees)), abs=2**-15)
    assert dy[0] == pytest.approx(np.sin(np.radians(degrees)), abs=2**-15)
