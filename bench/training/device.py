"""Device and precision: chosen once, before the loop, and recorded with every result."""

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

#: Precision -> the type that autocast computes in; the others compute in float32.
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
#: First compute capability with TF32 (Ampere).
_TF32_CAPABILITY = (8, 0)


@dataclass(frozen=True)
class Compute:
    """Where and how numbers are computed.

    Attributes:
        device: a torch device, with its index if it is a GPU.
        precision: ``fp32``; ``tf32`` (matrix products and convolutions round their inputs to 10 bits of mantissa);
            ``bf16`` or ``fp16`` (autocast; weights and optimizers stay float32). bf16 has the range of float32; fp16
            has not, and its losses are scaled.
        process_group: this process among those that compute the same run.
        deterministic: kernels whose sums depend on the order of threads are replaced or refused.
        cuda_graphs: networks are compiled into CUDA graphs, which overwrite their outputs at the next step.
        memory_share: share of the device's memory that this process may plan with, where several use one device.
    """

    device: torch.device
    precision: str
    process_group: ProcessGroup = SINGLE_PROCESS
    deterministic: bool = False
    cuda_graphs: bool = False
    memory_share: float = 1.0

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context for one forward pass; leaving it drops autocast's cache of cast weights."""
        dtype = self.autocast_dtype
        return contextlib.nullcontext() if dtype is None else torch.autocast(self.device.type, dtype=dtype)

    @property
    def autocast_dtype(self) -> torch.dtype | None:
        """What autocast computes in; ``None`` without autocast."""
        return _AUTOCAST.get(self.precision)

    def grad_scaler(self) -> torch.amp.GradScaler:
        """Return a gradient scaler for one network; it does nothing unless the precision is fp16."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def mark_step_begin(self) -> None:
        """Let CUDA graphs reuse the memory of the outputs of all earlier steps."""
        if self.cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]

    def available_bytes(self) -> float:
        """Return the memory that this process may fill; infinity where the system does not tell.

        On a GPU, memory that torch holds already counts as available, so that the answer does not depend on what has
        been allocated before.
        """
        if self.device.type == "cuda":
            free = torch.cuda.mem_get_info(self.device)[0] + torch.cuda.memory_reserved(self.device)
            return float(free) * self.memory_share
        try:
            # MemAvailable counts the file cache as free, which the memory-mapped pack would otherwise seem to
            # fill.
            for line in Path("/proc/meminfo").read_text().splitlines():
                if line.startswith("MemAvailable:"):
                    return float(line.split()[1]) * 1024 * self.memory_share
            return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")) * self.memory_share
        except (OSError, ValueError):
            return float("inf")

    def numerics(self) -> dict[str, Any]:
        """Return what of the machine can change sums; it is recorded with every result and enters no key."""
        where: dict[str, Any] = {"device": self.device.type, "precision": self.precision}
        # Without the build tag (+cpu, +cu124): the CUDA version is recorded by itself.
        where["torch"] = torch.__version__.split("+")[0]
        if self.device.type == "cpu":
            where["threads"] = torch.get_num_threads()
            where["instruction_set"] = torch.backends.cpu.get_cpu_capability()
        elif self.device.type == "cuda":
            where["gpu"] = torch.cuda.get_device_name(self.device)
            where["cuda"] = torch.version.cuda
            where["cudnn"] = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        # Only where they apply: an absent entry is the default, so that older records compare as equal.
        if self.deterministic:
            where["deterministic"] = True
        if self.process_group.is_distributed:
            # Each process sums its share first, so sums round differently with their number.
            where["processes"] = self.process_group.world_size
        return where


def select_device(
    device: str = "auto", precision: str = "auto", *, deterministic: bool = False, cuda_graphs: bool = False
) -> Compute:
    """Choose device and precision for ``--device`` and ``--precision``, and set torch's global switches to match.

    Raises:
        UsageError: the device is not there, or it cannot compute in this precision.
    """
    # First: with torchrun, the number of this process decides which GPU it takes.
    process_group = init_distributed()
    chosen = _find_device(device, process_group)
    if precision == "auto":
        precision = "bf16" if supports_bf16(chosen) else "fp32"
    _check_precision(chosen, precision)
    if cuda_graphs and chosen.type != "cuda":
        raise UsageError("--cuda-graphs: needs a CUDA device")
    if chosen.type == "cpu":
        _keep_freed_memory()
    else:
        # TF32 is never on by accident: fp32 means fp32.
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        # Shapes are fixed, so cuDNN may time its algorithms once; which one wins varies from run to run.
        torch.backends.cudnn.benchmark = not deterministic
        torch.backends.cudnn.deterministic = deterministic
    _set_deterministic(deterministic, chosen)
    return Compute(chosen, precision, process_group, deterministic, cuda_graphs)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether ``error`` means that memory ran out; torch's CPU allocator raises a plain ``RuntimeError``."""
    # MemoryError is NumPy's, when a batch is gathered on the host.
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("can't allocate memory", "not enough memory")
    )


