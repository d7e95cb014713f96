"""What the section about the setup reads from a manifest."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from reports.render import render_report
from reports.sections.setup import _ambiguities
from tests.reports.synthetic import make_experiment


@pytest.mark.parametrize("key", ["ambiguities", "resolutions"], ids=["new", "earlier versions"])
def test_ambiguities_are_read_under_both_names(key: str) -> None:
    gap = {"topic": "slope", "published": "not given", "resolved": "0.2", "field": "", "deviation": False}
    page: Any = SimpleNamespace(methods=[SimpleNamespace(label="GLCIC", cells=[{key: [gap]}])])
    assert _ambiguities(page, deviation=False) == [("GLCIC", [gap])]
    assert _ambiguities(page, deviation=True) == []


@pytest.mark.usefixtures("no_drawings")
def test_what_of_a_folder_of_masks_is_not_used_stands_beside_its_summary(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path, models=("mean",), pictures=0)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["masks"]["center"] |= {"summary": "mask images", "notes": ["left out: <i>.png (hidden)", "more"]}
    path.write_text(json.dumps(manifest))
    page = render_report(folder, tmp_path / "page").read_text(encoding="utf-8")
    assert "mask images; left out: &lt;i&gt;.png (hidden); more</td>" in page
