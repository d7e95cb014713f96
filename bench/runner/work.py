"""A unit of work: one training, or one fitted baseline, with the cells that rest on it.

Whoever computes a unit owns its folder (:mod:`bench.runner.ownership`), leaves its results where the run looks for them
(``trainings/``, ``cells/``), and says in ``units/<unit>/unit.json`` how it ended. A unit is planned by *what* it
computes, so a machine without a GPU can plan it for one that has one; *where* it was computed is recorded there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import socket
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import masks.registry
from bench.child_processes import safe_path
from bench.config import Request, RunConfig
from bench.errors import BenchError, DiskError, UsageError
from bench.evaluation import evaluator, stochastic_samples
from bench.runner import cell_files
from bench.runner.context import RunContext
from bench.runner.keys import describe_where
from bench.runner.ownership import Ownership, is_lost, read_owner
from bench.runner.plan import Cell
from bench.runner.prepare import PreparedRun
from bench.runner.run_folder import (
    RunFolder,
    check_name,
    read_checked_json,
    remove_folder,
    write_checked_json,
    write_json,
)
from bench.runner.train import TrainedModel, recorded_where, train_model
from bench.training.device import is_out_of_memory
from bench.training.signals import InterruptedTrainingError
from bench.training.train_step import OutOfMemoryError
from models.errors import ModelError

UnitState = Literal["done", "failed", "interrupted", "out of memory"]


class WrongMachineError(BenchError):
    """A training was begun on other hardware or software than this, and mixing was not asked for."""


@dataclass(frozen=True)
class WorkUnit:
    """A training, or a fitted baseline, with its open cells.

    Attributes:
        key: digest of what is trained or fitted.
        slug: readable start of its folder's name.
        label: the model as tables show it.
        cells: that lack something, in table order.
        num_steps: of its training; 0 for a baseline.
    """

    key: str
    slug: str
    label: str
    cells: tuple[Cell, ...]
    num_steps: int

    @property
    def name(self) -> str:
        """Name of its folder in ``units/``."""
        return f"{self.slug}-{self.key[:12]}"

    def folder(self, store: RunFolder) -> Path:
        """Return where its owner and its outcome are recorded."""
        return store.folder / "units" / self.name

    def as_json(self) -> dict[str, Any]:
        """Return what ``bench run --plan-only --json`` lists."""
        cells = [{"key": c.key, "mask": c.mask, "seed": c.seed} for c in self.cells]
        return {
            "what": self.key,
            "name": self.name,
            "label": self.label,
            "steps": self.num_steps,
            "cells": cells,
        }


@dataclass(frozen=True)
class CellFailure:
    """Why a cell failed, with its traceback."""

    reason: str
    error: str


@dataclass(frozen=True)
class UnitOutcome:
    """How a unit ended.

    Attributes:
        state: ``failed`` where at least one of its cells failed; ``out of memory`` where it did not fit beside others.
        failures: key of a cell -> why.
        host: the machine.
        seconds: from its start to its end.
    """

    state: UnitState
    failures: Mapping[str, CellFailure] = field(default_factory=dict)
    host: str = ""
    seconds: float = 0.0


def open_units(prepared: PreparedRun, saved: Mapping[str, cell_files.SavedCell | None]) -> list[WorkUnit]:
    """Return the units that have something left to compute, in table order.

    Args:
        prepared: the run.
        saved: key of a cell -> the cell as it is stored.
    """
    cells: dict[str, list[Cell]] = {}
    for cell in prepared.plan.cells:
        # Cells of failed model files and cells that do not apply are no work, and are recorded by the run
        # itself.
        if cell.training and cell.what and cell_files.lacking_metrics(prepared, saved[cell.key]) is not None:
            cells.setdefault(cell.training.key, []).append(cell)
    units = []
    for key, members in cells.items():
        plan = members[0].training
        assert plan is not None
        steps = plan.budget.num_steps if members[0].trained else 0
        units.append(WorkUnit(key, plan.slug, plan.label, tuple(members), steps))
    return units


def find_unit(prepared: PreparedRun, key: str) -> WorkUnit | None:
    """Return the unit of a key, or of the start of one; ``None`` if it has nothing left to compute.

    Raises:
        UsageError: the run has no such unit, or several whose keys start so.
    """
    known = {
        cell.training.key
        for cell in prepared.plan.cells
        if cell.training and cell.training.key.startswith(key)
    }
    if len(known) != 1:
        raise UsageError(
            f"--what {key}: {'several units begin so' if known else 'this run has no such unit'}"
        )
    # Read on this machine, at this time: what another worker has finished since is not computed again.
    saved = {cell.key: read_saved_cell(prepared, cell) for cell in prepared.plan.cells if cell.what}
    return next((unit for unit in open_units(prepared, saved) if unit.key in known), None)


class CellComputer:
    """Computes cells one after the other: the part of a run that every process shares.

    A model stays in memory while cells of its training follow each other, and so do the masks of the test images.
    """

    def __init__(self, prepared: PreparedRun) -> None:
        self._prepared, self._context = prepared, prepared.context
        self._trained: TrainedModel | None = None
        self._tests: dict[str, evaluator.TestSet] = {}

    def train(self, cell: Cell, *, index: int = 0, of: int = 0) -> TrainedModel:
        """Train, fit or load what the cell rests on."""
        assert cell.training is not None
        if self._trained is None or self._trained.plan.key != cell.training.key:
            # Two models side by side would double the peak, and the peak of the second would count the first.
            self._trained = None  # free the last model's memory first
            with self._compiling(cell):
                self._trained = train_model(cell.training, self._context, index=index, of=of)
        return self._trained

    def measure(
        self, cell: Cell, metrics: Sequence[str]
    ) -> tuple[evaluator.EvaluationResult, stochastic_samples.SampleSpread | None]:
        """Complete the test images with what :meth:`train` gave last, and measure ``metrics``.

        Returns:
            The result, and how the samples differ where the cell has several.
        """
        assert self._trained is not None
        callbacks = self._context.callbacks

        def progress(done: int, total: int) -> None:
            callbacks.evaluating(cell.label, cell.mask, done, total)

        model, test, compute = self._trained.model, self.test_set(cell.mask), self._context.compute
        # In the order of the run's metrics, whatever order the lacking ones are in, so that columns do not move.
        ready = {name: function for name, function in self._prepared.metrics.items() if name in metrics}
        sets = [metric for metric in self._prepared.sets if metric.info.name in metrics]
        with self._compiling(cell):
            if cell.samples > 1:
                return stochastic_samples.evaluate_samples(
                    model, test, compute, ready, cell.samples, sets=sets, on_progress=progress
                )
            return evaluator.evaluate_model(
                model, test, compute, ready, sets=sets, on_progress=progress
            ), None

    def _compiling(self, cell: Cell) -> contextlib.AbstractContextManager[None]:
        """Return the context in which networks may be compiled, by processes that ``torch.compile`` starts."""
        settings = self._context.request.settings
        # A program of the user's (exec:FILE) is not trained, and keeps the user's environment.
        trained = cell.training is not None and cell.training.entry.model.trained
        return (
            safe_path()
            if trained and (settings.compile or settings.cuda_graphs)
            else contextlib.nullcontext()
        )

    def save(
        self, cell: Cell, metrics: Sequence[str], before: cell_files.SavedCell | None
    ) -> cell_files.SavedCell:
        """Measure ``metrics`` and store the cell; what ``before`` has besides is kept."""
        result, spread = self.measure(cell, metrics)
        assert self._trained is not None
        saved = cell_files.save_cell(
            self._prepared, cell, self._trained, result, self.test_set(cell.mask), before, spread
        )
        means = {name: float(saved.rows[name].mean()) for name in self._prepared.metrics}
        self._context.callbacks.cell_done(cell.label, cell.mask, means)
        return saved

    def test_set(self, mask: str) -> evaluator.TestSet:
        """Return the test images with the masks of ``mask``."""
        # Kept for the run: every cell of a mask has the same images and masks.
        if mask not in self._tests:
            images = self._prepared.test_images
            drawn = masks.registry.draw_masks(mask, images.ids, self._context.data.size)
            shown = evaluator.image_sample(len(images.ids))
            self._tests[mask] = evaluator.TestSet(images, drawn, shown, face_box=self._context.data.face_box)
        return self._tests[mask]


def read_saved_cell(prepared: PreparedRun, cell: Cell) -> cell_files.SavedCell | None:
    """Read a finished cell; files that are damaged are removed with a warning."""
    folder = prepared.context.store.cell(cell.slug, cell.key)
    try:
        return cell_files.load_cell(folder, cell, prepared.test_images.ids)
    except cell_files.DamagedCellError as error:
        prepared.context.callbacks.warn(f"{error}; evaluating {cell.label} on {cell.mask} again")
        # The folder goes as a whole: a damaged file beside a sound one would be found damaged again next
        # time.
        remove_folder(folder)
        return None


def describe_failure(error: Exception, store: RunFolder) -> CellFailure:
    """Return what a cell's failure is recorded as; call it while ``error`` is handled.

    Raises:
        DiskError: nothing can be written any more, which ends the run instead.
    """
    # No space, no quota, a read-only file system: the next cell could not be stored either.
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        raise DiskError(f"cannot write to {store.folder}: {error.strerror}") from error
    # What was foreseen has a message of its own; of anything else, the type is half of the message.
    foreseen = isinstance(error, BenchError | ModelError)
    reason = str(error) if foreseen else f"{type(error).__name__}: {error}"
    return CellFailure(reason, traceback.format_exc())


def run_unit(
    prepared: PreparedRun,
    unit: WorkUnit,
    *,
    mixed: bool = False,
    index: int = 1,
    of: int = 1,
    wait_seconds: float = 0.0,
) -> UnitOutcome:
    """Compute what a unit lacks, as its only owner, and record how that ended.

    Args:
        prepared: the run, on this machine.
        unit: one of its units.
        mixed: resume a training that was begun on other hardware or software.
        index: which of the run's units this is, from 1; for the callbacks.
        of: how many there are.
        wait_seconds: time to wait for another owner, which may be lost.

    Raises:
        OwnedElsewhereError: another process computes it.
        InterruptedTrainingError: on a signal, after a checkpoint.
        DiskError: nothing can be written any more.
    """
    context, began = prepared.context, time.monotonic()
    folder = unit.folder(context.store)

    def ended(state: UnitState, failures: Mapping[str, CellFailure] | None = None) -> UnitOutcome:
        outcome = UnitOutcome(state, failures or {}, socket.gethostname(), time.monotonic() - began)
        write_checked_json(folder / "unit.json", dataclasses.asdict(outcome) | {"what": unit.key})
        return outcome

    if wait_seconds and (owner := read_owner(folder / "owner")) and not is_lost(folder / "owner", owner):
        context.callbacks.note(
            f"{unit.label} is being worked on by {owner}; waiting up to {wait_seconds:.0f} s for its end"
        )
    with Ownership(folder / "owner", wait_seconds=wait_seconds):
        # A record of an earlier attempt must not be taken for the outcome of this one if this process is
        # killed.
        (folder / "unit.json").unlink(missing_ok=True)
        computer, failures = CellComputer(prepared), {}
        try:
            # Inside of the ownership, and recorded: whoever waits for the unit learns why it was refused.
            _refuse_other_machine(unit, context, mixed=mixed)
            computer.train(unit.cells[0], index=index, of=of)
        except InterruptedTrainingError:
            ended("interrupted")
            raise
        except (UsageError, DiskError):
            raise
        except Exception as error:
            # Kept apart from failures: alone on the device, the unit may fit.
            if isinstance(error, OutOfMemoryError) or is_out_of_memory(error):
                return ended(
                    "out of memory", {c.key: describe_failure(error, context.store) for c in unit.cells}
                )
            failure = describe_failure(error, context.store)
            return ended("failed", {cell.key: failure for cell in unit.cells})
        for cell in unit.cells:
            # Read again after the training, which may have taken days: another machine may have evaluated
            # meanwhile.
            saved = read_saved_cell(prepared, cell)
            lacking = cell_files.lacking_metrics(prepared, saved)
            if lacking is None:
                continue
            try:
                computer.save(cell, lacking, saved)
            except (UsageError, DiskError):
                raise
            except Exception as error:
                failures[cell.key] = describe_failure(error, context.store)
        return ended("failed" if failures else "done", failures)


def read_outcome(store: RunFolder, unit: WorkUnit) -> UnitOutcome | None:
    """Return how a unit ended; ``None`` where it has not, or its record is damaged."""
    try:
        record = read_checked_json(unit.folder(store) / "unit.json")
        # A folder's name holds the start of the key only; the whole key is in the record.
        if record.pop("what") != unit.key:
            return None
        failures = {key: CellFailure(**failure) for key, failure in record.pop("failures").items()}
        return UnitOutcome(failures=failures, **record)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _refuse_other_machine(unit: WorkUnit, context: RunContext, *, mixed: bool) -> None:
    """Refuse to resume on other hardware or software: the numbers would be neither machine's."""
    folder = context.store.training(unit.slug, unit.key)
    # Where there is no checkpoint, nothing has been begun that a change of machine could mix.
    where = recorded_where(folder)
    if where and where[-1] != context.where and not mixed:
        differences = "; ".join(describe_where(where[-1], context.where))
        raise WrongMachineError(
            f"{unit.label} was begun on another machine ({differences}); give it a machine of the same kind, "
            "or --mixed to resume it here"
        )


