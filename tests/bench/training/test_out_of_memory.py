"""Out of memory halves the micro-batch once, with the same effective batch; it is told and outlives a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bench.runner import training_instabilities
from bench.training import checkpoint
from bench.training.data_loader import StepBatches
from bench.training.phase_schedule import Intervals
from bench.training.train_step import OutOfMemoryError
from bench.training.trainer import Trainer
from models.base import Batch
from tests.bench.runner.toy_model import ToyConfig, toy_trainer, weights

CPU_WORDS = (
    "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to allocate"
)
ERRORS = [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), RuntimeError(CPU_WORDS)]


def limit(trainer: Trainer, images: int, error: Exception, network: str = "generator", step: int = 0) -> None:
    """From ``step`` on, more than ``images`` at once do not fit into the loss of ``network``."""
    loss = trainer.model.loss

    def limited(who: str, batch: Batch, *rest: Any) -> dict[str, torch.Tensor]:
        if who == network and batch.step >= step and len(batch) > images:
            raise error
        return loss(who, batch, *rest)

    trainer.model.loss = limited  # type: ignore[method-assign]


@pytest.mark.parametrize("error", ERRORS, ids=["cuda", "cpu"])
def test_the_micro_batch_is_halved_and_the_training_is_the_one_asked_for_in_halves(
    tmp_path: Path, error: Exception
) -> None:
    config = ToyConfig(batch_norm=False)
    said: list[str] = []
    trainer = toy_trainer(tmp_path / "limited", config=config, warn=said.append)
    limit(trainer, 2, error)
    trainer.train()
    halves = toy_trainer(tmp_path / "halves", config=config, micro_batch=2)
    halves.train()
    for name, value in weights(halves).items():
        assert torch.equal(weights(trainer)[name], value), name
    (event,) = training_instabilities.find_instabilities(trainer.metric_logger.log.read())
    assert (event["step"], event["kind"]) == (1, "out of memory")
    assert "4 images at once did not fit: 2 at once" in event["detail"]
    assert len(said) == 1


def test_a_step_that_runs_out_after_the_discriminator_moved_does_not_move_it_twice(tmp_path: Path) -> None:
    config = ToyConfig(batch_norm=False)
    trainer = toy_trainer(tmp_path / "a", config=config)
    limit(trainer, 2, ERRORS[0], step=8)
    seen: list[tuple[int, int]] = []
    loss = trainer.model.loss

    def spying(network: str, batch: Batch, *rest: Any) -> dict[str, torch.Tensor]:
        if network == "discriminator":
            seen.append((batch.step, len(batch)))
        return loss(network, batch, *rest)

    trainer.model.loss = spying  # type: ignore[method-assign]
    trainer.train()
    assert [s for s in seen if s[0] == 8] == [(8, 4)]
    assert [s for s in seen if s[0] == 9] == [(9, 2), (9, 2)]


def test_the_second_time_is_a_clear_error(tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path)
    limit(trainer, 1, ERRORS[1])
    with pytest.raises(
        OutOfMemoryError, match=r"out of memory at step 0 with 2 images at once; give --micro-batch 1"
    ):
        trainer.train()


def test_other_errors_are_not_taken_for_it(tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path)
    limit(trainer, 2, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        trainer.train()


def test_a_resumed_training_goes_on_in_halves_and_tells_the_event_once(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    whole = toy_trainer(tmp_path / "whole")
    limit(whole, 2, ERRORS[0], step=3)
    whole.train()
    first = toy_trainer(tmp_path / "killed", intervals=Intervals(report=4, checkpoint=2))
    limit(first, 2, ERRORS[0], step=3)
    batches = first.batches

    def killing(step: int) -> Batch:
        if step == 9:
            raise Killed
        return batches(step)

    first.batches = StepBatches(4, killing)
    with pytest.raises(Killed):
        first.train()
    state = checkpoint.newest_checkpoint(tmp_path / "killed")
    assert state is not None
    assert state["train_step"] == {"micro_batch": 2, "halved": True, "scalers": {}}
    second = toy_trainer(tmp_path / "killed")
    limit(second, 2, ERRORS[0], step=3)
    second.train()
    assert all(torch.equal(weights(whole)[k], v) for k, v in weights(second).items())
    assert len(training_instabilities.find_instabilities(second.metric_logger.log.read())) == 1


def test_what_is_drawn_for_a_batch_is_the_same_in_pieces(tmp_path: Path) -> None:
    batch = toy_trainer(tmp_path).batches(3)

    def rows(count: int, generator: torch.Generator) -> torch.Tensor:
        return torch.randint(0, 1000, (count, 2), generator=generator)

    whole = batch.split(None)[0]
    for micro_batch in (1, 2, 3):
        pieces = batch.split(micro_batch)
        for _ in range(2):  # a second draw of the same step, too
            expected = whole.draw(rows)
            assert torch.equal(torch.cat([piece.draw(rows) for piece in pieces]), expected)
        whole = batch.split(None)[0]
