"""``train.jsonl``: one JSON line per report; truncated to the resumed step so that no step is logged twice."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from reports.results.atomic_io import atomic_write


class TrainLog:
    """Appends lines to a file and closes it after each, so that a killed run keeps what it logged."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rewind(self, step: int) -> None:
        """Drop the lines of steps after ``step``, and a last line that a kill truncated."""
        if not self.path.exists():
            return
        # Resuming repeats the steps after the checkpoint, which would log them a second time.
        kept = [line for line in self.read() if line["step"] <= step]
        text = "".join(json.dumps(line) + "\n" for line in kept)
        atomic_write(self.path, lambda temporary: temporary.write_text(text, encoding="utf-8"))

    def sync(self) -> None:
        """Flush the file to disk: with each checkpoint, so that a power cut loses no line that one rests on."""
        if self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())

    def write(self, line: dict[str, Any]) -> None:
        """Append one line."""
        # Opened for every line: a rewind replaces the file, and a handle kept open would write on into the
        # old one.
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def read(self) -> list[dict[str, Any]]:
        """Return all complete lines that have a step."""
        if not self.path.exists():
            return []
        lines = []
        for text in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            # A kill may leave half a line, or half a character: both must fail here, as JSON, and not while
            # decoding.
            try:
                line = json.loads(text)
            except (ValueError, RecursionError):
                continue  # truncated by a kill, or damaged
            if isinstance(line, dict) and isinstance(line.get("step"), int):
                lines.append(line)
        return lines
