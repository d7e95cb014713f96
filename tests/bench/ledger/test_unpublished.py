"""What killed imports and merges leave: no experiment for any command, and nothing that stays for good."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.errors import DiskError, UsageError
from bench.experiments import list_experiments
from bench.ledger.kept_files import pack_bundle
from bench.ledger.merging import merge_experiments
from bench.runner import unpublished
from bench.runner.ownership import LOST_SECONDS
from bench.runner.run_folder import OWNER
from reports.index_page import render_index
from reports.results.experiment import load_experiment
from tests.bench.cli.test_cli import bench, error_of
from tests.reports.synthetic import make_experiment

RUNS = Path("runs")


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One finished experiment ``a`` in ``runs/`` of the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return make_experiment(RUNS, name="a", models=("mean",), procedural=False, pictures=0)


#: Commands that make the experiment ``new``.
COMMANDS = {"import": ["import", "a.zip", "--name", "new"], "merge": ["merge", "a", "--name", "new"]}
_STOP = """
import os, sys
from bench.cli import main
from bench.runner import unpublished
unpublished.publish_folder = lambda *_: os.kill(os.getpid(), int(sys.argv[1]))
main(sys.argv[2:])
"""


def _stop_before_the_rename(command: str, how: signal.Signals) -> subprocess.Popen[bytes]:
    """Give a command to a process of its own, which stops when it has written everything."""
    Path("a.zip").write_bytes(pack_bundle(load_experiment(RUNS / "a")))
    process = subprocess.Popen([sys.executable, "-c", _STOP, str(int(how)), *COMMANDS[command]])
    if how == signal.SIGSTOP:
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    else:
        assert process.wait() == -how
    return process


def _left() -> list[str]:
    return sorted(path.name for path in RUNS.iterdir() if path.name != "a")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("emptied", [False, pytest.param(True, marks=pytest.mark.long)])
def test_a_killed_command_leaves_no_experiment_and_is_cleaned_away(
    finished: Path, command: str, emptied: bool
) -> None:
    _stop_before_the_rename(command, signal.SIGKILL)
    (left,) = _left()
    if emptied:  # as a power cut leaves them
        for path in (RUNS / left).rglob("*.*"):
            if path.is_file() and path.name != OWNER:
                path.write_bytes(b"")
    assert list_experiments(RUNS) == [finished]
    status = bench("status")
    assert (status.exit_code, len(status.output.splitlines())) == (0, 1)
    assert "board.html (1 experiment)" in bench("leaderboard", "runs", "-o", "board.html").output
    overview = render_index(list_experiments(RUNS), Path("reports"))
    assert overview.read_text(encoding="utf-8").count('<tr><th scope="row"') == 1
    assert "leftovers of killed processes" in bench("clean", "--leftovers", "--dry-run").output
    assert _left() == [left]
    assert bench("clean", "a", "--leftovers", "--yes").output == "nothing to remove\n"  # of a alone
    assert "freed" in bench("clean", "--leftovers", "--yes").output
    assert _left() == []
    assert bench("clean", "--leftovers", "--yes").output == "nothing to remove\n"
    assert bench(*COMMANDS[command]).exit_code == 0
    assert _left() == ["new"]
    assert load_experiment(RUNS / "new").name == "new"


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_living_process_writes_is_left_alone(finished: Path, command: str) -> None:
    process = _stop_before_the_rename(command, signal.SIGSTOP)
    try:
        left = _left()
        os.utime(RUNS / left[0], (0, 0))
        assert bench("clean", "--leftovers", "--yes").output == "nothing to remove\n"
        assert _left() == left
    finally:
        process.kill()
        process.wait()
    assert "freed" in bench("clean", "--yes", "--leftovers").output
    assert _left() == []


def test_of_another_machine_the_heartbeat_decides(finished: Path) -> None:
    _stop_before_the_rename("merge", signal.SIGKILL)
    owner = RUNS / _left()[0] / OWNER
    owner.write_text(json.dumps({**json.loads(owner.read_text()), "host": f"not-{socket.gethostname()}"}))
    assert bench("clean", "--leftovers", "--yes").output == "nothing to remove\n"
    old = time.time() - LOST_SECONDS - 10
    os.utime(owner, (old, old))
    assert "freed" in bench("clean", "--leftovers", "--yes").output
    assert _left() == []


@pytest.mark.parametrize("command", COMMANDS)
def test_leftovers_of_earlier_versions_go_once_nobody_writes_to_them(finished: Path, command: str) -> None:
    ghost = RUNS / f".mg.{os.getpid()}.{command}"
    shutil.copytree(finished, ghost)
    (ghost / "cells/.new").write_text("written just now")
    assert list_experiments(RUNS) == [finished]
    assert bench("status").exit_code == 0
    assert bench("clean", "--leftovers", "--yes").output == "nothing to remove\n"
    old = time.time() - LOST_SECONDS - 10
    for path in (ghost, *ghost.rglob("*")):
        os.utime(path, (old, old))
    assert "freed" in bench("clean", "--leftovers", "--yes").output
    assert _left() == []


def test_a_command_that_fails_leaves_nothing(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    # Also in the middle of copying, of which shutil would give a list of all files.
    for place, name in ((unpublished, "publish_folder"), (shutil, "copy2")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, fail)
            with pytest.raises(DiskError, match=r"^cannot write runs/new: No space left on device$"):
                merge_experiments([finished], "new")
        assert _left() == []


def test_damaged_pictures_are_not_passed_on(finished: Path) -> None:
    for file in (*finished.glob("cells/*/pictures.npz"), *finished.glob("pictures/*.npz")):
        whole = file.read_bytes()
        file.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
        assert "damaged" in error_of("merge", "a", "--name", "new")
        assert _left() == []
        file.write_bytes(whole)
    assert bench("merge", "a", "--name", "new").exit_code == 0


@pytest.mark.parametrize(
    "junk", ["@eaDir", ".ipynb_checkpoints", "#recycle", "__MACOSX", ".a.123.import", "lost+found"]
)
def test_what_is_no_experiment_is_listed_nowhere(finished: Path, junk: str) -> None:
    shutil.copytree(finished, RUNS / junk)
    (RUNS / junk / "manifest.json").write_text("{")
    (RUNS / "._a.zip").write_bytes(b"fork")
    assert list_experiments(RUNS) == [finished]
    assert list_experiments(RUNS, ("manifest.json", "cells")) == [finished]
    status = bench("status")
    assert (status.exit_code, len(status.output.splitlines())) == (0, 1)
    shown = bench("leaderboard", "runs", "-o", "board.html")
    assert shown.output == "page: board.html (1 experiment)\n"
    assert "did you mean" not in error_of("status", f"{junk}x")


@pytest.mark.usefixtures("no_drawings")
def test_a_linked_experiment_is_listed_once(finished: Path) -> None:
    elsewhere = make_experiment(Path("disk"), name="far", models=("mean",), pictures=0)
    (RUNS / "0-again").symlink_to("a")
    (RUNS / "near").symlink_to(elsewhere.resolve())
    (RUNS / "self").symlink_to(".")
    (RUNS / "gone").symlink_to("nowhere")
    assert [folder.name for folder in list_experiments(RUNS)] == ["a", "near"]
    assert [line.split()[0] for line in bench("status").output.splitlines()] == ["a", "near"]
    assert bench("status", "0-again").exit_code == 0
    assert "(2 experiments)" in bench("leaderboard", "runs", "-o", "board.html").output
    assert bench("report", "near").output == "report: reports/near/index.html\n"
    assert 'href="near/index.html"' in Path("reports/index.html").read_text(encoding="utf-8")


def test_a_folder_without_experiments_lists_none(finished: Path) -> None:
    assert list_experiments(Path("nowhere")) == []
    with pytest.raises(UsageError, match="exists"):
        merge_experiments([finished], "a")
