"""The one loop. It knows phases and steps, and no model by name."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.training import checkpoint
from bench.training.device import Compute
from bench.training.metric_logger import MetricLogger, NonFiniteLossError, Progress
from bench.training.optimizers import Optimizers
from bench.training.schedule import Intervals, Schedule, is_due
from bench.training.signals import StopSignals
from bench.training.train_log import TrainLog
from bench.training.train_step import TrainStep
from models.base import Batch, InpaintingModel


class Trainer:
    """Trains one model to the end of its schedule, from its newest checkpoint if there is one.

    Args:
        model: with its networks already on the device.
        schedule: its phases.
        batches: step -> batch.
        compute: device and precision.
        folder: for checkpoints and ``train.jsonl``.
        intervals: see :class:`bench.training.schedule.Intervals`.
        micro_batch: see :class:`bench.config.RunConfig`.
        validate: called in evaluation mode; returns named numbers for the log.
        on_progress: called at every report.
        on_step: called with the number of steps done, before the first step of this process and after each.
        warn: called with a sentence when something is passed over.
        log: takes the lines of ``train.jsonl``.
        sample: called in evaluation mode to draw pictures.
    """

    def __init__(
        self,
        model: InpaintingModel,
        schedule: Schedule,
        batches: Callable[[int], Batch],
        compute: Compute,
        folder: Path,
        *,
        intervals: Intervals | None = None,
        micro_batch: int | None = None,
        validate: Callable[[], dict[str, float]] | None = None,
        on_progress: Callable[[Progress], None] = lambda _: None,
        on_step: Callable[[int], None] = lambda _: None,
        warn: Callable[[str], None] = lambda _: None,
        log: TrainLog | None = None,
        sample: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.model, self.schedule, self.batches, self.compute = model, schedule, batches, compute
        self.folder, self.intervals = folder, intervals or Intervals()
        self.validate, self.sample, self.on_step = validate, sample, on_step
        self.step = 0
        self.optimizers = Optimizers(model.networks, schedule)
        self.metric_logger = MetricLogger(
            schedule,
            folder,
            batch_size=getattr(batches, "batch_size", 1),
            report_every=self.intervals.report,
            on_progress=on_progress,
            log=log,
            process_group=compute.process_group,
        )
        self.train_step = TrainStep(
            model, self.optimizers, self.metric_logger, compute, micro_batch=micro_batch, warn=warn
        )
        self.snapshot = TrainerState(
            folder, self.optimizers, self.train_step, self.metric_logger, compute, warn
        )

    def train(self) -> None:
        """Run every step that is left.

        Raises:
            InterruptedTrainingError: on SIGINT or SIGTERM, once a checkpoint is written.
            NonFiniteLossError: a loss is NaN or infinite; the checkpoint before it stays.
        """
        process_group = self.compute.process_group
        with StopSignals() as stop:
            # Resume: everything that follows is a function of the step.
            self.step, complete = self.snapshot.restore()
            self.on_step(self.step)
            saved = time.perf_counter()
            while not complete:
                # Phase: optimizers of new optimizers, batch-norm modes.
                phase = self.optimizers.enter(self.step)

                # Step.
                self.train_step.run(phase, self.batches(self.step))
                self.step += 1
                self.on_step(self.step)
                complete = self.step == self.schedule.num_steps

                # Report: the only place where the host waits for the device.
                if reported := complete or is_due(self.step, self.intervals.report):
                    self.metric_logger.report(self.step)

                # Validate, draw samples.
                if self.validate and (complete or is_due(self.step, self.intervals.validate)):
                    self.metric_logger.check_finite()
                    with self._eval_mode():
                        self.metric_logger.validated(self.step, self.validate())
                if is_due(self.step, self.intervals.sample):
                    with self._eval_mode():
                        self.sample(self.step)

                # Checkpoint: by steps, by the clock (read when a report has waited anyway), on a signal, at the end.
                waited = int(reported and time.perf_counter() - saved > self.intervals.checkpoint_seconds)
                if reported and process_group.is_distributed:
                    waited, stop.signum = process_group.all_reduce_max(
                        [waited, stop.signum]
                    )  # all do the same
                asked = waited or (stop.signum and (reported or not process_group.is_distributed))
                if complete or asked or is_due(self.step, self.intervals.checkpoint):
                    self.snapshot.save(self.step, complete=complete)
                    saved = time.perf_counter()
                    if asked:
                        stop.stop_if_asked(self.step)
            stop.stop_if_asked(self.step)

    @contextlib.contextmanager
    def _eval_mode(self) -> Iterator[None]:
        """Evaluation mode, off the clock."""
        self.metric_logger.tick()
        self.model.networks.eval()
        yield
        self.optimizers.set_modes()
        self.metric_logger.start_clock()


# A training's whole state as one checkpoint, and back.


class TrainerState:
    """Saves networks, optimizers, losses not yet reported and the way batches are cut; restores them.

    Args:
        folder: of the checkpoints.
        optimizers: networks and optimizers.
        train_step: the way batches are cut.
        metric_logger: losses not yet reported, and the log, which is cut back to the step that is restored.
        compute: device and processes; one process writes, all read what it found.
        warn: called with a sentence when a damaged checkpoint is passed over.
    """

    def __init__(
        self,
        folder: Path,
        optimizers: Optimizers,
        train_step: TrainStep,
        metric_logger: MetricLogger,
        compute: Compute,
        warn: Callable[[str], None],
    ) -> None:
        self.folder, self.optimizers, self.train_step, self.metric_logger = (
            folder,
            optimizers,
            train_step,
            metric_logger,
        )
        self.compute, self._warn = compute, warn

    def save(self, step: int, *, complete: bool) -> None:
        """Write a checkpoint and keep the one before; of a finished training, the weights without optimizer state.

        Raises:
            NonFiniteLossError: losses or weights are not finite; nothing is written.
        """
        self.metric_logger.tick()
        self.metric_logger.check_finite()
        if network := self.optimizers.first_nonfinite_network():
            raise NonFiniteLossError(f"weights of the {network} are not finite after step {step - 1}")
        state = {
            "networks": self.optimizers.networks.state_dict(),
            "optimizers": {} if complete else self.optimizers.state_dict(),
            "metric_logger": self.metric_logger.state_dict(),
            "train_step": self.train_step.state_dict(),
            "complete": complete,
        }
        if self.compute.process_group.is_main:
            checkpoint.save_checkpoint(self.folder, step, state, keep=1 if complete else 2)
        self.metric_logger.start_clock()

    def restore(self) -> tuple[int, bool]:
        """Take up the newest checkpoint, if there is one: the steps done, and whether those were all."""
        state = None
        if self.compute.process_group.is_main:
            self.folder.mkdir(parents=True, exist_ok=True)
            checkpoint.remove_stale_checkpoints(self.folder)
            state = checkpoint.newest_checkpoint(self.folder, warn=self._warn)
            self.metric_logger.log.rewind(state["step"] if state else -1)
        state = self.compute.process_group.broadcast(state)
        if state:
            self.train_step.load_state_dict(state["train_step"])
            self.optimizers.networks.load_state_dict(state["networks"])
            self.optimizers.load_state_dict(state["optimizers"], state["step"])
            self.metric_logger.load_state_dict(state["metric_logger"], state["step"], self.compute.device)
        self.metric_logger.start_clock()
        return (state["step"], state["complete"]) if state else (0, False)
