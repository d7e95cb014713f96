"""An exclusive file with a heartbeat: one owner, and a lost one is followed."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.runner.ownership import OwnedElsewhereError, Ownership, heartbeat_age, is_lost, read_owner

_HOLD = """
import sys, time
from pathlib import Path
from bench.runner.ownership import Ownership
with Ownership(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_two_processes_do_not_own_it_at_once_and_a_killed_one_is_followed_at_once(tmp_path: Path) -> None:
    path = tmp_path / "unit" / "owner"
    holder = subprocess.Popen([sys.executable, "-c", _HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    with holder, holder.stdout:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(OwnedElsewhereError, match=f"process {holder.pid} on "), Ownership(path):
            pass
        assert path.exists()
        holder.kill()
        holder.wait()
    with Ownership(path):
        owner = read_owner(path)
        assert owner is not None
        assert owner.process == os.getpid()
    assert not path.exists()


def test_a_number_that_another_process_has_by_now_is_no_owner(tmp_path: Path) -> None:
    path = tmp_path / "owner"
    with Ownership(path):
        held = json.loads(path.read_text())
    path.write_text(json.dumps({**held, "started": "1"}))
    with Ownership(path):
        pass


def test_an_owner_on_another_machine_is_lost_when_its_heart_stops(tmp_path: Path) -> None:
    path = tmp_path / "owner"
    path.write_text(json.dumps({"host": "elsewhere", "process": 1, "started": "1"}))
    with pytest.raises(OwnedElsewhereError, match="process 1 on elsewhere"), Ownership(path):
        pass
    os.utime(path, (time.time() - 600, time.time() - 600))
    with Ownership(path):
        pass


def test_the_heart_beats(tmp_path: Path) -> None:
    path = tmp_path / "owner"
    with Ownership(path, heartbeat_seconds=0.05):
        os.utime(path, (1, 1))
        deadline = time.monotonic() + 20
        while heartbeat_age(path) > 60 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert heartbeat_age(path) < 60


def _of(**said: object) -> str:
    return json.dumps({"host": socket.gethostname(), "process": 1, "started": "1", **said})


#: Files of owners that name no process: cut off, or edited.
ILL_FORMED = {
    "empty": "",
    "cut": "{",
    "a list": "[]",
    "less": '{"host": 3}',
    "more": _of(user="me"),
    "a zero byte": _of(process="1\0"),
    "a path": _of(process="../../elsewhere/x"),
    "another path": _of(process="self/../1"),
    "a list for a number": _of(process=[1]),
    "a fraction": _of(process=1.5),
    "true": _of(process=True),
    "negative": _of(process=-1),
    "zero": _of(process=0),
    "no number": _of(process=None),
    "no host": _of(host=None),
    "a list of hosts": _of(host=["here"]),
    "an escape of the terminal": _of(host="\x1b[2Jhere"),
    "half a character": _of(host="\ud800"),
    "no time": _of(started=None),
    "a number for a time": _of(started=1),
}


@pytest.mark.parametrize("content", ILL_FORMED.values(), ids=list(ILL_FORMED))
def test_a_file_that_says_nothing_is_taken(tmp_path: Path, content: str) -> None:
    path = tmp_path / "owner"
    path.write_text(content)
    assert read_owner(path) is None
    with Ownership(path):
        assert read_owner(path) is not None


@pytest.mark.parametrize("process", [99_999_999, 10**30])
@pytest.mark.parametrize("started", ["", "1"])
def test_a_number_that_no_process_has_is_no_owner(tmp_path: Path, process: int, started: str) -> None:
    path = tmp_path / "owner"
    path.write_text(_of(process=process, started=started))
    owner = read_owner(path)
    assert owner is not None
    assert is_lost(path, owner)
    with Ownership(path):
        pass


def test_a_file_that_names_no_time_is_of_no_living_process(tmp_path: Path) -> None:
    path = tmp_path / "owner"
    path.write_text(_of(process=os.getpid(), started=""))
    with Ownership(path):
        pass


def test_an_owner_that_may_be_lost_is_waited_for(tmp_path: Path) -> None:
    """A job that was killed on another machine a moment ago, and starts again here."""
    path = tmp_path / "owner"
    path.write_text(json.dumps({"host": "elsewhere", "process": 1, "started": "1"}))
    with Ownership(path, lost_seconds=1.0, heartbeat_seconds=0.1, wait_seconds=60):
        owner = read_owner(path)
        assert owner is not None
        assert owner.process == os.getpid()


def test_a_living_owner_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "owner"
    with Ownership(path):
        began = time.monotonic()
        with pytest.raises(OwnedElsewhereError), Ownership(path, heartbeat_seconds=0.1, wait_seconds=1.0):
            pass
        assert time.monotonic() - began >= 1.0
        assert path.exists()


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_disk_without_links_has_owners_too(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link)
    with Ownership(tmp_path / "owner"):
        owner = read_owner(tmp_path / "owner")
        assert owner is not None
        assert owner.process == os.getpid()
        with pytest.raises(OwnedElsewhereError), Ownership(tmp_path / "owner"):
            pass
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_no_disk_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(OSError, match="no space"), Ownership(tmp_path / "owner"):
        pass


def test_the_folder_of_a_unit_outlives_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its outcome is flushed into a folder whose own name must be on the disk too."""
    flushed: list[Path] = []
    monkeypatch.setattr("reports.results.atomic_io.sync_folder", flushed.append)
    with Ownership(tmp_path / "units" / "one" / "owner"):
        assert flushed == [tmp_path, tmp_path / "units"]
