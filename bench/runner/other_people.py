"""Finished cells whose rows name other people than the data do now.

Intervals are over people, and a list of them may be put there, mended or lost between two commands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from bench.data import ImageSet
from bench.evaluation.evaluator import identities_of
from bench.wording import format_count
from reports.results.schema import SchemaError, read_rows


def cells_of_other_people(
    folder: Path, cells: Iterable[Mapping[str, Any]], images: ImageSet
) -> list[Mapping[str, Any]]:
    """Return those of an experiment's cells, finished ones, whose rows name other people.

    Args:
        folder: the experiment's.
        cells: entries of its manifest.
        images: what is evaluated, as the data name people now.
    """
    shown = pd.Series(identities_of(images), index=images.ids)
    return [
        cell
        for cell in cells
        if cell["status"] == "done" and _differ(folder / cell["folder"] / "results.parquet", shown)
    ]


def describe_cells_of_other_people(cells: Iterable[Mapping[str, Any]]) -> str:
    """Say what :func:`cells_of_other_people` found, in a sentence; empty where it found nothing."""
    labels = [cell["label"] for cell in cells]
    if not labels:
        return ""
    return (
        "intervals are over people, and the list of them is another than before; the earlier one is still behind "
        f"{format_count(len(labels), 'cell')} of earlier commands ({', '.join(dict.fromkeys(labels))}); run or score "
        "them again too"
    )


def _differ(results: Path, shown: pd.Series) -> bool:
    """Return whether a cell's rows name other people than ``shown``, image id -> person."""
    try:
        rows = read_rows(results)
    except SchemaError:  # whoever uses the cell says so
        return False
    known = shown.reindex(rows["image_id"]).reset_index(drop=True)
    return not rows["identity"].reset_index(drop=True).equals(known)
