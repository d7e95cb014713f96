"""What a run prints as it goes: bars on a terminal and in notebooks, plain lines elsewhere."""

from __future__ import annotations

import importlib.util
import sys
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID
from rich.table import Column
from rich.text import Text

from bench.runner.callbacks import RunCallbacks, RunEstimate
from bench.wording import format_count
from masks.file_names import one_line

if TYPE_CHECKING:
    from bench.training.metric_logger import Progress as TrainingProgress

_PLAIN_SECONDS = 10.0  # between two plain lines of one training
_BAR_WIDTH = 16
_LABEL_WIDTH = 20


@dataclass
class RunClock:
    """Tells how long a run still takes, correcting the estimate by what was measured so far.

    Trainings and evaluations are corrected apart: a machine may be twice as slow as estimated in one of them only.

    Attributes:
        estimate: seconds foreseen for every part of the run.

    Examples:
        >>> clock = RunClock(RunEstimate(trainings=(10.0, 10.0), evaluations=(2.0, 2.0), overhead=1.0))
        >>> clock.seconds_left()
        25.0
        >>> clock.advance("training", 0, share=1.0, seconds=20.0)  # took twice as long as foreseen
        >>> clock.seconds_left()
        25.0
        >>> round(clock.share_done(), 2)
        0.44
    """

    estimate: RunEstimate
    _done: dict[tuple[str, int], float] = field(default_factory=dict)
    _seconds: dict[tuple[str, int], float] = field(default_factory=dict)

    def advance(self, kind: str, index: int, *, share: float, seconds: float) -> None:
        """Record that ``share`` of the ``index``-th training or evaluation is done, in ``seconds`` of this run."""
        self._done[kind, index], self._seconds[kind, index] = share, seconds

    def skip(self, index: int, share: float) -> None:
        """Leave out the part of a training that an earlier run did."""
        seconds = list(self.estimate.trainings)
        if index < len(seconds):
            seconds[index] *= 1 - share
        self.estimate = RunEstimate(tuple(seconds), self.estimate.evaluations, self.estimate.overhead)

    def seconds_left(self) -> float:
        """Estimate the seconds that are left."""
        parts = (
            self._left("training", self.estimate.trainings),
            self._left("evaluation", self.estimate.evaluations),
        )
        return sum(parts) + self.estimate.overhead

    def share_done(self) -> float:
        """Share of the whole run that is done, from 0 to 1."""
        # Counted from what this run took: parts that an earlier run did are not in it.
        spent = sum(self._seconds.values())
        return spent / max(spent + self.seconds_left(), 1e-9)

    def _left(self, kind: str, foreseen: tuple[float, ...]) -> float:
        done = sum(
            foreseen[i] * share for (k, i), share in self._done.items() if k == kind and i < len(foreseen)
        )
        spent = sum(seconds for (k, _), seconds in self._seconds.items() if k == kind)
        total = sum(foreseen)
        if not done:
            return total
        # The first steps compile, allocate and fill caches: trust the measurement as it grows.
        trust = min(1.0, 10 * done / total)
        pace = (1 - trust) + trust * spent / done
        return max(total - done, 0.0) * pace


class _DetailColumn(ProgressColumn):
    """The parts of a task's state that fit into the line, the most important first."""

    max_refresh = None

    def __init__(self, console: Console) -> None:
        super().__init__(Column(no_wrap=True, overflow="crop"))
        self._console = console

    def render(self, task: Task) -> Text:
        """Join what fits, and leave the losses out first."""
        # Measured anew each time, since a terminal may be resized.
        width = self._console.width - _LABEL_WIDTH - _BAR_WIDTH - 5  # a spinner and the gaps between columns
        return Text(fit_parts(task.fields["parts"], task.fields["extras"], width))


class _LabelColumn(ProgressColumn):
    """What is running, cut to a fixed width."""

    def render(self, task: Task) -> Text:
        """Show the description, cut to the width."""
        text = task.description
        return Text(text if len(text) <= _LABEL_WIDTH else f"{text[: _LABEL_WIDTH - 3]}...")


def fit_parts(parts: Iterable[str], extras: Iterable[str], width: int) -> str:
    """Join ``parts`` and as many ``extras`` as fit into ``width`` characters; parts go from the end.

    Examples:
        >>> fit_parts(["47/100", "12 s left"], ["joint", "loss 0.12"], 40)
        '47/100  12 s left  joint  loss 0.12'
        >>> fit_parts(["47/100", "12 s left"], ["joint", "loss 0.12"], 24)
        '47/100  12 s left  joint'
        >>> fit_parts(["47/100", "12 s left"], ["joint", "loss 0.12"], 10)
        '47/100'
    """
    line = ""
    for part in (*parts, *extras):
        longer = f"{line}  {part}" if line else part
        # The parts behind one that does not fit matter less, so none of them takes its place.
        if len(longer) > width:
            break
        line = longer
    return line


