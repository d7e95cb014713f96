"""Schema of results: one row an image (``docs/results-schema.md`` describes it field by field).

A results file is Parquet with :data:`SCHEMA_VERSION` in its metadata. Other versions are refused with advice,
never guessed at.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from reports.results.atomic_io import atomic_write
from reports.results.regular_file import open_regular

SCHEMA_VERSION = 1
_METADATA_KEY = b"inpaint_bench_schema"
#: The columns once more, so that a damaged name of a metric is not taken for another metric.
_COLUMNS_KEY = b"inpaint_bench_columns"

Kind = Literal["text", "integer", "number", "boolean", "optional integer"]


class SchemaError(ValueError):
    """A table or file is not a results table of this version. The message says where and what to do."""


@dataclass(frozen=True)
class Column:
    """One field of the schema: its name, kind, and meaning with unit and range."""

    name: str
    kind: Kind
    meaning: str


#: What every row says about itself. Whatever else a table has is a metric: a float column, NaN where
#: unavailable.
COLUMNS = (
    Column("model", "text", "registry name of the model (`mgs-iim`)"),
    Column(
        "label",
        "text",
        "the model as tables show it, with what it departs in (`PConv (no perceptual/style)`)",
    ),
    Column("track", "text", "`uniform` or `faithful`"),
    Column("preset", "text", "`smoke`, `quick` or `paper`"),
    Column("seed", "integer", "seed of the training; a training-free baseline has one"),
    Column(
        "sample",
        "integer",
        "number of the completion, from 0, where a stochastic model drew several of an image; 0 of all others",
    ),
    Column("mask", "text", "mask evaluated on"),
    Column(
        "train_mask",
        "text",
        "mask or mixture trained on; `-` for training-free baselines, `external` for images of other programs",
    ),
    Column("size", "integer", "side of the square image in pixels"),
    Column("image_id", "text", "name of the image in its data set"),
    Column(
        "identity",
        "optional integer",
        "person shown, where the data set says; images of one are not independent",
    ),
    Column("hole_ratio", "number", "area of the hole over area of the image, in (0, 1)"),
    Column("identical", "boolean", "the 8-bit composite equals the truth, so PSNR is at its cap"),
)

#: One row for each combination. Rows of earlier versions have no ``sample``: it is 0.
KEY = ("label", "model", "seed", "sample", "mask", "train_mask", "image_id")

#: Value of ``train_mask`` where nothing was trained.
UNTRAINED = "-"
#: Value of ``train_mask``, ``track`` and ``preset`` where another program made the pictures (``bench score``): one
#: training of which nothing is known.
EXTERNAL = "external"

_NAMES = tuple(column.name for column in COLUMNS)


def metric_columns(rows: pd.DataFrame) -> list[str]:
    """List the metric columns of a results table, in its order."""
    return [str(name) for name in rows.columns if name not in _NAMES]


def validate_rows(rows: pd.DataFrame, where: str = "results") -> pd.DataFrame:
    """Check a table, and return it with its columns in order and of their types.

    Args:
        rows: one row an image.
        where: what error messages call it.

    Raises:
        SchemaError: a column is missing, of a wrong type or has gaps; a metric is infinite; a row comes
            twice.
    """
    if "sample" not in rows.columns:
        rows = rows.assign(sample=0)  # of versions that drew one completion of an image
    missing = [name for name in _NAMES if name not in rows.columns]
    if missing:
        raise SchemaError(f"{where}: column {', '.join(missing)} is missing")
    if not metric_columns(rows):
        raise SchemaError(f"{where}: there is no column of a metric")
    if not rows.columns.is_unique:
        raise SchemaError(f"{where}: column {rows.columns[rows.columns.duplicated()][0]} comes twice")
    metrics = metric_columns(rows)
    kinds: dict[str, Kind] = {column.name: column.kind for column in COLUMNS} | dict.fromkeys(
        metrics, "number"
    )
    if [*rows.columns] == [*kinds] and all(map(_has_type, rows.dtypes, kinds.values())):
        # As this module writes them: read a thousand times for a page, and each column costs more than its check.
        table = rows.reset_index(drop=True)
        if gaps := [name for name in _NAMES if kinds[name] != "optional integer" and table[name].hasnans]:
            raise SchemaError(f"{where}: {gaps[0]} has gaps")
    else:
        typed = {name: _typed(rows[name], kind, where, gaps=name in metrics) for name, kind in kinds.items()}
        table = pd.DataFrame(typed).reset_index(drop=True)
    infinite = np.isinf(table[metrics].to_numpy()).any(axis=0)
    if infinite.any():
        name = metrics[int(infinite.argmax())]
        raise SchemaError(f"{where}: {name} is infinite; cap it and say so in 'identical'")
    if not ((table["hole_ratio"] > 0) & (table["hole_ratio"] <= 1)).all():
        raise SchemaError(f"{where}: hole_ratio must lie in (0, 1]")
    if (table["sample"] < 0).any():
        raise SchemaError(f"{where}: sample must not be negative")
    # Of one cell the images alone tell the rows apart, and are looked through much faster than the whole key.
    if not table["image_id"].is_unique and (repeated := table.duplicated(list(KEY))).any():
        first = table[repeated].iloc[0]
        raise SchemaError(f"{where}: two rows for " + ", ".join(f"{k}={first[k]}" for k in KEY))
    return table


#: Type of the columns of each kind in a table that was checked.
_TYPES: dict[Kind, Any] = {
    "text": pd.Series([""]).astype(str).dtype,
    "integer": np.dtype("int64"),
    "number": np.dtype("float64"),
    "boolean": np.dtype(bool),
    "optional integer": pd.Int64Dtype(),
}


def _has_type(dtype: Any, kind: Kind) -> bool:
    # Before pandas 3 text is a column of objects, and may be anything.
    return bool(dtype == _TYPES[kind] and dtype != np.dtype(object))


def _typed(values: pd.Series, kind: Kind, where: str, *, gaps: bool = False) -> pd.Series:
    name = str(values.name)
    if kind != "optional integer" and not gaps and values.isna().any():
        raise SchemaError(f"{where}: {name} has gaps")
    try:
        match kind:
            case "text":
                # astype(str) below would write anything as text.
                if not all(isinstance(v, str) for v in values.unique()):
                    raise TypeError
                return values.astype(str)
            case "boolean":
                if not pd.api.types.is_bool_dtype(values):
                    raise TypeError
                return values.astype(bool)
            case "number":
                # Would become 0 and 1 without a word.
                if pd.api.types.is_bool_dtype(values):
                    raise TypeError
                return values.astype("float64")
            case _:
                # A column of nothing but gaps has no integer type.
                if not pd.api.types.is_integer_dtype(values) and values.notna().any():
                    raise TypeError
                return values.astype("Int64" if kind == "optional integer" else "int64")
    except (TypeError, ValueError):
        raise SchemaError(f"{where}: {name} must be {kind}, not {values.dtype}") from None


def write_rows(rows: pd.DataFrame, path: Path) -> None:
    """Validate and write a results file atomically.

    Raises:
        SchemaError: see :func:`validate_rows`.
        OSError: the disk is full or the folder cannot be written.
    """
    table = pa.Table.from_pandas(validate_rows(rows, str(path)), preserve_index=False)
    # pandas' own entry stays: it restores types that Arrow does not know.
    metadata = {
        **(table.schema.metadata or {}),
        _METADATA_KEY: str(SCHEMA_VERSION).encode(),
        _COLUMNS_KEY: "\n".join(table.column_names).encode(),
    }
    table = table.replace_schema_metadata(metadata)

    def write(temporary: Path) -> None:
        # By an open file, here and in read_rows: Parquet's own can open no path that is not UTF-8.
        with temporary.open("wb") as file:
            # Checksums of pages: a flipped bit in a kept file is an error, never another number.
            pq.write_table(table, file, compression="zstd", write_page_checksum=True)

    atomic_write(path, write)


def read_rows(path: Path) -> pd.DataFrame:
    """Read a results file.

    Raises:
        SchemaError: missing, not Parquet, not ours, or of another schema version.
    """
    if not path.is_file():
        raise SchemaError(f"{path}: no such results file; run the experiment's command again")
    try:
        # Without partitioning, or a folder called ``a=b`` on the way to the file would become a column.
        with open_regular(path) as file:
            table = pq.read_table(file, partitioning=None, page_checksum_verification=True)
        frame = table.to_pandas()
    except Exception as error:  # a reader of damaged bytes may raise anything
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SchemaError(
            f"{path}: not readable as Parquet ({line}); delete its folder and run the command again"
        ) from error
    version = (table.schema.metadata or {}).get(_METADATA_KEY)
    if version is None:
        raise SchemaError(f"{path}: a Parquet file, but not a results file of inpaint-bench")
    if version != str(SCHEMA_VERSION).encode():
        found = version.decode(errors="replace")
        # Digits of other scripts, and thousands of them, are none of a version of ours.
        older = found.isascii() and found.isdigit() and len(found) < 20 and int(found) < SCHEMA_VERSION
        advice = "run the experiment again" if older else "install a newer inpaint-bench"
        raise SchemaError(f"{path}: results of schema {found}, this version reads {SCHEMA_VERSION}; {advice}")
    columns = (table.schema.metadata or {}).get(_COLUMNS_KEY)
    if columns is not None and columns.decode(errors="replace").split("\n") != table.column_names:
        raise SchemaError(
            f"{path}: damaged (its columns are not what was written); delete its folder and run again"
        )
    return validate_rows(frame, str(path))


def mean_over_samples(rows: pd.DataFrame) -> pd.DataFrame:
    """Average the samples of each image, so that one row an image is left; the same rows where there is one sample.

    An image is ``identical`` where all of its samples are; ``sample`` is 0.

    Examples:
        >>> rows = pd.DataFrame({"image_id": ["a", "a", "b"], "sample": [0, 1, 0], "psnr_db": [20.0, 23.0, 25.0]})
        >>> mean_over_samples(rows)["psnr_db"].tolist()
        [21.5, 25.0]
    """
    if "sample" not in rows.columns or not (rows["sample"] > 0).any():
        return rows
    key = [name for name in KEY if name != "sample" and name in rows.columns]
    grouped = rows.groupby(key, sort=False, observed=True)
    first = grouped.head(1).reset_index(drop=True).assign(sample=0)
    averaged = grouped[metric_columns(rows)].mean()
    columns: dict[str, Any] = {name: averaged[name].to_numpy() for name in averaged.columns}
    if "identical" in rows.columns:
        columns["identical"] = grouped["identical"].all().to_numpy()
    return first.assign(**columns)


def cell_numbers(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Summarize the rows of a cell as its manifest keeps them: enough to compare to the last bit, without rows.

    The mean is the exact sum, rounded once: the same on every machine. The digest is SHA-256 over the images' ids and
    their float64 values, in order.

    Returns:
        Metric -> ``mean`` over the images (``None`` where it is not a number or there is no image) and ``digest`` of
        all values.

    Examples:
        >>> rows = pd.DataFrame({"image_id": ["a", "b"], "psnr_db": [20.0, 25.0]})
        >>> numbers = cell_numbers(rows)
        >>> numbers["psnr_db"]["mean"], numbers_agree(rows, numbers)
        (22.5, True)
        >>> numbers_agree(rows.assign(psnr_db=[20.0, 25.0000001]), numbers)
        False
    """
    # No file name holds a zero byte, so the text cannot be cut in two ways.
    ids = "\0".join(rows["image_id"]).encode("utf-8", "surrogateescape")
    found: dict[str, dict[str, Any]] = {}
    for name in metric_columns(rows):
        # The byte order is named, so that the digest is the same on every machine.
        values = rows[name].to_numpy(dtype="<f8")
        # The exact sum, rounded once: any order of adding gives the same mean.
        mean = math.fsum(values) / len(values) if len(values) and np.isfinite(values).all() else math.nan
        digest = hashlib.sha256(ids + b"\0" + values.tobytes()).hexdigest()
        found[name] = {"mean": None if math.isnan(mean) else mean, "digest": digest}
    return found


