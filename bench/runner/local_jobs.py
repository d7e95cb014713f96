"""``--jobs N``: units of work side by side, each in a process of its own.

A unit is a training and its cells, so that nothing waits for one process that scores everything. On GPUs a slot is a
GPU, or a part of one, and a job sees its own device only; on the CPU the slots share the threads equally, so that the
numbers are those of a run with one slot's threads. A unit that fails leaves the others alone; one that runs out of
memory beside others is left for the run itself, which computes it alone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.child_processes import forget_safe_path, isolated_start
from bench.config import Request
from bench.runner import estimate
from bench.runner.batch_size import free_bytes
from bench.runner.callbacks import RunCallbacks
from bench.runner.context import RunContext
from bench.runner.ownership import OwnedElsewhereError
from bench.runner.prepare import PreparedRun, prepare_run
from bench.runner.slots import Slot, list_slots
from bench.runner.work import WorkUnit, find_unit, portable_request, run_unit
from bench.training.data_loader import is_resident
from bench.training.signals import InterruptedTrainingError, StopSignals

#: What the libraries of a process take besides the training itself.
_PROCESS_BYTES = 0.7 * 2**30
_POLL_SECONDS = 0.2
#: Between two steps that a job reports.
_STEP_SECONDS = 0.1


class _Relay(RunCallbacks):
    """Send a job's messages to the process that prints."""

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
        # A queue of thousands of messages a second would help nobody.
        # The last step is always sent, so that a display ends at 100 %.
        if step == num_steps or now - self._last_step > _STEP_SECONDS:
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

    def evaluating(self, label: str, mask: str, done: int, of: int) -> None:
        self._messages.put(("evaluating", (self._numbered(label), mask, done, of)))

    def cell_done(self, label: str, mask: str, means: dict[str, float]) -> None:
        self._messages.put(("cell_done", (label, mask, means)))

    def _numbered(self, label: str) -> str:
        """Tell two seeds of one model apart by their numbers."""
        return f"[{self._number}/{self._of}] {label}"


@dataclass(frozen=True)
class _Job:
    """One unit in a process of its own: its key, its number among how many, its threads, its share of memory."""

    key: str
    number: int
    of: int
    threads: int
    memory_share: float


