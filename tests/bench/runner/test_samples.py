"""``--samples-per-image``: what a run stores, what it keeps, and what tables, page and exports say."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.cli.console import describe_samples
from bench.config import Request, resolve_config
from bench.runner.callbacks import RunCallbacks
from bench.runner.reproduce import read_record, recorded_requests
from bench.runner.run import run_experiment
from bench.runner.run_folder import RunFolder
from reports.export import export_tables
from reports.render import render_report
from reports.results.experiment import load_experiment
from reports.results.schema import read_rows, write_rows


class Listener(RunCallbacks):
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.trained: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def training_started(self, label: str, index: int, of: int, num_steps: int) -> None:
        self.trained.append(label)


def run(
    pictures: Path, samples: int, models: Sequence[str] = ("diffusion", "mean")
) -> tuple[RunFolder, Listener]:
    settings = resolve_config("smoke", {"images_seen": 8, "size": 32, "samples_per_image": samples})
    listener = Listener()
    asked = Request(models=tuple(models), masks=("center",), data=str(pictures), settings=settings)
    outcome = run_experiment(asked, listener)
    assert outcome.failed == 0
    return outcome.store, listener


def cells(store: RunFolder) -> dict[str, dict[str, Any]]:
    manifest = store.read_manifest()
    assert manifest is not None
    return {cell["model"]: cell for cell in manifest["cells"]}


def test_samples_are_added_to_an_experiment_without_another_training(
    workplace: Path, pictures_dir: Path
) -> None:
    store, first = run(pictures_dir, 1)
    assert not first.notes
    one = cells(store)
    before = {
        name: read_rows(store.folder / cell["folder"] / "results.parquet") for name, cell in one.items()
    }
    assert "samples" not in one["diffusion"]["evaluation"]
    again, second = run(pictures_dir, 3)
    assert again.folder == store.folder
    assert (first.trained, second.trained) == (["Diffusion (conditional)"], [])
    (note,) = [n for n in second.notes if "--samples-per-image" in n]
    assert "no effect on Mean pixel" in note
    three = cells(store)
    assert three["mean"]["folder"] == one["mean"]["folder"], "a deterministic model is evaluated once"
    assert three["diffusion"]["folder"] != one["diffusion"]["folder"]
    rows = read_rows(store.folder / three["diffusion"]["folder"] / "results.parquet")
    assert rows["sample"].value_counts().to_dict() == dict.fromkeys(range(3), len(before["diffusion"]))
    first_sample = rows[rows["sample"] == 0].reset_index(drop=True)
    pd.testing.assert_frame_equal(first_sample, before["diffusion"], check_exact=True)
    assert rows.groupby("image_id")["psnr_db"].nunique().min() > 1, "samples differ"
    recorded = three["diffusion"]["evaluation"]["samples"]
    assert recorded["count"] == 3
    assert recorded["expected_inside"] == 0.5
    assert 0 <= recorded["inside"]["value"] <= 1
    assert cells(run(pictures_dir, 3)[0])["diffusion"]["folder"] == three["diffusion"]["folder"]

    experiment = load_experiment(store.folder)
    (sentence,) = describe_samples(experiment)
    assert sentence.startswith("Diffusion (conditional) on center: mean over 3 samples, PSNR (dB) ")
    assert "an oracle" in sentence
    table = pd.read_csv(io.BytesIO(export_tables(experiment, "samples")))
    assert set(table["model"]) == {"diffusion"}
    psnr = table[table["metric"] == "psnr_db"].iloc[0]
    assert psnr["mean"] == pytest.approx(rows["psnr_db"].mean())
    assert psnr["best_of_samples"] == pytest.approx(rows.groupby("image_id")["psnr_db"].max().mean())
    assert psnr["inside"] == pytest.approx(recorded["inside"]["value"])
    summary = pd.read_csv(io.BytesIO(export_tables(experiment)))
    headline = summary[(summary["model"] == "diffusion") & (summary["metric"] == "psnr_db")].iloc[0]
    assert headline["mean"] == pytest.approx(rows["psnr_db"].mean())
    assert headline["n_samples"] == 3
    page = render_report(store.folder, store.report_folder).read_text(encoding="utf-8")
    assert "Oracle: best sample" in page
    assert "Several samples of an image" in page

    asked = recorded_requests(read_record(store.manifest_path), "again")
    # The fill joins the request of the trained model: of it, samples have no effect.
    assert {r.settings.samples_per_image: set(r.models) for r in asked} == {3: {"diffusion", "mean"}}


def test_rows_and_manifests_of_earlier_versions_are_read(workplace: Path, pictures_dir: Path) -> None:
    """As they were written before samples had numbers: no column, no setting."""
    store, _ = run(pictures_dir, 1, ["mean"])
    cell = cells(store)["mean"]
    path = store.folder / cell["folder"] / "results.parquet"
    rows = read_rows(path)
    assert (rows["sample"] == 0).all()
    old = rows.drop(columns="sample")
    write_rows(old, path)
    pd.testing.assert_frame_equal(read_rows(path), rows)
    manifest = json.loads(store.manifest_path.read_text())
    del manifest["settings"]["samples_per_image"]
    store.write_manifest({k: v for k, v in manifest.items() if k not in ("schema", "sha256")})
    record = json.loads((store.folder / cell["folder"] / "cell.json").read_text())
    assert "samples_per_image" not in record["setup"]["settings"]
    assert "samples" not in record["key"]["parts"]
    kept = cells(run(pictures_dir, 1, ["mean"])[0])["mean"]
    assert kept["folder"] == cell["folder"]
