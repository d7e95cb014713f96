"""Who works on what, where several machines share a file system: an exclusive file with a heartbeat.

A lock of the operating system is no use here: over NFS it may be local to a machine, or missing. A file that is created
exclusively is not. Its owner touches it every few seconds, so that the file of a lost machine is recognized by its age
and taken over.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from bench.errors import BenchError
from reports.results.atomic_io import make_folder
from reports.results.regular_file import read_text

#: Seconds between two heartbeats, and after how many without one an owner on another machine counts as lost.
HEARTBEAT_SECONDS = 10.0
LOST_SECONDS = 90.0


class OwnedElsewhereError(BenchError):
    """Another process owns the folder; the message names its host and number."""


@dataclass(frozen=True)
class Owner:
    """A process by host and number; ``started`` tells two processes of one number apart."""

    host: str
    process: int
    started: str

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"


class Ownership:
    """Own what ``path`` stands for, as a context manager.

    Args:
        path: the exclusive file; its folder must exist or be creatable.
        heartbeat_seconds: time between two heartbeats.
        lost_seconds: age at which an owner on another machine counts as lost.
        wait_seconds: time to wait for an owner that may be lost: a scheduler may start a killed job again elsewhere
            before its heartbeat is old enough.
    """

    def __init__(
        self,
        path: Path,
        *,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        lost_seconds: float = LOST_SECONDS,
        wait_seconds: float = 0.0,
    ) -> None:
        self.path = path
        self._heartbeat_seconds, self._lost_seconds = heartbeat_seconds, lost_seconds
        self._wait_seconds = wait_seconds
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Ownership:
        """Take ownership, from a lost owner too.

        Raises:
            OwnedElsewhereError: a living process has it.
        """
        make_folder(self.path.parent)
        deadline = time.monotonic() + self._wait_seconds
        while True:
            try:
                self._take()
                break
            except OwnedElsewhereError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(min(1.0, self._heartbeat_seconds))
        # A daemon: a heartbeat must never keep a process alive that has ended its work.
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()
        return self

    def _take(self) -> None:
        # Twice: the first attempt may find a lost owner's file, and the second creates ours.
        for _ in range(2):
            if self._create():
                break
            owner = read_owner(self.path)
            if owner is not None and not is_lost(self.path, owner, self._lost_seconds):
                raise OwnedElsewhereError(f"{self.path.parent} is being worked on by {owner}")
            # Renamed before it is removed: of two processes that find the owner lost, one rename fails.
            grave = self.path.with_name(f"{self.path.name}.{socket.gethostname()}-{os.getpid()}")
            # Where the rename fails, somebody else has cleared the file, and the second attempt decides
            # between us.
            with contextlib.suppress(FileNotFoundError):
                self.path.rename(grave)
                grave.unlink()
        else:
            raise OwnedElsewhereError(f"{self.path.parent} was taken by another process just now")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it up."""
        # The heartbeat ends first, so that it cannot touch the file of the next owner.
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        # After a long pause (a suspended machine) the file may be another's by now.
        if read_owner(self.path) == _this_process():
            self.path.unlink(missing_ok=True)

    def _create(self) -> bool:
        # Linked into place, so that the file holds its owner's name from its first moment on.
        written = self.path.with_name(f"{self.path.name}.{socket.gethostname()}-{os.getpid()}.new")
        written.write_text(json.dumps(vars(_this_process())), encoding="utf-8")
        try:
            os.link(written, self.path)
        except FileExistsError:
            return False
        except OSError as error:
            # FAT has no links. Its file is empty for a moment, which read_owner takes for nobody's; such disks are not
            # shared by machines, and the operating system's lock works there.
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            return self._create_without_link(written.read_bytes())
        finally:
            written.unlink(missing_ok=True)
        return True

    def _create_without_link(self, content: bytes) -> bool:
        try:
            with self.path.open("xb") as file:
                file.write(content)
        except FileExistsError:
            return False
        return True

    def _beat(self) -> None:
        while not self._stop.wait(self._heartbeat_seconds):
            # A missed heartbeat is no reason to stop: a network file system comes back, or the owner counts
            # as lost.
            with contextlib.suppress(OSError):
                os.utime(self.path)


def read_owner(path: Path) -> Owner | None:
    """Return who owns ``path``; ``None`` where nobody does, or a file that was cut off or edited names no process."""
    try:
        owner = Owner(**json.loads(read_text(path)))
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    # The number becomes part of a path, and the host part of a line on a terminal.
    numbered = type(owner.process) is int and owner.process > 0
    named = isinstance(owner.host, str) and owner.host.isprintable() and isinstance(owner.started, str)
    return owner if numbered and named else None


def is_lost(path: Path, owner: Owner, lost_seconds: float = LOST_SECONDS) -> bool:
    """Return whether an owner has ended: known at once on this machine, by the age of its heartbeat on another."""
    if owner.host == socket.gethostname():
        started = _started(owner.process)
        # Both are empty where a file names no time and there is no such process.
        return not started or started != owner.started
    return heartbeat_age(path) > lost_seconds


def heartbeat_age(path: Path) -> float:
    """Return the seconds since the last heartbeat, by the clock of the file system rather than of this machine.

    Clocks of two machines may differ by more than a heartbeat, so the age is taken against a file written just now.
    """
    # A name of its own for every thread and host, so that two who ask at once do not remove each other's
    # file.
    probe = path.with_name(f".clock-{socket.gethostname()}-{os.getpid()}-{threading.get_ident()}")
    try:
        probe.touch()
        now = probe.stat().st_mtime
        return now - path.stat().st_mtime
    except OSError:
        # Unreadable means unknown, and an owner of unknown age must not be taken for a lost one.
        return 0.0
    finally:
        probe.unlink(missing_ok=True)


def _this_process() -> Owner:
    return Owner(socket.gethostname(), os.getpid(), _started(os.getpid()))


def _started(process: int) -> str:
    """Return when a process of this machine started, as the kernel counts it; empty where there is none."""
    # The start time tells a process from a later one that was given the same number.
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        if Path("/proc/self/stat").exists():
            return ""
        # No /proc (macOS): a number is all there is.
        try:
            os.kill(process, 0)
        except (ProcessLookupError, OverflowError):
            return ""
        # It exists and is another user's.
        except PermissionError:
            pass
        return str(process)
    # The name in parentheses may hold spaces; the start time is the 22nd field.
    return stat.rsplit(")", 1)[1].split()[19]
