"""Every script of ``benchmarks/`` runs, at its smallest size."""

from __future__ import annotations

import runpy
import shlex
import sys
from pathlib import Path

import pytest

import bench
from bench.cli.commands.run import run_command
from bench.config import Request, resolve_config
from bench.runner.callbacks import RunCallbacks
from bench.runner.run import run_experiment

FOLDER = Path(bench.__file__).parents[1] / "benchmarks"
#: Script -> words of its command line, and something that it prints. PICTURES and TRAINING are filled in.
SMALLEST = {
    "conventions.py": ("--images 2 --size 64", "| **`psnr_db`** |"),
    "coverage.py": ("--repeats 2", "|"),
    "estimate.py": ("--models mean --preset smoke --size 32", "| --models mean"),
    "loss_terms.py": ("TRAINING --data PICTURES --images 2", "| share of the pull |"),
    "many_units.py": ("4", "4 units"),
    "mask_rates.py": ("--size 64 --count 4", "center"),
    "metrics.py": ("--sizes 64 --repeats 1", "|"),
    "packing.py": ("--data PICTURES --size 32 --repeats 1", "packing takes"),
    "report.py": ("--images 60 --models 5 --masks 1", "60 images x 5 models x 1 masks"),
    "resampling.py": ("--images 40 --models 3 --people 10", "| 10 |"),
    "results_page.py": ("--check", ""),
    "startup.py": ("1", "| `bench list` |"),
    "sync_batch_norm.py": ("'one GPU'", "one GPU"),
    "table4.py": ("run --data PICTURES --dry-run", "bench run --models"),
    "tune.py": ("--data PICTURES --dry-run", "bench run --models"),
}
#: Scripts that start ``bench run`` often: their commands are printed here, and read by the command itself.
COMMANDS = [("table4.py", "run"), ("table4.py", "choose"), ("tune.py", "")]


def run_script(
    name: str, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """Run a script in this process, which has the imports already; what it prints."""
    monkeypatch.setattr(sys, "argv", [name, *shlex.split(words)])
    code: object = None
    try:
        runpy.run_path(str(FOLDER / name), run_name="__main__")
    except SystemExit as leaving:
        code = leaving.code
    assert not code
    return capsys.readouterr().out


def test_every_script_is_among_them() -> None:
    assert {path.name for path in FOLDER.glob("*.py")} == set(SMALLEST)


@pytest.mark.long
@pytest.mark.parametrize("name", SMALLEST)
def test_a_script_runs_at_its_smallest_size(
    name: str,
    workplace: Path,
    pictures_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    words, prints = SMALLEST[name]
    if name == "conventions.py":
        request.getfixturevalue("backbone_folder")
    if "TRAINING" in words:
        settings = resolve_config("smoke", {"images_seen": 8})
        asked = Request(
            models=("glcic",), masks=("center",), data=str(pictures_dir), settings=settings, name="small"
        )
        folder = run_experiment(asked, RunCallbacks()).store.folder
        words = words.replace("TRAINING", str(next(folder.glob("trainings/*"))))
    said = run_script(name, words.replace("PICTURES", str(pictures_dir)), monkeypatch, capsys)
    assert prints in said


@pytest.mark.parametrize(("name", "what"), COMMANDS)
def test_printed_commands_are_commands(
    name: str,
    what: str,
    workplace: Path,
    pictures_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = run_script(name, f"{what} --data {pictures_dir} --dry-run", monkeypatch, capsys)
    commands = [shlex.split(line) for line in said.splitlines()]
    assert len(commands) >= 3
    for program, command, *arguments in commands:
        assert (program, command) == ("bench", "run")
        run_command.make_context("run", arguments)
