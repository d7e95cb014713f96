"""The contract of models.checks, over the whole registry, and on models that break it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from models import checks, discovery
from models.errors import MissingPackageError, MissingWeightsError, UnsupportedSizeError
from models.protocol import Batch, Budget, Completion, InpaintingModel, OptimizerSpec, Phase, Task, composite
from models.registry import ModelCard, ModelEntry

NAMES = sorted(discovery.find())


@pytest.mark.parametrize("size", [64, 160])
@pytest.mark.parametrize("name", NAMES)
def test_every_model_keeps_the_contract(name: str, size: int) -> None:
    entry = discovery.load(name)
    try:
        entry.model.requirements(entry.config("smoke"))
        entry.model.validate(entry.config("smoke"), size)
    except (UnsupportedSizeError, MissingWeightsError, MissingPackageError) as error:
        pytest.skip(f"{name} at {size} px: {error}")
    problems = {f.check: f.problem for f in checks.run(entry, size) if f.problem}
    assert problems == {}


@dataclass(frozen=True, kw_only=True)
class _Config:
    fault: str = ""


class _Faulty(InpaintingModel):
    """A one-convolution model with one fault at a time."""

    Config: ClassVar[type] = _Config

    def __init__(self, config: _Config, task: Task) -> None:
        super().__init__(config, task)
        self.networks["generator"] = nn.Conv2d(4, 3, 3, padding=1)
        if config.fault == "unused parameter":
            self.networks["generator"].spare = nn.Parameter(torch.zeros(3))

    def phases(self, budget: Budget) -> list[Phase]:
        player = "critic" if self.config.fault == "unknown player" else "generator"
        spec = OptimizerSpec(name="adam", learning_rate=1e-3)
        steps = 7 if self.config.fault == "own step count" else budget.num_steps
        return [Phase(name="train", num_steps=steps, optimizers={player: budget.optimizer(spec)})]

    def complete(self, batch: Batch) -> Completion:
        fault = self.config.fault
        seen = batch.image if fault == "peeks" else batch.image * (1 - batch.mask)
        raw = self.networks["generator"](torch.cat([seen, batch.mask], 1))
        raw = raw if fault == "bf16" else raw.float()
        if fault == "range":
            raw = raw * 255 + 100
        if fault == "batch statistics":
            raw = raw + batch.image.mean()
        if fault == "random":
            raw = raw + torch.rand(())
        if fault == "shape":
            raw = raw[..., :-1]
            return Completion(raw, raw)
        return Completion(raw, raw if fault == "raw" else composite(batch.image, raw, batch.mask))

    def loss(self, player: str, batch: Batch, completion: Completion, phase: Phase) -> dict[str, Tensor]:
        error = (completion.composite - batch.image).square()
        return {"loss": error.mean((1, 2, 3)) if self.config.fault == "not a scalar" else error.mean()}


def faulty() -> ModelEntry:
    return ModelEntry(card=ModelCard(name="faulty", label="Faulty", summary=""), model=_Faulty)


def test_a_sound_model_passes() -> None:
    assert [f for f in checks.run(faulty(), 16) if f.problem] == []


@pytest.mark.parametrize(
    ("fault", "check", "says"),
    [
        ("peeks", "hole independence", "pixels under the hole"),
        ("raw", "known pixels", "changes known pixels"),
        ("shape", "shapes", "must be (2, 3, 16, 16)"),
        ("range", "finite range", "images are in [0, 1]"),
        ("unknown player", "phases", "'critic', which is not in networks"),
        ("own step count", "phases", "use budget.split()"),
        ("unused parameter", "gradients", "generator.spare"),
        ("not a scalar", "gradients", "scalar under the key 'loss'"),
        ("bf16", "bfloat16", "end with .float()"),
        ("batch statistics", "repeatable", "depends on the others in its batch"),
        ("random", "repeatable", "drawn at random"),
    ],
)
def test_each_fault_is_found_and_explained(fault: str, check: str, says: str) -> None:
    problems = {f.check: f.problem for f in checks.run(faulty(), 16, fault=fault) if f.problem}
    assert says in (problems.get(check) or "")
