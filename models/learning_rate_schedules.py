"""Learning-rate schedules by name: each is one function that maps progress to a factor of the base rate.

To add a schedule, write one decorated function in this file. The command line offers every name in
:data:`SCHEDULES`, and the run records the name. Importing this module does not import torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable

#: Base rate and schedule of every network on the uniform track, unless a run's settings say otherwise.
UNIFORM_LEARNING_RATE, UNIFORM_SCHEDULE = 4e-4, "linear"

#: ``(step, num_steps) -> factor``; ``step`` counts from 0 over the whole training, not over one phase.
ScheduleFunction = Callable[[int, int], float]

#: Name -> function, in the order in which the functions are defined.
SCHEDULES: dict[str, ScheduleFunction] = {}


def _register(function: ScheduleFunction) -> ScheduleFunction:
    name = function.__name__.replace("_", "-")
    if name in SCHEDULES:
        raise ValueError(f"learning-rate schedule {name!r} is defined twice")
    SCHEDULES[name] = function
    return function


@_register
def constant(step: int, num_steps: int) -> float:
    """Keep the base rate.

    >>> constant(7, 10)
    1.0
    """
    return 1.0


@_register
def linear(step: int, num_steps: int) -> float:
    """Decay linearly from the base rate at step 0 to zero after the last step.

    >>> [linear(step, 4) for step in range(4)]
    [1.0, 0.75, 0.5, 0.25]
    """
    return 1.0 - step / num_steps


@_register
def cosine(step: int, num_steps: int) -> float:
    """Decay along half a cosine to zero (Loshchilov and Hutter, "SGDR", ICLR 2017, eq. 5 without restarts).

    >>> [round(cosine(step, 4), 3) for step in range(4)]
    [1.0, 0.854, 0.5, 0.146]
    """
    return 0.5 * (1.0 + math.cos(math.pi * step / num_steps))


def schedule_factor(name: str, step: int, num_steps: int) -> float:
    """Return the factor of the base learning rate at ``step`` of ``num_steps``.

    Raises:
        ValueError: no schedule has this name.

    >>> schedule_factor("linear", 1, 4)
    0.75
    """
    if name not in SCHEDULES:
        raise ValueError(f"unknown learning-rate schedule {name!r}: choose from {', '.join(SCHEDULES)}")
    return SCHEDULES[name](step, num_steps)
