"""An experiment's folder, read back: manifest, rows of all finished cells, training curves, pictures."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.results.manifest import ManifestError, read_manifest
from reports.results.metric_info import MetricInfo
from reports.results.schema import COLUMNS, SchemaError, metric_columns, numbers_agree, read_rows

#: Columns of :attr:`Experiment.curves`, one row for each value logged.
CURVE_COLUMNS = (
    "training",
    "model",
    "label",
    "seed",
    "train_mask",
    "kind",
    "phase",
    "step",
    "images_seen",
    "seconds",
    "term",
    "value",
)


class ExperimentError(ValueError):
    """A folder cannot be read as an experiment. The message says which file, why, and what to do."""


@dataclass(frozen=True)
class StoredImages:
    """The picture pool of one mask: chosen by seed before any metric was known.

    Attributes:
        ids: ``(P,)`` names of the images.
        image: ``(P, H, W, 3)`` uint8, the truth.
        mask: ``(P, H, W)`` uint8, 1 = hole.
        composites: cell name (``cell["cell"]``) -> ``(P, H, W, 3)`` uint8, in the manifest's order.
    """

    ids: list[str]
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    composites: dict[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class Experiment:
    """What ``runs/<experiment>/`` holds.

    Attributes:
        name: the experiment's name.
        folder: where it lies.
        manifest: ``manifest.json`` as written.
        rows: per-image results of all finished cells (``docs/results-schema.md``), in the manifest's order.
        curves: long table of what trainings logged, with :data:`CURVE_COLUMNS`; ``kind`` is ``term`` or
            ``validation``, ``phase`` is ``""`` for validation.
        cells: the manifest's cells, finished or not.
    """

    name: str
    folder: Path
    manifest: dict[str, Any]
    rows: pd.DataFrame
    curves: pd.DataFrame
    cells: list[dict[str, Any]]

    @property
    def masks(self) -> list[str]:
        """Masks with results, in order."""
        return list(dict.fromkeys(self.rows["mask"]))

    @property
    def metrics(self) -> dict[str, MetricInfo]:
        """Metric -> what the manifest says of it, primary metrics first; whatever was measured is among them."""
        of_sets = [name for c in self.done() for name in (c["evaluation"] or {}).get("sets") or {}]
        return metric_infos(self.manifest, [*metric_columns(self.rows), *of_sets])

    @property
    def higher_is_better(self) -> dict[str, bool]:
        """Metric -> direction, as the manifest says."""
        return {name: info.higher_is_better for name, info in self.metrics.items()}

    def done(self, mask: str | None = None) -> list[dict[str, Any]]:
        """Finished cells, all or those of ``mask``."""
        return [c for c in self.cells if c["status"] == "done" and mask in (None, c["mask"])]

    def pictures(self, mask: str) -> StoredImages | None:
        """The pictures kept for ``mask``; ``None`` if none were (``--no-pictures``).

        Raises:
            ExperimentError: a file of pictures is damaged.
        """
        path = self.folder / "pictures" / f"{mask_file_name(mask)}.npz"
        if not path.is_file():
            return None
        pool = _load_npz(path, ("ids", "image", "mask"))
        ids = [str(i) for i in pool["ids"]]
        composites = {}
        for cell in self.done(mask):
            file = self.folder / cell["folder"] / "pictures.npz"
            if file.is_file():
                kept = _load_npz(file, ("ids", "composite"))
                place = {str(name): i for i, name in enumerate(kept["ids"])}
                if not set(ids) <= set(place):
                    raise ExperimentError(
                        f"{file}: shows other images than {path}; delete both and run again"
                    )
                composites[cell["cell"]] = kept["composite"][[place[i] for i in ids]]
        return StoredImages(ids, pool["image"], pool["mask"], composites)


def load_experiment(folder: Path) -> Experiment:
    """Read an experiment's folder; nothing outside it is looked at.

    Raises:
        ExperimentError: no manifest, not ours, of another schema, or results of a finished cell missing or
            damaged.
    """
    folder = Path(folder)
    try:
        manifest = read_manifest(folder / "manifest.json")
    except ManifestError as error:
        raise ExperimentError(str(error)) from error
    cells = list(manifest["cells"])
    tables = []
    for cell in cells:
        if cell["status"] == "done":
            path = folder / cell["folder"] / "results.parquet"
            try:
                table = read_rows(path)
            except SchemaError as error:
                raise ExperimentError(str(error)) from error
            if not numbers_agree(table, cell["evaluation"].get("numbers")):
                raise ExperimentError(
                    f"{path}: not the results that the manifest records; delete its folder and run the command again"
                )
            tables.append(table)
    if tables:
        rows = pd.concat(tables, ignore_index=True)
    else:
        primary = [name for name, info in metric_infos(manifest).items() if info.group == "primary"]
        rows = pd.DataFrame(columns=[*(c.name for c in COLUMNS), *primary])
    return Experiment(manifest["experiment"], folder, manifest, rows, _read_curves(folder, cells), cells)


def metric_infos(manifest: Mapping[str, Any], columns: Sequence[str] = ()) -> dict[str, MetricInfo]:
    """Describe every metric of a manifest and of ``columns``, primary metrics first."""
    records: dict[str, Any] = {
        **manifest["metrics"],
        **{c: {} for c in columns if c not in manifest["metrics"]},
    }
    found = {name: MetricInfo.from_record(name, record) for name, record in records.items()}
    return dict(sorted(found.items(), key=lambda item: item[1].group != "primary"))


def _read_curves(folder: Path, cells: list[dict[str, Any]]) -> pd.DataFrame:
    """Every training once, however many cells stand on it."""
    records: list[dict[str, Any]] = []
    seen: set[str] = set()
    for cell in cells:
        training = cell.get("training")
        if not training or training["key"] in seen:
            continue
        seen.add(training["key"])
        about = {
            "training": training["key"],
            **{k: cell[k] for k in ("model", "label", "seed", "train_mask")},
        }
        records += [about | record for record in _read_log(folder / training["folder"] / "train.jsonl")]
    curves = pd.DataFrame(records, columns=list(CURVE_COLUMNS))
    # After an interruption a training goes on from its checkpoint and logs some steps again: the last counts.
    curves = curves.drop_duplicates(["training", "kind", "step", "term"], keep="last")
    return curves.sort_values(["training", "kind", "term", "step"], kind="stable", ignore_index=True)


def _read_log(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    records = []
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            kind = "terms" if "terms" in entry else "validation"
            for term, value in entry[kind].items():
                records.append(
                    {
                        "kind": "term" if kind == "terms" else kind,
                        "phase": entry.get("phase", ""),
                        "step": int(entry["step"]),
                        "images_seen": int(entry["images_seen"]),
                        "seconds": float(entry["seconds"]),
                        "term": term,
                        "value": float("nan") if value is None else float(value),
                    }
                )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if number == len(lines):  # cut off while it was written
                break
            raise ExperimentError(f"{path}: line {number} is damaged ({error}); delete the file") from error
    return records


def _load_npz(path: Path, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in names}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ExperimentError(f"{path}: damaged ({error}); delete it and run the command again") from error


def mask_file_name(mask: str) -> str:
    """A mask's name as part of a file's name; what had to be changed or cut keeps apart by a digest."""
    plain = "".join(c if c.isalnum() or c in "-+" else "_" for c in mask)
    if plain == mask and len(plain) <= 60:
        return plain
    return f"{plain[-50:]}-{hashlib.sha256(mask.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"
