"""About how long a run will take on this machine, and how much memory, said before it starts."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from bench.profiling.flops import ModelCost, count_operations, matrix_rate, shapes_only, training_bytes
from bench.runner.plan import Cell, TrainingPlan
from bench.training.device import Compute

#: Share of the measured matrix rate that a training step reaches (measured: 0.3 to 0.7), and inference.
_TRAINING_SHARE, _INFERENCE_SHARE = 0.4, 0.4
#: Seconds per image for metrics at 64 px on one CPU, growing with the area.
_METRIC_SECONDS = 0.006


def estimate_seconds(
    trainings: Sequence[TrainingPlan], cells: Sequence[Cell], images: int, compute: Compute
) -> float | None:
    """Seconds for the trainings and evaluations that are left; ``None`` if a model's operations cannot be counted."""
    if not cells:
        return 0.0
    costs: dict[Hashable, ModelCost] = {}
    try:
        for plan in (c.training for c in cells if c.training and c.trained):
            if _alike(plan) not in costs:
                costs[_alike(plan)] = count_operations(plan.entry.model, plan.config, plan.task, plan.budget)
    except Exception:  # a user's model that needs real data to run: no estimate, no failure
        return None
    rate = matrix_rate(compute)
    total = 0.0
    for plan in trainings:
        phases = shapes_only(plan.entry.model, plan.config, plan.task).phases(plan.budget)
        total += costs[_alike(plan)].training_flops(phases, plan.batch_size) / (rate * _TRAINING_SHARE)
    for cell in cells:
        assert cell.training is not None
        total += images * _METRIC_SECONDS * (cell.training.task.size / 64) ** 2
        if cell.trained:
            total += images * costs[_alike(cell.training)].forward_flops / (rate * _INFERENCE_SHARE)
    return total


def estimate_memory_bytes(
    trainings: Sequence[TrainingPlan], compute: Compute, micro_batch: int | None
) -> float | None:
    """Of the largest of the trainings; 0 if there are none, ``None`` if a model cannot be counted."""
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
    """The same for trainings that differ in their seed alone, and so cost the same."""
    return plan.entry.card.name, repr(plan.config), plan.task.size, plan.task.fixed_hole_box, plan.batch_size
