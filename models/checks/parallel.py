"""Whether several processes may train a model, shown in one: what data parallelism relies on, check by check.

``torch.nn.parallel.DistributedDataParallel`` gives each process a part of the batch, enters a network through its
``forward`` alone, waits in every step for a gradient of each parameter, averages those, and broadcasts buffers. A
model that keeps what is checked here takes with two processes the step that it takes with one; the tests show that
with two real processes, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from models.contract import Case

#: Of a network's largest gradient: what float32 sums in another order differ by, with room.
_TOLERANCE = 1e-3


class _Wrapped(nn.Module):
    """All that DistributedDataParallel offers of a network: it can be called."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self.calls = module, 0

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The network's own."""
        self.calls += 1
        return self.module(*args, **kwargs)


class _Step(NamedTuple):
    """One player's move: its gradients by parameter, and whether its loss drew random numbers."""

    phase: str
    player: str
    gradients: dict[str, Tensor | None]
    drew: bool


def networks_are_called(case: Case) -> str | None:
    """A step calls the networks and reaches for none of their methods, layers or attributes."""
    advice = (
        "processes share gradients only through a call of networks[...]: move that work into its forward()"
    )
    for name, network in list(case.model.networks.items()):
        case.model.networks[name] = _Wrapped(network)
    try:
        for step in _steps(case):
            player = case.model.networks[step.player]
            assert isinstance(player, _Wrapped)
            if not player.calls:
                return f"phase {step.phase!r} trains {step.player} without calling networks[{step.player!r}]; {advice}"
            player.calls = 0
    except AttributeError as error:
        return f"a step reaches past a network's forward() ({error}); {advice}"
    return None


def every_parameter_every_step(case: Case) -> str | None:
    """Each parameter of a player has a gradient in every phase in which the player moves."""
    for step in _steps(case):
        idle = [name for name, gradient in step.gradients.items() if gradient is None]
        if idle:
            return (
                f"in phase {step.phase!r} {len(idle)} parameters of {step.player} take no part in the loss, {idle[0]} "
                "among them; other processes would wait for their gradients: set requires_grad = False where idle"
            )
    return None


def halves_average_to_the_whole(case: Case) -> str | None:
    """With running statistics, the gradients of the two images average to that of the batch.

    Not asked of a loss that draws random numbers in another order for parts than for the whole.
    """
    case.model.networks.eval()
    for whole, *parts in zip(_steps(case), _steps(case, 0), _steps(case, 1), strict=True):
        largest = max((float(g.abs().max()) for g in whole.gradients.values() if g is not None), default=0.0)
        for name, gradient in whole.gradients.items():
            both = [g for part in parts if (g := part.gradients[name]) is not None]
            if gradient is None or len(both) < 2 or whole.drew:
                continue
            if float((torch.stack(both).mean(0) - gradient).abs().max()) > _TOLERANCE * largest:
                return (
                    f"in phase {whole.phase!r} the gradients of parts of a batch do not average to the whole's "
                    f"({whole.player}.{name}): make the loss a mean over images, not a sum or a ratio over the batch"
                )
    return None


def state_is_registered(case: Case) -> str | None:
    """Every tensor that a network holds is a parameter or a buffer."""
    for name, module in case.model.networks.named_modules():
        for attribute, value in vars(module).items():
            if isinstance(value, Tensor):
                return (
                    f"{name}.{attribute} is a tensor but neither parameter nor buffer, so that it reaches no device, "
                    "no other process and no checkpoint: use register_buffer()"
                )
    return None


def _steps(case: Case, image: int | None = None) -> Iterator[_Step]:
    """Every player's move in every phase, on the batch or on one of its images."""
    batch = case.batch if image is None else case.batch.split(1)[image]
    for phase in case.phases:
        for player in phase.players:
            batch.generator.manual_seed(11)
            before = batch.generator.get_state()
            completion = case.model.complete(batch)
            seen = completion if player == "generator" else completion.detach()
            loss = case.model.loss(player, batch, seen, phase)["loss"]
            named = {n: p for n, p in case.model.networks[player].named_parameters() if p.requires_grad}
            gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
            drew = not torch.equal(before, batch.generator.get_state())
            yield _Step(phase.name, player, dict(zip(named, gradients, strict=True)), drew)
