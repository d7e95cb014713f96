"""The card of weights in a bundle: which weights the rows rest on, by a digest of their tensors.

Weights are large and stay where they are (``bench export-weights`` shares them). The card lets whoever gets both tell
whether they belong together: its ``digest`` is the one in the card beside exported weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.errors import BenchError
from bench.runner.final_checkpoint import describe_weights, read_generator, weights_license
from bench.runner.run_folder import read_checked_json
from reports.results.experiment import Experiment

FORMAT = "inpaint-bench weights card 1"


def with_described_weights(experiment: Experiment) -> dict[str, Any]:
    """Return the manifest in which every training says what weights it left, as far as that can be found out.

    Trainings record it when they end. Those of earlier versions are asked for their checkpoint.
    """
    found: dict[str, dict[str, Any] | None] = {}
    cells = []
    for cell in experiment.cells:
        training = cell["training"]
        if training and not training.get("weights"):
            key = str(training["key"])
            # Once a training and not once a cell: a checkpoint may be large.
            if key not in found:
                found[key] = _read_weights(experiment, cell)
            cell = {**cell, "training": {**training, "weights": found[key]}} if found[key] else cell
        cells.append(cell)
    return {**experiment.manifest, "cells": cells}


def _read_weights(experiment: Experiment, cell: Mapping[str, Any]) -> dict[str, Any] | None:
    """Describe the weights of a cell's training from its checkpoint; ``None`` where that is gone or another's."""
    training = cell["training"]
    folder = experiment.folder / training["folder"]
    try:
        record = read_checked_json(folder / "config.json")
        if record["key"] != training["key"] or record["config"] != cell["config"]:
            return None
        return describe_weights(read_generator(folder, training["key"]), record["task"])
    except (BenchError, OSError, ValueError, KeyError, TypeError):
        return None  # a bundle is of numbers first, and its card says that the weights are not known


def weights_card(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the card of a manifest's trainings; the same manifest gives the same card."""
    trainings = {}
    for cell in manifest["cells"]:
        training = cell["training"]
        if not training or cell.get("status") != "done":
            continue
        weights = training.get("weights") or {}
        trainings[training["key"]] = {
            **{name: cell[name] for name in ("model", "label", "train_mask", "seed", "config")},
            "training": training["key"],
            "images_seen": training.get("images_seen"),
            "task": weights.get("task"),
            "parameters": weights.get("parameters"),
            "digest": weights.get("digest"),
        }
    data = manifest["data"]
    return {
        "format": FORMAT,
        "experiment": manifest["experiment"],
        "data": {name: data.get(name) for name in ("title", "fingerprint", "split", "train", "licence")},
        "licence": weights_license(data),
        "weights": list(trainings.values()),
    }
