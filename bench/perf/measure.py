"""``bench perf``: measure how fast each model trains and infers, compared with what the machine can do.

Every number of a run is measured in that run: the rate of matrix products, the step of the trainer itself, and the
reference step (:mod:`bench.perf.reference_step`) of the same networks.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from bench import provenance
from bench.child_processes import safe_path
from bench.config import json_digest
from bench.perf.reference_step import reference_step, without_custom_kernels
from bench.perf.step_timer import DeviceTimer, StepTimer
from bench.profiling.flops import ModelCost, count_operations, matrix_rate
from bench.profiling.peak_memory import PeakMemory
from bench.training.data_loader import BatchSource, StepBatches, TrainingDataLoader
from bench.training.device import Compute, select_device
from bench.training.model_setup import move_to_device
from bench.training.phase_schedule import Schedule
from bench.training.trainer import Trainer
from masks import bank
from models.base import Batch, Box, Budget, InpaintingModel, Phase, Task
from models.discovery import load_model
from models.registry import ModelEntry

SCHEMA = "inpaint-bench perf 1"
#: Steps that are not counted: memory is touched and kernels are chosen for the first time.
_WARM_UP = 2
#: Images of noise: no arithmetic here depends on what an image shows.
_IMAGES = 256
#: Operators that ``--profile`` lists.
_OPERATORS = 12


@dataclass(frozen=True, kw_only=True)
class PerfConfig:
    """Settings of a measurement.

    Attributes:
        size: side of the images in pixels.
        batch: images per step.
        steps: measured steps per phase, after two that are not counted.
        preset: preset of the models' configs.
        device, precision, compile: as in ``bench run``.
        plain: measure the reference step too.
        profile: list the operators that take most of a step's time.
    """

    size: int = 64
    batch: int = 16
    steps: int = 5
    preset: str = "quick"
    device: str = "auto"
    precision: str = "auto"
    compile: bool = False
    plain: bool = True
    profile: bool = False


def measure_models(
    models: Sequence[str],
    config: PerfConfig,
    models_from: Sequence[Path] = (),
    on_progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Measure every phase of every trained model; call ``on_progress`` before each.

    Raises:
        UsageError: the device or the precision is not available.
        ModelError: a model is unknown, broken, or cannot take the size.
    """
    # Once for all models, so that every number of the table is from the same device and precision.
    compute = select_device(config.device, config.precision)
    entries = [load_model(name, models_from) for name in models]
    # All are checked before the first is measured, which takes minutes.
    for entry in entries:
        entry.model.validate(entry.config(config.preset), config.size)
        entry.model.requirements(entry.config(config.preset))
    on_progress("matrix products")
    # Over seconds: a passing load must not lower the rate that everything is compared with.
    rates = {
        p: matrix_rate(Compute(compute.device, p), repeats=100)
        for p in dict.fromkeys(("bf16", "fp32", compute.precision))
    }
    # torch.compile starts processes.
    with safe_path():
        measured = [
            _Subject(entry, config, compute, rates[compute.precision], on_progress).measure()
            for entry in entries
            if entry.model.trained
        ]
    return {
        "schema": SCHEMA,
        "size": config.size,
        "batch": config.batch,
        "steps": config.steps,
        "preset": config.preset,
        "compile": config.compile,
        "hardware": {**provenance.hardware_info(), **compute.numerics()},
        "matrix_flops_per_second": rates,
        "models": measured,
    }


