"""A head plans and watches what other machines compute: it needs neither their device nor their precision."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch

from bench.config import Request, resolve_config
from bench.errors import UsageError
from bench.runner.callbacks import RunCallbacks
from bench.runner.prepare import PreparedRun, prepare_run
from bench.runner.run import run_experiment
from bench.runner.run_folder import RunFolder
from bench.runner.work import CellFailure, WorkUnit, find_unit, run_unit


class Worker:
    """Computes units in this process, as a machine would that has the device."""

    def __init__(self) -> None:
        self.precision = ""
        self.asked: list[str] = []

    def prepare_data(self, request: Request, store: RunFolder, callbacks: RunCallbacks) -> None:
        self.asked.append(store.name)

    def __call__(self, prepared: PreparedRun, units: Sequence[WorkUnit]) -> Mapping[str, CellFailure]:
        assert prepared.context.request.device == "cuda", "the jobs must be asked for what the user asked for"
        here = dataclasses.replace(prepared.context.request, device="cpu")
        own = prepare_run(here, RunCallbacks(), prepared.context.store.root)
        self.precision = own.context.compute.precision
        for planned in units:
            unit = find_unit(own, planned.key)
            assert unit is not None
            run_unit(own, unit)
        return {}


class Listener(RunCallbacks):
    """Keeps warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.mark.long
@pytest.mark.skipif(torch.cuda.is_available(), reason="a machine without a GPU is meant")
def test_a_head_without_a_gpu_asks_for_one(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = resolve_config("smoke", {"test_images": 4, "images_seen": 8, "batch": 4})
    request = Request(
        models=("context-encoder",), masks=("center",), settings=settings, device="cuda", name="far"
    )
    with pytest.raises(UsageError, match="torch finds no CUDA device here"):
        run_experiment(request, RunCallbacks())

    worker, listener = Worker(), Listener()
    outcome = run_experiment(request, listener, on=worker)
    assert worker.asked == ["far"]
    assert outcome.failed == 0
    manifest = outcome.store.read_manifest()
    assert manifest is not None
    (cell,) = manifest["cells"]
    assert cell["status"] == "done"
    # What is recorded is what computed the cells, not the head.
    assert manifest["settings"]["precision"] == worker.precision == cell["where"]["precision"]
    assert manifest["hardware"]["computed by"] == "jobs of a scheduler"
    assert manifest["hardware"]["device"] == "cpu"
    assert not [text for text in listener.warnings if "computed on other software or hardware" in text]

    # Given again, there is nothing to compute; on a machine that computes, the cell is known too.
    again = Worker()
    run_experiment(request, RunCallbacks(), on=again)
    assert again.precision == ""
    local = dataclasses.replace(request, device="cpu")
    assert run_experiment(local, RunCallbacks()).failed == 0

    # A lost manifest is rebuilt by a head that cannot know the precision.
    outcome.store.manifest_path.unlink()
    run_experiment(request, RunCallbacks(), on=again)
    rebuilt = outcome.store.read_manifest()
    assert rebuilt is not None
    assert [c["status"] for c in rebuilt["cells"]] == ["done"]
    assert again.precision == ""
