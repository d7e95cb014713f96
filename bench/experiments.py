"""Experiments by name or path, for the commands that only read them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import UsageError

if TYPE_CHECKING:
    from reports.results.experiment import Experiment


def find_experiment(name: str) -> Path:
    """Find the folder of an experiment by its name in ``runs/`` or by its path.

    Raises:
        UsageError: there is none (with suggestions).
    """
    from bench.runner.run_folder import RUNS
    from models.registry import did_you_mean

    # A path wins over a name, so that an experiment outside of runs/ can be meant even if one of that name is
    # there.
    folder = Path(name) if (Path(name) / "manifest.json").is_file() else RUNS / name
    if not (folder / "manifest.json").is_file():
        if (folder / "cells").is_dir():
            raise UsageError(
                f"{folder}/manifest.json is gone; run the experiment's command again, which rebuilds it from the cells"
            )
        there = [p.parent.name for p in sorted(RUNS.glob("*/manifest.json"))]
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
