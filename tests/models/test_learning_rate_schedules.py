"""The registry of learning-rate schedules."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise

import pytest

from models.base import OptimizerSpec
from models.learning_rate_schedules import SCHEDULES, schedule_factor


@pytest.mark.parametrize("name", list(SCHEDULES))
def test_every_schedule_starts_at_the_base_rate_and_never_rises(name: str) -> None:
    factors = [schedule_factor(name, step, 100) for step in range(100)]
    assert factors[0] == 1.0
    assert all(0 <= after <= before for before, after in pairwise(factors))


def test_linear_is_the_rate_that_earlier_versions_used() -> None:
    spec = OptimizerSpec(name="adam", learning_rate=4e-4, schedule="linear")
    assert [spec.learning_rate_at(step, 100) for step in range(100)] == [
        4e-4 * (1.0 - step / 100) for step in range(100)
    ]


def test_an_unknown_schedule_is_refused_where_it_is_named() -> None:
    with pytest.raises(
        ValueError, match="unknown learning-rate schedule 'exponential': choose from constant"
    ):
        OptimizerSpec(name="adam", learning_rate=1e-3, schedule="exponential")


def test_the_names_are_known_without_importing_torch() -> None:
    code = "import models.learning_rate_schedules, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
