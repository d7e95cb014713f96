"""Runs one experiment again and again in forked children that kill themselves with SIGKILL at a given moment.

Started by ``test_stress.py``: ``python -m tests.bench.runner.stress_driver DATA FOLDER``; a line of JSON in (a
moment), the child's exit code out. The driver itself only imports, so that every child starts afresh and at once.
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench.config import Request, resolve_config
from bench.data import cache
from bench.evaluation import evaluator
from bench.runner import run_folder
from bench.runner.callbacks import RunCallbacks
from bench.runner.run import run_experiment
from bench.training import checkpoint
from bench.training.data_loader import TrainingDataLoader
from bench.training.optimizers import Optimizers
from reports import render
from reports.results import schema


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def call_until(owner: Any, name: str, count: int, *, after: bool = False) -> None:
    """Die before (or just after) the ``count``-th call of ``owner.name`` from now on."""
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def counted(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count and not after:
            die()
        result = original(*args, **options)
        if calls == count:
            die()
        return result

    setattr(owner, name, counted)


def at_phase_boundary() -> None:
    """Die when a phase has been prepared, before its first step."""
    original = Optimizers.enter_phase
    seen: list[str] = []

    def enter_phase(self: Optimizers, step: int) -> Any:
        phase = original(self, step)
        if seen and phase.name != seen[-1]:
            die()
        seen.append(phase.name)
        return phase

    Optimizers.enter_phase = enter_phase  # type: ignore[method-assign]


def arm(kind: str, number: float) -> None:
    """Choose the moment."""
    if kind == "time":
        timer = threading.Timer(number, die)
        timer.daemon = True
        timer.start()
    elif kind == "step":
        call_until(TrainingDataLoader, "__call__", int(number))
    elif kind == "phase":
        at_phase_boundary()
    elif kind == "checkpoint write":
        call_until(checkpoint._HashingWriter, "write", int(number), after=True)
    elif kind == "checkpoint closed":
        call_until(checkpoint._HashingWriter, "close", int(number), after=True)
    elif kind == "rename":
        call_until(Path, "replace", int(number), after=True)
    elif kind == "removal":
        call_until(Path, "unlink", int(number), after=True)
    elif kind == "packing":
        call_until(cache, "decode_image" if number else "_write_sidecar", int(number) or 1)
    elif kind == "evaluation":
        call_until(evaluator, "evaluation_batch", int(number))
    elif kind == "result write":
        call_until(schema.pq, "write_table", int(number), after=True)
    elif kind == "report write":
        call_until(render, "write_page" if number > 1 else "render_page", 1)
    elif kind == "memory":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + int(number)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    elif kind == "clock":
        backwards = itertools.count(2_000_000_000, -3600)
        time.time = lambda: float(next(backwards))
        run_folder.utc_timestamp = lambda: f"{2100 - next(backwards) % 100}-01-01T00:00:00Z"


def child(data: str, moment: tuple[str, float]) -> None:
    torch.set_num_threads(1)
    arm(*moment)
    settings = resolve_config(
        "smoke", {"images_seen": 80, "checkpoint_every": 1, "test_images": 4, "precision": "fp32"}
    )
    outcome = run_experiment(
        Request(models=("glcic",), masks=("center",), data=data, settings=settings, name="stress"),
        RunCallbacks(),
    )
    if outcome.failed:
        raise RuntimeError("a cell failed")
    render.render_report(outcome.store.folder, outcome.store.report_folder)


if __name__ == "__main__":
    os.chdir(sys.argv[2])
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                child(sys.argv[1], tuple(json.loads(line)))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])}\n")
        sys.stdout.flush()
