"""A finished cell on disk: its rows, its pictures, and ``cell.json``, written last, which marks it as finished."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.config import Request
from bench.errors import DiskError
from bench.evaluation.evaluator import TestSet
from bench.evaluation.metrics import list_metrics
from bench.runner.plan import Cell
from bench.runner.run_folder import RunFolder, atomic_write, write_json
from reports.results.experiment import mask_file_name
from reports.results.schema import numbers_agree, read_rows, write_rows


def save_cell(
    folder: Path,
    cell: Cell,
    request: Request,
    rows: pd.DataFrame,
    entry: dict[str, Any],
    test: TestSet,
    pictures: NDArray[np.uint8] | None,
    metrics: list[str],
) -> None:
    """Write a finished cell: rows, pictures, and last ``cell.json``, which marks it as finished."""
    settings = request.settings
    constant = {
        "model": cell.model,
        "label": cell.label,
        "track": settings.track,
        "preset": settings.preset,
        "seed": cell.seed,
        "mask": cell.mask,
        "train_mask": cell.train_mask,
        "size": settings.size,
    }
    about = pd.DataFrame({k: [v] * len(rows) for k, v in constant.items()})
    ids = np.array([test.images.ids[i] for i in test.pool])
    write_cell(folder, pd.concat([about, with_primary(rows)], axis=1), entry, ids, pictures)


def write_cell(
    folder: Path,
    table: pd.DataFrame,
    entry: dict[str, Any],
    ids: NDArray[np.str_],
    pictures: NDArray[np.uint8] | None,
) -> None:
    """Write rows, pictures of the images ``ids`` where they are kept, and last ``cell.json``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_rows(table, folder / "results.parquet")
    except OSError as error:
        raise DiskError(f"cannot write {folder}/results.parquet: {error.strerror or error}") from error
    if pictures is not None:
        _save_npz(folder / "pictures.npz", ids=ids, composite=pictures)
    write_json(folder / "cell.json", entry)


def with_primary(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with a column for every primary metric; what was not measured is not a number."""
    missing = [name for name, info in list_metrics().items() if info.group == "primary" and name not in rows]
    return rows.assign(**dict.fromkeys(missing, np.nan))


class DamagedCellError(ValueError):
    """Files of a finished cell are missing, cut off, or of other images."""


def load_cell(folder: Path, ids: list[str], *, pictures: bool) -> dict[str, Any] | None:
    """The manifest's entry of a finished cell; ``None`` where there is none, or none with the wanted pictures.

    Raises:
        DamagedCellError: there was one, and its files are not what they were.
    """
    if not (folder / "cell.json").is_file():
        return None
    try:
        entry = json.loads((folder / "cell.json").read_text(encoding="utf-8"))
        if entry["status"] != "done":
            raise ValueError("cell.json is of no finished cell")
        rows = read_rows(folder / "results.parquet")
        if rows["image_id"].tolist() != list(ids):
            raise ValueError("results.parquet is of other images")
        if not numbers_agree(rows, entry["evaluation"].get("numbers")):
            raise ValueError("results.parquet does not hold the numbers of cell.json")
        if pictures:
            if not (folder / "pictures.npz").exists():
                return None  # was run with --no-pictures
            # Opened here: NumPy leaves a file that it cannot read open.
            with (folder / "pictures.npz").open("rb") as file, np.load(file, allow_pickle=False) as stored:
                if len(stored["ids"]) != len(stored["composite"]):
                    raise ValueError("pictures.npz is cut off")
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DamagedCellError(f"{folder}: {error}") from error
    result: dict[str, Any] = entry
    return result


def save_pool(store: RunFolder, mask: str, test: TestSet) -> None:
    """Keep truths and masks of the picture pool, once a mask."""
    path = store.folder / "pictures" / f"{mask_file_name(mask)}.npz"
    ids = np.array([test.images.ids[i] for i in test.pool])
    _save_npz(path, ids=ids, image=np.array(test.images.pixels[test.pool]), mask=test.masks[test.pool])


def _save_npz(path: Path, **arrays: NDArray[Any]) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    atomic_write(path, write)
