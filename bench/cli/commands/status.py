"""``bench status``: where an experiment stands."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from bench.cli import options
from bench.cli.options import json_option
from bench.cli.wrapping import echo_line
from bench.wording import format_count
from masks.file_names import one_line

if TYPE_CHECKING:
    from bench.runner.status import RunStatus
    from bench.runner.unit_status import UnitStatus

_ORDER = ("done", "waiting", "failed", "damaged", "not-applicable")
_STAGE_COLORS = {"running": "green", "queued": "yellow", "stopped": "yellow", "lost": "red", "failed": "red"}
_COLORS = {"done": "green", "failed": "red", "damaged": "red", "waiting": "yellow"}


@click.command(
    epilog="\b\nExamples:\n  bench status\n  bench status all-center-celeba-paper\n  bench status my-run --json"
)
@click.argument("experiment", required=False, shell_complete=options.complete_experiments)
@json_option
def status_command(experiment: str | None, as_json: bool) -> None:
    """Show what of EXPERIMENT (a name in runs/, or a path) is done; of every experiment without one."""
    from dataclasses import asdict

    from bench.errors import BenchError
    from bench.experiments import find_experiment, list_experiments
    from bench.runner.run_folder import RUNS
    from bench.runner.status import read_status

    if experiment is None:
        # Folders with cells and without a manifest too: a manifest that was lost is worth an error.
        folders = list_experiments(RUNS, ("manifest.json", "cells"))
    else:
        folders = [find_experiment(experiment)]
    found: list[RunStatus] = []
    unreadable = 0
    for folder in folders:
        try:
            found.append(read_status(folder))
        except BenchError as error:
            # Of many experiments, one that cannot be read must not hide the others.
            if experiment is not None:
                raise
            echo_line(f"error: {error!s}", err=True)
            unreadable += 1
    if as_json:
        plain: list[dict[str, Any]] = [
            {
                **asdict(s),
                "counts": dict(s.counts),
                "report": str(s.report) if s.report else None,
                "config": str(s.config) if s.config else None,
            }
            for s in found
        ]
        click.echo(json.dumps(plain if experiment is None else plain[0], indent=1))
    elif experiment is None:
        _list(found)
    else:
        _show(found[0])
    # So that a script notices damage without reading the text.
    if unreadable or any(status.counts["damaged"] or status.missing or status.unlisted for status in found):
        sys.exit(1)


def _list(found: list[RunStatus]) -> None:
    if not found:
        echo_line("runs/ holds no experiment yet; 'bench run' makes one")
        return
    width = max(len(one_line(status.name)) for status in found)
    for status in found:
        echo_line(f"{one_line(status.name):<{width}}  {_summary(status)}  {status.updated}")


def _show(status: RunStatus) -> None:
    from bench.progress import format_bytes
    from reports.results.recorded_files import describe_unlisted
    from reports.results.schema import EXTERNAL

    echo_line(status.name, bold=True)
    echo_line(f"  created {status.created}, changed {status.updated}, {format_bytes(status.num_bytes)}")
    echo_line(f"  {_summary(status)}")
    for state in _ORDER:
        for cell in status.cells:
            if cell["status"] == state and (state != "done"):
                on = f"{cell['label']} on {cell['mask']}, seed {cell['seed']}"
                echo_line(
                    f"  {state:<15}{on}{': ' + cell['reason'] if cell['reason'] else ''}",
                    fg=_COLORS.get(state),
                )
    for cell in status.cells:
        if cell["train_mask"] == EXTERNAL:
            echo_line(f"  {'scored':<15}{cell['label']} on {cell['mask']}")
    for path in status.missing:
        said = f"  {'damaged':<15}{path} is empty or gone; give the command that made it again"
        echo_line(said, fg=_COLORS["damaged"])
    for place in status.unlisted:
        echo_line(f"  {'not listed':<15}{describe_unlisted(place)}", fg=_COLORS["damaged"])
    for training in status.trainings:
        of = f" of {training.num_steps:,}" if training.num_steps else ""
        echo_line(f"  on the way     {training.name}: step {training.saved_step:,}{of} saved")
    _show_units(status.units)
    echo_line(f"  report         {status.report or 'not written: bench report ' + status.name}")
    # A merge and an import have none: of a damaged cell, the reason says what helps.
    if status.config and (
        status.missing
        or status.unlisted
        or any(status.counts[state] for state in ("waiting", "failed", "damaged"))
    ):
        echo_line(f"  continue with  bench run --config runs/{status.name}/config.toml")


def _show_units(units: list[UnitStatus]) -> None:
    """Print how units of work stand: a line for each that has not finished."""
    from bench.runner.unit_status import UNIT_STAGES

    if not units:
        return
    counts = {stage: sum(unit.stage == stage for unit in units) for stage in UNIT_STAGES}
    echo_line(
        f"  units          {len(units)}: {', '.join(f'{n} {stage}' for stage, n in counts.items() if n)}"
    )
    for stage in UNIT_STAGES:
        for unit in units:
            if unit.stage == stage != "finished":
                echo_line(f"    {stage:<13}{_describe_unit(unit)}", fg=_STAGE_COLORS.get(stage))


def _describe_unit(unit: UnitStatus) -> str:
    """Return a unit's name, its job, where it is, why it failed, and what its log ends with."""
    words = [unit.name]
    if unit.job:
        times = f", submitted {unit.attempts} times" if unit.attempts > 1 else ""
        queue = f" {unit.queue.lower()}" if unit.queue and unit.stage in ("queued", "stopped") else ""
        words.append(f"job {unit.job}{queue}{times}")
    if unit.where:
        words.append(f"{'no heartbeat of' if unit.stage == 'lost' else 'on'} {unit.where}")
    if unit.reason:
        words.append(unit.reason)
    # Of the others the log says only what the stage says.
    if unit.log and unit.stage in ("failed", "lost", "stopped"):
        words.append(f"log {unit.log}{': ' + unit.last_line if unit.last_line else ''}")
    return "; ".join(words)


def _summary(status: RunStatus) -> str:
    parts = [f"{status.counts[state]} {state}" for state in _ORDER if status.counts[state]]
    if status.missing:
        parts.append(f"{format_count(len(status.missing), 'file')} empty or gone")
    if status.unlisted:
        parts.append(f"{format_count(len(status.unlisted), 'finished cell')} not listed")
    running = f"; running ({status.owner})" if status.owner else ""
    return f"{format_count(len(status.cells), 'cell')}: {', '.join(parts) or 'none planned'}{running}"