def numbers_agree(rows: pd.DataFrame, recorded: Any) -> bool:
    """Return whether ``recorded`` (:func:`cell_numbers`) was made from these rows; ``None`` agrees with any.

    Metrics of the rows that are not recorded, and recorded ones without rows, count as another table.
    """
    return recorded is None or cell_numbers(rows) == recorded


#: Columns that tell a cell from others. They are held against its record by value, and a merge may rename a label.
_OF_THE_CELL = ("model", "label", "mask", "train_mask", "seed")


def rows_digest(rows: pd.DataFrame) -> str:
    """Compute SHA-256 of what a cell's rows say besides its metrics and whose they are, in order, alike on any machine.

    :func:`cell_numbers` covers the metrics and the images' ids. Intervals rest on the identities, tables by area of the
    hole on ``hole_ratio``.

    Args:
        rows: as :func:`validate_rows` returns them.

    Examples:
        >>> said = {column.name: ["a"] if column.kind == "text" else [1] for column in COLUMNS}
        >>> rows = validate_rows(pd.DataFrame(said | {"identical": [False], "psnr_db": [20.0]}))
        >>> rows_digest(rows) == rows_digest(rows.assign(psnr_db=21.0))
        True
        >>> rows_digest(rows) == rows_digest(rows.assign(hole_ratio=0.5))
        False
    """
    digest = hashlib.sha256()
    for column in COLUMNS:
        if column.name in _OF_THE_CELL:
            continue
        values = rows[column.name]
        match column.kind:
            case "text":
                content = "\0".join(values).encode("utf-8", "surrogateescape")
            case "number":
                content = values.to_numpy(dtype="<f8").tobytes()
            case "boolean":
                content = values.to_numpy(dtype=bool).tobytes()
            case _:
                # Gaps apart from the numbers, of which any might be a person's.
                gaps = values.isna().to_numpy(dtype=bool).tobytes()
                content = gaps + values.fillna(0).to_numpy(dtype="<i8").tobytes()
        # Length first, so that nothing can move from one column to the next.
        digest.update(f"{column.name} {len(content)} ".encode() + content)
    return digest.hexdigest()


