"""``bench perf --model-only``: what a training step is made of on a GPU, and how long it should take, without one.

Operators, bytes and arithmetic are counted in the trainer's own step on a pretended device
(:mod:`bench.profiling.rehearsal`); times are modelled for named GPUs (:mod:`bench.profiling.roofline`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.config import RunConfig, resolve_config
from bench.profiling.rehearsal import Operator, OperatorTrace, rehearse_cuda
from bench.profiling.roofline import GPUS, model_step
from bench.training.data_loader import TrainingDataLoader
from bench.training.device import Compute
from bench.training.model_setup import move_to_device
from bench.training.phase_schedule import Schedule
from bench.training.trainer import Trainer
from models.base import Box, Budget, Task
from models.discovery import load_model
from models.registry import ModelEntry

SCHEMA = "inpaint-bench modelled perf 1"


@dataclass(frozen=True, kw_only=True)
class ModelOnlyConfig:
    """What is counted.

    Attributes:
        size: side of the images in pixels; ``None``: the preset's.
        batch: images per step; ``None``: the preset's, which on the faithful track is each paper's own.
        preset: of the training and of the models' configs.
        precision: ``auto`` is bf16.
    """

    size: int | None = None
    batch: int | None = None
    preset: str = "quick"
    precision: str = "auto"


def model_performance(
    models: Sequence[str],
    config: ModelOnlyConfig,
    models_from: Sequence[Path] = (),
    on_progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Count the steps of every phase of every trained model, and model their times.

    Raises:
        UsageError: a setting is not there.
        ModelError: a model is unknown, broken, or cannot take the size.
    """
    settings = resolve_config(config.preset, {"size": config.size, "batch": config.batch})
    precision = "bf16" if config.precision == "auto" else config.precision
    entries = [entry for entry in (load_model(name, models_from) for name in models) if entry.model.trained]
    results = []
    # All first: one model that cannot take the size should not cost the count of the others.
    for entry in entries:
        entry.model.validate(entry.config(config.preset), settings.size)
        entry.model.requirements(entry.config(config.preset))
    for entry in entries:
        on_progress(entry.card.name)
        results.append(_model_training(entry, settings, precision))
    return {
        "schema": SCHEMA,
        "modelled": True,
        "preset": config.preset,
        "size": settings.size,
        "track": settings.track,
        "precision": precision,
        "gpus": [gpu.name for gpu in GPUS],
        "models": results,
    }


def _model_training(entry: ModelEntry, settings: RunConfig, precision: str) -> dict[str, Any]:
    batch = settings.batch_for(entry.model.published_batch_size)
    budget = Budget(num_steps=max(1, settings.images_seen // batch), track=settings.track)
    phases, seconds = [], dict.fromkeys((gpu.name for gpu in GPUS), 0.0)
    size = settings.size
    # The center hole, as in training on the mask that all models take.
    task = Task(size=size, fixed_hole_box=Box(size // 4, size // 4, size // 2, size // 2))
    model_config = entry.config(settings.preset)
    for name, num_steps, operators, waits in count_phases(
        entry, model_config, task, batch, budget, precision, flips=settings.flips
    ):
        modelled = {gpu.name: model_step(operators, gpu, tf32=precision == "tf32") for gpu in GPUS}
        for gpu, step in modelled.items():
            seconds[gpu] += step.seconds * num_steps
        phases.append(
            {
                "phase": name,
                "num_steps": num_steps,
                "operators": len(operators),
                "flops": sum(o.flops for o in operators),
                "bytes": sum(o.num_bytes for o in operators),
                "host_waits": waits,
                "modelled_step": {
                    gpu: {"seconds": step.seconds, "bound": step.bound} for gpu, step in modelled.items()
                },
            }
        )
    hours = {gpu: total / 3600 for gpu, total in seconds.items()}
    return {
        "model": entry.card.name,
        "label": entry.card.label,
        "batch": batch,
        "phases": phases,
        "modelled_training_hours": hours,
    }


def count_phases(
    entry: ModelEntry,
    model_config: Any,
    task: Task,
    batch: int,
    budget: Budget,
    precision: str,
    *,
    flips: bool = False,
) -> Iterator[tuple[str, int, list[Operator], int]]:
    """Yield name, number of steps, operators of a step and waits of the host in it, for every phase of a training.

    Args:
        entry: the model.
        model_config: its config.
        task: without a mean image: tensors of this machine cannot be used on a rehearsed one.
        batch: images per step.
        budget: of the training.
        precision: as of :class:`bench.training.device.Compute`.
        flips: whether images are mirrored.
    """
    size = task.size
    # Zeros: on a pretended device, nothing looks at numbers.
    pixels = np.zeros((batch, size, size, 3), np.uint8)
    with rehearse_cuda() as trace, tempfile.TemporaryDirectory() as folder:
        compute = Compute(torch.device("cuda", 0), precision)
        model = move_to_device(entry.model(model_config, task), compute)
        phases = model.phases(budget)
        batches = TrainingDataLoader(
            pixels,
            np.zeros((1, (size * size + 7) // 8), np.uint8),
            batch_size=batch,
            seed=0,
            flips=flips,
            compute=compute,
            resident=True,
        )
        trainer = Trainer(model, Schedule(phases), batches, compute, Path(folder))
        for index, phase in enumerate(phases):
            step = trainer.schedule.start_of(index)
            # The optimizers' state is made in the first step and belongs to no other.
            with trace.during("first step"):  # makes the optimizers' state
                trainer.train_step.run(trainer.optimizers.enter_phase(step), batches(step))
            with trace.during(phase.name):
                trainer.train_step.run(phase, batches(step))
            yield phase.name, phase.num_steps, trace.operators[phase.name], _waits(trace, phase.name)


def _waits(trace: OperatorTrace, stage: str) -> int:
    return sum(wait.stage == stage for wait in trace.waits)


def modelled_rows(result: dict[str, Any]) -> Iterator[dict[str, str]]:
    """Yield the rows of the terminal's table, as text by column."""
    for model in result["models"]:
        for phase in model["phases"]:
            yield {
                "model": model["model"],
                "phase": phase["phase"],
                "batch": str(model["batch"]),
                "operators": f"{phase['operators']:,}",
                "Tflop": f"{phase['flops'] / 1e12:.2f}",
                "GB": f"{phase['bytes'] / 1e9:.1f}",
                "waits": str(phase["host_waits"]),
                **{
                    f"{gpu} (ms)": f"{step['seconds'] * 1e3:.0f} {step['bound'][0]}"
                    for gpu, step in phase["modelled_step"].items()
                },
            }
