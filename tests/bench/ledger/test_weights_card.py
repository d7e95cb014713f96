"""The card of weights in a bundle: it names those that the rows rest on, and travels with the manifest."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from bench.errors import BenchError, UsageError
from bench.inpainting.trained_weights import load_trained_model, stored_trainings
from bench.ledger.importing import import_experiment
from bench.ledger.kept_files import WEIGHTS, pack_bundle
from bench.ledger.merging import merge_experiments
from bench.runner.callbacks import RunCallbacks
from bench.runner.run import run_experiment
from reports.results.experiment import Experiment, load_experiment
from reports.results.manifest import SEAL, manifest_checksum
from tests.bench.runner.test_run import request
from tests.reports.synthetic import make_experiment


@pytest.fixture
def experiment(workplace: Path, pictures_dir: Path, unet: Path) -> Experiment:
    asked = request(pictures_dir, ("test-unet", "mean"), models_from=(str(unet),), name="kept")
    return load_experiment(run_experiment(asked, RunCallbacks()).store.folder)


def card_of(bundle: bytes) -> dict[str, Any]:
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        card: dict[str, Any] = json.loads(archive.read(WEIGHTS))
    return card


def with_card(bundle: bytes, card: object, path: Path) -> Path:
    """Write the bundle with another card."""
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (parts | {WEIGHTS: json.dumps(card).encode()}).items():
            archive.writestr(name, content)
    return path


def test_the_card_names_the_weights_that_are_exported(
    experiment: Experiment, workplace: Path, unet: Path
) -> None:
    bundle = pack_bundle(experiment)
    card = card_of(bundle)
    (described,) = card["weights"]  # the mean color has none
    (training,) = stored_trainings(experiment)
    exported = load_trained_model(experiment, training, [unet]).card
    for name in ("digest", "parameters", "task", "model", "label", "config"):
        assert described[name] == exported[name], name
    assert described["training"] == exported["training"]["key"]
    assert card["licence"] == exported["licence"]
    assert card["data"]["fingerprint"] == experiment.manifest["data"]["fingerprint"]
    # Where the bundle is imported there are no weights, and a bundle of it has the same card, also when it was merged.
    path = workplace / "kept.zip"
    path.write_bytes(bundle)
    there = import_experiment([path], runs=workplace / "there")
    assert card_of(pack_bundle(load_experiment(there))) == card
    other = make_experiment(workplace / "other", models=("glcic",), pictures=0)
    manifest = json.loads((other / "manifest.json").read_text())
    manifest |= {name: experiment.manifest[name] for name in ("settings", "data", "masks", "metrics")}
    manifest[SEAL] = manifest_checksum(
        manifest
    )  # masks with a digest of their images are of sealed manifests
    (other / "manifest.json").write_text(json.dumps(manifest))
    merged = card_of(pack_bundle(load_experiment(merge_experiments([there, other], "both"))))
    assert [(of["model"], of["digest"]) for of in merged["weights"]] == [
        ("test-unet", described["digest"]),
        ("glcic", None),  # its training recorded nothing, and its checkpoint is not there
    ]


def test_trainings_of_earlier_versions_are_asked_for_their_checkpoint(experiment: Experiment) -> None:
    card = card_of(pack_bundle(experiment))
    manifest = json.loads((experiment.folder / "manifest.json").read_text())
    for cell in manifest["cells"]:
        (cell["training"] or {}).pop("weights", None)
    manifest[SEAL] = manifest_checksum(manifest)
    (experiment.folder / "manifest.json").write_text(json.dumps(manifest))
    older = load_experiment(experiment.folder)
    assert card_of(pack_bundle(older)) == card
    for checkpoint in experiment.folder.glob("trainings/*/checkpoint-*.pt"):
        checkpoint.write_bytes(b"damaged")
    (described,) = card_of(pack_bundle(older))["weights"]
    assert (described["digest"], described["parameters"]) == (None, None)


@pytest.mark.parametrize("edit", ["digest", "config", "licence", "missing", "text"])
def test_a_card_of_other_weights_is_refused(experiment: Experiment, workplace: Path, edit: str) -> None:
    bundle = pack_bundle(experiment)
    card = card_of(bundle)
    right = with_card(bundle, card, workplace / "right.zip")
    import_experiment([right], name="right", runs=workplace / "there")
    other: object = "no card"
    if edit == "missing":
        other = {**card, "weights": []}
    elif edit == "licence":
        other = {**card, "licence": "free"}
    elif edit != "text":
        other = {**card, "weights": [{**card["weights"][0], edit: "0" * 64}]}
    wrong = with_card(bundle, other, workplace / "wrong.zip")
    with pytest.raises(UsageError, match=r"wrong\.zip: weights\.json is not the card of the weights"):
        import_experiment([wrong], name="wrong", runs=workplace / "there")
    assert [path.name for path in (workplace / "there").iterdir()] == ["right"]


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("field", ["mean_pixel", "size", "fixed_hole_box"])
def test_weights_are_of_the_task_that_was_trained(
    experiment: Experiment, unet: Path, field: str, sealed: bool
) -> None:
    """Edited beside the training in both files, with and without their checksums; the manifest knows better."""
    other = {"mean_pixel": [0, 0, 0], "size": 32, "fixed_hole_box": None}[field]
    (training,) = stored_trainings(experiment)
    for name, where in (("config.json", ("task",)), ("training.json", ("weights", "task"))):
        path = training.folder / name
        value = json.loads(path.read_text())
        del value[SEAL]
        part = value
        for key in where:
            part = part[key]
        assert part[field] != other
        part[field] = other
        path.write_text(json.dumps({**value, SEAL: manifest_checksum(value)} if sealed else value))
    with pytest.raises(BenchError, match=r"config\.json: not readable"):
        load_trained_model(experiment, training, [unet])
