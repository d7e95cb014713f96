"""The process of a command: signals and streams are put back, and a reader that leaves early is no failure."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from bench.cli import cli, main

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def exit_code(*words: str) -> int:
    with pytest.raises(SystemExit) as end:
        main(list(words))
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.mark.parametrize("words", [("list", "masks"), ("status", "no-such"), ("no-such-command",)])
def test_signals_warnings_and_streams_are_restored(words: tuple[str, ...], workplace: Path) -> None:
    def current() -> tuple[object, ...]:
        handlers = [signal.getsignal(number) for number in SIGNALS]
        return *handlers, warnings.showwarning, sys.stdout, sys.stderr

    before = current()
    exit_code(*words)
    assert current() == before


def test_a_command_runs_in_a_thread_too() -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(exit_code("list", "presets")))
    thread.start()
    thread.join()
    assert codes == [0]


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_outside_of_training_has_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], signum: signal.Signals, code: int
) -> None:
    monkeypatch.setattr(cli, "main", lambda **_: os.kill(os.getpid(), signum))
    assert exit_code() == code
    assert capsys.readouterr().err.startswith("interrupted; finished work is kept")


def test_nohup_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        monkeypatch.setattr(cli, "main", lambda **_: os.kill(os.getpid(), signal.SIGHUP))
        assert exit_code() == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(
    ("words", "code"), [(["list"], 0), (["list", "masks"], 0), (["--help"], 0), (["data", "--help"], 0)]
)
def test_a_reader_that_leaves_early_changes_no_exit_code(words: list[str], code: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)  # as "head -0": gone before the first line
    done = subprocess.run(
        [sys.executable, "-m", "bench", *words], stdout=writer, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (code, "")


def test_the_head_of_a_list() -> None:
    line = f"set -o pipefail; {sys.executable} -m bench list | head -1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "models\n", "")
