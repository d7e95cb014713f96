"""The page on which people choose between two completions."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bench.cli import main
from reports.blind_page import BlindPageError, choose_pairs, render_blind_page
from reports.context import ReportContext
from reports.images import load_shown_images
from reports.results.experiment import load_experiment
from reports.results.title import write_title
from tests.reports.synthetic import make_experiment
from tests.reports.test_render import Elements


def content_of(page: Path) -> dict[str, Any]:
    found = re.search(
        r'<script type="application/json" id="content">(.*?)</script>', page.read_text("utf-8"), re.DOTALL
    )
    assert found is not None
    content: dict[str, Any] = json.loads(found[1])
    return content


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("blind")
    models = ("context-encoder", "glcic", "mgs-iim", "mean")
    return make_experiment(root / "runs", models=models, pictures=8, lpips=True)


def test_every_pair_of_trained_models_is_shown_equally_often(folder: Path, tmp_path: Path) -> None:
    content = content_of(render_blind_page(folder, tmp_path, num_pairs=12))
    assert content["labels"] == ["Context Encoder", "GLCIC", "MGS-IIM"]
    counts = Counter((a, b) for _, a, b in content["pairs"])
    assert set(counts.values()) == {4}
    assert len(counts) == 3
    for image, a, b in content["pairs"]:
        assert {a, b} <= set(content["images"][image]["completions"])
        assert len(content["images"][image]["scores"][a]) == len(content["metrics"]) == 3


def test_the_page_names_no_model_but_in_its_data(folder: Path, tmp_path: Path) -> None:
    page = Elements(render_blind_page(folder, tmp_path).read_text(encoding="utf-8"))
    assert page.wrong == []
    for label in ("Context Encoder", "GLCIC", "MGS-IIM"):
        assert label not in page.text
        assert label not in json.dumps([a for tag, a in page.found])


def test_the_same_experiment_gives_the_same_page(folder: Path, tmp_path: Path) -> None:
    one = render_blind_page(folder, tmp_path / "a").read_bytes()
    assert one == render_blind_page(folder, tmp_path / "b").read_bytes()


def test_half_of_the_pairs_are_such_that_metrics_disagree_where_there_are_enough(folder: Path) -> None:
    context = ReportContext(load_experiment(folder))
    sample = load_shown_images(context, "center")
    assert sample is not None
    # In the synthetic data every metric follows PSNR: let SSIM go the other way on half of the images.
    for scores in sample.scores.values():
        scores[::2, 1] *= -1
    pairs = choose_pairs({"center": sample}, 12)
    assert sum(pair.disagreement for pair in pairs) == 6


def test_nothing_to_choose_between_is_said(tmp_path: Path) -> None:
    lone = make_experiment(tmp_path / "runs", name="lone", models=("mgs-iim",), pictures=3)
    with pytest.raises(BlindPageError, match="only one model"):
        render_blind_page(lone, tmp_path / "page")
    bare = make_experiment(tmp_path / "runs", name="bare", models=("mgs-iim", "glcic"), pictures=0)
    with pytest.raises(BlindPageError, match="stored no images"):
        render_blind_page(bare, tmp_path / "page")
    assert not (tmp_path / "page").exists()


def test_text_of_the_data_cannot_end_the_script(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path / "runs", models=("mgs-iim", "glcic"), pictures=2)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["experiment"] = "</script><script>alert(1)</script>"
    path.write_text(json.dumps(manifest))
    page = render_blind_page(folder, tmp_path / "page")
    assert len(Elements(page.read_text(encoding="utf-8")).all("script")) == 3
    assert content_of(page)["experiment"] == "</script><script>alert(1)</script>"


@pytest.mark.long
def test_the_command_writes_it(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["report", str(folder), "--blind", "--title", "Ours"])
    assert stop.value.code == 0
    assert (tmp_path / "reports" / "synthetic" / "blind.html").is_file()
    assert "<h1>Ours</h1>" in (tmp_path / "reports" / "synthetic" / "index.html").read_text(encoding="utf-8")
    write_title(folder, "")
