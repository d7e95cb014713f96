"""What the tests of ``bench`` have in common."""

from __future__ import annotations

import pytest


@pytest.fixture
def drawings() -> None:
    """For tests whose pages have their figures."""


@pytest.fixture(autouse=True)
def _no_drawings_unless_asked(request: pytest.FixtureRequest) -> None:
    if "drawings" not in request.fixturenames:
        request.getfixturevalue("no_drawings")
