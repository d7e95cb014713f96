"""From a training plan to a trained model: build, resume or take from the run folder."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import masks.bank
import masks.registry
from bench.config import Request, RunConfig, json_digest
from bench.data import Dataset
from bench.evaluation import evaluator
from bench.evaluation.image_batch import NotFiniteError
from bench.profiling.flops import count_operations
from bench.profiling.peak_memory import PeakMemory
from bench.runner import diagnostics
from bench.runner.callbacks import RunCallbacks
from bench.runner.fit import fit_baseline
from bench.runner.plan import TrainingPlan, train_mask_names
from bench.runner.run_folder import RunFolder, write_json
from bench.runner.sample_grid import SampleGrid
from bench.runner.tensorboard import TensorBoardLog
from bench.training import checkpoint
from bench.training.data_loader import TrainingDataLoader
from bench.training.device import Compute
from bench.training.schedule import Intervals, Schedule
from bench.training.train_log import TrainLog
from bench.training.trainer import Trainer, TrainerHooks
from models.base import InpaintingModel

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

    @staticmethod
    def is_complete(store: RunFolder, plan: TrainingPlan) -> bool:
        """Whether the training has ended: ``training.json`` is written last, and is whole."""
        try:
            text = (store.training(plan.slug, plan.key) / "training.json").read_text(encoding="utf-8")
            return bool(json.loads(text)["key"] == plan.key)
        except (OSError, ValueError, KeyError, TypeError):
            return False


def build_model(plan: TrainingPlan, compute: Compute, *, compiled: bool = False) -> InpaintingModel:
    """The model with weights drawn from a seed made of its name and the training's seed, on the device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(json_digest(["weights", plan.entry.card.name, plan.seed])[:15], 16))
        model = plan.entry.model(plan.config, plan.task)
    return move_to_device(model, compute, compiled=compiled)


def move_to_device(model: InpaintingModel, compute: Compute, *, compiled: bool = False) -> InpaintingModel:
    """Move all networks to the device; ``compiled``: through ``torch.compile`` from their first use.

    On many devices batch-norm sees the global batch.

    Activations are channels-last everywhere, since batches are. Weights are so on a GPU alone: on the CPU, gradients
    come back contiguous, and turning them about took half of the optimizers' time.
    """
    compute.process_group.synchronize_batch_norm(model.networks, compute.device)
    layout = torch.channels_last if compute.device.type == "cuda" else torch.contiguous_format
    for networks in (model.networks, model.frozen):
        networks.to(compute.device, memory_format=layout)  # type: ignore[call-overload]
        if compiled:
            for network in networks.values():
                network.compile()
    return model


def train_model(
    plan: TrainingPlan,
    request: Request,
    data: Dataset,
    compute: Compute,
    store: RunFolder,
    callbacks: RunCallbacks,
    *,
    index: int,
    of: int,
) -> TrainedModel:
    """Train, go on with, or load the model of ``plan``."""
    model = build_model(plan, compute, compiled=request.settings.compile)
    if not plan.entry.model.trained:
        images = request.settings.train_images
        fit = fit_baseline(model, plan, images, data, compute, store) if model.needs_fit else None
        return TrainedModel(plan, model, None, fit)
    folder = store.training(plan.slug, plan.key)
    schedule = Schedule(model.phases(plan.budget))
    # On many devices rank 0 looks, and the others hear what it found.
    process_group = compute.process_group
    state = None
    if process_group.is_main and TrainedModel.is_complete(store, plan):
        state = checkpoint.newest_checkpoint(folder, warn=callbacks.warn)
        if state is None or not state["complete"]:
            # The record of a finished training without its weights: train again rather than evaluate anything else.
            (folder / "training.json").unlink()
            state = None
    state = process_group.broadcast(state)
    if state:
        model.networks.load_state_dict(state["networks"])
    else:
        callbacks.training_started(plan.label, index, of, schedule.num_steps)
        memory = PeakMemory(compute)
        _train(model, schedule, plan, request, data, compute, folder, callbacks)
        if process_group.is_main:
            summary = _summary(model, schedule, plan, compute, memory.mebibytes(), folder, store)
            write_json(folder / "training.json", summary)
            callbacks.training_done(plan.label, summary["seconds"])
    if not process_group.is_main:
        return TrainedModel(plan, model, None)
    return TrainedModel(plan, model, json.loads((folder / "training.json").read_text(encoding="utf-8")))


