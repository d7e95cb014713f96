"""The one loop. It knows phases and players, and no model by name.

A step: one generator forward; then each player of the phase in order: zero, loss, backward, step. A discriminator
sees the completion detached; the generator sees the updated discriminator and, since ``backward`` is told whose
gradients to make, leaves none in it.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import BenchError
from bench.training import checkpoint, optimizers
from bench.training.device import Compute
from bench.training.log import TrainLog
from bench.training.schedule import Schedule, due
from models.protocol import Batch, InpaintingModel, Phase


class InterruptedTrainingError(BenchError):
    """A signal stopped the training after its checkpoint was written; exit code 128 + signal."""

    def __init__(self, signum: int, step: int) -> None:
        super().__init__(f"stopped after step {step}; give the same command again to go on")
        self.exit_code = 128 + signum


class NonFiniteLossError(BenchError):
    """A loss became NaN or infinite; the message names step, player and the last good checkpoint."""


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """Steps between readings of losses, validations and checkpoints, and seconds between checkpoints."""

    report: int = 10
    validate: int | None = None
    checkpoint: int | None = None
    checkpoint_seconds: float = 120.0


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a listener is told at every report: ``terms`` are means since the last one."""

    step: int
    num_steps: int
    phase: str
    images_per_second: float
    seconds: float
    terms: dict[str, float]


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
    ) -> None:
        self.model, self.schedule, self.batches, self.compute, self.folder = (
            model,
            schedule,
            batches,
            compute,
            folder,
        )
        self.intervals, self.micro_batch = intervals, micro_batch
        self._validate, self._listen, self._warn = validate, listen, warn
        self.log = TrainLog(folder / "train.jsonl")
        self.step, self.seconds, self._phase_index = 0, 0.0, -1
        self._parameters = {name: list(net.parameters()) for name, net in model.networks.items()}
        self._optimizers: dict[str, torch.optim.Optimizer] = {}
        self._kinds: dict[str, tuple[Any, ...]] = {}
        self._sums: dict[str, Tensor] = {}
        self._bad: dict[str, Tensor] = {}
        self._signal = 0
        self._mark, self._timed_steps, self._timed_seconds = time.perf_counter(), 0, 0.0

    def train(self) -> None:
        """Run every step that is left.

        Raises:
            InterruptedTrainingError: on SIGINT or SIGTERM, once a checkpoint is written.
            NonFiniteLossError: a loss is NaN or infinite; the checkpoint before it stays.
        """
        previous = {s: signal.signal(s, self._on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            # Resume: everything that follows is a function of the step.
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._resume():
                self._stop_if_asked()
                return
            self._mark = saved = time.perf_counter()
            while self.step < self.schedule.num_steps:
                # Phase: optimizers of new players, batch-norm modes.
                self._enter(self.schedule.index_at(self.step))

                # Step.
                self._advance(self.schedule.phases[self._phase_index], self.batches(self.step))
                self.step += 1
                self._timed_steps += 1
                last = self.step == self.schedule.num_steps

                # Report: the only place where the host waits for the device.
                if last or due(self.step, self.intervals.report):
                    self._report()

                # Validate.
                if self._validate and (last or due(self.step, self.intervals.validate)):
                    self._run_validation()

                # Checkpoint: by steps, by the clock (looked at when a report has waited anyway), or on a signal.
                waited = time.perf_counter() - saved > self.intervals.checkpoint_seconds
                reported = due(self.step, self.intervals.report)
                asked = due(self.step, self.intervals.checkpoint) or (reported and waited) or self._signal
                if asked and not last:
                    self._save()
                    saved = time.perf_counter()
                    self._stop_if_asked()
            # Done: the weights stay, the optimizers' state goes.
            self._optimizers.clear()
            self._save(keep=1)
            self._stop_if_asked()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _advance(self, phase: Phase, batch: Batch) -> None:
        """One step of every player. With micro-batches the generator runs again for each player, since a
        generator's loss needs the whole discriminator step first.
        """
        parts = batch.split(self.micro_batch)
        shared = self._complete(phase, batch) if len(parts) == 1 else None
        for player, spec in phase.optimizers.items():
            optimizer = self._optimizers[player]
            optimizers.set_learning_rate(
                optimizer, spec.learning_rate_at(batch.step, self.schedule.num_steps)
            )
            optimizer.zero_grad(set_to_none=True)
            for part in parts:
                completion = shared or self._complete(phase, part)
                with self.compute.autocast():
                    seen = completion if player == "generator" else completion.detach()
                    terms = self.model.loss(player, part, seen, phase)
                weight = len(part) / len(batch)
                (terms["loss"] * weight).backward(inputs=self._parameters[player])  # type: ignore[no-untyped-call]
                self._record(player, terms, weight)
            optimizer.step()

    def _complete(self, phase: Phase, batch: Batch) -> Any:
        with torch.set_grad_enabled("generator" in phase.optimizers), self.compute.autocast():
            return self.model.complete(batch)

    def _record(self, player: str, terms: dict[str, Tensor], weight: float) -> None:
        """Add to the running sums on the device; remember the first step with a loss that is not finite."""
        for name, value in terms.items():
            key = f"{player}/{name}"
            value = value.detach().float() * weight
            self._sums[key] = self._sums[key] + value if key in self._sums else value
        bad = ~torch.isfinite(terms["loss"].detach())
        first = self._bad.setdefault(player, torch.full_like(bad, -1, dtype=torch.int64))
        self._bad[player] = torch.where((first < 0) & bad, self.step, first)

    def _enter(self, index: int) -> None:
        """Prepare the phase: an optimizer lives on across phases unless its kind changes."""
        if index == self._phase_index:
            return
        phase, self._phase_index = self.schedule.phases[index], index
        for player, spec in phase.optimizers.items():
            if self._kinds.get(player) != spec.kind:
                self._optimizers[player] = optimizers.build(spec, self._parameters[player])
                self._kinds[player] = spec.kind
        self._set_modes(phase)

    def _set_modes(self, phase: Phase) -> None:
        self.model.networks.train()
        for name in phase.frozen_batch_norm:
            for module in self.model.networks.get_submodule(name).modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def _report(self) -> None:
        """Read the losses, refuse bad ones, tell the log and the listener."""
        self._check_finite()
        phase = self.schedule.phases[self._phase_index]
        self._tick()
        steps = (self.step - 1) % self.intervals.report + 1
        terms = {k: float(v) / self._steps_of(k.split("/")[0], steps) for k, v in self._sums.items()}
        batch_size = getattr(self.batches, "batch_size", 1)
        progress = Progress(
            step=self.step,
            num_steps=self.schedule.num_steps,
            phase=phase.name,
            images_per_second=batch_size * self._timed_steps / max(self._timed_seconds, 1e-9),
            seconds=self.seconds,
            terms=terms,
        )
        images_seen = self.step * batch_size
        line = {"step": self.step, "phase": phase.name, "images_seen": images_seen}
        self.log.write({**line, "seconds": round(self.seconds, 3), "terms": terms})
        self._sums.clear()
        self._timed_steps, self._timed_seconds = 0, 0.0
        self._listen(progress)

    def _steps_of(self, player: str, steps: int) -> int:
        """In how many of the last ``steps`` steps the player moved (a report may straddle two phases)."""
        moved = sum(
            player in self.schedule.phase_at(s).optimizers for s in range(self.step - steps, self.step)
        )
        return max(1, moved)

    def _check_finite(self) -> None:
        for player, first in self._bad.items():
            step = int(first)
            if step >= 0:
                good = checkpoint.newest(self.folder)
                where = (
                    f"the last good checkpoint is of step {good['step']}"
                    if good
                    else "no checkpoint was due yet"
                )
                raise NonFiniteLossError(f"loss of the {player} is not finite at step {step}; {where}")

    def _run_validation(self) -> None:
        assert self._validate is not None
        self._tick()
        self._check_finite()
        self.model.networks.eval()
        values = self._validate()
        self._set_modes(self.schedule.phases[self._phase_index])
        images_seen = self.step * getattr(self.batches, "batch_size", 1)
        line = {"step": self.step, "images_seen": images_seen, "seconds": round(self.seconds, 3)}
        self.log.write({**line, "validation": values})
        self._mark = time.perf_counter()

    def _save(self, keep: int = 2) -> None:
        self._tick()
        self._check_finite()
        self._check_weights()
        state = {
            "networks": self.model.networks.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self._optimizers.items()},
            "sums": dict(self._sums),
            "seconds": self.seconds,
            "complete": self.step == self.schedule.num_steps,
        }
        checkpoint.save(self.folder, self.step, state, keep=keep)
        self._mark = time.perf_counter()

    def _tick(self) -> None:
        """Count the time since the last mark as training; validations and checkpoints are not."""
        now = time.perf_counter()
        self.seconds += now - self._mark
        self._timed_seconds += now - self._mark
        self._mark = now

    def _stop_if_asked(self) -> None:
        if self._signal:
            raise InterruptedTrainingError(self._signal, self.step)

    def _check_weights(self) -> None:
        """The loss of a step says nothing of the weights after it: those are looked at before they are kept."""
        for player, parameters in self._parameters.items():
            if parameters and not torch.stack([torch.isfinite(p).all() for p in parameters]).all():
                raise NonFiniteLossError(f"weights of the {player} are not finite after step {self.step - 1}")

    def _resume(self) -> bool:
        """Continue from the newest checkpoint; true if that one is the finished training."""
        checkpoint.remove_stale(self.folder)
        state = checkpoint.newest(self.folder, warn=self._warn)
        if state is None:
            self.log.rewind(-1)
            return False
        self.step, self.seconds = state["step"], state["seconds"]
        self.log.rewind(self.step)
        self.model.networks.load_state_dict(state["networks"])
        for index in range(self.schedule.index_at(max(self.step - 1, 0)) + 1):
            self._enter(index)
        for player, optimizer in self._optimizers.items():
            if player in state["optimizers"]:
                optimizer.load_state_dict(state["optimizers"][player])
        self._sums = {name: value.to(self.compute.device) for name, value in state["sums"].items()}
        return bool(state["complete"])

    def _on_signal(self, signum: int, frame: Any) -> None:
        if self._signal:  # a second Ctrl-C: now, without a checkpoint
            raise KeyboardInterrupt
        self._signal = signum
