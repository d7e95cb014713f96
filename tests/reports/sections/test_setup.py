"""What the section about the setup reads from a manifest."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from reports.sections.setup import _ambiguities


@pytest.mark.parametrize("key", ["ambiguities", "resolutions"], ids=["new", "earlier versions"])
def test_ambiguities_are_read_under_both_names(key: str) -> None:
    gap = {"topic": "slope", "published": "not given", "resolved": "0.2", "field": "", "deviation": False}
    page: Any = SimpleNamespace(methods=[SimpleNamespace(label="GLCIC", cells=[{key: [gap]}])])
    assert _ambiguities(page, deviation=False) == [("GLCIC", [gap])]
    assert _ambiguities(page, deviation=True) == []
