"""Running losses on the device, the clock of a training, ``train.jsonl``, and progress reports.

Only :meth:`MetricLogger.report` and :meth:`MetricLogger.check_finite` wait for the device.
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
from bench.training.phase_schedule import Schedule
from bench.training.train_log import TrainLog

#: Weight of the newest report in the smoothed rate from which the remaining time is estimated.
_SMOOTHING = 0.2


class NonFiniteLossError(BenchError):
    """A loss became NaN or infinite; the message names step, network and the last good checkpoint."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The state of a training at a report.

    Attributes:
        step: steps done.
        num_steps: steps of the whole training.
        phase: name of the phase of the last step.
        images_per_second: rate since the previous report.
        seconds: duration of the training so far, without validations and checkpoints.
        seconds_left: estimated from a rate that is smoothed over reports.
        terms: network/term -> its mean since the previous report.
    """

    step: int
    num_steps: int
    phase: str
    images_per_second: float
    seconds: float
    seconds_left: float
    terms: dict[str, float]


class MetricLogger:
    """Sums the losses on the device and keeps the clock of a training.

    Args:
        schedule: the phases.
        folder: of checkpoints and ``train.jsonl``.
        batch_size: images per step.
        report_every: steps between reports.
        on_progress: called at every report.
        log: receives one line per report.
        process_group: losses are averaged over its processes; only the main one logs and reports.
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
        #: Network -> first step with a loss that is not finite, -1 if there is none; stays on the device.
        self._first_nonfinite: dict[str, Tensor] = {}
        self._reported, self._since_report = 0, 0.0
        self._smooth: float | None = None
        self._mark = time.perf_counter()

    def start_clock(self) -> None:
        """Start counting now; the time before is not training."""
        self._mark = time.perf_counter()

    def stop_clock(self) -> None:
        """Count the time since the clock was started or last stopped as training."""
        now = time.perf_counter()
        self.seconds += now - self._mark
        self._since_report += now - self._mark
        self._mark = now

    def record(self, network: str, terms: dict[str, Tensor], weight: float, step: int) -> None:
        """Add ``weight * terms`` to the sums on the device; note the first step with a loss that is not finite."""
        # Kept as tensors: reading a value here would make every step wait for the device.
        for name, value in terms.items():
            key = f"{network}/{name}"
            value = value.detach().float().reshape(()) * weight
            self._sums[key] = self._sums[key] + value if key in self._sums else value
        # The total is what is differentiated: a term that spoils it shows here.
        nonfinite = ~torch.isfinite(terms["loss"].detach()).reshape(())
        if network not in self._first_nonfinite:
            self._first_nonfinite[network] = torch.full_like(nonfinite, -1, dtype=torch.int64)
        first = self._first_nonfinite[network]
        # Only the first step is of use in the message; chosen on the device, without a branch on the host.
        self._first_nonfinite[network] = torch.where((first < 0) & nonfinite, step, first)

    def report(self, step: int) -> None:
        """Read the losses after ``step`` steps, log them and call ``on_progress``.

        Raises:
            NonFiniteLossError: a loss was not finite.
        """
        # Before the lines are written: train.jsonl and the page never show a NaN as a number.
        self.check_finite()
        self.stop_clock()
        # A collective call, so it stands before the test for the main process: all must take part.
        self._sums = self.process_group.all_reduce_mean(self._sums)
        # From the step, not from a counter: sums restored from a checkpoint count too. The last report may
        # cover fewer steps.
        steps = (step - 1) % self._report_every + 1
        terms = {
            name: value / self._steps_trained(name.split("/")[0], step, steps)
            for name, value in zip(self._sums, _read(self._sums), strict=True)
        }
        # Steps and time of this process since its last report; a resumed training has run only part of the
        # interval.
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

    def log_event(self, step: int, kind: str, detail: str) -> None:
        """Log an event that the results record."""
        self._write(step, event={"step": step, "kind": kind, "detail": detail})

    def log_validation(self, step: int, values: dict[str, float]) -> None:
        """Log the numbers of a validation.

        Raises:
            NonFiniteLossError: one of them is not finite, so the training has diverged.
        """
        if bad := next((name for name, value in values.items() if not math.isfinite(value)), None):
            raise NonFiniteLossError(
                f"validation's {bad} is not finite after step {step - 1}; {self._last_good_checkpoint()}"
            )
        self._write(step, validation=values)

    def check_finite(self) -> None:
        """Raise :class:`NonFiniteLossError` if a loss was NaN or infinite; waits for the device."""
        # The maximum: -1 where a process saw none, and all of them must stop if one did.
        firsts = self.process_group.all_reduce_max([int(v) for v in _read(self._first_nonfinite)])
        for network, step in zip(self._first_nonfinite, firsts, strict=True):
            if step >= 0:
                last = self._last_good_checkpoint()
                raise NonFiniteLossError(f"loss of the {network} is not finite at step {step}; {last}")

    def state_dict(self) -> dict[str, Any]:
        """Return the sums since the previous report, and the seconds of training."""
        # Averaged before saving: the checkpoint is written by one process and loaded by all, whatever their
        # number then.
        self._sums = self.process_group.all_reduce_mean(self._sums)
        return {"sums": dict(self._sums), "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any], step: int, device: torch.device) -> None:
        """Continue from ``state``, which was taken after ``step`` steps."""
        self._sums = {name: value.to(device) for name, value in state["sums"].items()}
        self.seconds, self._reported = state["seconds"], step

    def _last_good_checkpoint(self) -> str:
        good = checkpoint.newest_checkpoint(self.folder)
        return f"the last good checkpoint is of step {good['step']}" if good else "no checkpoint was due yet"

    def _steps_trained(self, network: str, step: int, steps: int) -> int:
        """Count the steps among the last ``steps`` that trained the network (a report may straddle two phases)."""
        trained = sum(network in self.schedule.phase_at(s).optimizers for s in range(step - steps, step))
        return max(1, trained)

    def _write(self, step: int, **values: Any) -> None:
        if not self.process_group.is_main:
            return
        line = {"step": step, "images_seen": step * self.batch_size, "seconds": round(self.seconds, 3)}
        self.log.write({**line, **values})


def _read(scalars: dict[str, Tensor]) -> list[float]:
    """Return the values of scalars on the device, in one transfer."""
    # Stacked on the device first, since every transfer of its own costs a round trip.
    return [float(value) for value in torch.stack(list(scalars.values())).cpu()] if scalars else []
