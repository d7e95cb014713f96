"""Join experiments that were computed apart: other seeds, other models, other machines.

A cell is *what* was computed; *where* it was computed may still change its last bits, or more on other hardware. The
same what with other numbers on two machines stays two methods, told apart by their machines in the label: averaging
them, or taking them for two seeds, would count one training twice.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from bench.errors import UsageError
from bench.ledger.kept_files import manifest_text
from bench.runner.cell_entries import machines_of, refuse_shared_labels
from bench.runner.run_folder import RUNS, check_name, utc_timestamp
from bench.runner.unpublished import unpublished_experiment
from reports.results.experiment import Experiment, ExperimentError, load_experiment
from reports.results.manifest import IMPORTED_LOG, PICTURES, SEAL, manifest_checksum
from reports.results.recorded_files import ATTRIBUTES, ATTRIBUTES_SHA256
from reports.results.schema import read_rows, write_rows
from reports.statistics.compare_experiments import people_differ

#: Settings that may differ: lists are joined, the learning rate is each training's own, precision is part of where a
#: cell was computed, and what split and training mask came to is in the fingerprint of the data and in each cell.
_JOINED = ("seeds", "masks", "models")
_FREE = {
    *_JOINED,
    "learning_rate",
    "precision",
    "split",
    "train_mask",
    "pictures",
    "metrics",
    "samples_per_image",
    "report_every",
    "validate_every",
    "checkpoint_every",
}
#: What of a machine tells it apart in a label, the most telling first; all else that is recorded follows.
_TELLING = ("device", "processes", "threads", "instruction_set", "precision", "torch", "cuda", "cudnn")


@dataclass(frozen=True)
class _Chosen:
    """A cell of the new experiment.

    Attributes:
        part: which of the experiments it is from.
        source: the cell there.
        cell: as the new manifest has it: the same, or under another label and in another folder.
    """

    part: int
    source: dict[str, Any]
    cell: dict[str, Any]


def merge_experiments(
    folders: Sequence[Path],
    name: str,
    *,
    runs: Path = RUNS,
    tuning: Mapping[str, Mapping[str, Any]] | None = None,
) -> Path:
    """Join experiments into a new one and return its folder; the old ones stay as they are.

    They must agree in everything that decides numbers but seeds, models, masks and learning rates. A cell that
    several of them have is taken once if its numbers are the same. If they are not, its method becomes one method for
    each machine that it was computed on, if that can be the reason; it is an error where the same machine gave them,
    or where what was computed is not the same.

    Args:
        folders: of the experiments.
        name: of the new one.
        runs: folder that it is made in.
        tuning: model -> how its learning rate was chosen, kept with its trainings; ``learning_rate`` is among it.

    Raises:
        UsageError: an experiment cannot be read, they do not fit together, or there is one of that name.
    """
    target = runs / check_name(name)
    if os.path.lexists(target):
        raise UsageError(f"{target} exists; give another --name")
    try:
        experiments = [load_experiment(folder) for folder in folders]
        # Read here: a damaged file is not passed on.
        for experiment in experiments:
            _ = experiment.attributes
            for mask in experiment.manifest["masks"]:
                experiment.pictures(mask)
    except ExperimentError as error:
        raise UsageError(str(error)) from error
    # Every pair: two that both fit the first may share a mask that the first does not have.
    for one, other in combinations(experiments, 2):
        _check_fit(one, other)
    parts = [_parts_of(experiment) for experiment in experiments]
    chosen = _choose_cells(experiments)
    manifest = _joined_manifest(experiments, _cells_with_parts(chosen, parts), name)
    refuse_shared_labels((cell["model"], cell["label"]) for cell in manifest["cells"])
    manifest["merged"] = [part for of in parts for part in of]
    for cell in manifest["cells"]:
        if cell["training"] and tuning and cell["model"] in tuning:
            cell["training"] = {**cell["training"], "tuning": dict(tuning[cell["model"]])}
    manifest[SEAL] = manifest_checksum(manifest)
    # Under a hidden name until it is whole, as for an import.
    with unpublished_experiment(target, "merge") as folder:
        _copy_files(chosen, experiments, folder)
        (folder / "manifest.json").write_text(manifest_text(manifest), encoding="utf-8")
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
    if people_differ(a, b):
        differing.append("who is shown")
    # A metric may have changed its meaning between versions under the same name.
    for metric in {*one["metrics"]} & {*other["metrics"]}:
        if one["metrics"][metric]["convention"] != other["metrics"][metric]["convention"]:
            differing.append(f"convention of {metric}")
    if differing:
        raise UsageError(f"{a.name} and {b.name} do not fit together: they differ in {', '.join(differing)}")


def _choose_cells(experiments: Sequence[Experiment]) -> list[_Chosen]:
    """Choose every cell once, finished ones before others; one for each machine where machines disagree."""
    found = [(i, cell) for i, experiment in enumerate(experiments) for cell in experiment.cells]
    apart = _methods_by_machine(experiments, found)
    chosen: dict[tuple[Any, ...], _Chosen] = {}
    for part, cell in found:
        key: tuple[Any, ...] = tuple(cell[k] for k in ("model", "label", "mask", "train_mask", "seed"))
        own, words = cell, apart.get(_method(cell))
        if words is not None and cell["status"] == "done":
            own = _told_apart(cell, words[_place(cell)])
            key = (*key, _place(cell))
        # A finished cell replaces one that failed or does not apply elsewhere.
        if key not in chosen or chosen[key].source["status"] != "done":
            chosen[key] = _Chosen(part, cell, own)
        elif cell["status"] == "done":
            first = chosen[key]
            one, other = experiments[first.part], experiments[part]
            if _numbers(one, first.source) != _numbers(other, cell):
                raise _disagreement(one, other, cell, "both on one machine")
    _check_folders(list(chosen.values()), experiments)
    return list(chosen.values())


def _check_folders(chosen: Sequence[_Chosen], experiments: Sequence[Experiment]) -> None:
    """Refuse two cells of one folder: what was computed is the same, and only what it is called differs.

    Raises:
        UsageError: with both labels.
    """
    owners: dict[str, _Chosen] = {}
    for one in chosen:
        if one.cell["status"] == "done" and (first := owners.setdefault(one.cell["folder"], one)) is not one:
            raise UsageError(
                f"{first.source['label']} in {experiments[first.part].name} and {one.source['label']} in "
                f"{experiments[one.part].name} are the same computation under two labels: give it one label, and run "
                "one of the two experiments again"
            )


def _methods_by_machine(
    experiments: Sequence[Experiment], found: Sequence[tuple[int, dict[str, Any]]]
) -> dict[tuple[str, str], dict[str, str]]:
    """Find the methods of which machines gave other numbers: (model, label) -> place -> the place in words.

    Raises:
        UsageError: the numbers of a cell differ, and its machine is not the reason.
    """
    apart: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = {}
    first: dict[tuple[Any, ...], tuple[int, dict[str, Any]]] = {}
    done = [(part, cell) for part, cell in found if cell["status"] == "done"]
    for part, cell in done:
        key = tuple(cell[k] for k in ("model", "label", "mask", "train_mask", "seed"))
        earlier, before = first.setdefault(key, (part, cell))
        one, other = experiments[earlier], experiments[part]
        if before is cell or _numbers(one, before) == _numbers(other, cell):
            continue
        if "what" not in cell or before.get("what") != cell["what"]:
            # Manifests of earlier versions do not say what was computed: another config may be the reason.
            raise _disagreement(one, other, cell, "and is not known to be the same computation")
        if not machines_of(cell) or not machines_of(before):
            raise _disagreement(one, other, cell, "and one does not say where it was computed")
        if _place(cell) != _place(before):
            apart[_method(cell)] = {}
    for _, cell in done:
        if _method(cell) in apart:
            # Also the cells on which machines agree: each machine's row has all of its own.
            apart[_method(cell)][_place(cell)] = machines_of(cell)
    return {method: _describe_places(places) for method, places in apart.items()}


def _method(cell: Mapping[str, Any]) -> tuple[str, str]:
    return str(cell["model"]), str(cell["label"])


def _place(cell: Mapping[str, Any]) -> str:
    """Digest where a cell was computed."""
    return hashlib.sha256(json.dumps(machines_of(cell), sort_keys=True).encode()).hexdigest()[:8]


def _describe_places(places: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, str]:
    """Say of each place, by its digest, what tells it from the others, in as few words as will do.

    >>> cpu, gpu = {"device": "cpu", "threads": 2}, {"device": "cuda", "gpu": "H100", "cuda": "12.4"}
    >>> _describe_places({"a": [cpu], "b": [{**cpu, "threads": 8}], "c": [gpu]})
    {'a': 'cpu, threads 2', 'b': 'cpu, threads 8', 'c': 'H100'}
    """
    names = list(dict.fromkeys([*_TELLING, *(name for of in places.values() for one in of for name in one)]))
    words: dict[str, list[str]] = {digest: [] for digest in places}
    for name in names:
        if len({tuple(of) for of in words.values()}) == len(words):
            break
        said = {digest: _said(name, of) for digest, of in places.items()}
        if len(set(said.values())) > 1:
            for digest, text in said.items():
                words[digest] += [text] if text else []
    told = len({tuple(of) for of in words.values()}) == len(words)
    return {digest: ", ".join(of if told else [*of, f"place {digest}"]) for digest, of in words.items()}


def _said(name: str, places: Sequence[Mapping[str, Any]]) -> str:
    """Name an entry of the evaluation and the training of a cell; empty where it has none."""
    if name == "device":
        return " and ".join(dict.fromkeys(str(one.get("gpu") or one.get("device", "")) for one in places))
    values = dict.fromkeys(str(one[name]) for one in places if name in one)
    return f"{name.replace('_', ' ')} {' and '.join(values)}" if values else ""


def _told_apart(cell: dict[str, Any], words: str) -> dict[str, Any]:
    """Return a cell under a label, and in folders, of its machine alone."""
    digest = _place(cell)
    training = cell["training"]
    if training:
        # Readers take trainings of one key for one training, whose log is read once.
        key, folder = (f"{training[name]}-{digest}" for name in ("key", "folder"))
        training = {**training, "key": key, "folder": folder}
    return {
        **cell,
        "cell": f"{cell['cell']}-{digest}",
        "folder": f"{cell['folder']}-{digest}",
        "label": f"{cell['label']} (on {words})",
        "place": words,
        "training": training,
    }


def _disagreement(one: Experiment, other: Experiment, cell: Mapping[str, Any], why: str) -> UsageError:
    return UsageError(
        f"{cell['label']} on {cell['mask']}, seed {cell['seed']}, has other numbers in {one.name} and {other.name}, "
        f"{why}: merge one of them, or compare them"
    )


def _parts_of(experiment: Experiment) -> list[dict[str, Any]]:
    """Describe who computed an experiment on what; of one that was merged before, its parts."""
    manifest = experiment.manifest
    if manifest.get("merged") and all("part" in cell for cell in experiment.cells):
        return list(manifest["merged"])
    about: dict[str, Any] = {
        key: manifest[key] for key in ("hardware", "software", "commit", "computed_by") if key in manifest
    }
    return [{"experiment": experiment.name, "sha256": manifest.get(SEAL), **about}]


def _cells_with_parts(
    chosen: Sequence[_Chosen], parts: Sequence[Sequence[Mapping[str, Any]]]
) -> list[dict[str, Any]]:
    """Return the cells with their places in the list of all parts."""
    begins = [sum(map(len, parts[:i])) for i in range(len(parts))]
    return [
        {**c.cell, "part": begins[c.part] + (int(c.cell["part"]) if len(parts[c.part]) > 1 else 0)}
        for c in chosen
    ]


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
    if len({m["settings"].get("precision") for m in manifests}) > 1:
        # A machine without bf16 computes in fp32: each cell says in what, and a later run is not held to one of them.
        settings["precision"] = "auto"
    joined = {
        **first,
        "experiment": name,
        "updated": utc_timestamp(),
        "settings": settings,
        "data": _joined_data(experiments),
        # Backwards, so that the first experiment's description wins.
        "masks": {
            k: _joined_mask(k, v, experiments) for m in reversed(manifests) for k, v in m["masks"].items()
        },
        "metrics": {k: v for m in reversed(manifests) for k, v in m["metrics"].items()},
        "commands": [c for m in manifests for c in m.get("commands", [])],
        "options": [o for m in manifests for o in m.get("options", [])],
        # What is planned in one of them is not planned in the new one.
        "planned": [],
        "cells": cells,
    }
    # The seal is of the first experiment's content, and is made anew at the end; who computed what is said of
    # each part.
    for name_of_first in (SEAL, "computed_by"):
        joined.pop(name_of_first, None)
    return joined


def _joined_mask(name: str, mask: dict[str, Any], experiments: Sequence[Experiment]) -> dict[str, Any]:
    """Return the description of a mask with the digest of those stored images that :func:`_copy_files` leaves."""
    holders = (e for e in experiments if e.keeps_pictures(name))
    digest = next((e.manifest["masks"].get(name, {}).get(PICTURES) for e in holders), None)
    rest = {k: v for k, v in mask.items() if k != PICTURES}
    return rest if digest is None else {**rest, PICTURES: digest}


def _joined_data(experiments: Sequence[Experiment]) -> dict[str, Any]:
    """Return the description of the data with the digest of those attributes that :func:`_copy_files` leaves."""
    holders = (e for e in experiments if e.keeps_attributes)
    digest = next((e.manifest["data"].get(ATTRIBUTES_SHA256) for e in holders), None)
    rest = {k: v for k, v in experiments[0].manifest["data"].items() if k != ATTRIBUTES_SHA256}
    # What one machine saw and did not use holds for the table of all.
    notes = [note for e in experiments for note in e.manifest["data"].get("notes") or []]
    rest["notes"] = list(dict.fromkeys(notes))
    return rest if digest is None else {**rest, ATTRIBUTES_SHA256: digest}


def _log_owners(chosen: Sequence[_Chosen], experiments: Sequence[Experiment]) -> dict[str, _Chosen]:
    """Return for each folder of a training the cell whose experiment gives all files of it.

    Experiments that share a training have each run it, or imported it: files of two would contradict each other.
    """
    owners: dict[str, _Chosen] = {}
    for one in chosen:
        if one.cell["status"] == "done" and one.cell["training"]:
            first = owners.setdefault(one.cell["training"]["folder"], one)
            if _log_state(one, experiments) < _log_state(first, experiments):
                owners[one.cell["training"]["folder"]] = one
    return owners


def _log_state(one: _Chosen, experiments: Sequence[Experiment]) -> tuple[bool, bool]:
    """Return whether a cell's log is missing or damaged, and whether nothing is recorded of it: the least is best."""
    experiment, training = experiments[one.part], one.source["training"]
    there = (experiment.folder / training["folder"] / "train.jsonl").is_file()
    return not there or training["key"] in experiment.log_problems, not training.get("log")


