"""Join experiments that were computed apart: other seeds, other models, other machines."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.ledger.kept_files import manifest_text
from bench.runner.run_folder import RUNS, check_name, utc_timestamp
from reports.results.atomic_io import make_folder, publish_folder
from reports.results.attributes import ATTRIBUTES
from reports.results.experiment import Experiment, ExperimentError, load_experiment
from reports.results.manifest import SEAL, manifest_checksum

#: Settings that may differ: lists are joined, and the learning rate is each training's own.
_JOINED = ("seeds", "masks", "models")
_FREE = {
    *_JOINED,
    "learning_rate",
    "pictures",
    "metrics",
    "samples_per_image",
    "report_every",
    "validate_every",
    "checkpoint_every",
}


def merge_experiments(
    folders: Sequence[Path],
    name: str,
    *,
    runs: Path = RUNS,
    tuning: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """Join experiments into a new one and return its folder; the old ones stay as they are.

    They must agree in everything that decides numbers but seeds, models, masks and learning rates. A cell that
    several of them have is taken once if its numbers are the same, and is an error if they are not.

    Args:
        folders: of the experiments.
        name: of the new one.
        runs: folder that it is made in.
        tuning: model -> how its learning rate was chosen, kept with its trainings; ``learning_rate`` is among it.

    Raises:
        UsageError: an experiment cannot be read, they do not fit together, or there is one of that name.
    """
    target = runs / check_name(name)
    if target.exists():
        raise UsageError(f"{target} exists; give another --name")
    try:
        experiments = [load_experiment(folder) for folder in folders]
    except ExperimentError as error:
        raise UsageError(str(error)) from error
    # Every pair: two that both fit the first may share a mask that the first does not have.
    for one, other in combinations(experiments, 2):
        _check_fit(one, other)
    chosen = _choose_cells(experiments)
    manifest = _joined_manifest(experiments, [dict(cell) for _, cell in chosen], name)
    for cell in manifest["cells"]:
        if cell["training"] and tuning and cell["model"] in tuning:
            cell["training"] = {**cell["training"], "tuning": dict(tuning[cell["model"]])}
    manifest[SEAL] = manifest_checksum(manifest)
    make_folder(runs)
    # Under a hidden name until it is whole, as for an import.
    temporary = runs / f".{name}.{os.getpid()}.merge"
    try:
        _copy_files(chosen, experiments, temporary)
        (temporary / "manifest.json").write_text(manifest_text(manifest), encoding="utf-8")
        publish_folder(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _check_fit(a: Experiment, b: Experiment) -> None:
    """Refuse experiments whose cells do not belong into one table."""
    one, other = a.manifest, b.manifest
    differing = []
    if one["data"]["fingerprint"] != other["data"]["fingerprint"]:
        differing.append("images")
    # Settings that one of them does not have count as differing, unless they may differ.
    settings = {*one["settings"], *other["settings"]} - _FREE
    differing += [key for key in sorted(settings) if one["settings"].get(key) != other["settings"].get(key)]
    for mask in {*one["masks"]} & {*other["masks"]}:
        if one["masks"][mask]["digest"] != other["masks"][mask]["digest"]:
            differing.append(f"mask {mask}")
    # A metric may have changed its meaning between versions under the same name.
    for metric in {*one["metrics"]} & {*other["metrics"]}:
        if one["metrics"][metric]["convention"] != other["metrics"][metric]["convention"]:
            differing.append(f"convention of {metric}")
    if differing:
        raise UsageError(f"{a.name} and {b.name} do not fit together: they differ in {', '.join(differing)}")


def _choose_cells(experiments: Sequence[Experiment]) -> list[tuple[Experiment, dict[str, Any]]]:
    """Return every cell once, finished ones before others, with the experiment it is from."""
    chosen: dict[tuple[Any, ...], tuple[Experiment, dict[str, Any]]] = {}
    for experiment in experiments:
        for cell in experiment.cells:
            key = tuple(cell[k] for k in ("model", "label", "mask", "train_mask", "seed"))
            # A finished cell replaces one that failed or does not apply elsewhere.
            if key not in chosen or chosen[key][1]["status"] != "done":
                chosen[key] = (experiment, cell)
            elif cell["status"] == "done" and _numbers(*chosen[key]) != _numbers(experiment, cell):
                raise UsageError(
                    f"{cell['label']} on {cell['mask']}, seed {cell['seed']}, has other numbers in "
                    f"{chosen[key][0].name} and {experiment.name}: merge one of them, or compare them"
                )
    return list(chosen.values())


def _numbers(experiment: Experiment, cell: dict[str, Any]) -> Any:
    rows = experiment.rows
    own = rows[
        (rows["label"] == cell["label"]) & (rows["mask"] == cell["mask"]) & (rows["seed"] == cell["seed"])
    ]
    own = own[own["train_mask"] == cell["train_mask"]].sort_values(["image_id", "sample"])
    shared = [c for c in ("image_id", "psnr_db", "ssim", "lpips_alex") if c in own]
    # NaN is unequal to itself, and would make equal cells look different.
    return own[shared].astype(object).where(own[shared].notna(), None).to_numpy().tolist()


def _joined_manifest(
    experiments: Sequence[Experiment], cells: list[dict[str, Any]], name: str
) -> dict[str, Any]:
    first = experiments[0].manifest
    manifests = [e.manifest for e in experiments]
    settings = dict(first["settings"])
    for key in _JOINED:
        settings[key] = list(dict.fromkeys(v for m in manifests for v in m["settings"].get(key, [])))
    rates = {m["settings"].get("learning_rate") for m in manifests}
    # Where they differ, each training's own record says its rate.
    settings["learning_rate"] = rates.pop() if len(rates) == 1 else None
    joined = {
        **first,
        "experiment": name,
        "updated": utc_timestamp(),
        "settings": settings,
        # Backwards, so that the first experiment's description wins.
        "masks": {k: v for m in reversed(manifests) for k, v in m["masks"].items()},
        "metrics": {k: v for m in reversed(manifests) for k, v in m["metrics"].items()},
        "commands": [c for m in manifests for c in m.get("commands", [])],
        "options": [o for m in manifests for o in m.get("options", [])],
        # What is planned in one of them is not planned in the new one.
        "planned": [],
        "merged": [{"experiment": e.name, "sha256": e.manifest.get(SEAL)} for e in experiments],
        "cells": cells,
    }
    # The seal is of the first experiment's content, and is made anew at the end.
    joined.pop(SEAL, None)
    return joined


def _copy_files(
    chosen: Sequence[tuple[Experiment, dict[str, Any]]], experiments: Sequence[Experiment], folder: Path
) -> None:
    """Copy results, stored images and logs; checkpoints stay where they are."""
    for experiment, cell in chosen:
        if cell["status"] != "done":
            continue
        shutil.copytree(experiment.folder / cell["folder"], folder / cell["folder"], dirs_exist_ok=True)
        training = cell["training"]
        source = experiment.folder / training["folder"] if training else None
        for name in ("train.jsonl", "training.json", "config.json"):
            if source and (source / name).is_file():
                (folder / training["folder"]).mkdir(parents=True, exist_ok=True)
                shutil.copy2(source / name, folder / training["folder"] / name)
    # Backwards, so that the first experiment's pictures stay where several have some.
    for experiment in reversed(experiments):
        if (experiment.folder / ATTRIBUTES).is_file():
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy2(experiment.folder / ATTRIBUTES, folder / ATTRIBUTES)
        if (experiment.folder / "pictures").is_dir():
            shutil.copytree(experiment.folder / "pictures", folder / "pictures", dirs_exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
