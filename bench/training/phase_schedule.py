"""Progress is one integer: phase, learning rate and every interval are pure functions of the step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from models.base import Phase


class Schedule:
    """The phases of a training, one after another.

    Args:
        phases: in order; empty for a model that is not trained.

    >>> from models.base import UNIFORM_OPTIMIZER
    >>> optimizers = {"generator": UNIFORM_OPTIMIZER}
    >>> schedule = Schedule([Phase(name=n, num_steps=s, optimizers=optimizers) for n, s in (("a", 2), ("b", 3))])
    >>> schedule.num_steps, [schedule.phase_at(step).name for step in range(5)]
    (5, ['a', 'a', 'b', 'b', 'b'])
    """

    def __init__(self, phases: Sequence[Phase]) -> None:
        self.phases = list(phases)
        self._ends = list(accumulate(phase.num_steps for phase in phases))
        #: Total number of steps.
        self.num_steps = self._ends[-1] if self._ends else 0

    def index_at(self, step: int) -> int:
        """Return the index of the phase of ``step`` (from 0); the last phase for ``step == num_steps``."""
        for index, end in enumerate(self._ends):
            if step < end:
                return index
        return len(self._ends) - 1

    def start_of(self, index: int) -> int:
        """Return the first step of the phase at ``index``."""
        return self._ends[index] - self.phases[index].num_steps

    def phase_at(self, step: int) -> Phase:
        """Return the phase of ``step``."""
        return self.phases[self.index_at(step)]


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """How often the trainer interrupts its steps.

    Attributes:
        report: steps between reports of the losses.
        validate: steps between validations; ``None``: only at the end.
        checkpoint: steps between checkpoints; ``None``: by the clock only.
        checkpoint_seconds: seconds after which the next report is followed by a checkpoint.
        sample: steps between sample images; ``None``: no samples.
    """

    report: int = 10
    validate: int | None = None
    checkpoint: int | None = None
    checkpoint_seconds: float = 120.0
    sample: int | None = None


def is_due(step: int, interval: int | None) -> bool:
    """Return whether an event with this interval happens after ``step`` steps.

    >>> [step for step in range(10) if is_due(step, 4)]
    [4, 8]
    >>> is_due(4, None)
    False
    """
    return interval is not None and step > 0 and step % interval == 0
