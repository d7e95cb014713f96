"""Atomic writes: whole or not there, flushed before and after the rename."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from reports.results.atomic_io import atomic_write


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "kept.txt"
    path.write_text("old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        atomic_write(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_file_and_folder_are_flushed_around_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    flush, rename = os.fsync, Path.replace

    def note_flush(descriptor: int) -> None:
        order.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")  # noqa: PTH112
        flush(descriptor)

    def note_rename(self: Path, target: Path) -> Path:
        order.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", note_flush)
    monkeypatch.setattr(Path, "replace", note_rename)
    atomic_write(tmp_path / "new" / "kept.txt", lambda path: path.write_text("content"))
    # First the folder above, which the new folder was made in.
    assert order == ["folder", "file", "rename", "folder"]


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_every_rename_of_a_results_file_is_covered(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\nfrom reports.results.schema import write_rows\n"
        "from tests.reports.synthetic import make_rows\n"
        f"write_rows(make_rows(), Path({str(tmp_path / 'results.parquet')!r}))"
    )
    log = tmp_path / "calls"
    traced = ["strace", "-f", "-e", "trace=fsync,rename,renameat,renameat2", "-o", str(log)]
    subprocess.run([*traced, sys.executable, "-c", code], check=True, capture_output=True)
    calls = [line.split(None, 1)[1] for line in log.read_text().splitlines() if "(" in line]
    (at,) = [i for i, call in enumerate(calls) if "results.parquet" in call]
    assert calls[at - 1].startswith("fsync(")
    assert calls[at + 1].startswith("fsync(")


@pytest.mark.parametrize("name", ["x" * 251 + ".png", "é" * 127, "漢" * 85, "a\nb\x1b.png"])
def test_a_file_may_have_any_name_that_the_file_system_takes(tmp_path: Path, name: str) -> None:
    for content in ("first", "second"):
        atomic_write(tmp_path / name, lambda path, content=content: path.write_text(content))  # type: ignore[misc]
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [(name, "second")]


@pytest.mark.parametrize("named", [False, True])
def test_a_full_disk_is_said_of_the_file_that_was_meant(tmp_path: Path, named: bool) -> None:
    """The call that fails knows no name, or that of the temporary file, which nobody has seen."""

    def full(temporary: Path) -> None:
        raise OSError(28, "No space left on device", *([str(temporary)] if named else []))

    with pytest.raises(OSError, match="No space left on device") as raised:
        atomic_write(tmp_path / "page.html", full)
    assert raised.value.filename == str(tmp_path / "page.html")
    assert not list(tmp_path.iterdir())
