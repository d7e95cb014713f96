"""The reference step that ``bench perf`` compares with.

It trains the same networks with the same losses in the same order, as a first implementation would: float32, eager,
channels-first, torch's own layers with their default kernels, a discriminator forward for each kind of image, and
torch's default optimizers (not fused).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from models.base import Batch, InpaintingModel, OptimizerSpec, Phase
from models.layers import gated_conv
from models.layers.cpu_kernels import (
    BiasedConvTranspose2d,
    MatrixConv2d,
    MatrixConvTranspose2d,
    SmallMapConv2d,
    TapConv2d,
)
from models.layers.dual_discriminator import DualDiscriminator
from models.layers.partial_conv import MaskedTensor, PartialConv2d, UpsampledPartialConv2d


def reference_step(model: InpaintingModel, phase: Phase) -> Callable[[Batch], None]:
    """Return a function that runs one step of ``phase`` on a batch, for use in :func:`without_custom_kernels`."""
    parameters = {name: list(model.networks[name].parameters()) for name in phase.networks}
    built = {name: _optimizer(spec, parameters[name]) for name, spec in phase.optimizers.items()}

    def step(batch: Batch) -> None:
        with torch.set_grad_enabled("generator" in phase.optimizers):
            completion = model.complete(batch)
        # Networks in the phase's order, as the trainer does: the work is the same, only the way differs.
        for network, optimizer in built.items():
            optimizer.zero_grad()
            seen = completion if network == "generator" else completion.detach()
            loss = model.loss(network, batch, seen, phase)["loss"]
            loss.backward(inputs=parameters[network])  # type: ignore[no-untyped-call]
            optimizer.step()

    return step


@contextmanager
def without_custom_kernels() -> Iterator[None]:
    """Let the suite's layers compute as torch's own do, whatever the shape."""
    judge = DualDiscriminator.forward

    def judge_apart(
        self: DualDiscriminator, image: Tensor, crop: Tensor, populations: int = 1, advance: bool = True
    ) -> Tensor:
        parts = zip(image.chunk(populations), crop.chunk(populations), strict=True)
        return torch.cat([judge(self, *part, advance=advance) for part in parts])

    def convolve(self: nn.Conv2d, input: Tensor, bias: Tensor | None) -> Tensor:
        return self._conv_forward(input, self.weight, bias)  # type: ignore[no-any-return]

    def upsample_first(self: UpsampledPartialConv2d, below: MaskedTensor, skip: MaskedTensor) -> MaskedTensor:
        return PartialConv2d.forward(self, below.upsample(), skip)

    # Replaced in the classes, since a model's layers exist already when its step is measured.
    plain: list[tuple[Any, str, Any]] = [
        (MatrixConv2d, "forward", nn.Conv2d.forward),
        (MatrixConvTranspose2d, "forward", nn.ConvTranspose2d.forward),
        (SmallMapConv2d, "convolve", convolve),
        (TapConv2d, "convolve", convolve),
        (UpsampledPartialConv2d, "forward", upsample_first),
        (BiasedConvTranspose2d, "forward", nn.ConvTranspose2d.forward),
        (DualDiscriminator, "forward", judge_apart),
        (gated_conv, "_dense", lambda half: half),
    ]
    # Kept to be put back: whatever is measured next must be ours again.
    kept = [getattr(owner, name) for owner, name, _ in plain]
    for owner, name, value in plain:
        setattr(owner, name, value)
    try:
        yield
    finally:
        for (owner, name, _), value in zip(plain, kept, strict=True):
            setattr(owner, name, value)


def _optimizer(spec: OptimizerSpec, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    if spec.name == "adam":
        return torch.optim.Adam(parameters, lr=spec.learning_rate, betas=spec.betas)
    if spec.name == "sgd":
        return torch.optim.SGD(parameters, lr=spec.learning_rate, momentum=spec.momentum)
    return torch.optim.Adadelta(parameters, lr=spec.learning_rate)
