"""``bench perf``: structure and invariants, never a time. The step loop: nothing waits for the device."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch.utils._python_dispatch import TorchDispatchMode

from bench.cli import cli
from bench.perf import measure
from bench.perf.measure import PerfConfig, measure_models, perf_rows
from bench.perf.reference_step import reference_step, without_custom_kernels
from bench.profiling.flops import count_operations, matrix_rate
from bench.training.data_loader import StepBatches
from bench.training.device import Compute
from bench.training.phase_schedule import Intervals, Schedule
from bench.training.trainer import Trainer
from models.base import Batch, Box, Budget, Task
from models.contract_checks import ContractCase, build_case
from models.discovery import load_model
from models.layers import gated_conv
from models.layers.cpu_kernels import SmallMapConv2d

PAPER = ("context-encoder", "glcic", "mgs-iim", "pconv")
TINY = PerfConfig(size=64, batch=2, steps=1, preset="smoke", device="cpu")


@pytest.fixture(scope="module", autouse=True)
def _one_product() -> Iterator[None]:
    """The rate of matrix products from one of them: the best of a hundred takes longer than all that is measured."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "matrix_rate", lambda compute, repeats: matrix_rate(compute, repeats=1))
        yield


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    return measure_models(["glcic", "pconv", "mean"], TINY)


@pytest.mark.long
def test_every_phase_of_every_trained_model(result: dict[str, Any]) -> None:
    phases = {m["model"]: [p["phase"] for p in m["phases"]] for m in result["models"]}
    assert phases == {
        "glcic": ["completion", "discriminator", "joint"],
        "pconv": ["train", "fine-tune"],
    }
    assert json.loads(json.dumps(result)) == result


def test_parts_make_the_step_and_rates_follow_from_it(result: dict[str, Any]) -> None:
    rate = result["matrix_flops_per_second"][result["hardware"]["precision"]]
    for model in result["models"]:
        for phase in model["phases"]:
            parts = ("forward_seconds", "backward_seconds", "optimizer_seconds")
            assert all(phase[part] > 0 for part in parts)
            assert sum(phase[p] for p in parts) <= phase["step_seconds"] * 1.0001
            assert phase["images_per_second"] == pytest.approx(2 / phase["step_seconds"])
            flops = 2 * 2 * phase["multiply_accumulates"]
            assert phase["matrix_share"] == pytest.approx(flops / phase["step_seconds"] / rate)
            assert phase["networks_matrix_share"] > phase["matrix_share"]
            assert phase["times_plain"] == pytest.approx(phase["plain_step_seconds"] / phase["step_seconds"])


def test_operations_are_those_that_bench_show_counts(result: dict[str, Any]) -> None:
    entry = load_model("glcic")
    task = Task(size=64, fixed_hole_box=Box(16, 16, 32, 32))
    cost = count_operations(entry.model, entry.config("smoke"), task, Budget(num_steps=10))
    (glcic,) = [m for m in result["models"] if m["model"] == "glcic"]
    assert glcic["inference"]["multiply_accumulates"] == cost.multiply_accumulates
    assert {p["phase"]: 2 * p["multiply_accumulates"] for p in glcic["phases"]} == cost.step_flops


def test_the_table_has_a_row_for_each_phase_and_one_for_inference(result: dict[str, Any]) -> None:
    assert [(r["model"], r["phase"]) for r in perf_rows(result)] == [
        ("glcic", "completion"),
        ("glcic", "discriminator"),
        ("glcic", "joint"),
        ("glcic", "inference"),
        ("pconv", "train"),
        ("pconv", "fine-tune"),
        ("pconv", "inference"),
    ]


def test_command_writes_all_numbers_and_the_profile(tmp_path: Path) -> None:
    output = tmp_path / "perf.json"
    options = ["--size", "64", "--batch", "2", "--steps", "1", "--preset", "smoke", "--device", "cpu"]
    command = [
        "perf",
        "--models",
        "context-encoder",
        *options,
        "--no-plain",
        "--profile",
        "--output",
        str(output),
    ]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output
    written = json.loads(output.read_text())
    (phase,) = written["models"][0]["phases"]
    assert "times_plain" not in phase
    assert 0 < sum(operator["share"] for operator in phase["operators"]) <= 1.0001
    assert "context-encoder  joint" in done.output
    assert "images/s" in done.output


def small(name: str) -> ContractCase:
    return build_case(load_model(name), 64)


@pytest.mark.parametrize(("name", "phase"), [("glcic", 2), ("pconv", 0), ("context-encoder", 0)])
def test_the_plain_step_is_the_trainers_step(tmp_path: Path, name: str, phase: int) -> None:
    """Both move float32 weights alike, so the comparison is one of speed alone."""
    ours, plain = small(name), small(name)
    chosen = ours.phases[phase]
    start = {k: v.clone() for k, v in ours.model.networks.state_dict().items()}
    compute = Compute(torch.device("cpu"), "fp32")
    one = Schedule([replace(chosen, num_steps=1)])
    Trainer(ours.model, one, StepBatches(1, lambda _: ours.batch), compute, tmp_path).train()
    layers = gated_conv._dense, SmallMapConv2d.convolve
    plain.model.networks.train()
    with without_custom_kernels():
        assert SmallMapConv2d.convolve is not layers[1]
        reference_step(plain.model, chosen)(plain.batch)
    assert (gated_conv._dense, SmallMapConv2d.convolve) == layers
    moved, apart = 0.0, 0.0
    after = plain.model.networks.state_dict()
    for key, value in ours.model.networks.state_dict().items():
        if value.is_floating_point():
            moved += float((value - start[key]).square().sum())
            apart += float((value - after[key]).square().sum())
    assert apart < 1e-3 * moved


class Waits(TorchDispatchMode):
    """Notes where a number is read from the device."""

    def __init__(self) -> None:
        super().__init__()
        self.step = -1
        self.seen: list[tuple[int, str]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("_local_scalar_dense", "nonzero", "is_nonzero", "item"):
            self.seen.append((self.step, name))
        return func(*args, **(kwargs or {}))


class EnoughError(Exception):
    """Ends a training before its last checkpoint."""


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("name", PAPER)
def test_no_step_waits_for_the_device_but_at_a_report(tmp_path: Path, name: str, precision: str) -> None:
    case, waits = small(name), Waits()
    phases = case.model.phases(Budget(num_steps=1, steps_per_phase=4))

    def batches(step: int) -> Batch:
        waits.step = step
        if step == 4 * len(phases) - 1:
            raise EnoughError
        return replace(case.batch, step=step)

    compute = Compute(torch.device("cpu"), precision)
    source, intervals = StepBatches(len(case.batch), batches), Intervals(report=3)
    trainer = Trainer(case.model, Schedule(phases), source, compute, tmp_path, intervals=intervals)
    with waits, contextlib.suppress(EnoughError):
        trainer.train()
    reported = {step for step, _ in waits.seen}
    assert 2 in reported
    assert all(step % 3 == 2 for step in reported)
