"""The estimate before a run: what is paid in seconds grows with what else the processor does."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bench.config import Request, resolve_config
from bench.runner import estimate
from bench.runner.callbacks import RunCallbacks
from bench.runner.prepare import prepare_run


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
