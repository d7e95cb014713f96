"""What a run would do: its cells, what of them is done, and about how long and how large the rest is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.config import Request
from bench.runner import cell_files, estimate
from bench.runner.callbacks import Listener
from bench.runner.plan import Cell, TrainingPlan
from bench.runner.prepare import Prepared, prepare
from bench.runner.status import steps_done
from bench.runner.train import TrainedModel
from bench.profiling.flops import shapes_only


@dataclass(frozen=True)
class PreviewedCell:
    """A cell and where it stands, in words; ``done`` cells cost nothing."""

    label: str
    mask: str
    seed: int
    state: str
    done: bool


@dataclass(frozen=True)
class Preview:
    """Cells in table order; ``seconds`` and ``memory_bytes`` (of the largest training) are ``None`` where unknown."""

    folder: Path
    device: str
    cells: list[PreviewedCell]
    trainings: int
    seconds: float | None
    memory_bytes: float | None


def preview(request: Request, listener: Listener, root: Path = Path()) -> Preview:
    """Plan ``request`` without training, evaluating or touching the run folder. Pictures are packed if they are not.

    Raises:
        UsageError, DataError: what ``run`` would raise before it starts.
    """
    prepared = prepare(request, listener, root)
    cells = []
    left: list[Cell] = []
    for cell in prepared.plan.cells:
        state, done = _state(cell, prepared, pictures=request.pictures)
        if not done and cell.training and not cell.not_applicable:
            left.append(cell)
        cells.append(PreviewedCell(cell.label, cell.mask, cell.seed, state, done))
    wanted = {c.training.key: c.training for c in left if c.training and c.trained}.values()
    trainings = [t for t in wanted if not TrainedModel.is_complete(prepared.store, t)]
    return Preview(
        folder=prepared.store.folder,
        device=f"{prepared.compute.device}, {prepared.compute.precision}",
        cells=cells,
        trainings=len(trainings),
        seconds=estimate.seconds(trainings, left, len(prepared.test_images.ids), prepared.compute),
        memory_bytes=estimate.memory_bytes(trainings, prepared.compute, request.settings.micro_batch),
    )


def _state(cell: Cell, prepared: Prepared, *, pictures: bool) -> tuple[str, bool]:
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


def _training_state(plan: TrainingPlan, prepared: Prepared) -> str:
    if TrainedModel.is_complete(prepared.store, plan):
        return "trained, to evaluate"
    total = sum(
        p.num_steps for p in shapes_only(plan.entry.model, plan.config, plan.task).phases(plan.budget)
    )
    done = steps_done(prepared.store.training(plan.slug, plan.key))
    return f"to train from step {done:,} of {total:,}" if done else f"to train, {total:,} steps"
