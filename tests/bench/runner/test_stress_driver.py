"""The moments of the slow sessions exist: a renamed function fails here, not only in a session that runs rarely."""

from __future__ import annotations

from typing import Any

import pytest

from bench.training.optimizers import Optimizers
from tests.bench.runner import stress_driver


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize(
    "kind",
    [
        *(
            "step",
            "phase",
            "checkpoint write",
            "checkpoint closed",
            "rename",
            "removal",
            "packing",
            "evaluation",
        ),
        *("result write", "report write"),
    ],
)
def test_a_moment_names_a_function_that_exists(
    monkeypatch: pytest.MonkeyPatch, kind: str, number: int
) -> None:
    armed: list[str] = []

    def call_until(owner: Any, name: str, count: int, *, after: bool = False) -> None:
        assert callable(getattr(owner, name))
        armed.append(name)

    monkeypatch.setattr(stress_driver, "call_until", call_until)
    original = Optimizers.enter_phase
    monkeypatch.setattr(Optimizers, "enter_phase", original)
    stress_driver.arm(kind, number)
    assert armed or Optimizers.enter_phase is not original
