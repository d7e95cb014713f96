"""``bench perf --model-only``: counts of a CUDA step and modelled times, without a GPU."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli import cli
from bench.errors import UsageError
from bench.profiling.roofline import ARITHMETIC_SHARE, BANDWIDTH_SHARE, GPUS, LAUNCH_SECONDS, model_step
from models.base import Task
from models.discovery import load_model
from tests.bench.training.test_cuda_rehearsal import needs_rehearsed_torch


@dataclass(frozen=True)
class Fixed:
    flops: float = 0.0
    num_bytes: float = 0.0
    is_half: bool = True


def test_an_operator_takes_the_longer_of_arithmetic_and_traffic() -> None:
    gpu = GPUS[-1]
    long = model_step([Fixed(flops=1e15, num_bytes=1e9)], gpu)
    assert (long.bound, long.seconds) == ("arithmetic", pytest.approx(1e15 / (ARITHMETIC_SHARE * gpu.half)))
    wide = model_step([Fixed(flops=1e9, num_bytes=1e12)], gpu)
    assert (wide.bound, wide.seconds) == (
        "memory",
        pytest.approx(1e12 / (BANDWIDTH_SHARE * gpu.bytes_per_second)),
    )
    many = model_step([Fixed(num_bytes=1.0)] * 500, gpu)
    assert (many.bound, many.seconds) == ("launches", pytest.approx(500 * LAUNCH_SECONDS))


def test_precision_chooses_the_rate() -> None:
    (a100,) = [gpu for gpu in GPUS if gpu.name == "A100"]
    full = Fixed(flops=1e15, is_half=False)
    seconds = [model_step([full], a100).seconds, model_step([full], a100, tf32=True).seconds]
    assert seconds[0] / seconds[1] == pytest.approx(a100.tf32 / a100.fp32)


@pytest.mark.long
@needs_rehearsed_torch
def test_the_command_counts_what_a_step_is_made_of(workplace: Path) -> None:
    written = workplace / "modelled.json"
    command = ["perf", "--device", "cuda", "--model-only", "--models", "glcic", "--preset", "smoke"]
    done = CliRunner().invoke(cli, [*command, "--output", str(written)])
    assert done.exit_code == 0, done.output
    assert "Modelled, not measured" in done.stdout
    for gpu in ("RTX 3070 Ti", "RTX 4090", "A100", "H100"):
        assert gpu in done.stdout
    (glcic,) = json.loads(written.read_text())["models"]
    phases = {phase["phase"]: phase for phase in glcic["phases"]}
    assert list(phases) == ["completion", "discriminator", "joint"]
    assert all(phase["host_waits"] == 0 for phase in phases.values())
    # A joint step trains both networks; its arithmetic is what the CPU's counter gives for the same images.
    from bench.profiling.flops import count_operations
    from models.base import Box, Budget

    entry = load_model("glcic")
    cost = count_operations(
        entry.model,
        entry.config("smoke"),
        Task(size=64, fixed_hole_box=Box(16, 16, 32, 32)),
        Budget(num_steps=12),
    )
    assert phases["joint"]["flops"] == pytest.approx(cost.step_flops["joint"] * glcic["batch"], rel=0.05)
    assert phases["joint"]["bytes"] > phases["completion"]["bytes"] > 0


def test_it_is_for_cuda_only(workplace: Path) -> None:
    done = CliRunner().invoke(cli, ["perf", "--model-only"])
    assert isinstance(done.exception, UsageError)
    assert str(done.exception) == "--model-only: models GPUs; give --device cuda"
