"""Slurm jobs through submitit: ``slurm.toml``, what a job runs, and the queue."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.errors import BenchError, UsageError
from bench.training.signals import StopSignals
from models.registry import did_you_mean

#: How a job starts Python: this environment's, without the working folder, whose files a job must not import.
PYTHON = (sys.executable, "-P")
#: Settings that submitit knows for every scheduler; all others are handed to Slurm.
_GENERIC = ("timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node", "nodes", "tasks_per_node", "name")
#: What a unit needs and the job that decodes the images does not.
_OF_UNITS = ("gres", "gpus_per_node", "gpus", "gpus_per_task", "array_parallelism")
#: What schedulers warn a job with before its time is up; submitit handles one of them.
_WARNINGS = {signal.SIGUSR1, signal.SIGUSR2}
#: The queue may not list a job for a moment after its submission, nor what it wrote be visible at once over NFS.
MISSING_POLLS = 3


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
        data: parameters of the job that decodes the images, beside or instead of ``parameters``.
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    lead_seconds: int = 120
    poll_seconds: float = 15.0
    mixed: bool = False
    setup: tuple[str, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)

    def for_data(self) -> SlurmConfig:
        """Return the settings of the job that decodes the images: as a unit's, without its GPUs."""
        kept = {k: v for k, v in self.parameters.items() if k.removeprefix("slurm_") not in _OF_UNITS}
        return dataclasses.replace(self, parameters={**kept, **self.data})


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
    kinds = {"lead_seconds": int, "poll_seconds": (int, float), "mixed": bool, "setup": list, "data": dict}
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


def make_executor(config: SlurmConfig, folder: Path, name: str) -> Any:
    """Return submitit's executor for jobs called ``name``, whose scripts and logs are in ``folder``."""
    # Imported where it is used: submitit is an extra.
    import submitit

    # submitit gives up requeueing after a number of time limits; a training may need hundreds.
    executor = submitit.AutoExecutor(
        folder=folder, cluster="slurm", slurm_max_num_timeout=1000, slurm_python=shlex.join(PYTHON)
    )
    parameters = {
        key if key in _GENERIC or key.startswith("slurm_") else f"slurm_{key}": value
        for key, value in config.parameters.items()
    }
    # Taken out first: submitit's own spelling of the same setting would be given twice.
    setup = [*config.setup, *parameters.pop("slurm_setup", [])]
    executor.update_parameters(
        **{"name": name, **parameters}, slurm_signal_delay_s=config.lead_seconds, slurm_setup=setup
    )
    return executor


def read_queue(name: str | None = None) -> dict[str, str]:
    """Return the user's jobs that are waiting or running: number -> state and reason.

    Args:
        name: jobs of this name only.

    Raises:
        BenchError: the controller does not answer.
    """
    # --array lists the members of an array one by one, as jobs.json names them.
    command = ["squeue", "--noheader", "--array", "--me", "--format", "%i|%T|%r"]
    command += ["--name", name] if name else []
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


def sleep_unless_stopped(seconds: float, stop: StopSignals) -> None:
    deadline = time.monotonic() + seconds
    # In short naps, so that a signal is noticed at once and not at the next look.
    while time.monotonic() < deadline and not stop.signum:
        time.sleep(min(0.2, max(0.0, deadline - time.monotonic())))
