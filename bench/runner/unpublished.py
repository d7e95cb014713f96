"""New experiments that are written as a whole: under a hidden name first, then in their place by one rename."""

from __future__ import annotations

import errno
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

from bench.errors import DiskError
from bench.runner.ownership import LOST_SECONDS, Ownership, read_owner
from bench.runner.run_folder import OWNER
from bench.runner.status import folder_owner
from reports.results.atomic_io import make_folder, publish_folder

#: Commands that make an experiment so; the hidden name ends with one of them.
COMMANDS = ("import", "merge")


@contextmanager
def unpublished_experiment(target: Path, command: str) -> Iterator[Path]:
    """Give an empty folder for a new experiment, and publish it as ``target`` when the block ends without an error.

    Args:
        target: the experiment's folder, which is not there yet.
        command: one of :data:`COMMANDS`.

    Raises:
        DiskError: the disk is full, or the folder is read-only.
        OSError: ``target`` holds files by now, or what the block reads cannot be read.
    """
    try:
        with _hidden_folder(target, command) as folder:
            yield folder
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            raise DiskError(f"cannot write {target}: {error.strerror}") from error
        raise


@contextmanager
def _hidden_folder(target: Path, command: str) -> Iterator[Path]:
    make_folder(target.parent)
    # The experiment lies one level deeper than any in runs/, so that nothing takes it for one before the rename.
    # What a killed process leaves is told from what a living one writes by its owner, as of every experiment.
    around = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=f".{command}", dir=target.parent))
    try:
        with FileLock(around / ".lock", timeout=0), Ownership(around / OWNER):
            folder = around / target.name
            folder.mkdir()
            yield folder
            publish_folder(folder, target)
    finally:
        shutil.rmtree(around, ignore_errors=True)


def find_unpublished(runs: Path) -> list[Path]:
    """List what killed processes left of experiments that were never published; that of living ones is left out."""
    found = [path for command in COMMANDS for path in runs.glob(f".*.*.{command}")]
    return [path for path in sorted(found) if path.is_dir() and not path.is_symlink() and _is_dead(path)]


def _is_dead(folder: Path) -> bool:
    if read_owner(folder / OWNER) is not None:
        return folder_owner(folder) is None
    # Of an earlier version, or killed in its first moment: what nobody writes to is nobody's.
    times = []
    for path in (folder, *folder.rglob("*")):
        try:
            times.append(path.lstat().st_mtime)
        except OSError:  # removed in the meantime, so somebody is at work
            return False
    return time.time() - max(times) > LOST_SECONDS
