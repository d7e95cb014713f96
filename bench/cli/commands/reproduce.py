"""``bench reproduce``: an experiment again, from its manifest."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli.options import json_option, models_from_option, quiet_option
from bench.cli.paths import GivenPath
from bench.cli.wrapping import echo_line

if TYPE_CHECKING:
    from bench.runner.reproduce import Reproduction

_COLORS = {"equal": "green", "within": "green", "differs": "red", "not measured": "yellow"}


@click.command(
    epilog="\b\nExamples:\n"
    "  bench reproduce runs/all-center-faces-quick/manifest.json\n"
    "  bench reproduce manifest.json --cell glcic-center-seed0 --data ~/celeba\n"
    "  bench reproduce manifest.json --tolerance 0.02"
)
@click.argument("manifest", type=GivenPath(path_type=Path))
@click.option("--cell", help="Only this cell: a name in the manifest, its digest may be left out.")
@click.option(
    "--data", type=GivenPath(), metavar="PATH", help="Where the images are here.  [default: as recorded]"
)
@click.option("--name", help="Name of the new experiment.  [default: the old one with -again]")
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="How far a mean may lie from the recorded one, as a share of it.  [default: equal to the last bit]",
)
@models_from_option
@click.option(
    "--allow-code",
    is_flag=True,
    help="Run the model files and programs that MANIFEST names; a model file is a program.",
)
@quiet_option
@json_option
def reproduce_command(
    manifest: Path,
    cell: str | None,
    data: str | None,
    name: str | None,
    tolerance: float | None,
    models_from: tuple[str, ...],
    allow_code: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run the experiment of MANIFEST (a manifest.json, or its folder) again and compare the numbers.

    The manifest alone is enough, copied anywhere. First the fingerprints of data and masks and the versions that
    numbers depend on are compared with this machine's, and what cannot give the same numbers is refused with the
    reason. Then the cells are computed again and every mean is compared; without a tolerance, every image too.
    Model files and programs that the manifest names are not run unless given here or allowed.

    Exit code: 0 reproduced, 1 some numbers differ, 2 refused.
    """
    from bench.experiments import find_experiment
    from bench.progress import ConsoleCallbacks
    from bench.runner import reproduce as suite
    from bench.runner.reproduce import read_record

    path = manifest if manifest.is_file() else find_experiment(str(manifest)) / "manifest.json"
    record = read_record(path, cell)
    # The suffix must fit into the longest name that is allowed.
    fresh = name or f"{record.manifest['experiment'][:94]}-again"
    with ConsoleCallbacks(quiet=quiet) as callbacks:
        done = suite.reproduce_experiment(
            record,
            fresh,
            callbacks,
            data=data,
            models_from=models_from,
            allow_code=allow_code,
            tolerance=tolerance,
        )
    if as_json:
        click.echo(suite.reproduction_as_json(done))
    else:
        _print(done)
    sys.exit(0 if done.reproduced else 1)


def _print(done: Reproduction) -> None:
    """Print the cells with their numbers, then the verdict."""
    title = ""
    for number in done.numbers:
        if number.cell != title:
            title = number.cell
            echo_line(title, bold=True)
        found = "-" if number.found is None else f"{number.found:.6g}"
        echo_line(f"  {number.metric:<14} {number.recorded:>10.6g} {found:>10}  ", nl=False)
        echo_line(number.verdict, fg=_COLORS[number.verdict], nl=False)
        echo_line(f" {number.reason}" if number.reason else "")
    counts = {v: sum(n.verdict == v for n in done.numbers) for v in _COLORS}
    counted = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    word = "reproduced" if done.reproduced else "not reproduced"
    echo_line(f"{word}: {counted}", fg="green" if done.reproduced else "red", bold=True)
    echo_line(f"the new experiment: {done.folder}")
