"""The trainer: resume equality, networks, micro-batches, bad losses, signals."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch

from bench.training import checkpoint
from bench.training.data_loader import StepBatches
from bench.training.device import Compute
from bench.training.metric_logger import NonFiniteLossError
from bench.training.phase_schedule import Intervals
from bench.training.signals import InterruptedTrainingError
from bench.training.trainer import Trainer, TrainerHooks
from models.base import Batch
from tests.bench.runner.toy_model import ToyConfig, toy_trainer, weights


class Killed(Exception):
    """Stands for SIGKILL at the moment a batch is asked for."""


def kill_at(trainer: Trainer, step: int) -> None:
    batches = trainer.batches

    def broken(at: int) -> Batch:
        if at == step:
            raise Killed
        return batches(at)

    trainer.batches = StepBatches(4, broken)


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def terms(folder: Path) -> list[object]:
    lines = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    return [(line["step"], line.get("terms"), line.get("validation")) for line in lines]


@pytest.fixture
def undisturbed(tmp_path: Path) -> Trainer:
    trainer = toy_trainer(tmp_path / "undisturbed")
    trainer.train()
    return trainer


@pytest.mark.parametrize("step", range(1, 12))
def test_killed_at_any_step_and_resumed_ends_bit_identical(
    tmp_path: Path, undisturbed: Trainer, step: int
) -> None:
    first = toy_trainer(tmp_path / "killed")
    kill_at(first, step)
    with pytest.raises(Killed):
        first.train()
    second = toy_trainer(tmp_path / "killed")
    second.train()
    assert same(weights(undisturbed), weights(second))
    assert terms(undisturbed.folder) == terms(second.folder)


def test_batches_fetched_ahead_train_and_resume_bit_identical(tmp_path: Path, undisturbed: Trainer) -> None:
    first = toy_trainer(tmp_path / "killed", resident=False)
    kill_at(first, 5)
    with pytest.raises(Killed):
        first.train()
    second = toy_trainer(tmp_path / "killed", resident=False)
    second.train()
    assert same(weights(undisturbed), weights(second))


def test_checkpoints_by_interval_lose_at_most_the_interval(tmp_path: Path, undisturbed: Trainer) -> None:
    intervals = Intervals(report=4, checkpoint=4)
    first = toy_trainer(tmp_path / "killed", intervals=intervals)
    kill_at(first, 7)
    with pytest.raises(Killed):
        first.train()
    state = checkpoint.newest_checkpoint(tmp_path / "killed")
    assert state is not None
    assert state["step"] == 4
    second = toy_trainer(tmp_path / "killed", intervals=intervals)
    second.train()
    assert same(weights(undisturbed), weights(second))


def test_truncated_checkpoint_is_passed_over_with_a_word(tmp_path: Path, undisturbed: Trainer) -> None:
    first = toy_trainer(tmp_path / "killed")
    kill_at(first, 7)
    with pytest.raises(Killed):
        first.train()
    newest = max((tmp_path / "killed").glob("checkpoint-*.pt"))
    newest.write_bytes(newest.read_bytes()[:-100])
    said: list[str] = []
    second = toy_trainer(tmp_path / "killed", warn=said.append)
    second.train()
    assert same(weights(undisturbed), weights(second))
    assert len(said) == 1
    assert newest.name in said[0]
    assert "truncated" in said[0]


def test_finished_training_keeps_one_checkpoint_without_optimizer_state(undisturbed: Trainer) -> None:
    (path,) = undisturbed.folder.glob("checkpoint-*.pt")
    state = checkpoint.load_checkpoint(path)
    assert state["complete"]
    assert state["optimizers"] == {}
    again = toy_trainer(undisturbed.folder)
    kill_at(again, 0)  # no step may be run
    again.train()
    assert same(weights(undisturbed), weights(again))


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_signal_checkpoints_and_exits_with_its_code(
    tmp_path: Path, undisturbed: Trainer, signum: signal.Signals
) -> None:
    first = toy_trainer(tmp_path / "stopped", intervals=Intervals(report=4))
    batches = first.batches

    def signalling(step: int) -> Batch:
        if step == 5:
            os.kill(os.getpid(), signum)
        return batches(step)

    first.batches = StepBatches(4, signalling)
    with pytest.raises(InterruptedTrainingError, match="after step 6") as stop:
        first.train()
    assert stop.value.exit_code == 128 + signum
    second = toy_trainer(tmp_path / "stopped", intervals=Intervals(report=4))
    second.train()
    assert same(weights(undisturbed), weights(second))
    assert terms(undisturbed.folder) == terms(second.folder)


def test_not_a_number_stops_with_step_and_keeps_the_good_checkpoint(tmp_path: Path) -> None:
    intervals = Intervals(report=4, checkpoint=4)
    trainer = toy_trainer(tmp_path, config=ToyConfig(nan_from=6), intervals=intervals)
    with pytest.raises(NonFiniteLossError, match=r"generator is not finite at step 6.*of step 4"):
        trainer.train()
    state = checkpoint.newest_checkpoint(tmp_path)
    assert state is not None
    assert all(torch.isfinite(v).all() for v in state["networks"].values())


def test_generator_step_leaves_no_gradient_in_the_discriminator(tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path)
    seen = []
    loss = trainer.model.loss

    def spying(network, batch, completion, phase):  # type: ignore[no-untyped-def]
        gradients = [
            None if p.grad is None else p.grad.clone()
            for p in trainer.model.networks["discriminator"].parameters()
        ]
        seen.append((batch.step, network, gradients))
        return loss(network, batch, completion, phase)

    trainer.model.loss = spying  # type: ignore[method-assign]
    trainer.train()
    after = [p.grad for p in trainer.model.networks["discriminator"].parameters()]
    step, network, before = seen[-1]
    assert (step, network) == (11, "generator")
    assert all(
        torch.equal(a, b) for a, b in zip(before, after, strict=True) if a is not None and b is not None
    )
    assert all(
        (p.requires_grad and g is not None)
        for p, g in zip(trainer.model.networks["discriminator"].parameters(), after, strict=True)
    )


def test_micro_batches_take_the_step_of_the_whole_batch(tmp_path: Path) -> None:
    whole = toy_trainer(tmp_path / "whole", config=ToyConfig(batch_norm=False))
    parts = toy_trainer(tmp_path / "parts", config=ToyConfig(batch_norm=False), micro_batch=2)
    # The toy's discriminator loss is not a mean over images; the completion phase is.
    whole.schedule.phases, parts.schedule.phases = whole.schedule.phases[:1], parts.schedule.phases[:1]
    whole.schedule.num_steps = parts.schedule.num_steps = 6
    whole.train()
    parts.train()
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(parts)[name], value, rtol=1e-4, atol=1e-6)


def test_phases_move_their_players_only(tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path)
    start = weights(trainer)
    kill_at(trainer, 6)  # the joint phase starts with step 6
    with pytest.raises(Killed):
        trainer.train()
    moved = {k for k, v in weights(trainer).items() if not torch.equal(v, start[k])}
    assert any(k.startswith("generator") for k in moved)
    assert not any(k.startswith("discriminator") for k in moved)


def test_validation_leaves_the_training_as_it_was(tmp_path: Path, undisturbed: Trainer) -> None:
    trainer = toy_trainer(tmp_path / "validated", intervals=Intervals(report=4, validate=3))
    in_training = lambda: {"psnr_db": float(trainer.model.networks.training)}  # noqa: E731
    trainer.hooks = TrainerHooks(validate=in_training)
    trainer.train()
    assert same(weights(undisturbed), weights(trainer))
    values = [v for _, _, v in terms(trainer.folder) if v is not None]  # type: ignore[misc]
    assert values == [{"psnr_db": 0.0}] * 4


def test_a_validation_that_is_not_finite_ends_the_training_with_its_step(tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, intervals=Intervals(report=4, validate=3, checkpoint=2))
    diverging = lambda: {"psnr_db": float("nan") if trainer.step > 3 else 20.0}  # noqa: E731
    trainer.hooks = TrainerHooks(validate=diverging)
    message = "validation's psnr_db is not finite after step 5; the last good checkpoint is of step 4"
    with pytest.raises(NonFiniteLossError, match=message):
        trainer.train()


def test_fp16_resumes_bit_identical_with_its_scale(tmp_path: Path) -> None:
    """On a CPU, which the command line refuses: the scaler is the same."""
    fp16 = Compute(torch.device("cpu"), "fp16")
    whole = toy_trainer(tmp_path / "whole", compute=fp16)
    whole.train()
    first = toy_trainer(tmp_path / "killed", compute=fp16)
    kill_at(first, 7)
    with pytest.raises(Killed):
        first.train()
    state = checkpoint.newest_checkpoint(tmp_path / "killed")
    assert state is not None
    assert state["train_step"]["scalers"].keys() == {"generator", "discriminator"}
    second = toy_trainer(tmp_path / "killed", compute=fp16)
    second.train()
    assert same(weights(whole), weights(second))


def test_an_overflow_skips_the_step_of_its_network_alone(tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, compute=Compute(torch.device("cpu"), "fp16"))
    scales = {"generator": 1e38, "discriminator": 1.0}
    trainer.train_step._scalers = {n: torch.amp.GradScaler("cpu", init_scale=s) for n, s in scales.items()}
    phase = trainer.optimizers.enter_phase(6)
    before = weights(trainer)
    trainer.train_step.run(phase, trainer.batches(6))
    after = weights(trainer)
    moved = {name for name in after if name.endswith("weight") and not torch.equal(before[name], after[name])}
    assert any(name.startswith("discriminator") for name in moved)
    assert not any(name.startswith("generator") for name in moved)
    assert trainer.train_step._scalers["generator"].get_scale() < 1e38
