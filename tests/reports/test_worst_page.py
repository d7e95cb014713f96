"""The page of the worst completions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reports.context import ReportContext
from reports.render import render_report
from reports.results.experiment import load_experiment
from reports.results.schema import read_rows, write_rows
from reports.statistics.worst_images import contrast_traits, worst_images
from reports.worst_page import render_worst_page
from tests.reports.synthetic import make_experiment
from tests.reports.test_render import Elements


def _with_holes(folder: Path) -> None:
    """Make holes differ, and every image with a large one worse; some persons are not in training."""
    for path in folder.glob("cells/*/results.parquet"):
        rows = read_rows(path)
        large = np.arange(len(rows)) % 10 == 0
        ratio = np.where(large, 0.5, 0.2) + np.arange(len(rows)) / 1e4
        write_rows(rows.assign(hole_ratio=ratio, psnr_db=rows["psnr_db"] - 15 * large), path)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["data"]["unseen_identities"] = list(range(0, 60, 3))
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Elements:
    root = tmp_path_factory.mktemp("worst")
    folder = make_experiment(
        root / "runs", models=("mgs-iim", "glcic", "mean"), images=120, pictures=8, procedural=False
    )
    _with_holes(folder)
    path = render_worst_page(ReportContext(load_experiment(folder)), root / "page")
    assert path is not None
    return Elements(path.read_text(encoding="utf-8"))


def test_the_table_finds_what_was_put_into_the_data(page: Elements) -> None:
    assert page.wrong == []
    assert "What the 12 worst of its 120 images have in common" in page.text
    hole = page.text[page.text.index("area of the hole") :][:120]
    assert hole.startswith("area of the hole 50.")
    assert "differs" in hole
    persons = page.text[page.text.index("share of persons not seen in training") :][:120]
    assert "undecided" in persons


def test_each_trained_model_has_its_worst_images_first_with_what_is_known_of_them(page: Elements) -> None:
    headings = [" ".join(page.text.split())]
    assert "GLCIC" in headings[0]
    assert "Mean pixel on the mask" not in page.text, "baselines have no section"
    rows = page.all("article")
    assert len(rows) == 2 * 5
    assert rows[0]["aria-label"] == "000000.png", "the one image of the sample with a large hole"
    assert "hole 50 %" in page.text
    assert "person not seen in training" in page.text
    assert "Pass this page on only as those terms allow" in page.text


def test_the_report_leads_to_it_and_without_images_there_is_none(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path / "runs", models=("mgs-iim", "mean"), pictures=3)
    text = render_report(folder, tmp_path / "page").read_text(encoding="utf-8")
    assert '<a href="worst.html">' in text
    assert (tmp_path / "page" / "worst.html").is_file()
    text = render_report(folder, tmp_path / "page", pictures=False).read_text(encoding="utf-8")
    assert "worst.html" not in text
    assert not (tmp_path / "page" / "worst.html").exists(), "images that were to be left out do not stay"


def test_each_mask_is_explained_by_its_own_holes(tmp_path: Path) -> None:
    folder = make_experiment(
        tmp_path / "runs", models=("mgs-iim", "mean"), masks=("center", "shapes"), images=40
    )
    manifest = json.loads((folder / "manifest.json").read_text())
    for cell in manifest["cells"]:
        path = folder / cell["folder"] / "results.parquet"
        rows = read_rows(path)
        by_image = 0.1 + np.arange(len(rows)) / 100
        write_rows(rows.assign(hole_ratio=0.25 if cell["mask"] == "center" else by_image), path)
    path = render_worst_page(ReportContext(load_experiment(folder)), tmp_path / "page")
    assert path is not None
    text = Elements(path.read_text(encoding="utf-8")).text
    assert text.count("Every hole covers 25.0 % of its image.") == 1, "that is true of the center mask alone"
    assert text.count("area of the hole") == 1, "the other mask's holes differ, and are compared"


@pytest.mark.parametrize(
    ("unseen", "says"),
    [
        (None, "Which of these persons were seen in training is not known."),
        ([], "Every one of these persons was seen in training."),
        (range(1000), "None of these persons was seen in training."),
    ],
)
def test_people_who_are_all_alike_are_said_to_be(
    tmp_path: Path, unseen: Sequence[int] | None, says: str
) -> None:
    folder = make_experiment(tmp_path / "runs", models=("mgs-iim", "mean"), procedural=False, pictures=2)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["data"]["unseen_identities"] = None if unseen is None else list(unseen)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    path = render_worst_page(ReportContext(load_experiment(folder)), tmp_path / "page")
    assert path is not None
    page = Elements(path.read_text(encoding="utf-8"))
    assert says in page.text
    assert page.text.count("seen in training") == 1 + (0 if unseen is None else 2)


def test_worst_images_follow_the_direction_of_the_metric() -> None:
    scores = np.arange(20.0)
    assert np.flatnonzero(worst_images(scores, higher_is_better=True)).tolist() == [0, 1]
    assert np.flatnonzero(worst_images(scores, higher_is_better=False)).tolist() == [18, 19]


def test_the_interval_of_a_contrast_covers_nothing_where_there_is_nothing() -> None:
    rng = np.random.default_rng(0)
    misses = 0
    for _ in range(60):
        traits = pd.DataFrame({"noise": rng.normal(size=200)})
        worst = worst_images(rng.normal(size=200), higher_is_better=True)
        (found,) = contrast_traits(traits, worst, np.arange(200), resamples=400)
        misses += not found.low <= 0 <= found.high
    assert misses <= 9, "95 % intervals of a difference that is zero"
