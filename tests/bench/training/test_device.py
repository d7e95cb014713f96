"""Devices, precisions and determinism: what is asked for is given, or refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bench.errors import UsageError
from bench.training import device
from bench.training.data_loader import is_resident
from bench.training.device import Compute, select_device
from bench.training.distributed import ProcessGroup


@pytest.fixture(autouse=True)
def _switches() -> Iterator[None]:
    """Torch's global switches as they were."""
    backends = torch.backends
    before = (
        backends.cuda.matmul.allow_tf32,
        backends.cudnn.allow_tf32,
        backends.cudnn.benchmark,
        backends.cudnn.deterministic,
    )
    yield
    (
        backends.cuda.matmul.allow_tf32,
        backends.cudnn.allow_tf32,
        backends.cudnn.benchmark,
        backends.cudnn.deterministic,
    ) = before
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pretend that there are two GPUs of the Turing generation; returns the indices made current."""
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (7, 5))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    return chosen


def test_the_device_asked_is_the_device_given(gpus: list[int]) -> None:
    assert select_device("cuda:1").device == torch.device("cuda", 1)
    assert select_device("cuda").device == torch.device("cuda", 0)
    assert gpus == [1, 0]  # made current: streams and libraries use the current one
    with pytest.raises(
        UsageError, match="--device cuda:2: there are only 2 CUDA devices here, cuda:0 to cuda:1"
    ):
        select_device("cuda:2")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("cuda:0", "--device cuda:0: torchrun gives each process its own GPU; give --device cuda"),
        ("cuda", "torchrun started more processes than there are GPUs here"),
    ],
)
def test_torchrun_and_devices(
    gpus: list[int], monkeypatch: pytest.MonkeyPatch, asked: str, message: str
) -> None:
    monkeypatch.setattr(device, "init_distributed", lambda: ProcessGroup(3, 4))
    monkeypatch.setenv("LOCAL_RANK", "3")
    with pytest.raises(UsageError, match=message):
        select_device(asked)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert select_device("cuda").device == torch.device("cuda", 1)


def test_a_gpu_that_emulates_bf16_computes_in_fp16_or_fp32(gpus: list[int]) -> None:
    assert select_device("cuda").precision == "fp32"
    assert select_device("cuda", "fp16").precision == "fp16"
    with pytest.raises(UsageError, match="--precision bf16: Tesla T4 only emulates it"):
        select_device("cuda", "bf16")
    with pytest.raises(UsageError, match="--precision tf32: Tesla T4 does not have it"):
        select_device("cuda", "tf32")


@pytest.mark.parametrize("precision", ["fp16", "tf32"])
def test_a_cpu_has_neither_fp16_nor_tf32(precision: str) -> None:
    with pytest.raises(UsageError, match=f"--precision {precision}: needs a CUDA device"):
        select_device("cpu", precision)


def test_tf32_is_on_only_where_it_is_asked_for(gpus: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: (8, 0))
    for precision in ("tf32", "fp32"):
        select_device("cuda", precision)
        assert torch.backends.cudnn.allow_tf32 == (precision == "tf32")
        assert torch.backends.cuda.matmul.allow_tf32 == (precision == "tf32")


def test_determinism_is_asked_for_and_undone(gpus: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    compute = select_device("cuda", deterministic=True)
    assert compute.deterministic
    assert torch.are_deterministic_algorithms_enabled()
    assert device.os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic) == (False, True)
    select_device("cuda")
    assert not torch.are_deterministic_algorithms_enabled()
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic) == (True, False)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")


def test_the_where_of_a_gpu_has_cuda_and_cudnn(gpus: list[int]) -> None:
    where = select_device("cuda", deterministic=True).numerics()
    assert (where["gpu"], where["cuda"]) == ("Tesla T4", torch.version.cuda)
    assert where["cudnn"] == torch.backends.cudnn.version()
    assert where["deterministic"] is True


def test_cuda_graphs_need_cuda() -> None:
    with pytest.raises(UsageError, match="--cuda-graphs: needs a CUDA device"):
        select_device("cpu", cuda_graphs=True)


def test_residency_does_not_depend_on_what_the_process_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """``--batch auto`` decides before the model is there, the training after."""
    free, held = [20.0 * 2**30], [0.0]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (free[0], 24.0 * 2**30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda *_: held[0])
    compute = Compute(torch.device("cuda", 0), "bf16")
    celeba = 9 * 2**30
    assert is_resident(celeba, compute)
    free[0], held[0] = 4.0 * 2**30, 16.0 * 2**30
    assert is_resident(celeba, compute)
    assert not is_resident(celeba, replace(compute, memory_share=0.5))


def test_a_batch_smaller_than_the_number_of_processes_is_refused() -> None:
    with pytest.raises(UsageError, match=r"--batch 4: smaller than the number of processes \(8\)"):
        ProcessGroup(0, 8).share_of(4)


@pytest.mark.parametrize(
    ("cap", "supported"),
    [("", True), ("ALL", True), ("avx512_core_bf16", True), ("AVX10_1_512_AMX", True)]
    + [(cap, False) for cap in ("SSE41", "AVX", "AVX2", "AVX2_VNNI_2", "avx512_core", "AVX512_CORE_VNNI")],
)
def test_a_cap_on_onednns_instructions_hides_bf16(
    monkeypatch: pytest.MonkeyPatch, cap: str, supported: bool
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "flags : fpu avx512f avx512_bf16 amx_bf16\n")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", cap)
    assert device.supports_bf16(torch.device("cpu")) is supported
