"""The list of experiments."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from markupsafe import escape

from bench.experiments import list_experiments
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
    text = render_index(list_experiments(runs), reports).read_text(encoding="utf-8")
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
    text = render_index(list_experiments(tmp_path / "runs"), tmp_path / "reports").read_text(encoding="utf-8")
    assert "Not readable" in text
    assert "broken" in text


def test_lines_are_kept_until_the_manifest_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, reports = tmp_path / "runs", tmp_path / "reports"
    for name in ("a", "b"):
        make_experiment(runs, name=name, models=("mgs-iim", "mean"), pictures=0)
    first = render_index(list_experiments(runs), reports).read_bytes()
    made: list[str] = []
    original = index_page.make_entry

    def note(folder: Path) -> index_page.IndexEntry:
        made.append(folder.name)
        return original(folder)

    monkeypatch.setattr(index_page, "make_entry", note)
    assert render_index(list_experiments(runs), reports).read_bytes() == first
    assert made == []
    text = (runs / "b" / "manifest.json").read_text()
    (runs / "b" / "manifest.json").write_text(
        text.replace("CelebA", "Celeb-A").replace("Procedural faces", "Drawn")
    )
    assert "Drawn" in render_index(list_experiments(runs), reports).read_text(encoding="utf-8")
    assert made == ["b"]
    (reports / index_page.CACHE).write_text("{not json")
    assert "Drawn" in render_index(list_experiments(runs), reports).read_text(encoding="utf-8")
    assert made == ["b", "a", "b"]


CACHE_EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "a headline": lambda kept: kept["entry"].update(headline="Context Encoder is highest with 99 dB."),
    "a mean": lambda kept: kept["entry"].update(best=99.0),
    "a count": lambda kept: kept["entry"].update(failed=7),
    "a data set": lambda kept: kept["entry"].update(data="CelebA-HQ"),
    "of another manifest": lambda kept: kept.update(signature="ab" * 32),
}


@pytest.mark.parametrize("edit", CACHE_EDITS.values(), ids=list(CACHE_EDITS))
def test_an_edited_line_is_never_shown(tmp_path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    runs, reports = tmp_path / "runs", tmp_path / "reports"
    make_experiment(runs, name="a", models=("mgs-iim", "mean"), pictures=0)
    first = render_index(list_experiments(runs), reports).read_bytes()
    cache = reports / index_page.CACHE
    content = json.loads(cache.read_text())
    edit(content["entries"]["a"])
    cache.write_text(json.dumps(content))
    assert render_index(list_experiments(runs), reports).read_bytes() == first


@pytest.mark.parametrize("sealed", [True, False])
def test_lines_of_other_experiments_or_versions_are_never_shown(tmp_path: Path, sealed: bool) -> None:
    """A whole cache that was made elsewhere, for experiments of the same names."""
    for place, data in (("here", True), ("there", False)):
        make_experiment(tmp_path / place / "runs", name="a", models=("mgs-iim",), procedural=data, pictures=0)
        render_index(list_experiments(tmp_path / place / "runs"), tmp_path / place / "reports")
    here, there = (tmp_path / place / "reports" / index_page.CACHE for place in ("here", "there"))
    first = (here.parent / "index.html").read_bytes()
    content = json.loads(there.read_text())
    if not sealed:  # as an earlier version kept it, by the time and size of the manifest
        stat = (tmp_path / "here/runs/a/manifest.json").stat()
        content["entries"]["a"]["signature"] = f"{stat.st_mtime_ns} {stat.st_size} {stat.st_ino}"
        content["version"] = 2
        del content["sha256"]
    here.write_text(json.dumps(content))
    assert render_index(list_experiments(tmp_path / "here/runs"), here.parent).read_bytes() == first


def test_a_manifest_edited_in_place_has_another_line_whatever_its_time(tmp_path: Path) -> None:
    runs, reports = tmp_path / "runs", tmp_path / "reports"
    path = make_experiment(runs, name="a", models=("mgs-iim",), pictures=0) / "manifest.json"
    render_index(list_experiments(runs), reports)
    stat = path.stat()
    text = path.read_text().replace("Procedural faces", "Procedural hands")
    with path.open("r+") as file:
        file.write(text)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_ino) == (stat.st_size, stat.st_ino)
    assert "Procedural hands" in render_index(list_experiments(runs), reports).read_text(encoding="utf-8")


def test_a_problem_that_is_gone_is_not_kept(tmp_path: Path) -> None:
    runs, reports = tmp_path / "runs", tmp_path / "reports"
    folder = make_experiment(runs, name="a", models=("glcic", "mgs-iim"), seeds=(0, 1, 2), pictures=0)
    first = render_index(list_experiments(runs), reports).read_bytes()
    (reports / index_page.CACHE).unlink()
    results = next(folder.glob("cells/*/results.parquet"))
    hidden = results.rename(results.with_name("hidden"))
    assert "Not readable" in render_index(list_experiments(runs), reports).read_text(encoding="utf-8")
    hidden.rename(results)
    assert render_index(list_experiments(runs), reports).read_bytes() == first


def _keep_numbers(folder: Path) -> None:
    """Put means into the manifest, as a run does, so that a line is made without reading rows."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for cell in manifest["cells"]:
        rows = read_rows(folder / cell["folder"] / "results.parquet")
        cell["evaluation"]["numbers"] = cell_numbers(rows)
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_a_headline_from_the_manifest_says_what_the_rows_say(tmp_path: Path, seeds: tuple[int, ...]) -> None:
    folder = make_experiment(tmp_path, models=("glcic", "mgs-iim", "mean"), seeds=seeds, pictures=0)
    from_rows = index_page.make_entry(folder).headline
    _keep_numbers(folder)
    entry = index_page.make_entry(folder)
    assert entry.headline == from_rows
    assert entry.problem == ""
    assert ("noise" in entry.headline) == (len(seeds) < 3)


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_a_headline_says_where_a_baseline_is_above_every_model(
    tmp_path: Path, seeds: tuple[int, ...]
) -> None:
    """From rows and from the manifest alike."""
    means = {"glcic": 23.0, "mgs-iim": 24.0, "mean": 30.0}
    folder = make_experiment(tmp_path, models=tuple(means), means=means, seeds=seeds, pictures=0)
    from_rows = index_page.make_entry(folder).headline
    _keep_numbers(folder)
    assert from_rows.startswith("MGS-IIM ")
    assert re.search(r" The baseline Mean pixel is above it with \d\d\.\d\d dB\.$", from_rows)
    assert index_page.make_entry(folder).headline == from_rows


