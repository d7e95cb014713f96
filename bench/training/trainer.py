"""The one loop. It knows phases and steps, and no model by name."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.training import checkpoint
from bench.training.device import Compute
from bench.training.metric_logger import Monitor, NonFiniteLossError, Progress
from bench.training.optimizers import Players
from bench.training.schedule import Intervals, Schedule, due
from bench.training.signals import StopSignals
from bench.training.train_log import TrainLog
from bench.training.train_step import Mover
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
        listen: called at every report.
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
        listen: Callable[[Progress], None] = lambda _: None,
        warn: Callable[[str], None] = lambda _: None,
        log: TrainLog | None = None,
        sample: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.model, self.schedule, self.batches, self.compute = model, schedule, batches, compute
        self.folder, self.intervals = folder, intervals or Intervals()
        self.validate, self.sample = validate, sample
        self.step = 0
        self.players = Players(model.networks, schedule)
        self.monitor = Monitor(
            schedule,
            folder,
            batch_size=getattr(batches, "batch_size", 1),
            report_every=self.intervals.report,
            listen=listen,
            log=log,
            ranks=compute.ranks,
        )
        self.mover = Mover(model, self.players, self.monitor, compute, micro_batch=micro_batch, warn=warn)
        self.snapshot = Snapshot(folder, self.players, self.mover, self.monitor, compute, warn)

    def train(self) -> None:
        """Run every step that is left.

        Raises:
            InterruptedTrainingError: on SIGINT or SIGTERM, once a checkpoint is written.
            NonFiniteLossError: a loss is NaN or infinite; the checkpoint before it stays.
        """
        ranks = self.compute.ranks
        with StopSignals() as stop:
            # Resume: everything that follows is a function of the step.
            self.step, complete = self.snapshot.restore()
            saved = time.perf_counter()
            while not complete:
                # Phase: optimizers of new players, batch-norm modes.
                phase = self.players.enter(self.step)

                # Step.
                self.mover.advance(phase, self.batches(self.step))
                self.step += 1
                complete = self.step == self.schedule.num_steps

                # Report: the only place where the host waits for the device.
                if reported := complete or due(self.step, self.intervals.report):
                    self.monitor.report(self.step)

                # Validate, draw samples.
                if self.validate and (complete or due(self.step, self.intervals.validate)):
                    self.monitor.check_finite()
                    with self._standing_still():
                        self.monitor.validated(self.step, self.validate())
                if due(self.step, self.intervals.sample):
                    with self._standing_still():
                        self.sample(self.step)

                # Checkpoint: by steps, by the clock (read when a report has waited anyway), on a signal, at the end.
                waited = int(reported and time.perf_counter() - saved > self.intervals.checkpoint_seconds)
                if reported and ranks.many:
                    waited, stop.signum = ranks.highest([waited, stop.signum])  # all do the same
                asked = waited or (stop.signum and (reported or not ranks.many))
                if complete or asked or due(self.step, self.intervals.checkpoint):
                    self.snapshot.save(self.step, complete=complete)
                    saved = time.perf_counter()
                    if asked:
                        stop.stop_if_asked(self.step)
            stop.stop_if_asked(self.step)

    @contextlib.contextmanager
    def _standing_still(self) -> Iterator[None]:
        """Evaluation mode, off the clock."""
        self.monitor.tick()
        self.model.networks.eval()
        yield
        self.players.set_modes()
        self.monitor.start_clock()


# A training's whole state as one checkpoint, and back.


class Snapshot:
    """Saves networks, optimizers, losses not yet reported and the way batches are cut; restores them.

    Args:
        folder: of the checkpoints.
        players: networks and optimizers.
        mover: the way batches are cut.
        monitor: losses not yet reported, and the log, which is cut back to the step that is restored.
        compute: device and processes; one process writes, all read what it found.
        warn: called with a sentence when a damaged checkpoint is passed over.
    """

    def __init__(
        self,
        folder: Path,
        players: Players,
        mover: Mover,
        monitor: Monitor,
        compute: Compute,
        warn: Callable[[str], None],
    ) -> None:
        self.folder, self.players, self.mover, self.monitor = folder, players, mover, monitor
        self.compute, self._warn = compute, warn

    def save(self, step: int, *, complete: bool) -> None:
        """Write a checkpoint and keep the one before; of a finished training, the weights without optimizer state.

        Raises:
            NonFiniteLossError: losses or weights are not finite; nothing is written.
        """
        self.monitor.tick()
        self.monitor.check_finite()
        if player := self.players.with_bad_weights():
            raise NonFiniteLossError(f"weights of the {player} are not finite after step {step - 1}")
        state = {
            "networks": self.players.networks.state_dict(),
            "optimizers": {} if complete else self.players.state_dict(),
            "monitor": self.monitor.state_dict(),
            "mover": self.mover.state_dict(),
            "complete": complete,
        }
        if self.compute.ranks.leads:
            checkpoint.save(self.folder, step, state, keep=1 if complete else 2)
        self.monitor.start_clock()

    def restore(self) -> tuple[int, bool]:
        """Take up the newest checkpoint, if there is one: the steps done, and whether those were all."""
        state = None
        if self.compute.ranks.leads:
            self.folder.mkdir(parents=True, exist_ok=True)
            checkpoint.remove_stale(self.folder)
            state = checkpoint.newest(self.folder, warn=self._warn)
            self.monitor.log.rewind(state["step"] if state else -1)
        state = self.compute.ranks.share(state)
        if state:
            self.mover.load_state_dict(state["mover"])
            self.players.networks.load_state_dict(state["networks"])
            self.players.load_state_dict(state["optimizers"], state["step"])
            self.monitor.load_state_dict(state["monitor"], state["step"], self.compute.device)
        self.monitor.start_clock()
        return (state["step"], state["complete"]) if state else (0, False)
