"""What one process shows of a model: shapes, ranges, known pixels, hole-independence, phases, gradients, bf16."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from models.contract import Case
from models.base import Batch, Budget, Completion


def _complete(case: Case, batch: Batch | None = None) -> Completion:
    return case.model.complete(batch or case.batch)


def shapes(case: Case) -> str | None:
    """Raw output and composite have the image's shape, in float32."""
    done = _complete(case)
    for name in ("raw", "composite"):
        value: Tensor = getattr(done, name)
        if value.shape != case.batch.image.shape or value.dtype != torch.float32:
            return (
                f"complete() returns {name} of shape {tuple(value.shape)} and {value.dtype}; "
                f"it must be {tuple(case.batch.image.shape)} and float32"
            )
    return None


def known_pixels(case: Case) -> str | None:
    """The composite equals the image bit for bit where the mask is 0."""
    done, known = _complete(case), case.batch.mask.expand_as(case.batch.image) == 0
    if not torch.equal(done.composite[known], case.batch.image[known]):
        return "the composite changes known pixels; build it with models.base.composite(image, raw, mask)"
    return None


def hole_independence(case: Case) -> str | None:
    """Nothing changes when the pixels under the hole do."""
    case.model.networks.eval()
    with torch.no_grad():
        first = _complete(case)
        other = torch.where(case.batch.mask > 0.5, 1 - case.batch.image, case.batch.image)
        second = _complete(case, replace(case.batch, image=other))
    hole = case.batch.mask.expand_as(case.batch.image) > 0.5
    if not torch.equal(first.composite[hole], second.composite[hole]):
        return "the output depends on the pixels under the hole: the network sees the truth it is to predict"
    return None


def finite_range(case: Case) -> str | None:
    """The raw output is finite and of the order of [0, 1]; a linear output may overshoot, [0, 255] may not."""
    case.model.networks.eval()
    with torch.no_grad():
        raw = _complete(case).raw
    if not torch.isfinite(raw).all():
        return "the raw output is not finite on an untrained network"
    if raw.abs().max() > 50:
        low, high = raw.min().item(), raw.max().item()
        return f"the raw output spans {low:.1f} to {high:.1f}; images are in [0, 1], not in [0, 255]"
    return None


def phases(case: Case) -> str | None:
    """Phases name networks that exist, the generator moves last, and an untrained fill has none."""
    if case.model.trained != bool(case.phases):
        return "a model with trained = True needs phases, and one with trained = False has none"
    for phase in case.phases:
        unknown = [p for p in phase.players if p not in case.model.networks]
        if unknown:
            return f"phase {phase.name!r} trains {unknown[0]!r}, which is not in networks"
        if "generator" in phase.players[:-1]:
            return f"phase {phase.name!r}: the generator must move last, against the updated discriminator"
    for size in (1, 3, 50):
        steps = [p.num_steps for p in case.model.phases(Budget(num_steps=size))]
        if case.phases and sum(steps) != max(size, len(steps)):
            return f"phases of a budget of {size} steps have {sum(steps)} steps; use budget.split()"
    return None


def gradients(case: Case) -> str | None:
    """Every parameter of every network gets a gradient in some phase, and a player's loss reaches it alone."""
    reached: set[str] = set()
    case.model.networks.train()
    for phase in case.phases:
        for player in phase.players:
            completion = _complete(case)
            seen = completion if player == "generator" else completion.detach()
            terms = case.model.loss(player, case.batch, seen, phase)
            if "loss" not in terms or terms["loss"].ndim != 0:
                return f"loss({player!r}) must return a scalar under the key 'loss'"
            parameters = dict(case.model.networks[player].named_parameters())
            case.model.networks.zero_grad(set_to_none=True)
            terms["loss"].backward(inputs=list(parameters.values()))  # type: ignore[no-untyped-call]
            reached |= {f"{player}.{n}" for n, p in parameters.items() if p.grad is not None and p.grad.any()}
    every = {n for n, p in case.model.networks.named_parameters() if p.requires_grad}
    missing = sorted(every - reached)
    if missing:
        return f"{len(missing)} parameters never get a gradient, {missing[0]} among them"
    return None


def bfloat16(case: Case) -> str | None:
    """A step runs under bf16 autocast, with a finite loss and a float32 picture."""
    case.model.networks.train()
    for phase in case.phases:
        for player in phase.players:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                completion = _complete(case)
                seen = completion if player == "generator" else completion.detach()
                loss = case.model.loss(player, case.batch, seen, phase)["loss"]
            if completion.raw.dtype != torch.float32:
                return f"under bf16 autocast complete() returns {completion.raw.dtype}; end with .float()"
            if not torch.isfinite(loss):
                return f"under bf16 autocast the loss of {player} is not finite in phase {phase.name!r}"
    return None


def repeatable(case: Case) -> str | None:
    """In evaluation mode the same batch gives the same picture twice, each image by itself as in the batch."""
    case.model.networks.eval()
    with torch.no_grad():
        whole, again = _complete(case).composite, _complete(case).composite
        single = torch.cat([_complete(case, part).composite for part in case.batch.split(1)])
    if not torch.equal(whole, again):
        return "two forwards in evaluation mode differ: something is drawn at random"
    if not torch.allclose(whole, single, atol=1e-4):
        return (
            "an image's completion depends on the others in its batch (batch statistics in evaluation mode?)"
        )
    return None
