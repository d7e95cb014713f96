"""An experiment's folder read back, and the errors for what is not one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.report import write_experiment
from reports.results.experiment import ExperimentError, load_experiment
from reports.results.schema import cell_numbers, read_rows, write_rows
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


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda content: content, ""),
        (lambda content: content + b'{"step": 110, "ima', ""),  # cut off while it was written
        (
            lambda content: content.replace(b"\n", b"\ngarbage\n", 1),
            "1 unreadable lines, the first is line 2",
        ),
        (
            lambda content: content.replace(b"seconds", b"sec\xffnds", 1),
            "unreadable lines, the first is line 1",
        ),
        (lambda content: content.replace(b'"step": 10,', b'"step": 1e999,', 1), "first is line 1"),
    ],
)
def test_a_damaged_log_is_read_as_far_as_it_goes_and_named(
    tmp_path: Path, damage: Callable[[bytes], bytes], says: str
) -> None:
    folder = make_experiment(tmp_path, models=("mgs-iim",))
    log = next(folder.glob("trainings/*/train.jsonl"))
    log.write_bytes(damage(log.read_bytes()))
    experiment = load_experiment(folder)
    assert len(experiment.curves) >= 20
    assert says in experiment.log_problems.get("mgs-iim-center-seed0-key", "")
    assert bool(experiment.log_problems) == bool(says)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda log: None, ""),
        (lambda log: log.write_text("".join(log.read_text().splitlines(True)[:7])), "7 of 12 lines"),
        (
            lambda log: log.write_text(log.read_text().replace("0.5", "0.6")),
            "log changed since it was written",
        ),
        (lambda log: log.unlink(), "log missing"),
    ],
)
def test_a_log_that_is_not_the_one_recorded_is_named(
    tmp_path: Path, damage: Callable[[Path], object], says: str
) -> None:
    folder = make_experiment(tmp_path, models=("mgs-iim",))
    log = next(folder.glob("trainings/*/train.jsonl"))
    content = log.read_bytes()
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["cells"][0]["training"]["log"] = {
        "lines": content.count(b"\n"),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    damage(log)
    problems = load_experiment(folder).log_problems
    assert says in problems.get("mgs-iim-center-seed0-key", "")
    assert bool(problems) == bool(says)


def test_the_page_says_which_log_is_incomplete(tmp_path: Path) -> None:
    from reports.render import render_report

    folder = make_experiment(tmp_path, models=("mgs-iim",), pictures=0)
    log = next(folder.glob("trainings/*/train.jsonl"))
    log.write_bytes(log.read_bytes().replace(b"\n", b"\n\xff\n", 1))
    page = render_report(folder, tmp_path / "report").read_text(encoding="utf-8")
    assert "MGS-IIM, seed 0: log damaged: 1 unreadable lines, the first is line 2." in page


@pytest.mark.parametrize("name", ["label", "seed", "model", "mask", "train_mask"])
def test_rows_of_another_cell_are_refused(tmp_path: Path, name: str) -> None:
    folder = make_experiment(tmp_path, models=("mgs-iim",))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["cells"][0][name] = 7 if name == "seed" else "Context Encodes"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ExperimentError, match=rf"rows of {name} .* where the manifest says"):
        load_experiment(folder)


@pytest.mark.parametrize("recorded", [True, False])
def test_a_finished_cell_without_rows_is_refused(tmp_path: Path, recorded: bool) -> None:
    """Also where the record is of an earlier version, which holds no numbers to compare with."""
    folder = make_experiment(tmp_path, models=("mgs-iim", "mean"))
    results = next(folder.glob("cells/mgs-iim-*/results.parquet"))
    rows = read_rows(results)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["cells"][0]["evaluation"].pop("numbers", None)
    if recorded:
        manifest["cells"][0]["evaluation"]["numbers"] = cell_numbers(rows)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert len(load_experiment(folder).rows) == 2 * len(rows)
    write_rows(rows[:0], results)
    with pytest.raises(
        ExperimentError, match=r"results\.parquet: no rows of a finished cell; delete its folder"
    ):
        load_experiment(folder)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"\x93NUMPY", bytes(100)])
@pytest.mark.parametrize("place", ["pictures/center.npz", "cells/mgs-iim-center-seed0/pictures.npz"])
def test_damaged_images_of_any_kind_are_an_error_with_a_remedy_that_helps(
    tmp_path: Path, content: bytes, place: str
) -> None:
    folder = make_experiment(tmp_path, models=("mgs-iim",))
    (folder / place).write_bytes(content)
    experiment = load_experiment(folder)
    with pytest.raises(
        ExperimentError, match=r"\.npz: damaged .*; delete it: the report is then made without"
    ):
        experiment.pictures("center")
    (folder / place).unlink()
    experiment.pictures("center")


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
