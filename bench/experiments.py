"""Experiments by name or path, for the commands that only read them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import UsageError
from masks.file_names import real_path
from masks.image_files import is_hidden

if TYPE_CHECKING:
    from reports.results.experiment import Experiment


def list_experiments(runs: Path, holding: Sequence[str] = ("manifest.json",)) -> list[Path]:
    """List the folders of experiments in a folder such as ``runs/``, in the order of their names.

    Hidden folders, and those that operating systems and file servers make, are none. Links are followed, and each
    experiment is listed once: under its own name, if it lies here too.

    Args:
        runs: the folder; it may be missing.
        holding: what makes a folder an experiment: it holds one of these.
    """
    found = {path.parent for name in holding for path in runs.glob(f"*/{name}")}
    shown = [folder for folder in found if not is_hidden(folder.name)]
    by_place: dict[Path, Path] = {}
    for folder in sorted(shown, key=lambda folder: (folder.is_symlink(), folder)):
        by_place.setdefault(real_path(folder), folder)
    return sorted(by_place.values())


def find_experiment(name: str) -> Path:
    """Find the folder of an experiment by its name in ``runs/`` or by its path.

    Raises:
        UsageError: there is none (with suggestions).
    """
    from bench.runner.run_folder import RUNS
    from models.registry import did_you_mean

    # A path wins over a name, so that an experiment outside of runs/ can be meant even if one of that name is
    # there.
    # No name at all is that of no folder, not even of this one.
    folder = Path(name) if name and (Path(name) / "manifest.json").is_file() else RUNS / name
    if not (folder / "manifest.json").is_file():
        if (folder / "cells").is_dir():
            raise UsageError(
                f"{folder}/manifest.json is gone; run the experiment's command again, which rebuilds it from the cells"
            )
        there = [folder.name for folder in list_experiments(RUNS)]
        hint = did_you_mean(name, there) if there else f"; {RUNS}/ holds no experiment yet"
        raise UsageError(f"no experiment {name!r} in {RUNS}/{hint}")
    return folder


def open_experiment(name: str) -> Experiment:
    """Read an experiment by its name in ``runs/`` or by the path of its folder.

    Raises:
        UsageError: there is none (with suggestions), or it cannot be read.
    """
    from reports.results.experiment import ExperimentError, load_experiment

    try:
        return load_experiment(find_experiment(name))
    except ExperimentError as error:
        raise UsageError(str(error)) from error
