"""The heading that somebody gave an experiment's pages: kept in its folder, so that every later page has it."""

from __future__ import annotations

import json
from pathlib import Path

from reports.results.atomic_io import atomic_write
from reports.results.manifest import SEAL, manifest_checksum
from reports.results.regular_file import read_text

#: Beside the manifest, which a run writes anew.
FILE_NAME = "title.json"


def read_title(folder: Path) -> str:
    """Return the heading kept in an experiment's folder; empty where there is none, or not the one that was given.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> write_title(folder, "Does Table 4 hold?")
        >>> read_title(folder), read_title(folder / "other")
        ('Does Table 4 hold?', '')
    """
    try:
        record = json.loads(read_text(folder / FILE_NAME))
        # Nor one without a checksum: a cut that takes the checksum's name away leaves its digits in the heading.
        if record.get(SEAL) != manifest_checksum(record):
            return ""
    except (OSError, ValueError, AttributeError, RecursionError):
        return ""
    title = record.get("title")
    return title if isinstance(title, str) else ""


def write_title(folder: Path, title: str) -> None:
    """Keep a heading in an experiment's folder; an empty one takes the kept one away.

    Raises:
        OSError: the folder cannot be written.
    """
    path = folder / FILE_NAME
    if title:
        record = {"title": title}
        text = json.dumps({**record, SEAL: manifest_checksum(record)}) + "\n"
        atomic_write(path, lambda p: p.write_text(text, encoding="utf-8"))
    else:
        path.unlink(missing_ok=True)
