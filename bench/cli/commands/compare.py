"""``bench compare``: experiments side by side, paired."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bench.cli import options
from bench.cli.options import NameList, flatten_names
from bench.cli.wrapping import echo_line, echo_notes, echo_wrapped
from bench.errors import UsageError
from masks.file_names import one_line

if TYPE_CHECKING:
    from reports.statistics.compare_experiments import ExperimentComparison


@click.command(
    epilog="\b\nExample:\n  bench compare all-center-celeba-quick my-change --metrics psnr_db,ssim"
)
@click.argument("first", shell_complete=options.complete_experiments)
@click.argument(
    "others", nargs=-1, required=True, metavar="SECOND...", shell_complete=options.complete_experiments
)
@click.option(
    "--metrics",
    multiple=True,
    type=NameList(),
    show_default="the primary ones",
    help="Metric columns to compare.",
)
def compare_command(first: str, others: tuple[str, ...], metrics: Any) -> None:
    """Compare experiment FIRST with one or more others (names in runs/, or paths), method by method.

    Differences are FIRST less the other, paired by image, with 95 % intervals. What was not measured on the
    same images and masks is refused, with the reason. The same is written as a page under reports/compare/.
    """
    from bench.experiments import list_experiments, open_experiment
    from bench.runner.run_folder import REPORTS, RUNS
    from reports.comparison_page import compare_all_pairs, render_comparison
    from reports.index_page import render_index
    from reports.results.recorded_files import describe_unlisted, mask_file_name
    from reports.statistics.compare_experiments import ComparisonError

    experiments = [open_experiment(name) for name in (first, *others)]
    for experiment in experiments:
        echo_notes(f"{experiment.name}: {describe_unlisted(place)}" for place in experiment.unlisted_cells)
    primary = [name for name, info in experiments[0].metrics.items() if info.group == "primary"]
    try:
        compared = compare_all_pairs(experiments, flatten_names(metrics) or primary)
    except ComparisonError as error:
        raise UsageError(str(error)) from error
    for other, comparison in zip(others, compared, strict=True):
        _print(first, other, comparison)
    folder = REPORTS / "compare" / mask_file_name("+".join(e.folder.name for e in experiments))
    page = render_comparison(experiments, compared, folder)
    render_index(list_experiments(RUNS), REPORTS)
    echo_line(f"page: {page}")


def _print(first: str, second: str, compared: ExperimentComparison) -> None:
    """Print one table, and what it leaves out."""
    # On standard error, so that the table on standard output can be piped.
    for refusal in compared.refused:
        echo_wrapped(f"not compared: {refusal}", err=True)
    for note in compared.notes:
        echo_wrapped(f"note: {note}", err=True)
    if compared.differences.empty:
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=one_line(f"{first} less {second}"), title_justify="left")
    for name in ("mask", "model", "metric", "difference", "95 % interval", "verdict"):
        table.add_column(name, justify="right" if name in ("difference", "95 % interval") else "left")
    names = {"a better": f"{first} better", "b better": f"{second} better"}
    for row in compared.differences.to_dict("records"):
        cells = (
            str(row["mask"]),
            str(row["label"]),
            str(row["metric"]),
            f"{row['difference']:+.4f}",
            f"[{row['low']:+.4f}, {row['high']:+.4f}]",
            names.get(row["verdict"], str(row["verdict"])),
        )
        table.add_row(*map(one_line, cells))
    Console(highlight=False, markup=False).print(table)
    # One line a reason, since many pairs usually share one.
    for reason, rows in compared.differences.groupby("reason", sort=False):
        if reason:
            of = ", ".join(
                f"{label} ({metric})" for label, metric in zip(rows["label"], rows["metric"], strict=True)
            )
            echo_wrapped(f"inconclusive since {reason!s}: {of}")
