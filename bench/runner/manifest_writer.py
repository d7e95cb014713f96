"""``manifest.json``: what an experiment is and how far it is. Written after every cell."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import masks.bank
import masks.registry
from bench import provenance, toml
from bench.config import Request, RunConfig
from bench.data import Dataset, ImageSet
from bench.data.dataset import unseen_identities
from bench.errors import UsageError
from bench.evaluation.distributions import SetScore
from bench.evaluation.evaluator import EvaluationResult
from bench.evaluation.metrics import list_metrics
from bench.runner.cell_files import with_primary
from bench.runner.plan import Cell, Plan
from bench.runner.run_folder import RunFolder, atomic_write, utc_timestamp
from bench.runner.train import TrainedModel
from bench.training.device import Compute
from reports.results.schema import EXTERNAL, cell_numbers

#: The resolved options of the last command that wrote into an experiment, beside its manifest.
CONFIG = "config.toml"
#: Settings in which all cells of one experiment agree.
_PROTOCOL = (
    "preset",
    "size",
    "crop",
    "track",
    "images_seen",
    "batch",
    "micro_batch",
    "steps_per_phase",
    "learning_rate",
    "flips",
    "precision",
    "compile",
    "train_images",
    "evaluate_on",
    "test_images",
    "mask_bank",
)


class Manifest:
    """The manifest in memory, and on disk after every change."""

    def __init__(self, store: RunFolder, value: dict[str, Any]) -> None:
        self.store, self.value = store, value
        #: Where this run computes; every cell it adds says so.
        self.numerics: dict[str, Any] = {}

    def elsewhere(self) -> list[str]:
        """Labels of finished cells that were computed on other software or hardware than this run's.

        Pictures of other programs are not among them: no run can compute them.
        """
        done = [c for c in self.value["cells"] if c["status"] == "done" and c["train_mask"] != EXTERNAL]
        return sorted({c["label"] for c in done if c.get("numerics") != self.numerics})

    def add(self, entry: dict[str, Any]) -> None:
        """Add a cell; it replaces an earlier one of the same model, mask, training mask and seed.

        A model that does not import has no training mask: it replaces, and is replaced by, any.
        """
        cells = [c for c in self.value["cells"] if not _replaces(entry, c)]
        self.value["cells"] = [*cells, entry]
        self.store.write_manifest(self.value)

    def expect(self, plan: Plan) -> None:
        """Note the cells that are to come, so that ``bench status`` can tell what is missing."""
        told = [
            {"model": c.model, "label": c.label, "mask": c.mask, "train_mask": c.train_mask, "seed": c.seed}
            for c in plan.cells
        ]
        before = [c for c in self.value.get("planned", []) if c not in told]
        self.value["planned"] = [*before, *told]
        self.store.write_manifest(self.value)

    def add_mask(self, name: str, drawn: NDArray[np.uint8]) -> None:
        """Describe the masks that were drawn for a name."""
        self.value["masks"][name] = {
            "digest": masks.bank.masks_digest(drawn),
            "mean_hole_ratio": float(drawn.mean()),
            "summary": masks.registry.mask_info(name).summary,
        }

    def finish(self, plan: Plan) -> None:
        """Put the cells into table order."""
        order = {cell.model: i for i, cell in reversed(list(enumerate(plan.cells)))}
        self.value["cells"].sort(key=lambda c: (order.get(c["model"], len(order)), c["mask"], c["seed"]))
        self.store.write_manifest(self.value)


def open_or_create(
    store: RunFolder,
    request: Request,
    data: Dataset,
    test_images: ImageSet,
    compute: Compute,
    unavailable: dict[str, str],
) -> Manifest:
    """The experiment's manifest with this run's set-up.

    Raises:
        UsageError: the folder holds results of another set-up.
    """
    old = store.read_manifest()
    settings = {
        **request.settings.as_dict(),
        "masks": list(request.masks),
        "models": list(request.models),
        "precision": compute.precision,
        "pictures": request.pictures,
    }
    if old is not None:
        defaults = RunConfig().as_dict()  # of what the older program did not have
        differing = [k for k in _PROTOCOL if old["settings"].get(k, defaults[k]) != settings[k]]
        if old["data"]["fingerprint"] != data.fingerprint:
            differing.append("data")
        if differing:
            raise UsageError(
                f"{store.folder} holds results of another set-up ({', '.join(differing)} differ); "
                "give another --name"
            )
        for kind in ("models", "masks"):  # what the cells hold, whichever command added them
            held = [cell[kind[:-1]] for cell in old["cells"] if cell["train_mask"] != EXTERNAL]
            settings[kind] = list(dict.fromkeys([*held, *settings[kind]]))
    options = {**request.options, "name": store.name} if request.options else {}
    earlier = [c for c in (old or {}).get("commands", []) if c != list(request.command)]
    value = {
        "experiment": store.name,
        "created": old["created"] if old else utc_timestamp(),
        "command": list(request.command),
        "settings": settings,
        "data": {
            "name": data.name,
            "title": data.title,
            "licence": data.licence,
            "procedural": data.procedural,
            "claims_dataset": data.kind.claims_dataset,
            "aligned_faces": data.aligned_faces,
            "source": request.data,
            "train": len(data.train.ids),
            "validation": len(data.validation.ids),
            "test": len(data.test.ids),
            "evaluated": len(test_images.ids),
            "fingerprint": data.fingerprint,
            "split": data.split_name,
            "crop": data.crop,
            "skipped": [dataclasses.asdict(s) for s in data.skipped],
            "shared_identities": data.shared_identities,
            "unseen_identities": unseen_identities(test_images, data.train, request.settings.train_images),
            "unnamed_images": data.unnamed_images,
            "duplicates": [list(pair) for pair in data.duplicates],
            "notes": data.notes,
        },
        "software": provenance.software_versions(),
        "hardware": {**provenance.hardware_info(), **compute.numerics()},
        "commands": [*earlier, list(request.command)],
        "options": [*(o for o in (old or {}).get("options", []) if o != options), options],
        "commit": provenance.git_commit(),
        "masks": old["masks"] if old else {},
        "planned": (old or {}).get("planned", []),
        "metrics": {
            name: {**info.as_record(), "unavailable": unavailable.get(name)}
            for name, info in list_metrics().items()
        },
        "cells": old["cells"] if old else [],
    }
    manifest = Manifest(store, value)
    manifest.numerics = {**compute.numerics(), **provenance.numeric_library_versions()}
    store.write_manifest(value)
    if options:
        text = f"# bench run --config {store.folder / CONFIG}: the options as resolved\n{toml.toml_dumps(options)}"
        atomic_write(store.folder / CONFIG, lambda path: path.write_text(text, encoding="utf-8"))
    return manifest


def done_entry(
    cell: Cell,
    folder: Path,
    store: RunFolder,
    trained: TrainedModel,
    result: EvaluationResult,
    numerics: dict[str, Any],
) -> dict[str, Any]:
    """The manifest's entry of a finished cell."""
    images = len(result.rows)
    return {
        **_entry(cell, "done"),
        "cell": folder.name,
        "folder": str(folder.relative_to(store.folder)),
        "numerics": numerics,
        "training": trained.summary,
        "fit": trained.fit,
        "evaluation": {
            "seconds": result.seconds,
            "images_per_second": images / max(result.seconds, 1e-9),
            "numbers": cell_numbers(with_primary(result.rows)),
            "sets": {name: _set_entry(score, images) for name, score in result.sets.items()},
        },
    }


