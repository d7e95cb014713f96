"""The status of an experiment, read from its folder: cells, unfinished trainings, units of work, size, owner.

Imports no torch.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bench.runner.ownership import Owner, is_lost, read_owner
from bench.runner.run_folder import OWNER, REPORTS, RUNS, read_checked_json, read_manifest
from bench.runner.unit_status import UnitStatus, read_units
from bench.training.train_log import TrainLog
from reports.results.manifest import CONFIG, IMPORTED_CELL, IMPORTED_LOG
from reports.results.recorded_files import missing_files, unlisted_cells

_AGAIN = "run the command again"
#: Of a cell that an import or a merge made, which no run makes again.
_MADE_AGAIN = "give the command that made it again"
_CHECKPOINT = re.compile(r"checkpoint-(\d{9})-[0-9a-f]{16}\.pt")


@dataclass(frozen=True)
class TrainingStatus:
    """An unfinished training: its folder's name, steps in the newest checkpoint, last logged, and in all."""

    name: str
    saved_step: int
    logged_step: int
    num_steps: int


@dataclass(frozen=True)
class RunStatus:
    """An experiment.

    Attributes:
        name: of its folder.
        created: time of the first command.
        updated: time of the last change.
        cells: every cell that was planned: model, label, mask, train_mask, seed, status, reason. ``waiting`` ones are
            not started or being trained; of ``damaged`` ones, files are empty or gone.
        trainings: those that are not complete.
        missing: files of images and attributes, below the folder, that were written and are empty or gone.
        unlisted: folders of finished cells of which the manifest says nothing.
        units: units of work that were submitted or begun, with ``--jobs`` and ``--on``.
        owner: process that works in the folder, if one does.
        num_bytes: what the folder takes.
        report: the page, if it is written.
        config: options with which ``bench run --config`` goes on; ``None`` where there are none, as in a merge.
    """

    name: str
    created: str
    updated: str
    cells: list[dict[str, Any]]
    trainings: list[TrainingStatus]
    missing: list[str]
    unlisted: list[str]
    units: list[UnitStatus]
    owner: Owner | None
    num_bytes: int
    report: Path | None
    config: Path | None

    @property
    def counts(self) -> Counter[str]:
        """Cells by status."""
        return Counter(cell["status"] for cell in self.cells)


def read_status(folder: Path) -> RunStatus:
    """Read the status of the experiment in ``folder``.

    Raises:
        BenchError: its manifest is not readable.
    """
    manifest = read_manifest(folder / "manifest.json")
    fields = ("model", "label", "mask", "train_mask", "seed")
    config = folder / CONFIG
    # Imports of earlier versions left no mark in their cells, and may have been merged since.
    unmarked = not config.is_file() and (
        bool(manifest.get("merged")) or not any(folder.glob("cells/*/cell.json"))
    )
    cells = [
        {**{k: c.get(k) for k in fields}, "status": status, "reason": reason}
        for c in manifest["cells"]
        for status, reason in [_status_of(c, folder, unmarked)]
    ]
    # A model that does not import has no training mask ("-"): it stands for any, as in the manifest.
    exact = {tuple(c[k] for k in ("model", "mask", "train_mask", "seed")) for c in cells}
    broken = {
        tuple(c[k] for k in ("model", "mask", "seed"))
        for c in cells
        if c["status"] == "failed" and c["train_mask"] == "-"
    }
    for planned in manifest.get("planned", []):
        if (
            tuple(planned[k] for k in ("model", "mask", "train_mask", "seed")) not in exact
            and tuple(planned[k] for k in ("model", "mask", "seed")) not in broken
        ):
            cells.append({**{k: planned[k] for k in fields}, "status": "waiting", "reason": None})
    # Outside of runs/ no report folder belongs to an experiment; its own folder is no file, so none is shown.
    page = (
        folder.parent.parent / REPORTS / folder.name / "index.html"
        if folder.parent.name == RUNS.name
        else folder
    )
    return RunStatus(
        name=folder.name,
        created=manifest["created"],
        updated=manifest.get("updated", manifest["created"]),
        cells=cells,
        trainings=[
            _training(f)
            for f in sorted(folder.glob("trainings/*"))
            # Of an import, the log is all that there is of a training, and nothing of it goes on.
            if not (unmarked or (f / "training.json").is_file() or _is_imported(f))
        ],
        missing=missing_files(folder, manifest),
        unlisted=unlisted_cells(folder, manifest),
        units=read_units(folder),
        owner=folder_owner(folder),
        num_bytes=folder_bytes(folder),
        report=page if page.is_file() else None,
        config=config if config.is_file() else None,
    )


