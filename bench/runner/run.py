"""Run an experiment: train and evaluate what is not done, and keep the manifest up to date throughout."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.config import Request
from bench.errors import DiskError, UsageError
from bench.runner import cell_entries, cell_files, estimate, manifest_writer
from bench.runner.callbacks import RunCallbacks
from bench.runner.local_jobs import run_in_slots
from bench.runner.plan import Cell, unique_trainings
from bench.runner.prepare import PreparedRun, experiment_name, prepare_run
from bench.runner.run_folder import RunFolder
from bench.runner.train import is_trained
from bench.runner.work import (
    CellComputer,
    CellFailure,
    WorkUnit,
    describe_failure,
    open_units,
    read_outcome,
    read_saved_cell,
)
from bench.training.checkpoint import newest_step
from bench.training.metric_logger import NonFiniteLossError
from bench.training.signals import InterruptedTrainingError
from reports.results.attributes import attribute_table, write_attributes
from reports.results.manifest import digests_all


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended: its folder and the number of cells that failed.

    ``is_main`` is false in a process of ``torchrun`` that only computed for the one that writes and reports.
    """

    store: RunFolder
    failed: int
    is_main: bool = True


class Launcher(Protocol):
    """Has work done by other machines."""

    def prepare_data(self, request: Request, store: RunFolder, callbacks: RunCallbacks) -> None:
        """Have the images decoded once, before the run is planned on this machine."""

    def __call__(self, prepared: PreparedRun, units: Sequence[WorkUnit]) -> Mapping[str, CellFailure]:
        """Have ``units`` computed and return when all have ended: key of a cell -> why it failed."""


def run_experiment(
    request: Request, callbacks: RunCallbacks, root: Path = Path(), *, on: Launcher | None = None
) -> RunOutcome:
    """Run every cell of ``request``; finished ones are taken from the run folder.

    A failing cell is recorded with its traceback, and the others continue.

    Args:
        request: what to run.
        callbacks: of whoever watches.
        root: what ``runs/`` and ``reports/`` lie in.
        on: has the units of work computed by other machines; here, one after the other, if not given.

    Raises:
        UsageError, DataError: before anything is trained.
        InterruptedTrainingError: on a signal, after a checkpoint.
    """
    if on is not None:
        on.prepare_data(request, RunFolder(experiment_name(request), root), callbacks)
    return execute_plan(prepare_run(request, callbacks, root, elsewhere=on is not None), on=on)


def execute_plan(prepared: PreparedRun, *, on: Launcher | None = None) -> RunOutcome:
    """Do what :func:`run_experiment` does, after :func:`bench.runner.prepare.prepare_run`."""
    store = prepared.context.store
    # Only one process opens the folder: a second would find it locked.
    if not prepared.context.compute.process_group.is_main:
        _follow(prepared)
        return RunOutcome(store, 0, is_main=False)
    with store:
        # All cells that are to come are on disk before the first is computed, so that a killed run shows what
        # is missing.
        record = manifest_writer.open_or_create(prepared)
        record.add_planned(prepared.plan)
        _keep_attributes(prepared)
        callbacks = prepared.context.callbacks
        callbacks.run_started(store.name, store.folder, prepared.context.request.options)
        failed = _Job(prepared, record, on).run()
        callbacks.run_finished(failed)
        return RunOutcome(store, failed)


def _keep_attributes(prepared: PreparedRun) -> None:
    """Keep what the data set says of the test images beside the results, for tables by attribute."""
    context = prepared.context
    if not context.data.attributes:
        return
    table = attribute_table(prepared.test_images.ids, context.data.attributes)
    try:
        write_attributes(table, context.store.folder)
    except OSError as error:
        raise DiskError(f"cannot write to {context.store.folder}: {error.strerror or error}") from error


def _follow(prepared: PreparedRun) -> None:
    """Compute this process's share of whatever rank 0 trains and evaluates, until it says that all is done."""
    # Rank 0 reports for all; two progress bars would fight over one terminal.
    silent = dataclasses.replace(prepared.context, callbacks=RunCallbacks())
    computer = CellComputer(dataclasses.replace(prepared, context=silent))
    while order := prepared.context.compute.process_group.broadcast(_Order(None)):
        assert order.cell is not None
        # The losses are shared: every process has this error at the same step.
        with contextlib.suppress(NonFiniteLossError):
            cell = prepared.plan.cells[order.cell]
            computer.train(cell)
            computer.measure(cell, order.metrics)


