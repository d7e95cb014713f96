"""Runs ``bench`` in forked children that stand still at given writes, for ``test_power_cut.py`` to copy the disk.

``python -m tests.bench.runner.power_cut_driver``; a line of JSON in (:class:`Order`), a line of JSON out each time that
the child stands still ({"stopped": kind}; any line lets it go on), and one when it has ended ({"code": ..., "counts":
...}). The driver itself only imports, so that every child starts at once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from bench.cli import main
from bench.runner import run  # imported here once, not in every child  # noqa: F401
from bench.training import checkpoint
from reports import render  # noqa: F401
from reports.results import atomic_io

#: What a command prints, in a file beside its folder.
SAID = "said.txt"


@dataclass(frozen=True)
class Order:
    """One command to run.

    Attributes:
        folder: where.
        words: of the command line, after ``bench``.
        stops: (kind, number): stand still just after the so-many-th write of a kind. Kinds are ``renamed`` (the folder
            is not flushed yet), ``published`` (it is) and ``checkpoint write`` (in the midst of a file).
        flushes: whether ``fsync`` does anything; without it, a power cut loses what was published.
    """

    folder: str
    words: Sequence[str]
    stops: Sequence[tuple[str, int]] = ()
    flushes: bool = True


#: Kind of write -> what is called for each.
PLACES: dict[str, tuple[Any, str]] = {
    "renamed": (Path, "replace"),
    "published": (atomic_io, "sync_folder"),
    "checkpoint write": (checkpoint._HashingWriter, "write"),
}


def stop_after(kind: str, numbers: set[int], counts: Counter[str], tell: int) -> None:
    """Count the writes of a kind, and stand still after some of them, having told so, until somebody sends SIGCONT."""
    owner, name = PLACES[kind]
    original: Callable[..., Any] = getattr(owner, name)

    def counted(*args: Any, **options: Any) -> Any:
        result = original(*args, **options)
        counts[kind] += 1
        if counts[kind] in numbers:
            os.write(tell, json.dumps({"stopped": kind}).encode() + b"\n")
            os.kill(os.getpid(), signal.SIGSTOP)
        return result

    setattr(owner, name, counted)


def child(order: Order, tell: int) -> None:
    """Run the command; where it stands still, and the counts of its writes, go to a file descriptor as JSON."""
    os.chdir(order.folder)
    os.environ["XDG_CACHE_HOME"] = str(Path(order.folder) / "cache")
    if not order.flushes:
        os.fsync = lambda _: None
    counts: Counter[str] = Counter()
    for kind in PLACES:
        stop_after(kind, {number for k, number in order.stops if k == kind}, counts, tell)
    try:
        main(list(order.words))
    finally:
        os.write(tell, json.dumps({"counts": counts}).encode() + b"\n")


def say(what: Any) -> None:
    """Write one line of JSON."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def follow(pid: int, told: TextIO) -> None:
    """Wait until the child has ended, and tell each time that it stands still."""
    while True:
        _, status = os.waitpid(pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            break
        say(json.loads(told.readline()))
        sys.stdin.readline()
        os.kill(pid, signal.SIGCONT)
    say({"code": os.waitstatus_to_exitcode(status), **json.loads(told.readline() or "{}")})


if __name__ == "__main__":
    while line := sys.stdin.readline():
        order = Order(**json.loads(line))
        told, tell = os.pipe()
        pid = os.fork()
        if pid == 0:
            said = os.open(Path(order.folder).parent / SAID, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(said, 1)
            os.dup2(said, 2)
            try:
                child(order, tell)
            except SystemExit as leaving:
                os._exit(leaving.code if isinstance(leaving.code, int) else 1)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        os.close(tell)
        with os.fdopen(told) as lines:
            follow(pid, lines)