def _status_of(entry: Mapping[str, Any], folder: Path, unmarked: bool) -> tuple[str, str | None]:
    """Return status and reason of a recorded cell: one whose files are empty or gone is not done.

    Args:
        entry: of the cell in the manifest.
        folder: of the experiment.
        unmarked: whether cells may be imported that do not say so.
    """
    if entry["status"] == "done":
        place = folder / entry["folder"]
        # 'bench import' writes rows alone, also beside which others are merged, scored or run: nothing is missed.
        imported = unmarked or _is_marked(place)
        bare = imported and not (place / "cell.json").exists()
        # Sizes and not contents: a status must be quick, and a run checks everything.
        for name in ("results.parquet",) if bare else ("results.parquet", "cell.json"):
            path = place / name
            if not (path.is_file() and path.stat().st_size):
                again = _MADE_AGAIN if imported else _AGAIN
                return "damaged", f"{path.relative_to(folder)} is empty or gone; {again}"
        if not bare and _is_ahead(folder, entry):
            return "damaged", f"{entry['folder']}: interrupted while metrics were measured again; {_AGAIN}"
    return entry["status"], entry.get("reason")


def _is_marked(cell: Path) -> bool:
    """Return whether a cell has the mark of an import: an empty or damaged file of its name vouches for nothing."""
    try:
        return bool(read_checked_json(cell / IMPORTED_CELL))
    except (OSError, ValueError):
        return False


def _is_imported(training: Path) -> bool:
    """Return whether an import made what is in a training's folder, and no run has gone on from there."""
    return (training / IMPORTED_LOG).is_file() and not completed_steps(training)


def _is_ahead(folder: Path, entry: Mapping[str, Any]) -> bool:
    """Return whether a cell holds other numbers than its entry, since the command that measured it was interrupted."""
    path = folder / entry["folder"] / "cell.json"
    # The manifest is written last, so that after whole commands no cell is read here.
    if path.stat().st_mtime_ns <= (folder / "manifest.json").stat().st_mtime_ns:
        return False
    recorded = (entry["evaluation"] or {}).get("numbers") or {}
    try:
        numbers = read_checked_json(path)["evaluation"]["numbers"]
        return any(numbers.get(name) != number for name, number in recorded.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False  # damaged otherwise, which a run finds out


def folder_owner(folder: Path) -> Owner | None:
    """Return the living process that works in an experiment's folder, or ``None``."""
    owner = read_owner(folder / OWNER)
    if owner is None or not is_lost(folder / OWNER, owner):
        return owner
    # A container may bear this machine's name and have processes that are not seen here: its lock is.
    return owner if _is_locked(folder / ".lock") else None


def _is_locked(lock: Path) -> bool:
    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # read-only: nobody can work in it
        return False


def completed_steps(training: Path) -> int:
    """Return the steps done at the newest checkpoint of a training's folder; 0 where there is none."""
    matches = (_CHECKPOINT.fullmatch(p.name) for p in training.glob("checkpoint-*.pt"))
    return max((int(m[1]) for m in matches if m), default=0)


def folder_bytes(folder: Path) -> int:
    """Sum the bytes of all files below a folder; files that vanish meanwhile count nothing."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size if path.is_file() else 0
        except OSError:
            continue
    return total


def _training(folder: Path) -> TrainingStatus:
    try:
        config = read_checked_json(folder / "config.json")
        num_steps = sum(int(phase["num_steps"]) for phase in config["phases"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        num_steps = 0
    logged = max((line["step"] for line in TrainLog(folder / "train.jsonl").read()), default=0)
    return TrainingStatus(folder.name, completed_steps(folder), logged, num_steps)
