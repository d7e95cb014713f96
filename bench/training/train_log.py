"""``train.jsonl``: one line a report, cut back to the resumed step so that no step is told twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class TrainLog:
    """Appends lines; flushed each, so that a killed run keeps what it said."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rewind(self, step: int) -> None:
        """Drop lines of later steps than ``step``, and a last line that was cut off by a kill."""
        if not self.path.exists():
            return
        kept = [line for line in self.read() if line["step"] <= step]
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        temporary.replace(self.path)

    def write(self, line: dict[str, Any]) -> None:
        """Append one line."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def read(self) -> list[dict[str, Any]]:
        """All lines with a step; one that a kill cut off is none."""
        if not self.path.exists():
            return []
        lines = []
        for text in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict) and isinstance(line.get("step"), int):
                lines.append(line)
        return lines
