"""The training loop. It knows phases and steps, and no model by name."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.training import checkpoint
from bench.training.data_loader import BatchSource
from bench.training.device import Compute
from bench.training.metric_logger import MetricLogger, NonFiniteLossError, Progress
from bench.training.optimizers import Optimizers
from bench.training.phase_schedule import Intervals, Schedule, is_due
from bench.training.signals import StopSignals
from bench.training.train_log import TrainLog
from bench.training.train_step import TrainStep
from models.base import InpaintingModel
from reports.results.atomic_io import make_folder


@dataclass(frozen=True, kw_only=True)
class TrainerHooks:
    """Functions that the trainer calls while it trains; none of them changes a number.

    Attributes:
        validate: called in evaluation mode; returns the numbers to log by name.
        sample: called in evaluation mode with the number of steps done, to draw images.
        on_progress: called at every report.
        on_step: called with the number of steps done, before the first step of this process and after each.
        warn: called with one sentence about each non-fatal problem.
        log: receives the lines of ``train.jsonl`` (default: the file in the training's folder).
        origin: stored in every checkpoint: ``what`` is trained, and ``where``. A checkpoint of another ``what`` is not
            resumed.
    """

    validate: Callable[[], dict[str, float]] | None = None
    sample: Callable[[int], object] | None = None
    on_progress: Callable[[Progress], None] = lambda _: None
    on_step: Callable[[int], None] = lambda _: None
    warn: Callable[[str], None] = lambda _: None
    log: TrainLog | None = None
    origin: Mapping[str, Any] = field(default_factory=dict)


class Trainer:
    """Trains one model to the end of its schedule, from its newest checkpoint if there is one.

    Args:
        model: its networks are on the device already.
        schedule: the phases.
        batches: step -> batch.
        compute: device, precision and processes.
        folder: for checkpoints and ``train.jsonl``.
        intervals: steps between reports, validations, checkpoints and samples.
        micro_batch: maximum images per forward pass; gradients are accumulated over the batch.
        hooks: functions to call while training.
    """

    def __init__(
        self,
        model: InpaintingModel,
        schedule: Schedule,
        batches: BatchSource,
        compute: Compute,
        folder: Path,
        *,
        intervals: Intervals | None = None,
        micro_batch: int | None = None,
        hooks: TrainerHooks | None = None,
    ) -> None:
        self.model, self.schedule, self.batches, self.compute = model, schedule, batches, compute
        self.folder, self.intervals, self.hooks = folder, intervals or Intervals(), hooks or TrainerHooks()
        self.step = 0
        self.optimizers = Optimizers(model.networks, schedule)
        self.metric_logger = MetricLogger(
            schedule,
            folder,
            batch_size=batches.batch_size,
            report_every=self.intervals.report,
            on_progress=self.hooks.on_progress,
            log=self.hooks.log,
            process_group=compute.process_group,
        )
        self.train_step = TrainStep(
            model,
            self.optimizers,
            self.metric_logger,
            compute,
            micro_batch=micro_batch,
            warn=self.hooks.warn,
        )

    def train(self) -> None:
        """Run every step that is left.

        Raises:
            InterruptedTrainingError: on SIGINT or SIGTERM, once a checkpoint is written.
            NonFiniteLossError: a loss is NaN or infinite; the checkpoint before it stays.
        """
        validate, sample = self.hooks.validate, self.hooks.sample
        with StopSignals() as stop:
            # Resume: everything that follows is a function of the step.
            complete = self.restore_checkpoint()
            self.hooks.on_step(self.step)
            saved_at = time.perf_counter()
            while not complete:
                # Phase: its optimizers, its modes of batch-norm.
                phase = self.optimizers.enter_phase(self.step)

                # Step.
                self.train_step.run(phase, self.batches(self.step))
                # Counted at once, so that everything below means "after this many steps", in names of
                # checkpoints too.
                self.step += 1
                self.hooks.on_step(self.step)
                complete = self.step == self.schedule.num_steps

                # Report: the only place where the host waits for the device.
                if reported := complete or is_due(self.step, self.intervals.report):
                    self.metric_logger.report(self.step)

                # Validate.
                if validate and (complete or is_due(self.step, self.intervals.validate)):
                    # A validation of broken weights takes seconds and would fail with a less helpful message.
                    self.metric_logger.check_finite()
                    with self._eval_mode():
                        self.metric_logger.log_validation(self.step, validate())

                # Draw samples.
                if sample and is_due(self.step, self.intervals.sample):
                    with self._eval_mode():
                        sample(self.step)

                # Checkpoint: by steps, by the clock, on a signal, at the end.
                asked = self._agree_on_checkpoint(saved_at, stop, reported=reported)
                if complete or asked or is_due(self.step, self.intervals.checkpoint):
                    self.save_checkpoint(complete=complete)
                    # Set after the write, so that a slow disk does not make checkpoints follow one another.
                    saved_at = time.perf_counter()
                    # Only where all processes agreed: one that stops alone would leave the others waiting in
                    # their next exchange.
                    if asked:
                        stop.stop_if_asked(self.step)
            # A signal during the load of a complete training, or during its last checkpoint.
            stop.stop_if_asked(self.step)

    def state_dict(self, *, complete: bool = False) -> dict[str, Any]:
        """Return all that a resumed training needs; of a ``complete`` one, without optimizer state."""
        return {
            "step": self.step,
            "networks": self.model.networks.state_dict(),
            "optimizers": {} if complete else self.optimizers.state_dict(),
            "metric_logger": self.metric_logger.state_dict(),
            "train_step": self.train_step.state_dict(),
            "complete": complete,
            "origin": dict(self.hooks.origin),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state`` as :meth:`state_dict` returned it."""
        self.step = state["step"]
        self.train_step.load_state_dict(state["train_step"])
        self.model.networks.load_state_dict(state["networks"])
        self.optimizers.load_state_dict(state["optimizers"], self.step)
        self.metric_logger.load_state_dict(state["metric_logger"], self.step, self.compute.device)

    def save_checkpoint(self, *, complete: bool) -> None:
        """Write a checkpoint and keep the previous one; keep only the final one of a ``complete`` training.

        Raises:
            NonFiniteLossError: losses or weights are not finite; nothing is written.
        """
        # Writing is no training time: rates in results would depend on the disk.
        self.metric_logger.stop_clock()
        self.metric_logger.check_finite()
        # The losses of the step were finite, but its update may still have overflowed.
        if network := self.optimizers.first_nonfinite_network():
            raise NonFiniteLossError(f"weights of the {network} are not finite after step {self.step - 1}")
        state = self.state_dict(complete=complete)  # on every process: pending losses are averaged over them
        if self.compute.process_group.is_main:
            # In this order: lines may outlive a checkpoint, since a resume drops them, but not the other way
            # round.
            self.metric_logger.log.sync()
            checkpoint.save_checkpoint(self.folder, self.step, state, keep=1 if complete else 2)
        self.metric_logger.start_clock()

    def restore_checkpoint(self) -> bool:
        """Load the newest checkpoint, if there is one; return whether that training is complete."""
        state = None
        # One process decides what is resumed; others may see another state of a network file system.
        if self.compute.process_group.is_main:
            make_folder(self.folder)
            checkpoint.remove_partial_writes(self.folder)
            state = checkpoint.newest_checkpoint(self.folder, warn=self.hooks.warn)
            # The file format says nothing of the model: weights are loaded only into the training that wrote
            # them.
            if state and state.get("origin", {}).get("what") != self.hooks.origin.get("what"):
                self.hooks.warn(
                    f"{self.folder}: holds a checkpoint of another training; starting from step 0"
                )
                state = None
            # -1 drops every line: a training that starts over must not continue an old log.
            self.metric_logger.log.rewind(state["step"] if state else -1)
        state = self.compute.process_group.broadcast(state)
        if state:
            self.load_state_dict(state)
        self.metric_logger.start_clock()
        return bool(state and state["complete"])

    def _agree_on_checkpoint(self, saved_at: float, stop: StopSignals, *, reported: bool) -> bool:
        """Return whether the clock or a signal asks for a checkpoint now; the same answer on every process.

        The clock is read only after a report, when the host has waited for the device anyway, and several processes
        exchange their answers only then.
        """
        process_group = self.compute.process_group
        overdue = int(reported and time.perf_counter() - saved_at > self.intervals.checkpoint_seconds)
        if not process_group.is_distributed:
            # Without other processes a signal is honored after the current step, not only at the next report.
            return bool(overdue or stop.signum)
        if not reported:
            return False
        overdue, stop.signum = process_group.all_reduce_max([overdue, stop.signum])
        return bool(overdue or stop.signum)

    @contextlib.contextmanager
    def _eval_mode(self) -> Iterator[None]:
        """Put the networks into evaluation mode, and leave the time out of the training's clock."""
        self.metric_logger.stop_clock()
        self.model.networks.eval()
        yield
        # Not in a finally clause: after an error the training ends, and no step follows that needs the modes.
        self.optimizers.set_modes()
        self.metric_logger.start_clock()