class ConsoleCallbacks(RunCallbacks):
    """Prints a run as it goes.

    Args:
        quiet: print warnings and failures only.
        verbose: print every reading of the losses as a line of its own, and the tracebacks of failures.
        procedural: the data are the embedded faces; say so, and how to give real ones.
        console: where to print; standard error by default, the cell in a notebook.
        began: ``time.monotonic()`` when the command started; now by default.
    """

    def __init__(
        self,
        *,
        quiet: bool = False,
        verbose: bool = False,
        procedural: bool = False,
        console: Console | None = None,
        began: float | None = None,
    ) -> None:
        self.console = console or Console(stderr=True, highlight=False)
        self._began = time.monotonic() if began is None else began
        self.quiet, self.verbose, self.procedural = quiet, verbose, procedural
        self._live: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._last = 0.0
        self._clock: RunClock | None = None
        self._trainings: dict[str, tuple[int, float, int | None]] = {}  # label -> index, start, first step
        self._counts = {"training": [0, 0], "evaluation": [0, 0]}  # done, of
        self._evaluation = (-1, 0.0)  # index and start of the current one

    def __enter__(self) -> ConsoleCallbacks:
        """Start the live display where there is a terminal or a notebook."""
        # Lines of --verbose would tear a display that is drawn over and over.
        if _can_redraw(self.console) and not self.quiet and not self.verbose:
            self._live = Progress(
                SpinnerColumn("line" if self.console.options.ascii_only else "dots"),
                _LabelColumn(),
                BarColumn(bar_width=_BAR_WIDTH),
                _DetailColumn(self.console),
                console=self.console,
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the live display, and say how long it took."""
        # Bars of what was interrupted would stay on the screen as if they were running.
        if self._live:
            for task in list(self._live.task_ids):
                self._live.remove_task(task)
            self._live.stop()
        # Not after an error, which is the last thing to be read.
        if self._clock and value is None:
            self.note(f"finished in {format_duration(time.monotonic() - self._began)}")

    def note(self, text: str) -> None:
        """Print a sentence."""
        if not self.quiet:
            self.console.print(one_line(text), markup=False, soft_wrap=not self.console.is_terminal)

    def warn(self, text: str) -> None:
        """Print a warning."""
        self.console.print(
            f"warning: {one_line(text)}", markup=False, style="yellow", soft_wrap=not self.console.is_terminal
        )

    def preparing(self, what: str, done: int, of: int) -> None:
        """Show packing."""
        self._show("data", what, done, of, [f"{done:,} of {of:,}"])

    def planned(self, trainings: int, cells: int, cached: int, estimate: RunEstimate | None) -> None:
        """Say what is to come, and start the bar of the whole run."""
        if self.procedural:
            self.note("Data: procedural faces, embedded for trying things out. For CelebA give --data PATH.")
        about = ""
        if estimate is not None:
            # With the seconds that starting up took, as in the "finished in" at the end.
            seconds = time.monotonic() - self._began + estimate.seconds
            about = f": about {format_duration(seconds)} on this machine"
        done = f", {cached} of them done already" if cached else ""
        self.note(
            f"{format_count(cells, 'cell')}{done}; {format_count(trainings, 'training')} to run{about}."
        )
        open_cells = cells - cached if estimate is None else len(estimate.evaluations)
        self._counts = {"training": [0, trainings], "evaluation": [0, open_cells]}
        # Without an estimate there is a clock all the same, for the time that the run took.
        self._clock = RunClock(estimate or RunEstimate((), (), 0.0))
        self._show_run()

    def training_started(self, label: str, index: int, of: int, num_steps: int) -> None:
        """Announce a training."""
        self._last = time.perf_counter()
        # A job's messages come under its number, those of a run without jobs under the label.
        for name in (label, f"[{index}/{of}] {label}"):  # as trainings side by side call themselves
            self._trainings[name] = (index - 1, time.monotonic(), None)
        self.note(f"[{index}/{of}] training {label}: {num_steps:,} steps")

    def training_step(self, label: str, step: int, num_steps: int) -> None:
        """Move the bar by a step; the first call says where a resumed training continues."""
        index, began, first = self._trainings.get(label, (len(self._trainings), time.monotonic(), None))
        if first is None:
            first = step
            self._trainings[label] = index, began, first
            if step:
                self.note(f"{label}: resumes at step {step:,} of {num_steps:,}")
                if self._clock:
                    self._clock.skip(index, step / num_steps)
        share = (step - first) / max(num_steps - first, 1)
        self._advance("training", index, share, time.monotonic() - began)
        if self._live:
            self._draw(label, label, step, num_steps, [f"{step:,}/{num_steps:,}"])

    def training_progress(self, label: str, progress: TrainingProgress) -> None:
        """Show phase, step, images/s, time left and losses."""
        losses = [
            f"{k.removesuffix('/loss')} {v:.4g}" for k, v in progress.terms.items() if k.endswith("/loss")
        ]
        extras = [progress.phase, f"{progress.images_per_second:.0f} images/s", *losses]
        parts = [
            f"{progress.step:,}/{progress.num_steps:,}",
            f"{format_duration(progress.seconds_left)} left",
        ]
        self._show(label, label, progress.step, progress.num_steps, parts, extras)

    def evaluating(self, label: str, mask: str, done: int, of: int) -> None:
        """Show how many images are scored."""
        index = self._counts["evaluation"][0]
        # A moment earlier, so that the first report does not divide by zero.
        if index != self._evaluation[0]:
            self._evaluation = index, time.monotonic() - 1e-3
        self._advance("evaluation", index, done / max(of, 1), time.monotonic() - self._evaluation[1])
        self._show(f"{label}/{mask}", f"{label} on {mask}", done, of, [f"{done:,} of {of:,} images"])

    def training_done(self, label: str, seconds: float) -> None:
        """Count a finished training."""
        self._counts["training"][0] += 1
        self._show_run()

    def cell_done(self, label: str, mask: str, means: dict[str, float]) -> None:
        """Print a finished cell in one line."""
        self._counts["evaluation"][0] += 1
        self._show_run()
        shown = "  ".join(f"{name} {value:.4g}" for name, value in means.items())
        self.note(f"{label} on {mask}: {shown}")

    def cell_failed(self, label: str, mask: str, reason: str) -> None:
        """Print a failed cell in one line; the traceback is in the manifest and the report."""
        said = one_line(f"failed: {label} on {mask}: {reason}")
        self.console.print(said, markup=False, style="red", soft_wrap=True)
        # Only while the error is handled: a failure of a job comes without its traceback.
        if self.verbose and sys.exc_info()[0]:
            self.console.print(traceback.format_exc(), markup=False, soft_wrap=True)

    def _advance(self, kind: str, index: int, share: float, seconds: float) -> None:
        if self._clock:
            self._clock.advance(kind, index, share=share, seconds=seconds)
            self._show_run()

    def _show_run(self) -> None:
        """Draw the outer bar: how far the whole run is, and how long it still takes."""
        if not (self._live and self._clock):
            return
        left = format_duration(self._clock.seconds_left())
        counts = [f"{done}/{of} {kind}s" for kind, (done, of) in self._counts.items() if of]
        # An estimate of nothing would show 100 % from the start.
        known = bool(self._clock.estimate.seconds)
        share = self._clock.share_done() if known else 0.0
        parts = [f"{share:.0%}", f"{left} left"] if known else []
        self._draw("run", "whole run", share, 1.0, parts, counts)

    def _show(
        self, key: str, what: str, done: int, of: int, parts: list[str], extras: Iterable[str] = ()
    ) -> None:
        """Draw a bar, or print a line once in a while; ``parts`` matter more than ``extras``."""
        if self.quiet:
            return
        if self._live:
            self._draw(key, what, done, of, parts, list(map(one_line, extras)))
        elif self.verbose or time.perf_counter() - self._last > _PLAIN_SECONDS:
            self._last = time.perf_counter()
            text = f"{what}: {'  '.join([*parts, *extras])}"
            self.console.print(one_line(text), markup=False, soft_wrap=not self.console.is_terminal)

    def _draw(
        self, key: str, what: str, done: float, of: float, parts: list[str], extras: list[str] | None = None
    ) -> None:
        """Update one bar and remove it once it is full; without ``extras`` the rest of the last detail stays."""
        assert self._live is not None
        if key not in self._tasks:
            self._tasks[key] = self._live.add_task(one_line(what), total=of, parts=parts, extras=extras or [])
        # A bar is moved at every step, and the losses of the last report stay beside it.
        if extras is None:
            fields = next(t.fields for t in self._live.tasks if t.id == self._tasks[key])
            parts, extras = [*parts, *fields["parts"][len(parts) :]], fields["extras"]
        self._live.update(self._tasks[key], completed=done, parts=parts, extras=extras)
        # Removed once it is full, except for the run's own, which stays until the end.
        if done >= of and key != "run":
            self._live.remove_task(self._tasks.pop(key))


def _can_redraw(console: Console) -> bool:
    """Return whether lines can be drawn again: on a terminal, and in a notebook that has widgets."""
    if console.is_jupyter:
        return importlib.util.find_spec("ipywidgets") is not None
    return console.is_terminal


def format_duration(seconds: float) -> str:
    """Write a duration in the unit that a person would choose.

    Examples:
        >>> [format_duration(s) for s in (0.2, 45, 200, 9000, 400_000)]
        ['1 s', '45 s', '3 min', '2.5 h', '5 days']
    """
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 172800:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.0f} days"


def format_bytes(num_bytes: float) -> str:
    """Write a number of bytes in binary units.

    Examples:
        >>> [format_bytes(b) for b in (512, 3_355_443, 16_106_127_360)]
        ['512 B', '3.2 MiB', '15 GiB']
    """
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    value, unit = float(num_bytes), 0
    while value >= 1024 and unit < len(units) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} {units[unit]}" if unit == 0 or value >= 10 else f"{value:.1f} {units[unit]}"
