"""The main job: train what is not trained, evaluate what is not evaluated, keep the manifest true throughout."""

from __future__ import annotations

import dataclasses
import errno
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import masks.registry
from bench.config import Request
from bench.errors import BenchError, DiskError, UsageError
from bench.evaluation import evaluator
from bench.runner import cell_files, estimate, manifest_writer
from bench.runner.callbacks import RunCallbacks
from bench.runner.launchers import TrainingFailure, train_in_parallel
from bench.runner.plan import Cell
from bench.runner.prepare import PreparedRun, prepare_run
from bench.runner.run_folder import RunFolder, remove_folder
from bench.runner.train import TrainedModel, train_model
from bench.training.metric_logger import NonFiniteLossError
from bench.training.signals import InterruptedTrainingError
from models.errors import ModelError


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended: its store and the number of cells that failed.

    ``is_main`` is false in a process of ``torchrun`` that only computed for the one that writes and reports.
    """

    store: RunFolder
    failed: int
    is_main: bool = True


def run_experiment(request: Request, callbacks: RunCallbacks, root: Path = Path()) -> RunOutcome:
    """Run every cell of ``request``; finished ones are taken from the run folder.

    A failing cell is recorded with its traceback and the others go on.

    Raises:
        UsageError, DataError: before anything is trained.
        InterruptedTrainingError: on a signal, after a checkpoint.
    """
    return execute_plan(prepare_run(request, callbacks, root), callbacks, root)


def execute_plan(ready: PreparedRun, callbacks: RunCallbacks, root: Path = Path()) -> RunOutcome:
    """:func:`run_experiment`, after :func:`prepare`."""
    if not ready.compute.process_group.is_main:
        _follow(ready)
        return RunOutcome(ready.store, 0, is_main=False)
    with ready.store:
        record = manifest_writer.open_or_create(
            ready.store, ready.request, ready.data, ready.test_images, ready.compute, ready.unavailable
        )
        record.expect(ready.plan)
        job = _Job(ready, callbacks, record, root)
        return RunOutcome(ready.store, job.run())


def _follow(prepared: PreparedRun) -> None:
    """Compute this process's share of whatever rank 0 trains and evaluates, until it says that all is done."""
    compute, cells = prepared.compute, prepared.plan.cells
    current: TrainedModel | None = None
    tests: dict[str, evaluator.TestSet] = {}
    while (index := compute.process_group.broadcast(-1)) >= 0:
        cell = cells[index]
        assert cell.training is not None
        try:
            if current is None or current.plan.key != cell.training.key:
                current = None
                current = train_model(
                    cell.training,
                    prepared.request,
                    prepared.data,
                    compute,
                    prepared.store,
                    RunCallbacks(),
                    index=0,
                    of=0,
                )
            if cell.mask not in tests:
                tests[cell.mask] = _test_set(prepared, cell.mask)
            evaluator.evaluate_model(
                current.model, tests[cell.mask], compute, prepared.metrics, sets=prepared.sets
            )
        except NonFiniteLossError:  # the losses are shared: every process has it at the same step
            current = None


def _test_set(prepared: PreparedRun, mask: str) -> evaluator.TestSet:
    """Test images with the masks of ``mask``."""
    images = prepared.test_images
    drawn = masks.registry.draw_masks(mask, images.ids, prepared.data.size)
    return evaluator.TestSet(images, drawn, evaluator.image_sample(len(images.ids)))