class _Memory:
    """Memory of each device, and how much of it the running jobs are expected to fill."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._free: dict[int | None, float] = {}
        self._used: dict[int | None, float] = {}

    def fits(self, unit: WorkUnit, slot: Slot) -> bool:
        """Return whether the unit fits beside those on its device; the first on a device always does."""
        if slot.device not in self._free:
            self._free[slot.device] = self._measure(slot)
        used = self._used.get(slot.device, 0.0)
        # The estimate may be wrong, so it never keeps a device idle.
        return not used or used + self.needed(unit) <= self._free[slot.device]

    def take(self, unit: WorkUnit, slot: Slot) -> None:
        """Count a unit that has started."""
        self._used[slot.device] = self._used.get(slot.device, 0.0) + self.needed(unit)

    def give(self, unit: WorkUnit, slot: Slot) -> None:
        """Count it no more."""
        # Sums of floats: without the bound, a rest below zero would look like room.
        self._used[slot.device] = max(0.0, self._used[slot.device] - self.needed(unit))
        if not any(self._used.values()):
            self._free.clear()  # measured anew: other programs come and go

    def needed(self, unit: WorkUnit) -> float:
        """Estimate what a job takes; the process alone where the model cannot be counted."""
        context, plan = self._context, unit.cells[0].training
        assert plan is not None
        if not unit.num_steps:
            return _PROCESS_BYTES + (plan.fit_cost.memory_bytes if plan.fit_cost else 0.0)
        settings, compute = context.request.settings, context.compute
        training = estimate.estimate_memory_bytes([plan], compute, settings.micro_batch)
        images = context.data.train.pixels[: settings.train_images].nbytes
        # Each job has its own copy on a GPU; jobs on the CPU share the memory map.
        resident = images if compute.device.type == "cuda" and is_resident(images, compute) else 0
        return (training or 0.0) + resident + _PROCESS_BYTES

    def _measure(self, slot: Slot) -> float:
        # All of the device: its jobs are counted one by one.
        whole = dataclasses.replace(self._context.compute, memory_share=1.0)
        if slot.device is None:
            return free_bytes(whole)
        return free_bytes(dataclasses.replace(whole, device=torch.device("cuda", slot.device)))


def run_in_slots(prepared: PreparedRun, units: Sequence[WorkUnit]) -> None:
    """Compute ``units``, each in a free slot whose device has the memory for it.

    How each ended is in its ``unit.json``; one that did not fit beside the others has no failure there.

    Raises:
        InterruptedTrainingError: on a signal, once every job has written its checkpoint.
    """
    context = prepared.context
    # Not "fork": a child would inherit CUDA's state, which it cannot use, and the threads' locks.
    spawn = multiprocessing.get_context("spawn")
    # Its locks start a process that clears up after them.
    with isolated_start():
        messages = spawn.Queue()
    waiting = list(enumerate(units, 1))
    free, memory = list_slots(context.request, context.compute), _Memory(context)
    running: dict[Any, tuple[WorkUnit, Slot]] = {}
    stopped: set[int] = set()
    with StopSignals() as stop:
        try:
            while running or (waiting and not stop.signum):
                while waiting and free and not stop.signum and memory.fits(waiting[0][1], free[0]):
                    (number, unit), slot = waiting.pop(0), free.pop(0)
                    # prepare_run has divided threads and memory by the number of slots already: these are one
                    # job's shares.
                    share = context.compute.memory_share
                    job = _Job(unit.key, number, len(units), torch.get_num_threads(), share)
                    process = spawn.Process(target=_run_job, args=(portable_request(context), job, messages))
                    # The child inherits the environment, and CUDA reads the variable once, when it starts.
                    with _visible_device(slot), isolated_start():
                        process.start()
                    memory.take(unit, slot)
                    running[process] = (unit, slot)
                # Also the pause of this loop: it waits for the first message.
                _relay(messages, context.callbacks)
                for process, (unit, slot) in list(running.items()):
                    # A process that ended is removed here whatever its exit code: unit.json says how its unit
                    # ended.
                    if not process.is_alive():
                        running.pop(process)
                        memory.give(unit, slot)
                        free.append(slot)
                    elif stop.signum and process.pid not in stopped:
                        # Once: a second signal would end the job without its checkpoint.
                        stopped.add(process.pid)
                        process.terminate()
            # What the last jobs sent between the look at the queue and their end.
            _relay(messages, context.callbacks)
        finally:  # a second Ctrl-C, or an error here: no process is left behind
            for process in running:
                process.kill()
        if stop.signum:
            raise InterruptedTrainingError(stop.signum, "with a checkpoint of every training")


@contextlib.contextmanager
def _visible_device(slot: Slot) -> Iterator[None]:
    """Let a process that starts now see its own GPU only, so that libraries use no other by accident."""
    if slot.device is None:
        yield
        return
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    # Indices count among the devices that this process sees; entries may be UUIDs, passed on as they are.
    names = before.split(",") if before else [str(i) for i in range(slot.device + 1)]
    os.environ["CUDA_VISIBLE_DEVICES"] = names[slot.device]
    try:
        yield
    finally:
        if before is None:
            del os.environ["CUDA_VISIBLE_DEVICES"]
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = before


def _relay(messages: Any, callbacks: RunCallbacks) -> None:
    """Pass messages of the jobs on, waiting a moment for the first of them."""
    timeout = _POLL_SECONDS
    while True:
        try:
            name, arguments = messages.get(timeout=timeout)
        except queue.Empty:
            return
        timeout = 0.0
        getattr(callbacks, name)(*arguments)


def _run_job(portable: tuple[Request, Path], job: _Job, messages: Any) -> None:
    """Run one job, in a session of its own, so that a Ctrl-C reaches it once, through the process that started it."""
    os.setsid()
    _die_with_parent()
    forget_safe_path()
    # Explicitly, since the child's torch would take every core.
    torch.set_num_threads(job.threads)
    request, root = portable
    if request.device.startswith("cuda:"):
        request = dataclasses.replace(request, device="cuda")  # it sees its own device only
    relay = _Relay(messages, job.number, job.of)
    try:
        # Silent: data and warnings are those of the run, which has shown them once.
        prepared = prepare_run(request, RunCallbacks(), root, share=job.memory_share)
        unit = find_unit(prepared, job.key)
        # Somebody else has computed it between the start of this process and now.
        if unit is None:
            return
        context = dataclasses.replace(prepared.context, callbacks=relay)
        prepared = dataclasses.replace(prepared, context=context)
        # As in a run without jobs, a resume on other hardware is a warning and no refusal.
        outcome = run_unit(prepared, unit, mixed=True, index=job.number, of=job.of)
        if outcome.state == "out of memory":
            relay.note(f"{unit.label} did not fit beside the others; it is computed alone")
    except InterruptedTrainingError:
        pass
    except OwnedElsewhereError as error:
        relay.note(f"{error}; left to it")


def _die_with_parent() -> None:
    """End this job with the run, however that ends: it must not work on in a folder that is no longer locked."""

    def watch() -> None:
        parent = multiprocessing.parent_process()
        assert parent is not None
        parent.join()
        # SIGKILL, since a handler or a hanging kernel could delay anything else; what is lost resumes from a
        # checkpoint.
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
