"""Two experiments compared, and the reasons for not comparing them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from reports.results.experiment import Experiment, load_experiment
from reports.statistics.compare_experiments import ComparisonError, compare_experiments
from tests.reports.synthetic import make_experiment

METRICS = ["psnr_db", "ssim", "lpips_alex"]


def make(root: Path, name: str, **about: Any) -> Experiment:
    return load_experiment(
        make_experiment(root, name=name, pictures=0, **{"models": ("mgs-iim", "mean"), **about})
    )


def test_the_same_methods_are_paired_by_image(tmp_path: Path) -> None:
    a = make(tmp_path, "old", seeds=(0, 1, 2))
    b = make(tmp_path, "new", seeds=(0, 1, 2), means={"mgs-iim": 24.8}, models=("mgs-iim", "mean", "glcic"))
    found = compare_experiments(a, b, METRICS)
    line = found.differences.query("label == 'MGS-IIM' and metric == 'psnr_db'").iloc[0]
    assert line["difference"] == pytest.approx(-0.5, abs=1e-9)
    assert (line["a"], line["b"], line["verdict"]) == ("old", "new", "b better")
    assert "GLCIC on center (trained on center): only new has it" in found.refused
    assert any(r.startswith("metric lpips_alex: not available in old: the AlexNet") for r in found.refused)


def test_an_experiment_does_not_differ_from_itself(tmp_path: Path) -> None:
    a = make(tmp_path, "one", seeds=(0, 1, 2))
    differences = compare_experiments(a, a, ["psnr_db"]).differences
    assert (differences["difference"] == 0).all()
    assert set(differences["verdict"]) == {"inconclusive"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"procedural": False}, "evaluated different images"),
        ({"size": 160}, r"differ in size \(64 and 160\)"),
        ({"mask_digest": "cd"}, "mask center: different masks were drawn"),
        ({"masks": ("random-rect",)}, "mask center: only a has it; mask random-rect: only b has it"),
    ],
)
def test_what_is_not_paired_is_refused_with_the_reason(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ComparisonError, match=reason):
        compare_experiments(make(tmp_path, "a"), make(tmp_path, "b", **change), METRICS)


def test_other_metric_conventions_are_refused(tmp_path: Path) -> None:
    a = make(tmp_path, "a")
    folder = make_experiment(tmp_path, name="b", models=("mgs-iim", "mean"), pictures=0)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["metrics"]["ssim"]["convention"] = "uniform window of 7"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    found = compare_experiments(a, load_experiment(folder), METRICS)
    assert set(found.differences["metric"]) == {"psnr_db"}
    assert any("metric ssim: different conventions" in r for r in found.refused)


@pytest.mark.parametrize("column", ["seed", "image_id", "hole_ratio", "identical", "label"])
def test_columns_that_are_no_metrics_are_lacked(tmp_path: Path, column: str) -> None:
    a = make(tmp_path, "a")
    with pytest.raises(ComparisonError, match=f"metric {column}: a lacks it"):
        compare_experiments(a, a, [column])


def test_other_people_for_the_same_images_are_said(tmp_path: Path) -> None:
    before = make(tmp_path, "before")
    after = replace(before, name="after", rows=before.rows.assign(identity=before.rows["identity"] // 2))
    (note,) = compare_experiments(before, after, METRICS).notes
    assert note.startswith("rows of before and after name different people for the same images")
    assert note.endswith("intervals are over the people of before")
    assert compare_experiments(before, before, METRICS).notes == []
