"""The page of two and more experiments."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.cli.console import method_means
from bench.experiments import list_experiments
from reports.comparison_page import compare_all_pairs, render_comparison
from reports.index_page import render_index
from reports.leaderboard import leaderboard_rows
from reports.results.experiment import Experiment, load_experiment
from reports.statistics.compare_experiments import ComparisonError
from tests.reports.synthetic import make_experiment
from tests.reports.test_render import HOSTILE, Elements

METRICS = ["psnr_db", "ssim", "lpips_alex"]


def make(root: Path, name: str, **about: Any) -> Experiment:
    models = {"models": ("mgs-iim", "mean"), "seeds": (0, 1, 2), "pictures": 0}
    return load_experiment(make_experiment(root, name=name, **{**models, **about}))


def rendered(folder: Path, *experiments: Experiment) -> Elements:
    page = render_comparison(experiments, compare_all_pairs(experiments, METRICS), folder)
    return Elements(page.read_text(encoding="utf-8"))


def test_three_experiments_are_told_apart_in_words_tables_and_figures(tmp_path: Path) -> None:
    old = make(tmp_path, "old", masks=("center", "shapes"))
    new = make(tmp_path, "new", masks=("center", "shapes"), means={"mgs-iim": 24.8})
    same = make(tmp_path, "same", models=("mgs-iim",))
    page = rendered(tmp_path / "page", old, new, same)
    assert page.wrong == []
    assert page.open == []
    assert "In PSNR, old is better in 0 of 4 pairs, new in 2, and 2 are undecided" in page.text
    assert "−0.50" in page.text
    assert "mask shapes: only old has it" in page.text
    assert "metric lpips_alex: not available in old" in page.text
    drawings = [a for a in page.all("div") if a.get("role") == "img"]
    assert len(drawings) == 2 * 2 + 2, "a figure for each mask and metric of each pair"


def test_a_list_of_people_that_changed_in_between_is_said(tmp_path: Path) -> None:
    old = make(tmp_path, "old")
    new = replace(old, name="new", rows=old.rows.assign(identity=old.rows["identity"] // 2))
    assert (
        "rows of old and new name different people for the same images"
        in rendered(tmp_path / "page", old, new).text
    )


def test_methods_stand_in_the_order_of_every_table(tmp_path: Path) -> None:
    given = ("mean", "mgs-iim-no-gate", "mgs-iim", "context-encoder")
    wanted = ["Context Encoder", "MGS-IIM", "MGS-IIM, no gates", "Mean pixel"]
    old, new = (make(tmp_path, name, models=given, seeds=(0,)) for name in ("old", "new"))
    page = render_comparison([old, new], compare_all_pairs([old, new], ["psnr_db"]), tmp_path / "page")
    text = page.read_text(encoding="utf-8")
    assert re.findall(r'<th scope="row"><span class="name">.*?</svg>(.*?)</span>', text) == wanted
    assert [row.model for row in leaderboard_rows(old)] == wanted
    assert [entry["method"] for entry in method_means(old)[0]] == wanted


def test_masks_of_the_leaderboard_stand_in_the_order_given(tmp_path: Path) -> None:
    rows = leaderboard_rows(make(tmp_path, "one", masks=("shapes", "center", "freeform"), seeds=(0,)))
    assert list(dict.fromkeys(row.mask for row in rows)) == ["shapes", "center", "freeform"]


def test_baselines_are_not_said_to_be_trained(tmp_path: Path) -> None:
    old, new = make(tmp_path, "old"), make(tmp_path, "new", models=("mgs-iim", "biharmonic"))
    page = rendered(tmp_path / "page", old, new)
    assert "Biharmonic on center: only new has it" in page.text
    assert "trained on -" not in page.text


def test_what_differs_in_the_set_up_is_shown_and_nothing_else(tmp_path: Path) -> None:
    old, new = make(tmp_path, "old"), make(tmp_path, "new", images_seen=3200)
    page = rendered(tmp_path / "page", old, new)
    assert "settings: images seen 1600 3200" in page.text
    assert "settings: size" not in page.text
    assert "In nothing that is recorded." in rendered(tmp_path / "same", old, make(tmp_path, "copy")).text


def test_an_experiment_on_other_images_is_refused_beside_those_that_can_be_compared(tmp_path: Path) -> None:
    a, b, other = make(tmp_path, "a"), make(tmp_path, "b"), make(tmp_path, "c", procedural=False)
    page = rendered(tmp_path / "page", a, b, other)
    assert "a \u2212 c" in page.text
    assert "a and c evaluated different images" in page.text
    assert "In PSNR, a is better in 0 of 2 pairs" in page.text
    with pytest.raises(ComparisonError, match="evaluated different images"):
        compare_all_pairs([a, other], METRICS)


def test_the_list_of_experiments_leads_to_the_page(tmp_path: Path) -> None:
    runs, reports = tmp_path / "runs", tmp_path / "reports"
    a, b = make(runs, "a"), make(runs, "b & co")
    rendered(reports / "compare" / "a+b", a, b)
    index = Elements(render_index(list_experiments(runs), reports).read_text(encoding="utf-8"))
    assert "compare/a%2Bb/index.html" in [link.get("href") for link in index.all("a")]
    assert "a compared with b & co" in index.text


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    make(tmp_path, "a"), make(tmp_path, "b")
    path = tmp_path / "b" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["experiment"] = manifest["settings"]["split"] = manifest["hardware"]["cpu"] = HOSTILE
    path.write_text(json.dumps(manifest))
    page = rendered(tmp_path / "page", load_experiment(tmp_path / "a"), load_experiment(tmp_path / "b"))
    assert len(page.all("script")) == 2
    assert page.all("b") == []
    assert page.wrong == []
    assert page.text.count(" ".join(HOSTILE.split())) >= 4
