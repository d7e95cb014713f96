"""What a manifest records and what ``bench run`` would be asked to compute it again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from bench.config import Request, RunConfig
from bench.errors import BenchError, UsageError
from bench.evaluation.cards import CARDS
from bench.runner.run_folder import read_manifest
from models.pretrained import as_tuples
from models.registry import suggest
from reports.results.schema import numbers
from reports.results.schema import EXTERNAL, SchemaError, read_rows


@dataclass(frozen=True)
class Record:
    """What is to be reproduced: a manifest, the cells chosen of it, and their numbers (metric -> mean and digest).

    ``skipped`` are labels of pictures of other programs, which no run can make.
    """

    path: Path
    manifest: dict[str, Any]
    cells: list[dict[str, Any]]
    numbers: list[dict[str, dict[str, Any]]]
    skipped: list[str]


def read_record(path: Path, cell: str | None = None) -> Record:
    """The finished cells of a manifest, or the one that is named.

    Numbers are taken from the manifest itself; one of an older version needs its results beside it.

    Raises:
        UsageError: no cell of that name (with suggestions), or none that is finished.
        BenchError: not a manifest of this version, damaged, or without numbers.
    """
    manifest = read_manifest(path)
    try:
        done = [c for c in manifest["cells"] if c["status"] == "done"]
        if cell is not None:
            names = {c["cell"] for c in done}
            done = [c for c in done if c["cell"] == cell or c["cell"].rpartition("-")[0] == cell]
            if not done:
                raise UsageError(f"--cell {cell}: no finished cell of {path}{suggest(cell, names)}")
            if len(done) > 1:
                raise UsageError(f"--cell {cell}: is one of {', '.join(c['cell'] for c in done)}; name one")
        skipped = list(dict.fromkeys(c["label"] for c in done if c["train_mask"] == EXTERNAL))
        done = [c for c in done if c["train_mask"] != EXTERNAL]
        if not done:
            of_others = f" (but pictures of other programs: {', '.join(skipped)})" if skipped else ""
            raise UsageError(f"{path}: holds no finished cell{of_others}, so there is nothing to reproduce")
        return Record(path, manifest, done, [recorded_numbers(c, path.parent) for c in done], skipped)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BenchError(
            f"{path}: damaged ({type(error).__name__}: {error}); get a whole copy of it"
        ) from error


def recorded_numbers(cell: dict[str, Any], folder: Path) -> dict[str, dict[str, Any]]:
    """Metric -> mean and digest of a finished cell whose experiment lies in ``folder``; only those with a mean."""
    kept = cell["evaluation"].get("numbers")
    if kept is None:
        rows = folder / cell["folder"] / "results.parquet"
        try:
            kept = numbers(read_rows(rows))
        except SchemaError as error:
            raise BenchError(
                f"the manifest is of a version that keeps its numbers beside it: {error}"
            ) from error
    sets = {name: {"mean": score["value"]} for name, score in cell["evaluation"].get("sets", {}).items()}
    found = {**kept, **sets}
    if not all(isinstance(number["mean"], int | float | None) for number in found.values()):
        raise TypeError("a mean is not a number")
    return {name: number for name, number in found.items() if number["mean"] is not None}


def requests(
    record: Record, name: str, *, data: str | None = None, models_from: Sequence[str] = ()
) -> list[Request]:
    """What ``bench run`` would be asked for the record's cells: one request for cells that a run can compute together.

    Args:
        record: what is to be reproduced.
        name: of the new experiment.
        data: where the pictures lie here; as recorded without it.
        models_from: the user's own model files; as recorded without them.
    """
    manifest, settings = record.manifest, record.manifest["settings"]
    known = {field.name for field in fields(RunConfig)}
    common: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in settings.items() if k in known
    }
    common["metrics"] = tuple(sorted({m for found in record.numbers for m in found} & set(CARDS)))
    recorded_files = {p for options in manifest.get("options", []) for p in options.get("models-from", [])}
    return [
        Request(
            models=tuple(configs),
            masks=mask_names,
            data=data or manifest["data"]["source"],
            settings=RunConfig(**{**common, "train_mask": train_mask, "seeds": seeds}),
            model_options=configs,
            models_from=tuple(models_from) or tuple(sorted(recorded_files)),
            name=name,
            device=record.cells[0]["numerics"]["device"],
            pictures=bool(settings.get("pictures", True)),
            allow_unreadable=True,  # the fingerprint is what counts
            command=("bench", "reproduce", str(record.path)),
        )
        for (train_mask, mask_names, seeds, _), configs in _together(record.cells).items()
    ]


#: Training mask, masks, seeds; and a number that keeps apart two configs of one model.
_Group = tuple[str, tuple[str, ...], tuple[int, ...], int]


def _together(cells: Sequence[dict[str, Any]]) -> dict[_Group, dict[str, dict[str, Any]]]:
    """What one request each can ask for -> model -> its config."""
    wanted: dict[tuple[str, str, str], set[tuple[str, int]]] = {}
    for cell in cells:
        trained_on = cell["train_mask"] if cell["trained"] else ""
        key = (cell["model"], json.dumps(cell["config"]), trained_on)
        wanted.setdefault(key, set()).add((cell["mask"], cell["seed"]))
    groups: dict[_Group, dict[str, dict[str, Any]]] = {}
    for (model, config, trained_on), pairs in sorted(wanted.items(), key=lambda item: not item[0][2]):
        by_masks: dict[tuple[str, ...], list[int]] = {}
        for seed in sorted({seed for _, seed in pairs}):
            by_masks.setdefault(tuple(sorted(m for m, s in pairs if s == seed)), []).append(seed)
        for names, seeds in by_masks.items():
            fields_of = {field: as_tuples(value) for field, value in json.loads(config).items()}
            _place(groups, model, fields_of, (trained_on, names, tuple(seeds)))
    return groups


def _place(
    groups: dict[_Group, dict[str, dict[str, Any]]],
    model: str,
    config: dict[str, Any],
    where: tuple[str, tuple[str, ...], tuple[int, ...]],
) -> None:
    """Put a model into the group where it belongs; an untrained fill (trained on nothing) into any with its masks."""
    trained_on, names, seeds = where
    if not trained_on:
        for group, configs in groups.items():
            if group[1] == names and model not in configs:
                configs[model] = config
                return
    number = 0
    while model in groups.get((trained_on or "auto", names, seeds, number), {}):
        number += 1
    groups.setdefault((trained_on or "auto", names, seeds, number), {})[model] = config
