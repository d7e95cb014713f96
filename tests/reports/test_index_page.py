"""The list of experiments."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from reports import index_page
from reports.index_page import render_index
from reports.render import render_report
from reports.results.schema import cell_numbers, read_rows
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
    assert text.index("newer/index.html") < text.index("bench report older")
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


def test_lines_are_kept_until_the_manifest_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, reports = tmp_path / "runs", tmp_path / "reports"
    for name in ("a", "b"):
        make_experiment(runs, name=name, models=("mgs-iim", "mean"), pictures=0)
    first = render_index(runs, reports).read_bytes()
    made: list[str] = []
    original = index_page.make_entry

    def note(folder: Path) -> index_page.IndexEntry:
        made.append(folder.name)
        return original(folder)

    monkeypatch.setattr(index_page, "make_entry", note)
    assert render_index(runs, reports).read_bytes() == first
    assert made == []
    text = (runs / "b" / "manifest.json").read_text()
    (runs / "b" / "manifest.json").write_text(
        text.replace("CelebA", "Celeb-A").replace("Procedural faces", "Drawn")
    )
    assert "Drawn" in render_index(runs, reports).read_text(encoding="utf-8")
    assert made == ["b"]
    (reports / index_page.CACHE).write_text("{not json")
    assert "Drawn" in render_index(runs, reports).read_text(encoding="utf-8")
    assert made == ["b", "a", "b"]


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_a_headline_from_the_manifest_says_what_the_rows_say(tmp_path: Path, seeds: tuple[int, ...]) -> None:
    folder = make_experiment(tmp_path, models=("glcic", "mgs-iim", "mean"), seeds=seeds, pictures=0)
    from_rows = index_page.make_entry(folder).headline
    manifest = json.loads((folder / "manifest.json").read_text())
    for cell in manifest["cells"]:
        rows = read_rows(folder / cell["folder"] / "results.parquet")
        cell["evaluation"]["numbers"] = cell_numbers(rows)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    entry = index_page.make_entry(folder)
    assert entry.headline == from_rows
    assert entry.problem == ""
    assert ("noise" in entry.headline) == (len(seeds) < 3)


def test_experiments_and_their_pages_lead_to_each_other(tmp_path: Path) -> None:
    runs, reports = tmp_path / "runs", tmp_path / "reports"
    folder = make_experiment(runs, models=("mean",), pictures=0)
    page = render_report(folder, reports / folder.name)
    index = render_index(runs, reports)
    assert 'href="../index.html"' in page.read_text(encoding="utf-8")
    assert 'href="synthetic/index.html"' in index.read_text(encoding="utf-8")


def test_no_experiments_is_said(tmp_path: Path) -> None:
    text = render_index(tmp_path / "runs", tmp_path / "reports").read_text(encoding="utf-8")
    assert "There is none yet" in text


def test_models_stand_in_the_order_of_every_table(tmp_path: Path) -> None:
    folder = make_experiment(
        tmp_path / "runs", models=("mgs-iim", "my-own", "mgs-iim-no-gate", "glcic"), pictures=0
    )
    assert index_page.make_entry(folder).models == ["GLCIC", "MGS-IIM", "MGS-IIM, no gates", "my-own"]
