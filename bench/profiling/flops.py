"""Count the cost of a training without running it: operations of every phase's step, and memory.

The model is built and stepped with fake tensors, which have shapes and a device but no numbers.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from bench.training.device import Compute
from models.base import Batch, Budget, Completion, InpaintingModel, Phase, Task

if TYPE_CHECKING:
    from functools import _lru_cache_wrapper

#: Images per counted step: batch normalization over one value per channel would refuse a single one.
_COUNTED = 2
#: Counts that are kept: of the models of a run, whose trainings all ask for them again.
_KEPT_COUNTS = 32

_Count = TypeVar("_Count")


@dataclass(frozen=True)
class ModelCost:
    """The cost of a model per image.

    Attributes:
        forward_flops: floating-point operations of one generator forward.
        step_flops: phase -> operations of a training step.
        kept_bytes: bytes that a generator forward keeps for its gradient, in float32.
        loss_terms: (phase, network) -> names of the logged terms.
    """

    forward_flops: float
    step_flops: dict[str, float]
    kept_bytes: float
    loss_terms: dict[tuple[str, str], tuple[str, ...]]

    @property
    def multiply_accumulates(self) -> float:
        """Multiply-accumulates of one generator forward on one image."""
        return self.forward_flops / 2

    def training_flops(self, phases: list[Phase], batch_size: int, steps_done: int = 0) -> float:
        """Return the operations of a training from step ``steps_done`` to its end."""
        flops = 0.0
        for phase in phases:
            steps_left = max(0, phase.num_steps - steps_done)
            steps_done = max(0, steps_done - phase.num_steps)
            flops += self.step_flops[phase.name] * steps_left * batch_size
        return flops


def shapes_only(model: type[InpaintingModel], config: Any, task: Task) -> InpaintingModel:
    """Build a model with shapes and parameter counts but without weights, quickly whatever its size."""
    with FakeTensorMode():
        # The mean image is a real tensor, which fake ones may not be mixed with.
        return model(config, replace(task, mean_image=None))


def planned_phases(model: type[InpaintingModel], config: Any, task: Task, budget: Budget) -> list[Phase]:
    """Return the phases of a training without building its weights, once for the same arguments."""
    return list(_counted_once(_planned_phases, model, config, _without_numbers(task), budget))


@lru_cache(_KEPT_COUNTS)
def _planned_phases(
    model: type[InpaintingModel], config: Any, task: Task, budget: Budget
) -> tuple[Phase, ...]:
    return tuple(shapes_only(model, config, task).phases(budget))


def count_operations(model: type[InpaintingModel], config: Any, task: Task, budget: Budget) -> ModelCost:
    """Count the operations of a model, once for the same arguments.

    Raise whatever the model raises on tensors without numbers.
    """
    return _counted_once(_count_operations, model, config, _without_numbers(task), budget)


@lru_cache(_KEPT_COUNTS)
def _count_operations(model: type[InpaintingModel], config: Any, task: Task, budget: Budget) -> ModelCost:
    with FakeTensorMode():
        built = model(config, task)
        # Two images and not one, see _COUNTED; per image, costs are linear in them.
        batch = _blank_batch(_COUNTED, task.size)
        built.networks.train()
        # One forward for all phases, since a completion does not depend on the phase: it costs seconds to count.
        with FlopCounterMode(display=False) as counter:
            completion, kept_bytes = _completion_and_kept_bytes(built, batch)
        forward = counter.get_total_flops() / _COUNTED
        steps, terms = {}, {}
        for phase in built.phases(budget):
            with FlopCounterMode(display=False) as counter:
                for network in phase.optimizers:
                    seen = completion if network == "generator" else completion.detach()
                    losses = built.loss(network, batch, seen, phase)
                    terms[phase.name, network] = tuple(name for name in losses if name != "loss")
                    losses["loss"].backward(  # type: ignore[no-untyped-call]
                        inputs=list(built.networks[network].parameters()), retain_graph=True
                    )
            steps[phase.name] = forward + counter.get_total_flops() / _COUNTED
    return ModelCost(forward, steps, kept_bytes / _COUNTED, terms)


def needs_several_images(model: type[InpaintingModel], config: Any, task: Task, budget: Budget) -> bool:
    """Return whether batch normalization refuses to train on one image at a time.

    It does where a map has one value per channel (the bottleneck of Context Encoder), which has no variance.
    """
    with FakeTensorMode():
        built = model(config, replace(task, mean_image=None))
        # One image at a time, although the batch is larger: micro-batches and shares of processes may be
        # single images.
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
        # Nothing is known then, and a wrong refusal would be worse than an error in the first step.
        except Exception:  # a model that needs real numbers: training will tell
            return False
    return False


def _completion_and_kept_bytes(model: InpaintingModel, batch: Batch) -> tuple[Completion, int]:
    """Return a completion with the bytes that its forward saves for backward, without parameters."""
    # Parameters are saved for backward too, but they are there anyway.
    own = {p.untyped_storage()._cdata for p in model.networks.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        # By storage, since views of one activation are saved several times.
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        completion = model.complete(batch)
    return completion, sum(storage.nbytes() for storage in kept.values())


def matrix_rate(compute: Compute, repeats: int = 5) -> float:
    """Measure operations per second of a square matrix product in the run's precision (best of ``repeats``).

    The product is large enough to keep every core of the device busy.
    """
    size = 8192 if compute.device.type == "cuda" else 1536
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(compute.precision, torch.float32)
    a = torch.randn(size, size, device=compute.device).to(dtype)
    best = float("inf")
    for _ in range(repeats):
        # Kernels run after the call has returned.
        if compute.device.type == "cuda":
            torch.cuda.synchronize(compute.device)
        began = time.perf_counter()
        a @ a
        if compute.device.type == "cuda":
            torch.cuda.synchronize(compute.device)
        # The best and not the mean: other programs only ever slow it down.
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


#: Copies of a float32 weight: itself, its gradient, and the two moments of Adam.
_WEIGHT_COPIES = 4
#: Memory of a step beyond what it keeps for backward: gradients of activations and the workspace of convolutions.
#: With it the estimates of the paper's four at 64 px lie between 0.7 and 1.6 times what was measured on a CPU in fp32.
_WORKING_SHARE = 0.2


@dataclass(frozen=True)
class TrainingMemory:
    """Estimated peak memory of a training step as a function of the images per forward pass.

    Attributes:
        fixed_bytes: weights, gradients and optimizer state.
        kept: for each network of each phase, bytes kept for backward: (intercept, bytes per image). Under autocast
            the intercept holds the cast weights, which do not grow with the batch.
    """

    fixed_bytes: float
    kept: tuple[tuple[float, float], ...]

    def peak_bytes(self, num_images: int) -> float:
        """Return the estimate for ``num_images``, without the libraries' own (about 0.5 GiB) and the images.

        >>> TrainingMemory(100.0, ((10.0, 5.0), (0.0, 6.0))).peak_bytes(5)
        142.0
        """
        activations = max((intercept + slope * num_images for intercept, slope in self.kept), default=0.0)
        return self.fixed_bytes + (1 + _WORKING_SHARE) * activations


def count_memory(
    model: type[InpaintingModel], config: Any, task: Task, budget: Budget, compute: Compute
) -> TrainingMemory:
    """Count the memory of a training's steps from two batch sizes, once for the same arguments.

    Raise whatever the model raises on tensors without numbers.
    """
    return _counted_once(_count_memory, model, config, _without_numbers(task), budget, compute)


@lru_cache(_KEPT_COUNTS)
def _count_memory(
    model: type[InpaintingModel], config: Any, task: Task, budget: Budget, compute: Compute
) -> TrainingMemory:
    with FakeTensorMode():
        built = model(config, task)
        built.networks.train()
        # Two batch sizes are enough: what is kept is a straight line in the number of images.
        few, many = (_kept_in_steps(built, n, task.size, budget, compute) for n in (_COUNTED, 2 * _COUNTED))
        trained = sum(p.numel() * p.element_size() for p in built.networks.parameters())
        frozen = sum(p.numel() * p.element_size() for p in built.frozen.parameters())
    slopes = [(b - a) / _COUNTED for a, b in zip(few, many, strict=True)]
    lines = tuple((a - slope * _COUNTED, slope) for a, slope in zip(few, slopes, strict=True))
    # Four copies of each, whatever the optimizer: an upper bound, and exact for Adam.
    return TrainingMemory(float(_WEIGHT_COPIES * trained + frozen), lines)


def training_bytes(
    model: type[InpaintingModel], config: Any, task: Task, budget: Budget, compute: Compute, num_images: int
) -> float:
    """Estimate the peak memory of a training step of ``num_images``; see :class:`TrainingMemory`."""
    return count_memory(model, config, task, budget, compute).peak_bytes(num_images)


def _without_numbers(task: Task) -> Task:
    """Return what of a task decides operations and memory, alike for all seeds of a run."""
    return replace(task, mean_image=None, seed=0)


def _counted_once(count: _lru_cache_wrapper[_Count], *arguments: Any) -> _Count:
    """Return ``count(*arguments)``, which is kept unless a config of the user's own cannot be a key."""
    try:
        hash(arguments)
    except TypeError:
        return count.__wrapped__(*arguments)
    return count(*arguments)


