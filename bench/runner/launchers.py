"""``--jobs N``: trainings side by side, each in a process of its own; the run then loads them from its folder.

The processes share the run's threads equally, so that the numbers are those of a run with one share. A training that
fails is reported, and the others go on; one that runs out of memory beside others is trained alone afterwards.
"""

from __future__ import annotations

import dataclasses
import math
import multiprocessing
import os
import queue
import signal
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.child_processes import hidden_main_module
from bench.config import Request
from bench.errors import BenchError
from bench.runner import estimate
from bench.runner.batch_size import free_bytes
from bench.runner.callbacks import RunCallbacks
from bench.runner.context import RunContext
from bench.runner.plan import TrainingPlan
from bench.runner.prepare import prepare_run
from bench.runner.train import train_model
from bench.training.device import is_out_of_memory
from bench.training.signals import InterruptedTrainingError, StopSignals
from bench.training.train_step import OutOfMemoryError

#: What the libraries of a process take besides the training itself.
_PROCESS_BYTES = 0.7 * 2**30
_POLL_SECONDS = 0.2
#: Between two steps that a training in another process tells of.
_STEP_SECONDS = 0.1


@dataclass(frozen=True)
class TrainingFailure:
    """A training that failed, with its traceback."""

    reason: str
    error: str


class _Relay(RunCallbacks):
    """Send a training's messages to the process that prints."""

    def __init__(self, messages: Any, number: int, of: int) -> None:
        self._messages, self._number, self._of = messages, number, of
        self._last_step = -math.inf

    def note(self, text: str) -> None:
        self._messages.put(("note", (text,)))

    def warn(self, text: str) -> None:
        self._messages.put(("warn", (text,)))

    def training_started(self, label: str, index: int, of: int, num_steps: int) -> None:
        self._messages.put(("training_started", (label, self._number, self._of, num_steps)))

    def training_step(self, label: str, step: int, num_steps: int) -> None:
        now = time.monotonic()
        if (
            step == num_steps or now - self._last_step > _STEP_SECONDS
        ):  # a queue of thousands a second helps nobody
            self._last_step = now
            self._messages.put(("training_step", (self._numbered(label), step, num_steps)))

    def training_progress(self, label: str, progress: Any) -> None:
        self._messages.put(("training_progress", (self._numbered(label), progress)))

    def training_opened(self, label: str, folder: Path, step: int) -> None:
        self._messages.put(("training_opened", (self._numbered(label), folder, step)))

    def training_logged(self, label: str, line: Any) -> None:
        self._messages.put(("training_logged", (self._numbered(label), line)))

    def samples_drawn(self, label: str, step: int, grid: Any) -> None:
        self._messages.put(("samples_drawn", (self._numbered(label), step, grid)))

    def training_done(self, label: str, seconds: float) -> None:
        self._messages.put(("training_done", (self._numbered(label), seconds)))

    def _numbered(self, label: str) -> str:
        """Tell two seeds of one model apart by their numbers."""
        return f"[{self._number}/{self._of}] {label}"


def train_in_parallel(context: RunContext, trainings: Sequence[TrainingPlan]) -> dict[str, TrainingFailure]:
    """Train all of ``trainings``, at most ``request.jobs`` at a time and only as many as fit into memory.

    Returns:
        Key of a training -> why it failed. One that did not fit beside the others is neither trained nor here.

    Raises:
        InterruptedTrainingError: on a signal, once every job has written its checkpoint.
    """
    spawn = multiprocessing.get_context("spawn")
    messages = spawn.Queue()
    waiting = list(enumerate(trainings, 1))
    running: dict[str, Any] = {}
    failures: dict[str, TrainingFailure] = {}
    stopped: set[str] = set()
    free = free_bytes(context.compute)
    needed = {plan.key: _bytes_of_job(plan, context) for plan in trainings}
    with StopSignals() as stop:
        try:
            while running or (waiting and not stop.signum):
                while waiting and not stop.signum and len(running) < context.request.jobs:
                    used = sum(needed[key] for key in running)
                    if running and used + needed[waiting[0][1].key] > free:
                        break
                    number, plan = waiting.pop(0)
                    job = _Job(plan.key, number, len(trainings), torch.get_num_threads())
                    process = spawn.Process(target=_run_job, args=(_portable(context), job, messages))
                    with hidden_main_module():
                        process.start()
                    running[plan.key] = process
                _relay(messages, context.callbacks, failures)
                for key, process in list(running.items()):
                    if not process.is_alive():
                        running.pop(key)
                    elif stop.signum and key not in stopped:
                        stopped.add(key)
                        process.terminate()
            _relay(messages, context.callbacks, failures)
        finally:  # a second Ctrl-C, or an error here: no process is left behind
            for process in running.values():
                process.kill()
        if stop.signum:
            raise InterruptedTrainingError(stop.signum, "with a checkpoint of every training")
    return failures


@dataclass(frozen=True)
class _Job:
    """One training in a process of its own: its key, its number of so many, and its threads."""

    key: str
    number: int
    of: int
    threads: int


def _portable(context: RunContext) -> tuple[Request, Path]:
    """What a job needs to prepare the same run: the request under the experiment's name, and the root folder."""
    request = dataclasses.replace(context.request, name=context.store.name, jobs=1)
    return request, context.store.root


def _bytes_of_job(plan: TrainingPlan, context: RunContext) -> float:
    """Estimate what a job takes; the process alone where the model cannot be counted."""
    training = estimate.estimate_memory_bytes([plan], context.compute, context.request.settings.micro_batch)
    return (training or 0.0) + _PROCESS_BYTES


def _relay(messages: Any, callbacks: RunCallbacks, failures: dict[str, TrainingFailure]) -> None:
    """Pass messages of the jobs on, waiting a moment for the first of them."""
    timeout = _POLL_SECONDS
    while True:
        try:
            name, arguments = messages.get(timeout=timeout)
        except queue.Empty:
            return
        timeout = 0.0
        if name == "failed":
            key, reason, error = arguments
            failures[key] = TrainingFailure(reason, error)
        else:
            getattr(callbacks, name)(*arguments)


def _run_job(portable: tuple[Request, Path], job: _Job, messages: Any) -> None:
    """Run one job, in a session of its own, so that a Ctrl-C reaches it once, through the process that started it."""
    os.setsid()
    _die_with_parent()
    torch.set_num_threads(job.threads)
    request, root = portable
    try:
        prepared = prepare_run(request, RunCallbacks(), root)
        (plan,) = (p for p in prepared.plan.trainings if p.key == job.key)
        context = dataclasses.replace(prepared.context, callbacks=_Relay(messages, job.number, job.of))
        train_model(plan, context, index=job.number, of=job.of)
    except InterruptedTrainingError:
        pass
    except Exception as error:
        if isinstance(error, OutOfMemoryError) or is_out_of_memory(error):
            messages.put(
                ("note", (f"a training did not fit beside the others ({error}); it is trained alone",))
            )
        else:
            reason = str(error) if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"
            messages.put(("failed", (job.key, reason, traceback.format_exc())))


def _die_with_parent() -> None:
    """End this job with the run, however that ends: it must not work on in a folder that is no longer locked."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
