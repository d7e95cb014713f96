"""A sweep planned on GPUs that are not here: hours of every training, until the last has ended, and their cost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.errors import UsageError
from bench.perf import sweep
from bench.perf.sweep import parse_gpus, wall_hours
from tests.bench.cli.test_cli import bench, error_of
from tests.bench.training.test_cuda_rehearsal import needs_rehearsed_torch


@pytest.mark.parametrize(
    ("text", "count", "name"),
    [("8xA100", 8, "A100"), ("1 x h100", 1, "H100"), ("2xrtx 3070ti", 2, "RTX 3070 Ti")],
)
def test_gpus_are_read_whatever_their_case_and_spaces(text: str, count: int, name: str) -> None:
    found, gpu = parse_gpus(text)
    assert (found, gpu.name) == (count, name)


@pytest.mark.parametrize("text", ["A100", "0xA100", "8xT4", "x", "", "-1xA100", "8x"])
def test_other_gpus_are_refused_with_the_known_ones(text: str) -> None:
    with pytest.raises(
        UsageError, match="give COUNTxNAME, for example 8xA100; known are RTX 3070 Ti, RTX 4090"
    ):
        parse_gpus(text)


def test_the_last_training_ends_as_a_queue_has_it() -> None:
    assert wall_hours([], 8) == 0.0
    assert wall_hours([2.0], 8) == 2.0
    assert wall_hours([1.0] * 9, 8) == 2.0
    assert wall_hours([1.0, 1.0, 5.0], 2) == 6.0  # in the order given, not the best one


def test_options_that_need_another_are_refused(workplace: Path) -> None:
    assert "--gpus: give --plan-only too" in error_of("run", "--gpus", "8xA100")
    assert "--gpu-price: give --gpus too" in error_of("run", "--plan-only", "--gpu-price", "2")
    assert "give COUNTxNAME" in error_of("run", "--plan-only", "--gpus", "many")


def test_hours_and_cost_add_up(workplace: Path, pictures_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hours for a step of the context encoder, three for the others': nothing is counted twice."""
    counted: list[str] = []

    def hours(plan: sweep.TrainingPlan, *_: object, **__: object) -> float:
        counted.append(plan.label)
        return 2.0 if plan.entry.card.name == "context-encoder" else 3.0

    monkeypatch.setattr(sweep, "_training_hours", hours)
    words = [
        "run",
        "--models",
        "context-encoder,glcic,mean",
        "--data",
        str(pictures_dir),
        "--preset",
        "smoke",
    ]
    words += ["--seeds", "0,1,2", "--plan-only", "--gpus", "2xA100", "--gpu-price", "1.5", "--name", "sweep"]
    listed = json.loads(bench(*words, "--json").stdout)
    assert len(listed["units"]) == 7
    modelled = listed["modelled"]
    assert counted == ["Context Encoder", "GLCIC"]
    assert [(r["label"], r["trainings"], r["hours_each"]) for r in modelled["trainings"]] == [
        ("Context Encoder", 3, 2.0),
        ("GLCIC", 3, 3.0),
    ]
    assert modelled["modelled"] is True
    assert (modelled["gpu_hours"], modelled["wall_hours"]) == (15.0, 8.0)
    assert (modelled["cost_of_hours_used"], modelled["cost_of_all_held"]) == (22.5, 24.0)
    output = bench(*words).stdout
    assert "Modelled, not measured, on A100 in bf16; validation and evaluation come on top:" in output
    assert "6 trainings: 15.0 GPU-hours; 8.0 hours on 2 GPUs, one training on each" in output
    assert "at 1.5 per GPU-hour: 22 for the hours used, 24 with all 2 held to the end" in output


@needs_rehearsed_torch
def test_hours_are_those_of_perf_gpu_estimates(workplace: Path, pictures_dir: Path) -> None:
    """The same steps, the same model: for the mask and preset that 'bench perf' counts."""
    words = ["run", "--models", "context-encoder", "--data", str(pictures_dir), "--preset", "smoke"]
    planned = json.loads(bench(*words, "--plan-only", "--gpus", "1xA100", "--json").stdout)
    perf = ["perf", "--device", "cuda", "--model-only", "--preset", "smoke", "--models", "context-encoder"]
    (model,) = json.loads(bench(*perf, "--json").stdout)["models"]
    assert planned["modelled"]["gpu_hours"] == pytest.approx(model["modelled_training_hours"]["A100"])
