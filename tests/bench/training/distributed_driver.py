"""Run by ``test_ranks.py`` under torchrun: writes how far averaged gradients are from those of one process.

For every trained model of the paper, every phase and every player: the largest difference of any gradient, relative to
the largest gradient of that network; the same for running statistics. Batch-norm is in training mode.
"""

from __future__ import annotations

import copy
import json
import sys
from dataclasses import replace
from pathlib import Path

import torch

from bench.training.distributed import ALONE, Ranks, join, leave
from models.base import Batch, InpaintingModel, Phase
from models.contract import build
from models.discovery import load

torch.set_num_threads(1)
# In double precision throughout: what remains is no rounding.
torch.set_default_dtype(torch.float64)
torch.Tensor.float = lambda self: self.double()  # type: ignore[method-assign]


def gradients(
    model: InpaintingModel, player: str, batch: Batch, phase: Phase, ranks: Ranks
) -> list[torch.Tensor]:
    """Of the player's parameters, averaged over the ranks, and the network's buffers after the forward."""
    batch = batch.piece(0, len(batch))
    if ranks.many:
        share = len(batch) // ranks.world
        batch = batch.piece(ranks.rank * share, (ranks.rank + 1) * share)
    parameters = list(model.networks[player].parameters())
    completion = model.complete(batch)
    seen = completion if player == "generator" else completion.detach()
    model.loss(player, batch, seen, phase)["loss"].backward(inputs=parameters)  # type: ignore[no-untyped-call]
    ranks.average_gradients(parameters)
    return [p.grad for p in parameters if p.grad is not None] + list(model.networks.buffers())


if __name__ == "__main__":
    ranks = join()
    found: dict[str, float] = {}
    for name in ("context-encoder", "glcic", "pconv", "mgs-iim"):
        case = build(load(name), 64)
        torch.manual_seed(3)
        image = torch.rand(4, 3, 64, 64)
        mask = torch.zeros(4, 1, 64, 64)
        mask[:, :, 16:48, 16:48] = 1
        batch = Batch(image, mask, torch.arange(4), 0, torch.Generator().manual_seed(7))
        for phase in case.phases:
            for player in phase.players:
                case.model.networks.train()
                one, many = copy.deepcopy(case.model), copy.deepcopy(case.model)
                ranks.synchronise_batch_norm(many.networks)
                left = gradients(one, player, batch, phase, ALONE)
                right = gradients(many, player, replace(batch), phase, ranks)
                largest = max(
                    float(v.abs().max()) for v in left[: len(list(one.networks[player].parameters()))]
                )
                worst = 0.0
                for a, b in zip(left, right, strict=True):
                    worst = max(worst, float((a - b).abs().max()) / max(largest, float(a.abs().max())))
                found[f"{name} {phase.name} {player}"] = worst
    if ranks.leads:
        Path(sys.argv[1]).write_text(json.dumps(found))
    leave(0)
