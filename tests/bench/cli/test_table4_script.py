"""The script of the evidence: every command that it would run is one that ``bench run`` takes."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.cli import cli
from benchmarks.table4 import STAGES, choices, stages
from reports.claims.paper import CLAIMS


@pytest.mark.long
def test_every_stage_is_a_run_that_can_be_planned(
    workplace: Path, pictures_dir: Path, backbone_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.runner.estimate.estimate_run", lambda *_: None)
    monkeypatch.setattr("bench.runner.estimate.estimate_memory_bytes", lambda *_: None)
    # A plan asks models for their phases, which no weight decides: they need not be near a norm of one.
    monkeypatch.setattr("models.layers.spectral_norm._INITIAL_ITERATIONS", 1)
    options = Namespace(
        size=64, images_seen=160, learning_rate="4e-4", seeds="0", stages=STAGES, name="table4-64"
    )
    everywhere = ["--data", str(pictures_dir), "--size", "64", "--dry-run"]
    for arguments in (choices(options)[0], *stages(options)):
        result = CliRunner().invoke(cli, ["run", *arguments, *everywhere])
        assert result.exit_code == 0, (arguments, result.output)


def test_the_table_holds_all_that_the_claims_need() -> None:
    options = Namespace(
        size=64, images_seen=160, learning_rate="4e-4", seeds="0,1,2", stages=STAGES, name="table4-64"
    )
    runs = stages(options)
    models = {m for a in runs if a[a.index("--name") + 1] == "table4-64" for m in a[1].split(",")}
    assert {model for claim in CLAIMS for model in claim.models} <= models


def test_no_two_stages_compute_one_model_in_two_versions_under_one_name() -> None:
    options = Namespace(
        size=64, images_seen=160, learning_rate="4e-4", seeds="0,1,2", stages=STAGES, name="table4-64"
    )
    runs = stages(options)
    seen = [(a[a.index("--name") + 1], model) for a in runs for model in a[1].split(",")]
    assert len(seen) == len(set(seen))
