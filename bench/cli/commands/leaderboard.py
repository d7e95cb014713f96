"""``bench leaderboard``: one page of many experiments."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.options import output_option
from bench.cli.paths import GivenPath
from bench.cli.wrapping import echo_line
from bench.wording import format_count


@click.command(
    epilog="\b\nExamples:\n  bench leaderboard runs\n  bench leaderboard runs bundles/ --output board.html"
)
@click.argument("places", nargs=-1, required=True, metavar="FOLDER...", type=GivenPath(path_type=Path))
@output_option("The page.", default=Path("reports/leaderboard.html"), show_default=True)
def leaderboard_command(places: tuple[Path, ...], output: Path) -> None:
    """Write a sortable page of the experiments and bundles in FOLDER... .

    Every row says its protocol, who computed it on what, and what the paper reported; an entry that fails its
    checks is listed with the reason. A row counts as reproduced where the output of 'bench reproduce --json'
    is kept as reproduction.json beside its manifest, and covers all trainings of the row.
    """
    from bench.ledger.leaderboard_entries import write_leaderboard

    page, shown, problems = write_leaderboard(places, output)
    for name, reason in problems:
        echo_line(f"not shown: {name}: {reason}", err=True)
    echo_line(f"page: {page} ({format_count(shown, 'experiment')})")