def _copy_files(chosen: Sequence[_Chosen], experiments: Sequence[Experiment], folder: Path) -> None:
    """Copy results, stored images and logs; checkpoints stay where they are."""
    folder.mkdir(parents=True, exist_ok=True)
    for one in chosen:
        experiment, cell = experiments[one.part], one.cell
        if cell["status"] != "done":
            continue
        _copy_folder(experiment.folder / one.source["folder"], folder / cell["folder"])
        if cell["label"] != one.source["label"]:
            results = folder / cell["folder"] / "results.parquet"
            write_rows(read_rows(results).assign(label=cell["label"]), results)
    for name_of_folder, one in _log_owners(chosen, experiments).items():
        source = experiments[one.part].folder / one.source["training"]["folder"]
        for name in ("train.jsonl", "training.json", "config.json", IMPORTED_LOG):
            if (source / name).is_file():
                (folder / name_of_folder).mkdir(parents=True, exist_ok=True)
                shutil.copy2(source / name, folder / name_of_folder / name)
    # Backwards, so that the first experiment's pictures stay where several have some.
    for experiment in reversed(experiments):
        if experiment.keeps_attributes:
            shutil.copy2(experiment.folder / ATTRIBUTES, folder / ATTRIBUTES)
        for mask in experiment.manifest["masks"]:
            if experiment.keeps_pictures(mask):
                path = experiment.pictures_path(mask)
                (folder / "pictures").mkdir(exist_ok=True)
                shutil.copy2(path, folder / "pictures" / path.name)


def _copy_folder(source: Path, target: Path) -> None:
    """Copy the files of a cell; unlike ``shutil.copytree`` it ends at the first error, which says what is wrong.

    Raises:
        OSError: one cannot be copied.
    """
    for path in sorted(source.rglob("*")):
        if path.is_file():
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)
