"""``train.jsonl``: one JSON line per report; truncated to the resumed step so that no step is logged twice."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from reports.results.atomic_io import atomic_write
from reports.results.manifest import SEAL, manifest_checksum
from reports.results.regular_file import read_bytes, read_text

#: What a log held at the last checkpoint.
MARK = "train.synced.json"


class TrainLog:
    """Appends lines to a file and closes it after each, so that a killed run keeps what it logged.

    Beside it, :data:`MARK` says what the file held at the last checkpoint: a log that was damaged while its training
    stood still would otherwise be continued as if it had been short.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def lost_before(self) -> int | None:
        """Step before which lines were lost when the training was resumed; ``None`` where none are known to be."""
        mark = self._read_mark()
        lost = mark.get("lost_before") if mark.get("training", self._training) == self._training else None
        return lost if isinstance(lost, int) else None

    def rewind(self, step: int) -> None:
        """Drop the lines of steps after ``step``, and a last line that a kill truncated."""
        mark, content = self._read_mark(), self._content()
        own = mark.get("training", self._training) == self._training
        vouched = bool(mark) and hashlib.sha256(content[: mark["bytes"]]).hexdigest() == mark["digest"]
        if step < 0 and not self.path.exists() and not mark:
            return
        lost = mark.get("lost_before") if own else None
        # Every checkpoint is preceded by a mark, also where nothing had been logged: without one, nothing vouches for
        # the lines before this step, nor for a file that is not there. Nor does the mark of another training.
        if not (mark and own) and step > 0:
            lost = step
        if mark and own and not vouched:
            lost = step
        # Resuming repeats the steps after the checkpoint, which would log them a second time. Of another training's
        # log, which its mark vouches for, no line is this one's.
        kept = [line for line in self.read() if line["step"] <= step and (own or not vouched)]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        # First, since what is kept is the beginning of what was there: a kill between the two leaves a mark that holds.
        # A training that starts over logs every step again.
        self._write_mark(text.encode(), lost if step >= 0 else None)
        atomic_write(self.path, lambda temporary: temporary.write_text(text, encoding="utf-8"))

    def sync(self) -> None:
        """Flush the file to disk: with each checkpoint, so that a power cut loses no line that one rests on."""
        if self.path.is_file():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
        self._write_mark(self._content(), self.lost_before)

    @property
    def _training(self) -> str:
        """The training's folder, whose name ends with its key."""
        # Not of what a link leads to: the folder, or the log alone, may be moved to another disk, and back.
        return self.path.absolute().parent.name

    @property
    def _mark(self) -> Path:
        return self.path.with_name(MARK)

    def _content(self) -> bytes:
        try:
            return read_bytes(self.path)
        except OSError:  # missing, or something else than a file: no lines either way
            return b""

    def _read_mark(self) -> dict[str, Any]:
        """Return what the last checkpoint rests on, of whatever ``training``; empty where that is not known.

        Marks of earlier versions name no training.
        """
        try:
            mark = json.loads(read_text(self._mark))
            whole = mark[SEAL] == manifest_checksum(mark)
            return mark if whole and isinstance(mark["bytes"], int) else {}
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return {}

    def _write_mark(self, content: bytes, lost_before: int | None) -> None:
        mark = {
            "training": self._training,
            "bytes": len(content),
            "digest": hashlib.sha256(content).hexdigest(),
            "lost_before": lost_before,
        }
        text = json.dumps({**mark, SEAL: manifest_checksum(mark)}) + "\n"
        atomic_write(self._mark, lambda temporary: temporary.write_text(text, encoding="utf-8"))

    def write(self, line: dict[str, Any]) -> None:
        """Append one line."""
        # Opened for every line: a rewind replaces the file, and a handle kept open would write on into the
        # old one.
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def read(self) -> list[dict[str, Any]]:
        """Return all complete lines that have a step."""
        lines = []
        for text in self._content().decode("utf-8", "replace").splitlines():
            # A kill may leave half a line, or half a character: both must fail here, as JSON, and not while
            # decoding.
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                continue  # truncated by a kill, or damaged
            if isinstance(line, dict) and isinstance(line.get("step"), int):
                lines.append(line)
        return lines
