"""The image cache, filled by one Slurm job before the units are planned: the head decodes nothing."""

from __future__ import annotations

import hashlib

from bench.config import Request
from bench.data import DataSpec, is_prepared
from bench.data.cache import cache_folder
from bench.errors import BenchError
from bench.runner.callbacks import RunCallbacks
from bench.runner.prepare import data_spec
from bench.runner.run_folder import RunFolder
from bench.runner.slurm_jobs import (
    MISSING_POLLS,
    PYTHON,
    SlurmConfig,
    UnitProcess,
    make_executor,
    read_queue,
    sleep_unless_stopped,
)
from bench.runner.unit_status import job_log
from bench.training.signals import InterruptedTrainingError, StopSignals


def prepare_data_by_job(
    request: Request, config: SlurmConfig, store: RunFolder, callbacks: RunCallbacks
) -> None:
    """Submit ``bench data prepare`` as a job and wait for it, unless every image is decoded already.

    A second head, or the same command given again, finds the job in the queue by its name and waits for that one.

    Args:
        request: the run.
        config: of units; :meth:`SlurmConfig.for_data` is that of this job.
        store: the experiment, for the job's script and log.
        callbacks: told of the job and its states.

    Raises:
        BenchError: the job ended without the images, or they are where this machine does not see them.
        InterruptedTrainingError: on a signal; the job goes on.
    """
    spec = data_spec(request)
    if is_prepared(spec):
        return
    folder = store.folder / "jobs"
    # The name says which images: two experiments on the same ones share the job.
    name = f"bench-data-{hashlib.sha256(repr(spec).encode('utf-8', 'surrogateescape')).hexdigest()[:12]}"
    waiting = read_queue(name)
    job = next(iter(waiting), None)
    if job is None:
        folder.mkdir(parents=True, exist_ok=True)
        executor = make_executor(config.for_data(), folder, name)
        job = str(executor.submit(UnitProcess(_command(spec))).job_id)
        callbacks.note(f"submitted job {job}, which decodes the images before the units are planned")
    else:
        callbacks.note(f"job {job} is decoding the images already")
    _wait_for(name, job, config, callbacks)
    if not is_prepared(spec):
        raise BenchError(_failure(spec, store, job))


def _command(spec: DataSpec) -> list[str]:
    command = [
        *PYTHON,
        "-m",
        "bench",
        "data",
        "prepare",
        "--data",
        spec.source,
        "--size",
        str(spec.size),
    ]
    command += ["--crop", spec.crop, "--split", spec.split]
    return [*command, "--allow-unreadable"] if spec.allow_unreadable else command


def _wait_for(name: str, job: str, config: SlurmConfig, callbacks: RunCallbacks) -> None:
    """Wait until the queue has not listed the job several times in a row."""
    missing, last = 0, ""
    with StopSignals() as stop:
        while missing < MISSING_POLLS:
            state = read_queue(name).get(job, "")
            missing = 0 if state else missing + 1
            if state and state != last:
                callbacks.note(f"images: job {job} {state.lower()}")
                last = state
            if stop.signum:
                raise InterruptedTrainingError(stop.signum, "waiting for the images; their job goes on")
            sleep_unless_stopped(config.poll_seconds, stop)


def _failure(spec: DataSpec, store: RunFolder, job: str) -> str:
    log = job_log(store.folder, job)
    printed = log.with_suffix(".out")
    if printed.is_file() and "pictures ready" in printed.read_text(errors="replace"):
        return (
            f"job {job} has decoded the images, but {cache_folder(spec)} on this machine does not hold them: set "
            "XDG_CACHE_HOME to a folder that all machines see, and give the same command again"
        )
    lines = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
    last = f": {lines[-1]}" if lines else ""
    return f"job {job}, which decodes the images, ended without them (log {log}){last}"
