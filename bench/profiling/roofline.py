"""Model how long a training step takes on a GPU that is not here: a roofline over the operators of a rehearsed step.

An operator takes as long as its arithmetic or its memory traffic, whichever is longer (Williams et al., "Roofline: An
Insightful Visual Performance Model", CACM 2009), and a step at least as long as the host needs to launch its operators.
The result is modelled, not measured: expect the order of magnitude and the ranking, not the digit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

Bound = Literal["arithmetic", "memory", "launches"]

#: Share of the peak rate that large convolutions reach, and of the bandwidth that element-wise kernels reach.
ARITHMETIC_SHARE, BANDWIDTH_SHARE = 0.5, 0.75
#: Seconds that the host needs per operator of an eager step, Python and autograd included: measured on one host (a
#: virtual Xeon with an H200, ``docs/measurements/gpu-160.md``), where it gives eight phases of nine to a tenth.
LAUNCH_SECONDS = 36e-6


@dataclass(frozen=True, kw_only=True)
class GPU:
    """Peak figures of a GPU, without structured sparsity.

    Attributes:
        name: as its vendor calls it.
        fp32: operations per second in float32.
        tf32: operations per second of TF32 tensor cores.
        half: operations per second of bf16 or fp16 tensor cores with float32 accumulation.
        bytes_per_second: bandwidth of its memory.
        memory_bytes: size of its memory.
    """

    name: str
    fp32: float
    tf32: float
    half: float
    bytes_per_second: float
    memory_bytes: float


#: From NVIDIA's architecture whitepapers (GA102, AD102) and data sheets (A100 80 GB SXM, H100 SXM).
GPUS = (
    GPU(
        name="RTX 3070 Ti", fp32=21.7e12, tf32=21.7e12, half=43.5e12, bytes_per_second=608e9, memory_bytes=8e9
    ),
    GPU(
        name="RTX 4090", fp32=82.6e12, tf32=82.6e12, half=165.2e12, bytes_per_second=1008e9, memory_bytes=24e9
    ),
    GPU(name="A100", fp32=19.5e12, tf32=156e12, half=312e12, bytes_per_second=2039e9, memory_bytes=80e9),
    GPU(name="H100", fp32=66.9e12, tf32=494.7e12, half=989.4e12, bytes_per_second=3350e9, memory_bytes=80e9),
)


class CountedOperator(Protocol):
    """What the model needs of an operator; see :class:`bench.profiling.rehearsal.Operator`."""

    @property
    def is_half(self) -> bool:
        """Whether it computes in 16 bits."""

    @property
    def flops(self) -> float:
        """Floating-point operations."""

    @property
    def num_bytes(self) -> float:
        """Bytes read and written."""


@dataclass(frozen=True)
class ModelledStep:
    """A step as the model sees it.

    Attributes:
        seconds: duration.
        bound: what it is limited by.
    """

    seconds: float
    bound: Bound


def model_step(operators: Iterable[CountedOperator], gpu: GPU, *, tf32: bool = False) -> ModelledStep:
    """Model the duration of a step on ``gpu``.

    Args:
        operators: of one step.
        gpu: where.
        tf32: whether float32 products use TF32.
    """
    arithmetic = memory = seconds = 0.0
    count = 0
    for operator in operators:
        rate = gpu.half if operator.is_half else gpu.tf32 if tf32 else gpu.fp32
        computing = operator.flops / (ARITHMETIC_SHARE * rate)
        moving = operator.num_bytes / (BANDWIDTH_SHARE * gpu.bytes_per_second)
        seconds += max(computing, moving)
        arithmetic += computing if computing >= moving else 0.0
        memory += moving if moving > computing else 0.0
        count += 1
    launching = count * LAUNCH_SECONDS
    # The host launches ahead of the device, so the longer of the two is what a step takes.
    if launching >= seconds:
        return ModelledStep(launching, "launches")
    return ModelledStep(seconds, "arithmetic" if arithmetic >= memory else "memory")
