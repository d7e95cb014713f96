"""Devices and precision: chosen once, before the loop, and recorded in every row."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from bench.errors import UsageError
from bench.training.distributed import SINGLE_PROCESS, ProcessGroup, init_distributed


@dataclass(frozen=True)
class Compute:
    """Where and how numbers are computed.

    Attributes:
        device: a torch device.
        precision: ``bf16`` (autocast; master weights stay float32, and bf16 has the range of float32, so that no
            gradient scaler is needed) or ``fp32``.
        process_group: this process among those that compute the same run.
    """

    device: torch.device
    precision: str
    process_group: ProcessGroup = SINGLE_PROCESS

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
        if self.process_group.is_distributed:
            where["processes"] = self.process_group.world_size
        return where


def select_device(device: str = "auto", precision: str = "auto") -> Compute:
    """The device and precision for ``--device`` and ``--precision``.

    Raises:
        UsageError: a device that is not there, or bf16 on a device that cannot.
    """
    process_group = init_distributed()
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and process_group.is_distributed:
        device = f"cuda:{os.environ.get('LOCAL_RANK', process_group.rank)}"
        torch.cuda.set_device(device)
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"--device {device}: not a torch device (cpu, cuda, cuda:1 ...)") from error
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"--device {device}: torch finds no CUDA device here; give --device cpu")
    if chosen.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {device}: only cpu and cuda are supported")
    if precision == "auto":
        precision = "bf16" if supports_bf16(chosen) else "fp32"
    if chosen.type == "cpu":
        _keep_large_blocks()
    if chosen.type == "cuda":
        # TF32 is never on by accident: fp32 means fp32.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
    return Compute(chosen, precision, process_group)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out; torch's CPU allocator says so in a plain ``RuntimeError``."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("can't allocate memory", "not enough memory")
    )


@cache
def _keep_large_blocks() -> None:
    """Let glibc keep freed blocks of any size instead of giving them back to the system.

    Each step frees and asks again for the same large tensors; the page faults took half of the time of a Context
    Encoder step (338 against 170 ms at 64 px, batch 16, two cores).
    """
    if not sys.platform.startswith("linux"):
        return
    trim_threshold, mmap_threshold, mmap_max = -1, -3, -4
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(mmap_max, 0)
        libc.mallopt(mmap_threshold, 2**30)
        libc.mallopt(trim_threshold, 2**31 - 1)
    except (OSError, AttributeError):  # another C library: only slower
        return


def supports_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 in hardware; emulation would be slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper().startswith(("SSE", "AVX2", "AVX512_CORE_VNNI")):
        return False
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return " avx512_bf16" in flags or " amx_bf16" in flags
