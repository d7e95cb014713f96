"""Places for jobs on this machine: one a GPU, or parts of one; shares of the threads on the CPU."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from bench.config import Request
from bench.training.device import Compute

#: A slot of ``--jobs auto`` on the CPU has at least this many threads.
_THREADS_PER_SLOT = 4


@dataclass(frozen=True)
class Slot:
    """A place for one job.

    Attributes:
        device: index of its GPU; ``None`` on the CPU.
    """

    device: int | None = None


def list_slots(request: Request, compute: Compute) -> list[Slot]:
    """Return the slots of ``--jobs`` and ``--jobs-per-gpu`` on this machine.

    On the CPU, or where one GPU was named, that many jobs share it. Otherwise jobs are dealt out over all GPUs, so that
    eight jobs on four GPUs are two on each; ``auto`` is one a GPU (or ``--jobs-per-gpu``).
    """
    jobs, per_gpu = request.jobs, request.jobs_per_gpu
    if compute.device.type != "cuda":
        # The affinity and not the number of cores: a container or a scheduler may grant a part of them.
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return [Slot()] * (max(1, cores // _THREADS_PER_SLOT) if jobs == "auto" else jobs)
    named = request.device.partition(":")[2]
    devices = [int(named)] if named else list(range(torch.cuda.device_count()))
    count = len(devices) * per_gpu if jobs == "auto" else jobs
    # In turn over the devices, so that the first jobs spread out before two share one.
    return [Slot(devices[i % len(devices)]) for i in range(count)]


def memory_share(slots: Sequence[Slot]) -> float:
    """Return the share of a device's memory that each job may plan with: the same for all, so that batches agree.

    >>> memory_share([Slot(0), Slot(1), Slot(0)])
    0.5
    """
    return 1.0 / max(Counter(slot.device for slot in slots).values())
