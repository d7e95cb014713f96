"""How the units of work of an experiment stand, read from its folder: who computes them, how they ended, their jobs.

Imports no torch, and asks no queue: what is known of a job is what the head that watched it wrote to ``jobs.json``, and
what the job itself wrote to its log.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bench.runner.ownership import is_lost, read_owner
from bench.runner.run_folder import read_checked_json
from reports.results.regular_file import open_regular

_LOG_END_BYTES = 4096

UnitStage = Literal["queued", "running", "lost", "stopped", "finished", "failed"]
#: In the order in which they are shown.
UNIT_STAGES: tuple[UnitStage, ...] = ("running", "queued", "stopped", "lost", "failed", "finished")


@dataclass(frozen=True)
class UnitStatus:
    """A unit of work.

    Attributes:
        name: of its folder in ``units/``.
        stage: ``queued`` has a job that nobody computes yet; ``lost`` has an owner without a heartbeat; ``stopped``
            ended after a checkpoint, to go on.
        where: host and process of a running or lost one, the host of one that has ended; empty otherwise.
        job: its Slurm number, if it has one.
        queue: what the queue said of the job when the head last looked.
        attempts: how often it was submitted.
        log: standard error of its job, if there is such a file.
        last_line: what that file ends with; empty where there is none, or nothing in it.
        reason: why it failed.
        seconds: from its start to its end; ``None`` of one that has not ended.
    """

    name: str
    stage: UnitStage
    where: str = ""
    job: str = ""
    queue: str = ""
    attempts: int = 0
    log: str | None = None
    last_line: str = ""
    reason: str | None = None
    seconds: float | None = None


def job_log(folder: Path, job: str) -> Path:
    """Return where submitit puts the standard error of a job, below an experiment's folder."""
    return folder / "jobs" / f"{job}_0_log.err"


def read_last_line(log: Path) -> str:
    """Return the last line of a log that says anything, at most 200 characters of it; empty where there is none.

    Only the end of the file is read: logs of hundreds of jobs may be megabytes each, on a network file system.
    """
    try:
        with open_regular(log) as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _LOG_END_BYTES))
            end = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    # Other programs write there too: nothing in it may steer the terminal.
    lines = ("".join(c for c in line if c.isprintable()).strip() for line in end.splitlines())
    return next((line[:200] for line in reversed(list(lines)) if line), "")


def read_jobs(folder: Path) -> dict[str, dict[str, Any]]:
    """Return ``jobs.json`` of an experiment: key of a unit -> ``job``, ``attempts``, ``name`` and ``state``.

    A file that is missing, damaged or edited holds no job: units without one are submitted again.
    """
    try:
        stored = read_checked_json(folder / "jobs.json")
        return {
            str(key): {
                "job": str(job["job"]),
                "attempts": int(job["attempts"]),
                "name": str(job.get("name", key[:12])),
                "state": str(job.get("state", "")),
            }
            for key, job in stored.items()
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return {}


def read_units(folder: Path) -> list[UnitStatus]:
    """Return every unit of the experiment in ``folder`` that was submitted or begun, by name."""
    jobs = {job["name"]: job for job in read_jobs(folder).values()}
    begun = {path.name for path in folder.glob("units/*") if path.is_dir()}
    found = (_unit(folder, name, jobs.get(name, {})) for name in sorted(begun | set(jobs)))
    return [unit for unit in found if unit is not None]


def _unit(folder: Path, name: str, job: Mapping[str, Any]) -> UnitStatus | None:
    place = folder / "units" / name
    number = str(job.get("job", ""))
    log = job_log(folder, number)
    about: dict[str, Any] = {
        "name": name,
        "job": number,
        "queue": job.get("state", ""),
        "attempts": job.get("attempts", 0),
        "log": str(log) if number and log.is_file() else None,
        "last_line": read_last_line(log) if number else "",
    }
    if (owner := read_owner(place / "owner")) is not None:
        stage: UnitStage = "lost" if is_lost(place / "owner", owner) else "running"
        return UnitStatus(**about, stage=stage, where=str(owner))
    outcome = _read_outcome(place / "unit.json")
    if outcome is None:
        return UnitStatus(**about, stage="queued") if number else None
    stages: dict[str, UnitStage] = {"done": "finished", "failed": "failed"}
    reasons = {failure["reason"]: None for failure in outcome["failures"].values()}
    return UnitStatus(
        **about,
        stage=stages.get(outcome["state"], "stopped"),
        where=outcome["host"],
        reason="; ".join(reasons) or None,
        seconds=outcome["seconds"],
    )


def _read_outcome(path: Path) -> dict[str, Any] | None:
    """Read how a unit ended; ``None`` where it has not, or its record is damaged."""
    try:
        record = read_checked_json(path)
        # The folder's name ends with the beginning of its unit's key.
        if not path.parent.name.endswith(str(record["what"])[:12]):
            return None
        failures = {key: {"reason": str(value["reason"])} for key, value in record["failures"].items()}
        return {
            "state": str(record["state"]),
            "host": str(record["host"]),
            "seconds": float(record["seconds"]),
            "failures": failures,
        }
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None
