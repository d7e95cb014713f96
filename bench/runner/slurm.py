"""``bench run --on slurm.toml``: units of work as Slurm jobs, through submitit.

Nothing but the request travels. Each job runs ``bench work --request FILE --what KEY`` in a process of its own, whose
results are the content-addressed folders on the shared file system; submitit's pickles hold that command and no state.
``jobs.json`` says which job computes which unit, so the head may be closed or killed: the same command finds its jobs.

* A lost node: Slurm requeues the job, the training resumes from its checkpoint.
* A time limit: submitit is signaled some time before, ends the unit after a checkpoint, and requeues it.
* A job that vanishes (killed without a trace, and no accounting database to ask) is missing in the queue and has left
  no outcome: it is submitted again, a few times.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.config import Request
from bench.errors import UsageError
from bench.runner.callbacks import RunCallbacks
from bench.runner.data_job import prepare_data_by_job
from bench.runner.ownership import read_owner
from bench.runner.prepare import PreparedRun
from bench.runner.run_folder import RunFolder, write_checked_json
from bench.runner.slurm_jobs import (
    MISSING_POLLS,
    PYTHON,
    SlurmConfig,
    UnitProcess,
    make_executor,
    read_queue,
    sleep_unless_stopped,
)
from bench.runner.unit_status import job_log, read_jobs
from bench.runner.work import CellFailure, WorkUnit, portable_request, read_outcome, write_request
from bench.training.signals import InterruptedTrainingError, StopSignals
from models.discovery import PROGRAM_PREFIX

#: A unit whose job vanishes or ends without an outcome this often has failed.
_ATTEMPTS = 3


@dataclass
class _Submitted:
    """A unit's job.

    Attributes:
        job: its Slurm number, of an array ``123_4``.
        attempts: how often the unit was submitted.
        missing: how many looks at the queue in a row have not found it.
        state: as the queue last said.
    """

    job: str
    attempts: int
    missing: int = 0
    state: str = ""


class SlurmLauncher:
    """Computes units as Slurm jobs and watches them.

    Args:
        config: from :func:`read_slurm_config`.

    Raises:
        UsageError: submitit or Slurm is not installed.
    """

    def __init__(self, config: SlurmConfig) -> None:
        try:
            import submitit  # noqa: F401
        except ImportError:
            raise UsageError("--on needs submitit: pip install 'inpaint-bench[slurm]'") from None
        if shutil.which("sbatch") is None:
            raise UsageError(
                "--on: there is no sbatch here; run the command on a machine that submits to Slurm"
            )
        self.config = config

    def prepare_data(self, request: Request, store: RunFolder, callbacks: RunCallbacks) -> None:
        """Have one job decode the images, unless that is done: see :func:`prepare_data_by_job`."""
        prepare_data_by_job(request, self.config, store, callbacks)

    def __call__(self, prepared: PreparedRun, units: Sequence[WorkUnit]) -> dict[str, CellFailure]:
        """Have ``units`` computed, and return the failures of those that left no outcome, by key of a cell.

        Raises:
            InterruptedTrainingError: on a signal; the jobs go on, and the same command finds them.
        """
        watch = _Watch(prepared, units, self.config)
        with StopSignals() as stop:
            for _ in watch.polls():
                if stop.signum:
                    raise InterruptedTrainingError(stop.signum, "watching; the jobs go on in the queue")
                sleep_unless_stopped(self.config.poll_seconds, stop)
        return watch.failures


class _Watch:
    """The jobs of one run: submits what nobody computes, and looks at the queue until every unit has ended."""

    def __init__(self, prepared: PreparedRun, units: Sequence[WorkUnit], config: SlurmConfig) -> None:
        self.store, self.callbacks = prepared.context.store, prepared.context.callbacks
        self.prepared, self.config = prepared, config
        self.open = {unit.key: unit for unit in units}
        self.failures: dict[str, CellFailure] = {}
        self._folder = self.store.folder / "jobs"
        self._names = {unit.key: unit.name for unit in units}
        self._changed = False
        self._jobs = self._read_jobs()
        # Jobs of an earlier command whose units are done, or no longer asked for.
        for key in list(self._jobs):
            if key not in self.open:
                del self._jobs[key]
        queue = read_queue()
        for unit in units:
            # An outcome of an earlier submission says nothing of this one.
            if unit.key not in self._jobs or self._jobs[unit.key].job not in queue:
                (unit.folder(self.store) / "unit.json").unlink(missing_ok=True)
        self._submit([u for u in units if u.key not in self._jobs or self._jobs[u.key].job not in queue])

    def polls(self) -> Iterator[None]:
        """Look at the queue and the folders until every unit has ended; yields after each look."""
        while True:
            queue = read_queue()
            # A copy, since units that have ended are removed on the way.
            vanished = [unit for unit in list(self.open.values()) if self._has_vanished(unit, queue)]
            again = [unit for unit in vanished if self._jobs[unit.key].attempts < _ATTEMPTS]
            for unit in vanished:
                if unit not in again:
                    self._give_up(unit)
            if again:
                names = ", ".join(f"{unit.name} (job {self._jobs[unit.key].job})" for unit in again)
                self.callbacks.warn(f"vanished from the queue without an outcome, submitted again: {names}")
                self._submit(again)
            if self._changed:  # for "bench status", which asks no queue
                self._write_jobs()
            if not self.open:
                return
            yield

    def _has_vanished(self, unit: WorkUnit, queue: Mapping[str, str]) -> bool:
        """Take note of how a unit's job stands; true where it has left the queue and the unit has no outcome."""
        job, outcome = self._jobs[unit.key], read_outcome(self.store, unit)
        state = queue.get(job.job, "")
        # A pending job was requeued: the outcome in its folder is of the attempt before, and it will run
        # again.
        if outcome is not None and outcome.state in ("done", "failed") and not state.startswith("PENDING"):
            del self.open[unit.key]
            how = "done" if outcome.state == "done" else "failed"
            self.callbacks.note(f"{unit.name}: {how} on {outcome.host} after {outcome.seconds:.0f} s")
            return False
        if state:
            # Told when the state changes, not at every look at the queue.
            if state != job.state:
                self._changed = True
                owner = read_owner(unit.folder(self.store) / "owner")
                on = f" on {owner.host}" if owner and state.startswith("RUNNING") else ""
                self.callbacks.note(f"{unit.name}: job {job.job} {state.lower()}{on}")
            job.state, job.missing = state, 0
            return False
        # Counted in a row: one look that misses a job says little, see MISSING_POLLS.
        job.missing += 1
        return job.missing >= MISSING_POLLS

    def _give_up(self, unit: WorkUnit) -> None:
        outcome, job = read_outcome(self.store, unit), self._jobs[unit.key]
        log = job_log(self.store.folder, job.job)
        # The last lines only: they are shown in the report, and a log may be megabytes.
        last = log.read_text(errors="replace").strip().splitlines()[-20:] if log.is_file() else []
        reason = f"its job ended {job.attempts} times without an outcome (last: job {job.job}, log {log})"
        if outcome is not None and outcome.state == "out of memory":
            reason = next(iter(outcome.failures.values())).reason
        for cell in unit.cells:
            self.failures[cell.key] = CellFailure(reason, "\n".join(last))
        del self.open[unit.key]

    def _submit(self, units: Sequence[WorkUnit]) -> None:
        """Submit one array of jobs, one for each unit."""
        if not units:
            return
        request, root = portable_request(self.prepared.context)
        self._folder.mkdir(parents=True, exist_ok=True)
        path = write_request(request, root)
        executor = make_executor(self.config, self._folder, f"bench-{self.store.name}"[:60])
        # One array instead of a job each: schedulers count and limit submissions.
        with executor.batch():
            jobs = [executor.submit(UnitProcess(self._command(unit, path, root))) for unit in units]
        for unit, job in zip(units, jobs, strict=True):
            before = self._jobs.get(unit.key)
            self._jobs[unit.key] = _Submitted(job.job_id, (before.attempts if before else 0) + 1)
        # On disk at once: if the head is killed now, the same command must find these jobs and not submit
        # others.
        self._write_jobs()
        self.callbacks.note(f"submitted {len(units)} units to Slurm as {jobs[0].job_id.partition('_')[0]}")

    def _command(self, unit: WorkUnit, request: Path, root: Path) -> list[str]:
        # Model files are named here, on the command line, since a request alone must not make anything run.
        asked = self.prepared.context.request
        named = [w for p in asked.models_from for w in ("--models-from", p)]
        if any(name.startswith(PROGRAM_PREFIX) for name in asked.models):
            named.append("--allow-code")
        mixed = ["--mixed"] if self.config.mixed else []
        command = [*PYTHON, "-m", "bench", "work", "--request", str(request), "--what", unit.key]
        return [*command, "--root", str(root), *named, *mixed]

    def _read_jobs(self) -> dict[str, _Submitted]:
        stored = read_jobs(self.store.folder)
        return {key: _Submitted(j["job"], j["attempts"], state=j["state"]) for key, j in stored.items()}

    def _write_jobs(self) -> None:
        stored = {
            key: {"job": j.job, "attempts": j.attempts, "name": self._names[key], "state": j.state}
            for key, j in self._jobs.items()
        }
        write_checked_json(self.store.folder / "jobs.json", stored)
        self._changed = False
