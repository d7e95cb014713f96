"""Measure the peak memory of a training."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
from pathlib import Path

import torch

from bench.training.device import Compute


class PeakMemory:
    """Measures peak memory from construction: of the GPU, or on Linux of the process beyond what it had before."""

    def __init__(self, compute: Compute) -> None:
        self._compute, self._before = compute, 0.0
        # Unreachable models of earlier cells are freed first, so that they are not part of what was there
        # before.
        gc.collect()
        if compute.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(compute.device)
            return
        try:
            if sys.platform.startswith("linux"):
                ctypes.CDLL(None).malloc_trim(0)  # return what earlier models have left
            Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
            self._before = _status("VmRSS")
        except (OSError, AttributeError, ValueError):
            self._before = float("nan")

    def mebibytes(self) -> float | None:
        """Return the peak since construction, or ``None`` where the system does not tell."""
        if self._compute.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._compute.device) / 2**20
        # NaN is the only number that differs from itself.
        if self._before != self._before:
            return None
        # The kernel's counters are approximate, and may contradict each other by some pages.
        return max(0.0, _status("VmHWM") - self._before)


def _status(name: str) -> float:
    """Read a field of ``/proc/self/status`` in MiB."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise ValueError(f"/proc/self/status has no {name}")
    return int(found[1]) / 1024
