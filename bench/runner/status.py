"""The status of an experiment, read from its folder: cells, unfinished trainings, size, the process that uses it.

Imports no torch.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bench.config import Request
from bench.errors import BenchError
from bench.profiling.flops import shapes_only
from bench.runner import cell_files, estimate
from bench.runner.callbacks import RunCallbacks
from bench.runner.context import RunContext
from bench.runner.keys import changed_modules, describe_changes, describe_where
from bench.runner.plan import Cell, TrainingPlan, unique_trainings
from bench.runner.prepare import PreparedRun, prepare_run
from bench.runner.run_folder import REPORTS, RUNS, RunFolder, read_checked_json, read_manifest
from bench.runner.train import is_trained
from bench.training import checkpoint
from bench.training.train_log import TrainLog

_CHECKPOINT = re.compile(r"checkpoint-(\d{9})-[0-9a-f]{16}\.pt")


@dataclass(frozen=True)
class TrainingStatus:
    """An unfinished training: its folder's name, steps in the newest checkpoint, last logged, and in all."""

    name: str
    saved_step: int
    logged_step: int
    num_steps: int


@dataclass(frozen=True)
class RunStatus:
    """An experiment.

    Attributes:
        name: of its folder.
        created: time of the first command.
        updated: time of the last change.
        cells: every cell that was planned: model, label, mask, train_mask, seed, status, reason. ``waiting`` ones are
            not started or being trained; of ``damaged`` ones, files are empty or gone.
        trainings: those that are not complete.
        holder: process that works in the folder, if one does.
        num_bytes: what the folder takes.
        report: the page, if it is written.
    """

    name: str
    created: str
    updated: str
    cells: list[dict[str, Any]]
    trainings: list[TrainingStatus]
    holder: str | None
    num_bytes: int
    report: Path | None

    @property
    def counts(self) -> Counter[str]:
        """Cells by status."""
        return Counter(cell["status"] for cell in self.cells)


def read_status(folder: Path) -> RunStatus:
    """Read the status of the experiment in ``folder``.

    Raises:
        BenchError: its manifest is not readable.
    """
    manifest = read_manifest(folder / "manifest.json")
    fields = ("model", "label", "mask", "train_mask", "seed")
    cells = [
        {**{k: c.get(k) for k in fields}, "status": status, "reason": reason}
        for c in manifest["cells"]
        for status, reason in [_status_of(c, folder)]
    ]
    # A model that does not import has no training mask ("-"): it stands for any, as in the manifest.
    exact = {tuple(c[k] for k in ("model", "mask", "train_mask", "seed")) for c in cells}
    broken = {
        tuple(c[k] for k in ("model", "mask", "seed"))
        for c in cells
        if c["status"] == "failed" and c["train_mask"] == "-"
    }
    for planned in manifest.get("planned", []):
        if (
            tuple(planned[k] for k in ("model", "mask", "train_mask", "seed")) not in exact
            and tuple(planned[k] for k in ("model", "mask", "seed")) not in broken
        ):
            cells.append({**{k: planned[k] for k in fields}, "status": "waiting", "reason": None})
    page = (
        folder.parent.parent / REPORTS / folder.name / "index.html"
        if folder.parent.name == RUNS.name
        else folder
    )
    return RunStatus(
        name=folder.name,
        created=manifest["created"],
        updated=manifest.get("updated", manifest["created"]),
        cells=cells,
        trainings=[
            _training(f) for f in sorted(folder.glob("trainings/*")) if not (f / "training.json").is_file()
        ],
        holder=lock_holder(folder),
        num_bytes=folder_bytes(folder),
        report=page if page.is_file() else None,
    )


def _status_of(entry: Mapping[str, Any], folder: Path) -> tuple[str, str | None]:
    """Status and reason of a recorded cell: one whose files are empty or gone is not done."""
    if entry["status"] == "done":
        for name in ("results.parquet", "cell.json"):
            path = folder / entry["folder"] / name
            if not (path.is_file() and path.stat().st_size):
                return "damaged", f"{path.relative_to(folder)} is empty or gone; run the command again"
    return entry["status"], entry.get("reason")


def lock_holder(folder: Path) -> str | None:
    """Return the process that holds an experiment's folder (``123 on host``), or ``None``."""
    if not (folder / ".lock").exists():
        return None
    try:
        with FileLock(folder / ".lock", timeout=0):
            return None
    except Timeout:
        note = folder / ".holder"
        return note.read_text().strip() if note.is_file() else "unknown"
    except OSError:  # read-only: nobody can work in it
        return None


def completed_steps(training: Path) -> int:
    """Return the steps done at the newest checkpoint of a training's folder; 0 where there is none."""
    matches = (_CHECKPOINT.fullmatch(p.name) for p in training.glob("checkpoint-*.pt"))
    return max((int(m[1]) for m in matches if m), default=0)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; files that vanish meanwhile count nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def _training(folder: Path) -> TrainingStatus:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        num_steps = sum(int(phase["num_steps"]) for phase in config["phases"])
    except (OSError, ValueError, KeyError, TypeError):
        num_steps = 0
    logged = max((line["step"] for line in TrainLog(folder / "train.jsonl").read()), default=0)
    return TrainingStatus(folder.name, completed_steps(folder), logged, num_steps)


# What a run would do: its cells, their states, and an estimate of time and memory for the rest.


@dataclass(frozen=True)
class PreviewedCell:
    """A cell and its state, in words; ``done`` cells cost nothing.

    ``changes`` says of a cell that was computed before what has changed since.
    """

    label: str
    mask: str
    seed: int
    state: str
    done: bool
    changes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RunPreview:
    """Cells in table order; ``seconds`` and ``memory_bytes`` (of the largest training) are ``None`` where unknown."""

    folder: Path
    device: str
    cells: list[PreviewedCell]
    trainings: int
    seconds: float | None
    memory_bytes: float | None


