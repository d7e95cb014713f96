"""``bench merge``: one experiment from several."""

from __future__ import annotations

import click

from bench.cli import options
from bench.cli.wrapping import echo_line, echo_notes


@click.command(epilog="\b\nExample:\n  bench merge table4-seeds-0-2 table4-seeds-3-5 --name table4")
@click.argument(
    "experiments",
    nargs=-1,
    required=True,
    metavar="EXPERIMENT...",
    shell_complete=options.complete_experiments,
)
@click.option("--name", required=True, help="Name of the new experiment.")
def merge_command(experiments: tuple[str, ...], name: str) -> None:
    """Join EXPERIMENT... (names in runs/, or paths) into a new one: seeds side by side, models in one table.

    They must have been evaluated on the same images and masks with the same settings; only seeds, models, masks
    and learning rates may differ. The same computation with other numbers on two machines stays two methods, told
    apart by their machines. The experiments themselves stay as they are.
    """
    from bench.experiments import find_experiment
    from bench.ledger.merging import merge_experiments
    from reports.results.experiment import load_experiment
    from reports.results.manifest import read_manifest, trained_seeds
    from reports.results.recorded_files import describe_unlisted, unlisted_cells

    folders = [find_experiment(e) for e in experiments]
    folder = merge_experiments(folders, name)
    for given in folders:
        unlisted = unlisted_cells(given, read_manifest(given / "manifest.json"))
        echo_notes(f"{given.name}: {describe_unlisted(place)}" for place in unlisted)
    merged = load_experiment(folder)
    seeds = ", ".join(map(str, trained_seeds(merged.manifest)))
    echo_line(f"merged: {folder} ({len(merged.done())} cells, seeds {seeds})")
    apart = dict.fromkeys(cell["label"] for cell in merged.done() if "place" in cell)
    if apart:
        echo_line(f"not joined, since machines gave other numbers: {', '.join(apart)}")
    echo_line(f"next: bench report {name}; bench claims {name}")
