"""What the ``bench`` command changes in its process while it runs: streams, warnings and signals; all is put back."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import signal
import stat
import sys
import threading
import warnings
from collections.abc import Iterator
from types import FrameType
from typing import Any, TextIO

from bench.cli.wrapping import echo_line
from models.errors import StopError


class TerminatedError(StopError):
    """SIGTERM or SIGHUP outside of a training; like ``KeyboardInterrupt``, not swallowed by handlers of errors."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.exit_code = 128 + signum


@contextlib.contextmanager
def command_process() -> Iterator[None]:
    """Set streams, warnings and signals for a command, and restore them when it ends."""
    # Everything is put back, since main() may be called from a test or another program.
    before = sys.stdout, sys.stderr, warnings.showwarning
    sys.stdout, sys.stderr = _command_stream(sys.stdout), _command_stream(sys.stderr)
    warnings.showwarning = _warn  # type: ignore[assignment]
    try:
        with _termination_signals():
            yield
    finally:
        # Flushed before they are replaced: what is buffered would be lost with the wrapper.
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr, warnings.showwarning = before


@contextlib.contextmanager
def _termination_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP (a closed terminal or ssh) into :class:`TerminatedError`.

    A signal that the parent ignores stays ignored: that is what ``nohup`` does with SIGHUP.
    """
    previous: dict[signal.Signals, Any] = {}
    # Python allows signal handlers in the main thread only.
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN:
                previous[number] = signal.signal(number, _terminate)
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise TerminatedError(signum)


class _PipeWriter(io.FileIO):
    """Writes to a pipe until its reader leaves, then discards: ``bench list | head -1`` is no failure."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            # The reader has left; claiming that all was written lets the command end in its own way.
            return len(memoryview(data).cast("B"))


def _command_stream(stream: TextIO) -> TextIO:
    """Make ``stream`` safe for any file name, any encoding, and a reader that leaves early."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    codecs.register(_seven_bit)
    ascii_only = codecs.lookup(stream.encoding).name == "ascii"
    # File names that the encoding cannot express are printed as escapes, instead of ending the command.
    stream.reconfigure(encoding="seven_bit" if ascii_only else None, errors="backslashreplace")
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (OSError, ValueError):  # no file behind it
        return stream
    if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
        # Only pipes and sockets lose their reader; files and terminals keep the stream that they have.
        return stream
    # Both write to one descriptor: what the old stream holds must come first.
    stream.flush()
    raw = _PipeWriter(stream.fileno(), "wb", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), stream.encoding, stream.errors, line_buffering=stream.line_buffering
    )


def _seven_bit(name: str) -> codecs.CodecInfo | None:
    """Provide ASCII under another name: to a stream whose encoding is called "ascii", click writes UTF-8."""
    if name != "seven_bit":
        return None
    plain = codecs.lookup("ascii")
    return codecs.CodecInfo(
        plain.encode,
        plain.decode,
        plain.streamreader,
        plain.streamwriter,
        plain.incrementalencoder,
        plain.incrementaldecoder,
        name,
    )


def _warn(message: Warning | str, *_: Any) -> None:
    """Print a warning of Python's as one line, without the place in the source."""
    echo_line(f"warning: {message!s}", err=True)
