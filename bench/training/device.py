"""Devices and precision: chosen once, before the loop, and recorded in every row."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.errors import UsageError


@dataclass(frozen=True)
class Compute:
    """Where and how numbers are computed.

    Attributes:
        device: a torch device.
        precision: ``bf16`` (autocast; master weights stay float32) or ``fp32``.
    """

    device: torch.device
    precision: str

    def autocast(self) -> Any:
        """A fresh context for one forward; leaving it drops autocast's cache of cast weights."""
        if self.precision == "bf16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()

    def numerics(self) -> dict[str, Any]:
        """What of the machine can change the sums: part of every key (``design``: thread count, instruction set)."""
        where: dict[str, Any] = {"device": self.device.type, "precision": self.precision}
        where["torch"] = torch.__version__.split("+")[0]
        if self.device.type == "cpu":
            where["threads"] = torch.get_num_threads()
            where["instruction_set"] = torch.backends.cpu.get_cpu_capability()
        elif self.device.type == "cuda":
            where["gpu"] = torch.cuda.get_device_name(self.device)
        return where

    def peak_memory_mb(self) -> float:
        """Peak memory since the last reset: of the device, or of this process on the CPU (MiB)."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def choose(device: str = "auto", precision: str = "auto") -> Compute:
    """The device and precision for ``--device`` and ``--precision``.

    Raises:
        UsageError: a device that is not there, or bf16 on a device that cannot.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"--device {device}: not a torch device (cpu, cuda, cuda:1 ...)") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"--device {device}: torch finds no CUDA device here; give --device cpu")
    if chosen.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {device}: only cpu and cuda are supported")
    if precision == "auto":
        precision = "bf16" if computes_bf16(chosen) else "fp32"
    if chosen.type == "cuda":
        # TF32 is never on by accident: fp32 means fp32.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    return Compute(chosen, precision)


def computes_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 in hardware; emulation would be slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper().startswith(("SSE", "AVX2", "AVX512_CORE_VNNI")):
        return False
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return " avx512_bf16" in flags or " amx_bf16" in flags