def supports_bf16(device: torch.device) -> bool:
    """Return whether the device multiplies bf16 in hardware; emulation is slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # A cap on oneDNN's instructions hides the hardware from it, and it then emulates.
    cap = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    if cap.startswith(("SSE", "AVX2")) or cap in ("AVX", "AVX512_CORE", "AVX512_CORE_VNNI"):
        return False
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return " avx512_bf16" in flags or " amx_bf16" in flags


def _find_device(device: str, process_group: ProcessGroup) -> torch.device:
    """Return the device that was asked for, with its index, made the current one if it is a GPU."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise UsageError(f"--device {device}: not a torch device (cpu, cuda, cuda:1 ...)") from error
    if chosen.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {device}: only cpu and cuda are supported")
    if chosen.type == "cpu":
        # Without an index: torch takes "cpu" and "cpu:0" for two devices when it compares them.
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UsageError(f"--device {device}: torch finds no CUDA device here; give --device cpu")
    index = chosen.index if ":" in device else None
    count = torch.cuda.device_count()
    if process_group.is_distributed:
        if index is not None:
            raise UsageError(
                f"--device {device}: torchrun gives each process its own GPU; give --device cuda"
            )
        # The rank counts over all machines, GPUs are numbered on each; LOCAL_RANK is missing under launchers
        # other than torchrun.
        index = int(os.environ.get("LOCAL_RANK", process_group.rank))
        if index >= count:
            raise UsageError(f"torchrun started more processes than there are GPUs here ({count})")
    if index is None:
        index = torch.cuda.current_device()
    if index >= count:
        raise UsageError(
            f"--device {device}: there are only {count} CUDA devices here, cuda:0 to cuda:{count - 1}"
        )
    # Streams, events and libraries use the current device whatever device their tensors are on.
    torch.cuda.set_device(index)
    return torch.device("cuda", index)


def _check_precision(device: torch.device, precision: str) -> None:
    if precision not in ("fp32", "tf32", "bf16", "fp16"):
        raise UsageError(f"--precision {precision}: choose from auto, bf16, fp16, tf32, fp32")
    if device.type == "cpu":
        if precision in ("fp16", "tf32"):
            raise UsageError(f"--precision {precision}: needs a CUDA device; a CPU computes in fp32 or bf16")
        return
    name = torch.cuda.get_device_name(device)
    if precision == "bf16" and not supports_bf16(device):
        raise UsageError(f"--precision bf16: {name} only emulates it, slower than fp32; give fp16 or fp32")
    if precision == "tf32" and torch.cuda.get_device_capability(device) < _TF32_CAPABILITY:
        raise UsageError(f"--precision tf32: {name} does not have it; give fp16 or fp32")


def _set_deterministic(deterministic: bool, device: torch.device) -> None:
    """Switch deterministic kernels on or off; with them on, an operator that has none raises an error by name."""
    if deterministic and device.type == "cuda":
        # cuBLAS reads it when its first handle is created; torch refuses matrix products without it.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    # Filling fresh memory finds reads of it, of which there are none here, at the price of a write per tensor.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@cache
def _keep_freed_memory() -> None:
    """Let glibc keep freed blocks of any size instead of returning them to the system.

    Each step frees and allocates the same large tensors; the page faults took half of the time of a Context Encoder
    step (338 against 170 ms at 64 px, batch 16, two cores).
    """
    if not sys.platform.startswith("linux"):
        return
    trim_threshold, mmap_threshold, mmap_max = -1, -3, -4
    try:
        # Of the process itself, whichever C library it was linked with.
        libc = ctypes.CDLL(None)
        # Large blocks get no mapping of their own, which free() would return at once, and the heap is not
        # trimmed.
        libc.mallopt(mmap_max, 0)
        libc.mallopt(mmap_threshold, 2**30)
        libc.mallopt(trim_threshold, 2**31 - 1)
    except (OSError, AttributeError):  # another C library: only slower
        return
