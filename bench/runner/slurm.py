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

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.errors import BenchError, UsageError
from bench.runner.ownership import read_owner
from bench.runner.prepare import PreparedRun
from bench.runner.run_folder import write_json
from bench.runner.unit_status import job_log, read_jobs
from bench.runner.work import CellFailure, WorkUnit, portable_request, read_outcome, write_request
from bench.training.signals import InterruptedTrainingError, StopSignals
from models.discovery import PROGRAM_PREFIX
from models.registry import did_you_mean

#: Settings that submitit knows for every scheduler; all others are handed to Slurm.
_GENERIC = ("timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node", "nodes", "tasks_per_node", "name")
#: What schedulers warn a job with before its time is up; submitit handles one of them.
_WARNINGS = {signal.SIGUSR1, signal.SIGUSR2}
#: A unit whose job vanishes or ends without an outcome this often has failed.
_ATTEMPTS = 3
#: The queue may not list a job for a moment after its submission, nor its outcome be visible at once over NFS.
_MISSING_POLLS = 3


@dataclass(frozen=True)
class SlurmConfig:
    """What ``slurm.toml`` holds.

    Attributes:
        parameters: handed through to submitit: ``partition``, ``gres``, ``time``, ``constraint``,
            ``array_parallelism``, ``cpus_per_task``, ``timeout_min`` and any other.
        lead_seconds: time between the checkpoint and the time limit.
        poll_seconds: time between two looks at the queue.
        mixed: let a training resume on a machine of another kind.
        setup: shell lines that each job runs first (``module load ...``).
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    lead_seconds: int = 120
    poll_seconds: float = 15.0
    mixed: bool = False
    setup: tuple[str, ...] = ()


def read_slurm_config(path: Path, *, mixed: bool = False) -> SlurmConfig:
    """Read ``slurm.toml``.

    Raises:
        UsageError: the file is missing, not TOML, or a value is of the wrong kind.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"--on {path}: not readable: {error}") from error
    own: dict[str, Any] = {}
    kinds = {"lead_seconds": int, "poll_seconds": (int, float), "mixed": bool, "setup": list}
    for name, kind in kinds.items():
        if name in values:
            own[name] = values.pop(name)
            if not isinstance(own[name], kind):  # type: ignore[arg-type]
                raise UsageError(f"--on {path}: {name} = {own[name]!r} is of the wrong kind")
    # Everything else goes to Slurm unseen, so only a table, which no parameter is, can be told as a mistake.
    for name, value in values.items():
        if isinstance(value, dict):
            known = [*kinds, *_GENERIC]
            raise UsageError(f"--on {path}: [{name}] is not known{did_you_mean(name, known)}")
    own["setup"] = tuple(own.get("setup", ()))
    return SlurmConfig(parameters=values, **{**own, "mixed": own.get("mixed", False) or mixed})


class UnitProcess:
    """What a job runs: a command in a process of its own, which a signal ends after a checkpoint.

    submitit calls :meth:`checkpoint` when the time limit or a preemption is near, and submits the returned call again
    under the same job number.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.command = list(command)
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Run the command to its end and return its exit code; how the unit ended is in its folder."""
        # Slurm may signal every process of a job, and these signals end a process that expects none. A blocked signal
        # stays blocked in the child, and one for this process is only delayed; ignoring it would lose it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _WARNINGS)
        try:
            self._process = subprocess.Popen(self.command)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        _wait_for_end(self._process)
        return self._process.wait()

    def checkpoint(self) -> Any:
        """End the command after its checkpoint, and have it called again."""
        from submitit.helpers import DelayedSubmission

        # SIGTERM is what a run ends on after a checkpoint; the wait keeps the job alive until it is written.
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            _wait_for_end(self._process)
        # A new object: the process of this one must not be pickled.
        return DelayedSubmission(UnitProcess(self.command))


def _wait_for_end(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process without reaping it.

    ``checkpoint`` runs in a signal handler, in the middle of ``__call__``: there ``Popen.wait`` would wait for ever for
    the lock that the interrupted ``Popen.wait`` holds.
    """
    with contextlib.suppress(ChildProcessError):  # it has been reaped already
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)


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
                _sleep(self.config.poll_seconds, stop)
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
        # Counted in a row: one look that misses a job says little, see _MISSING_POLLS.
        job.missing += 1
        return job.missing >= _MISSING_POLLS

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
        # Imported where it is used: submitit is an extra.
        import submitit

        request, root = portable_request(self.prepared.context)
        self._folder.mkdir(parents=True, exist_ok=True)
        path = write_request(request, root)
        # submitit gives up requeueing after a number of time limits; a training may need hundreds.
        executor = submitit.AutoExecutor(folder=self._folder, cluster="slurm", slurm_max_num_timeout=1000)
        parameters = {
            name if name in _GENERIC or name.startswith("slurm_") else f"slurm_{name}": value
            for name, value in self.config.parameters.items()
        }
        # Taken out first: submitit's own spelling of the same setting would be given twice.
        setup = [*self.config.setup, *parameters.pop("slurm_setup", [])]
        executor.update_parameters(
            **{"name": f"bench-{self.store.name}"[:60], **parameters},
            slurm_signal_delay_s=self.config.lead_seconds,
            slurm_setup=setup,
        )
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
        command = [sys.executable, "-m", "bench", "work", "--request", str(request), "--what", unit.key]
        return [*command, "--root", str(root), *named, *mixed]

    def _read_jobs(self) -> dict[str, _Submitted]:
        stored = read_jobs(self.store.folder)
        return {key: _Submitted(j["job"], j["attempts"], state=j["state"]) for key, j in stored.items()}

    def _write_jobs(self) -> None:
        stored = {
            key: {"job": j.job, "attempts": j.attempts, "name": self._names[key], "state": j.state}
            for key, j in self._jobs.items()
        }
        write_json(self.store.folder / "jobs.json", stored)
        self._changed = False


def read_queue() -> dict[str, str]:
    """Return the user's jobs that are waiting or running: number -> state and reason.

    Raises:
        BenchError: the controller does not answer.
    """
    # --array lists the members of an array one by one, as jobs.json names them.
    command = ["squeue", "--noheader", "--array", "--me", "--format", "%i|%T|%r"]
    for attempt in range(5):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode == 0:
            jobs = {}
            for line in done.stdout.splitlines():
                job, state, reason = (part.strip() for part in line.split("|", 2))
                jobs[job] = state if reason in ("None", "") else f"{state} ({reason})"
            return jobs
        time.sleep(2**attempt)  # a controller that restarts is away for seconds
    raise BenchError(f"squeue does not answer: {done.stderr.strip() or done.returncode}")


def _sleep(seconds: float, stop: StopSignals) -> None:
    deadline = time.monotonic() + seconds
    # In short naps, so that a signal is noticed at once and not at the next look.
    while time.monotonic() < deadline and not stop.signum:
        time.sleep(min(0.2, max(0.0, deadline - time.monotonic())))
