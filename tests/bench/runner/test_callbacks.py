"""Callbacks of packages: found by name, told everything, and never able to change or end a run."""

from __future__ import annotations

import csv
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bench
from bench.errors import DiskError, UsageError
from bench.runner.callbacks import CallbackGroup, RunCallbacks, load_callbacks
from tests.bench.cli.test_cli import bench as command
from tests.bench.cli.test_cli import error_of

PAGE = (Path(bench.__file__).parents[1] / "docs" / "callbacks.md").read_text(encoding="utf-8")
EVENTS = [name for name in vars(RunCallbacks) if not name.startswith("_")]


@pytest.fixture
def installed(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The worked example of the docs, installed as a package with its entry point."""
    (source,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (entry,) = re.findall(r'callbacks"\]\n(.*?)```', PAGE, re.DOTALL)
    site = workplace / "site"
    (site / "run_to_csv-1.0.dist-info").mkdir(parents=True)
    (site / "run_to_csv.py").write_text(source)
    (site / "run_to_csv-1.0.dist-info" / "METADATA").write_text("Name: run-to-csv\nVersion: 1.0\n")
    lines = f"[inpaint_bench.callbacks]\n{entry.replace(chr(34), '')}broken = run_to_csv:Missing\nother = json:loads\n"
    (site / "run_to_csv-1.0.dist-info" / "entry_points.txt").write_text(lines)
    monkeypatch.syspath_prepend(site)
    yield site
    sys.modules.pop("run_to_csv", None)


def test_the_worked_example_tracks_a_run(installed: Path, pictures_dir: Path, unet: Path) -> None:
    words = ["run", "--models", "test-unet", "--models-from", str(unet), "--data", str(pictures_dir)]
    result = command(*words, "--preset", "smoke", "--callback", "csv", "--name", "tracked", "-q")
    assert result.exit_code == 0, result.output
    with Path("runs/tracked/tracked.csv").open() as file:
        lines = list(csv.reader(file))
    log = (next(Path("runs/tracked/trainings").iterdir()) / "train.jsonl").read_text()
    assert {step for label, step, name, _ in lines if name == "generator/loss"} == set(
        re.findall(r'"step": (\d+), [^\n]*"terms"', log)
    )
    assert [name for label, _, name, _ in lines if label == "Test Unet on center"][:2] == ["psnr_db", "ssim"]


def test_names_that_cannot_be_used_are_one_line(installed: Path) -> None:
    assert "--callback csw: unknown; did you mean 'csv'" in error_of("run", "--callback", "csw")
    assert "--callback broken: cannot be used (AttributeError" in error_of("run", "--callback", "broken")
    with pytest.raises(UsageError, match="--callback other: cannot be used"):
        load_callbacks(["other"])


class Recorder(RunCallbacks):
    """Remembers events."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def evaluating(self, label: str, mask: str, done: int, of: int) -> None:
        self.events.append("evaluating")


@pytest.mark.parametrize("event", EVENTS)
def test_a_group_passes_every_event_to_every_member(event: str) -> None:
    seen: list[tuple[Any, ...]] = []
    members = [RunCallbacks(), RunCallbacks()]
    for member in members:
        setattr(member, event, lambda *arguments: seen.append(arguments))
    count = len(inspect.signature(getattr(RunCallbacks, event)).parameters) - 1
    arguments = tuple(f"argument {i}" for i in range(count))
    getattr(CallbackGroup(members), event)(*arguments)
    assert seen == [arguments, arguments]


def test_one_that_raises_is_left_out_and_the_others_hear_why() -> None:
    class Failing(RunCallbacks):
        def evaluating(self, label: str, mask: str, done: int, of: int) -> None:
            raise ConnectionError("no route to the tracker")

    recorder = Recorder()
    group = CallbackGroup([Failing(), recorder])
    group.evaluating("GLCIC", "center", 1, 2)
    group.evaluating("GLCIC", "center", 2, 2)
    assert recorder.events == ["evaluating"] * 2
    assert recorder.warnings == [
        "Failing.evaluating failed and is left out: ConnectionError: no route to the tracker"
    ]


def test_an_error_of_ours_ends_the_run() -> None:
    class Full(RunCallbacks):
        def note(self, text: str) -> None:
            raise DiskError("disk full")

    with pytest.raises(DiskError):
        CallbackGroup([Full()]).note("x")