def _set_entry(score: SetScore, images: int) -> dict[str, Any]:
    """Record a number of a set of images, with its interval where the metric has one."""
    numbers = {"value": score.value, "low": score.low, "high": score.high}
    kept = {name: None if math.isnan(value) else value for name, value in numbers.items()}
    if kept["low"] is None:
        del kept["low"], kept["high"]
    return {**kept, "images": images}


def failed_entry(cell: Cell, reason: str, error: str) -> dict[str, Any]:
    """A cell that failed, with its traceback."""
    return {**_entry(cell, "failed"), "reason": reason, "error": error}


def not_applicable_entry(cell: Cell) -> dict[str, Any]:
    """A cell that cannot be, and why."""
    return {**_entry(cell, "not-applicable"), "reason": cell.not_applicable}


def _entry(cell: Cell, status: str) -> dict[str, Any]:
    plan = cell.training
    card = plan.entry.card if plan else None
    return {
        "cell": cell.slug,
        "folder": None,
        "model": cell.model,
        "label": cell.label,
        "summary": card.summary if card else "",
        "paper": card.paper if card else "",
        "groups": list(card.groups) if card else [],
        "trained": cell.trained,
        "mask": cell.mask,
        "train_mask": cell.train_mask,
        "seed": cell.seed,
        "track": plan.budget.track if plan else "",
        "status": status,
        "reason": None,
        "error": None,
        "config": dataclasses.asdict(plan.config) if plan else {},
        "ambiguities": [dataclasses.asdict(a) for a in plan.entry.model.ambiguities] if plan else [],
        "training": None,
        "evaluation": None,
    }


def _replaces(new: dict[str, Any], old: dict[str, Any]) -> bool:
    same = all(new[k] == old[k] for k in ("model", "mask", "seed"))
    unknown = any(c["status"] == "failed" and c["train_mask"] == "-" for c in (new, old))
    return same and (unknown or new["train_mask"] == old["train_mask"])