def _kept_in_steps(
    model: InpaintingModel, num_images: int, size: int, budget: Budget, compute: Compute
) -> list[int]:
    """Return the bytes kept for the backward of each network of each phase, parameters not counted."""
    weights = _storages([*model.networks.parameters(), *model.frozen.parameters()])
    batch = _blank_batch(num_images, size)
    sums = []
    for phase in model.phases(budget):
        for network in phase.optimizers:
            kept: dict[int, int] = {}

            # Bound as a default, since the loop gives every network a dictionary of its own.
            def keep(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
                kept.update(_storages([tensor]))
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                with torch.set_grad_enabled("generator" in phase.optimizers), compute.autocast():
                    completion = model.complete(batch)
                seen = completion if network == "generator" else completion.detach()
                with compute.autocast():
                    loss = model.loss(network, batch, seen, phase)["loss"]
            sums.append(sum(num_bytes for key, num_bytes in kept.items() if key not in weights))
            del loss, completion, seen
    return sums


def _blank_batch(num_images: int, size: int) -> Batch:
    """Make a batch of fake tensors."""
    image, mask = torch.rand(num_images, 3, size, size), torch.zeros(num_images, 1, size, size)
    return Batch(image, mask, torch.arange(num_images), 0, torch.Generator())


def _storages(tensors: list[Any]) -> dict[int, int]:
    """Return storage -> bytes, so that views of one tensor count once."""
    return {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}
