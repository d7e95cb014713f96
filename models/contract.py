"""The contract every model keeps, as far as a network alone can show it. ``bench check-model`` and the tests run it.

Each check takes a built case and returns a sentence on what is wrong, or ``None``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from models import contract
from models.contract import Case, build
from models.registry import ModelEntry

__all__ = ["CHECKS", "Case", "Finding", "build", "run"]


@dataclass(frozen=True)
class Finding:
    """The outcome of one check; ``problem`` is ``None`` where it passed."""

    check: str
    problem: str | None


CHECKS: dict[str, Callable[[Case], str | None]] = {
    "shapes": contract.shapes,
    "known pixels": contract.known_pixels,
    "hole independence": contract.hole_independence,
    "finite range": contract.finite_range,
    "phases": contract.phases,
    "gradients": contract.gradients,
    "bfloat16": contract.bfloat16,
    "repeatable": contract.repeatable,
    "DDP: networks are called": contract.networks_are_called,
    "DDP: every parameter, every step": contract.every_parameter_every_step,
    "DDP: halves average to the whole": contract.halves_average_to_the_whole,
    "DDP: state is registered": contract.state_is_registered,
}


def run(entry: ModelEntry, size: int, preset: str = "smoke", **changes: Any) -> Iterator[Finding]:
    """Every check on a model of its own, so that none sees what another left behind."""
    for name, check in CHECKS.items():
        try:
            problem = check(build(entry, size, preset, **changes))
        except Exception as error:  # a check that raises is a finding, with the model's own words
            problem = f"{type(error).__name__}: {error}"
        yield Finding(name, problem)
