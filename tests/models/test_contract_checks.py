"""The contract of models.contract_checks, over the whole registry, and on models that break it."""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from models import contract_checks, discovery
from models.base import Batch, Budget, Completion, InpaintingModel, OptimizerSpec, Phase, Task, composite
from models.errors import MissingPackageError, MissingWeightsError, UnsupportedSizeError
from models.registry import ModelCard, ModelEntry

NAMES = sorted(discovery.find_models())


@pytest.mark.parametrize("size", [64, pytest.param(160, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", NAMES)
def test_every_model_keeps_the_contract(name: str, size: int) -> None:
    entry = discovery.load_model(name)
    try:
        entry.model.requirements(entry.config("smoke"))
        entry.model.validate(entry.config("smoke"), size)
    except (UnsupportedSizeError, MissingWeightsError, MissingPackageError) as error:
        pytest.skip(f"{name} at {size} px: {error}")
    problems = {f.check: f.problem for f in contract_checks.run_checks(entry, size) if f.problem}
    assert problems == {}


@pytest.mark.parametrize("name", NAMES)
def test_fields_of_ambiguities_exist_and_stand_in_the_head_of_the_file(name: str) -> None:
    model = discovery.load_model(name).model
    fields = {field.name for field in dataclasses.fields(model.Config)}
    head = sys.modules[model.__module__].__doc__ or ""
    for ambiguity in model.ambiguities:
        for field in filter(None, ambiguity.field.split(", ")):
            assert field in fields, f"{ambiguity.topic}: {field}"
            assert field in head, f"{ambiguity.topic}: {field}"


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
        if config.fault == "loose tensor":
            self.networks["generator"].scale = torch.ones(1)
        if config.fault == "two phases":
            self.networks["generator"] = _TwoHeads()
        self.own_reference = self.networks["generator"]

    def phases(self, budget: Budget) -> list[Phase]:
        network = "critic" if self.config.fault == "unknown network" else "generator"
        spec = OptimizerSpec(name="adam", learning_rate=1e-3)
        steps = 7 if self.config.fault == "own step count" else budget.num_steps
        if self.config.fault == "two phases":
            split = budget.split({"first": 0.5, "second": 0.5})
            return [Phase(name=n, num_steps=s, optimizers={network: spec}) for n, s in split.items()]
        return [Phase(name="train", num_steps=steps, optimizers={network: budget.optimizer(spec)})]

    def complete(self, batch: Batch) -> Completion:
        fault = self.config.fault
        seen = batch.image if fault == "peeks" else batch.image * (1 - batch.mask)
        x = torch.cat([seen, batch.mask], 1)
        network = self.own_reference if fault == "own reference" else self.networks["generator"]
        raw = network(x)
        if fault == "inner layer":
            raw = nn.functional.conv2d(x, network.weight, network.bias, padding=1)
        raw = raw if fault == "bf16" else raw.float()
        if fault == "tensor":
            return raw  # type: ignore[return-value]
        if fault == "in place":
            batch.image.mul_(0.5)
        if fault == "range":
            raw = raw * 255 + 100
        if fault == "batch statistics":
            raw = raw + batch.image.mean()
        if fault == "random":
            raw = raw + torch.rand(())
        if fault == "shape":
            raw = raw[..., :-1]
            return Completion(raw, raw)
        shown = raw if fault == "raw" else composite(batch.image, raw, batch.mask)
        return Completion(raw, shown, {"second": network.second(x)} if fault == "two phases" else {})

    def loss(self, network: str, batch: Batch, completion: Completion, phase: Phase) -> dict[str, Tensor]:
        error = (completion.composite - batch.image).square()
        if self.config.fault == "two phases":
            error = error if phase.name == "first" else (completion.extras["second"] - batch.image).square()
        if self.config.fault == "nan loss":
            error = error * float("nan")
        if self.config.fault == "sum":
            return {"loss": error.sum()}
        return {"loss": error.mean((1, 2, 3)) if self.config.fault == "not a scalar" else error.mean()}


class _TwoHeads(nn.Conv2d):
    """A convolution with a second one beside it, which only the second phase trains."""

    def __init__(self) -> None:
        super().__init__(4, 3, 3, padding=1)
        self.second = nn.Conv2d(4, 3, 3, padding=1)


def faulty() -> ModelEntry:
    return ModelEntry(card=ModelCard(name="faulty", label="Faulty", summary=""), model=_Faulty)


def test_a_sound_model_passes() -> None:
    assert [f for f in contract_checks.run_checks(faulty(), 16) if f.problem] == []


@pytest.mark.parametrize(
    ("fault", "check", "says"),
    [
        ("peeks", "hole independence", "pixels under the hole"),
        ("tensor", "interface", "complete() returns a Tensor"),
        ("in place", "batch unchanged", "complete() changes batch.image in place"),
        ("nan loss", "finite loss", "loss is nan"),
        ("raw", "known pixels", "changes known pixels"),
        ("shape", "shapes", "must be (2, 3, 16, 16)"),
        ("range", "finite range", "images are in [0, 1]"),
        ("unknown network", "phases", "'critic', which is not in networks"),
        ("own step count", "phases", "use budget.split()"),
        ("unused parameter", "gradients", "generator.spare"),
        ("not a scalar", "interface", "scalar under the key 'loss'"),
        ("bf16", "bfloat16", "end with .float()"),
        ("batch statistics", "repeatable", "depends on the others in its batch"),
        ("random", "repeatable", "drawn at random"),
        ("inner layer", "DDP: networks are called", "reaches past a network's forward()"),
        ("own reference", "DDP: networks are called", "without calling networks['generator']"),
        ("two phases", "DDP: every parameter, every step", "in phase 'first' 2 parameters of generator"),
        ("sum", "DDP: halves average to the whole", "mean over images"),
        ("loose tensor", "DDP: state is registered", "generator.scale is a tensor"),
    ],
)
def test_each_fault_is_found_and_explained(fault: str, check: str, says: str) -> None:
    problems = {
        f.check: f.problem for f in contract_checks.run_checks(faulty(), 16, fault=fault) if f.problem
    }
    assert says in (problems.get(check) or "")


def test_every_check_has_a_model_that_breaks_it() -> None:
    marks = test_each_fault_is_found_and_explained.pytestmark  # type: ignore[attr-defined]
    assert {check for _, check, _ in marks[0].args[1]} == set(contract_checks.CHECKS)
