"""The list of experiments."""

from __future__ import annotations

import json
from pathlib import Path

from reports.index_page import render_index
from reports.render import render_report
from tests.reports.synthetic import make_experiment


def test_experiments_are_listed_newest_first_with_headline_and_link(tmp_path: Path) -> None:
    runs, reports = tmp_path / "runs", tmp_path / "reports"
    old = make_experiment(runs, name="older", models=("mean",), pictures=0)
    new = make_experiment(
        runs, name="newer", models=("glcic", "mgs-iim", "mean"), failed=("glcic",), pictures=0
    )
    for folder, year in ((old, 2020), (new, 2030)):
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["updated"] = f"{year}-01-01T00:00:00Z"
        (folder / "manifest.json").write_text(json.dumps(manifest))
    render_report(new, reports / "newer")
    text = render_index(runs, reports).read_text(encoding="utf-8")
    assert text.index("newer") < text.index("older")
    assert 'href="newer/index.html"' in text
    assert 'href="older/index.html"' not in text
    assert "bench report older" in text
    assert "MGS-IIM has" in text
    assert "1 failed" in text
    assert "Mean pixel is the best baseline" in text


def test_an_unreadable_experiment_is_listed_with_the_reason(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "broken"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{")
    text = render_index(tmp_path / "runs", tmp_path / "reports").read_text(encoding="utf-8")
    assert "Not readable" in text
    assert "broken" in text


def test_no_experiments_is_said(tmp_path: Path) -> None:
    text = render_index(tmp_path / "runs", tmp_path / "reports").read_text(encoding="utf-8")
    assert "There is none yet" in text
