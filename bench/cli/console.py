"""What a run prints: live bars on a terminal, plain lines elsewhere, and the table at the end."""

from __future__ import annotations

import math
import time
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.table import Table

from bench.suite.listener import Listener
from bench.training.monitor import Progress as TrainingProgress

_PLAIN_SECONDS = 10.0  # between two plain lines of one training


class ConsoleListener(Listener):
    """Prints a run as it goes.

    Args:
        quiet: print warnings and failures only.
        procedural: the data are the embedded faces; say so, and how to give real ones.
    """

    def __init__(self, *, quiet: bool = False, procedural: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.quiet, self.procedural = quiet, procedural
        self._live: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._last = 0.0

    def __enter__(self) -> ConsoleListener:
        """Start the live display where there is a terminal."""
        if self.console.is_terminal and not self.quiet:
            self._live = Progress(
                SpinnerColumn(),
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
        self.note(f"{cells} cells{done}; {trainings} trainings to run: {about} on this machine.")

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

    def _show(self, key: str, what: str, done: int, of: int, detail: str) -> None:
        if self.quiet:
            return
        if self._live:
            if key not in self._tasks:
                self._tasks[key] = self._live.add_task(what, total=of, detail=detail)
            self._live.update(self._tasks[key], completed=done, detail=detail)
            if done >= of:
                self._live.remove_task(self._tasks.pop(key))
        elif time.perf_counter() - self._last > _PLAIN_SECONDS:
            self._last = time.perf_counter()
            self.console.print(f"{what}: {detail}", markup=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """``45 s``, ``3 min``, ``2.5 h``, ``4 days``."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 172800:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.0f} days"


def print_summary(folder: Path, page: Path, *, failed: int) -> None:
    """The experiment's table on standard output, then where the report lies."""
    import pandas as pd

    from reports.experiment import load_experiment
    from reports.set_metrics import set_note, summarise_sets
    from reports.summary import method_name, summarise

    experiment = load_experiment(folder)
    console = Console(highlight=False)
    if not experiment.rows.empty:
        metrics = ["psnr_db", "ssim", "lpips_alex"]
        sets = summarise_sets(experiment.cells)
        names = list(dict.fromkeys(sets["metric"])) if len(sets) else []
        summary = pd.concat([summarise(experiment.rows, metrics), sets])
        for mask in dict.fromkeys(experiment.rows["mask"]):
            table = Table(title=f"mask: {mask}", title_justify="left")
            table.add_column("model")
            for heading in ("PSNR (dB)", "SSIM", "LPIPS (Alex)", *(name.upper() for name in names)):
                table.add_column(heading, justify="right")
            part = summary[summary["mask"] == mask]
            for (label, train_mask), of in part.groupby(["label", "train_mask"], sort=False, observed=True):
                means = dict(zip(of["metric"], of["mean"].astype(float), strict=True))
                digits = {"psnr_db": 2, **dict.fromkeys(names, 2)}
                numbers = (_number(means, m, digits.get(m, 4)) for m in [*metrics, *names])
                table.add_row(method_name(part, label, train_mask), *numbers)
            console.print(table)
            for name in names:
                of = part[part["metric"] == name]
                if len(of):
                    console.print(set_note(name.upper(), int(of["n_images"].min())), soft_wrap=True)
    data = experiment.manifest["data"]
    if data["procedural"]:
        console.print(
            "These are procedural faces, not real results: give --data PATH for CelebA or a folder of pictures.",
            soft_wrap=True,
        )
    if experiment.manifest["settings"]["preset"] != "paper":
        seen = experiment.manifest["settings"]["images_seen"]
        console.print(
            f"After {seen:,} images seen the ranking of trained models is mostly noise.", soft_wrap=True
        )
    if failed:
        console.print(f"{failed} cells failed; the report and the manifest have their errors.", style="red")
    console.print(f"report: {page}", soft_wrap=True, markup=False)


def _number(means: dict[str, float], metric: str, digits: int) -> str:
    mean = means.get(metric)
    return "n/a" if mean is None or math.isnan(mean) else f"{mean:.{digits}f}"
