"""``bench clean``: free the disk, asking first."""

from __future__ import annotations

import sys

import click

from bench.cli import options
from bench.cli.wrapping import echo_line
from bench.errors import UsageError
from masks.file_names import one_line


@click.command(
    epilog="\b\nExamples:\n"
    "  bench clean                          # asks for each\n"
    "  bench clean my-run --checkpoints --yes\n"
    "  bench clean --packs --dry-run"
)
@click.argument("experiments", nargs=-1, shell_complete=options.complete_experiments)
@click.option("--checkpoints", is_flag=True, help="Weights and checkpoints of trainings.")
@click.option("--packs", is_flag=True, help="Decoded images in the cache folder.")
@click.option("--leftovers", is_flag=True, help="Temporary files of killed processes.")
@click.option("--yes", "-y", is_flag=True, help="Remove without asking.")
@click.option("--dry-run", is_flag=True, help="Show sizes and remove nothing.")
def clean_command(
    experiments: tuple[str, ...], checkpoints: bool, packs: bool, leftovers: bool, yes: bool, dry_run: bool
) -> None:
    """Remove checkpoints, packs and leftovers, with their sizes, asking first. Results and reports are kept.

    Of EXPERIMENTS (names in runs/, or paths), or of all without one. An experiment in which a process works is left
    alone.
    """
    from bench.data.cache import cache_folder
    from bench.data.dataset import DataSpec
    from bench.experiments import find_experiment, list_experiments
    from bench.progress import format_bytes
    from bench.runner import clean
    from bench.runner.run_folder import RUNS

    folders = [find_experiment(name) for name in experiments] or list_experiments(RUNS)
    everything = not (checkpoints or packs or leftovers)
    found = []
    if leftovers or everything:
        found += clean.find_leftovers(folders)
        if not experiments:
            found += clean.find_unpublished_experiments(RUNS)
    if checkpoints or everything:
        found += clean.find_checkpoints(folders)
    # Packs belong to no experiment, so naming experiments leaves them alone unless they are asked for.
    if packs or (everything and not experiments):
        found += clean.find_image_caches(cache_folder(DataSpec()))
    if not found:
        echo_line("nothing to remove")
        return
    # Without a terminal, the question would read end-of-file and look like a refusal.
    if not (yes or dry_run or sys.stdin.isatty()):
        raise UsageError(
            "bench clean asks before it removes, and there is no terminal; give --yes or --dry-run"
        )
    freed = 0
    for what in found:
        line = one_line(f"{format_bytes(what.num_bytes):>9}  {what.kind}, {what.where} ({what.costs})")
        if dry_run:
            echo_line(line)
            freed += what.num_bytes
        elif yes or click.confirm(f"{line}; remove?", default=False):
            if yes:
                echo_line(line)
            freed += clean.remove_files(what)
    echo_line(f"{format_bytes(freed)} {'could be freed' if dry_run else 'freed'}")
