"""What a run prints as it goes: live bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import json
import math
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.table import Table

from bench.config import Request
from bench.runner.callbacks import RunCallbacks
from bench.training.metric_logger import Progress as TrainingProgress

if TYPE_CHECKING:
    from reports.results.experiment import Experiment

_PLAIN_SECONDS = 10.0  # between two plain lines of one training


class ConsoleCallbacks(RunCallbacks):
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

    def __enter__(self) -> ConsoleCallbacks:
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
        about = "unknown time" if estimate_seconds is None else f"about {format_duration(estimate_seconds)}"
        done = f", {cached} of them done already" if cached else ""
        self.note(
            f"{format_count(cells, 'cell')}{done}; {format_count(trainings, 'training')} to run: {about} on "
            "this machine."
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
            f"{progress.images_per_second:.0f} images/s  {format_duration(progress.seconds_left)} left  {losses}"
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


def format_count(count: int, noun: str) -> str:
    """``1 cell``, ``2 cells``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def format_duration(seconds: float) -> str:
    """``45 s``, ``3 min``, ``2.5 h``, ``4 days``."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 172800:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.0f} days"


# Bytes and seconds as a person reads them.


def format_bytes(num_bytes: float) -> str:
    """``512 B``, ``3.2 MiB``, ``15 GiB``."""
    units = ("B", "KiB", "MiB", "GiB", "TiB")
    value, unit = float(num_bytes), 0
    while value >= 1024 and unit < len(units) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} {units[unit]}" if unit == 0 or value >= 10 else f"{value:.1f} {units[unit]}"


# What a run prints when it has ended, and what it would do before it starts: as tables or as JSON.


_HEADINGS = {"psnr_db": "PSNR (dB)", "ssim": "SSIM", "lpips_alex": "LPIPS (Alex)"}


def print_summary(folder: Path, page: Path, *, failed: int, as_json: bool = False) -> None:
    """The experiment's table on standard output, then where the report lies."""
    from reports.results.experiment import load_experiment

    experiment = load_experiment(folder)
    means, notes = _means(experiment) if not experiment.rows.empty else ([], {})
    if as_json:
        told = {"experiment": experiment.name, "folder": str(folder), "report": str(page), "failed": failed}
        click.echo(json.dumps({**told, "means": means}, indent=1))
        return
    console = Console(highlight=False)
    for mask in dict.fromkeys(row["mask"] for row in means):
        table = Table(title=f"mask: {mask}", title_justify="left")
        table.add_column("model")
        metrics = [key for key in means[0] if key not in ("method", "mask")]
        for name in metrics:
            table.add_column(_HEADINGS.get(name, name.upper()), justify="right")
        for row in means:
            if row["mask"] == mask:
                numbers = (_number(row[m], 4 if m in ("ssim", "lpips_alex") else 2) for m in metrics)
                table.add_row(row["method"], *numbers)
        console.print(table)
        for note in notes[mask]:
            console.print(note, soft_wrap=True, markup=False)
    manifest = experiment.manifest
    if manifest["data"]["procedural"]:
        console.print(
            "These are procedural faces, not real results: give --data PATH for CelebA or a folder of pictures.",
            soft_wrap=True,
        )
    if manifest["settings"]["preset"] != "paper":
        seen = manifest["settings"]["images_seen"]
        console.print(
            f"After {seen:,} images seen the ranking of trained models is mostly noise.", soft_wrap=True
        )
    if failed:
        console.print(f"{failed} cells failed; the report and the manifest have their errors.", style="red")
    console.print(f"report: {page}", soft_wrap=True, markup=False)


def _means(experiment: Experiment) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    """One entry a method and mask, in table order, and notes by mask; what was not measured is ``None``."""
    import pandas as pd

    from reports.statistics.summary import (
        distribution_note,
        method_name,
        summarize,
        summarize_distribution_metrics,
    )

    sets = summarize_distribution_metrics(experiment.cells)
    names = [*_HEADINGS, *(dict.fromkeys(sets["metric"]) if len(sets) else ())]
    summary = pd.concat([summarize(experiment.rows, list(_HEADINGS)), sets])
    found, notes = [], {}
    for mask in experiment.masks:
        part = summary[summary["mask"] == mask]
        for (label, train_mask), of in part.groupby(["label", "train_mask"], sort=False, observed=True):
            means = dict(zip(of["metric"], of["mean"].astype(float), strict=True))
            kept = {m: None if math.isnan(v := means.get(m, math.nan)) else v for m in names}
            found.append({"method": method_name(part, label, train_mask), "mask": mask, **kept})
        counts = {name: part.loc[part["metric"] == name, "n_images"] for name in names[len(_HEADINGS) :]}
        notes[mask] = [distribution_note(name.upper(), int(n.min())) for name, n in counts.items() if len(n)]
    return found, notes


def _number(mean: float | None, digits: int) -> str:
    return "n/a" if mean is None else f"{mean:.{digits}f}"


def print_preview(request: Request, *, as_json: bool) -> None:
    """The cells of a run and where each stands, then what the rest takes."""
    from bench.runner.status import preview_run

    with ConsoleCallbacks() as callbacks:
        planned = preview_run(request, callbacks)
    if as_json:
        click.echo(json.dumps({**asdict(planned), "folder": str(planned.folder)}, indent=1))
        return
    table = Table(title=str(planned.folder), title_justify="left")
    for heading in ("model", "mask", "seed", "state"):
        table.add_column(heading, overflow="fold")
    for cell in planned.cells:
        table.add_row(cell.label, cell.mask, str(cell.seed), cell.state)
    Console(highlight=False, markup=False).print(table)
    done = sum(cell.done for cell in planned.cells)
    about = "unknown time" if planned.seconds is None else f"about {format_duration(planned.seconds)}"
    click.echo(
        f"{format_count(len(planned.cells), 'cell')}, {done} done; "
        f"{format_count(planned.trainings, 'training')} to run: {about} on {planned.device}"
    )
    if planned.trainings:
        memory = "unknown" if planned.memory_bytes is None else f"about {format_bytes(planned.memory_bytes)}"
        click.echo(f"memory: {memory} for the largest training, beside the images")
