"""What a check is given: a freshly built model and two random images with the centre hole."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from models.base import Batch, Box, Budget, InpaintingModel, Phase, Task
from models.registry import ModelEntry


@dataclass(frozen=True)
class Case:
    """A freshly built model with a batch it can be shown."""

    model: InpaintingModel
    batch: Batch
    phases: list[Phase]


def build(entry: ModelEntry, size: int, preset: str = "smoke", **changes: Any) -> Case:
    """The model at ``size`` with weights from a fixed seed, and two random images with the centre hole."""
    config = entry.config(preset, **changes)
    entry.model.validate(config, size)
    random = torch.Generator().manual_seed(7)
    box = Box(size // 4, size // 4, size // 2, size // 2)
    mask = torch.zeros(2, 1, size, size)
    mask[:, :, box.top : box.top + box.height, box.left : box.left + box.width] = 1
    image = torch.rand(2, 3, size, size, generator=random).contiguous(memory_format=torch.channels_last)
    task = Task(
        size=size,
        fixed_hole_box=box,
        mean_pixel=(0.5, 0.4, 0.3),
        mean_image=torch.rand(3, size, size, generator=random),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = entry.model(config, task)
    batch = Batch(image, mask, torch.arange(2), 0, torch.Generator().manual_seed(5))
    return Case(model, batch, model.phases(Budget(num_steps=10)))
