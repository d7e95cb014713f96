"""Run by ``test_ranks.py`` under torchrun: writes how far averaged gradients are from those of one process.

For every trained model of the paper, every phase and every network: the largest difference of any gradient, relative to
the largest gradient of that network; the same for running statistics. Batch-norm is in training mode.
"""

from __future__ import annotations

import copy
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from bench.training.distributed import SINGLE_PROCESS, ProcessGroup, exit_distributed, init_distributed
from models.base import Batch, InpaintingModel, Phase
from models.contract_checks import build_case
from models.discovery import load_model


def compute_in_double_precision() -> None:
    """Make float64 the type of everything, so that what remains of a difference is no rounding."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.Tensor.float = lambda self: self.double()  # type: ignore[method-assign]


def gradients(
    model: InpaintingModel, network: str, batch: Batch, phase: Phase, process_group: ProcessGroup
) -> list[torch.Tensor]:
    """Of the network's parameters, averaged over the process_group, and the network's buffers after the forward."""
    batch = batch.piece(0, len(batch))
    if process_group.is_distributed:
        share = len(batch) // process_group.world_size
        batch = batch.piece(process_group.rank * share, (process_group.rank + 1) * share)
    parameters = list(model.networks[network].parameters())
    completion = model.complete(batch)
    seen = completion if network == "generator" else completion.detach()
    model.loss(network, batch, seen, phase)["loss"].backward(inputs=parameters)  # type: ignore[no-untyped-call]
    process_group.average_gradients(parameters)
    return [p.grad for p in parameters if p.grad is not None] + list(model.networks.buffers())


if __name__ == "__main__":
    compute_in_double_precision()
    process_group = init_distributed()
    found: dict[str, float] = {}
    for name in ("context-encoder", "glcic", "pconv", "mgs-iim"):
        case = build_case(load_model(name), 64)
        torch.manual_seed(3)
        image = torch.rand(4, 3, 64, 64)
        mask = torch.zeros(4, 1, 64, 64)
        mask[:, :, 16:48, 16:48] = 1
        batch = Batch(image, mask, torch.arange(4), 0, torch.Generator().manual_seed(7))
        for phase in case.phases:
            for network in phase.networks:
                case.model.networks.train()
                one, many = copy.deepcopy(case.model), copy.deepcopy(case.model)
                process_group.synchronize_batch_norm(many.networks, torch.device("cpu"))
                left = gradients(one, network, batch, phase, SINGLE_PROCESS)
                right = gradients(many, network, replace(batch), phase, process_group)
                largest = max(
                    float(v.abs().max()) for v in left[: len(list(one.networks[network].parameters()))]
                )
                worst = 0.0
                for a, b in zip(left, right, strict=True):
                    worst = max(worst, float((a - b).abs().max()) / max(largest, float(a.abs().max())))
                found[f"{name} {phase.name} {network}"] = worst
    if process_group.is_main:
        Path(sys.argv[1]).write_text(json.dumps(found))
    exit_distributed(0)
