"""What a run prints as it goes: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
import traceback
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

from bench.runner.callbacks import Listener
from bench.training.metric_logger import Progress as TrainingProgress

_PLAIN_SECONDS = 10.0  # between two plain lines of one training


class ConsoleListener(Listener):
    """Prints a run as it goes.

    Args:
        quiet: print warnings and failures only.
        verbose: print every reading of the losses as a line of its own, and the tracebacks of failures.
        procedural: the data are the embedded faces; say so, and how to give real ones.
    """

    def __init__(self, *, quiet: bool = False, verbose: bool = False, procedural: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.quiet, self.verbose, self.procedural = quiet, verbose, procedural
        self._live: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._last = 0.0

    def __enter__(self) -> ConsoleListener:
        """Start the live display where there is a terminal."""
        if self.console.is_terminal and not self.quiet and not self.verbose:
            self._live = Progress(
                SpinnerColumn("line" if self.console.options.ascii_only else "dots"),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[detail]}", markup=False),
                console=self.console,
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the live display."""
        if self._live:
            self._live.stop()

    def note(self, text: str) -> None:
        """Print a sentence."""
        if not self.quiet:
            self.console.print(text, markup=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Print a warning."""
        self.console.print(f"warning: {text}", markup=False, style="yellow", soft_wrap=True)

    def preparing(self, what: str, done: int, of: int) -> None:
        """Show packing."""
        self._show("data", what, done, of, f"{done:,} of {of:,}")

    def planned(self, trainings: int, cells: int, cached: int, estimate_seconds: float | None) -> None:
        """Say what is to come."""
        if self.procedural:
            self.note("Data: procedural faces, embedded for trying things out. For CelebA give --data PATH.")
        about = "unknown time" if estimate_seconds is None else f"about {duration(estimate_seconds)}"
        done = f", {cached} of them done already" if cached else ""
        self.note(
            f"{several(cells, 'cell')}{done}; {several(trainings, 'training')} to run: {about} on this machine."
        )

    def training_started(self, label: str, index: int, of: int, num_steps: int) -> None:
        """Announce a training."""
        self._last = time.perf_counter()
        self.note(f"[{index}/{of}] training {label}: {num_steps:,} steps")

    def training_progress(self, label: str, progress: TrainingProgress) -> None:
        """Phase, step, images/s, time left and losses."""
        losses = "  ".join(
            f"{k.removesuffix('/loss')} {v:.4g}" for k, v in progress.terms.items() if k.endswith("/loss")
        )
        detail = (
            f"{progress.phase}  step {progress.step:,}/{progress.num_steps:,}  "
            f"{progress.images_per_second:.0f} images/s  {duration(progress.seconds_left)} left  {losses}"
        )
        self._show(label, label, progress.step, progress.num_steps, detail)

    def evaluating(self, label: str, mask: str, done: int, of: int) -> None:
        """Images scored."""
        self._show(f"{label}/{mask}", f"evaluating {label} on {mask}", done, of, f"{done:,} of {of:,}")

    def cell_done(self, label: str, mask: str, means: dict[str, float]) -> None:
        """A finished cell in one line."""
        shown = "  ".join(f"{name} {value:.4g}" for name, value in means.items())
        self.note(f"{label} on {mask}: {shown}")

    def cell_failed(self, label: str, mask: str, reason: str) -> None:
        """A failed cell in one line; the traceback is in the manifest and the report."""
        self.console.print(f"failed: {label} on {mask}: {reason}", markup=False, style="red", soft_wrap=True)
        if self.verbose and sys.exc_info()[0]:
            self.console.print(traceback.format_exc(), markup=False, soft_wrap=True)

    def _show(self, key: str, what: str, done: int, of: int, detail: str) -> None:
        if self.quiet:
            return
        if self._live:
            if key not in self._tasks:
                self._tasks[key] = self._live.add_task(what, total=of, detail=detail)
            self._live.update(self._tasks[key], completed=done, detail=detail)
            if done >= of:
                self._live.remove_task(self._tasks.pop(key))
        elif self.verbose or time.perf_counter() - self._last > _PLAIN_SECONDS:
            self._last = time.perf_counter()
            self.console.print(f"{what}: {detail}", markup=False, soft_wrap=True)


def several(count: int, noun: str) -> str:
    """``1 cell``, ``2 cells``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def duration(seconds: float) -> str:
    """``45 s``, ``3 min``, ``2.5 h``, ``4 days``."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 172800:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.0f} days"
