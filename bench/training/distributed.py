"""Many devices: one process each, started by ``torchrun``, every one with its share of the same global batch.

Gradients are averaged by one explicit all-reduce a network, not by the DistributedDataParallel wrapper. DDP hooks one
forward to one backward of all its parameters; a step here is one generator forward that several networks share, each
with a ``backward(inputs=...)`` of its own, and a discriminator that the generator's loss passes through without making
gradients in it. The mean of the ranks' gradients is the same number that DDP computes; what is given up is the overlap
of communication with backward.
"""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor, distributed, nn

T = TypeVar("T")

#: How long a rank waits for the others: rank 0 writes results alone. A rank that dies is noticed at once by torchrun.
_PATIENCE = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class ProcessGroup:
    """This process among those of one run. Every method is a no-op where it is alone."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the one process that writes."""
        return self.rank == 0

    @property
    def is_distributed(self) -> bool:
        """Whether there are others."""
        return self.world_size > 1

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the process_group."""
        if self.is_distributed:
            self._average([p.grad for p in parameters if p.grad is not None])

    def all_reduce_mean(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """The mean of each scalar over the process_group."""
        if self.is_distributed and values:
            values = {name: value.clone() for name, value in values.items()}
            self._average(list(values.values()))
        return values

    def all_reduce_max(self, values: list[int]) -> list[int]:
        """The highest of each number over the process_group."""
        if not (self.is_distributed and values):
            return values
        tensor = torch.tensor(values)
        distributed.all_reduce(tensor, distributed.ReduceOp.MAX)
        return [int(v) for v in tensor]

    def broadcast(self, value: T) -> T:
        """What rank 0 gives, on every rank."""
        if not self.is_distributed:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def all_gather(self, value: T) -> list[T]:
        """What every rank gives, in order of process_group, on every rank."""
        if not self.is_distributed:
            return [value]
        values: list[Any] = [None] * self.world_size
        distributed.all_gather_object(values, value)
        return values

    def synchronize_batch_norm(self, networks: nn.Module) -> None:
        """Let batch-norm see the global batch: torch's own kernel on CUDA, :class:`SyncedBatchNorm2d` elsewhere."""
        if not self.is_distributed:
            return
        for parent in list(networks.modules()):
            for name, child in parent.named_children():
                if type(child) is nn.BatchNorm2d:
                    on_cuda = child.weight.device.type == "cuda"
                    synced = nn.SyncBatchNorm if on_cuda else SyncedBatchNorm2d
                    replacement = synced(child.num_features, child.eps, child.momentum or 0.1)
                    replacement.weight, replacement.bias = child.weight, child.bias
                    replacement.running_mean, replacement.running_var = child.running_mean, child.running_var
                    replacement.num_batches_tracked = child.num_batches_tracked
                    parent.add_module(name, replacement)

    def _average(self, tensors: list[Tensor]) -> None:
        flat = torch.cat([t.reshape(-1) for t in tensors])
        distributed.all_reduce(flat)
        flat /= self.world_size
        means = torch.split(flat, [t.numel() for t in tensors])
        for tensor, mean in zip(tensors, means, strict=True):
            tensor.copy_(mean.view_as(tensor))


#: A process that nobody else belongs to.
SINGLE_PROCESS = ProcessGroup()


def init_distributed() -> ProcessGroup:
    """This process's place among those that ``torchrun`` started; :data:`SINGLE_PROCESS` where it did not."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world < 2:
        return SINGLE_PROCESS
    if not distributed.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, timeout=_PATIENCE)
    return ProcessGroup(distributed.get_rank(), world)


def exit_distributed(code: int) -> NoReturn:
    """End one of several processes at once: gloo's threads now and then abort in the interpreter's teardown."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class _SumOverRanks(torch.autograd.Function):
    """All-reduce whose gradient is the all-reduced gradient."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        distributed.all_reduce(total)
        return total


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """Batch-norm over the global batch on any backend (``nn.SyncBatchNorm`` has no CPU form).

    Mean first, then squared deviations from it, each summed over the processes, so that
    nothing cancels; equal shares.
    """

    def forward(self, input: Tensor) -> Tensor:
        """``(N, C, H, W)`` -> the same shape and type."""
        if not self.training:
            return super().forward(input)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        value = input.float()
        count = value.numel() // value.shape[1] * distributed.get_world_size()
        mean = _SumOverRanks.apply(value.sum((0, 2, 3))) / count
        centred = value - mean[:, None, None]
        variance = _SumOverRanks.apply(centred.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            momentum = self.momentum or 0.0
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * (count / max(count - 1, 1)), momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        normalised: Tensor = centred * scale[:, None, None] + self.bias[:, None, None]
        return normalised.to(input.dtype)