@dataclass(frozen=True)
class _Order:
    """What rank 0 has the other processes compute: a cell by its index, and metrics; no cell ends them."""

    cell: int | None
    metrics: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.cell is not None


class _Job:
    """The state of one run in the process that writes, so that each stage below is a short method."""

    def __init__(self, prepared: PreparedRun, record: manifest_writer.Manifest, on: Launcher | None) -> None:
        self.prepared, self.record, self._on = prepared, record, on
        self.context, self.plan = prepared.context, prepared.plan
        self.callbacks, self.store = prepared.context.callbacks, prepared.context.store
        self._computer = CellComputer(prepared)
        self._described: set[str] = set()
        self._saved = self._read_saved()
        self._failures: Mapping[str, CellFailure] = {}
        self._to_train: list[str] = []

    def run(self) -> int:
        """Compute all cells, training by training, so that a model is in memory once. Returns how many failed."""
        self._announce()
        self._launch()
        failed = sum(not self._settle(cell) for cell in self._by_training())
        # Also when every cell was done already: the others wait for this word from the start.
        self.context.compute.process_group.broadcast(_Order(None))
        # In table order at the end only; while the run goes on, cells are appended as they finish.
        self.record.finish(self.plan)
        if elsewhere := self.record.elsewhere():
            self.callbacks.warn(
                f"computed on other software or hardware than this run: {', '.join(elsewhere)}; "
                "add --recompute to compute these models here, all on one"
            )
        return failed

    def _announce(self) -> None:
        """Say what there is to do."""
        runnable = [cell for cell in self.plan.cells if cell.what]
        open_cells = [cell for cell in runnable if self._lacks(cell) is not None]
        # Asked of the cells that are open: weights that no open cell needs are not trained again.
        to_train = [plan for plan in unique_trainings(open_cells) if not is_trained(self.context, plan)]
        self._to_train = [plan.key for plan in to_train]
        images, compute = len(self.prepared.test_images.ids), self.context.compute
        store = self.context.store
        steps_done = {plan.key: newest_step(store.training(plan.slug, plan.key)) for plan in to_train}
        # How fast other machines are is not known here.
        foreseen = (
            None
            if self.context.elsewhere
            else estimate.estimate_run(to_train, open_cells, images, compute, steps_done)
        )
        done = len(runnable) - len(open_cells)
        self._tell_of_samples(runnable)
        for cell in open_cells:
            if cell.training and cell.training.fit_cost:
                self.callbacks.note(f"{cell.label} on {cell.mask}: {cell.training.fit_cost.note}")
        self.callbacks.planned(len(to_train), len(self.plan.cells), done, foreseen)

    def _tell_of_samples(self, cells: Sequence[Cell]) -> None:
        """Say which models have one completion of an image, where several are asked for."""
        asked = self.context.request.settings.samples_per_image
        alone = dict.fromkeys(cell.label for cell in cells if cell.samples == 1)
        if asked > 1 and alone:
            self.callbacks.note(
                f"--samples-per-image {asked} has no effect on {', '.join(alone)}: a deterministic model has one "
                "completion of an image, and is evaluated once"
            )

    def _launch(self) -> None:
        """With ``--jobs`` or ``--on``, have units of work computed by other processes or machines."""
        units = open_units(self.prepared, self._saved)
        failures: Mapping[str, CellFailure] = {}
        if self._on is not None and units:
            failures = self._on(self.prepared, units)
        elif self._on is None and self.context.request.jobs != 1 and len(units) > 1:
            run_in_slots(self.prepared, units)
        else:
            return
        for unit in units:
            # Read from disk, not passed in memory: a job may have ended on another machine, or before this
            # process was restarted.
            outcome = read_outcome(self.store, unit)
            if outcome is not None and outcome.state == "failed":
                failures = {**failures, **outcome.failures}
        self._failures = failures
        # What the jobs stored is taken like the cells of an earlier run; what they left out is computed
        # below.
        self._saved = self._read_saved()

    def _settle(self, cell: Cell) -> bool:
        """Compute one cell, or take it as it is, and record it. Returns whether it did not fail."""
        if cell.broken:
            return self._fail(cell, cell.broken.splitlines()[0], cell.broken)
        if cell.not_applicable:
            self.record.add(cell_entries.not_applicable_entry(cell))
            self.callbacks.note(f"{cell.label} on {cell.mask}: not applicable: {cell.not_applicable}")
            return True
        assert cell.training is not None
        lacking = self._lacks(cell)
        if lacking is None:
            saved = self._saved[cell.key]
            assert saved is not None
            # Masks are drawn again although nothing is computed: the manifest describes them, and the report
            # shows them.
            self._describe_masks(cell.mask)
            self.record.add(saved.entry, stored=True)
            return True
        if failure := self._failures.get(cell.key):
            return self._fail(cell, failure.reason, failure.error)
        process_group = self.context.compute.process_group
        # Sent before the work begins: train and measure contain collective calls in which all processes must
        # take part.
        process_group.broadcast(_Order(self.plan.cells.index(cell), tuple(lacking)))
        try:
            self._compute(cell, lacking)
        # These concern the run and not the cell: the next cell would fail the same way.
        except (InterruptedTrainingError, UsageError, DiskError):
            raise
        except Exception as error:
            # Every process has a NaN at the same step, so that alone can be recorded and passed over.
            if process_group.is_distributed and not isinstance(error, NonFiniteLossError):
                raise  # it struck one process only, and the others wait for it: all end
            failure = describe_failure(error, self.store)
            return self._fail(cell, failure.reason, failure.error)
        return True

    def _fail(self, cell: Cell, reason: str, error: str) -> bool:
        self.record.add(cell_entries.failed_entry(cell, reason, error))
        self.callbacks.cell_failed(cell.label, cell.mask, reason)
        return False

    def _by_training(self) -> list[Cell]:
        """Return the cells in table order, those of one training together."""
        # The first cell of a training gives the place of all, so the table's order is kept otherwise (sorted
        # is stable).
        order: dict[str, int] = {}
        for cell in self.plan.cells:
            order.setdefault(cell.training.key if cell.training else cell.model, len(order))
        return sorted(self.plan.cells, key=lambda c: order[c.training.key if c.training else c.model])

    def _compute(self, cell: Cell, metrics: Sequence[str]) -> None:
        assert cell.training is not None
        # 0 where the training is loaded, which is none of those that were announced.
        self.record.catch_up()
        index = self._to_train.index(cell.training.key) + 1 if cell.training.key in self._to_train else 0
        self._computer.train(cell, index=index, of=len(self._to_train))
        self._describe_masks(cell.mask)
        self.record.add(self._computer.save(cell, metrics, self._saved[cell.key]).entry)

    def _describe_masks(self, mask: str) -> None:
        """Record the masks of the test images, once, and keep the images that the report shows."""
        if mask not in self._described:
            self._described.add(mask)
            test = self._computer.test_set(mask)
            digest = None
            if self.context.request.pictures:
                # Once a mask and not once a cell: all models are shown on the same images.
                digest = cell_files.save_shown_images(self.store, mask, test)
            elif not digests_all(c for c in self.record.value["cells"] if c["mask"] == mask):
                # Those that an earlier version stored here: its cells, which tell so, may be replaced.
                digest = cell_files.shown_images_digest(test)
            self.record.add_mask(mask, test.masks, digest)

    def _lacks(self, cell: Cell) -> list[str] | None:
        """Return the metrics that a cell lacks (none, if only its images do); ``None`` if nothing is lacking."""
        return cell_files.lacking_metrics(self.prepared, self._saved[cell.key])

    def _read_saved(self) -> dict[str, cell_files.SavedCell | None]:
        """Read every finished cell, by key."""
        return {cell.key: read_saved_cell(self.prepared, cell) for cell in self.plan.cells if cell.what}
