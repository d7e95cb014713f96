"""``bench export``: an experiment's tables for elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bench.cli import options
from bench.cli.wrapping import echo_line, echo_notes
from bench.errors import UsageError
from masks.file_names import one_line


@click.command(
    epilog="\b\nExamples:\n"
    "  bench export all-center-faces-quick --format markdown\n"
    "  bench export my-run --table rows --format parquet -o rows.parquet\n"
    "  bench export my-run --by-attribute Eyeglasses --format markdown"
)
@click.argument("experiment", shell_complete=options.complete_experiments)
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "parquet", "json", "markdown", "latex", "bundle"]),
    default="csv",
    show_default=True,
    help="LaTeX is a booktabs tabular; a bundle is manifest, rows and curves in one file for 'bench import'.",
)
@click.option(
    "--table",
    type=click.Choice(["summary", "rows", "curves", "differences", "claims", "samples"]),
    default="summary",
    show_default=True,
    help="Means with intervals, one row an image, what trainings logged, all pairs of methods, the verdicts, or what "
    "several samples of an image say.",
)
@click.option(
    "--by-attribute",
    "attributes",
    multiple=True,
    type=options.NameList(),
    metavar="NAME",
    help="Summarize the images with and without an attribute apart (CelebA's Smiling, Eyeglasses ...; 'all').",
)
@click.option(
    "--by",
    metavar="NAME",
    help="Who computed it, for a bundle: shown in leaderboards as the entry's own words, which nobody checks.",
)
@options.output_option("Write here, not to standard output.")
def export_command(
    experiment: str,
    form: str,
    table: str,
    attributes: tuple[tuple[str, ...], ...],
    by: str | None,
    output: Path | None,
) -> None:
    """Export a table of EXPERIMENT (a name in runs/, or a path)."""
    from bench.experiments import open_experiment
    from bench.ledger.kept_files import pack_bundle
    from bench.runner.run_folder import atomic_write
    from reports.export import export_tables
    from reports.results.experiment import ExperimentError
    from reports.results.recorded_files import describe_unlisted

    # Bytes: two of the formats are not text, and the others keep their line ends on every system.
    stdout = sys.stdout.buffer
    if form in ("parquet", "bundle") and output is None and stdout.isatty():
        raise UsageError(f"--format {form}: give --output FILE (it is not text)")
    names = options.flatten_names(attributes)
    if names and (table != "summary" or form == "bundle"):
        raise UsageError(
            "--by-attribute: makes a table of its own; leave out --table, and give another --format"
        )
    if by is not None and form != "bundle":
        raise UsageError("--by: is kept in a bundle; give --format bundle")
    opened = open_experiment(experiment)
    echo_notes(describe_unlisted(place) for place in opened.unlisted_cells)
    try:
        content: bytes = (
            pack_bundle(opened, by=by)
            if form == "bundle"
            else export_tables(opened, table, form, by_attribute=names)
        )
    except ValueError as error:
        if names or isinstance(error, ExperimentError):
            raise UsageError(f"{'--by-attribute: ' if names else ''}{error}") from error
        raise
    if table == "curves" or form == "bundle":
        for training, problem in opened.log_problems.items():
            said = f"note: the curves of training {one_line(training)} are left out: {problem}"
            echo_line(said, fg="yellow", err=True)
    if output is None and stdout.isatty():
        # Names in a table never act on a terminal; a file and a pipe get them as they are.
        for line in content.decode().removesuffix("\n").split("\n"):
            echo_line(line)
    elif output is None:
        stdout.write(content)
    else:
        atomic_write(output, lambda path: path.write_bytes(content))
        # On standard error: standard output may be where another export goes.
        echo_line(f"written: {output}", err=True)