def preview_run(request: Request, callbacks: RunCallbacks, root: Path = Path()) -> RunPreview:
    """Plan ``request`` without training, evaluating or touching the run folder. Images are cached if they are not yet.

    Raises:
        UsageError, DataError: what ``run`` would raise before it starts.
    """
    prepared = prepare_run(request, callbacks, root)
    context = prepared.context
    recorded = _recorded_keys(context.store)
    cells = []
    left: list[Cell] = []
    for cell in prepared.plan.cells:
        previewed = _preview_cell(cell, prepared, recorded)
        cells.append(previewed)
        if not previewed.done and cell.what:
            left.append(cell)
    trainings = [plan for plan in unique_trainings(left) if not is_trained(context, plan)]
    images, micro_batch = len(prepared.test_images.ids), request.settings.micro_batch
    foreseen = estimate.estimate_run(trainings, left, images, context.compute)
    return RunPreview(
        folder=context.store.folder,
        device=f"{context.compute.device}, {context.compute.precision}",
        cells=cells,
        trainings=len(trainings),
        seconds=None if foreseen is None else foreseen.seconds,
        memory_bytes=estimate.estimate_memory_bytes(trainings, context.compute, micro_batch),
    )


def _preview_cell(
    cell: Cell, prepared: PreparedRun, recorded: Mapping[_CellName, dict[str, Any]]
) -> PreviewedCell:
    def preview(state: str, *, done: bool = False, changes: Sequence[str] = ()) -> PreviewedCell:
        return PreviewedCell(cell.label, cell.mask, cell.seed, state, done, list(changes))

    if cell.broken:
        return preview(f"cannot be imported: {cell.broken.splitlines()[0]}")
    if cell.not_applicable:
        return preview(f"not applicable: {cell.not_applicable}", done=True)
    folder = prepared.context.store.cell(cell.slug, cell.key)
    try:
        saved = cell_files.load_cell(folder, cell, prepared.test_images.ids)
    except cell_files.DamagedCellError:
        return preview("damaged, to be evaluated again")
    lacking = cell_files.lacking_metrics(prepared, saved)
    if saved is not None and lacking is None:
        where = describe_where(saved.entry.get("where", {}), prepared.context.where)
        kept = [f"computed elsewhere ({'; '.join(where)}), and kept without --recompute"] if where else []
        return preview("done", done=True, changes=kept)
    if saved is not None:
        return preview(*_state_of_saved(saved, lacking or [], prepared))
    changes = describe_recorded(recorded.get(_name_of(cell)), cell)
    changes = [f"changed since it was computed: {', '.join(changes)}"] if changes else []
    if not cell.trained:
        return preview("to evaluate", changes=changes)
    assert cell.training is not None
    return preview(_training_state(cell.training, prepared.context), changes=changes)


def _state_of_saved(saved: cell_files.SavedCell, lacking: Sequence[str], prepared: PreparedRun) -> tuple[str]:
    """Describe a finished cell that lacks metrics or images."""
    where = saved.entry.get("where", {})
    measured = saved.record.get("metrics", {})
    if where != prepared.context.where:
        differences = "; ".join(describe_where(where, prepared.context.where))
        return (f"to evaluate again here ({differences})",)
    new = [name for name in lacking if name not in measured]
    changed = [
        f"{name} (code of {', '.join(changed_modules(measured[name]['code'], prepared.metric_code[name].modules))})"
        for name in lacking
        if name in measured
    ]
    return (f"to measure {', '.join([*new, *changed])}" if lacking else "to complete again, to keep images",)


def _training_state(plan: TrainingPlan, context: RunContext) -> str:
    if is_trained(context, plan):
        return "trained, to evaluate"
    phases = shapes_only(plan.entry.model, plan.config, plan.task).phases(plan.budget)
    total = sum(phase.num_steps for phase in phases)
    folder = context.store.training(plan.slug, plan.key)
    if context.request.recompute and (folder / "training.json").is_file():
        return f"to train again here, {total:,} steps"
    state = checkpoint.newest_checkpoint(folder)
    done = int(state["step"]) if state else 0
    return f"to train from step {done:,} of {total:,}" if done else f"to train, {total:,} steps"


#: Model, mask, training mask, seed: what makes a cell the same cell, whatever it was computed from.
_CellName = tuple[str, str, str, int]


def _name_of(cell: Cell) -> _CellName:
    return cell.model, cell.mask, cell.train_mask, cell.seed


def _recorded_keys(store: RunFolder) -> dict[_CellName, dict[str, Any]]:
    """Name of each finished cell of the experiment -> what ``cell.json`` records of its key (nothing if it is old)."""
    try:
        manifest = store.read_manifest()
    except BenchError:
        return {}
    found = {}
    for entry in (manifest or {}).get("cells", []):
        if entry["status"] == "done":
            try:
                key = read_checked_json(store.folder / entry["folder"] / "cell.json").get("key", {})
            except (OSError, ValueError):
                key = {}
            found[entry["model"], entry["mask"], entry["train_mask"], entry["seed"]] = key
    return found


def describe_recorded(recorded: Mapping[str, Any] | None, cell: Cell) -> list[str]:
    """Say what has changed since a cell was computed; nothing for one that never was."""
    if recorded is None:
        return []
    if not recorded.get("parts"):
        return ["it was computed by an earlier version, which did not record what keys are made of"]
    assert cell.what is not None
    assert cell.training is not None
    trained = describe_changes(recorded.get("training", {}), cell.training.what)
    return list(dict.fromkeys([*trained, *describe_changes(recorded, cell.what)]))
