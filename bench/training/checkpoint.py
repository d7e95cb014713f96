"""Checkpoints: named objects in one file, written atomically; the last two are kept.

The file name carries the step and a digest of the bytes, so that one rename publishes both. A file whose bytes do not
match its name, or that does not load as plain tensors (``weights_only=True``), is skipped with a warning.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from bench.errors import DiskError
from reports.results.atomic_io import make_folder, replace_durably
from reports.results.regular_file import open_regular

FORMAT = "inpaint-bench checkpoint 1"
_NAME = re.compile(r"checkpoint-(\d{9})-([0-9a-f]{16})\.pt")


class CheckpointError(ValueError):
    """A file is truncated, corrupt, or no checkpoint of this version."""


class _HashingWriter:
    """A binary file that hashes what is written, so that it need not be read back."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def discard(self) -> None:
        """Close and ignore what cannot be flushed; harmless after :meth:`close`."""
        with contextlib.suppress(OSError):
            self._file.close()

    def close(self) -> None:
        # A full disk or a network file system may refuse the bytes only when they are flushed.
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], *, keep: int = 2) -> Path:
    """Write ``state`` as the checkpoint after ``step`` steps, then remove all but the newest ``keep``.

    Raises:
        DiskError: the file cannot be written; earlier checkpoints stay.
    """
    # In the same folder, since a rename across file systems is a copy; hidden, so that no reader takes it for
    # a checkpoint.
    temporary = folder / f".checkpoint-{os.getpid()}.tmp"
    try:
        make_folder(folder)
        writer = _HashingWriter(temporary)
    except OSError as error:
        raise DiskError(f"cannot write a checkpoint to {folder}: {error.strerror or error}") from error
    try:
        # ``step`` comes last: the state may not override the number that the file's name carries.
        torch.save({"format": FORMAT, **state, "step": step}, writer)  # type: ignore[arg-type]
        writer.close()
        path = folder / f"checkpoint-{step:09d}-{writer.sha256.hexdigest()[:16]}.pt"
        replace_durably(temporary, path)
    except (OSError, RuntimeError) as error:  # torch turns a failed write into a RuntimeError
        reason = getattr(error, "strerror", None) or getattr(error.__context__, "strerror", None) or error
        raise DiskError(f"cannot write a checkpoint to {folder}: {reason}") from error
    finally:
        # A failed write gives its space back at once; after the rename there is nothing left to remove.
        writer.discard()
        temporary.unlink(missing_ok=True)
    # Only when the new file is safely in place, so that a crash at any point leaves at least one good
    # checkpoint.
    for old in [p for p in _files(folder) if p != path][max(0, keep - 1) :]:
        old.unlink(missing_ok=True)
    return path


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read one checkpoint to the CPU.

    Raises:
        CheckpointError: the file is truncated, was altered, or is not a checkpoint of this version.
    """
    match = _NAME.fullmatch(path.name)
    if not match:
        raise CheckpointError(f"{path}: not the name of a checkpoint")
    digest = hashlib.sha256()
    try:
        with open_regular(path) as file:
            # By blocks: a checkpoint may be larger than the memory that is left beside a loaded model.
            while block := file.read(1 << 22):
                digest.update(block)
        # Before anything is unpickled, so that damaged bytes never reach the unpickler.
        if digest.hexdigest()[:16] != match[2]:
            raise CheckpointError(f"{path}: truncated or altered (its bytes do not match its name)")
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # about pickle protocols that are not ours: such a file is refused
            # By an open file: torch's own reader can open no path that is not UTF-8.
            with open_regular(path) as file:
                state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:  # torch's message advises to load it in spite of the danger
        raise CheckpointError(
            f"{path}: refused, since it holds more than tensors and plain values"
        ) from error
    except Exception as error:  # unpickling corrupt bytes may raise anything
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise CheckpointError(f"{path}: cannot be read: {reason}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT or state.get("step") != int(match[1]):
        raise CheckpointError(f"{path}: not a checkpoint of this version")
    return state


def newest_checkpoint(folder: Path, *, warn: Callable[[str], None] = lambda _: None) -> dict[str, Any] | None:
    """Return the newest readable checkpoint, or ``None``; ``warn`` names each one that is skipped."""
    files = _files(folder)
    for number, path in enumerate(files, start=1):
        try:
            return load_checkpoint(path)
        except CheckpointError as error:
            warn(f"{error}; {'using the one before it' if number < len(files) else 'there is no other'}")
    return None


def newest_step(folder: Path) -> int:
    """Return the step of the newest checkpoint by its name, without reading it; 0 where there is none."""
    return next((int(match[1]) for path in _files(folder) if (match := _NAME.fullmatch(path.name))), 0)


def remove_partial_writes(folder: Path) -> None:
    """Remove the temporary files of killed writers."""
    for path in folder.glob(".checkpoint-*.tmp"):
        path.unlink(missing_ok=True)


def _files(folder: Path) -> list[Path]:
    """List the checkpoints, newest first."""
    # Steps are padded to nine digits, so the order of names is the order of steps.
    return sorted((p for p in folder.glob("checkpoint-*.pt") if _NAME.fullmatch(p.name)), reverse=True)
