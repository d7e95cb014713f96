"""What a run prints before it starts (``--dry-run``) and when it has ended: tables, or JSON."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from bench.cli.wrapping import echo_line
from bench.config import Request
from bench.progress import ConsoleCallbacks, format_bytes, format_duration
from bench.wording import format_count
from masks.file_names import one_line

if TYPE_CHECKING:
    from reports.results.experiment import Experiment
    from reports.results.metric_info import MetricInfo


def print_summary(folder: Path, page: Path, *, failed: int, as_json: bool = False) -> None:
    """Print the experiment's table on standard output, then the path of the report."""
    from reports.results.experiment import load_experiment
    from reports.statistics.ranking import describe_ranking

    experiment = load_experiment(folder)
    # Without a finished cell there is nothing to average, and pandas would complain.
    means, notes = method_means(experiment) if not experiment.rows.empty else ([], {})
    if as_json:
        about = {"experiment": experiment.name, "folder": str(folder), "report": str(page), "failed": failed}
        # JSON alone on standard output: another program reads it.
        click.echo(json.dumps({**about, "means": means}, indent=1))
        return
    # No markup: names of masks and methods may hold brackets, which rich would take for its own.
    console = Console(highlight=False, markup=False)
    # On a terminal, sentences break between words; in a file or a pipe each stays one line.
    whole = not console.is_terminal
    for mask in dict.fromkeys(row["mask"] for row in means):
        table = Table(title=one_line(f"mask: {mask}"), title_justify="left")
        table.add_column("model")
        metrics = [info for name, info in experiment.metrics.items() if name in means[0]]
        for metric in metrics:
            table.add_column(metric.title, justify="right")
        for row in means:
            if row["mask"] == mask:
                table.add_row(
                    one_line(row["method"]), *(_number(row[metric.name], metric) for metric in metrics)
                )
        console.print(table)
        for note in notes[mask]:
            console.print(one_line(note), soft_wrap=whole, markup=False)
    manifest = experiment.manifest
    # Said after the numbers, where somebody who copies the table sees it.
    if manifest["data"]["procedural"]:
        console.print(
            "These are procedural faces, not real results: give --data PATH for CelebA or a folder of images.",
            soft_wrap=whole,
        )
    for line in describe_samples(experiment):
        console.print(one_line(line), soft_wrap=whole, markup=False)
    for line in describe_ranking(experiment.rows):
        console.print(one_line(line), soft_wrap=whole, markup=False)
    if failed:
        console.print(f"{failed} cells failed; the report and the manifest have their errors.", style="red")
    console.print(one_line(f"report: {page}"), soft_wrap=True, markup=False)


def method_means(experiment: Experiment) -> tuple[list[dict[str, Any]], dict[str, list[str]]]:
    """Return one entry per method and mask, in table order, and notes by mask; ``None`` where not measured."""
    import pandas as pd

    from reports.context import method_places
    from reports.statistics.summary import (
        distribution_note,
        method_name,
        summarize,
        summarize_distribution_metrics,
    )

    infos, places = experiment.metrics, method_places(experiment)
    primary = [name for name, info in infos.items() if info.group == "primary"]
    sets = summarize_distribution_metrics(experiment.cells)
    of_sets = list(dict.fromkeys(sets["metric"])) if len(sets) else []
    names = [*primary, *of_sets]
    # Per-image metrics and metrics of sets come from different places, and are one table to a reader.
    summary = pd.concat([summarize(experiment.rows, primary), sets])
    found, notes = [], {}
    for mask in experiment.masks:
        part = summary[summary["mask"] == mask]
        methods = part.groupby(["label", "train_mask"], sort=False, observed=True)
        for (label, train_mask), of in sorted(methods, key=lambda method: places[method[0]]):
            means = dict(zip(of["metric"], of["mean"].astype(float), strict=True))
            kept = {m: None if math.isnan(v := means.get(m, math.nan)) else v for m in names}
            found.append({"method": method_name(part, label, train_mask), "mask": mask, **kept})
        lines = {name: part[part["metric"] == name] for name in of_sets}
        notes[mask] = [
            distribution_note(infos[name], int(of["n_images"].min()), interval=bool(of["low"].notna().all()))
            for name, of in lines.items()
            if len(of)
        ]
    return found, notes


def describe_samples(experiment: Experiment) -> list[str]:
    """Say of each stochastic model with several samples what its samples say, a sentence a mask."""
    from reports.statistics.stochastic_samples import sample_spread, summarize_samples

    metric = next((m for m in experiment.metrics.values() if m.group == "primary"), None)
    if metric is None:
        return []
    table = summarize_samples(experiment.rows, [metric.name], experiment.higher_is_better)
    spread = sample_spread(experiment.cells)
    lines = []
    for line in table.to_dict("records"):
        own = spread[(spread["mask"] == line["mask"]) & (spread["label"] == line["label"])]
        diversity = f"{own['diversity'].mean():.4f}" if own["diversity"].notna().any() else "n/a"
        inside, expected = (f"{100 * own[name].mean():.0f} %" for name in ("inside", "expected_inside"))
        mean, best = (f"{line[name]:.{metric.digits}f}" for name in ("mean", "best_of_samples"))
        lines.append(
            f"{line['label']} on {line['mask']}: mean over {line['n_samples']} samples, {metric.title} {mean} "
            f"(the best sample of each image, an oracle: {best}); LPIPS between samples in the hole {diversity}; "
            f"truth inside the spread {inside}, {expected} if calibrated."
        )
    return lines


def _number(mean: float | None, metric: MetricInfo) -> str:
    return "n/a" if mean is None else f"{mean:.{metric.digits}f}"


def print_preview(request: Request, *, as_json: bool) -> None:
    """Print the cells of a run with their state, then time and memory of the rest."""
    from bench.runner.preview import preview_run

    with ConsoleCallbacks() as callbacks:
        # Callbacks print to standard error, so that JSON on standard output stays whole.
        planned = preview_run(request, callbacks)
    if as_json:
        click.echo(json.dumps({**asdict(planned), "folder": str(planned.folder)}, indent=1))
        return
    table = Table(title=one_line(str(planned.folder)), title_justify="left")
    for heading in ("model", "mask", "seed", "state"):
        table.add_column(heading, overflow="fold")
    for cell in planned.cells:
        state = "; ".join([cell.state, *cell.changes])
        table.add_row(one_line(cell.label), one_line(cell.mask), str(cell.seed), one_line(state))
    Console(highlight=False, markup=False).print(table)
    done = sum(cell.done for cell in planned.cells)
    about = "unknown time" if planned.seconds is None else f"about {format_duration(planned.seconds)}"
    echo_line(
        f"{format_count(len(planned.cells), 'cell')}, {done} done; "
        f"{format_count(planned.trainings, 'training')} to run: {about} on {planned.device}"
    )
    if planned.trainings:
        memory = "unknown" if planned.memory_bytes is None else f"about {format_bytes(planned.memory_bytes)}"
        echo_line(f"memory: {memory} for the largest training, beside the images")