# The request as it travels: a worker is given the request and the key of a unit, never state.


def portable_request(context: RunContext) -> tuple[Request, Path]:
    """Return what another process needs to prepare the same run: the request under its name, and the root folder."""
    # One job, and without options: those are the record of the command that a user gave, which this is not.
    request = dataclasses.replace(context.request, name=context.store.name, jobs=1, options={})
    return request, context.store.root


def write_request(request: Request, root: Path) -> Path:
    """Write a request into its experiment's folder, for ``bench work``, and return the path."""
    assert request.name is not None
    path = RunFolder(request.name, root).folder / "request.json"
    write_json(path, request_as_json(request))
    return path


def request_as_json(request: Request) -> dict[str, Any]:
    """Return a request as plain JSON values; :func:`request_from_json` reads it."""
    return dataclasses.asdict(request) | {"settings": request.settings.as_dict()}


def request_from_json(value: Any) -> Request:
    """Read what :func:`request_as_json` gave.

    Raises:
        UsageError: the value is of another version, or none of a request.
    """
    try:
        # Looked at first: Python's own words for a text or a list here would say nothing of a request.
        if not (isinstance(value, dict) and isinstance(value.get("settings"), dict)):
            raise TypeError("it is no object that holds an object 'settings'")
        known = {field.name for field in dataclasses.fields(Request)}
        if unknown := sorted(value.keys() - known):
            raise TypeError(f"this version knows no field {unknown[0]!r}")
        # It becomes a folder's, so it is looked at before the images are opened.
        if isinstance(value.get("name"), str):
            check_name(value["name"])
        settings = dict(value["settings"])
        # JSON has no tuples, and settings compare and hash by type. What is no list is refused by its type.
        for name in ("seeds", "metrics"):
            settings[name] = _as_tuple(settings[name])
        fields = {**value, "settings": RunConfig(**settings)}
        for name in ("models", "masks", "models_from", "command"):
            fields[name] = _as_tuple(fields[name])
        return Request(**fields)
    except KeyError as error:
        raise UsageError(f"the request is not readable: it has no {error}") from error
    except (TypeError, ValueError, AttributeError, UsageError) as error:
        raise UsageError(f"the request is not readable: {error}") from error


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
