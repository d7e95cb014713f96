"""A training's whole state as one checkpoint, and back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.training import checkpoint
from bench.training.device import Compute
from bench.training.metric_logger import Monitor, NonFiniteLossError
from bench.training.train_step import Mover
from bench.training.optimizers import Players


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
