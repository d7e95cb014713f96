"""What may be removed to free disk space: checkpoints, image caches, leftovers of killed processes; never results.

Imports no torch.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from bench.errors import DiskError
from bench.runner.status import folder_bytes, folder_owner
from bench.runner.unpublished import find_unpublished


@dataclass(frozen=True)
class Removable:
    """Files, or folders with all that is in them, of one kind at one place; ``costs`` says what their loss means."""

    kind: str
    where: str
    files: tuple[Path, ...]
    costs: str

    @property
    def num_bytes(self) -> int:
        """What they take; files that have vanished count nothing."""
        return sum(_num_bytes(path) for path in self.files if path.exists())


def find_checkpoints(folders: Iterable[Path]) -> list[Removable]:
    """Find checkpoints of experiments that no process works in, those of finished trainings apart from the others."""
    found = []
    for folder in folders:
        # Somebody trains there: the checkpoints are about to be needed, and sizes would be of a moment.
        if folder_owner(folder):
            continue
        for complete in (True, False):
            files = [
                path
                for training in sorted(folder.glob("trainings/*"))
                if (training / "training.json").is_file() == complete
                # A pattern that temporary files do not match: those are listed as leftovers.
                for path in sorted(training.glob("checkpoint-*.pt"))
            ]
            if files:
                kind = "weights of finished trainings" if complete else "checkpoints of unfinished trainings"
                costs = "another mask or image needs the training again" if complete else "they start again"
                found.append(Removable(kind, str(folder), tuple(files), costs))
    return found


def find_leftovers(folders: Iterable[Path]) -> list[Removable]:
    """Find temporary files that killed writers left in experiments that no process works in."""
    found = []
    for folder in folders:
        # Looked for first: testing the lock of every folder would touch folders that have nothing to remove.
        files = tuple(p for p in sorted(folder.rglob(".*.tmp")) if p.is_file())
        if files and not folder_owner(folder):
            found.append(Removable("leftovers of killed processes", str(folder), files, "nothing"))
    return found


def find_unpublished_experiments(runs: Path) -> list[Removable]:
    """Find what killed imports and merges left in ``runs``: experiments that never came to be."""
    return [
        Removable("leftovers of killed processes", str(folder), (folder,), "nothing")
        for folder in find_unpublished(runs)
    ]


def find_image_caches(cache: Path) -> list[Removable]:
    """List the image caches."""
    found = []
    for array in sorted(cache.glob("*.npy")):
        # An array, its description and its lock share a stem, and are of no use without each other.
        there = tuple(sorted(cache.glob(f"{array.stem}.*")))
        found.append(Removable("image cache", str(array.with_suffix("")), there, "decoded again when needed"))
    return found


def remove_files(what: Removable) -> int:
    """Remove the files and return the bytes that are free again; a pack that is being filled is left alone.

    Raises:
        DiskError: a file cannot be removed.
    """
    lock = next((path for path in what.files if path.suffix == ".lock"), None)
    freed = 0
    try:
        with FileLock(lock, timeout=0) if lock else nullcontext():
            for path in what.files:
                # The lock itself stays: removing a file that others lock would let two of them in at once.
                if path != lock and path.exists():
                    freed += _num_bytes(path)
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
    except Timeout:
        return 0
    except OSError as error:
        raise DiskError(f"cannot remove from {what.where}: {error.strerror or error}") from error
    return freed


def _num_bytes(path: Path) -> int:
    return folder_bytes(path) if path.is_dir() else path.lstat().st_size
