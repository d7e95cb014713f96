"""Folders and images whose names are not UTF-8, from the data to the overview."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from bench.cli import main
from bench.data.procedural_faces import render_faces
from bench.experiments import list_experiments
from reports.index_page import render_index
from tests.reports.synthetic import make_experiment

pytestmark = pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")


def test_a_run_on_names_that_are_not_utf8_ends_well_and_harms_no_other(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = workplace / os.fsdecode(b"bilder-\xfc")
    folder.mkdir()
    for i, face in enumerate(render_faces(list(range(60)), 40)):
        Image.fromarray(face).save(folder / os.fsdecode(b"gr\xf6\xdfe-%d.png" % i))
    for _ in range(2):  # the second time, the first experiment lies in the overview
        with pytest.raises(SystemExit) as stop:
            main(["run", "--models", "mean", "--data", str(folder), "--size", "32", "--name", "odd"])
        assert stop.value.code == 0
    manifest = json.loads((workplace / "runs" / "odd" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["data"]["title"] == "Folder bilder-%FC"
    assert manifest["data"]["source"] == str(workplace / "bilder-%FC")
    json.dumps(manifest, ensure_ascii=False).encode("utf-8")
    assert "bilder-%FC" in (workplace / "reports" / "index.html").read_text(encoding="utf-8")
    capsys.readouterr()


@pytest.mark.parametrize("odd", ["caf\udce9", "\ud800"])
def test_one_experiment_with_an_odd_name_does_not_break_the_overview(tmp_path: Path, odd: str) -> None:
    runs = tmp_path / "runs"
    folder = make_experiment(runs, models=("mean",), pictures=0)
    other = runs / "other"
    shutil.copytree(folder, other)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["data"]["title"] = odd
    manifest.pop("sha256", None)
    path.write_text(json.dumps(manifest), encoding="utf-8")
    page = render_index(list_experiments(runs), tmp_path / "reports").read_text(encoding="utf-8")
    assert odd.encode("utf-8", "backslashreplace").decode() in page
    assert "other" in page


def test_an_experiment_that_cannot_be_shown_is_a_line_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    make_experiment(runs, models=("mean",), pictures=0)

    def fail(manifest: object) -> None:
        raise RuntimeError("not foreseen")

    monkeypatch.setattr("reports.index_page._from_numbers", fail)
    page = render_index(list_experiments(runs), tmp_path / "reports").read_text(encoding="utf-8")
    assert "RuntimeError: not foreseen" in page
