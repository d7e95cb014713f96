"""Kept files of an experiment: manifest, rows and curves, loose or in one bundle.

A bundle is a zip archive of ``manifest.json``, ``rows.parquet``, ``curves.parquet`` and ``weights.json``, the card of
the weights, with ``attributes.parquet`` where attributes of the images are known. Reading checks the manifest's
checksum and shape, and every number and the card against what the manifest records; nothing that a file names is run.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bench.errors import UsageError
from bench.ledger.weights_card import weights_card, with_described_weights
from reports.export import looks_like_formula
from reports.results.attributes import checked_attributes
from reports.results.experiment import CURVE_COLUMNS, Experiment, curves_digest
from reports.results.manifest import SEAL, ManifestError, digests_all, manifest_checksum, read_manifest
from reports.results.recorded_files import ATTRIBUTES, ATTRIBUTES_SHA256
from reports.results.schema import COLUMNS, SchemaError, recorded_rows, rows_agree, validate_rows

MANIFEST, ROWS, CURVES, WEIGHTS = "manifest.json", "rows.parquet", "curves.parquet", "weights.json"
#: Bytes that a part of a bundle may unpack to: ten times what a million rows take.
_LARGEST_PART = 2 << 30
#: Characters of a name that somebody gives.
_LONGEST_NAME = 100
#: What tells a cell's rows apart.
_CELL_KEY = ["model", "label", "mask", "train_mask", "seed"]


@dataclass(frozen=True)
class KeptFiles:
    """What was kept of an experiment.

    Attributes:
        manifest: as it was written.
        cells: rows of each finished cell, in the manifest's order.
        curves: in :data:`reports.results.experiment.CURVE_COLUMNS`; ``None`` where they were not kept.
        attributes: of the images (:mod:`reports.results.attributes`); ``None`` where they were not kept.
    """

    manifest: dict[str, Any]
    cells: list[pd.DataFrame]
    curves: pd.DataFrame | None
    attributes: pd.DataFrame | None = None


def pack_bundle(experiment: Experiment, *, by: str | None = None) -> bytes:
    """Pack an experiment into one file; the same experiment gives the same bytes.

    A bundle travels, so its manifest names files by their last part only (:func:`without_folders`). A log that is not
    what was written stays behind: where the bundle is imported, it is missing, and is said to be.

    Args:
        experiment: what to pack.
        by: who computed it, in their own words; as the experiment says if not given.

    Raises:
        UsageError: no cell is done, the name is empty or no single line, or the experiment says that somebody else
            computed it.
        reports.results.experiment.ExperimentError: its attributes are damaged.
    """
    if experiment.rows.empty:
        raise UsageError(f"{experiment.name}: no cell is done, so a bundle would hold no numbers")
    described = with_described_weights(experiment)
    if by is not None:
        said = described.get("computed_by")
        if not by.strip() or not by.isprintable() or len(by) > _LONGEST_NAME:
            raise UsageError(f"--by: a name of 1 to {_LONGEST_NAME} printable characters")
        # Imported from somebody's bundle: only their own word would put another name there.
        if said not in (None, by):
            raise UsageError(f"--by {by}: {experiment.name} was computed by {said!r}, as its bundle says")
        described = {**described, "computed_by": by}
    bare = without_folders(described)
    parts = {MANIFEST: manifest_text(bare).encode(), ROWS: _parquet(experiment.rows)}
    parts[CURVES] = _parquet(experiment.sound_curves)
    parts[WEIGHTS] = manifest_text(weights_card(bare)).encode()
    if experiment.keeps_attributes:
        parts[ATTRIBUTES] = _parquet(experiment.attributes.reset_index())
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in parts.items():
            # ZipInfo's default date, not the clock's.
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def without_folders(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest with every absolute path in its commands and data cut to its last part, sealed anew.

    >>> manifest = {"command": ["bench", "run", "--data", "/home/ada/celeba"], "data": {"source": "/home/ada/celeba"}}
    >>> without_folders(manifest)["command"]
    ['bench', 'run', '--data', 'celeba']
    """

    def cut(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: cut(part) for key, part in value.items()}
        if isinstance(value, list):
            return [cut(part) for part in value]
        if not isinstance(value, str):
            return value
        # `files:/home/ada/masks` and `exec:/home/ada/program.toml` hold a path after their kind.
        kind, colon, path = value.rpartition(":")
        return f"{kind}{colon}{Path(path).name}" if Path(path).is_absolute() else value

    bare = {**manifest, "data": {k: cut(v) if k == "source" else v for k, v in manifest["data"].items()}}
    bare |= {key: cut(manifest[key]) for key in ("command", "commands", "options") if key in manifest}
    return {**bare, SEAL: manifest_checksum(bare)}


