"""Entries of a leaderboard: experiments and bundles in folders, each checked before it is shown."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.errors import BenchError, UsageError
from bench.experiments import list_experiments
from bench.ledger.importing import import_experiment
from masks.image_files import is_hidden
from reports.leaderboard import render_leaderboard
from reports.results.experiment import Experiment, ExperimentError, load_experiment
from reports.results.recorded_files import describe_unlisted


def write_leaderboard(places: Sequence[Path], page: Path) -> tuple[Path, int, list[tuple[str, str]]]:
    """Write the leaderboard of all entries.

    Args:
        places: folders that hold experiments or bundles, single experiments, and bundles.
        page: of the leaderboard.

    Returns:
        The page, the number of experiments shown, and (entry, reason) of what of them is not.

    Raises:
        UsageError: there is no entry at all.
    """
    experiments: list[Experiment] = []
    problems: list[tuple[str, str]] = []
    entries = [entry for place in places for entry in _find_entries(place)]
    if not entries:
        raise UsageError(f"no experiment and no bundle in {', '.join(map(str, places))}")
    with tempfile.TemporaryDirectory() as unpacked:
        for number, entry in enumerate(entries):
            try:
                folder = entry
                if entry.is_file():
                    # Unpacked apart, since two bundles may hold experiments of one name.
                    folder = import_experiment([entry], runs=Path(unpacked) / str(number))
                experiments.append(load_experiment(folder))
                problems += [(entry.name, describe_unlisted(cell)) for cell in experiments[-1].unlisted_cells]
            # One bad entry must not keep the others off the page, which names it with the reason.
            except (BenchError, ExperimentError) as error:
                problems.append((entry.name, str(error)))
        written = render_leaderboard(experiments, problems, page)
    return written, len(experiments), problems


def _find_entries(place: Path) -> list[Path]:
    # A place may itself be an entry, and is then not searched for others.
    if place.is_file() or (place / "manifest.json").is_file():
        return [place]
    bundles = [path for path in sorted(place.glob("*.zip")) if not is_hidden(path.name)]
    return [*list_experiments(place), *bundles]
