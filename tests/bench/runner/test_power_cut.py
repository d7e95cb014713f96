"""What a power cut may find: every rename of a run follows a flush of the file and is followed by one of its folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_CALL = re.compile(r"^(?:\[pid +\d+\] |\d+ +)?(\w+)\((.*)\) = (\d+)")


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_every_rename_is_flushed_before_and_after(workplace: Path, pictures_dir: Path) -> None:
    trace = workplace / "trace"
    command = [sys.executable, "-m", "bench", "run", "--models", "pconv,mean", "--mask", "center"]
    command += ["--preset", "smoke", "--data", str(pictures_dir), "--test-images", "2", "--name", "x"]
    strace = ["strace", "-f", "-y", "-e", "trace=rename,renameat,renameat2,fsync,fdatasync", "-o", str(trace)]
    done = subprocess.run(
        [*strace, *command], cwd=workplace, env=dict(os.environ), capture_output=True, text=True, check=False
    )
    if "Operation not permitted" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr

    flushed: set[str] = set()
    unflushed_folders: dict[str, str] = {}
    renames = 0
    for line in trace.read_text().splitlines():
        if not (call := _CALL.match(line)):
            continue
        name, arguments, _ = call.groups()
        if name in ("fsync", "fdatasync"):
            (path,) = re.findall(r"<(.*)>", arguments)
            flushed.add(path)
            unflushed_folders.pop(path, None)
        else:
            source, target = ((workplace / p).resolve() for p in re.findall(r'"(.*?)"', arguments)[:2])
            if not target.is_relative_to(workplace) or "matplotlib" in str(target):
                continue
            renames += 1
            assert str(source) in flushed, f"{source.name} was renamed before it was flushed"
            unflushed_folders[str(target.parent)] = target.name
    assert renames >= 10
    assert not unflushed_folders, "renamed, and the folder never flushed"
