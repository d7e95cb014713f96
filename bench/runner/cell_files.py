"""A finished cell on disk: its rows, its images, and ``cell.json``, written last, which marks it as finished."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import masks.bank
from bench.errors import DiskError
from bench.evaluation.evaluator import EvaluationResult, TestSet
from bench.evaluation.metrics import list_metrics
from bench.evaluation.stochastic_samples import SampleSpread
from bench.runner import cell_entries, manifest_writer
from bench.runner.plan import Cell
from bench.runner.prepare import PreparedRun
from bench.runner.run_folder import RunFolder, atomic_write, read_checked_json, write_checked_json
from bench.runner.train import TrainedModel
from reports.results.atomic_io import make_folder, remove_durably
from reports.results.experiment import arrays_digest
from reports.results.manifest import IMPORTED_CELL, PICTURES, digests_all
from reports.results.recorded_files import pictures_path
from reports.results.regular_file import open_regular, read_bytes
from reports.results.schema import (
    metric_columns,
    read_rows,
    recorded_rows,
    rows_agree,
    validate_rows,
    write_rows,
)

#: Columns of a results table that say whose rows they are, and hold one value in a cell.
_IDENTITY = ("model", "label", "seed", "mask", "train_mask")


class DamagedCellError(ValueError):
    """Files of a finished cell are missing, cut off, edited, or of another cell or other images."""


@dataclass(frozen=True)
class SavedCell:
    """A finished cell, read back.

    Attributes:
        entry: what the manifest holds of it.
        record: what ``cell.json`` holds besides: the key's parts and, metric by metric, the code that measured it.
        rows: one row an image.
        has_images: whether completed images were kept.
    """

    entry: dict[str, Any]
    record: dict[str, Any]
    rows: pd.DataFrame
    has_images: bool


def lacking_metrics(prepared: PreparedRun, saved: SavedCell | None) -> list[str] | None:
    """Return the wanted metrics that a cell does not have, or has by other code; ``None`` if it lacks nothing.

    An empty list stands for a cell that has every metric, but not the completed images that are to be kept. A cell of
    another machine is taken as it is; but where anything must be added to it, or ``--recompute`` is given, all of it is
    computed here, so that no row mixes two machines.
    """
    wanted, request = prepared.metric_code, prepared.context.request
    if saved is None:
        return list(wanted)
    # Compared metric by metric, so that a new metric is added to a cell without measuring the others again.
    measured = saved.record.get("metrics", {})
    lacking = [n for n, code in wanted.items() if measured.get(n, {}).get("digest") != code.digest]
    incomplete = bool(lacking) or (request.pictures and not saved.has_images)
    # A cell that is complete may come from anywhere; one that is not would get columns from two machines.
    if saved.entry.get("where") != prepared.context.where and (incomplete or request.recompute):
        return list(wanted)
    return lacking if incomplete else None


def save_cell(
    prepared: PreparedRun,
    cell: Cell,
    trained: TrainedModel,
    result: EvaluationResult,
    test: TestSet,
    before: SavedCell | None,
    spread: SampleSpread | None = None,
) -> SavedCell:
    """Write a finished cell: rows, images, and last ``cell.json``, which marks it as finished.

    Args:
        prepared: the run.
        cell: which cell.
        trained: its model.
        result: what was measured now.
        test: the images.
        before: the cell as it was; metrics that were not measured now are kept.
        spread: how the samples differ, where there are several of an image.
    """
    context = prepared.context
    folder = context.store.cell(cell.slug, cell.key)
    # lacking_metrics has asked for all metrics in this case, so nothing old is worth keeping.
    if before is not None and before.entry.get("where") != context.where:
        before = None
    measured = [name for name in prepared.metric_code if name in {*result.rows.columns, *result.sets}]
    rows = _identify(result.rows, cell, prepared)
    images = len(test.images)
    sets = {name: cell_entries.set_entry(score, images) for name, score in result.sets.items()}
    samples = cell_entries.samples_entry(spread, cell.samples, test.images) if spread else None
    metrics = {
        name: {"digest": prepared.metric_code[name].digest, "code": prepared.metric_code[name].modules}
        for name in measured
    }
    if before is not None:
        # By position: load_cell has made sure that the rows are of the same images in the same order.
        old = [name for name in metric_columns(before.rows) if name not in result.rows]
        rows = rows.assign(**{name: before.rows[name].to_numpy() for name in old})
        metrics = before.record.get("metrics", {}) | metrics
        sets = before.entry["evaluation"].get("sets", {}) | sets
    # Readers rely on the columns of primary metrics, also where weights for one were not to be had.
    rows = validate_rows(with_primary(rows), str(folder))
    entry = cell_entries.done_entry(prepared, cell, trained, result.seconds, rows, sets, samples)
    assert cell.what is not None
    assert cell.training is not None
    record = {
        "key": cell.what.as_json() | {"training": cell.training.what.as_json()},
        "metrics": metrics,
        "setup": manifest_writer.cell_setup(context) | {"masks": masks.bank.masks_digest(test.masks)},
    }
    if context.request.pictures:
        record["setup"]["pictures"] = shown_images_digest(test)
    elif before is not None and before.has_images:
        # They stay, and are the cell's: completions depend on no metric.
        entry[PICTURES] = hashlib.sha256((folder / "pictures.npz").read_bytes()).hexdigest()
        if "pictures" in before.record["setup"]:
            record["setup"]["pictures"] = before.record["setup"]["pictures"]
    # Only images that the report shows are stored; all of them would take gigabytes.
    ids = np.array([test.images.ids[i] for i in test.pool])
    pictures = result.pictures if context.request.pictures else None
    drawn = _sample_arrays(spread, test) if spread is not None and context.request.pictures else {}
    if records := trained.model.records():
        lines = "".join(json.dumps(entry) + "\n" for entry in records)
        atomic_write(folder / "records.jsonl", lambda path: path.write_text(lines, encoding="utf-8"))
    # Everything else is on disk before cell.json, which says that it is.
    entry |= write_cell(folder, rows, entry | record, ids, pictures, drawn)
    return SavedCell(entry, record, rows, PICTURES in entry)


def _sample_arrays(spread: SampleSpread, test: TestSet) -> dict[str, NDArray[Any]]:
    """Return what the report shows of several samples, by the name of the array in ``pictures.npz``.

    ``samples`` ``(P, k, H, W, 3)`` holds the samples after the first, which is the image's ``composite``; known pixels
    are zero, since they are the truth's in each. ``diversity`` ``(P,)`` is NaN where LPIPS could not be had.
    """
    hole = test.masks[test.pool][:, None, :, :, None] > 0
    diversity = spread.diversity
    return {
        "samples": np.where(hole, spread.pictures[:, 1:], np.uint8(0)),
        "diversity": np.full(len(test.pool), np.nan) if isinstance(diversity, str) else diversity[test.pool],
    }


def _identify(rows: pd.DataFrame, cell: Cell, prepared: PreparedRun) -> pd.DataFrame:
    """Add the columns that say whose rows these are."""
    settings = prepared.context.request.settings
    constant = {
        "model": cell.model,
        "label": cell.label,
        "track": settings.track,
        "preset": settings.preset,
        "seed": cell.seed,
        "mask": cell.mask,
        "train_mask": cell.train_mask,
        "size": settings.size,
        **({} if "sample" in rows else {"sample": 0}),
    }
    return pd.concat([pd.DataFrame({k: [v] * len(rows) for k, v in constant.items()}), rows], axis=1)


def write_cell(
    folder: Path,
    table: pd.DataFrame,
    record: Mapping[str, Any],
    ids: NDArray[np.str_],
    images: NDArray[np.uint8] | None,
    drawn: Mapping[str, NDArray[Any]] | None = None,
) -> dict[str, Any]:
    """Write rows, completed images with their ``ids`` where they are kept, and last ``cell.json``.

    Until then the cell that was there stays whole, if what it has measured is what it was: only its own metrics are
    read from a table that has more. Otherwise its record goes first, so that nobody takes it for whole in between.

    Args:
        folder: of the cell.
        table: its rows.
        record: what ``cell.json`` holds.
        ids: of the kept images.
        images: their completions ``(P, H, W, 3)``; ``None`` where none are kept.
        drawn: further arrays of ``P`` rows about several samples of them.

    Returns:
        What the manifest's entry of the cell needs besides: the digest of the file of images, if there is one.
    """
    seen: dict[str, Any] = {}
    try:
        make_folder(folder)
        if images is not None:
            _pack(packed := io.BytesIO(), ids=ids, composite=images, **(drawn or {}))
            # Files of images look alike: without it, those of another cell would pass for this one's.
            seen[PICTURES] = hashlib.sha256(packed.getvalue()).hexdigest()
        if not _keeps_whole(folder / "cell.json", table, seen):
            remove_durably(folder / "cell.json")
        # What is written from here on is no import's, and is whole with its record alone.
        remove_durably(folder / IMPORTED_CELL)
        write_rows(table, folder / "results.parquet")
    except OSError as error:
        raise DiskError(f"cannot write {folder}/results.parquet: {error.strerror or error}") from error
    if images is not None:
        atomic_write(folder / "pictures.npz", lambda path: path.write_bytes(packed.getvalue()))
    write_checked_json(folder / "cell.json", {**record, **seen})
    return seen


def _keeps_whole(path: Path, table: pd.DataFrame, seen: Mapping[str, Any]) -> bool:
    """Return whether the cell of the ``cell.json`` at ``path`` stays whole while its other files are replaced."""
    try:
        before = read_checked_json(path)
        same_images = before.get(PICTURES) in (None, seen.get(PICTURES, before.get(PICTURES)))
        return same_images and rows_agree(recorded_rows(table, before["evaluation"]), before["evaluation"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False  # none, or one that is not whole now


def with_primary(rows: pd.DataFrame) -> pd.DataFrame:
    """Add a column of NaN for every primary metric that was not measured."""
    missing = [name for name, info in list_metrics().items() if info.group == "primary" and name not in rows]
    return rows.assign(**dict.fromkeys(missing, np.nan))


def load_cell(folder: Path, cell: Cell, ids: list[str]) -> SavedCell | None:
    """Read a finished cell; ``None`` where there is none.

    Raises:
        DamagedCellError: there was one, and its files are not what they were, or not this cell's.
    """
    if not (folder / "cell.json").is_file():
        # Written last, so without it the cell was never finished, whatever else the folder holds.
        return None
    try:
        record = read_checked_json(folder / "cell.json")
        table = read_rows(folder / "results.parquet")
        entry = {k: v for k, v in record.items() if k not in manifest_writer.CELL_RECORD}
        rows = recorded_rows(table, entry["evaluation"])
        identity = {k: getattr(cell, k) for k in _IDENTITY}
        # Folders are named by twelve digits of the key; copied or renamed ones are told by their content.
        if entry["status"] != "done" or {k: entry[k] for k in _IDENTITY} != identity:
            raise ValueError("cell.json is not of this cell")
        if cell.trained and cell.training and entry["training"]["key"] != cell.training.key:
            raise ValueError("cell.json is of another training")
        # A cell copied from another experiment has the same names, images and masks, and other numbers.
        if record["key"]["digest"] != cell.key:
            raise ValueError("cell.json is of another set-up")
        if rows["image_id"].tolist() != list(ids) * cell.samples:
            raise ValueError("results.parquet is of other images")
        if any(set(rows[k]) != {v} for k, v in identity.items()):
            raise ValueError("results.parquet is of another cell")
        # The record's checksum covers the record alone; the table's numbers are held against those in it.
        if not rows_agree(rows, entry["evaluation"]):
            raise ValueError("results.parquet does not hold the rows of cell.json")
        # Where this version stored none, a file of images was put there.
        known = PICTURES in entry or not digests_all([entry])
        has_images = known and (folder / "pictures.npz").exists()
        if has_images:
            _check_npz(folder / "pictures.npz", entry.get(PICTURES))
    except Exception as error:  # readers of damaged bytes may raise anything
        raise DamagedCellError(f"{folder}: {error}") from error
    return SavedCell(entry, {k: record[k] for k in manifest_writer.CELL_RECORD}, rows, has_images)


def _check_npz(path: Path, digest: str | None) -> None:
    if digest is not None and hashlib.sha256(read_bytes(path)).hexdigest() != digest:
        raise ValueError(f"{path.name} does not hold what was written")
    # Opened here: NumPy leaves a file that it cannot read open.
    with open_regular(path) as file, np.load(file, allow_pickle=False) as stored:
        if {len(stored[name]) for name in stored.files} != {len(stored["ids"])}:
            raise ValueError(f"{path.name} is cut off")


def save_shown_images(store: RunFolder, mask: str, test: TestSet) -> str:
    """Keep truths and masks of the images that reports show, once a mask; return the digest of their content."""
    _save_npz(pictures_path(store.folder, mask), **_shown_images(test))
    return shown_images_digest(test)


def shown_images_digest(test: TestSet) -> str:
    """Return the digest of the content that :func:`save_shown_images` stores."""
    return arrays_digest(_shown_images(test))


def _shown_images(test: TestSet) -> dict[str, NDArray[Any]]:
    """Return names, truths and masks of the images that reports show, as they are stored."""
    ids = np.array([test.images.ids[i] for i in test.pool])
    return {"ids": ids, "image": np.array(test.images.pixels[test.pool]), "mask": test.masks[test.pool]}


def _save_npz(path: Path, **arrays: NDArray[Any]) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            _pack(file, **arrays)

    atomic_write(path, write)


def _pack(file: BinaryIO, **arrays: NDArray[Any]) -> None:
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
