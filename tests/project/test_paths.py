"""Every path into the packages that a tracked file names is there: no old name outlives a move."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: History, and evidence that names the code of its own commit.
EXEMPT = ("CHANGELOG.md", "docs/measurements/")
#: Files that a guide has its reader write, and those that tests write into copies of the packages.
INVENTED = (
    "bench/data/sources/tiles.py",
    "bench/evaluation/hole_bias.py",
    "masks/kinds/bands.py",
    "reports/sections/slowest.py",
    "bench/evaluation/brand_new.py",
    "models/brand_new.py",
    "models/layers/crop_of_the_hole.py",
)
_SLASHED = re.compile(r"(?<![\w./-])(?:bench|models|masks|reports)/[a-z_0-9/]+\.(?:py|csv|j2)\b(?!\.)")
# Two dots at least where a variable may bear the package's name (`masks.shape`).
_DOTTED = re.compile(
    r"(?<![\w./-])(?:(?:bench|reports)(?:\.[a-z][a-z_0-9]*)+|(?:models|masks)(?:\.[a-z][a-z_0-9]*){2,})\b"
)


def tracked_texts() -> Iterator[tuple[str, str]]:
    """Yield name and text of every tracked file that is text."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("needs a git checkout")
    for name in listed.stdout.decode().split("\0"):
        path = ROOT / name
        if not name or name.startswith(EXEMPT) or not path.is_file():
            continue
        try:
            yield name, path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def is_module_or_attribute(dotted: str) -> bool:
    """Say whether a dotted name is a module, or a name in the source of one."""
    parts = dotted.split(".")
    for count in range(len(parts), 0, -1):
        path = ROOT.joinpath(*parts[:count])
        module = next((p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None)
        if module is not None:
            rest = parts[count:]
            return not rest or re.search(rf"\b{rest[0]}\b", module.read_text(encoding="utf-8")) is not None
        if path.is_dir() and count == len(parts):
            return True
    return False


def test_every_file_that_is_named_exists() -> None:
    missing = [
        f"{name}: {path}"
        for name, text in tracked_texts()
        for path in sorted(set(_SLASHED.findall(text)))
        if not (ROOT / path).exists() and path not in INVENTED
    ]
    assert missing == []


def test_every_module_that_is_named_exists() -> None:
    missing = [
        f"{name}: {dotted}"
        for name, text in tracked_texts()
        for dotted in sorted(set(_DOTTED.findall(text)) - {"bench.nothing"})
        if not is_module_or_attribute(dotted) and f"{dotted.replace('.', '/')}.py" not in INVENTED
    ]
    assert missing == []
