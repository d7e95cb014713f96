"""A small adversarial model with batch-norm and two phases, to test the trainer with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.training.data_loader import TrainingDataLoader
from bench.training.device import Compute
from bench.training.phase_schedule import Intervals, Schedule
from bench.training.trainer import Trainer, TrainerHooks
from models.base import Batch, Budget, Completion, InpaintingModel, OptimizerSpec, Phase, Task, composite

SIZE = 16


@dataclass(frozen=True, kw_only=True)
class ToyConfig:
    """How wide, whether there is batch-norm, and from which step on the loss is not a number."""

    width: int = 4
    batch_norm: bool = True
    nan_from: int | None = None


class Toy(InpaintingModel):
    """Two phases: the generator alone, then discriminator and generator."""

    Config = ToyConfig

    def __init__(self, config: ToyConfig, task: Task) -> None:
        super().__init__(config, task)
        w = config.width
        norm = nn.BatchNorm2d(w) if config.batch_norm else nn.Identity()
        self.networks["generator"] = nn.Sequential(
            nn.Conv2d(4, w, 3, padding=1), norm, nn.ReLU(), nn.Conv2d(w, 3, 3, padding=1)
        )
        self.networks["discriminator"] = nn.Sequential(nn.Conv2d(3, w, 3, stride=2), nn.ReLU(), nn.Flatten(1))

    def phases(self, budget: Budget) -> list[Phase]:
        """A completion phase with SGD, then a joint phase with Adam for both."""
        steps = budget.split({"completion": 0.5, "joint": 0.5})
        adam = OptimizerSpec(name="adam", learning_rate=1e-3, schedule="linear")
        return [
            Phase(name="completion", num_steps=steps["completion"], optimizers={"generator": adam}),
            Phase(
                name="joint",
                num_steps=steps["joint"],
                optimizers={"discriminator": adam, "generator": adam},
            ),
        ]

    def complete(self, batch: Batch) -> Completion:
        """Mean fill, two convolutions."""
        known = batch.image * (1 - batch.mask) + 0.5 * batch.mask
        raw = self.networks["generator"](torch.cat([known, batch.mask], 1)).float()
        return Completion(raw, composite(batch.image, raw, batch.mask))

    def loss(self, network: str, batch: Batch, completion: Completion, phase: Phase) -> dict[str, Tensor]:
        """Hinge-like scores, and a mean squared error for the generator."""
        noise = torch.rand((), generator=batch.generator)
        if network == "discriminator":
            real = self.networks["discriminator"](batch.image).mean()
            fake = self.networks["discriminator"](completion.composite).mean()
            return {"loss": fake - real + (real**2 + fake**2) * noise, "real_score": real}
        loss = F.mse_loss(completion.composite, batch.image)
        if phase.name == "joint":
            loss = loss - 1e-2 * self.networks["discriminator"](completion.composite).mean()
        if self.config.nan_from is not None and batch.step >= self.config.nan_from:
            loss = loss * float("nan")
        return {"loss": loss, "mse": loss}


def toy_trainer(
    folder: Path,
    *,
    steps: int = 12,
    config: ToyConfig | None = None,
    resident: bool | None = None,
    compute: Compute | None = None,
    **options: Any,
) -> Trainer:
    """A trainer of the toy on random pictures, seeded."""
    torch.manual_seed(0)
    model = Toy(config or ToyConfig(), Task(size=SIZE))
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (20, SIZE, SIZE, 3), dtype=np.uint8)
    packed = np.packbits(random.integers(0, 2, (5, SIZE * SIZE), dtype=np.uint8), axis=1)
    compute = compute or Compute(torch.device("cpu"), "fp32")
    batches = TrainingDataLoader(
        pixels, packed, batch_size=4, seed=0, flips=True, compute=compute, resident=resident
    )
    schedule = Schedule(model.phases(Budget(num_steps=steps)))
    options.setdefault("intervals", Intervals(report=4, checkpoint=1))
    hooks = {name: options.pop(name) for name in TrainerHooks.__dataclass_fields__ if name in options}
    return Trainer(model, schedule, batches, compute, folder, hooks=TrainerHooks(**hooks), **options)


def weights(trainer: Trainer) -> dict[str, Tensor]:
    """A copy of all weights and buffers."""
    return {k: v.clone() for k, v in trainer.model.networks.state_dict().items()}
