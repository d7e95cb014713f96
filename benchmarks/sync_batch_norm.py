"""What batch normalization over two GPUs adds to a step of GLCIC, counted on a rehearsed CUDA device.

    python benchmarks/sync_batch_norm.py

Prints a table: operators, all-reduces, all-gathers and waits of the host in a step of each phase, with one GPU, with
the layer in Python (:class:`bench.training.distributed.SyncedBatchNorm2d`) and with torch's ``nn.SyncBatchNorm``, which
is what GPUs use. Nothing is sent: the process group is torch's fake one.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor, distributed
from torch.testing._internal.distributed.fake_pg import FakeStore

from bench.profiling import rehearsal
from bench.profiling.rehearsal import OperatorTrace, rehearse_cuda
from bench.training.data_loader import TrainingDataLoader
from bench.training.device import Compute
from bench.training.distributed import SINGLE_PROCESS, ProcessGroup
from bench.training.model_setup import move_to_device
from bench.training.phase_schedule import Schedule
from bench.training.trainer import Trainer
from models.base import Box, Budget, Task
from models.discovery import load_model

SIZE, BATCH = 64, 16
#: Fused kernels of nn.SyncBatchNorm, which torch cannot fake -> how many vectors they return; 0: one like the input.
_KERNELS = {
    "batch_norm_stats": 2,
    "batch_norm_gather_stats_with_counts": 2,
    "batch_norm_backward_reduce": 4,
    "batch_norm_elemt": 0,
    "batch_norm_backward_elemt": 0,
}
_dispatch, _call = OperatorTrace.__torch_dispatch__, rehearsal._call


def _stand_in(self: OperatorTrace, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
    """Give a fused kernel's result its shape, and the processes that have images (all) by a mask their rows."""
    name = func.overloadpacket.__name__
    result: Any
    if name in _KERNELS:
        channels = args[0].shape[1]
        vectors = tuple(torch.empty(channels, device=args[0].device) for _ in range(_KERNELS[name]))
        result = vectors or torch.empty_like(args[0])
    elif name == "index" and args[1][0] is not None and args[1][0].dtype == torch.bool:
        self.note_wait("index with a mask")  # the host must know how many rows there are
        result = torch.empty_like(args[0])
    else:
        return _dispatch(self, func, types, args, kwargs)
    outputs = [result] if isinstance(result, Tensor) else list(result)
    inputs = [x for x in args if isinstance(x, Tensor)]
    self._count(func, name, args, kwargs or {}, inputs, outputs, result)
    return result


@contextmanager
def rehearsed_sync_batch_norm() -> Iterator[OperatorTrace]:
    """Rehearse CUDA with ``nn.SyncBatchNorm``'s kernels, too."""
    # A function in Python returns a gradient for each argument, also for those that are no tensors: they come last.
    cut = mock.patch.object(rehearsal, "_call", lambda n, a: _call(n, a)[: len(n.next_functions)])
    own = mock.patch.object(OperatorTrace, "__torch_dispatch__", _stand_in)
    eager = mock.patch.object(torch.cuda, "is_current_stream_capturing", return_value=False)
    with cut, own, eager, rehearse_cuda() as trace:
        yield trace


def count_step(layer: str) -> None:
    """Print a row for each phase: ``layer`` is ``one GPU``, ``Python`` or ``torch``."""
    group = SINGLE_PROCESS
    if layer != "one GPU":
        distributed.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
        group = ProcessGroup(0, 2)
    entry = load_model("glcic")
    with rehearsed_sync_batch_norm() as trace, tempfile.TemporaryDirectory() as folder:
        compute = Compute(torch.device("cuda", 0), "bf16", group)
        model = entry.model(entry.config("paper"), Task(size=SIZE, fixed_hole_box=Box(16, 16, 32, 32)))
        group.synchronize_batch_norm(model.networks, torch.device("cpu" if layer == "Python" else "cuda"))
        model = move_to_device(model, compute)
        batches = TrainingDataLoader(
            np.zeros((BATCH, SIZE, SIZE, 3), np.uint8),
            np.zeros((1, SIZE * SIZE // 8), np.uint8),
            batch_size=BATCH,
            seed=0,
            flips=False,
            compute=compute,
            resident=True,
        )
        phases = model.phases(Budget(num_steps=300, track="faithful"))
        trainer = Trainer(model, Schedule(phases), batches, compute, Path(folder))
        for index, phase in enumerate(phases):
            step = trainer.schedule.start_of(index)
            with trace.during("first step"):
                trainer.train_step.run(trainer.optimizers.enter_phase(step), batches(step))
            with trace.during(phase.name):
                trainer.train_step.run(phase, batches(step))
            names = Counter(operator.name for operator in trace.operators[phase.name])
            waits = sum(wait.stage == phase.name for wait in trace.waits)
            print(
                f"| {layer} | {phase.name} | {names.total():,} | {names['allreduce_']} | "
                f"{names['_allgather_base_']} | {waits} |"
            )
    if distributed.is_initialized():
        distributed.destroy_process_group()


if __name__ == "__main__":
    print(
        "| | phase | operators | all-reduces | all-gathers | waits of the host |\n|---|---|---:|---:|---:|---:|"
    )
    for layer in sys.argv[1:] or ["one GPU", "Python", "torch"]:
        count_step(layer)
