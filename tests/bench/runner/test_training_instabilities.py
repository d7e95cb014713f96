"""Signs of instability in a training's log."""

from __future__ import annotations

import math
from typing import Any

from bench.runner.training_instabilities import find_instabilities


def log(discriminator: list[float], generator: list[float] | None = None) -> list[dict[str, Any]]:
    generator = generator or [1.0] * len(discriminator)
    return [
        {"step": 10 * (i + 1), "terms": {"discriminator/loss": d, "generator/loss": g}}
        for i, (d, g) in enumerate(zip(discriminator, generator, strict=True))
    ]


def test_a_sound_training_has_none() -> None:
    assert find_instabilities(log([0.9, 0.7, 0.5, 0.6, 0.4, 0.3, 0.5, 0.6])) == []
    assert find_instabilities([{"step": 1, "validation": {"psnr_db": 20.0}}]) == []


def test_a_discriminator_that_wins_for_long_is_noted_with_its_steps() -> None:
    (event,) = find_instabilities(log([0.9, 0.5, 0.004, 0.003, 0.002, 0.001, 0.001, 0.5]))
    assert (event["step"], event["kind"]) == (30, "discriminator won")
    assert "from step 30 to 70" in event["detail"]


def test_winning_once_is_not() -> None:
    assert find_instabilities(log([0.9, 0.5, 0.004, 0.5, 0.004, 0.5, 0.4, 0.5])) == []


def test_a_discriminator_at_log_4_is_undecided() -> None:
    (event,) = find_instabilities(log([math.log(4) + 0.001 * (-1) ** i for i in range(8)]))
    assert event["kind"] == "discriminator undecided"


def test_a_generator_whose_loss_explodes_is_noted_once() -> None:
    (event,) = find_instabilities(log([0.5] * 8, [1.0, 0.9, 0.8, 0.7, 0.7, 30.0, 60.0, 90.0]))
    assert (event["step"], event["kind"]) == (60, "generator diverged")


def test_damaged_lines_are_passed_over() -> None:
    sound = {"step": 3, "event": {"step": 3, "kind": "memory", "detail": "halved"}}
    damaged: list[dict[str, Any]] = [
        {"step": 1, "event": {"stgp": 1}},
        {"step": 1, "event": "x"},
        {"step": 2, "terms": [1]},
        {"step": 2, "terms": {"discriminator/loss": "0", "generator/loss": {}}},
        {"step": 2, "terms": {"discriminator/loss": None, "generator/loss": None}},
    ]
    assert find_instabilities([*damaged, sound]) == [sound["event"]]
