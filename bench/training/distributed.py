"""Data-parallel training: one process per device, started by ``torchrun``, each with its share of the global batch.

Gradients are averaged by one explicit all-reduce per network, not by the DistributedDataParallel wrapper. DDP ties one
forward to one backward of all its parameters; a step here is one generator forward that several networks share, each
with its own ``backward(inputs=...)``, and the generator's loss passes through a discriminator without leaving gradients
in it. The mean gradient is the number that DDP computes; the price is that communication does not overlap with
backward.
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

from bench.errors import UsageError

T = TypeVar("T")

#: How long a process waits for the others: rank 0 alone writes results. torchrun notices at once when one dies.
_TIMEOUT = datetime.timedelta(hours=1)


@dataclass(frozen=True)
class ProcessGroup:
    """One process among those of a run. With a single process, every method returns its argument."""

    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes results."""
        return self.rank == 0

    @property
    def is_distributed(self) -> bool:
        """Whether there are several processes."""
        return self.world_size > 1

    def share_of(self, batch_size: int) -> int:
        """Return the images per step of each process.

        Raises:
            UsageError: the batch is smaller than the number of processes, or no multiple of it.

        >>> ProcessGroup(rank=0, world_size=4).share_of(16)
        4
        """
        if batch_size < self.world_size:
            raise UsageError(
                f"--batch {batch_size}: smaller than the number of processes ({self.world_size}); "
                "give at least one image to each"
            )
        if batch_size % self.world_size:
            raise UsageError(
                f"--batch {batch_size}: cannot be shared equally by {self.world_size} processes; give a multiple"
            )
        return batch_size // self.world_size

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes."""
        if self.is_distributed:
            self._average([p.grad for p in parameters if p.grad is not None])

    def all_reduce_mean(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the mean of each scalar over the processes."""
        if self.is_distributed and values:
            # Cloned, since the all-reduce writes in place and the caller may still hold the local values.
            values = {name: value.clone() for name, value in values.items()}
            self._average(list(values.values()))
        return values

    def all_reduce_max(self, values: list[int]) -> list[int]:
        """Return the maximum of each number over the processes."""
        if not (self.is_distributed and values):
            return values
        # On the CPU: these are a few numbers of the host, and gloo is initialized beside NCCL for them.
        tensor = torch.tensor(values)
        distributed.all_reduce(tensor, distributed.ReduceOp.MAX)
        return [int(v) for v in tensor]

    def broadcast(self, value: T) -> T:
        """Return the value of rank 0 on every process."""
        if not self.is_distributed:
            return value
        values = [value]
        distributed.broadcast_object_list(values, src=0)
        return values[0]

    def all_gather(self, value: T) -> list[T]:
        """Return the values of all processes, in order of rank, on every process."""
        if not self.is_distributed:
            return [value]
        values: list[Any] = [None] * self.world_size
        distributed.all_gather_object(values, value)
        return values

    def synchronize_batch_norm(self, networks: nn.Module, device: torch.device) -> None:
        """Replace batch normalization by a layer that sees the global batch.

        Args:
            networks: changed in place; may be on the CPU still.
            device: where they will run: torch's fused layer on CUDA, :class:`SyncedBatchNorm2d` elsewhere.
        """
        if not self.is_distributed:
            return
        synced = nn.SyncBatchNorm if device.type == "cuda" else SyncedBatchNorm2d
        # Lists, because modules are replaced during the walk.
        for parent in list(networks.modules()):
            for name, child in parent.named_children():
                # The exact class: a subclass may normalize differently, and the layers that replace it are
                # subclasses themselves.
                if type(child) is nn.BatchNorm2d:
                    replacement = synced(child.num_features, child.eps, child.momentum or 0.1)
                    # The same tensors under the same names, so that seeds, checkpoints and optimizers notice
                    # nothing.
                    replacement.weight, replacement.bias = child.weight, child.bias
                    replacement.running_mean, replacement.running_var = child.running_mean, child.running_var
                    replacement.num_batches_tracked = child.num_batches_tracked
                    parent.add_module(name, replacement)

    def _average(self, tensors: list[Tensor]) -> None:
        # One message for all: latency, not bandwidth, dominates for the many small gradients.
        flat = torch.cat([t.reshape(-1) for t in tensors])
        if flat.device.type == "cuda":
            distributed.all_reduce(flat, distributed.ReduceOp.AVG)
        else:  # gloo has no average
            distributed.all_reduce(flat)
            flat /= self.world_size
        means = torch.split(flat, [t.numel() for t in tensors])
        # Back into the gradients that the optimizer holds; one fused kernel instead of one copy per
        # parameter.
        torch._foreach_copy_(tensors, [m.view_as(t) for m, t in zip(means, tensors, strict=True)])


#: A run that consists of this process alone.
SINGLE_PROCESS = ProcessGroup()


def init_distributed() -> ProcessGroup:
    """Join the processes that ``torchrun`` started; return :data:`SINGLE_PROCESS` without it."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    # torchrun with one process is a plain run, and its numbers and records must equal those of one.
    if world < 2:
        return SINGLE_PROCESS
    if not distributed.is_initialized():
        # Two backends: tensors on the GPU go through NCCL, numbers and objects of the host through gloo.
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        distributed.init_process_group(backend, timeout=_TIMEOUT)
    return ProcessGroup(distributed.get_rank(), world)


def exit_distributed(code: int) -> NoReturn:
    """End one of several processes at once: gloo's threads sometimes abort in the interpreter's teardown."""
    # os._exit flushes nothing.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


class _SumOverProcesses(torch.autograd.Function):
    """All-reduce whose gradient is the all-reduced gradient."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        # Cloned: autograd must be told of a function that changes its input.
        total = value.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        distributed.all_reduce(total)
        return total


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalization over the global batch on any backend (``nn.SyncBatchNorm`` runs on GPUs only).

    Sums the mean over the processes first, then squared deviations from it, so that nothing cancels. All processes must
    have the same number of images.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalize ``(N, C, H, W)``; the result has the same shape and type."""
        if not self.training:
            # In evaluation the running statistics are used, which are equal on all processes: nothing to
            # exchange.
            return super().forward(input)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        # bf16 has 8 bits of mantissa, too few for sums over a batch of images.
        value = input.float()
        count = value.numel() // value.shape[1] * distributed.get_world_size()
        mean = _SumOverProcesses.apply(value.sum((0, 2, 3))) / count
        centered = value - mean[:, None, None]
        variance = _SumOverProcesses.apply(centered.square().sum((0, 2, 3))) / count
        with torch.no_grad():
            momentum = self.momentum or 0.0
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, momentum)
            # The running variance is the unbiased one and the normalizing variance is not, as in
            # nn.BatchNorm2d.
            self.running_var.lerp_(variance * (count / max(count - 1, 1)), momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        normalized: Tensor = centered * scale[:, None, None] + self.bias[:, None, None]
        return normalized.to(input.dtype)