def test_experiments_and_their_pages_lead_to_each_other(tmp_path: Path) -> None:
    runs, reports = tmp_path / "runs", tmp_path / "reports"
    folder = make_experiment(runs, models=("mean",), pictures=0)
    page = render_report(folder, reports / folder.name)
    index = render_index(list_experiments(runs), reports)
    assert 'href="../index.html"' in page.read_text(encoding="utf-8")
    assert 'href="synthetic/index.html"' in index.read_text(encoding="utf-8")


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
@pytest.mark.parametrize(
    "name", [b"caf\xe9", b"\x83e\x83X\x83g", "über 100%?#".encode(), b"a&b\"<c>'", b"x:y", b"\x1b[2J\n\xff"]
)
def test_every_link_leads_to_its_page_whatever_the_folder_is_called(tmp_path: Path, name: bytes) -> None:
    runs, reports = tmp_path / "runs", tmp_path / "reports"
    folder = make_experiment(runs, models=("mean",), pictures=0)
    pages = {b"synthetic", name, b"compare/" + name, b"compare/a+b"}
    shutil.copytree(folder, runs / os.fsdecode(name))
    for page in pages:
        place = reports / os.fsdecode(page)
        place.mkdir(parents=True)
        (place / "index.html").write_bytes(b"<title>A title \xc2\xb7 x</title>")
    # A folder that is no experiment, and one that is only that.
    (reports / os.fsdecode(b"stray\xe9")).mkdir()
    shutil.copytree(folder, runs / os.fsdecode(name + b"2"))
    for _ in range(2):  # the second time, lines are kept ones
        text = render_index(list_experiments(runs), reports).read_text(encoding="utf-8")
        links = {unquote_to_bytes(link) for link in re.findall(r'href="([^"#]+/index\.html)"', text)}
        assert links == {page + b"/index.html" for page in pages}
        assert all((reports / os.fsdecode(link)).is_file() for link in links)
        shown = os.fsdecode(name).encode("utf-8", "backslashreplace").decode()
        assert str(escape(f"bench report {shown}2")) in text


def test_no_experiments_is_said(tmp_path: Path) -> None:
    text = render_index(list_experiments(tmp_path / "runs"), tmp_path / "reports").read_text(encoding="utf-8")
    assert "There is none yet" in text


def test_models_stand_in_the_order_of_every_table(tmp_path: Path) -> None:
    folder = make_experiment(
        tmp_path / "runs", models=("mgs-iim", "my-own", "mgs-iim-no-gate", "glcic"), pictures=0
    )
    assert index_page.make_entry(folder).models == ["GLCIC", "MGS-IIM", "MGS-IIM, no gates", "my-own"]
