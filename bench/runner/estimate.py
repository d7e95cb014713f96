"""Estimate how long a run takes on this machine, and how much memory it needs, before it starts."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from types import MappingProxyType

from bench.profiling.flops import ModelCost, count_operations, matrix_rate, planned_phases, training_bytes
from bench.runner.callbacks import RunEstimate
from bench.runner.plan import Cell, TrainingPlan
from bench.training.device import Compute

#: Share of the measured matrix rate that a training step reaches (measured: 0.3 to 0.7), and inference.
_TRAINING_SHARE, _INFERENCE_SHARE = 0.5, 0.4
#: The same of the large matrix products and factorizations of a fitted baseline.
_FIT_SHARE = 0.6
#: Seconds per image for metrics at 64 px on one CPU, growing with the area.
_METRIC_SECONDS = 0.006
#: What is paid once: by a training (weights, masks, checkpoints, first step), by a cell (files), by a run (report).
#: With them preset ``smoke`` is foreseen within a tenth on an idle machine (``benchmarks/estimate.py``).
_TRAINING_START_SECONDS, _CELL_SECONDS, _REPORT_SECONDS = 1.5, 0.1, 4.3
#: Processor time of the probe of :func:`processor_contention`: some time slices of a scheduler.
_PROBE_SECONDS = 0.05


def estimate_run(
    trainings: Sequence[TrainingPlan],
    cells: Sequence[Cell],
    images: int,
    compute: Compute,
    steps_done: Mapping[str, int] = MappingProxyType({}),
) -> RunEstimate | None:
    """Estimate the trainings and evaluations that are left; ``None`` if a model's operations cannot be counted.

    Args:
        trainings: those that are not complete.
        cells: those without results.
        images: test images of a cell.
        compute: device and precision.
        steps_done: key of a training -> step of the checkpoint that it resumes from.
    """
    # Rates are measured under whatever else runs here; what is paid in seconds was measured on an idle machine.
    slower = processor_contention()
    if not cells:
        return RunEstimate((), (), slower * _REPORT_SECONDS)
    costs: dict[Hashable, ModelCost] = {}
    try:
        # Once for all seeds: counting runs the whole model, without data but with all its operations.
        for plan in (c.training for c in cells if c.training and c.trained):
            if _alike(plan) not in costs:
                costs[_alike(plan)] = count_operations(plan.entry.model, plan.config, plan.task, plan.budget)
    except Exception:  # a user's model that needs real data to run: no estimate, no failure
        return None
    rate = matrix_rate(compute)
    training_seconds, cell_seconds = [], []
    for plan in trainings:
        phases = planned_phases(plan.entry.model, plan.config, plan.task, plan.budget)
        flops = costs[_alike(plan)].training_flops(phases, plan.batch_size, steps_done.get(plan.key, 0))
        training_seconds.append(slower * _TRAINING_START_SECONDS + flops / (rate * _TRAINING_SHARE))
    for cell in cells:
        assert cell.training is not None
        # Metrics work on pixels, so their time grows with the area; it was measured at 64 px.
        per_image = _METRIC_SECONDS * (cell.training.task.size / 64) ** 2
        seconds = slower * (_CELL_SECONDS + cell.samples * images * per_image)
        if cell.trained:
            completions = images * cell.samples
            seconds += completions * costs[_alike(cell.training)].forward_flops / (rate * _INFERENCE_SHARE)
        if (fit := cell.training.fit_cost) is not None:
            seconds += (fit.flops + images * fit.flops_per_image) / (rate * _FIT_SHARE)
        cell_seconds.append(seconds)
    return RunEstimate(tuple(training_seconds), tuple(cell_seconds), slower * _REPORT_SECONDS)


def processor_contention(
    clock: Callable[[], float] = time.perf_counter, used: Callable[[], float] = time.thread_time
) -> float:
    """Measure how many seconds pass for one second of work, since other processes share the processor; at least 1.

    Args:
        clock: time that passes, in seconds.
        used: processor time that this thread used, in seconds.
    """
    begin, before = clock(), used()
    while (spent := used() - before) < _PROBE_SECONDS:
        pass
    return max(1.0, (clock() - begin) / spent)


def estimate_memory_bytes(
    trainings: Sequence[TrainingPlan], compute: Compute, micro_batch: int | None
) -> float | None:
    """Estimate the memory of the largest training; 0 for none, ``None`` if a model cannot be counted."""
    try:
        return max(
            (
                training_bytes(
                    plan.entry.model,
                    plan.config,
                    plan.task,
                    plan.budget,
                    compute,
                    min(plan.batch_size, micro_batch or plan.batch_size),
                )
                for plan in {_alike(t): t for t in trainings}.values()
            ),
            default=0.0,
        )
    except Exception:  # as above
        return None


def _alike(plan: TrainingPlan) -> Hashable:
    """Return a key that is the same for trainings that differ in their seed alone, and so cost the same."""
    return plan.entry.card.name, repr(plan.config), plan.task.size, plan.task.fixed_hole_box, plan.batch_size
