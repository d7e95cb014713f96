"""``bench report``: render again without training."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli import options
from bench.cli.paths import GivenPath
from bench.cli.wrapping import echo_line, echo_notes
from bench.errors import UsageError


@click.command(
    epilog="\b\nExamples:\n"
    "  bench report all-center-faces-quick\n"
    "  bench report all-center-faces-quick --pdf --figures figures"
)
@click.argument("experiment", shell_complete=options.complete_experiments)
@click.option(
    "--pictures/--no-pictures", default=None, help="Embed pictures of the data (default: as in the last run)."
)
@click.option(
    "--title", help="Heading of the page, kept for later pages of EXPERIMENT; '' gives it back its name."
)
@click.option(
    "--blind", is_flag=True, help="Also write a page on which people choose between unnamed completions."
)
@click.option("--pdf", is_flag=True, help="Print the page as PDF beside it (needs Chromium).")
@click.option(
    "--figures",
    type=GivenPath(file_okay=False, path_type=Path),
    help="Write every figure as SVG and PNG into this folder, for papers.",
)
def report_command(
    experiment: str,
    pictures: bool | None,
    title: str | None,
    blind: bool,
    pdf: bool,
    figures: Path | None,
) -> None:
    """Render the report of EXPERIMENT (a name in runs/, or a path) again; nothing is trained."""
    from bench.experiments import find_experiment, list_experiments
    from bench.runner.run_folder import REPORTS, RUNS, read_manifest
    from masks.file_names import one_line, real_path
    from reports.blind_page import BlindPageError, render_blind_page
    from reports.index_page import render_index
    from reports.pdf import ChromiumError, print_pdf
    from reports.render import render_report, save_figures
    from reports.results.experiment import ExperimentError
    from reports.results.recorded_files import describe_unlisted, missing_files, unlisted_cells

    folder = find_experiment(experiment)
    if title and one_line(title) != title:
        raise UsageError(f"--title {one_line(title)}: give one line of UTF-8 without control characters")
    # As in the last run: whoever chose to keep pictures out of the page must not get them in by rendering it
    # again.
    if pictures is None:
        pictures = bool(read_manifest(folder / "manifest.json")["settings"].get("pictures", True))
    try:
        if title is not None:
            _keep_title(folder, title)
        # A link has its own line in the overview, which leads to a page of that name.
        name = (folder if folder.is_symlink() else real_path(folder)).name
        recorded = read_manifest(folder / "manifest.json")
        for path in missing_files(folder, recorded):
            note = f"note: {path} is empty or gone; what it holds is left out"
            echo_line(note, fg="yellow", err=True)
        echo_notes(describe_unlisted(path) for path in unlisted_cells(folder, recorded))
        page = render_report(folder, REPORTS / name, pictures=pictures, title=title)
        render_index(list_experiments(RUNS), REPORTS)
        echo_line(f"report: {page}")
        if blind:
            echo_line(f"blind comparison: {render_blind_page(folder, page.parent)}")
        if figures:
            written = save_figures(folder, figures)
            echo_line(f"figures: {len(written) // 2} as SVG and PNG in {figures}/")
        if pdf:
            echo_line(f"pdf: {print_pdf(page, page.with_suffix('.pdf'))}")
    except (ExperimentError, BlindPageError, ChromiumError) as error:
        raise UsageError(str(error)) from error
    except OSError as error:
        raise UsageError(
            f"cannot write {error.filename or figures or REPORTS}: {error.strerror or error}"
        ) from error


def _keep_title(folder: Path, title: str) -> None:
    """Keep the heading with the experiment; where it cannot be written, this page alone has it."""
    from reports.results.title import write_title

    try:
        write_title(folder, title)
    except OSError as error:
        reason = error.strerror or error
        echo_line(f"note: this page alone has the title: {folder}: {reason}", fg="yellow", err=True)
