"""Exported tables, read back with other readers."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pandas as pd
import pytest

from reports.context import ReportContext
from reports.export import FORMATS, TABLES, as_csv, export_tables, readable_summary
from reports.results.experiment import Experiment, load_experiment
from reports.results.schema import read_rows, write_rows
from reports.statistics.summary import summarize
from tests.reports.synthetic import make_experiment


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """Three models, two masks, no LPIPS."""
    root = tmp_path_factory.mktemp("runs")
    return load_experiment(
        make_experiment(
            root, models=("pconv", "mgs-iim", "mean"), masks=("center", "random-rect"), pictures=0
        )
    )


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("form", FORMATS)
def test_every_table_has_every_format(experiment: Experiment, table: str, form: str) -> None:
    assert len(export_tables(experiment, table, form)) > 50


def test_csv_and_parquet_keep_every_digit(experiment: Experiment) -> None:
    expected = experiment.rows
    lines = csv.DictReader(io.StringIO(export_tables(experiment, "rows", "csv").decode()))
    assert [float(line["psnr_db"]) for line in lines] == expected["psnr_db"].tolist()
    from_parquet = pd.read_parquet(io.BytesIO(export_tables(experiment, "rows", "parquet")))
    pd.testing.assert_frame_equal(from_parquet, expected)


@pytest.mark.parametrize("ends", ["\r", "\n", "\r\n", '"\r,'])
def test_csv_keeps_names_with_line_ends(tmp_path: Path, ends: str) -> None:
    folder = make_experiment(tmp_path, models=("mgs-iim", "mean"), pictures=0)
    for path in folder.glob("cells/*/results.parquet"):
        rows = read_rows(path)
        write_rows(rows.assign(image_id=[f"a{ends}{i}.png" for i in range(len(rows))]), path)
    experiment = load_experiment(folder)
    text = export_tables(experiment, "rows", "csv").decode()
    lines = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [line["image_id"] for line in lines] == experiment.rows["image_id"].tolist()
    assert [float(line["psnr_db"]) for line in lines] == experiment.rows["psnr_db"].tolist()
    assert [line["identical"] for line in lines] == [str(v) for v in experiment.rows["identical"]]
    of_pandas = pd.read_csv(io.StringIO(text, newline=""))
    assert of_pandas["image_id"].tolist() == experiment.rows["image_id"].tolist()
    table = [["image", "PSNR"], *([f"a{ends}{i}.png", "1.5"] for i in range(3))]
    assert list(csv.reader(io.StringIO(as_csv(table), newline=""))) == table


def test_json_is_strict_and_says_where_it_comes_from(experiment: Experiment) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    content = json.loads(export_tables(experiment, "summary", "json"), parse_constant=refuse)
    assert content["experiment"] == "synthetic"
    assert content["data"]["fingerprint"] == "f" * 64
    record = next(r for r in content["records"] if r["metric"] == "lpips_alex")
    assert record["mean"] is None
    means = [r["mean"] for r in content["records"] if r["metric"] == "psnr_db"]
    expected = summarize(experiment.rows, ["psnr_db"])["mean"].tolist()
    assert means == expected


def test_markdown_has_one_table_a_mask_and_one_line_a_method(experiment: Experiment) -> None:
    text = export_tables(experiment, "summary", "markdown").decode()
    assert text.count("| :-- | --: |") == 2
    line = next(line for line in text.splitlines() if line.startswith("| MGS-IIM |"))
    mean = summarize(experiment.rows, ["psnr_db"]).query("label == 'MGS-IIM'")["mean"].iloc[0]
    assert f"| {mean:.2f} [" in line
    assert "| n/a |" in line
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert len(widths) == 1


def test_latex_escapes_what_latex_would_read(experiment: Experiment) -> None:
    text = export_tables(experiment, "claims", "latex").decode()
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(body) == 1 + 8
    assert all(line.replace(r"\&", "").count("&") == body[0].count("&") for line in body)
    assert "_" not in text.replace(r"\_", "")
    assert text.startswith(r"\begin{tabular}{")


def test_unknown_names_are_refused(experiment: Experiment) -> None:
    with pytest.raises(ValueError, match="unknown table 'means'"):
        export_tables(experiment, "means")
    with pytest.raises(ValueError, match="unknown format 'xlsx'"):
        export_tables(experiment, "summary", "xlsx")


@pytest.mark.parametrize("form", ["markdown", "latex", "csv"])
def test_a_metric_of_sets_says_over_how_few_images_it_is(tmp_path: Path, form: str) -> None:
    folder = make_experiment(tmp_path, models=("mgs-iim", "mean"), pictures=0)
    manifest = json.loads((folder / "manifest.json").read_text())
    for cell in manifest["cells"]:
        cell["evaluation"]["sets"] = {"fid": {"value": 31.5, "images": 24}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    text = export_tables(load_experiment(folder), "summary", form).decode()
    if form == "csv":
        (line, *_) = csv.DictReader(io.StringIO(text))
        assert line["n_identities"] == "12"
        assert line["n_capped"] == "0"
    else:
        assert "FID is one number over 24 images" in text
        assert "biased upwards" in text


def test_methods_stand_as_in_every_other_table(tmp_path: Path) -> None:
    """The paper's order, then ablations and baselines, whatever was asked for first."""
    models = ("mean", "mgs-iim-no-sn", "mgs-iim", "context-encoder", "pconv", "glcic")
    experiment = load_experiment(make_experiment(tmp_path, models=models, failed=()))
    text = readable_summary(experiment, "markdown").split("\n\n")[1]
    shown = [line.split("|")[1].strip() for line in text.splitlines()[2:]]
    context = ReportContext(experiment, embed_images=False)
    assert shown == [m.label for m in context.methods]
    assert [m.model for m in context.methods] == [
        "context-encoder", "glcic", "pconv", "mgs-iim", "mgs-iim-no-sn", "mean",
    ]  # fmt: skip
