"""Reads that end: a named pipe or device in place of a result file would otherwise be waited for without a limit."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file, or a link to one, to be read in bytes.

    Raises:
        OSError: it is missing, cannot be read, or is a folder, pipe, socket or device.
    """
    # Without waiting: a pipe opens at once, and is then refused like any other special file.
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return os.fdopen(file, "rb")


def read_bytes(path: Path) -> bytes:
    """Return the content of a regular file.

    Raises:
        OSError: as :func:`open_regular`.

    Examples:
        >>> import tempfile
        >>> pipe = Path(tempfile.mkdtemp()) / "train.jsonl"
        >>> os.mkfifo(pipe)
        >>> read_bytes(pipe)
        Traceback (most recent call last):
            ...
        OSError: [Errno 22] not a regular file: '...train.jsonl'
    """
    with open_regular(path) as file:
        return file.read()


def read_text(path: Path) -> str:
    """Return the content of a regular file as UTF-8.

    Raises:
        OSError: as :func:`open_regular`.
        UnicodeDecodeError: it is not UTF-8.
    """
    return read_bytes(path).decode("utf-8")
