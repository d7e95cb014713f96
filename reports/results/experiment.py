"""Read an experiment's folder back: manifest, rows of all finished cells, training curves, stored images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.results.attributes import NO_ATTRIBUTES, read_attributes
from reports.results.manifest import (
    IMPORTED_LOG,
    PICTURES,
    SEAL,
    ManifestError,
    digests_all,
    manifest_checksum,
    read_manifest,
)
from reports.results.metric_info import MetricInfo
from reports.results.recorded_files import (
    ATTRIBUTES,
    ATTRIBUTES_SHA256,
    missing_files,
    pictures_path,
    unlisted_cells,
)
from reports.results.regular_file import open_regular, read_bytes, read_text
from reports.results.schema import (
    COLUMNS,
    SchemaError,
    metric_columns,
    read_rows,
    recorded_rows,
    rows_agree,
)
from reports.results.title import read_title

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
    """The stored images of one mask: a sample chosen by seed before any metric was known.

    Attributes:
        ids: ``(P,)`` names of the images.
        image: ``(P, H, W, 3)`` uint8, the truth.
        mask: ``(P, H, W)`` uint8, 1 = hole.
        composites: cell name (``cell["cell"]``) -> ``(P, H, W, 3)`` uint8, in the manifest's order.
        samples: cell name -> several samples of its images, where there are some; cells of earlier versions kept one.
    """

    ids: list[str]
    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    composites: dict[str, NDArray[np.uint8]]
    samples: dict[str, StoredSamples] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredSamples:
    """The first samples of the stored images of a cell.

    Attributes:
        pixels: ``(P, k, H, W, 3)`` uint8, completions; of each image, the first is its entry of ``composites``.
        diversity: ``(P,)`` mean LPIPS between all samples of an image in the hole; NaN where it could not be had.
    """

    pixels: NDArray[np.uint8]
    diversity: NDArray[np.float64]


@dataclass(frozen=True)
class Experiment:
    """The content of ``runs/<experiment>/``.

    Attributes:
        name: the experiment's name.
        folder: its folder.
        manifest: ``manifest.json`` as written.
        rows: per-image results of all finished cells (``docs/results-schema.md``), in the manifest's order.
        curves: long table of what trainings logged, with :data:`CURVE_COLUMNS`; ``kind`` is ``term`` or
            ``validation``, ``phase`` is ``""`` for validation.
        cells: the manifest's cells, finished or not.
        log_problems: key of each training whose log is not what was written, or missing -> what is wrong with it.
        title: heading that ``bench report --title`` gave its pages; empty where none was given.
    """

    name: str
    folder: Path
    manifest: dict[str, Any]
    rows: pd.DataFrame
    curves: pd.DataFrame
    cells: list[dict[str, Any]]
    log_problems: dict[str, str] = field(default_factory=dict)
    title: str = ""

    @cached_property
    def attributes(self) -> pd.DataFrame:
        """Return the published attributes of the images, a boolean column each, by ``image_id``; empty where unknown.

        Raises:
            ExperimentError: their file is damaged, or not the one that the manifest records.
        """
        if not self.keeps_attributes:
            return NO_ATTRIBUTES.copy()
        try:
            return read_attributes(self.folder, self.manifest["data"].get(ATTRIBUTES_SHA256))
        except ValueError as error:
            raise ExperimentError(str(error)) from error

    @property
    def keeps_attributes(self) -> bool:
        """Whether there is a file of attributes that the experiment has written, as far as its manifest can tell."""
        # Of earlier versions, whose manifests record no digest, any file is taken.
        known = ATTRIBUTES_SHA256 in self.manifest["data"] or not digests_all(self.cells)
        return known and (self.folder / ATTRIBUTES).is_file()

    def keeps_pictures(self, mask: str) -> bool:
        """Return whether there is a file of images for ``mask`` that the experiment has written, as far as is known."""
        known = PICTURES in self.manifest["masks"].get(mask, {}) or not digests_all(self.done(mask))
        return known and self.pictures_path(mask).is_file()

    @property
    def missing_files(self) -> list[str]:
        """Return the files of images and attributes that the manifest records and that are empty or gone."""
        return missing_files(self.folder, self.manifest)

    @property
    def unlisted_cells(self) -> list[str]:
        """Return the folders of finished cells of which the manifest says nothing."""
        return unlisted_cells(self.folder, self.manifest)

    @property
    def sound_curves(self) -> pd.DataFrame:
        """Return the curves of the trainings whose log is what was written, for whoever passes them on."""
        of_damaged = self.curves["training"].isin(self.log_problems)
        return self.curves[~of_damaged].reset_index(drop=True)

    @property
    def masks(self) -> list[str]:
        """List the masks with results, in order."""
        return list(dict.fromkeys(self.rows["mask"]))

    @property
    def metrics(self) -> dict[str, MetricInfo]:
        """Describe every metric of the manifest and of the rows, primary metrics first."""
        of_sets = [name for c in self.done() for name in (c["evaluation"] or {}).get("sets") or {}]
        return metric_infos(self.manifest, [*metric_columns(self.rows), *of_sets])

    @property
    def higher_is_better(self) -> dict[str, bool]:
        """Map each metric to its direction, as the manifest records it."""
        return {name: info.higher_is_better for name, info in self.metrics.items()}

    def done(self, mask: str | None = None) -> list[dict[str, Any]]:
        """Return the finished cells, all or those of ``mask``."""
        return [c for c in self.cells if c["status"] == "done" and mask in (None, c["mask"])]

    def pictures_path(self, mask: str) -> Path:
        """Return the file of truths and masks of the images that reports show for ``mask``."""
        return pictures_path(self.folder, mask)

    def pictures(self, mask: str) -> StoredImages | None:
        """Load the images stored for ``mask``; ``None`` if none were (``--no-pictures``).

        Raises:
            ExperimentError: a file of images is damaged, not the one that was written, or shows other images than the
                mask's.
        """
        path = self.pictures_path(mask)
        if not self.keeps_pictures(mask):
            return None
        pool = _load_npz(path, ("ids", "image", "mask"))
        # Of the content and not of the file: a run writes the file again, and other versions of zlib pack it otherwise.
        recorded = self.manifest["masks"].get(mask, {}).get(PICTURES)
        if recorded is not None and arrays_digest(pool) != recorded:
            raise ExperimentError(f"{path}: damaged (not the images that were written); {_IMAGES_REMEDY}")
        ids = [str(i) for i in pool["ids"]]
        composites, samples = {}, {}
        for cell in self.done(mask):
            file = self.folder / cell["folder"] / "pictures.npz"
            if file.is_file() and _is_stored(file, cell):
                kept = _load_npz(file, ("ids", "composite"), optional=("samples", "diversity"))
                place = {str(name): i for i, name in enumerate(kept["ids"])}
                if not set(ids) <= set(place):
                    raise ExperimentError(f"{file}: shows other images than {path}; {_IMAGES_REMEDY}")
                if kept["composite"].shape[1:] != pool["image"].shape[1:]:
                    raise ExperimentError(f"{file}: images of another size than {path}; {_IMAGES_REMEDY}")
                # In the pool's order: cells store their images in the order in which they were evaluated.
                order = [place[i] for i in ids]
                composites[cell["cell"]] = kept["composite"][order]
                if {"samples", "diversity"} <= set(kept):
                    # Stored without their known pixels, which are those of every composite.
                    hole, first = pool["mask"][:, None, :, :, None] > 0, kept["composite"][order][:, None]
                    if kept["samples"].ndim != 5 or kept["samples"].shape[2:] != first.shape[2:]:
                        raise ExperimentError(f"{file}: damaged (samples of another shape); {_IMAGES_REMEDY}")
                    others = np.where(hole, kept["samples"][order], first)
                    samples[cell["cell"]] = StoredSamples(
                        np.concatenate([first, others], axis=1), kept["diversity"][order]
                    )
        return StoredImages(ids, pool["image"], pool["mask"], composites, samples)


def load_experiment(folder: Path) -> Experiment:
    """Read an experiment's folder, and nothing outside it.

    A damaged log is read as far as it goes and named in :attr:`Experiment.log_problems`: no number rests on it but
    those of curves and stability.

    Raises:
        ExperimentError: no manifest, not ours, of another schema, or results of a finished cell missing, damaged,
            or of another cell.
    """
    folder = Path(folder)
    try:
        manifest = read_manifest(folder / "manifest.json")
    except ManifestError as error:
        raise ExperimentError(str(error)) from error
    cells = list(manifest["cells"])
    tables = [_cell_rows(folder, cell) for cell in cells if cell["status"] == "done"]
    if tables:
        rows = pd.concat(tables, ignore_index=True)
    else:
        primary = [name for name, info in metric_infos(manifest).items() if info.group == "primary"]
        rows = pd.DataFrame(columns=[*(c.name for c in COLUMNS), *primary])
    curves, problems = _read_curves(folder, cells)
    return Experiment(
        manifest["experiment"], folder, manifest, rows, curves, cells, problems, read_title(folder)
    )


#: Fields that a cell's rows and its entry in the manifest share.
_SHARED = ("model", "label", "mask", "train_mask", "seed")


def _cell_rows(folder: Path, cell: dict[str, Any]) -> pd.DataFrame:
    """Read the rows of a finished cell, and check that they are its own."""
    path = folder / cell["folder"] / "results.parquet"
    try:
        table = recorded_rows(read_rows(path), cell["evaluation"])
    except SchemaError as error:
        raise ExperimentError(str(error)) from error
    if table.empty:
        raise ExperimentError(
            f"{path}: no rows of a finished cell; delete its folder and run the command again"
        )
    for name in _SHARED:
        found = table[name].unique().tolist()
        if found != [cell[name]]:
            raise ExperimentError(
                f"{path}: rows of {name} {found[0]!r} where the manifest says {cell[name]!r}; "
                "delete its folder and run the command again"
            )
    if not rows_agree(table, cell["evaluation"]):
        raise ExperimentError(
            f"{path}: not the results that the manifest records: damaged, or interrupted while metrics were measured "
            "again; give the same command again, which measures the cell (or import it again under another --name)"
        )
    return table


def metric_infos(manifest: Mapping[str, Any], columns: Sequence[str] = ()) -> dict[str, MetricInfo]:
    """Describe every metric of a manifest and of ``columns``, primary metrics first."""
    records: dict[str, Any] = {
        **manifest["metrics"],
        **{c: {} for c in columns if c not in manifest["metrics"]},
    }
    found = {name: MetricInfo.from_record(name, record) for name, record in records.items()}
    # A stable sort: within each group the manifest's order stays.
    return dict(sorted(found.items(), key=lambda item: item[1].group != "primary"))


def _read_curves(folder: Path, cells: list[dict[str, Any]]) -> tuple[pd.DataFrame, dict[str, str]]:
    """Read every training's log once, however many cells use it, and what is wrong with it."""
    records: list[dict[str, Any]] = []
    problems: dict[str, str] = {}
    by_key: dict[str, list[dict[str, Any]]] = {}
    for cell in cells:
        if cell.get("training"):
            by_key.setdefault(cell["training"]["key"], []).append(cell)
    for key, of in by_key.items():
        about = {"training": key, **{k: of[0][k] for k in ("model", "label", "seed", "train_mask")}}
        found, problem = _read_log(folder, [cell["training"] for cell in of])
        records += [about | record for record in found]
        if problem:
            problems[key] = problem
    return _in_order(pd.DataFrame(records, columns=list(CURVE_COLUMNS))), problems


