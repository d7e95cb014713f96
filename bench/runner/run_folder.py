"""Run folders: ``runs/<experiment>/`` with its manifest, trainings and cells. Every file is written atomically."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bench.errors import BenchError, DiskError, UsageError
from bench.runner.ownership import OwnedElsewhereError, Owner, Ownership, read_owner
from masks.image_files import is_hidden
from reports.results import atomic_io
from reports.results import manifest as manifests
from reports.results.regular_file import read_bytes, read_text

RUNS, REPORTS = Path("runs"), Path("reports")
#: In an experiment's folder: which process works in it.
OWNER = ".owner"
# In a checkout, reports/ is also the package of that name: a page must not land in one of its folders.
_RESERVED = {"results", "statistics", "claims", "sections", "templates"}


class BusyError(BenchError):
    """Another process works in the run folder."""


class DamagedManifestError(BenchError):
    """A manifest is there, and is not what was written."""


def check_name(name: str) -> str:
    """Return the experiment's name if it is a folder name of letters, digits, '.', '-', '_' and '+'.

    Raises:
        UsageError: it is not.

    Examples:
        >>> check_name("mgs-iim-center_2")
        'mgs-iim-center_2'
        >>> check_name("runs/mine")
        Traceback (most recent call last):
            ...
        bench.errors.UsageError: --name 'runs/mine': give letters, digits, '.', '-', '_' or '+' (at most 100)
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", name) or name in _RESERVED:
        raise UsageError(f"--name {name!r}: give letters, digits, '.', '-', '_' or '+' (at most 100)")
    if is_hidden(name):
        raise UsageError(
            f"--name {name!r}: systems call folders so, which no list of experiments shows; give another"
        )
    return name


class RunFolder:
    """One experiment's folder.

    Args:
        name: the experiment.
        root: what ``runs/`` and ``reports/`` lie in.
    """

    def __init__(self, name: str, root: Path = Path()) -> None:
        self.name, self.root = check_name(name), root
        self.folder = root / RUNS / name
        self.report_folder = root / REPORTS / name
        self._held = contextlib.ExitStack()

    def __enter__(self) -> RunFolder:
        """Create the folder and keep other runs out of it, on this machine and on others.

        A killed run keeps nobody out: at once on its own machine, after a minute and a half on another.

        Raises:
            BusyError: another process holds it (its number and host are named).
            BenchError: the folder cannot be written.
        """
        try:
            # Durably, with runs/ itself: results that are flushed are lost with a folder whose name is not.
            atomic_io.make_folder(self.folder)
            with contextlib.ExitStack() as held:
                # Both: the operating system's lock goes with the process, whatever its host calls itself, but over
                # NFS it may be local to a machine, or missing.
                held.enter_context(FileLock(self.folder / ".lock", timeout=0))
                held.enter_context(Ownership(self.folder / OWNER))
                self._held = held.pop_all()
        except Timeout:
            raise self._busy(read_owner(self.folder / OWNER)) from None
        except OwnedElsewhereError:
            raise self._busy(read_owner(self.folder / OWNER)) from None
        except OSError as error:
            raise BenchError(f"{self.folder} cannot be written: {error.strerror or error}") from error
        return self

    def _busy(self, owner: Owner | None) -> BusyError:
        who = f" ({owner})" if owner else ""
        return BusyError(f"{self.folder} is in use by another run{who}; wait for it or give another --name")

    def __exit__(self, *_: object) -> None:
        """Release the folder."""
        self._held.close()

    @property
    def manifest_path(self) -> Path:
        """``manifest.json``."""
        return self.folder / "manifest.json"

    def read_manifest(self) -> dict[str, Any] | None:
        """Read the manifest; ``None`` where there is none yet.

        Raises:
            BenchError: it is not readable, or of another schema.
        """
        if not self.manifest_path.exists():
            return None
        return read_manifest(self.manifest_path)

    def write_manifest(self, manifest: dict[str, Any]) -> None:
        """Write the manifest with the time of this update."""
        # The schema is last, so that a manifest that was read and extended is written as this version's.
        manifest = {**manifest, "schema": manifests.SCHEMA, "updated": utc_timestamp()}
        write_json(self.manifest_path, {**manifest, manifests.SEAL: manifests.manifest_checksum(manifest)})

    def training(self, slug: str, key: str) -> Path:
        """Return the folder of a training; ``key`` is the digest of what decides its numbers."""
        return self.folder / "trainings" / f"{slug}-{key[:12]}"

    def cell(self, slug: str, key: str) -> Path:
        """Return the folder of a cell."""
        return self.folder / "cells" / f"{slug}-{key[:12]}"


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a manifest of this version.

    Raises:
        BenchError: not readable, damaged, or of another schema.
    """
    try:
        return manifests.read_manifest(path)
    except manifests.DamagedManifestError as error:
        raise DamagedManifestError(str(error)) from error
    except manifests.ManifestError as error:
        raise BenchError(str(error)) from error


def write_json(path: Path, value: Any) -> None:
    """Write JSON by a temporary name and a rename."""
    atomic_write(path, lambda p: p.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8"))


def write_checked_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write JSON with a checksum of its content in it, so that damage and edits are noticed."""
    write_json(path, {**value, manifests.SEAL: manifests.manifest_checksum(value)})


def read_checked_json(path: Path) -> dict[str, Any]:
    """Read what :func:`write_checked_json` wrote, without the checksum.

    Args:
        path: the file.

    Raises:
        OSError: the file is not there or cannot be read.
        ValueError: it is not JSON, or its content is not what was written.
    """
    try:
        value = json.loads(read_text(path))
    except RecursionError as error:
        raise ValueError(f"{path.name} is nested too deep") from error
    # Damage and edits look the same, and neither may pass for a result.
    if not isinstance(value, dict) or value.get(manifests.SEAL) != manifests.manifest_checksum(value):
        raise ValueError(f"{path.name} does not hold what was written")
    del value[manifests.SEAL]
    return value


def file_signature(path: Path) -> dict[str, Any]:
    """Return the lines and SHA-256 of a text file; no lines where it is missing."""
    content = read_bytes(path) if path.is_file() else b""
    return {"lines": content.count(b"\n"), "sha256": hashlib.sha256(content).hexdigest()}


def atomic_write(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file atomically and durably (:func:`reports.results.atomic_io.atomic_write`).

    Raises:
        DiskError: the disk is full or the folder cannot be written.
    """
    try:
        atomic_io.atomic_write(path, write)
    except OSError as error:
        raise DiskError(f"cannot write {path}: {error.strerror or error}") from error


def remove_folder(folder: Path) -> None:
    """Remove a folder of superseded results."""
    # What cannot be removed is written over or found damaged later; neither is worth ending a run for.
    shutil.rmtree(folder, ignore_errors=True)


def utc_timestamp() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
