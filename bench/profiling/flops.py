"""What a training costs, counted without running it: floating-point operations of every phase's step.

The model is built and stepped with fake tensors, which have shapes and a device but no numbers.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from bench.training.device import Compute
from models.base import Batch, Budget, InpaintingModel, Phase, Task

_COUNTED = 2  # images: batch-norm over one value per channel would refuse a single one


@dataclass(frozen=True)
class ModelCost:
    """Per image, but for ``loss_terms``.

    Attributes:
        forward_flops: of the generator.
        step_flops: of a training step, by phase.
        kept_bytes: what a generator forward keeps in memory for its gradient, in float32.
        loss_terms: names of the logged terms by phase and network.
    """

    forward_flops: float
    step_flops: dict[str, float]
    kept_bytes: float
    loss_terms: dict[tuple[str, str], tuple[str, ...]]

    @property
    def multiply_accumulates(self) -> float:
        """Of one generator forward on one image."""
        return self.forward_flops / 2

    def training_flops(self, phases: list[Phase], batch_size: int) -> float:
        """Of a whole training."""
        return sum(self.step_flops[p.name] * p.num_steps * batch_size for p in phases)


def shapes_only(model: type[InpaintingModel], config: Any, task: Task) -> InpaintingModel:
    """The model with its shapes and parameter counts but no weights, built at once whatever its size."""
    with FakeTensorMode():
        return model(config, replace(task, mean_image=None))


def count_operations(model: type[InpaintingModel], config: Any, task: Task, budget: Budget) -> ModelCost:
    """Count a model's operations. Raises whatever the model raises on tensors without numbers."""
    with FakeTensorMode():
        built = model(config, replace(task, mean_image=None))
        image = torch.rand(_COUNTED, 3, task.size, task.size)
        mask = torch.zeros(_COUNTED, 1, task.size, task.size)
        batch = Batch(image, mask, torch.arange(_COUNTED), 0, torch.Generator())
        built.networks.train()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            built.complete(batch)
        forward = counter.get_total_flops() / _COUNTED
        kept = _kept_bytes(built, batch) / _COUNTED
        steps, terms = {}, {}
        for phase in built.phases(budget):
            with FlopCounterMode(display=False) as counter:
                with torch.set_grad_enabled("generator" in phase.optimizers):
                    completion = built.complete(batch)
                for network in phase.optimizers:
                    seen = completion if network == "generator" else completion.detach()
                    losses = built.loss(network, batch, seen, phase)
                    terms[phase.name, network] = tuple(name for name in losses if name != "loss")
                    losses["loss"].backward(inputs=list(built.networks[network].parameters()))  # type: ignore[no-untyped-call]
            steps[phase.name] = counter.get_total_flops() / _COUNTED
    return ModelCost(forward, steps, kept, terms)


def needs_several_images(model: type[InpaintingModel], config: Any, task: Task, budget: Budget) -> bool:
    """Return whether batch normalization refuses to train on one image at a time.

    It does where a map has one value per channel (the bottleneck of Context Encoder), which has no variance.
    """
    with FakeTensorMode():
        built = model(config, replace(task, mean_image=None))
        image, mask = torch.rand(1, 3, task.size, task.size), torch.zeros(1, 1, task.size, task.size)
        batch = Batch(image, mask, torch.arange(1), 0, torch.Generator())
        built.networks.train()
        try:
            for phase in built.phases(budget):
                completion = built.complete(batch)
                for network in phase.optimizers:
                    built.loss(network, batch, completion.detach(), phase)
        except ValueError as error:
            return "more than 1 value per channel" in str(error)
        except Exception:  # a model that needs real numbers: training will tell
            return False
    return False


def _kept_bytes(model: InpaintingModel, batch: Batch) -> int:
    """Bytes of all that a generator forward saves for backward, the parameters not counted."""
    own = {p.untyped_storage()._cdata for p in model.networks.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model.complete(batch)
    return sum(storage.nbytes() for storage in kept.values())


def matrix_rate(compute: Compute, repeats: int = 5) -> float:
    """Operations a second of a square matrix product in the run's precision on its device (best of a few).

    The product is large enough to keep every core of the device busy.
    """
    size = 8192 if compute.device.type == "cuda" else 1536
    dtype = torch.bfloat16 if compute.precision == "bf16" else torch.float32
    a = torch.randn(size, size, device=compute.device).to(dtype)
    best = float("inf")
    for _ in range(repeats):
        if compute.device.type == "cuda":
            torch.cuda.synchronize(compute.device)
        began = time.perf_counter()
        a @ a
        if compute.device.type == "cuda":
            torch.cuda.synchronize(compute.device)
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


# About how much memory a training takes, counted without running it: weights, optimizer, and what backward keeps.


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
            for network in phase.optimizers:
                kept: dict[int, int] = {}

                def keep(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
                    kept.update(_storages([tensor]))
                    return tensor

                with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                    with torch.set_grad_enabled("generator" in phase.optimizers), compute.autocast():
                        completion = built.complete(batch)
                    seen = completion if network == "generator" else completion.detach()
                    with compute.autocast():
                        loss = built.loss(network, batch, seen, phase)["loss"]
                peak = max(peak, sum(size for key, size in kept.items() if key not in weights))
                del loss, completion, seen
        trained = sum(p.numel() * p.element_size() for p in built.networks.parameters())
        frozen = sum(p.numel() * p.element_size() for p in built.frozen.parameters())
    activations = peak / _COUNTED * num_images * (1 + _WORKING_SHARE)
    return _WEIGHT_COPIES * trained + frozen + activations


def _storages(tensors: list[Any]) -> dict[int, int]:
    """Storage -> bytes, so that views of one tensor count once."""
    return {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}