class _Job:
    """The state of one run, so that each stage below is a short method."""

    def __init__(
        self, prepared: PreparedRun, callbacks: RunCallbacks, record: manifest_writer.Manifest, root: Path
    ) -> None:
        self.prepared, self.callbacks, self.record, self.root = prepared, callbacks, record, root
        self.request = prepared.request
        self.data, self.compute, self.store = prepared.data, prepared.compute, prepared.store
        self.plan, self.ready, self.test_images = prepared.plan, prepared.metrics, prepared.test_images
        self.sets = prepared.sets
        self._tests: dict[str, evaluator.TestSet] = {}
        self._finished: dict[int, dict[str, Any] | None] = {}
        self._keys = {
            id(cell): prepared.key(cell)
            for cell in self.plan.cells
            if cell.training and not cell.not_applicable
        }

    def run(self) -> int:
        """All cells, training by training so that a model is in memory once. Returns how many failed."""
        open_cells = [
            cell for cell in self.plan.cells if id(cell) in self._keys and self._saved(cell) is None
        ]
        pending = list({c.training.key: c.training for c in open_cells if c.training and c.trained}.values())
        to_train = [t for t in pending if not TrainedModel.is_complete(self.store, t)]
        self.callbacks.planned(
            len(to_train),
            len(self.plan.cells),
            len(self._keys) - len(open_cells),
            estimate.estimate_run(to_train, open_cells, len(self.test_images.ids), self.compute),
        )
        for cell in open_cells:
            if cell.training and cell.training.fit_cost:
                self.callbacks.note(f"{cell.label} on {cell.mask}: {cell.training.fit_cost.note}")
        failed = 0
        failures: dict[str, TrainingFailure] = {}
        if self.request.jobs > 1 and len(to_train) > 1:
            request = dataclasses.replace(self.request, name=self.store.name)
            failures = train_in_parallel(request, to_train, self.compute, self.root, self.callbacks)
        trainings = {t.key: i + 1 for i, t in enumerate(to_train)}
        current: TrainedModel | None = None
        for cell in self._by_training():
            if cell.broken or cell.not_applicable:
                failed += self._record_unrun(cell)
                continue
            saved = self._saved(cell)
            if saved is not None:
                self._test_set(cell.mask)
                self.record.add(saved)
                continue
            assert cell.training is not None
            if cell.training.key in failures:
                failure = failures[cell.training.key]
                self.record.add(manifest_writer.failed_entry(cell, failure.reason, failure.error))
                self.callbacks.cell_failed(cell.label, cell.mask, failure.reason)
                failed += 1
                continue
            process_group = self.compute.process_group
            process_group.broadcast(self.plan.cells.index(cell))
            try:
                if current is None or current.plan.key != cell.training.key:
                    current = None  # free the last model's memory first
                    current = train_model(
                        cell.training,
                        self.request,
                        self.data,
                        self.compute,
                        self.store,
                        self.callbacks,
                        index=trainings.get(cell.training.key, 0),
                        of=len(to_train),
                    )
                self._evaluate(cell, current)
            except (InterruptedTrainingError, UsageError, DiskError):
                raise
            except Exception as error:
                if process_group.is_distributed and not isinstance(error, NonFiniteLossError):
                    raise  # it struck one process only, and the others wait for it: all end
                if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                    raise DiskError(f"cannot write to {self.store.folder}: {error.strerror}") from error
                foreseen = isinstance(error, BenchError | ModelError)
                reason = str(error) if foreseen else f"{type(error).__name__}: {error}"
                self.record.add(manifest_writer.failed_entry(cell, reason, traceback.format_exc()))
                self.callbacks.cell_failed(cell.label, cell.mask, reason)
                failed += 1
        self.compute.process_group.broadcast(-1)
        self.record.finish(self.plan)
        if elsewhere := self.record.elsewhere():
            self.callbacks.warn(
                f"computed on other software or hardware than this run: {', '.join(elsewhere)}; "
                "name these models too to have all on one"
            )
        return failed

    def _by_training(self) -> list[Cell]:
        """Cells in table order, those of one training together."""
        order: dict[str, int] = {}
        for cell in self.plan.cells:
            order.setdefault(cell.training.key if cell.training else cell.model, len(order))
        return sorted(self.plan.cells, key=lambda c: order[c.training.key if c.training else c.model])

    def _evaluate(self, cell: Cell, trained: TrainedModel) -> None:
        test = self._test_set(cell.mask)
        result = evaluator.evaluate_model(
            trained.model,
            test,
            self.compute,
            self.ready,
            sets=self.sets,
            on_progress=lambda done, of: self.callbacks.evaluating(cell.label, cell.mask, done, of),
        )
        folder = self.store.cell(cell.slug, self._keys[id(cell)])
        entry = manifest_writer.done_entry(cell, folder, self.store, trained, result, self.record.numerics)
        pictures = result.pictures if self.request.pictures else None
        cell_files.save_cell(folder, cell, self.request, result.rows, entry, test, pictures, list(self.ready))
        self.record.add(entry)
        means = {name: float(result.rows[name].mean()) for name in self.ready}
        self.callbacks.cell_done(cell.label, cell.mask, means)

    def _test_set(self, mask: str) -> evaluator.TestSet:
        """Test images with the masks of ``mask``; also stores the pool's truths and masks for the report."""
        if mask not in self._tests:
            test = self._tests[mask] = _test_set(self.prepared, mask)
            self.record.add_mask(mask, test.masks)
            if self.request.pictures:
                cell_files.save_pool(self.store, mask, test)
        return self._tests[mask]

    def _saved(self, cell: Cell) -> dict[str, Any] | None:
        """The entry of a finished cell whose files are whole, or ``None``; damaged ones are removed with a word."""
        if id(cell) not in self._finished:
            folder = self.store.cell(cell.slug, self._keys[id(cell)])
            try:
                self._finished[id(cell)] = cell_files.load_cell(
                    folder, self.test_images.ids, pictures=self.request.pictures
                )
            except cell_files.DamagedCellError as error:
                self.callbacks.warn(f"{error}; evaluating {cell.label} on {cell.mask} again")
                remove_folder(folder)
                self._finished[id(cell)] = None
        return self._finished[id(cell)]

    def _record_unrun(self, cell: Cell) -> int:
        """A cell whose model does not import, or that does not apply. Returns 1 if that counts as failed."""
        if cell.broken:
            reason = cell.broken.splitlines()[0]
            self.record.add(manifest_writer.failed_entry(cell, reason, cell.broken))
            self.callbacks.cell_failed(cell.label, cell.mask, reason)
            return 1
        self.record.add(manifest_writer.not_applicable_entry(cell))
        self.callbacks.note(f"{cell.label} on {cell.mask}: not applicable: {cell.not_applicable}")
        return 0
