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

from tests.forked_command import ForkedCommand


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Work in ``folder``, with an image cache in it: for fixtures that outlive a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield


def shown_on_a_terminal(
    words: Sequence[str], environment: Mapping[str, str], *, forked: bool = False
) -> bytes:
    """Return what a command, which must succeed, shows on a pseudo-terminal.

    Args:
        words: of the command.
        environment: variables beside those of this process.
        forked: from an interpreter that has imported everything, where the start itself is not what is tested.
    """
    screen, line = pty.openpty()
    environment = {**os.environ, **environment}
    process: ForkedCommand | subprocess.Popen[bytes]
    if forked:
        process = ForkedCommand(words, stdout=line, stderr=line, environment=environment)
    else:
        command = [sys.executable, "-m", "bench", *words]
        process = subprocess.Popen(command, stdout=line, stderr=line, env=environment)
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