def _read_log(folder: Path, trainings: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    """Read the log of a training that several cells record, each as it was when the cell was measured.

    One training may have been run twice, for cells of merged experiments or after a clean-up: the same steps, at
    another pace. The log that was kept is whole if it is what one of the cells records.
    """
    log = folder / trainings[0]["folder"] / "train.jsonl"
    made = _import_record(log)
    signatures: list[Any] = []
    attempts = []
    # Records of earlier versions, which say nothing of the log, would pass for those of any.
    for training in [t for t in trainings if t.get("log")] or trainings[:1]:
        if training.get("log") in signatures:
            continue
        signatures.append(training.get("log"))
        attempts.append(
            read_train_log(log, training.get("log"))
            if made is None
            else _read_imported_log(log, made, training)
        )
    return next((attempt for attempt in attempts if not attempt[1]), attempts[0])


def _in_order(curves: pd.DataFrame) -> pd.DataFrame:
    # A training resumes from its checkpoint and logs the steps after it again, so the last entry of a step counts.
    curves = curves.drop_duplicates(["training", "kind", "step", "term"], keep="last")
    return curves.sort_values(["training", "kind", "term", "step"], kind="stable", ignore_index=True)


def curves_digest(curves: pd.DataFrame) -> str:
    """Compute SHA-256 of what one training logged, whatever file holds it.

    Args:
        curves: its rows, with the columns of :data:`CURVE_COLUMNS` that are the log's; others are not looked at.

    Examples:
        >>> line = {"kind": "term", "phase": "joint", "step": 2, "images_seen": 8, "seconds": 0.5, "term": "l1"}
        >>> curves = pd.DataFrame([line | {"value": 0.25}])
        >>> curves_digest(curves) == curves_digest(curves.assign(label="PConv"))
        True
        >>> curves_digest(curves) == curves_digest(curves.assign(value=0.2500001))
        False
    """
    ordered = _in_order(curves.assign(training=""))
    said = [ordered[name].astype(str).tolist() for name in ("kind", "phase", "term")]
    digest = hashlib.sha256(json.dumps(said).encode())
    for name, kind in (("step", "<i8"), ("images_seen", "<i8"), ("seconds", "<f8"), ("value", "<f8")):
        values = ordered[name].to_numpy(dtype=kind)
        # There are many values that are not a number, and one of them is written.
        digest.update(np.where(np.isnan(values), np.nan, values).astype(kind).tobytes())
    return digest.hexdigest()


def _import_record(log: Path) -> dict[str, Any] | None:
    """Return what an import recorded of the log that it made; ``None`` where it made none."""
    # Beside a training that ended here, an import's record is left over, or was put there.
    if log.with_name("training.json").exists():
        return None
    try:
        made = json.loads(read_text(log.with_name(IMPORTED_LOG)))
        return made if made[SEAL] == manifest_checksum(made) else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _read_imported_log(
    log: Path, made: Mapping[str, Any], training: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], str]:
    """Read a log that an import made: its lines are the import's, its values those that ``training`` records."""
    recorded = training["log"] if isinstance(training.get("log"), dict) else {}
    signature = {**recorded, "lines": made.get("lines"), "sha256": made.get("digest")}
    found, problem = read_train_log(log, signature)
    # A merge that tells machines apart appends to a training's key; earlier imports name no training.
    own = str(training["key"]).startswith(str(made.get("training", "")))
    values = recorded.get("values_sha256")
    # The lines alone would pass for those of any training, with the import's record of them beside.
    if not problem and not (own and values in (None, values_digest(found))):
        return [], "log of another training"
    return found, problem


