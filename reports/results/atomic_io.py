"""Atomic writes: a file is there as a whole or not at all, even after a power cut.

A rename alone is not enough. Without flushing the file first, a crash may leave the new name with no content;
without flushing the folder, the rename itself may be lost although a later one is kept.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path


def atomic_write(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a temporary file beside ``path``, then put it in its place durably.

    Args:
        path: the file; its folder is made where it is missing.
        write: writes to the path that it gets. Where it fails, ``path`` stays as it was.

    Raises:
        OSError: the disk is full or the folder cannot be written; ``filename`` is that of ``path``.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "made" / "note.txt"
        >>> atomic_write(path, lambda temporary: temporary.write_text("kept"))
        >>> path.read_text(), [p.name for p in path.parent.iterdir()]
        ('kept', ['note.txt'])
    """
    # Beside the target, because a rename is atomic only within a file system; hidden, so
    # that no reader takes it for a result.
    temporary = path.with_name(f".{_short(path.name)}.{os.getpid()}.tmp")
    try:
        make_folder(path.parent)
        write(temporary)
        replace_durably(temporary, path)
    except OSError as error:
        # A full disk fails in a call that knows no name, and a user never sees the temporary one.
        if error.filename in (None, str(temporary)):
            error.filename = str(path)
        raise
    finally:
        # After a success there is nothing left to remove.
        temporary.unlink(missing_ok=True)


def _short(name: str) -> str:
    """Return a name that leaves room for more: file systems allow 255 bytes, which a user's file may have."""
    raw = os.fsencode(name)
    return name if len(raw) <= 200 else hashlib.sha256(raw).hexdigest()


def replace_durably(temporary: Path, path: Path) -> None:
    """Rename a finished file to ``path`` in the same folder, flushing the file before and the folder after.

    Raises:
        OSError: a flush or the rename failed.
    """
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def remove_durably(path: Path) -> None:
    """Remove a file, if it is there, flushing its folder after.

    Raises:
        OSError: it cannot be removed.
    """
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def publish_folder(temporary: Path, folder: Path) -> None:
    """Rename a finished folder to ``folder`` beside it, flushing all that it holds before and its parent after.

    Raises:
        OSError: a flush or the rename failed; where ``folder`` holds files already, among them.
    """
    for path in temporary.rglob("*"):
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb") as file:
                os.fsync(file.fileno())
    sync_folder(temporary)
    temporary.rename(folder)
    sync_folder(folder.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, each durably.

    Raises:
        OSError: it cannot be made.
    """
    if folder.is_dir():
        return
    if folder.parent != folder:
        make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to disk, where the file system can."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # a folder that may be written and not read
        return
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems cannot flush folders, and keep renames by themselves
        pass
    finally:
        os.close(descriptor)
