"""Progress is one integer: phase, learning rate and every interval are pure functions of the step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from models.base import Phase


class Schedule:
    """The phases of a training laid end to end.

    Args:
        phases: in order; empty for an untrained fill.
    """

    def __init__(self, phases: Sequence[Phase]) -> None:
        self.phases = list(phases)
        self._ends = list(accumulate(phase.num_steps for phase in phases))
        #: Steps in all.
        self.num_steps = self._ends[-1] if self._ends else 0

    def index_at(self, step: int) -> int:
        """Index of the phase that ``step`` (from 0) belongs to; the last phase for ``step == num_steps``."""
        for index, end in enumerate(self._ends):
            if step < end:
                return index
        return len(self._ends) - 1

    def start_of(self, index: int) -> int:
        """First step of the phase at ``index``."""
        return self._ends[index] - self.phases[index].num_steps

    def phase_at(self, step: int) -> Phase:
        """The phase that ``step`` belongs to."""
        return self.phases[self.index_at(step)]


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """Steps between readings of losses, validations, checkpoints and sample pictures; seconds between checkpoints."""

    report: int = 10
    validate: int | None = None
    checkpoint: int | None = None
    checkpoint_seconds: float = 120.0
    sample: int | None = None


def is_due(step: int, interval: int | None) -> bool:
    """Whether something that happens every ``interval`` steps happens after ``step`` steps are done."""
    return interval is not None and step > 0 and step % interval == 0
