"""About how much memory a training takes, counted without running it: weights, optimizer, and what backward keeps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from bench.training.device import Compute
from models.base import Batch, Budget, InpaintingModel, Task

#: Copies of a float32 weight: itself, its gradient, and the two moments of Adam.
_WEIGHT_COPIES = 4
#: What a step takes besides what it keeps for backward: gradients of activations and the workspace of convolutions.
#: With it the estimates of the paper's four at 64 px lie between 0.7 and 1.6 times what was measured on a CPU in fp32.
_WORKING_SHARE = 0.2


def training_bytes(
    model: type[InpaintingModel], config: Any, task: Task, budget: Budget, compute: Compute, num_images: int
) -> float:
    """Peak of a training step of ``num_images`` at once, without the libraries' own (about 0.5 GiB) and the images.

    Raises whatever the model raises on tensors without numbers.
    """
    with FakeTensorMode():
        built = model(config, replace(task, mean_image=None))
        weights = _storages([*built.networks.parameters(), *built.frozen.parameters()])
        batch = Batch(
            torch.rand(_COUNTED, 3, task.size, task.size),
            torch.zeros(_COUNTED, 1, task.size, task.size),
            torch.arange(_COUNTED),
            0,
            torch.Generator(),
        )
        built.networks.train()
        peak = 0
        for phase in built.phases(budget):
            for player in phase.optimizers:
                kept: dict[int, int] = {}

                def keep(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
                    kept.update(_storages([tensor]))
                    return tensor

                with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                    with torch.set_grad_enabled("generator" in phase.optimizers), compute.autocast():
                        completion = built.complete(batch)
                    seen = completion if player == "generator" else completion.detach()
                    with compute.autocast():
                        loss = built.loss(player, batch, seen, phase)["loss"]
                peak = max(peak, sum(size for key, size in kept.items() if key not in weights))
                del loss, completion, seen
        trained = sum(p.numel() * p.element_size() for p in built.networks.parameters())
        frozen = sum(p.numel() * p.element_size() for p in built.frozen.parameters())
    activations = peak / _COUNTED * num_images * (1 + _WORKING_SHARE)
    return _WEIGHT_COPIES * trained + frozen + activations


def _storages(tensors: list[Any]) -> dict[int, int]:
    """Storage -> bytes, so that views of one tensor count once."""
    return {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}
