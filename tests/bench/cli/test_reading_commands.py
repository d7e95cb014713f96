"""``bench claims``, ``bench export`` and ``bench compare`` on stored experiments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from bench.api import expand_model_names
from bench.cli import cli
from bench.errors import BenchError, UsageError
from reports.results.experiment import load_experiment
from tests.reports.synthetic import make_experiment


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with the experiments ``one`` and ``two``, and ``real`` on CelebA."""
    monkeypatch.chdir(tmp_path)
    about = {"models": ("mgs-iim", "mean"), "seeds": (0, 1, 2), "pictures": 0}
    for name, extra in (("one", {}), ("two", {"means": {"mgs-iim": 25.0}}), ("real", {"procedural": False})):
        make_experiment(tmp_path / "runs", name=name, **about, **extra)  # type: ignore[arg-type]
    return tmp_path / "runs"


def invoke(*words: str) -> Result:
    return CliRunner().invoke(cli, words, catch_exceptions=False)


def test_claims_are_printed_with_verdict_and_command(runs: Path) -> None:
    result = invoke("claims", "real")
    assert result.exit_code == 0
    assert "not tested  order-psnr: In PSNR" in result.output
    assert "bench run --models pconv,glcic,context-encoder --mask center" in result.output
    assert "these are procedural faces" in invoke("claims", "one").output


def test_experiments_are_found_by_path_too(runs: Path) -> None:
    assert invoke("claims", str(runs / "one")).exit_code == 0


def test_a_mistyped_name_gets_a_suggestion(runs: Path) -> None:
    with pytest.raises(UsageError, match=r"no experiment 'onne'.*did you mean 'one'"):
        invoke("claims", "onne")


def test_export_to_standard_output_and_to_a_file(runs: Path) -> None:
    text = invoke("export", "one", "--format", "markdown").stdout
    assert "| MGS-IIM | 3 |" in text
    result = invoke("export", "one", "--table", "rows", "--format", "parquet", "--output", "rows.parquet")
    assert result.exit_code == 0
    assert len(pd.read_parquet("rows.parquet")) == 24 * 4


def test_compare_prints_differences_and_refusals(runs: Path) -> None:
    result = invoke("compare", "one", "two")
    assert result.exit_code == 0
    assert "-0.7000" in result.output
    assert "not compared: metric lpips_alex" in result.stderr
    page = Path("reports") / "compare" / "one+two" / "index.html"
    assert f"page: {page}" in result.output
    assert "one \u2212 two" in page.read_text(encoding="utf-8")
    with pytest.raises(UsageError, match="evaluated different images"):
        invoke("compare", "one", "real")


def test_ablate_hands_the_claims_models_and_every_option_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.cli.commands import run

    given: dict[str, Any] = {}
    monkeypatch.setattr(run.run_command, "callback", lambda **params: given.update(params))
    result = invoke("ablate", "--preset", "paper", "--seeds", "0,1,2", "--models", "biharmonic")
    assert result.exit_code == 0
    assert given["preset"] == "paper"
    assert given["seeds"] == (("0", "1", "2"),)
    assert given["mask_names"] == (("center",),)
    assert given["models"] == (("claims",), ("biharmonic",))
    claimed = set(expand_model_names(["claims"], ()))
    assert {"mgs-iim", "pconv", "glcic", "context-encoder", "mgs-iim-no-sn", "mgs-iim-no-skip"} <= claimed


@pytest.mark.long
def test_ablate_runs_to_its_end(workplace: Path) -> None:
    small = ("--preset", "smoke", "--size", "64", "--images-seen", "4", "--test-images", "2", "--quiet")
    result = invoke("ablate", *small, "--name", "ablations")
    assert result.exit_code == 0, result.output
    claimed = set(expand_model_names(["claims"], ()))
    done = load_experiment(workplace / "runs" / "ablations").done()
    assert claimed <= {cell["model"] for cell in done}


def test_ablate_begins_what_run_begins(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Down to the call that trains, with all that a command knows of its start."""

    def begin(request: Any, callbacks: Any, on: Any) -> None:
        raise BenchError(f"would train {len(request.models)} models")

    monkeypatch.setattr("bench.runner.run.run_experiment", begin)
    words = ("--preset", "smoke", "--size", "64", "--images-seen", "4", "--quiet")
    claimed = len(expand_model_names(["claims"], ()))
    for command in (("ablate",), ("run", "--models", "claims", "--mask", "center")):
        with pytest.raises(BenchError, match=f"would train {claimed} models"):
            invoke(*command, *words)


def test_an_experiment_without_results_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_experiment(tmp_path / "runs", name="none", models=("glcic",), failed=["glcic"], pictures=0)
    for words in (("claims", "none"), ("export", "none"), ("export", "none", "--table", "differences")):
        assert invoke(*words).exit_code == 0
