"""Where an experiment stands, read from its folder: cells, trainings on the way, sizes, who works in it.

Imports no torch.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bench.config import Request
from bench.profiling.flops import shapes_only
from bench.runner import cell_files, estimate
from bench.runner.callbacks import RunCallbacks
from bench.runner.plan import Cell, TrainingPlan
from bench.runner.prepare import PreparedRun, prepare_run
from bench.runner.run_folder import REPORTS, RUNS, read_manifest
from bench.runner.train import TrainedModel
from bench.training.train_log import TrainLog

_CHECKPOINT = re.compile(r"checkpoint-(\d{9})-[0-9a-f]{16}\.pt")


@dataclass(frozen=True)
class TrainingStatus:
    """A training on the way: its folder's name, steps in the newest checkpoint, last logged, and in all."""

    name: str
    saved_step: int
    logged_step: int
    num_steps: int


@dataclass(frozen=True)
class RunStatus:
    """An experiment.

    Attributes:
        cells: every cell that was planned: model, label, mask, train_mask, seed, status, reason. ``waiting`` ones are
            not started or on the way.
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
    """The status of the experiment in ``folder``.

    Raises:
        BenchError: its manifest is not readable.
    """
    manifest = read_manifest(folder / "manifest.json")
    fields = ("model", "label", "mask", "train_mask", "seed")
    cells = [
        {**{k: c.get(k) for k in fields}, "status": c["status"], "reason": c.get("reason")}
        for c in manifest["cells"]
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
        name=manifest["experiment"],
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


def lock_holder(folder: Path) -> str | None:
    """The process that holds an experiment's folder (``123 on host``), or ``None``."""
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
    """Steps in the newest checkpoint of a training's folder; 0 where there is none."""
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


# What a run would do: its cells, what of them is done, and about how long and how large the rest is.


@dataclass(frozen=True)
class PreviewedCell:
    """A cell and where it stands, in words; ``done`` cells cost nothing."""

    label: str
    mask: str
    seed: int
    state: str
    done: bool


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
    """Plan ``request`` without training, evaluating or touching the run folder. Pictures are packed if they are not.

    Raises:
        UsageError, DataError: what ``run`` would raise before it starts.
    """
    prepared = prepare_run(request, callbacks, root)
    cells = []
    left: list[Cell] = []
    for cell in prepared.plan.cells:
        state, done = _state(cell, prepared, pictures=request.pictures)
        if not done and cell.training and not cell.not_applicable:
            left.append(cell)
        cells.append(PreviewedCell(cell.label, cell.mask, cell.seed, state, done))
    wanted = {c.training.key: c.training for c in left if c.training and c.trained}.values()
    trainings = [t for t in wanted if not TrainedModel.is_complete(prepared.store, t)]
    foreseen = estimate.estimate_run(trainings, left, len(prepared.test_images.ids), prepared.compute)
    return RunPreview(
        folder=prepared.store.folder,
        device=f"{prepared.compute.device}, {prepared.compute.precision}",
        cells=cells,
        trainings=len(trainings),
        seconds=None if foreseen is None else foreseen.seconds,
        memory_bytes=estimate.estimate_memory_bytes(
            trainings, prepared.compute, request.settings.micro_batch
        ),
    )


def _state(cell: Cell, prepared: PreparedRun, *, pictures: bool) -> tuple[str, bool]:
    """Where a cell stands, and whether nothing is left to do."""
    if cell.broken:
        return f"cannot be imported: {cell.broken.splitlines()[0]}", False
    if cell.not_applicable:
        return f"not applicable: {cell.not_applicable}", True
    assert cell.training is not None
    folder = prepared.store.cell(cell.slug, prepared.key(cell))
    try:
        if cell_files.load_cell(folder, prepared.test_images.ids, pictures=pictures) is not None:
            return "done", True
    except cell_files.DamagedCellError:
        return "damaged, to be evaluated again", False
    if not cell.trained:
        return "to evaluate", False
    return _training_state(cell.training, prepared), False


def _training_state(plan: TrainingPlan, prepared: PreparedRun) -> str:
    if TrainedModel.is_complete(prepared.store, plan):
        return "trained, to evaluate"
    total = sum(
        p.num_steps for p in shapes_only(plan.entry.model, plan.config, plan.task).phases(plan.budget)
    )
    done = completed_steps(prepared.store.training(plan.slug, plan.key))
    return f"to train from step {done:,} of {total:,}" if done else f"to train, {total:,} steps"
