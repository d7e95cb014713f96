"""``bench import``: an experiment's folder from kept files."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.paths import GivenPath
from bench.cli.wrapping import echo_line


@click.command(
    "import",
    epilog="\b\nExamples:\n  bench import all-center-celeba-paper.zip\n"
    "  bench import manifest.json rows.parquet curves.parquet --name again",
)
@click.argument("files", nargs=-1, required=True, type=GivenPath(path_type=Path), metavar="FILE...")
@click.option("--name", help="Name of the experiment.  [default: its own]")
def import_command(files: tuple[Path, ...], name: str | None) -> None:
    """Make an experiment in runs/ from FILE...: a bundle, or a manifest with tables of rows and curves.

    Files are those that 'bench export' writes: --format bundle, or the manifest with --table rows and
    --table curves. Every number is checked against the manifest, and nothing that a file names is run. Reports,
    claims and comparisons then read it as any other experiment.
    """
    from bench.ledger.importing import import_experiment
    from reports.results.experiment import load_experiment
    from reports.results.recorded_files import ATTRIBUTES, ATTRIBUTES_SHA256

    folder = import_experiment(files, name=name)
    experiment = load_experiment(folder)
    trainings = experiment.curves["training"].nunique()
    echo_line(f"imported: {folder} ({len(experiment.done())} cells, {len(experiment.rows):,} rows)")
    if trainings:
        echo_line(f"curves: {trainings} trainings")
    else:
        echo_line("no curves: claims about the stability of training cannot be judged")
    if ATTRIBUTES_SHA256 in experiment.manifest["data"] and experiment.attributes.empty:
        echo_line(f"no {ATTRIBUTES}, which the manifest records: tables by attribute cannot be made")
    echo_line(f"next: bench claims {experiment.name}; bench report {experiment.name}")
