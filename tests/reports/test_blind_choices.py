"""Choices of several readers, joined: rates by hand, intervals against a simulation, damaged files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from bench.cli import cli
from reports import blind_choices as joining
from reports.context import ReportContext
from reports.images import load_shown_images
from reports.results.experiment import load_experiment
from reports.results.schema import read_rows, write_rows
from tests.reports.synthetic import make_experiment

COLUMNS = list(joining.COLUMNS)


def row(reader: str, image: str, left: str, right: str, choice: str, **other: Any) -> dict[str, str]:
    winner = {"left": left, "right": right}.get(choice, "")
    about = {"experiment": "synthetic", "number": 1, "mask": "center", "time": "2026-01-01T00:00:00Z"} | other
    made = about | {"reader": reader, "image_id": image, "left": left, "right": right, "choice": choice}
    return {name: str((made | {"winner": winner})[name]) for name in COLUMNS}


def write(path: Path, rows: list[dict[str, str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_rates_by_hand_whatever_the_sides(tmp_path: Path) -> None:
    one = write(tmp_path / "1.csv", [row("r1", "x", "B", "A", "left"), row("r1", "y", "A", "B", "tie")])
    two = write(tmp_path / "2.csv", [row("r2", "x", "A", "B", "right"), row("r2", "y", "C", "A", "right")])
    table = joining.read_choices([one, two])
    assert len(table) == 4
    rates = joining.win_rates(table, ["A", "B", "C", "D"]).set_index("label")
    assert rates["rate"].tolist()[:3] == [(0 + 0.5 + 0 + 1) / 4, (1 + 0.5 + 1) / 3, 0.0]
    assert rates["choices"].tolist() == [4, 3, 1, 0]
    assert np.isnan(rates.loc["D", ["rate", "low", "high"]].to_numpy(dtype=float)).all()
    pairs = joining.pair_rates(table, ["C", "B", "A"])
    assert pairs[["a", "b", "rate", "choices"]].to_numpy().tolist() == [
        ["C", "A", 0.0, 1],
        ["B", "A", 2.5 / 3, 3],
    ]


def test_a_reader_who_exports_twice_counts_once_and_the_latest_choice_holds(tmp_path: Path) -> None:
    early = write(tmp_path / "early.csv", [row("r", "x", "A", "B", "left", time="2026-01-01T00:00:00Z")])
    late = write(tmp_path / "late.csv", [row("r", "x", "B", "A", "left", time="2026-01-02T00:00:00Z")])
    for files in ([early, late], [late, early]):
        table = joining.read_choices(files)
        assert table[["a", "b", "value"]].to_numpy().tolist() == [["A", "B", 0.0]]


@pytest.mark.long
def test_intervals_cover_over_readers_and_images() -> None:
    """95 % intervals hold the true rate in most of 200 studies, where independence would hold it in far fewer."""
    generator = np.random.default_rng(3)
    readers, images, covered, independent = 12, 25, 0, 0
    frame = pd.MultiIndex.from_product([range(readers), range(images)]).to_frame(index=False).astype(str)
    for _ in range(200):
        taste = 1.0 * generator.standard_normal(readers)[:, None] + generator.standard_normal(images)[None]
        values = (taste + 0.5 * generator.standard_normal((readers, images)) > 0).astype(float).ravel()
        low, high = joining.rate_interval(values, frame[0], frame[1])
        covered += low <= 0.5 <= high
        half = 1.96 * values.std() / np.sqrt(values.size)
        independent += abs(values.mean() - 0.5) <= half
    assert covered >= 180
    assert independent <= 120


def test_an_interval_has_width_where_everybody_chose_alike() -> None:
    readers, images = pd.Series(["r"] * 8), pd.Series(list("abcdefgh"))
    low, high = joining.rate_interval(np.ones(8), readers, images)
    assert 0.6 < low < 0.7
    assert high == 1.0


def test_metrics_agree_with_who_chooses_by_a_metric(tmp_path: Path) -> None:
    """Readers who follow PSNR agree with PSNR everywhere, and with none of what disputes it."""
    folder = make_experiment(tmp_path / "runs", models=("glcic", "mgs-iim"), pictures=8, lpips=True)
    for path in folder.glob("cells/glcic-*/results.parquet"):
        scores = read_rows(path)
        scores.loc[::2, "ssim"] = 0.99  # the better SSIM where the other model has the better PSNR
        write_rows(scores, path)
    context = ReportContext(load_experiment(folder))
    sample = load_shown_images(context, "center")
    assert sample is not None
    a, b = (method.label for method, _ in sample.methods)
    psnr = [m.name for m in sample.metrics].index("psnr_db")
    rows = []
    for place, name in enumerate(sample.stored.ids):
        better = a if sample.scores[a][place][psnr] > sample.scores[b][place][psnr] else b
        rows += [row(reader, name, better, a if better == b else b, "left") for reader in ("r1", "r2")]
    found = joining.metric_agreement(joining.read_choices([write(tmp_path / "c.csv", rows)]), context)
    of_psnr = found[found["metric"] == "PSNR (dB)"].set_index("among")
    assert of_psnr.loc["all", ["rate", "choices"]].tolist() == [1.0, 16]
    signs = {
        (m.name, place): np.sign(sample.scores[a][place][i] - sample.scores[b][place][i])
        * (1 if m.higher_is_better else -1)
        for i, m in enumerate(sample.metrics)
        for place in range(8)
    }
    disputed = [p for p in range(8) if len({signs[m.name, p] for m in sample.metrics} - {0}) > 1]
    assert len(disputed) > 0
    assert of_psnr.loc["disputed", "choices"] == 2 * len(disputed)
    ssim = found[(found["metric"] == "SSIM") & (found["among"] == "all")].iloc[0]
    alike = np.mean([signs["ssim", p] == signs["psnr_db", p] for p in range(8)])
    assert ssim["rate"] == pytest.approx(alike)


def test_the_command_prints_rates_beside_metrics_and_writes_the_joined_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_experiment(tmp_path / "runs", models=("glcic", "mgs-iim"), pictures=8, lpips=True)
    monkeypatch.chdir(tmp_path)
    names = load_experiment(folder).pictures("center").ids  # type: ignore[union-attr]
    write(tmp_path / "1.csv", [row("r1", name, "MGS-IIM", "GLCIC", "left") for name in names[:4]])
    write(tmp_path / "2.csv", [row("r2", name, "GLCIC", "MGS-IIM", "left") for name in names[:1]])
    done = CliRunner().invoke(cli, ["blind", "1.csv", "2.csv", "-o", "joined.csv"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "synthetic: 5 choices of 2 readers on 4 images" in done.output
    assert "80 % [" in done.output
    assert "PSNR (dB)" in done.output
    assert "With fewer than 5 readers" in done.output
    assert len(Path("joined.csv").read_text().splitlines()) == 6
    found = json.loads(CliRunner().invoke(cli, ["blind", "1.csv", "2.csv", "--json"]).stdout)
    assert [line["label"] for line in found["models"]] == ["GLCIC", "MGS-IIM"]
    assert [line["rate"] for line in found["models"]] == [0.2, 0.8]
    assert found["models"][0]["PSNR (dB)"] != "–"
    assert {line["among"] for line in found["metrics"]} == {"all", "disputed"}
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    alone = CliRunner().invoke(cli, ["blind", "1.csv", "2.csv"])
    assert alone.exit_code == 0
    assert "no metrics: that experiment is not in runs/" in alone.stderr
    named = CliRunner().invoke(
        cli, ["blind", "1.csv", "--experiment", str(tmp_path / "elsewhere" / "synthetic")]
    )
    assert "PSNR (dB)" in named.stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not the export of a blind page (no column experiment"),
        ("a,b\n1,2\n", "not the export of a blind page"),
        ('"unfinished', "not"),
        (",".join(COLUMNS) + "\n", "no choice in it"),
        (",".join(COLUMNS) + "\ne,r,1,m,i,A,B,middle,,t\n", "line 2: choice 'middle'"),
        (",".join(COLUMNS) + "\ne,r,1,m,i,A,A,left,A,t\n", "two different models"),
        (",".join(COLUMNS) + "\ne,,1,m,i,A,B,left,A,t\n", "a reader, an image"),
        (
            ",".join(COLUMNS) + "\ne,r,1,m,i,A,B,left,A,t\nf,r,1,m,i,A,B,left,A,t\n",
            "several experiments: e, f",
        ),
    ],
)
def test_what_is_no_export_is_refused_with_the_reason(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "choices.csv"
    path.write_text(content)
    with pytest.raises(joining.ChoicesError) as refusal:
        joining.read_choices([path])
    assert message in str(refusal.value)


def test_the_pages_guard_against_formulas_is_taken_away(tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", [row("r", "'=x", "'-own", "A", "left")])
    table = joining.read_choices([path])
    assert table[["image_id", "a", "b", "value"]].to_numpy().tolist() == [["=x", "-own", "A", 1.0]]
