"""What a run would do (``--dry-run``): its cells, what of them is done or changed, time and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.config import Request
from bench.errors import BenchError
from bench.profiling.flops import planned_phases
from bench.runner import cell_files, estimate
from bench.runner.callbacks import RunCallbacks
from bench.runner.context import RunContext
from bench.runner.keys import changed_modules, describe_changes, describe_where
from bench.runner.plan import Cell, TrainingPlan, unique_trainings
from bench.runner.prepare import PreparedRun, prepare_run
from bench.runner.run_folder import RunFolder, read_checked_json
from bench.runner.train import is_trained, own_checkpoint


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
    # The same preparation as a run's, so that whatever stops a run stops its preview with the same message.
    prepared = prepare_run(request, callbacks, root)
    context = prepared.context
    # By name: the key of a changed cell is another, so its old folder can only be found through the manifest.
    recorded = _recorded_keys(context.store)
    cells = []
    left: list[Cell] = []
    for cell in prepared.plan.cells:
        previewed = _preview_cell(cell, prepared, recorded)
        cells.append(previewed)
        if not previewed.done and cell.what:
            left.append(cell)
    trainings = [plan for plan in unique_trainings(left) if not is_trained(context, plan)]
    # Reading them says which checkpoints are refused, each once.
    states = {plan.key: own_checkpoint(context, plan, callbacks.warn) for plan in trainings}
    steps_done = {key: int(state["step"]) for key, state in states.items() if state}
    images, micro_batch = len(prepared.test_images.ids), request.settings.micro_batch
    foreseen = estimate.estimate_run(trainings, left, images, context.compute, steps_done)
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
        # Counted as done: nothing will be computed for it.
        return preview(f"not applicable: {cell.not_applicable}", done=True)
    folder = prepared.context.store.cell(cell.slug, cell.key)
    try:
        saved = cell_files.load_cell(folder, cell, prepared.test_images.ids)
    # Left as it is: a preview touches nothing.
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
    phases = planned_phases(plan.entry.model, plan.config, plan.task, plan.budget)
    total = sum(phase.num_steps for phase in phases)
    folder = context.store.training(plan.slug, plan.key)
    # Its checkpoint is of another machine and would not be resumed.
    if context.request.recompute and (folder / "training.json").is_file():
        return f"to train again here, {total:,} steps"
    state = own_checkpoint(context, plan)
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
    # A damaged manifest is the run's business; here it only means that nothing is known of earlier keys.
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
    # A change of the data is part of both keys, and is said once.
    return list(dict.fromkeys([*trained, *describe_changes(recorded, cell.what)]))
