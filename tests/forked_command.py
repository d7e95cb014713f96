"""Processes of the command line that need no start: forked from an interpreter that has imported everything.

``python -m bench run`` imports for seconds before its first line. Where a test wants a process of its own to signal or
to kill, and not the start itself, :class:`ForkedCommand` stands for ``subprocess.Popen([sys.executable, "-m", "bench",
...])``: one interpreter per test process imports torch, pandas and the others once, and forks a process for every
command, with the folder, environment and streams that the caller has.

Run as a module, this file is that interpreter. It has one thread, opens no file of a run, and stops with its test
process.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

#: What a run imports, also in functions. Torch imports ``torch._inductor`` for deterministic kernels.
_IMPORTS = (
    "torch._inductor.config",
    "torchvision",
    "skimage.metrics",
    "seaborn",
    "bench.cli.commands.run",
    "bench.runner.run",
    "bench.runner.local_jobs",
    "bench.evaluation.evaluator",
    "reports.render",
    "reports.index_page",
)
_MESSAGE_BYTES = 2**16


class ForkedCommand:
    """One ``bench WORDS``, as far as these tests use ``subprocess.Popen``.

    Attributes:
        pid: of the process.
        returncode: as ``Popen`` has it; ``None`` while the process runs.
        stdout, stderr: text of the streams that are pipes.
    """

    def __init__(
        self,
        words: Sequence[str],
        *,
        cwd: Path | None = None,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.returncode: int | None = None
        streams, theirs = [], []
        for stream in (stdout, stderr):
            read = -1
            if stream == subprocess.PIPE:
                read, write = os.pipe()
            elif stream == subprocess.DEVNULL:
                write = os.open(os.devnull, os.O_WRONLY)
            else:
                write = os.dup(stream)
            streams.append(os.fdopen(read, encoding="utf-8") if read >= 0 else None)
            theirs.append(write)
        self.stdout, self.stderr = streams
        request = {"words": list(words), "cwd": str(cwd or Path.cwd())}
        request["environment"] = dict(os.environ if environment is None else environment)
        self.pid = _interpreter().start(request, theirs)
        for write in theirs:
            os.close(write)

    def poll(self) -> int | None:
        """Return the exit code, or ``None`` while the process runs."""
        if self.returncode is None:
            self.returncode = _interpreter().ended(self.pid)
        return self.returncode

    def wait(self, timeout: float = 480.0) -> int:
        """Wait for the end and return the exit code."""
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            assert time.monotonic() < deadline, f"process {self.pid} does not end"
            time.sleep(0.01)
        return code

    def send_signal(self, signum: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, signum)

    def kill(self) -> None:
        """End the process without a word."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float = 480.0) -> tuple[str, str]:
        """Wait for the end and return what was written to both streams."""
        said: dict[str, str] = {}

        def read(name: str, stream: IO[str]) -> None:
            with stream:
                said[name] = stream.read()

        # Side by side: a process that fills one pipe waits until somebody reads it.
        readers = [
            threading.Thread(target=read, args=(name, stream))
            for name, stream in (("stdout", self.stdout), ("stderr", self.stderr))
            if stream is not None
        ]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join()
        return said.get("stdout", ""), said.get("stderr", "")


class _Interpreter:
    """The other end of the interpreter that forks."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Without the thread of pyarrow's allocator: a fork would lose it.
        environment = {**os.environ, "JE_ARROW_MALLOC_CONF": "background_thread:false"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.forked_command", str(theirs.fileno())],
            cwd=Path(__file__).parents[1],
            env=environment,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        self._codes: dict[int, int] = {}

    def start(self, request: dict[str, Any], streams: list[int]) -> int:
        """Fork a process and return its number."""
        socket.send_fds(self._socket, [json.dumps(request).encode()], streams)
        while "started" not in (message := self._receive()):
            self._codes[message["ended"]] = message["code"]
        return int(message["started"])

    def ended(self, pid: int) -> int | None:
        """Return the exit code of a process that has ended."""
        while select.select([self._socket], [], [], 0)[0]:
            message = self._receive()
            self._codes[message["ended"]] = message["code"]
        return self._codes.pop(pid, None)

    def stop(self) -> None:
        """End it, and read what processor time it used into that of this process."""
        self._socket.close()
        self._process.wait()

    def _receive(self) -> dict[str, int]:
        message: dict[str, int] = json.loads(self._socket.recv(_MESSAGE_BYTES))
        return message


@cache
def _interpreter() -> _Interpreter:
    return _Interpreter()


def stop() -> None:
    """Stop the interpreter of this process, if a test has started one."""
    if _interpreter.cache_info().currsize:
        _interpreter().stop()
        _interpreter.cache_clear()


def _requests(connection: socket.socket) -> Iterator[tuple[dict[str, Any], list[int]]]:
    """Yield what the test process asks for, and tell it of every process that ends."""
    woken, wake = os.pipe()
    for end in (woken, wake):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready = select.select([connection, woken], [], [])[0]
        if woken in ready:
            os.read(woken, 4096)
            with contextlib.suppress(ChildProcessError):
                while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                    code = os.waitstatus_to_exitcode(ended[1])
                    connection.send(json.dumps({"ended": ended[0], "code": code}).encode())
        if connection in ready:
            message, streams, *_ = socket.recv_fds(connection, _MESSAGE_BYTES, 2)
            if not message:  # the test process has ended
                return
            yield json.loads(message), streams


def _serve(connection: socket.socket) -> dict[str, Any] | None:
    """Fork a process per request; return in each of those, with what it is to run, and at the end with nothing."""
    for request, streams in _requests(connection):
        if pid := os.fork():
            for stream in streams:
                os.close(stream)
            connection.send(json.dumps({"started": pid}).encode())
            continue
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        connection.close()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for target, stream in enumerate(streams, 1):
            os.dup2(stream, target)
            os.close(stream)
        # Made anew: those of the interpreter have looked at other files.
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
        sys.stderr = os.fdopen(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
        return dict(request)
    return None


def _main() -> None:
    import importlib

    import torch

    for name in _IMPORTS:
        importlib.import_module(name)
    assert len(list(Path("/proc/self/task").iterdir())) == 1, "a fork would lose the other threads"
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if request := _serve(socket.socket(fileno=int(sys.argv[1]))):
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["environment"])
        sys.path[0] = request["cwd"]  # as -m has it
        sys.argv = ["bench", *request["words"]]
        runpy.run_module("bench", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
