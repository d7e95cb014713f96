"""What commands print, captured on a terminal of 80 and of 120 columns: nothing is broken within a word."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.ledger.importing import import_experiment
from models.discovery import load_model
from tests.bench.cli.test_cli import bench
from tests.places import shown_on_a_terminal
from tests.reports.synthetic import make_experiment

#: The repository's own evidence, as a newcomer imports it.
KEPT = Path(__file__).parents[3] / "docs" / "measurements" / "table4-64-6400.zip"

COMMANDS = {
    "list": ["list"],
    "status": ["status"],
    "status of one": ["status", "kept"],
    "claims": ["claims", "kept"],
    "show": ["show", "context-encoder"],
    "plan": ["plan", "--detect", "0.2"],
    "compare": ["compare", "one", "other"],
    "data info": ["data", "info"],
    "run": ["run", "--models", "mean,mean-image", "--preset", "smoke", "--name", "tiny"],
}


@pytest.fixture
def experiments(workplace: Path) -> Path:
    import_experiment([KEPT], name="kept", runs=workplace / "runs")
    for name, seeds in (("one", (0, 1, 2)), ("other", (0,))):
        make_experiment(
            workplace / "runs", name=name, models=("glcic", "mgs-iim", "mean"), seeds=seeds, pictures=0
        )
    return workplace


def on_a_terminal(columns: int, words: list[str]) -> list[str]:
    """Return the lines that a command shows on a pseudo-terminal without colors."""
    shown = shown_on_a_terminal(
        words, {"TERM": "dumb", "NO_COLOR": "1", "COLUMNS": str(columns)}, forked=True
    )
    return shown.decode().replace("\r", "").splitlines()


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name, marks=pytest.mark.long if name in ("run", "show", "compare", "data info", "claims") else ()
        )
        for name in COMMANDS
    ],
)
def test_lines_fit_the_terminal(experiments: Path, name: str, columns: int) -> None:
    lines = on_a_terminal(columns, COMMANDS[name])
    assert len(lines) > 1
    # Only what is to be copied stays whole: a command, or an address.
    whole = ("bench run ", "https://")
    assert [line for line in lines if len(line) > columns and not any(word in line for word in whole)] == []


@pytest.mark.long
@pytest.mark.parametrize("model", ["mgs-iim", "deepfillv2"])
def test_names_of_fields_are_never_broken(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    words = {word.rstrip(",") for word in bench("show", model).output.split()}
    fields = {
        name for reading in load_model(model).model.ambiguities for name in reading.field.split(", ") if name
    }
    assert len(fields) >= 4
    assert fields - words == set()


def test_a_file_gets_a_line_whole(experiments: Path) -> None:
    lines = bench("claims", "kept").output.splitlines()
    (line,) = [one for one in lines if one.startswith("PSNR on center: ")]
    assert len(line) > 200


def test_an_imported_experiment_is_not_called_damaged(experiments: Path) -> None:
    line = next(one for one in bench("status").output.splitlines() if one.startswith("kept "))
    assert "16 cells: 16 done" in line
    next((experiments / "runs" / "kept" / "cells").glob("*/results.parquet")).write_bytes(b"")
    line = next(one for one in bench("status").output.splitlines() if one.startswith("kept "))
    assert "15 done" in line
    assert "1 damaged" in line