def recorded_rows(rows: pd.DataFrame, evaluation: Mapping[str, Any]) -> pd.DataFrame:
    """Return rows without the metrics that a recorded ``evaluation`` does not have.

    The table of a cell is written before its record, so that a command which ends in between leaves metrics that
    nothing vouches for beside the others. Records of earlier versions that hold no ``numbers`` tell of no metric.

    Examples:
        >>> rows = pd.DataFrame({"image_id": ["a"], "psnr_db": [20.0], "ms_ssim": [0.5]})
        >>> list(recorded_rows(rows, {"numbers": {"psnr_db": {}}}))
        ['image_id', 'psnr_db']
    """
    recorded = evaluation.get("numbers")
    if recorded is None:
        return rows
    return rows.drop(columns=[name for name in metric_columns(rows) if name not in recorded])


def rows_agree(rows: pd.DataFrame, evaluation: Mapping[str, Any]) -> bool:
    """Return whether a recorded ``evaluation`` is of these rows: its ``numbers`` and its ``rows_sha256``.

    Records of earlier versions lack ``rows_sha256``, those of still earlier ones both; what is not there agrees.
    """
    said = evaluation.get("rows_sha256")
    return numbers_agree(rows, evaluation.get("numbers")) and (said is None or rows_digest(rows) == said)
