"""The one loop. It knows phases and players, and no model by name.

A step: one generator forward; then each player of the phase in order: zero, loss, backward, step. A discriminator
sees the completion detached; the generator sees the updated discriminator and, since ``backward`` is told whose
gradients to make, leaves none in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.errors import BenchError
from bench.training import checkpoint
from bench.training.device import Compute, is_out_of_memory
from bench.training.log import TrainLog
from bench.training.monitor import Monitor, NonFiniteLossError, Progress
from bench.training.players import Players
from bench.training.schedule import Schedule, due
from bench.training.signals import StopSignals
from models.protocol import Batch, Completion, InpaintingModel, Phase


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """Steps between readings of losses, validations and checkpoints, and seconds between checkpoints."""

    report: int = 10
    validate: int | None = None
    checkpoint: int | None = None
    checkpoint_seconds: float = 120.0


class OutOfMemoryError(BenchError):
    """A step does not fit into memory, and may not or cannot be cut into smaller pieces."""


class Trainer:
    """Trains one model to the end of its schedule, from its newest checkpoint if there is one.

    Args:
        model: with its networks already on the device.
        schedule: its phases.
        batches: step -> batch.
        compute: device and precision.
        folder: for checkpoints and ``train.jsonl``.
        intervals: see :class:`Intervals`.
        micro_batch: see :class:`bench.config.RunConfig`.
        validate: called in evaluation mode; returns named numbers for the log.
        listen: called at every report.
        warn: called with a sentence when something is passed over.
        log: takes the lines of ``train.jsonl``.
    """

    def __init__(
        self,
        model: InpaintingModel,
        schedule: Schedule,
        batches: Callable[[int], Batch],
        compute: Compute,
        folder: Path,
        *,
        intervals: Intervals = Intervals(),
        micro_batch: int | None = None,
        validate: Callable[[], dict[str, float]] | None = None,
        listen: Callable[[Progress], None] = lambda _: None,
        warn: Callable[[str], None] = lambda _: None,
        log: TrainLog | None = None,
    ) -> None:
        self.model, self.schedule, self.batches, self.compute = model, schedule, batches, compute
        self.folder, self.intervals, self.micro_batch = folder, intervals, micro_batch
        self.validate, self._warn = validate, warn
        self.step, self._halved = 0, False
        self.players = Players(model.networks, schedule)
        self.monitor = Monitor(
            schedule,
            folder,
            batch_size=getattr(batches, "batch_size", 1),
            report_every=intervals.report,
            listen=listen,
            log=log,
            ranks=compute.ranks,
        )

    def train(self) -> None:
        """Run every step that is left.

        Raises:
            InterruptedTrainingError: on SIGINT or SIGTERM, once a checkpoint is written.
            NonFiniteLossError: a loss is NaN or infinite; the checkpoint before it stays.
        """
        ranks = self.compute.ranks
        with StopSignals() as stop:
            # Resume: everything that follows is a function of the step.
            complete = self._resume()
            saved = time.perf_counter()
            while not complete:
                # Phase: optimizers of new players, batch-norm modes.
                phase = self.players.enter(self.step)

                # Step.
                self.advance(phase, self.batches(self.step))
                self.step += 1
                complete = self.step == self.schedule.num_steps

                # Report: the only place where the host waits for the device.
                if reported := complete or due(self.step, self.intervals.report):
                    self.monitor.report(self.step)

                # Validate.
                if self.validate and (complete or due(self.step, self.intervals.validate)):
                    self._validate(self.validate)

                # Checkpoint: by steps, by the clock (read when a report has waited anyway), on a signal, at the end.
                waited = int(reported and time.perf_counter() - saved > self.intervals.checkpoint_seconds)
                if reported and ranks.many:
                    waited, stop.signum = ranks.highest([waited, stop.signum])
                asked = waited or (stop.signum and (reported or not ranks.many))
                if complete or asked or due(self.step, self.intervals.checkpoint):
                    self._save(complete)
                    saved = time.perf_counter()
                    stop.stop_if_asked(self.step)
            stop.stop_if_asked(self.step)

    def advance(self, phase: Phase, batch: Batch) -> None:
        """One step of every player; where memory runs out, once in a training, in halves of the batch from then on."""
        left = list(phase.players)
        while left:
            try:
                self._move(left, phase, batch)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(batch)

    def _move(self, left: list[str], phase: Phase, batch: Batch) -> None:
        """Move the players in ``left`` and take them from it. With micro-batches the generator runs again for each
        player, since a generator's loss needs the whole discriminator step first.
        """
        parts = batch.split(self.micro_batch)
        shared = self._complete(phase, parts[0]) if len(parts) == 1 else None
        while left:
            player = left[0]
            optimizer, moved = self.players.prepare(player, batch.step), []
            for part in parts:
                completion = shared or self._complete(phase, part)
                with self.compute.autocast():
                    seen = completion if player == "generator" else completion.detach()
                    terms = self.model.loss(player, part, seen, phase)
                weight = len(part) / len(batch)
                (terms["loss"] * weight).backward(inputs=self.players.parameters[player])  # type: ignore[no-untyped-call]
                moved.append(({name: value.detach() for name, value in terms.items()}, weight))
            self.compute.ranks.average_gradients(self.players.parameters[player])
            optimizer.step()
            for values, weight in moved:
                self.monitor.record(player, values, weight, batch.step)
            left.pop(0)

    def _halve(self, batch: Batch) -> None:
        """Cut the micro-batch into halves: the effective batch stays; batch-norm sees the smaller one from now on."""
        used = min(self.micro_batch or len(batch), len(batch))
        if self._halved or used == 1 or self.compute.ranks.many:
            raise OutOfMemoryError(
                f"out of memory at step {batch.step} with {used} images at once; "
                f"give --micro-batch {max(1, used // 2)} (the same effective batch), or a smaller --size"
            )
        self.micro_batch, self._halved = (used + 1) // 2, True
        detail = f"{used} images at once did not fit: {self.micro_batch} at once from this step on, the batch stays"
        self.monitor.note(batch.step + 1, "out of memory", detail)
        self._warn(f"out of memory at step {batch.step}: {detail}")

    def _complete(self, phase: Phase, batch: Batch) -> Completion:
        with torch.set_grad_enabled("generator" in phase.optimizers), self.compute.autocast():
            return self.model.complete(batch)

    def _validate(self, validate: Callable[[], dict[str, float]]) -> None:
        self.monitor.tick()
        self.monitor.check_finite()
        self.model.networks.eval()
        self.monitor.validated(self.step, validate())
        self.players.set_modes()
        self.monitor.start_clock()

    def _save(self, complete: bool) -> None:
        """Write the last two checkpoints; of a finished training one, the weights without optimizer state."""
        self.monitor.tick()
        self.monitor.check_finite()
        if player := self.players.with_bad_weights():
            raise NonFiniteLossError(f"weights of the {player} are not finite after step {self.step - 1}")
        state = {
            "networks": self.model.networks.state_dict(),
            "optimizers": {} if complete else self.players.state_dict(),
            "monitor": self.monitor.state_dict(),
            "micro_batch": (self.micro_batch, self._halved),
            "complete": complete,
        }
        if self.compute.ranks.leads:
            checkpoint.save(self.folder, self.step, state, keep=1 if complete else 2)
        self.monitor.start_clock()

    def _resume(self) -> bool:
        """Continue from the newest checkpoint; true if that one is the finished training."""
        state = None
        if self.compute.ranks.leads:
            self.folder.mkdir(parents=True, exist_ok=True)
            checkpoint.remove_stale(self.folder)
            state = checkpoint.newest(self.folder, warn=self._warn)
            self.monitor.log.rewind(state["step"] if state else -1)
        state = self.compute.ranks.share(state)
        if state:
            self.step = state["step"]
            self.micro_batch, self._halved = state["micro_batch"]
            self.model.networks.load_state_dict(state["networks"])
            self.players.load_state_dict(state["optimizers"], self.step)
            self.monitor.load_state_dict(state["monitor"], self.step, self.compute.device)
        self.monitor.start_clock()
        return bool(state and state["complete"])
