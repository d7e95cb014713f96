"""Where commands of tests run: a folder of their own, or a pseudo-terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Work in ``folder``, with an image cache in it: for fixtures that outlive a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield


def shown_on_a_terminal(words: Sequence[str], environment: Mapping[str, str]) -> bytes:
    """Return what a command, which must succeed, shows on a pseudo-terminal."""
    screen, line = pty.openpty()
    command = [sys.executable, "-m", "bench", *words]
    process = subprocess.Popen(command, stdout=line, stderr=line, env={**os.environ, **environment})
    os.close(line)
    shown = b""
    try:
        while part := os.read(screen, 4096):
            shown += part
    except OSError:  # the other end has closed
        pass
    os.close(screen)
    assert process.wait() == 0, shown.decode()
    return shown
