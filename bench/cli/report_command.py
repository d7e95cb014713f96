"""``bench report``: render again without training."""

from __future__ import annotations

from pathlib import Path

import click

from bench.errors import UsageError


@click.command(epilog="\b\nExample:\n  bench report all-center-faces-quick")
@click.argument("experiment")
@click.option(
    "--pictures/--no-pictures", default=None, help="Embed pictures of the data (default: as in the last run)."
)
def command(experiment: str, pictures: bool | None) -> None:
    """Render the report of EXPERIMENT (a name in runs/, or a path) again; nothing is trained."""
    from bench.store import REPORTS, RUNS, read_manifest
    from models.registry import suggest
    from reports.experiment import ExperimentError
    from reports.html import render_report
    from reports.index_page import render_index

    folder = Path(experiment) if (Path(experiment) / "manifest.json").is_file() else RUNS / experiment
    if not (folder / "manifest.json").is_file():
        there = [p.parent.name for p in sorted(RUNS.glob("*/manifest.json"))]
        hint = suggest(experiment, there) if there else "; runs/ holds no experiment yet"
        raise UsageError(f"no experiment {experiment!r} in {RUNS}/{hint}")
    if pictures is None:
        pictures = bool(read_manifest(folder / "manifest.json")["settings"].get("pictures", True))
    try:
        page = render_report(folder, REPORTS / folder.resolve().name, pictures=pictures)
        render_index(RUNS, REPORTS)
    except ExperimentError as error:
        raise UsageError(str(error)) from error
    click.echo(f"report: {page}")
