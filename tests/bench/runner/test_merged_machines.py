"""A run in an experiment that ``bench merge`` made of two machines: neither machine's rows are lost to it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.cli import main
from bench.config import Request
from bench.ledger.merging import merge_experiments
from bench.runner.preview import preview_run
from bench.runner.run import run_experiment
from bench.runner.run_folder import read_checked_json, write_checked_json
from reports.results.experiment import load_experiment
from reports.results.manifest import SEAL, manifest_checksum
from reports.results.schema import cell_numbers, read_rows, rows_digest, write_rows
from tests.bench.runner.test_recovery import Warned

ELSEWHERE = {"device": "cuda", "gpu": "NVIDIA H100", "precision": "fp16"}
#: Rows of the trained model, and how often each is there.
APART = ["Test Unet (on NVIDIA H100)", "Test Unet (on cpu)"]


class Noted(Warned):
    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []
        self.evaluated: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def cell_done(self, label: str, mask: str, means: Mapping[str, float]) -> None:
        self.evaluated.append(label)


def move_to_another_machine(folder: Path) -> None:
    """Let an experiment be what another machine computed of the same: other last digits, another place."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for cell in manifest["cells"]:
        place = folder / cell["folder"]
        cell["where"] = {**cell["where"], **ELSEWHERE}
        if cell["trained"]:
            cell["training"]["where"] = [cell["where"]]
            table = read_rows(place / "results.parquet")
            table = table.assign(psnr_db=table["psnr_db"] + 0.01)
            write_rows(table, place / "results.parquet")
            cell["evaluation"] |= {"numbers": cell_numbers(table), "rows_sha256": rows_digest(table)}
        write_checked_json(place / "cell.json", {**read_checked_json(place / "cell.json"), **cell})
    manifest["settings"]["precision"] = ELSEWHERE["precision"]
    manifest[SEAL] = manifest_checksum(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def both(finished: Request) -> Request:
    """The request of an experiment ``both``, merged of ``kept`` here and there."""
    here = Path("runs/kept")
    there = Path("there/kept")
    there.parent.mkdir()
    here.rename(there)
    move_to_another_machine(there)
    # The same command on this machine, from nothing.
    run_experiment(finished, Noted())
    merge_experiments([there, here], "both")
    assert labels() == ["Mean pixel", *APART]
    return replace(finished, name="both")


def labels() -> list[str]:
    return sorted(cell["label"] for cell in load_experiment(Path("runs/both")).done())


def test_a_run_keeps_the_rows_of_both_machines(both: Request) -> None:
    before = load_experiment(Path("runs/both")).rows
    callbacks = Noted()
    assert [cell.label for cell in preview_run(both, callbacks).cells] == ["Mean pixel"]
    run_experiment(both, callbacks)
    assert (callbacks.trained, callbacks.evaluated) == ([], [])
    after = load_experiment(Path("runs/both")).rows
    in_order = [of.sort_values(["label", "image_id"], ignore_index=True) for of in (after, before)]
    pd.testing.assert_frame_equal(*in_order)
    kept = [note for note in callbacks.notes if "kept as the rows of the machines" in note]
    assert kept
    assert all(note.startswith("Test Unet: ") and "--recompute" in note for note in kept)
    # Another model is added beside them.
    run_experiment(replace(both, models=(*both.models, "mean-image")), callbacks)
    assert (callbacks.trained, callbacks.evaluated) == ([], ["Mean image"])
    assert labels() == ["Mean image", "Mean pixel", *APART]


def test_a_run_of_nothing_else_computes_nothing(both: Request, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = run_experiment(replace(both, models=("test-unet",)), Noted())
    assert outcome.failed == 0
    assert labels() == ["Mean pixel", *APART]
    with pytest.raises(SystemExit) as stop:
        main(["status", "both"])
    assert stop.value.code in (0, None)
    assert "waiting" not in capsys.readouterr().out


def test_what_is_asked_for_is_computed(both: Request) -> None:
    """With ``--recompute``, and where what is computed is another."""
    changed: dict[str, Any] = {"model_options": {"test-unet": {"width": 8}}}
    callbacks = Noted()
    run_experiment(replace(both, recompute=True), callbacks)
    assert callbacks.trained == ["Test Unet"]
    assert labels() == ["Mean pixel", "Test Unet"]
    run_experiment(replace(both, **changed), callbacks)
    assert callbacks.trained == ["Test Unet", "Test Unet"]
