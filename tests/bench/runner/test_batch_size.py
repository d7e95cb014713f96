"""``--batch auto``: the largest batch under a fake limit, one for all models, settled once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from bench.data import DataSpec, open_data
from bench.errors import BenchError
from bench.runner import batch_size
from bench.runner.batch_size import fits_in_memory, largest_fitting
from bench.runner.context import RunContext
from bench.runner.plan import build_plan, load_models
from bench.runner.run import run_experiment
from bench.runner.run_folder import RunFolder
from bench.training.device import Compute
from models.base import Batch
from tests.bench.runner.test_run import Recorder, request

CPU = Compute(torch.device("cpu"), "fp32")


@given(room=st.integers(0, 3000), limit=st.integers(0, 3000))
@example(room=8, limit=72)
def test_the_largest_is_what_a_search_of_all_finds(room: int, limit: int) -> None:
    asked: list[int] = []

    def fits(images: int) -> bool:
        asked.append(images)
        return images <= room

    found = largest_fitting(fits, limit)
    allowed = [n for n in range(1, limit + 1) if n <= room and (n <= 8 or n % 8 == 0)]
    assert found == max(allowed, default=0)
    assert len(asked) <= 24
    assert max(asked, default=0) <= max(4 * room + 16, 1)  # never far beyond what fits


class Noting(Recorder):
    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_auto_is_one_number_for_the_experiment_and_is_told(
    workplace: Path, pictures_dir: Path, unet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_size, "training_bytes", lambda *a: float(a[-1]))
    monkeypatch.setattr(batch_size, "free_bytes", lambda _: 11 / batch_size._SHARE)  # eleven images
    asked = request(
        pictures_dir, ("test-unet",), models_from=(str(unet),), batch="auto", images_seen=1600, name="auto"
    )
    asked = replace(asked, settings=replace(asked.settings, steps_per_phase=1))
    callbacks = Noting()
    store = run_experiment(asked, callbacks).store
    assert "--batch auto: 8 images a step, the largest that fits." in callbacks.notes
    manifest = store.read_manifest()
    assert manifest is not None
    assert manifest["settings"]["batch"] == 8
    # The same command later, with more room: the experiment goes on as it is.
    monkeypatch.setattr(batch_size, "free_bytes", lambda _: 1e12)
    again = Noting()
    assert run_experiment(asked, again).failed == 0
    assert again.trained == []


def test_a_model_that_needs_several_images_is_among_the_trials(
    workplace: Path, pictures_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Context Encoder's batch normalization refuses a single image; the batch must fit it all the same."""
    tried: list[str] = []

    def counted(model: Any, *arguments: Any) -> float:
        tried.append(model.__name__)
        return float(arguments[-1])

    monkeypatch.setattr(batch_size, "training_bytes", counted)
    monkeypatch.setattr(batch_size, "free_bytes", lambda _: 5 / batch_size._SHARE)  # five images
    asked = request(pictures_dir, ("context-encoder", "glcic"), batch="auto", images_seen=1600)
    data = open_data(DataSpec(source=str(pictures_dir), size=64))
    context = RunContext(asked, data, CPU, RunFolder("auto"), Recorder())
    assert batch_size.resolve_auto_batch_size(context, load_models(asked)).batch == 5
    assert set(tried) == {"ContextEncoder", "GLCIC"}


def test_one_image_of_such_a_model_fits_if_two_do(
    workplace: Path, pictures_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(pictures_dir, ("context-encoder",), batch=2)
    data = open_data(DataSpec(source=str(pictures_dir), size=64))
    context = RunContext(asked, data, CPU, RunFolder("trial"), Recorder())
    (plan,) = build_plan(context, load_models(asked), data.test).trainings
    assert fits_in_memory(plan, 1, CPU)
    assert fits_in_memory(plan, 2, CPU)


def test_not_even_one_is_a_clear_error(
    workplace: Path, pictures_dir: Path, unet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_size, "free_bytes", lambda _: 0.0)
    asked = request(pictures_dir, ("test-unet",), models_from=(str(unet),), batch="auto")
    with pytest.raises(BenchError, match="--batch auto: not even one image fits"):
        run_experiment(asked, Recorder())


@pytest.mark.parametrize("room", [3, 8])
def test_a_trial_steps_through_every_phase(
    workplace: Path, pictures_dir: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """What a GPU is asked: a later phase alone may be the one that does not fit."""
    from models.glcic import GLCIC

    loss = GLCIC.loss

    def limited(
        self: Any, network: str, batch: Batch, completion: Any, phase: Any
    ) -> dict[str, torch.Tensor]:
        if phase.name == "joint" and len(batch) > room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss(self, network, batch, completion, phase)

    monkeypatch.setattr(GLCIC, "loss", limited)
    asked = request(pictures_dir, ("glcic",))
    data = open_data(DataSpec(source=str(pictures_dir), size=64))
    context = RunContext(asked, data, CPU, RunFolder("trial"), Recorder())
    (plan,) = build_plan(context, load_models(asked), data.test).trainings
    assert largest_fitting(lambda n: fits_in_memory(plan, n, CPU), 8) == room
