"""Check the whole contract of a model: what a network alone can show, that it trains, and that it resumes."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from bench.training.data_loader import StepBatches
from bench.training.device import Compute
from bench.training.metric_logger import NonFiniteLossError
from bench.training.phase_schedule import Intervals, Schedule
from bench.training.trainer import Trainer
from models import contract_checks
from models.base import Batch, Budget
from models.errors import MissingPackageError, MissingWeightsError, UnsupportedSizeError
from models.registry import ModelEntry

#: Steps of every phase in which a loss must stay finite.
_TRAINED_STEPS = 10


def check_model(entry: ModelEntry, size: int) -> Iterator[contract_checks.CheckResult]:
    """Run every check of :mod:`models.contract_checks`; then train and resume, at ``size``, preset ``smoke``."""
    try:
        entry.model.requirements(entry.config("smoke"))
        entry.model.validate(entry.config("smoke"), size)
    except (UnsupportedSizeError, MissingWeightsError, MissingPackageError) as error:
        yield contract_checks.CheckResult(f"refused: {error}", None)
        return
    results = []
    # Yielded one by one, since a check takes seconds and is shown as it ends.
    for result in contract_checks.run_checks(entry, size):
        results.append(result)
        yield result
    if not entry.model.trained:
        return
    # A model that cannot make one step would fail the next checks for the same reason, and longer.
    sound = not any(result.skipped for result in results)
    for name, check in {"training stays finite": check_training, "resume": check_resume}.items():
        if not sound:
            yield contract_checks.CheckResult(name, None, skipped=True)
            continue
        try:
            problem = check(entry, size)
            # A training fails in what its loss returned; which line of the model made it so, nothing here knows.
            where = (
                contract_checks.source_line(entry.model.loss) if problem and check is check_training else ""
            )
            result = contract_checks.CheckResult(name, problem, where)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}".splitlines()[0]
            result = contract_checks.CheckResult(name, problem, contract_checks.failing_line(entry, error))
        sound = result.passed
        yield result


def check_training(entry: ModelEntry, size: int) -> str | None:
    """Train ten steps of every phase; a loss that is not finite is named with its step."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            _trainer(entry, size, Path(folder), steps=_TRAINED_STEPS).train()
        except NonFiniteLossError as error:
            # Up to the semicolon: the rest speaks of checkpoints, in a folder that is gone when the message
            # is read.
            return str(error).split(";")[0]
    return None


class _KilledError(Exception):
    """Stands for SIGKILL."""


def _killing(batches: Callable[[int], Batch], at: int) -> Callable[[int], Batch]:
    def batch(step: int) -> Batch:
        if step == at:
            raise _KilledError
        return batches(step)

    return batch


def check_resume(entry: ModelEntry, size: int) -> str | None:
    """Check that a training killed in the middle and resumed ends with the weights of an undisturbed one."""
    with tempfile.TemporaryDirectory() as folder:
        whole = _trainer(entry, size, Path(folder) / "whole")
        whole.train()
        first = _trainer(entry, size, Path(folder) / "halves")
        # Before the step and not in it, so that the last checkpoint is of the step before.
        first.batches = StepBatches(1, _killing(first.batches, first.schedule.num_steps // 2))
        with contextlib.suppress(_KilledError):
            first.train()
        second = _trainer(entry, size, Path(folder) / "halves")
        second.train()
    left, right = whole.model.networks.state_dict(), second.model.networks.state_dict()
    for name in left:
        if not torch.equal(left[name], right[name]):
            return (
                f"resumed training differs in {name}: state is kept outside of networks, "
                "or something is drawn from a generator other than batch.generator"
            )
    return None


def _trainer(entry: ModelEntry, size: int, folder: Path, *, steps: int = 2) -> Trainer:
    case = contract_checks.build_case(entry, size)
    schedule = Schedule(case.model.phases(Budget(num_steps=1, steps_per_phase=steps)))

    def batches(step: int) -> Batch:
        # By step and not one generator for all: a resumed training draws what an undisturbed one draws.
        return replace(case.batch, step=step, generator=torch.Generator().manual_seed(step))

    compute = Compute(torch.device("cpu"), "fp32")
    return Trainer(
        case.model,
        schedule,
        StepBatches(len(case.batch), batches),
        compute,
        folder,
        # A checkpoint after every step, so that the killed training resumes exactly where it stopped.
        intervals=Intervals(report=1, checkpoint=1),
    )
