"""From a training plan to a trained model: train, resume, or load from the run folder."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import masks.bank
import masks.registry
from bench.evaluation import evaluator
from bench.evaluation.image_batch import NotFiniteError
from bench.profiling.flops import count_operations
from bench.profiling.peak_memory import PeakMemory
from bench.runner import training_instabilities
from bench.runner.callbacks import RunCallbacks
from bench.runner.context import RunContext
from bench.runner.final_checkpoint import describe_weights, generator_weights
from bench.runner.fit_baseline import fit_baseline
from bench.runner.keys import describe_where
from bench.runner.plan import TrainingPlan, train_mask_names
from bench.runner.run_folder import (
    RunFolder,
    file_signature,
    read_checked_json,
    remove_folder,
    write_checked_json,
)
from bench.runner.sample_grid import SampleGrid
from bench.training import checkpoint
from bench.training.data_loader import TrainingDataLoader
from bench.training.model_setup import build_model
from bench.training.phase_schedule import Intervals, Schedule
from bench.training.train_log import TrainLog
from bench.training.trainer import Trainer, TrainerHooks
from models.base import InpaintingModel
from models.pretrained import tensors_digest
from reports.results.experiment import read_train_log, values_digest

_VALIDATION_IMAGES = 64


@dataclass(frozen=True)
class TrainedModel:
    """A model ready to be evaluated.

    Attributes:
        plan: what was trained or fitted.
        model: on the device.
        summary: record of its training; ``None`` for training-free baselines.
        fit: what a training-free baseline chose on validation images; ``None`` where there is nothing to choose.
    """

    plan: TrainingPlan
    model: InpaintingModel
    summary: dict[str, Any] | None
    fit: dict[str, Any] | None = None


def read_training_record(store: RunFolder, plan: TrainingPlan) -> dict[str, Any] | None:
    """Return what ``training.json`` records of a training that has ended; ``None`` where it has not.

    It is written last. One that is damaged, or that belongs to another training, counts as not there: the training is
    then resumed from its checkpoint, and the record is written again.
    """
    try:
        record = read_checked_json(store.training(plan.slug, plan.key) / "training.json")
    except (OSError, ValueError):
        return None
    return record if record.get("key") == plan.key else None


def is_trained(context: RunContext, plan: TrainingPlan) -> bool:
    """Return whether a training has ended and is taken as it is: its record is there, and its weights can be read.

    With ``--recompute``, one that was computed with other versions or on other hardware is not.
    """
    record = read_training_record(context.store, plan)
    if record is None or (context.request.recompute and _is_from_elsewhere(record, context)):
        return False
    # The record alone is not enough: the weights may have been removed to save space, or be damaged.
    state = own_checkpoint(context, plan)
    return state is not None and bool(state.get("complete")) and _are_recorded(state, record)


def own_checkpoint(
    context: RunContext, plan: TrainingPlan, warn: Callable[[str], None] = lambda _: None
) -> dict[str, Any] | None:
    """Return the newest checkpoint that a training is resumed from or taken as; ``None`` where it begins at step 0.

    Args:
        context: the run.
        plan: the training.
        warn: called with one sentence about each checkpoint that is refused: damaged, or of another training.
    """
    folder = context.store.training(plan.slug, plan.key)
    state = checkpoint.newest_checkpoint(folder, warn=warn)
    if state is not None and state.get("origin", {}).get("what") != plan.key:
        warn(f"{folder}: holds a checkpoint of another training; starting from step 0")
        return None
    return state


def _are_recorded(state: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """Return whether a checkpoint holds the weights that ``training.json`` records; earlier versions record none."""
    recorded = (record.get("weights") or {}).get("digest")
    return recorded is None or recorded == tensors_digest(generator_weights(state))


def _is_from_elsewhere(record: Mapping[str, Any], context: RunContext) -> bool:
    return any(where != context.where for where in record.get("where", []))


def train_model(plan: TrainingPlan, context: RunContext, *, index: int = 0, of: int = 0) -> TrainedModel:
    """Train, resume or load the model of ``plan``.

    Args:
        plan: what is trained.
        context: the run.
        index: which of the run's trainings this is, from 1; for the callbacks.
        of: how many there are.
    """
    compute, store, callbacks = context.compute, context.store, context.callbacks
    compiled = context.request.settings.compile
    # Built even where weights are loaded next: they need modules to go into.
    model = build_model(plan.entry, plan.config, plan.task, plan.seed, compute, compiled=compiled)
    if not plan.entry.model.trained:
        return TrainedModel(
            plan, model, None, fit_baseline(model, plan, context) if model.needs_fit else None
        )
    folder = store.training(plan.slug, plan.key)
    schedule = Schedule(model.phases(plan.budget))
    # Rank 0 reads the folder and broadcasts what it found.
    state = compute.process_group.broadcast(_finished_state(plan, context) if _is_main(context) else None)
    if state:
        model.networks.load_state_dict(state["networks"])
    else:
        callbacks.training_started(plan.label, index, of, schedule.num_steps)
        # Before the model trains, so that the peak of an earlier cell does not count.
        memory = PeakMemory(compute)
        _train(model, schedule, plan, context)
        if _is_main(context):
            # Only now, when the last checkpoint is on disk: this record is what marks a training as finished.
            record = _training_record(model, schedule, plan, context) | {"peak_memory_mb": memory.mebibytes()}
            write_checked_json(folder / "training.json", record)
            callbacks.training_done(plan.label, record["seconds"])
    # Read back from disk, so that a fresh training and one that is taken over leave the same values in the
    # manifest.
    return TrainedModel(plan, model, read_training_record(store, plan) if _is_main(context) else None)


def _is_main(context: RunContext) -> bool:
    return context.compute.process_group.is_main


def _finished_state(plan: TrainingPlan, context: RunContext) -> dict[str, Any] | None:
    """Return the last checkpoint of a finished training; otherwise leave the folder ready to train in."""
    record = read_training_record(context.store, plan)
    folder = context.store.training(plan.slug, plan.key)
    if record is not None and context.request.recompute and _is_from_elsewhere(record, context):
        # Its checkpoint would be resumed otherwise, on other hardware than the one that it was computed on.
        remove_folder(folder)
        return None
    if record is None:
        return None
    refused: list[str] = []
    state = own_checkpoint(context, plan, refused.append)
    if state is None or not state.get("complete"):
        # The record of a finished training without its weights: train again rather than evaluate anything else.
        # What is refused is told by the trainer, which looks again.
        (folder / "training.json").unlink()
        return None
    if not _are_recorded(state, record):
        # Of the same training, computed elsewhere and put here: cells measured with both would stand in one row.
        context.callbacks.warn(
            f"{folder}: holds other weights than training.json records; starting from step 0"
        )
        remove_folder(folder)
        return None
    for sentence in refused:
        context.callbacks.warn(sentence)
    return state


def _train(model: InpaintingModel, schedule: Schedule, plan: TrainingPlan, context: RunContext) -> None:
    request, compute, callbacks = context.request, context.compute, context.callbacks
    settings, folder = request.settings, context.store.training(plan.slug, plan.key)
    names = train_mask_names(plan.train_mask)
    # A function of the seed: a resumed training draws the same masks, so they need not be stored.
    bank = masks.bank.draw_bank(names, settings.mask_bank, settings.size, plan.seed)
    batches = TrainingDataLoader(
        context.data.train.pixels[: settings.train_images],
        bank.packed,
        batch_size=plan.batch_size,
        seed=plan.seed,
        flips=settings.flips,
        compute=compute,
    )
    # Other processes do not write, so they need no log and no record of where they compute.
    log, origin = None, {"what": plan.key, "where": [context.where]}
    if _is_main(context):
        origin["where"] = _write_config(plan, context, schedule, bank.digest)
        log = _ReportedLog(folder / "train.jsonl", plan.label, context.callbacks)
    grid = SampleGrid(model, context.data, names[0], compute, folder) if request.samples_every else None

    def draw_samples(step: int) -> None:
        assert grid is not None
        context.callbacks.samples_drawn(plan.label, step, grid(step))

    # Not less than one step, in trainings of fewer than ten.
    tenth = max(1, schedule.num_steps // 10)
    Trainer(
        model,
        schedule,
        batches,
        compute,
        folder,
        intervals=Intervals(
            # At least ten of each in a training, however short it is: a claim rests on how validations fluctuate.
            report=min(settings.report_every, tenth),
            validate=min(settings.validate_every or tenth, tenth),
            checkpoint=settings.checkpoint_every,
            sample=request.samples_every,
        ),
        micro_batch=settings.micro_batch,
        hooks=TrainerHooks(
            validate=_validator(model, names, context),
            sample=draw_samples,
            on_progress=lambda progress: callbacks.training_progress(plan.label, progress),
            on_step=lambda step: callbacks.training_step(plan.label, step, schedule.num_steps),
            warn=callbacks.warn,
            log=log,
            origin=origin,
        ),
    ).train()


class _ReportedLog(TrainLog):
    """``train.jsonl``, whose lines are passed to the callbacks too."""

    def __init__(self, path: Path, label: str, callbacks: RunCallbacks) -> None:
        super().__init__(path)
        self._label, self._callbacks = label, callbacks

    def rewind(self, step: int) -> None:
        super().rewind(step)
        if (lost := self.lost_before) is not None:
            self._callbacks.warn(
                f"{self.path}: not what was written; lines before step {lost} are lost, and the page says so where "
                "curves and stability are shown"
            )
        self._callbacks.training_opened(self._label, self.path.parent, step)

    def write(self, line: dict[str, Any]) -> None:
        super().write(line)
        self._callbacks.training_logged(self._label, line)


def _write_config(
    plan: TrainingPlan, context: RunContext, schedule: Schedule, mask_bank_digest: str
) -> list[dict[str, Any]]:
    """Write ``config.json``, and return where the training is computed: one entry per machine that has a part in it."""
    folder = context.store.training(plan.slug, plan.key)
    # Without a checkpoint nothing of an earlier attempt is left, and the machine of that attempt had no part.
    where = recorded_where(folder)
    if where and where[-1] != context.where:
        differences = "; ".join(describe_where(where[-1], context.where))
        context.callbacks.warn(
            f"{plan.label}: resumed on other software or hardware than it was begun on ({differences}); "
            "the training records both, and its numbers cannot be reproduced bit for bit"
        )
    # A new entry only where the machine changed: a training that is resumed ten times on one machine has one.
    where = where if where and where[-1] == context.where else [*where, context.where]
    write_checked_json(
        folder / "config.json",
        {
            "model": plan.entry.card.name,
            "config": dataclasses.asdict(plan.config),
            "task": _task_record(plan),
            "train_mask": plan.train_mask,
            "mask_bank_digest": mask_bank_digest,
            "seed": plan.seed,
            "batch_size": plan.batch_size,
            "settings": context.request.settings.as_dict(),
            "phases": [dataclasses.asdict(phase) for phase in schedule.phases],
            "key": plan.key,
            "what": plan.what.as_json(),
            "where": where,
        },
    )
    return where


def _task_record(plan: TrainingPlan) -> dict[str, Any]:
    task = plan.task
    return {"size": task.size, "fixed_hole_box": task.fixed_hole_box, "mean_pixel": task.mean_pixel}


def recorded_where(folder: Path) -> list[dict[str, Any]]:
    """Return the machines that had a part in the newest checkpoint of a training, in order; none where there is none.

    Those of ``config.json`` where the checkpoint is of an earlier version, and does not say.
    """
    state = checkpoint.newest_checkpoint(folder)
    if state is None:
        return []
    # The checkpoint first: its name is the digest of its bytes, so that it is refused before it forgets a machine.
    # config.json may be damaged or gone, and also names a machine that has added no step yet.
    recorded = state.get("origin", {}).get("where")
    if not isinstance(recorded, list):
        try:
            recorded = read_checked_json(folder / "config.json")["where"]
        except (OSError, ValueError, KeyError):
            return []
    return recorded if isinstance(recorded, list) else []


def _validator(
    model: InpaintingModel, names: list[str], context: RunContext
) -> Callable[[], dict[str, float]] | None:
    """Return the function that scores the model on validation images; ``None`` where the data have none."""
    if not context.data.validation.ids:
        return None
    # Images by seed, with the first of the mixture's masks: the same for all models, so that curves compare.
    images = evaluator.sample_subset(context.data.validation, _VALIDATION_IMAGES)
    drawn = masks.registry.draw_validation_masks(names[0], images.ids, context.data.size)

    def validate() -> dict[str, float]:
        try:
            return evaluator.validation_score(model, images, drawn, context.compute, ["psnr_db"])
        except NotFiniteError:
            # NaN here, since the trainer turns it into an error that names the step and the last good
            # checkpoint.
            return {"psnr_db": math.nan}

    return validate


def _training_record(
    model: InpaintingModel, schedule: Schedule, plan: TrainingPlan, context: RunContext
) -> dict[str, Any]:
    """Return what ``training.json`` records of a training that has ended."""
    folder = context.store.training(plan.slug, plan.key)
    # The clock is the checkpoint's: it counts all attempts, and no time in which nothing was trained.
    state = checkpoint.newest_checkpoint(folder)
    seconds = float(state["metric_logger"]["seconds"]) if state else 0.0
    images_seen = schedule.num_steps * plan.batch_size
    try:
        macs: float | None = count_operations(
            plan.entry.model, plan.config, plan.task, plan.budget
        ).multiply_accumulates
    except Exception:  # a user's model that cannot be traced without data is not a failed training
        macs = None
    log = TrainLog(folder / "train.jsonl")
    lost = log.lost_before
    return {
        "key": plan.key,
        # From the checkpoint and not from this process, which may have continued the work of another machine.
        "where": (state or {}).get("origin", {}).get("where", [context.where]),
        "folder": str(folder.relative_to(context.store.folder)),
        "model": plan.entry.card.name,
        "train_mask": plan.train_mask,
        "seed": plan.seed,
        "seconds": seconds,
        "images_per_second": images_seen / max(seconds, 1e-9),
        "num_steps": schedule.num_steps,
        "batch_size": plan.batch_size,
        "images_seen": images_seen,
        "precision": context.compute.precision,
        "phases": [{"name": p.name, "num_steps": p.num_steps} for p in schedule.phases],
        "parameters": {
            name: sum(p.numel() for p in network.parameters()) for name, network in model.networks.items()
        },
        "multiply_accumulates": macs,
        # Now, while they are here: checkpoints do not travel, and the card of a bundle names the weights by it.
        "weights": describe_weights(generator_weights(state), _task_record(plan)),
        "events": training_instabilities.find_instabilities(log.read()),
        # The record vouches for the log as it was at the end; a report can tell when lines are missing or
        # changed.
        "log": {
            **file_signature(log.path),
            # Of the values too, since bundles carry them as a table.
            "values_sha256": values_digest(read_train_log(log.path)[0]),
            **({} if lost is None else {"lost_before": lost}),
        },
    }