def _train(
    model: InpaintingModel,
    schedule: Schedule,
    plan: TrainingPlan,
    request: Request,
    data: Dataset,
    compute: Compute,
    folder: Path,
    callbacks: RunCallbacks,
) -> None:
    settings = request.settings
    names = train_mask_names(plan.train_mask)
    bank = masks.bank.draw_bank(names, settings.mask_bank, settings.size, plan.seed)
    pixels = data.train.pixels[: settings.train_images] if settings.train_images else data.train.pixels
    batches = TrainingDataLoader(
        pixels,
        bank.packed,
        batch_size=plan.batch_size,
        seed=plan.seed,
        flips=settings.flips,
        compute=compute,
    )
    if compute.process_group.is_main:
        _write_config(folder, plan, settings, schedule, bank.digest, compute)
    log = (
        TensorBoardLog(folder / "train.jsonl")
        if request.tensorboard and compute.process_group.is_main
        else None
    )
    sample = SampleGrid(model, data, names[0], compute, folder) if request.samples_every else None

    def draw(step: int) -> None:
        assert sample is not None
        sheet = sample(step)
        if log:
            log.picture(sheet, step)

    tenth = max(1, schedule.num_steps // 10)
    Trainer(
        model,
        schedule,
        batches,
        compute,
        folder,
        intervals=Intervals(
            # At least ten of each a training, however short it is: a claim rests on how validations fluctuate.
            report=min(settings.report_every, tenth),
            validate=min(settings.validate_every or tenth, tenth),
            checkpoint=settings.checkpoint_every,
            sample=request.samples_every,
        ),
        micro_batch=settings.micro_batch,
        hooks=TrainerHooks(
            validate=_validator(model, names, data, compute),
            sample=draw,
            on_progress=lambda progress: callbacks.training_progress(plan.label, progress),
            on_step=lambda step: callbacks.training_step(plan.label, step, schedule.num_steps),
            warn=callbacks.warn,
            log=log,
        ),
    ).train()


def _write_config(
    folder: Path,
    plan: TrainingPlan,
    settings: RunConfig,
    schedule: Schedule,
    mask_bank_digest: str,
    compute: Compute,
) -> None:
    write_json(
        folder / "config.json",
        {
            "model": plan.entry.card.name,
            "config": dataclasses.asdict(plan.config),
            "task": {
                "size": plan.task.size,
                "fixed_hole_box": plan.task.fixed_hole_box,
                "mean_pixel": plan.task.mean_pixel,
            },
            "train_mask": plan.train_mask,
            "mask_bank_digest": mask_bank_digest,
            "seed": plan.seed,
            "batch_size": plan.batch_size,
            "settings": settings.as_dict(),
            "phases": [dataclasses.asdict(phase) for phase in schedule.phases],
            "numerics": compute.numerics(),
            "key": plan.key,
        },
    )


def _validator(
    model: InpaintingModel, names: list[str], data: Dataset, compute: Compute
) -> Callable[[], dict[str, float]] | None:
    if not data.validation.ids:
        return None
    images = evaluator.sample_subset(data.validation, _VALIDATION_IMAGES)
    drawn = masks.registry.draw_masks(names[0], images.ids, data.size)

    def validate() -> dict[str, float]:
        try:
            return evaluator.validation_score(model, images, drawn, compute, ["psnr_db"])
        except NotFiniteError:
            return {"psnr_db": math.nan}

    return validate


def _summary(
    model: InpaintingModel,
    schedule: Schedule,
    plan: TrainingPlan,
    compute: Compute,
    peak_memory_mb: float | None,
    folder: Path,
    store: RunFolder,
) -> dict[str, Any]:
    state = checkpoint.newest_checkpoint(folder)
    seconds = float(state["metric_logger"]["seconds"]) if state else 0.0
    images_seen = schedule.num_steps * plan.batch_size
    try:
        macs: float | None = count_operations(
            plan.entry.model, plan.config, plan.task, plan.budget
        ).multiply_accumulates
    except Exception:  # a user's model that cannot be traced without data is not a failed training
        macs = None
    return {
        "key": plan.key,
        "folder": str(folder.relative_to(store.folder)),
        "seconds": seconds,
        "images_per_second": images_seen / max(seconds, 1e-9),
        "num_steps": schedule.num_steps,
        "batch_size": plan.batch_size,
        "images_seen": images_seen,
        "precision": compute.precision,
        "phases": [{"name": p.name, "num_steps": p.num_steps} for p in schedule.phases],
        "parameters": {
            name: sum(p.numel() for p in network.parameters()) for name, network in model.networks.items()
        },
        "multiply_accumulates": macs,
        "peak_memory_mb": peak_memory_mb,
        "events": diagnostics.training_events(TrainLog(folder / "train.jsonl").read()),
    }
