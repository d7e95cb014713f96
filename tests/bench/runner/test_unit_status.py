"""``bench status`` of units of work: queued, running where, stopped, lost, failed with its log, finished."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.runner.ownership import Ownership
from bench.runner.run_folder import RunFolder, write_checked_json
from bench.runner.unit_status import UnitStatus, read_jobs, read_last_line, read_units
from bench.runner.work import CellFailure, UnitOutcome, read_outcome
from tests.bench.cli.test_cli import bench


def submit(folder: Path, name: str, job: str, state: str, attempts: int = 1) -> None:
    """Note a job as the head does."""
    jobs = dict(read_jobs(folder))
    jobs[f"key-of-{name}"] = {"job": job, "attempts": attempts, "name": name, "state": state}
    write_checked_json(folder / "jobs.json", jobs)


def end(folder: Path, name: str, outcome: UnitOutcome) -> None:
    """Note an outcome as a worker does."""
    place = folder / "units" / name
    place.mkdir(parents=True, exist_ok=True)
    record = dataclasses.asdict(outcome) | {"what": name}
    # Units are named after the beginning of their key: here, all of it.
    write_checked_json(place / "unit.json", record)


def by_name(folder: Path) -> dict[str, UnitStatus]:
    return {unit.name: unit for unit in read_units(folder)}


def test_a_unit_is_followed_from_the_queue_to_its_end(tmp_path: Path) -> None:
    assert read_units(tmp_path) == []
    submit(tmp_path, "a", "7_0", "PENDING (Resources)")
    assert by_name(tmp_path)["a"] == UnitStatus(
        "a", "queued", job="7_0", queue="PENDING (Resources)", attempts=1
    )
    with Ownership(tmp_path / "units/a/owner"):
        running = by_name(tmp_path)["a"]
        assert (running.stage, running.where) == (
            "running",
            f"process {os.getpid()} on {socket.gethostname()}",
        )
    end(tmp_path, "a", UnitOutcome("interrupted", host="n1", seconds=3.0))
    assert by_name(tmp_path)["a"].stage == "stopped"
    end(tmp_path, "a", UnitOutcome("done", host="n2", seconds=5.0))
    ended = by_name(tmp_path)["a"]
    assert (ended.stage, ended.where, ended.seconds) == ("finished", "n2", 5.0)


def test_a_failed_unit_has_its_reason_and_its_log(tmp_path: Path) -> None:
    submit(tmp_path, "b", "8", "RUNNING", attempts=2)
    failure = CellFailure("RuntimeError: no such loss", "Traceback ...")
    end(tmp_path, "b", UnitOutcome("failed", {"one": failure, "two": failure}, host="n1", seconds=1.0))
    assert by_name(tmp_path)["b"].log is None  # there is none yet
    log = tmp_path / "jobs" / "8_0_log.err"
    log.parent.mkdir()
    log.write_text("Traceback ...")
    failed = by_name(tmp_path)["b"]
    assert (failed.stage, failed.reason, failed.log) == ("failed", "RuntimeError: no such loss", str(log))
    assert failed.last_line == "Traceback ..."


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", ""),
        (b"\n \n", ""),
        (b"one\ntwo\n\n", "two"),
        (
            b"x" * 10_000 + b"\nslurmstepd: error: *** JOB 8 CANCELLED DUE TO NODE FAILURE ***",
            "slurmstepd: error: *** JOB 8 CANCELLED DUE TO NODE FAILURE ***",
        ),
        (b"\x1b[31mred\x1b[0m and \xff", "[31mred[0m and \ufffd"),
        (b"y" * 10_000, "y" * 200),
    ],
)
def test_the_end_of_a_log_is_read(content: bytes, line: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(content)
    assert read_last_line(tmp_path / "log") == line
    assert read_last_line(tmp_path / "gone") == ""


def test_an_owner_without_a_heartbeat_is_lost(tmp_path: Path) -> None:
    submit(tmp_path, "c", "9", "RUNNING")
    owner = tmp_path / "units/c/owner"
    owner.parent.mkdir(parents=True)
    owner.write_text(json.dumps({"host": "elsewhere", "process": 1, "started": "1"}))
    assert by_name(tmp_path)["c"].stage == "running"
    os.utime(owner, (time.time() - 600, time.time() - 600))
    lost = by_name(tmp_path)["c"]
    assert (lost.stage, lost.where) == ("lost", "process 1 on elsewhere")


@pytest.mark.parametrize(
    "text", ["", "[]", '{"k": 3}', '{"k": {"job": "1"}}', '{"k": {"job": "1", "attempts": "x"}}']
)
def test_a_damaged_list_of_jobs_holds_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "jobs.json").write_text(text)
    assert read_units(tmp_path) == []


@pytest.mark.parametrize(
    "text", ["", "[]", '{"state": "done"}', '{"state": "done", "failures": [], "host": "", "seconds": 1}']
)
def test_a_damaged_outcome_is_none(tmp_path: Path, text: str) -> None:
    submit(tmp_path, "d", "9", "RUNNING")
    (tmp_path / "units/d").mkdir(parents=True)
    (tmp_path / "units/d/unit.json").write_text(text)
    assert by_name(tmp_path)["d"].stage == "queued"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"job": "9"', '"job": "8"'),
        ("RUNNING", "FAILED"),
        ('"attempts": 1', '"attempts": 4'),
        ("key-of-d", "key-of-e"),
    ],
)
def test_an_edited_list_of_jobs_holds_none(tmp_path: Path, old: str, new: str) -> None:
    submit(tmp_path, "d", "9", "RUNNING")
    path = tmp_path / "jobs.json"
    whole = path.read_text()
    path.write_text(whole.replace(old, new, 1))
    assert path.read_text() != whole
    assert read_units(tmp_path) == []
    assert read_jobs(tmp_path) == {}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"state": "failed"', '"state": "done"'),
        ("no such loss", "out of luck"),
        ('"seconds": 1.0', '"seconds": 9000.0'),
        ('"host": "n1"', '"host": "n2"'),
    ],
)
def test_an_edited_outcome_is_none(tmp_path: Path, old: str, new: str) -> None:
    """Neither for the status, nor for the run that takes failures into the manifest."""
    store = RunFolder("kept", tmp_path)
    unit: Any = SimpleNamespace(key="d", folder=lambda _: store.folder / "units/d")
    outcome = UnitOutcome("failed", {"one": CellFailure("no such loss", "...")}, host="n1", seconds=1.0)
    submit(store.folder, "d", "9", "RUNNING")
    end(store.folder, "d", outcome)
    assert by_name(store.folder)["d"].stage == "failed"
    assert read_outcome(store, unit) == outcome
    path = store.folder / "units/d/unit.json"
    whole = path.read_text()
    path.write_text(whole.replace(old, new, 1))
    assert path.read_text() != whole
    assert by_name(store.folder)["d"].stage == "queued"
    assert read_outcome(store, unit) is None
    # Without a checksum it could say anything.
    path.write_text(json.dumps(dataclasses.asdict(outcome) | {"what": "d"}))
    assert by_name(store.folder)["d"].stage == "queued"
    assert read_outcome(store, unit) is None


def test_a_list_of_jobs_of_an_earlier_version_names_units_by_their_keys(tmp_path: Path) -> None:
    write_checked_json(tmp_path / "jobs.json", {"0123456789abcdef": {"job": "3", "attempts": 1}})
    assert [(unit.name, unit.job) for unit in read_units(tmp_path)] == [("0123456789ab", "3")]


def test_bench_status_shows_units_and_their_jobs(workplace: Path, pictures_dir: Path, unet: Path) -> None:
    words = ["run", "--models", "mean", "--data", str(pictures_dir), "--preset", "smoke", "--name", "kept"]
    assert bench(*words).exit_code == 0
    assert "units" not in bench("status", "kept").output
    folder = Path("runs/kept")
    submit(folder, "glcic-1", "12_0", "RUNNING")
    submit(folder, "glcic-2", "12_1", "PENDING (Priority)", attempts=2)
    submit(folder, "glcic-3", "12_2", "RUNNING")
    end(
        folder,
        "glcic-3",
        UnitOutcome("failed", {"one": CellFailure("no such loss", "")}, host="n2", seconds=1.0),
    )
    (folder / "jobs").mkdir()
    (folder / "jobs/12_2_0_log.err").write_text("INFO started\nRuntimeError: no such loss\n")
    end(folder, "mean-4", UnitOutcome("done", host="n2", seconds=1.0))
    with Ownership(folder / "units/glcic-1/owner"):
        output = bench("status", "kept").output
        listed: dict[str, Any] = json.loads(bench("status", "kept", "--json").output)
    assert "units          4: 1 running, 1 queued, 1 failed, 1 finished" in output
    here = f"process {os.getpid()} on {socket.gethostname()}"
    assert f"running      glcic-1; job 12_0; on {here}" in output
    assert "queued       glcic-2; job 12_1 pending (priority), submitted 2 times" in output
    failed = "failed       glcic-3; job 12_2; on n2; no such loss; log runs/kept/jobs/12_2_0_log.err"
    assert f"{failed}: RuntimeError: no such loss" in output
    assert "mean-4" not in output  # what has finished needs no line
    assert [unit["stage"] for unit in listed["units"]] == ["running", "queued", "failed", "finished"]
