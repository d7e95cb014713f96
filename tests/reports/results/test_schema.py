"""The results schema: what is accepted, what is refused and how, and a file of each version read back."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from reports.results.schema import (
    COLUMNS,
    SCHEMA_VERSION,
    SchemaError,
    metric_columns,
    read_rows,
    validate_rows,
    write_rows,
)
from tests.reports.synthetic import make_rows

KEPT = Path(__file__).parents[1] / "data"
DOCUMENT = Path(__file__).parents[3] / "docs" / "results-schema.md"


def test_kept_file_of_the_current_schema_reads_back() -> None:
    rows = read_rows(KEPT / f"results-schema-{SCHEMA_VERSION}.parquet")
    assert list(rows["image_id"]) == ["000001.jpg", "000002.jpg", "000003.jpg"]
    assert list(rows["model"]) == ["mgs-iim"] * 3
    assert rows["identity"].isna().tolist() == [False, False, True]
    assert rows["identity"].iloc[0] == 2880
    np.testing.assert_array_equal(rows["psnr_db"], [24.5, 27.125, 100.0])
    assert rows["identical"].tolist() == [False, False, True]
    assert rows["lpips_alex"].isna().all()
    assert metric_columns(rows) == ["psnr_db", "ssim", "lpips_alex", "hole_psnr_db", "hole_mae"]


def test_round_trip_keeps_every_bit(tmp_path: Path) -> None:
    rows = make_rows(images=17, identities=False)
    rows["my_metric"] = np.linspace(0, 1, 17) / 3
    write_rows(rows, tmp_path / "results.parquet")
    pd.testing.assert_frame_equal(
        read_rows(tmp_path / "results.parquet"), validate_rows(rows), check_exact=True
    )


def test_rewriting_leaves_no_temporary_file(tmp_path: Path) -> None:
    for _ in range(2):
        write_rows(make_rows(), tmp_path / "results.parquet")
    assert [p.name for p in tmp_path.iterdir()] == ["results.parquet"]


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "results.parquet"
    write_rows(make_rows(images=4), path)
    before = path.read_bytes()

    def full(table: pa.Table, where: BinaryIO, **_: object) -> None:
        where.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OSError, match="No space left"):
        write_rows(make_rows(images=8), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["results.parquet"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.drop(columns="mask"), "column mask is missing"),
        (lambda r: r.assign(psnr_db=np.inf), "psnr_db is infinite"),
        (lambda r: r.assign(ssim="high"), "ssim must be number"),
        (lambda r: r.assign(seed=0.5), "seed must be integer"),
        (lambda r: r.assign(model=3), "model must be text"),
        (lambda r: r.assign(identical=1), "identical must be boolean"),
        (lambda r: r.assign(label=None), "label has gaps"),
        (lambda r: r.assign(hole_ratio=0.0), r"hole_ratio must lie in \(0, 1\]"),
        (lambda r: pd.concat([r, r.iloc[[3]]]), "two rows for .*image_id=000003.png"),
    ],
)
def test_bad_tables_are_refused_with_the_reason(change: object, message: str) -> None:
    assert callable(change)
    with pytest.raises(SchemaError, match=message):
        validate_rows(change(make_rows()))


@pytest.mark.parametrize(
    ("version", "advice"),
    [
        ("0", "run the experiment again"),
        ("99", "install a newer inpaint-bench"),
        ("²", "install a newer inpaint-bench"),
        ("9" * 5000, "install a newer inpaint-bench"),
    ],
)
def test_other_schema_versions_are_refused_with_advice(tmp_path: Path, version: str, advice: str) -> None:
    path = tmp_path / "results.parquet"
    write_rows(make_rows(), path)
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({"inpaint_bench_schema": version}), path)
    with pytest.raises(
        SchemaError, match=rf"results\.parquet.*schema {version}, this version reads.*{advice}"
    ):
        read_rows(path)


def test_foreign_damaged_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="no such results file"):
        read_rows(tmp_path / "none.parquet")
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "foreign.parquet")
    with pytest.raises(SchemaError, match="not a results file of inpaint-bench"):
        read_rows(tmp_path / "foreign.parquet")
    write_rows(make_rows(), tmp_path / "cut.parquet")
    content = (tmp_path / "cut.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(content[: len(content) // 2])
    with pytest.raises(SchemaError, match=r"cut\.parquet: not readable as Parquet"):
        read_rows(tmp_path / "cut.parquet")


def test_every_field_is_documented() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for name in [*(c.name for c in COLUMNS), "psnr_db", "ssim", "lpips_alex", "hole_psnr_db", "hole_mae"]:
        assert f"| `{name}` |" in text, name
    assert f"Version {SCHEMA_VERSION}" in text
