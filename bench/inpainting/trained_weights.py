"""From a finished training in a run folder to weights that can be used and shared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import BenchError, UsageError
from bench.runner.final_checkpoint import read_generator, weights_license
from bench.runner.run_folder import atomic_write, read_checked_json, write_json
from models import discovery, pretrained
from models import export as interchange
from models.base import Box, Task
from models.errors import MissingPackageError, ModelError
from models.registry import did_you_mean
from reports.results.experiment import Experiment


@dataclass(frozen=True)
class StoredTraining:
    """A finished training of an experiment, and the cells of the manifest that evaluated it."""

    model: str
    label: str
    train_mask: str
    seed: int
    folder: Path
    cells: tuple[dict[str, Any], ...]

    @property
    def name(self) -> str:
        """``mgs-iim-center-seed0``, as the run folder calls it."""
        return self.folder.name.rsplit("-", 1)[0]


def stored_trainings(
    experiment: Experiment, models: Sequence[str] = (), seed: int | None = None, train_mask: str | None = None
) -> list[StoredTraining]:
    """List the finished trainings of ``experiment``, those of ``models`` (all for none), ``seed`` and ``train_mask``.

    Raises:
        UsageError: there is none; says which there are.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for cell in experiment.done():
        # Several cells rest on one training: its folder is what makes it one.
        if cell.get("training"):
            groups.setdefault(cell["training"]["folder"], []).append(cell)
    found = [
        StoredTraining(
            cells[0]["model"],
            cells[0]["label"],
            cells[0]["train_mask"],
            cells[0]["seed"],
            experiment.folder / folder,
            tuple(cells),
        )
        for folder, cells in groups.items()
    ]
    if not found:
        raise UsageError(f"{experiment.name} holds no finished training of a model")
    # A wrong name is told with a suggestion, a wrong combination with the list of those that there are.
    names = list(dict.fromkeys(t.model for t in found))
    for name in models:
        if name not in names:
            raise UsageError(f"{experiment.name} holds no training of {name!r}{did_you_mean(name, names)}")
    chosen = [
        t
        for t in found
        if (not models or t.model in models) and seed in (None, t.seed) and train_mask in (None, t.train_mask)
    ]
    if not chosen:
        there = ", ".join(f"{t.model} on {t.train_mask}, seed {t.seed}" for t in found)
        raise UsageError(f"{experiment.name} holds no such training; there are: {there}")
    return chosen


def load_trained_model(
    experiment: Experiment, training: StoredTraining, models_from: Sequence[Path] = ()
) -> pretrained.PretrainedModel:
    """Load the generator of ``training``, with a card of where it comes from and how it did.

    Raises:
        BenchError: its weights or its config are gone, damaged, not those that were evaluated, or of a model that is
            not known.
    """
    # From the training's own record and not from its manifest: the config is that with which the weights were
    # made.
    try:
        record = _read_config(training)
        fields, about = record["config"], record["task"]
        box = about["fixed_hole_box"]
        task = Task(
            size=int(about["size"]),
            fixed_hole_box=Box(*box) if box else None,
            mean_pixel=tuple(about["mean_pixel"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BenchError(
            f"{training.folder / 'config.json'}: not readable ({error}); run the experiment again"
        ) from error
    weights = read_generator(training.folder, record["key"])
    # A training that was computed again elsewhere has the same key and other weights, which gave other numbers.
    recorded = [
        w["digest"] for cell in training.cells if (w := cell["training"].get("weights")) and "digest" in w
    ]
    if recorded and pretrained.tensors_digest(weights) not in recorded:
        raise BenchError(
            f"{training.folder}: holds other weights than those that the numbers were measured with; the experiment's "
            "own command trains them again"
        )
    try:
        entry = discovery.load_model(training.model, models_from)
        config = entry.model.Config(**pretrained.restore_fields(fields))
        described = {**_about(experiment, training, record), "paper": entry.card.paper}
        return pretrained.build_pretrained(entry, config, task, weights, described)
    except (ModelError, TypeError, ValueError) as error:
        raise BenchError(f"{training.folder}: {error}") from error


def _read_config(training: StoredTraining) -> dict[str, Any]:
    """Read ``config.json``, which says what the weights are of.

    Raises:
        OSError, ValueError, KeyError: it is missing, damaged, edited, or of another training than the manifest's.
    """
    record = read_checked_json(training.folder / "config.json")
    cell = training.cells[0]
    if record["key"] != cell["training"]["key"] or record["config"] != cell["config"]:
        raise ValueError("it is not the config that the manifest records")
    # What the model was built for belongs to its weights; older manifests have no card of them.
    recorded = (cell["training"].get("weights") or {}).get("task")
    if recorded is not None and recorded != record["task"]:
        raise ValueError("it is not of the task that the manifest records")
    return record


def _about(experiment: Experiment, training: StoredTraining, record: dict[str, Any]) -> dict[str, Any]:
    """Describe the training for the card, besides what loading needs."""
    manifest, summary = experiment.manifest, training.cells[0]["training"]
    data, rows = manifest["data"], experiment.rows
    metrics = {}
    for cell in training.cells:
        # By all that makes a cell, so that no mean is over the rows of another.
        mine = rows[
            (rows["model"] == cell["model"])
            & (rows["label"] == cell["label"])
            & (rows["mask"] == cell["mask"])
            & (rows["train_mask"] == cell["train_mask"])
            & (rows["seed"] == cell["seed"])
        ]
        known = {name: mine[name].mean() for name in manifest["metrics"] if name in mine}
        metrics[cell["mask"]] = {
            "images": mine["image_id"].nunique(),
            # NaN is the only number that differs from itself; JSON has none.
            **{name: round(float(v), 6) for name, v in known.items() if v == v},
        }
    return {
        "label": training.label,
        "training": {
            "experiment": experiment.name,
            "key": summary["key"],
            "train_mask": training.train_mask,
            "seed": training.seed,
            "batch_size": record["batch_size"],
            **{k: manifest["settings"][k] for k in ("preset", "track", "crop")},
            **{k: summary[k] for k in ("images_seen", "num_steps", "precision")},
        },
        "data": {k: data[k] for k in ("title", "fingerprint", "split", "train", "licence", "procedural")},
        "metrics": metrics,
        "licence": weights_license(data),
        "software": manifest["software"],
        "commit": manifest["commit"],
    }


def export_weights(loaded: pretrained.PretrainedModel, stem: Path, form: str) -> tuple[Path, float]:
    """Write ``stem`` with the suffix of ``form`` and its card beside it, and check what was written.

    Returns:
        The file, and the largest difference between its images and the model's, in units of [0, 1].

    Raises:
        UsageError: a package is missing.
        BenchError: the model cannot be written so, or the file computes other images.
    """
    path = stem.with_name(stem.name + interchange.SUFFIXES[form])
    difference = 0.0

    # Within the atomic write: the file takes its place only after it has computed the same images.
    def write(temporary: Path) -> None:
        nonlocal difference
        difference = interchange.write_exported(loaded, temporary, form)

    try:
        atomic_write(path, write)
    except MissingPackageError as error:
        raise UsageError(str(error)) from error
    except ModelError as error:
        raise BenchError(str(error)) from error
    # The card after the weights, so that a card never describes a file that is not there.
    write_json(path.with_suffix(".json"), loaded.card)
    return path, difference
