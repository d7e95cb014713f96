"""What the papers say of training, where only the trainer and the suite can show it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from bench.cli import cli
from bench.data.procedural_faces import render_faces
from bench.training.data_loader import TrainingDataLoader
from bench.training.device import select_device
from bench.training.phase_schedule import Intervals, Schedule
from bench.training.trainer import Trainer
from masks import bank
from models import discovery
from models.base import Batch, Budget, Completion, Phase, Task

SIZE = 64


def trainer(name: str, folder: Path, num_steps: int) -> Trainer:
    """The model at preset ``smoke`` on four faces with one centre hole."""
    entry, compute = discovery.load_model(name), select_device("cpu")
    torch.manual_seed(0)
    model = entry.model(entry.config("smoke"), Task(size=SIZE))
    batches = TrainingDataLoader(
        render_faces(list(range(4)), SIZE),
        bank.draw_bank(["center"], 1, SIZE, 0).packed,
        batch_size=4,
        seed=0,
        flips=False,
        compute=compute,
    )
    schedule = Schedule(model.phases(Budget(num_steps=num_steps)))
    return Trainer(model, schedule, batches, compute, folder, intervals=Intervals(report=50))


def test_pconv_fine_tunes_with_the_encoders_batch_norm_frozen(tmp_path: Path) -> None:
    """Running statistics of the encoder stand still in the second phase, its weights and the decoder's do not."""
    training = trainer("pconv", tmp_path, 8)
    generator, loss = training.model.networks["generator"], training.model.loss
    snapshots: dict[str, dict[str, torch.Tensor]] = {}

    def spying(network: str, batch: Batch, completion: Completion, phase: Phase) -> dict[str, torch.Tensor]:
        if phase.name not in snapshots:  # after the phase's first forward, before its first step
            snapshots[phase.name] = {k: v.clone() for k, v in generator.state_dict().items()}
        return loss(network, batch, completion, phase)

    training.model.loss = spying  # type: ignore[method-assign]
    training.train()
    start, end = snapshots["fine-tune"], generator.state_dict()
    moved = {key for key in end if not torch.equal(start[key], end[key])}
    statistics = {key for key in end if "running_" in key}
    assert {key for key in statistics if key.startswith("encoder")}.isdisjoint(moved)
    assert {key for key in statistics if key.startswith("decoder")} <= moved
    assert {key for key, _ in generator.named_parameters()} <= moved
    first = snapshots["train"]
    assert all(not torch.equal(first[k], start[k]) for k in statistics), "before, all of them learn"
    assert sum(isinstance(m, nn.BatchNorm2d) for m in generator.modules()) == 8


@pytest.mark.parametrize("name", ["context-encoder", "glcic", "mgs-iim"])
def test_a_discriminators_step_adds_nothing_of_the_generators(name: str, tmp_path: Path) -> None:
    """GLCIC's port never clears what the generator's loss left: here its gradient is that of its loss alone."""
    training = trainer(name, tmp_path, 6)
    discriminator, loss = training.model.networks["discriminator"], training.model.loss
    expected: list[torch.Tensor] = []
    found: list[torch.Tensor] = []

    def spying(network: str, batch: Batch, completion: Completion, phase: Phase) -> dict[str, torch.Tensor]:
        if network == "discriminator":
            assert not completion.raw.requires_grad
        if network == "generator" and "discriminator" in phase.networks:
            found[:] = [p.grad.clone() for p in discriminator.parameters() if p.grad is not None]
        terms = loss(network, batch, completion, phase)
        if network == "discriminator":
            expected[:] = torch.autograd.grad(
                terms["loss"], list(discriminator.parameters()), retain_graph=True
            )
        return terms

    training.model.loss = spying  # type: ignore[method-assign]
    training.train()
    assert len(expected) == len(found) > 0
    for ours, alone in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, alone)


def test_required_vgg_weights_are_asked_for_before_anything_is_trained(
    workplace: Path, pictures_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(workplace / "empty"))
    args = ["run", "--models", "mean,mgs-iim,pconv", "--preset", "smoke", "--data", str(pictures_dir)]
    result = CliRunner().invoke(cli, [*args, "--set", "pconv.vgg_losses=required"], catch_exceptions=True)
    assert result.exit_code != 0
    said = str(result.exception) + result.output
    assert "VGG16 weights are needed" in said
    assert "vgg_losses = off" in said
    assert not list(workplace.glob("runs/*/trainings/*"))


@pytest.mark.long
def test_other_masks_get_context_encoders_random_region_network_and_its_label(
    workplace: Path, pictures_dir: Path
) -> None:
    args = ["run", "--models", "context-encoder,mean", "--mask", "random-rect", "--preset", "smoke"]
    result = CliRunner().invoke(cli, [*args, "--name", "free", "--data", str(pictures_dir)])
    assert result.exit_code == 0, result.output
    files = list(workplace.glob("runs/free/**/results.parquet"))
    labels = set(np.concatenate([pd.read_parquet(f)["label"].unique() for f in files]))
    assert labels == {"Context Encoder (random region)", "Mean pixel"}
    page = (workplace / "reports" / "free" / "index.html").read_text(encoding="utf-8")
    assert "Context Encoder (random region)" in page