class _Subject:
    """One model under measurement."""

    def __init__(
        self,
        entry: ModelEntry,
        config: PerfConfig,
        compute: Compute,
        matrix_flops_per_second: float,
        on_progress: Callable[[str], None],
    ) -> None:
        self._entry, self._config, self._compute, self._on_progress = entry, config, compute, on_progress
        self._matrix_rate = matrix_flops_per_second
        # Enough steps for every phase to have some; one step of each kind is what is measured.
        self._budget = Budget(num_steps=1000)
        side = config.size // 2
        hole = Box((config.size - side) // 2, (config.size - side) // 2, side, side)
        self._task = Task(size=config.size, fixed_hole_box=hole)
        self._clock = DeviceTimer(compute.device)
        pixels = np.frombuffer(
            np.random.Philox(key=0).random_raw(_IMAGES * config.size**2 * 3 // 8 + 1), "u1"
        )
        self._batches = TrainingDataLoader(
            pixels[: _IMAGES * config.size**2 * 3].reshape(_IMAGES, config.size, config.size, 3),
            bank.draw_bank(["center"], 1, config.size, 0).packed,
            batch_size=config.batch,
            seed=0,
            flips=True,
            compute=compute,
        )

    def measure(self) -> dict[str, Any]:
        """Measure training by phase, then inference, then the reference steps."""
        name = self._entry.card.name
        cost = count_operations(self._entry.model, self._model_config, self._task, self._budget)
        memory = PeakMemory(self._compute)
        model = self._build()
        phases = {}
        for phase in model.phases(self._budget):
            self._on_progress(f"{name}: {phase.name}")
            phases[phase.name] = self._training(model, phase, cost)
        peak = memory.mebibytes()
        self._on_progress(f"{name}: inference")
        inference = self._inference(model, cost)
        # Freed first: the plain model is as large, and both together may not fit.
        del model
        if self._config.plain:
            plain = self._plain_seconds()
            for phase_name, seconds in plain.items():
                entry = phases[phase_name]
                entry["plain_step_seconds"] = seconds
                entry["times_plain"] = seconds / entry["step_seconds"]
        return {
            "model": name,
            "label": self._entry.card.label,
            "peak_memory_mb": peak,
            "inference": inference,
            "phases": [{"phase": phase_name, **values} for phase_name, values in phases.items()],
        }

    @property
    def _model_config(self) -> Any:
        return self._entry.config(self._config.preset)

    def _build(self) -> InpaintingModel:
        # A seed of its own, so that the measured weights are the same each time and the caller's stream is
        # left alone.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(json_digest(["perf", self._entry.card.name])[:15], 16))
            model = self._entry.model(self._model_config, self._task)
        return move_to_device(model, self._compute, compiled=self._config.compile)

    def _training(self, model: InpaintingModel, phase: Phase, cost: ModelCost) -> dict[str, Any]:
        timer = StepTimer(self._clock)
        # Watched from outside: the trainer that is measured is the one that trains, without a line for the
        # measurement.
        with timer.watching(model):
            _run_trainer(model, phase, self._marking(timer), self._compute, _WARM_UP + self._config.steps)
        split = timer.split(skip=_WARM_UP)
        flops = cost.step_flops[phase.name] * self._config.batch
        networks = split.forward + split.backward
        result: dict[str, Any] = {
            "images_per_second": self._config.batch / split.step,
            "multiply_accumulates": cost.step_flops[phase.name] / 2,
            "step_seconds": split.step,
            "forward_seconds": split.forward,
            "backward_seconds": split.backward,
            "optimizer_seconds": split.optimizer,
            "outside_seconds": split.outside,
            "outside_share": split.outside / split.step,
            "flops_per_second": flops / split.step,
            "matrix_share": flops / split.step / self._matrix_rate,
            "networks_matrix_share": flops / networks / self._matrix_rate,
        }
        # In a run of its own, since profiling slows down what it watches.
        if self._config.profile:
            result["operators"] = self._operators(model, phase)
        return result

    def _marking(self, timer: StepTimer) -> BatchSource:
        def batches(step: int) -> Batch:
            # The trainer asks for a batch first in every step, so that call marks where one begins.
            timer.begin_step()
            return self._batches(step)

        return StepBatches(self._config.batch, batches)

    def _inference(self, model: InpaintingModel, cost: ModelCost) -> dict[str, Any]:
        model.networks.eval()
        batch = self._batches(0)

        def run() -> None:
            with torch.no_grad(), self._compute.autocast():
                model.complete(batch)

        seconds = self._median_seconds(run)
        flops = cost.forward_flops * self._config.batch
        return {
            "images_per_second": self._config.batch / seconds,
            "multiply_accumulates": cost.multiply_accumulates,
            "batch_seconds": seconds,
            "flops_per_second": flops / seconds,
            "matrix_share": flops / seconds / self._matrix_rate,
        }

    def _plain_seconds(self) -> dict[str, float]:
        """Return phase -> median seconds of the reference step."""
        name, result = self._entry.card.name, {}
        model = self._entry.model(self._model_config, self._task)
        model.networks.to(self._compute.device).train()
        model.frozen.to(self._compute.device)
        batch = self._batches(0)
        # Channels-first, as a first implementation would have it.
        batch = replace(batch, image=batch.image.contiguous())
        with without_custom_kernels():
            for phase in model.phases(self._budget):
                self._on_progress(f"{name}: plain {phase.name}")
                step = reference_step(model, phase)
                result[phase.name] = self._median_seconds(lambda step=step: step(batch))  # type: ignore[misc]
        return result

    def _median_seconds(self, call: Callable[[], object]) -> float:
        # The first call allocates, compiles and chooses kernels.
        call()  # warm
        marks = [self._clock.mark()]
        for _ in range(max(2, self._config.steps)):
            call()
            marks.append(self._clock.mark())
        # Marks are on the device's timeline, and can be read only when it has come that far.
        self._clock.wait()
        return median(self._clock.seconds(a, b) for a, b in pairwise(marks))

    def _operators(self, model: InpaintingModel, phase: Phase) -> list[dict[str, Any]]:
        """List the operators of two steps by their own time on the device, the longest first."""
        cuda = self._compute.device.type == "cuda"
        with torch.profiler.profile() as profile:
            _run_trainer(model, phase, self._batches, self._compute, 2)
            # The profile ends with the context: kernels that are still running would be missing.
            self._clock.wait()
        field = "self_device_time_total" if cuda else "self_cpu_time_total"
        events = sorted(profile.key_averages(), key=lambda event: -getattr(event, field))
        total = sum(getattr(event, field) for event in events)
        return [
            {"operator": event.key, "calls": event.count, "share": getattr(event, field) / max(total, 1e-9)}
            for event in events[:_OPERATORS]
        ]


class _EnoughError(Exception):
    """Raised to end a training whose steps have been measured, before it writes a checkpoint."""


def _run_trainer(
    model: InpaintingModel, phase: Phase, batches: BatchSource, compute: Compute, steps: int
) -> None:
    """Run ``steps`` steps of ``phase`` with the trainer; ``batches`` is called once more at the end."""

    def ending(step: int) -> Batch:
        batch = batches(step)
        # After the batch was made, so that the last step is closed by a mark like the others.
        if step == steps:
            raise _EnoughError
        return batch

    # One step more than is measured, so that the trainer does not end by itself and write a checkpoint.
    schedule = Schedule([replace(phase, num_steps=steps + 1)])
    with tempfile.TemporaryDirectory() as folder:
        try:
            Trainer(model, schedule, StepBatches(batches.batch_size, ending), compute, Path(folder)).train()
        except _EnoughError:
            return


def perf_rows(result: dict[str, Any]) -> Iterator[dict[str, str]]:
    """Yield the rows of the terminal's table, as text by column."""
    for model in result["models"]:
        for phase in model["phases"]:
            plain = phase.get("times_plain")
            yield {
                "model": model["model"],
                "phase": phase["phase"],
                "images/s": f"{phase['images_per_second']:.1f}",
                "ms": f"{phase['step_seconds'] * 1e3:.0f}",
                "x plain": "-" if plain is None else f"{plain:.2f}",
                "GMAC/image": f"{phase['multiply_accumulates'] / 1e9:.2f}",
                "of matrix rate": f"{phase['matrix_share']:.0%}",
                "networks": f"{phase['networks_matrix_share']:.0%}",
                "optimizer ms": f"{phase['optimizer_seconds'] * 1e3:.1f}",
                "outside": f"{phase['outside_share']:.1%}",
                "peak MiB": _whole(model["peak_memory_mb"]),
            }
        inference = model["inference"]
        yield {
            "model": model["model"],
            "phase": "inference",
            "images/s": f"{inference['images_per_second']:.1f}",
            "ms": f"{inference['batch_seconds'] * 1e3:.0f}",
            "x plain": "-",
            "GMAC/image": f"{inference['multiply_accumulates'] / 1e9:.2f}",
            "of matrix rate": f"{inference['matrix_share']:.0%}",
            "networks": "-",
            "optimizer ms": "-",
            "outside": "-",
            "peak MiB": "-",
        }


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"
