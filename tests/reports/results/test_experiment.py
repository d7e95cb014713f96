"""An experiment's folder read back, and the errors for what is not one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.report import write_experiment
from reports.results.experiment import ExperimentError, load_experiment
from tests.reports.synthetic import make_experiment


def test_rows_of_finished_cells_only_in_the_manifests_order(tmp_path: Path) -> None:
    folder = make_experiment(
        tmp_path,
        models=("glcic", "mgs-iim", "mean"),
        seeds=(0, 1),
        images=8,
        failed=["glcic"],
        masks=("center", "rect"),
    )
    experiment = load_experiment(folder)
    assert experiment.name == "synthetic"
    assert experiment.masks == ["center", "rect"]
    assert set(experiment.rows["model"]) == {"mgs-iim", "mean"}
    assert len(experiment.rows) == 8 * (2 * 2 + 2)
    assert len(experiment.cells) == 2 * (2 + 2 + 1)
    assert experiment.higher_is_better == {
        "psnr_db": True, "ssim": True, "lpips_alex": False, "hole_psnr_db": True, "hole_mae": False
    }  # fmt: skip


def test_nothing_finished_gives_an_empty_table(tmp_path: Path) -> None:
    experiment = load_experiment(make_experiment(tmp_path, models=("glcic",), failed=["glcic"]))
    assert experiment.rows.empty
    assert {"model", "psnr_db"} <= set(experiment.rows.columns)
    assert experiment.curves.empty


def test_curves_count_the_last_of_repeated_steps_and_forgive_a_cut_line(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path, models=("mgs-iim",))
    log = next(folder.glob("trainings/*/train.jsonl"))
    again = {
        "step": 20,
        "phase": "joint",
        "images_seen": 320,
        "seconds": 9.0,
        "terms": {"generator/loss": 7.0},
    }
    log.write_text(log.read_text() + json.dumps(again) + "\n" + '{"step": 110, "ph')
    curves = load_experiment(folder).curves
    losses = curves[curves["term"] == "generator/loss"]
    assert list(losses["step"]) == list(range(10, 101, 10))
    assert losses.set_index("step")["value"][20] == 7.0
    assert losses.set_index("step")["value"][30] == pytest.approx(1 / 30)
    validation = curves[curves["kind"] == "validation"]
    assert validation[["step", "value"]].to_numpy().tolist() == [[50, 21.0], [100, 22.0]]


def test_a_damaged_line_within_a_log_is_named(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path, models=("mgs-iim",))
    log = next(folder.glob("trainings/*/train.jsonl"))
    lines = log.read_text().splitlines()
    log.write_text("\n".join([lines[0], "garbage", *lines[1:]]))
    with pytest.raises(ExperimentError, match=r"train\.jsonl: line 2 is damaged"):
        load_experiment(folder)


def test_pictures_are_aligned_and_known_pixels_are_the_truth(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path, models=("mgs-iim", "mean"), pictures=5)
    kept = folder / "cells" / "mean-center-seed0" / "pictures.npz"
    with np.load(kept) as archive:
        ids, composite = archive["ids"][::-1], archive["composite"][::-1]
    np.savez_compressed(kept, ids=ids, composite=composite)
    pictures = load_experiment(folder).pictures("center")
    assert pictures is not None
    assert pictures.image.shape == (5, 64, 64, 3)
    assert list(pictures.composites) == ["mgs-iim-center-seed0", "mean-center-seed0"]
    for composite in pictures.composites.values():
        known = pictures.mask == 0
        np.testing.assert_array_equal(composite[known], pictures.image[known])


def test_no_pictures_is_no_error_and_damaged_ones_are(tmp_path: Path) -> None:
    assert load_experiment(make_experiment(tmp_path, name="bare", pictures=0)).pictures("center") is None
    folder = make_experiment(tmp_path, name="damaged")
    (folder / "pictures" / "center.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(ExperimentError, match=r"center\.npz: damaged"):
        load_experiment(folder).pictures("center")


def test_what_is_no_experiment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="no experiment here"):
        load_experiment(tmp_path / "nowhere")
    manifest = tmp_path / "manifest.json"
    for content, message in (
        ("{", "not readable"),
        ("[1]", "not a manifest of inpaint-bench"),
        ('{"name": 1}', "not a manifest of inpaint-bench"),
        ('{"schema": 99}', "schema 99, this version reads 1"),
        ('{"schema": 1}', r"damaged \(experiment is missing\)"),
    ):
        manifest.write_text(content)
        with pytest.raises(ExperimentError, match=message):
            load_experiment(tmp_path)


def test_missing_results_of_a_finished_cell_are_named(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path, models=("mgs-iim",))
    results = folder / "cells" / "mgs-iim-center-seed0" / "results.parquet"
    results.unlink()
    with pytest.raises(ExperimentError, match=r"results\.parquet: no such results file; run"):
        load_experiment(folder)


def test_the_benchmark_of_reports_writes_an_experiment_that_can_be_read(tmp_path: Path) -> None:
    experiment = load_experiment(write_experiment(tmp_path / "large", images=40, models=2, masks=1))
    assert len(experiment.rows) == 80
