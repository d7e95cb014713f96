"""``--jobs N``: trainings side by side, each in a process of its own; the run then takes them from its folder.

Every process has the run's share of threads, so that the numbers are those of a run with that many threads, whatever
the number of jobs. A training that fails is reported and leaves the others alone; one that runs out of memory beside
others is left to be trained alone.
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

from bench.config import Request
from bench.errors import BenchError
from bench.runner import estimate
from bench.runner.batch_size import free_bytes
from bench.runner.callbacks import RunCallbacks
from bench.runner.plan import TrainingPlan
from bench.runner.prepare import prepare_run
from bench.runner.train import train_model
from bench.training.device import Compute, is_out_of_memory
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
    """Sends what a training tells to the process that prints."""

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

    def training_done(self, label: str, seconds: float) -> None:
        self._messages.put(("training_done", (label, seconds)))

    def _numbered(self, label: str) -> str:
        """Tell two seeds of one model apart by their numbers."""
        return f"[{self._number}/{self._of}] {label}"


def train_in_parallel(
    request: Request, trainings: Sequence[TrainingPlan], compute: Compute, root: Path, callbacks: RunCallbacks
) -> dict[str, TrainingFailure]:
    """Train all of ``trainings``, at most ``request.jobs`` at a time and only as many as fit into memory.

    Returns:
        Key of a training -> why it failed. One that did not fit beside the others is neither trained nor here.

    Raises:
        InterruptedTrainingError: on a signal, once every job has written its checkpoint.
    """
    context = multiprocessing.get_context("spawn")
    messages = context.Queue()
    waiting = list(enumerate(trainings, 1))
    running: dict[str, Any] = {}
    failures: dict[str, TrainingFailure] = {}
    told: set[str] = set()
    room, taken = free_bytes(compute), {plan.key: _bytes(plan, request, compute) for plan in trainings}
    with StopSignals() as stop:
        try:
            while running or (waiting and not stop.signum):
                while waiting and not stop.signum and len(running) < request.jobs:
                    used = sum(taken[key] for key in running)
                    if running and used + taken[waiting[0][1].key] > room:
                        break
                    number, plan = waiting.pop(0)
                    arguments = (
                        request,
                        plan.key,
                        root,
                        torch.get_num_threads(),
                        messages,
                        number,
                        len(trainings),
                    )
                    process = context.Process(target=_train_one, args=arguments)
                    process.start()
                    running[plan.key] = process
                _listen(messages, callbacks, failures)
                for key, process in list(running.items()):
                    if not process.is_alive():
                        running.pop(key)
                    elif stop.signum and key not in told:
                        told.add(key)
                        process.terminate()
            _listen(messages, callbacks, failures)
        finally:  # a second Ctrl-C, or an error here: nobody is left behind
            for process in running.values():
                process.kill()
        if stop.signum:
            raise InterruptedTrainingError(stop.signum, "with a checkpoint of every training")
    return failures


def _bytes(plan: TrainingPlan, request: Request, compute: Compute) -> float:
    """About what a job takes; nothing where it cannot be counted."""
    return (
        estimate.estimate_memory_bytes([plan], compute, request.settings.micro_batch) or 0.0
    ) + _PROCESS_BYTES


def _listen(messages: Any, callbacks: RunCallbacks, failures: dict[str, TrainingFailure]) -> None:
    """Pass on what has been said, waiting a moment for the first of it."""
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


def _train_one(
    request: Request, key: str, root: Path, threads: int, messages: Any, number: int, of: int
) -> None:
    """A job: its own session, so that a Ctrl-C reaches it once, through the process that started it."""
    os.setsid()
    _die_with_parent()
    torch.set_num_threads(threads)
    try:
        prepared = prepare_run(dataclasses.replace(request, jobs=1), RunCallbacks(), root)
        (plan,) = (p for p in prepared.plan.trainings if p.key == key)
        train_model(
            plan,
            prepared.request,
            prepared.data,
            prepared.compute,
            prepared.store,
            _Relay(messages, number, of),
            index=number,
            of=of,
        )
    except InterruptedTrainingError:
        pass
    except Exception as error:
        if isinstance(error, OutOfMemoryError) or is_out_of_memory(error):
            messages.put(
                ("note", (f"a training did not fit beside the others ({error}); it is trained alone",))
            )
        else:
            reason = str(error) if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"
            messages.put(("failed", (key, reason, traceback.format_exc())))


def _die_with_parent() -> None:
    """However the run ends, its jobs do not work on in a folder that is no longer locked."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