def _parquet(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def read_kept_files(paths: Sequence[Path]) -> KeptFiles:
    """Read the kept files of one experiment: a bundle, or a manifest with tables of rows and curves.

    A table's columns say what it is, so the files may have any names. Tables are Parquet or CSV, as ``bench export``
    writes them.

    Raises:
        UsageError: a file is missing, damaged or none of these; there is not one manifest; rows of a finished cell
            are missing, or are not the numbers that the manifest records.
    """
    # The manifest is read from a file by the same function as any other, so parts of a bundle are unpacked
    # first.
    with tempfile.TemporaryDirectory() as folder:
        try:
            unpacked = []
            for path in paths:
                if not path.is_file():
                    raise UsageError(f"{path}: no such file")
                unpacked += _unpack(path, Path(folder)) if zipfile.is_zipfile(path) else [path]
            return _read_unpacked(unpacked, paths)
        except UsageError as error:
            # Nobody can look into the folder any more that a part was unpacked into.
            raise UsageError(str(error).replace(f"{folder}{os.sep}", f"{paths[0]}: ")) from error


def _read_unpacked(unpacked: Sequence[Path], paths: Sequence[Path]) -> KeptFiles:
    """Read the files of one experiment, which are called ``paths`` or are parts of the bundle of that name."""
    # By suffix, since a bundle and loose files come under any name; the tables are told by their columns.
    cards = [path for path in unpacked if path.name == WEIGHTS]
    unpacked = [path for path in unpacked if path not in cards]
    manifests = [path for path in unpacked if path.suffix == ".json"]
    if len(manifests) != 1:
        raise UsageError(
            f"{len(manifests)} manifests in {', '.join(map(str, paths))}: give the files of one experiment, "
            "a bundle or manifest.json with its rows and curves (Parquet or CSV)"
        )
    try:
        manifest = read_manifest(manifests[0])
    except ManifestError as error:
        raise UsageError(str(error)) from error
    for card in cards:
        _check_card(card, manifest, paths)
    tables = [(path, _read_table(path)) for path in unpacked if path != manifests[0]]
    attributes = next((table for path, table in tables if path.name.endswith(ATTRIBUTES)), None)
    tables = [(path, table) for path, table in tables if not path.name.endswith(ATTRIBUTES)]
    # Columns beyond the known ones are allowed: newer versions may add some.
    curves = [table for _, table in tables if set(CURVE_COLUMNS) <= set(table.columns)]
    rows = [(path, table) for path, table in tables if set(_CELL_KEY) <= set(table.columns)]
    # A file that fits nothing is a mistake of the caller's, and must not be passed over.
    for path, table in tables:
        if not {"term", "image_id"} & set(table.columns):
            raise UsageError(f"{path}: neither rows nor curves of an experiment")
    if not rows:
        raise UsageError("no table of rows: give the file that 'bench export --table rows' wrote")
    logged = pd.concat(curves, ignore_index=True)[list(CURVE_COLUMNS)] if curves else None
    if logged is not None:
        _check_curves(manifest, logged)
    return KeptFiles(
        manifest,
        _rows_by_cell(manifest, _join_rows(rows)),
        logged,
        _checked(attributes, manifest, paths),
    )


def _join_rows(rows: Sequence[tuple[Path, pd.DataFrame]]) -> pd.DataFrame:
    first = rows[0][0]
    joined = pd.concat([table for _, table in rows], ignore_index=True)
    # Without a row a column has no type to check.
    if joined.empty:
        raise UsageError(f"{first}: no rows, so no cell of this experiment was done when it was kept")
    try:
        return validate_rows(joined, str(first))
    except SchemaError as error:
        raise UsageError(str(error)) from error


def _check_card(card: Path, manifest: dict[str, Any], paths: Sequence[Path]) -> None:
    """Refuse a card of other weights than those that the manifest records."""
    try:
        said = json.loads(card.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        said = None
    # The manifest alone decides, which is sealed: the card is what a reader finds without knowing its shape.
    if said != weights_card(manifest):
        raise UsageError(f"{paths[0]}: {WEIGHTS} is not the card of the weights that the manifest records")


def _checked(
    attributes: pd.DataFrame | None, manifest: dict[str, Any], paths: Sequence[Path]
) -> pd.DataFrame | None:
    digest = manifest["data"].get(ATTRIBUTES_SHA256)
    if attributes is not None and digest is None and digests_all(manifest["cells"]):
        raise UsageError(
            f"{paths[0]}: {ATTRIBUTES} is none of the experiment's, whose manifest records no attributes"
        )
    try:
        return None if attributes is None else checked_attributes(attributes, digest)
    except ValueError as error:
        raise UsageError(f"{paths[0]}: {ATTRIBUTES} is damaged ({error})") from error


def _unpack(bundle: Path, folder: Path) -> list[Path]:
    """Unpack the parts of a bundle by their known names, whatever else the archive holds."""
    found = []
    try:
        with zipfile.ZipFile(bundle) as archive:
            # Of two entries with one name, readers of zip files take the first or the last, without a word.
            twice = [name for name, count in Counter(archive.namelist()).items() if count > 1]
            if twice:
                raise UsageError(f"{bundle}: holds {twice[0]!r} twice; get an intact copy of it")
            there = {info.filename: info for info in archive.infolist()}
            for name in (MANIFEST, ROWS, CURVES, WEIGHTS, ATTRIBUTES):
                if name not in there:
                    continue
                # The header is asked before anything is unpacked: a few kilobytes may unpack to terabytes.
                if there[name].file_size > _LARGEST_PART:
                    raise UsageError(f"{bundle}: {name} would unpack to more than {_LARGEST_PART >> 30} GiB")
                # Named by us, neither by the archive, whose entries could leave the folder, nor after it: what its name
                # is encoded in is nobody's business here.
                target = folder / name
                with archive.open(name) as source:
                    # The header's size may lie: never read more than it says.
                    target.write_bytes(source.read(there[name].file_size))
                found.append(target)
    except UsageError:
        raise
    except Exception as error:  # readers of damaged bytes may raise anything
        raise UsageError(f"{bundle}: not readable as a bundle ({error})") from error
    if not found:
        raise UsageError(f"{bundle}: a zip archive, but not a bundle of inpaint-bench")
    return found


def _read_table(path: Path) -> pd.DataFrame:
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(io.BytesIO(path.read_bytes()))  # by bytes: its name may not be UTF-8
        # As text: some versions of pandas lose the last bit of a number, and a model may be called "NA".
        return _typed(pd.read_csv(path, dtype=str, keep_default_na=False))
    except Exception as error:  # readers of damaged bytes may raise anything
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(f"{path}: not readable as a table ({line})") from error


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """Give the columns of a CSV table the kinds of the schema, and take the guard off texts like formulas."""
    texts = {c.name for c in COLUMNS if c.kind == "text"} | {"training", "kind", "phase", "term"}
    whole = {c.name for c in COLUMNS if c.kind == "integer"} | {"step", "images_seen"}
    for name in table.columns:
        values = table[name]
        if name in texts:
            guarded = values.map(lambda text: text.startswith("'") and looks_like_formula(text))
            table[name] = values.where(~guarded, values.str[1:])
        elif name == "identity":
            table[name] = pd.array([int(float(v)) if v else pd.NA for v in values], dtype="Int64")
        elif name == "identical":
            table[name] = values.eq("True")
        elif name in whole:
            table[name] = [int(v) for v in values]
        else:
            table[name] = [float(v or "nan") for v in values]
    return table


def _rows_by_cell(manifest: dict[str, Any], rows: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the rows of each finished cell, checked against the manifest's numbers."""
    # Grouped with the label: two configurations of one model are two cells.
    by_cell = dict(iter(rows.groupby(_CELL_KEY, sort=False, observed=True)))
    found = []
    for cell in manifest["cells"]:
        if cell["status"] != "done":
            continue
        key = tuple(cell[name] for name in _CELL_KEY)
        if key not in by_cell:
            raise UsageError(
                f"no rows of {cell['cell']}: the tables are not all that the manifest's experiment has"
            )
        part = by_cell[key].reset_index(drop=True)
        # Joined tables have the columns of all cells; a cell has those that it recorded.
        part = recorded_rows(part, cell["evaluation"])
        # Every number is held against the manifest, whose checksum was compared above.
        if not rows_agree(part, cell["evaluation"]):
            raise UsageError(f"the rows of {cell['cell']} are not those that the manifest records")
        found.append(part)
    return found


def _check_curves(manifest: dict[str, Any], curves: pd.DataFrame) -> None:
    """Refuse curves that are not what the trainings logged, where the manifest says what that was."""
    by_key = dict(iter(curves.groupby("training", sort=False)))
    # One training may have been run twice, for several cells: its curves are those of one of them.
    recorded: dict[str, dict[str, str]] = {}
    for cell in manifest["cells"]:
        training = cell["training"] or {}
        digest = (training.get("log") or {}).get("values_sha256")
        if digest is not None:
            recorded.setdefault(str(training.get("key")), {}).setdefault(digest, cell["cell"])
    for key, digests in recorded.items():
        if key in by_key and curves_digest(by_key[key]) not in digests:
            raise UsageError(
                f"the curves of {next(iter(digests.values()))} are not those that the manifest records; get an intact "
                "copy of them, or leave the curves out"
            )


def manifest_text(manifest: dict[str, Any]) -> str:
    """Return a manifest as it is written to disk."""
    return json.dumps(manifest, indent=1) + "\n"
