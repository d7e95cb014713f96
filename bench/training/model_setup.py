"""A model as a training or an evaluation begins with it: weights drawn from a seed, on its device."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from bench.config import json_digest
from bench.training.device import Compute
from models.base import InpaintingModel, Task
from models.registry import ModelEntry


def build_model(
    entry: ModelEntry, config: Any, task: Task, seed: int, compute: Compute, *, compiled: bool = False
) -> InpaintingModel:
    """Build a model on the device, its weights drawn from a seed that is a digest of its name and ``seed``.

    Args:
        entry: which model.
        config: an instance of its ``Config``.
        task: what it is built for.
        seed: of the training.
        compute: device and process group.
        compiled: run its networks through ``torch.compile``.
    """
    # Layers draw from torch's global generator; the caller's is left as it was. On the CPU, so all devices
    # begin alike.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(json_digest(["weights", entry.card.name, seed])[:15], 16))
        model = entry.model(config, task)
    return move_to_device(model, compute, compiled=compiled)


def move_to_device(model: InpaintingModel, compute: Compute, *, compiled: bool = False) -> InpaintingModel:
    """Move all networks to the device; ``compiled`` runs them through ``torch.compile`` from their first use.

    On several devices, batch-norm sees the global batch.

    Activations are channels-last everywhere, since batches are. Weights are so on a GPU alone: on the CPU, gradients
    come back contiguous, and converting them took half of the optimizers' time.
    """
    # Before the move and the compilation: the layers put in must be moved and compiled with the others.
    compute.process_group.synchronize_batch_norm(model.networks, compute.device)
    if compute.device.type == "cuda" and compute.autocast_dtype is not None:
        # Autocast keeps the casts of weights with gradients; those of loss networks it would make in every forward.
        for layer in model.frozen.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.to(compute.autocast_dtype)
    layout = torch.channels_last if compute.device.type == "cuda" else torch.contiguous_format
    for networks in (model.networks, model.frozen):
        networks.to(compute.device, memory_format=layout)  # type: ignore[call-overload]
        if compiled or compute.cuda_graphs:
            # Constants have nothing to compile.
            for network in (n for n in networks.values() if any(True for _ in n.parameters())):
                network.compile(mode="reduce-overhead" if compute.cuda_graphs else None)
    return model
