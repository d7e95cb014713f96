"""The estimate before a run: what is paid in seconds grows with what else the processor does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.config import Request, resolve_config
from bench.profiling.flops import shapes_only
from bench.runner import estimate
from bench.runner.callbacks import RunCallbacks
from bench.runner.prepare import prepare_run
from bench.training.checkpoint import newest_step, save_checkpoint


def clocks(share: float) -> tuple[Callable[[], float], Callable[[], float]]:
    """Clocks of a thread that gets ``share`` of a processor."""
    passed = 0.0

    def used() -> float:
        nonlocal passed
        passed += 0.01
        return passed * share

    return lambda: passed, used


@pytest.mark.parametrize(("share", "slower"), [(1.0, 1.0), (0.5, 2.0), (0.125, 8.0)])
def test_contention_is_the_time_that_passes_for_a_second_of_work(share: float, slower: float) -> None:
    clock, used = clocks(share)
    assert estimate.processor_contention(clock, used) == pytest.approx(slower, rel=0.3)


def test_contention_is_never_below_one() -> None:
    clock, used = clocks(4.0)
    assert estimate.processor_contention(clock, used) == 1.0


def test_what_is_paid_in_seconds_is_scaled_by_it(
    workplace: object, pictures_dir: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = resolve_config("smoke", {"size": 32, "test_images": 2})
    request = Request(
        models=("mean",), masks=("center",), data=str(pictures_dir), settings=settings, name="x"
    )
    prepared = prepare_run(request, RunCallbacks())
    cells = [cell for cell in prepared.plan.cells if cell.what]

    def seconds(slower: float) -> float:
        monkeypatch.setattr(estimate, "processor_contention", lambda: slower)
        found = estimate.estimate_run([], cells, 2, prepared.context.compute)
        assert found is not None
        return sum(found.evaluations) + found.overhead

    alone = seconds(1.0)
    assert alone > 3.0
    assert seconds(6.0) == pytest.approx(6 * alone, rel=0.02)


def test_steps_that_are_done_are_not_estimated_again(
    workplace: Path, pictures_dir: Path, unet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = resolve_config("smoke", {"size": 32, "test_images": 2})
    request = Request(
        models=("test-unet",),
        models_from=(str(unet),),
        masks=("center",),
        data=str(pictures_dir),
        settings=settings,
        name="x",
    )
    prepared = prepare_run(request, RunCallbacks())
    monkeypatch.setattr(estimate, "processor_contention", lambda: 0.0)
    monkeypatch.setattr(estimate, "matrix_rate", lambda _: 1e9)
    (plan,) = [cell.training for cell in prepared.plan.cells if cell.training]
    total = shapes_only(plan.entry.model, plan.config, plan.task).phases(plan.budget)[0].num_steps

    def seconds(done: int) -> float:
        found = estimate.estimate_run(
            [plan], prepared.plan.cells, 2, prepared.context.compute, {plan.key: done}
        )
        assert found is not None
        return found.trainings[0]

    assert seconds(total // 2) == pytest.approx(seconds(0) * (total - total // 2) / total)
    assert seconds(total) == 0


def test_the_newest_step_is_in_the_names(tmp_path: Path) -> None:
    assert newest_step(tmp_path) == 0
    for step in (3, 20):
        save_checkpoint(tmp_path, step, {"step": step})
    assert newest_step(tmp_path) == 20
