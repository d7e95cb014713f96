"""``--samples-per-image``: what a run stores, what it keeps, and what tables, page and exports say."""

from __future__ import annotations

import hashlib
import io
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tomli_w

from bench.cli.console import describe_samples
from bench.config import Request, resolve_config
from bench.runner.callbacks import RunCallbacks
from bench.runner.reproduce import read_record, recorded_requests
from bench.runner.run import run_experiment
from bench.runner.run_folder import RunFolder, read_checked_json, write_checked_json
from models.external_program import program_seed
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


@pytest.mark.long
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
    images = experiment.pictures("center")
    assert images is not None
    kept = images.samples[three["diffusion"]["cell"]]
    assert list(images.samples) == [three["diffusion"]["cell"]], "a deterministic model has no samples"
    assert kept.pixels.shape == (len(images.ids), 3, *images.image.shape[1:])
    assert np.array_equal(kept.pixels[:, 0], images.composites[three["diffusion"]["cell"]])
    known = np.broadcast_to(images.mask[:, None] == 0, kept.pixels.shape[:4])
    truth = np.broadcast_to(images.image[:, None], kept.pixels.shape)
    assert np.array_equal(kept.pixels[known], truth[known])
    assert (kept.pixels[:, 1] != kept.pixels[:, 2]).any(axis=(1, 2, 3)).all(), "samples differ"
    page = render_report(store.folder, store.report_folder).read_text(encoding="utf-8")
    assert "Oracle: best sample" in page
    assert "Several samples of an image" in page
    _, side_by_side = page.split("Samples side by side")
    shown = side_by_side.split("</section>")[0]
    articles = shown.split("<article")[1:]
    assert len(articles) == len(images.ids) == 3
    for article in articles:
        assert re.findall(r'data-label="([^"]+)"', article) == [
            f"Diffusion (conditional), sample {number}" for number in range(3)
        ]
        assert len(set(re.findall(r'class="output"[^>]+><img src="([^"]+)"', article))) == 3
        assert article.count('class="input"') == article.count('class="truth"') == 1
        assert "LPIPS between samples" in article
        assert all('class="score"' in figure for figure in article.split('class="output"')[1:])
    assert "Samples side by side" not in render_report(
        store.folder, store.report_folder, pictures=False
    ).read_text(encoding="utf-8")

    asked = recorded_requests(read_record(store.manifest_path), "again")
    # The fill joins the request of the trained model: of it, samples have no effect.
    assert {r.settings.samples_per_image: set(r.models) for r in asked} == {3: {"diffusion", "mean"}}


def test_pictures_of_earlier_versions_are_read(workplace: Path, pictures_dir: Path) -> None:
    """As they were stored when one sample of an image was kept."""
    store, _ = run(pictures_dir, 2, ["diffusion"])
    folder = store.folder / cells(store)["diffusion"]["folder"]
    with np.load(folder / "pictures.npz") as stored:
        assert stored["samples"].shape[:2] == (len(stored["ids"]), 1)
        earlier = {name: stored[name] for name in ("ids", "composite")}
    np.savez_compressed(folder / "pictures.npz", **earlier)
    record = read_checked_json(folder / "cell.json")
    del record["evaluation"]["rows_sha256"]
    record["pictures_sha256"] = hashlib.sha256((folder / "pictures.npz").read_bytes()).hexdigest()
    write_checked_json(folder / "cell.json", record)
    manifest = json.loads(store.manifest_path.read_text())
    for cell in manifest["cells"]:
        # Which manifests of then had not either.
        del cell["pictures_sha256"], cell["evaluation"]["rows_sha256"]
    store.write_manifest({k: v for k, v in manifest.items() if k not in ("schema", "sha256")})
    images = load_experiment(store.folder).pictures("center")
    assert images is not None
    assert images.samples == {}
    page = render_report(store.folder, store.report_folder).read_text(encoding="utf-8")
    assert "Several samples of an image" in page
    assert "Samples side by side" not in page
    _, again = run(pictures_dir, 2, ["diffusion"])
    assert not again.trained


@pytest.mark.long
def test_a_program_that_takes_a_seed_is_sampled(workplace: Path, pictures_dir: Path) -> None:
    """Noise of numpy from the seed it is given: other noise for every sample, image and training, and none else."""
    (workplace / "noise.py").write_text(_NOISE)
    for mode in ("image", "folder"):
        seed = "{seed}" if mode == "image" else "{seeds}"
        command = [sys.executable, "noise.py", "{input}", "{mask}", "{output}", seed]
        (workplace / f"{mode}.toml").write_text(
            tomli_w.dumps({"command": command, "mode": mode, "label": mode})
        )
    models = ("exec:image.toml", "exec:folder.toml", "mean")
    store, listener = run(pictures_dir, 3, models)
    (note,) = [n for n in listener.notes if "--samples-per-image" in n]
    assert "no effect on Mean pixel" in note
    found = cells(store)
    rows = {model: read_rows(store.folder / found[model]["folder"] / "results.parquet") for model in models}
    image, folder = rows[models[0]], rows[models[1]]
    assert set(image["sample"]) == {0, 1, 2}
    assert image.groupby("image_id")["psnr_db"].nunique().min() == 3, "samples differ"
    assert image.groupby("sample")["psnr_db"].nunique().min() > 1
    pd.testing.assert_series_equal(image["psnr_db"], folder["psnr_db"], check_exact=True)
    assert found[models[0]]["evaluation"]["samples"]["count"] == 3
    # Sample 2 of an image, made outside of the suite from nothing but its seed, gives the recorded number.
    pictures = load_experiment(store.folder).pictures("center")
    assert pictures is not None
    drawn = pictures.samples[found[models[0]]["cell"]].pixels
    for place, name in enumerate(pictures.ids):
        noise = np.random.default_rng(program_seed(0, 2, name)).integers(0, 256, drawn.shape[2:])
        hole = pictures.mask[place] > 0
        assert np.array_equal(drawn[place, 2][hole], noise[hole])


_NOISE = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image
source, mask, target, given = map(Path, sys.argv[1:])
if source.is_dir():
    seeds = dict(line.split() for line in given.read_text().splitlines())
    jobs = [(source / name, mask / name, target / name, seed) for name, seed in seeds.items()]
else:
    jobs = [(source, mask, target, str(given))]
for image, hole, result, seed in jobs:
    pixels = np.array(Image.open(image))
    noise = np.random.default_rng(int(seed)).integers(0, 256, pixels.shape)
    hidden = np.array(Image.open(hole)) > 127
    pixels[hidden] = noise[hidden]
    Image.fromarray(pixels).save(result)
"""


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