def values_digest(records: Sequence[Mapping[str, Any]]) -> str:
    """Compute SHA-256 of what :func:`read_train_log` found (:func:`curves_digest`)."""
    return curves_digest(pd.DataFrame(list(records), columns=list(CURVE_COLUMNS)))


def read_train_log(path: Path, signature: Any = None) -> tuple[list[dict[str, Any]], str]:
    """Read a training's log, skipping lines that are damaged.

    Args:
        path: ``train.jsonl``.
        signature: its ``lines`` and ``sha256`` as the manifest records them, and ``lost_before`` where lines were lost
            before a resume; older manifests record nothing.

    Returns:
        One record for each value logged, and what is wrong with the log: empty where nothing is.
    """
    try:
        content = read_bytes(path)
    except OSError as error:
        return [], "" if signature is None else f"log missing ({error.strerror})"
    records: list[dict[str, Any]] = []
    bad = []
    lines = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            records += _log_records(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            bad.append(number)
    recorded = signature if isinstance(signature, dict) else {}
    if "sha256" in recorded and hashlib.sha256(content).hexdigest() != recorded["sha256"]:
        kept = content.count(b"\n")
        # The number of lines tells a log that was cut off from one that was altered.
        if kept != recorded.get("lines"):
            return records, f"log incomplete: {kept} of {recorded.get('lines')} lines"
        return records, "log changed since it was written"
    # Whole since then, but damaged or gone while its training stood still.
    if isinstance(recorded.get("lost_before"), int):
        return records, f"log incomplete: lines before step {recorded['lost_before']} were lost"
    # A line that was cut off while it was written is the last one, without an end.
    if bad and bad != [len(lines)]:
        return records, f"log damaged: {len(bad)} unreadable lines, the first is line {bad[0]}"
    return records, ""


def _log_records(entry: dict[str, Any]) -> list[dict[str, Any]]:
    if "event" in entry:  # an event has no values
        return []
    kind = "terms" if "terms" in entry else "validation"
    common = {
        "kind": "term" if kind == "terms" else kind,
        "phase": str(entry.get("phase", "")),
        "step": int(entry["step"]),
        "images_seen": int(entry["images_seen"]),
        "seconds": float(entry["seconds"]),
    }
    return [
        common | {"term": str(term), "value": float("nan") if value is None else float(value)}
        for term, value in entry[kind].items()
    ]


_IMAGES_REMEDY = "delete it: the report is then made without these images, and the command stores them again"


def _load_npz(path: Path, names: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, NDArray[Any]]:
    """Load arrays that belong together, one row each for every image; of ``optional`` those that are there."""
    try:
        # No pickles: they run code, and the archive may come from anywhere.
        with open_regular(path) as file, np.load(file, allow_pickle=False) as archive:
            there = [name for name in optional if name in archive.files]
            found = {name: archive[name] for name in (*names, *there)}
            if len({len(array) for array in found.values()}) != 1:
                raise ValueError("its arrays are of different lengths")
            return found
    except Exception as error:  # a reader of damaged bytes may raise anything
        # An empty file raises EOFError, which a command line takes for the end of input.
        raise ExperimentError(f"{path}: damaged ({error}); {_IMAGES_REMEDY}") from error


def cell_title(cell: Mapping[str, Any]) -> str:
    """Return what ``bench reproduce`` calls a cell of a manifest."""
    return f"{cell['label']} on {cell['mask']}, seed {cell['seed']}"


def arrays_digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Compute SHA-256 of named arrays: kinds, shapes and values, whatever file holds them.

    Examples:
        >>> digest = arrays_digest({"mask": np.zeros((2, 3), np.uint8), "ids": np.array(["a", "b"])})
        >>> digest == arrays_digest({"ids": np.array(["a", "b"]), "mask": np.zeros((2, 3), np.uint8)})
        True
        >>> digest == arrays_digest({"ids": np.array(["a", "b"]), "mask": np.zeros((3, 2), np.uint8)})
        False
    """
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        # Byte order is part of a kind's name: "<U5".
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _is_stored(pictures: Path, cell: Mapping[str, Any]) -> bool:
    """Return whether a cell has stored images, if those in its folder are they.

    Raises:
        ExperimentError: they are not those that were written for this cell.
    """
    digest = cell.get(PICTURES)
    if digest is None:
        # This version records a digest of all images that it stores: what is there was put there.
        if digests_all([cell]):
            return False
        # Of earlier versions, cell.json beside the images says what was written.
        try:
            record = json.loads(read_text(pictures.parent / "cell.json"))
            digest = record[PICTURES] if record[SEAL] == manifest_checksum(record) else None
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return True  # still earlier versions have no digest; what is damaged is the run's business
    if digest is not None and hashlib.sha256(read_bytes(pictures)).hexdigest() != digest:
        raise ExperimentError(f"{pictures}: damaged (not the images of its cell); {_IMAGES_REMEDY}")
    return True
