"""What a whole sweep takes on several GPUs that are not here: modelled hours of every training, and their cost.

The steps are those of :mod:`bench.perf.gpu_estimates`, of the trainings that a run has planned.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable, Hashable, Sequence
from typing import Any

from bench.errors import UsageError
from bench.perf.gpu_estimates import count_phases
from bench.profiling.roofline import GPU, GPUS, model_step
from bench.runner.plan import TrainingPlan
from bench.runner.work import WorkUnit
from models.base import Task

_GPUS = re.compile(r"\s*(\d+)\s*x\s*(.+?)\s*", re.IGNORECASE)


def parse_gpus(text: str) -> tuple[int, GPU]:
    """Read ``COUNTxNAME``; case and spaces of the name do not matter.

    >>> count, gpu = parse_gpus("8xrtx4090")
    >>> count, gpu.name
    (8, 'RTX 4090')

    Raises:
        UsageError: another form, no GPU at all, or a name that is not known.
    """
    known = {gpu.name.replace(" ", "").lower(): gpu for gpu in GPUS}
    match = _GPUS.fullmatch(text)
    gpu = known.get(match[2].replace(" ", "").lower()) if match else None
    if match is None or gpu is None or int(match[1]) < 1:
        names = ", ".join(gpu.name for gpu in GPUS)
        raise UsageError(f"--gpus {text!r}: give COUNTxNAME, for example 8xA100; known are {names}")
    return int(match[1]), gpu


def model_sweep(
    units: Sequence[WorkUnit],
    gpu: GPU,
    count: int,
    *,
    precision: str = "bf16",
    flips: bool = False,
    price: float | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Model the hours of the trainings of ``units`` on ``count`` GPUs, one training a GPU, begun in their order.

    Args:
        units: of a run.
        gpu: their kind.
        count: how many.
        precision: that the trainings compute in.
        flips: whether images are mirrored.
        price: of a GPU for an hour, in any currency.
        on_progress: called with the label of each model that is counted.

    Returns:
        ``trainings`` (a row for each model: label, number, hours of one), ``gpu_hours`` (their sum), ``wall_hours``
        (until the last has ended), and with a price ``cost_of_hours_used`` and ``cost_of_all_held`` (all GPUs paid for
        until the last has ended).
    """
    hours: dict[Hashable, float] = {}
    rows: dict[Hashable, dict[str, Any]] = {}
    order = []
    for unit in units:
        plan = unit.cells[0].training
        if plan is None or not unit.num_steps:
            continue  # a baseline: nothing is trained
        # Trainings that differ in seed or mask take the same steps, unless a mask's fixed hole shapes the networks.
        alike = (plan.label, repr(plan.config), plan.task.size, plan.task.fixed_hole_box, plan.batch_size)
        if alike not in hours:
            on_progress(plan.label)
            hours[alike] = _training_hours(plan, gpu, precision, flips=flips)
        each = hours[alike]
        row = rows.setdefault((plan.label, each), {"label": plan.label, "trainings": 0, "hours_each": each})
        row["trainings"] += 1
        order.append(hours[alike])
    wall = wall_hours(order, count)
    result: dict[str, Any] = {
        "modelled": True,
        "gpu": gpu.name,
        "gpus": count,
        "precision": precision,
        "trainings": list(rows.values()),
        "gpu_hours": sum(order),
        "wall_hours": wall,
    }
    if price is not None:
        result |= {
            "price_per_gpu_hour": price,
            "cost_of_hours_used": price * sum(order),
            "cost_of_all_held": price * count * wall,
        }
    return result


def wall_hours(durations: Sequence[float], count: int) -> float:
    """Return when the last training ends if each begins, in this order, as soon as a GPU is free.

    >>> wall_hours([3.0, 1.0, 1.0, 2.0], 2)
    4.0
    """
    free_at = [0.0] * count
    for duration in durations:
        heapq.heapreplace(free_at, free_at[0] + duration)
    return max(free_at)


def _training_hours(plan: TrainingPlan, gpu: GPU, precision: str, *, flips: bool) -> float:
    task = Task(size=plan.task.size, fixed_hole_box=plan.task.fixed_hole_box)
    phases = count_phases(plan.entry, plan.config, task, plan.batch_size, plan.budget, precision, flips=flips)
    tf32 = precision == "tf32"
    seconds = [
        num_steps * model_step(operators, gpu, tf32=tf32).seconds for _, num_steps, operators, _ in phases
    ]
    return sum(seconds) / 3600
