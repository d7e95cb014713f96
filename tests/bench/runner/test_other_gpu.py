"""A unit that is requeued on another kind of GPU: refused by name, or resumed where mixing was asked for."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from bench.runner.callbacks import RunCallbacks
from bench.runner.prepare import PreparedRun, prepare_run
from bench.runner.work import WorkUnit, find_unit, read_outcome, run_unit
from bench.training.device import Compute
from bench.training.signals import InterruptedTrainingError
from tests.bench.runner.test_run import request


class Preempted(RunCallbacks):
    """Ends the training as a scheduler does, after its second step."""

    def training_step(self, label: str, step: int, num_steps: int) -> None:
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)


def test_another_kind_of_gpu_is_refused_unless_mixed(
    workplace: Path, pictures_dir: Path, unet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The arithmetic is the CPU's; the name of the GPU is what Slurm may change between two attempts."""
    asked = request(pictures_dir, ("test-unet",), models_from=(str(unet),), name="far", test_images=1)

    def on(gpu: str, callbacks: RunCallbacks) -> tuple[PreparedRun, WorkUnit]:
        where = {"device": "cuda", "precision": "fp32", "gpu": gpu, "cuda": "13.2", "cudnn": 91900}
        monkeypatch.setattr(Compute, "numerics", lambda _: where)
        prepared = prepare_run(asked, callbacks)
        (key,) = {cell.training.key for cell in prepared.plan.cells if cell.training}
        unit = find_unit(prepared, key)
        assert unit is not None
        return prepared, unit

    def trained_on() -> list[Any]:
        (config,) = Path("runs/far/trainings").glob("*/config.json")
        return [where["gpu"] for where in json.loads(config.read_text())["where"]]

    prepared, unit = on("Tesla T4", Preempted())
    with pytest.raises(InterruptedTrainingError):
        run_unit(prepared, unit)

    prepared, unit = on("NVIDIA A100", RunCallbacks())
    refused = run_unit(prepared, unit)
    assert refused.state == "failed"
    (failure,) = refused.failures.values()
    assert "was begun on another machine (gpu Tesla T4, here NVIDIA A100); give it" in failure.reason
    assert "--mixed" in failure.reason
    assert read_outcome(prepared.context.store, unit) == refused  # for the head, which watches the folder
    assert trained_on() == ["Tesla T4"]

    # Resumed where that was asked for, and both are recorded.
    assert run_unit(prepared, unit, mixed=True).state == "done"
    assert trained_on() == ["Tesla T4", "NVIDIA A100"]
