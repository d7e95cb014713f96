"""What is watched while a training runs: losses on the device, time, ``train.jsonl``, and who listens.

Nothing here waits for the device except :meth:`MetricLogger.report` and :meth:`MetricLogger.check_finite`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.errors import BenchError
from bench.training import checkpoint
from bench.training.distributed import SINGLE_PROCESS, ProcessGroup
from bench.training.schedule import Schedule
from bench.training.train_log import TrainLog

#: Weight of the newest report in the rate that the time left is told from.
_SMOOTHING = 0.2


class NonFiniteLossError(BenchError):
    """A loss became NaN or infinite; the message names step, network and the last good checkpoint."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a callbacks is told at every report.

    Attributes:
        step: steps done.
        num_steps: steps in all.
        phase: name of the phase the last step belonged to.
        images_per_second: since the last report.
        seconds: of training so far, without validations and checkpoints.
        seconds_left: told from a rate that is smoothed over reports.
        terms: network/term -> its mean since the last report.
    """

    step: int
    num_steps: int
    phase: str
    images_per_second: float
    seconds: float
    seconds_left: float
    terms: dict[str, float]


class MetricLogger:
    """Sums of the losses on the device, and the clock of a training.

    Args:
        schedule: its phases.
        folder: of checkpoints and ``train.jsonl``.
        batch_size: images a step.
        report_every: steps between reports.
        on_progress: called at every report.
        log: takes a line a report.
        process_group: losses are averaged over them; rank 0 alone writes and tells.
    """

    def __init__(
        self,
        schedule: Schedule,
        folder: Path,
        *,
        batch_size: int,
        report_every: int,
        on_progress: Callable[[Progress], None],
        log: TrainLog | None = None,
        process_group: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self.schedule, self.folder, self.batch_size, self.process_group = (
            schedule,
            folder,
            batch_size,
            process_group,
        )
        self.log = log or TrainLog(folder / "train.jsonl")
        self.seconds = 0.0
        self._report_every, self._on_progress = report_every, on_progress
        self._sums: dict[str, Tensor] = {}
        self._bad: dict[str, Tensor] = {}
        self._reported, self._since_report = 0, 0.0
        self._smooth: float | None = None
        self._mark = time.perf_counter()

    def start_clock(self) -> None:
        """Count from now: what came before was no training."""
        self._mark = time.perf_counter()

    def tick(self) -> None:
        """Count the time since the last mark as training."""
        now = time.perf_counter()
        self.seconds += now - self._mark
        self._since_report += now - self._mark
        self._mark = now

    def record(self, network: str, terms: dict[str, Tensor], weight: float, step: int) -> None:
        """Add to the running sums on the device; remember the first step with a loss that is not finite."""
        for name, value in terms.items():
            key = f"{network}/{name}"
            value = value.detach().float() * weight
            self._sums[key] = self._sums[key] + value if key in self._sums else value
        bad = ~torch.isfinite(terms["loss"].detach())
        first = self._bad.setdefault(network, torch.full_like(bad, -1, dtype=torch.int64))
        self._bad[network] = torch.where((first < 0) & bad, step, first)

    def report(self, step: int) -> None:
        """After ``step`` steps: read the losses, refuse bad ones, tell the log and the callbacks."""
        self.check_finite()
        self.tick()
        self._sums = self.process_group.all_reduce_mean(self._sums)
        steps = (step - 1) % self._report_every + 1
        terms = {k: float(v) / self._moves(k.split("/")[0], step, steps) for k, v in self._sums.items()}
        timed = step - self._reported
        pace = self._since_report / max(timed, 1)
        self._smooth = pace if self._smooth is None else self._smooth + _SMOOTHING * (pace - self._smooth)
        progress = Progress(
            step=step,
            num_steps=self.schedule.num_steps,
            phase=self.schedule.phase_at(step - 1).name,
            images_per_second=self.batch_size * timed / max(self._since_report, 1e-9),
            seconds=self.seconds,
            seconds_left=self._smooth * (self.schedule.num_steps - step),
            terms=terms,
        )
        self._write(step, phase=progress.phase, terms=terms)
        self._sums.clear()
        self._reported, self._since_report = step, 0.0
        if self.process_group.is_main:
            self._on_progress(progress)

    def note(self, step: int, kind: str, detail: str) -> None:
        """Log something that belongs into the results."""
        self._write(step, event={"step": step, "kind": kind, "detail": detail})

    def validated(self, step: int, values: dict[str, float]) -> None:
        """Log a validation. Raises :class:`NonFiniteLossError` where a number is not finite: the training diverged."""
        if bad := next((name for name, value in values.items() if not math.isfinite(value)), None):
            raise NonFiniteLossError(
                f"validation's {bad} is not finite after step {step - 1}; {self._last_good()}"
            )
        self._write(step, validation=values)

    def check_finite(self) -> None:
        """Raise :class:`NonFiniteLossError` if a loss was NaN or infinite."""
        firsts = self.process_group.all_reduce_max([int(first) for first in self._bad.values()])
        for network, step in zip(self._bad, firsts, strict=True):
            if step >= 0:
                where = self._last_good()
                raise NonFiniteLossError(f"loss of the {network} is not finite at step {step}; {where}")

    def state_dict(self) -> dict[str, Any]:
        """Sums since the last report, and seconds."""
        self._sums = self.process_group.all_reduce_mean(self._sums)
        return {"sums": dict(self._sums), "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any], step: int, device: torch.device) -> None:
        """Take up the state as it was after ``step`` steps."""
        self._sums = {name: value.to(device) for name, value in state["sums"].items()}
        self.seconds, self._reported = state["seconds"], step

    def _last_good(self) -> str:
        good = checkpoint.newest_checkpoint(self.folder)
        return f"the last good checkpoint is of step {good['step']}" if good else "no checkpoint was due yet"

    def _moves(self, network: str, step: int, steps: int) -> int:
        """In how many of the last ``steps`` steps the network moved (a report may straddle two phases)."""
        moved = sum(network in self.schedule.phase_at(s).optimizers for s in range(step - steps, step))
        return max(1, moved)

    def _write(self, step: int, **values: Any) -> None:
        if not self.process_group.is_main:
            return
        line = {"step": step, "images_seen": step * self.batch_size, "seconds": round(self.seconds, 3)}
        self.log.write({**line, **values})
