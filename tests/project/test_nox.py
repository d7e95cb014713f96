"""Sessions of nox say what they lack."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("nox", reason="pip install -e '.[dev]'")

ROOT = Path(__file__).parents[2]


def test_the_demo_session_says_that_its_extra_is_missing(tmp_path: Path) -> None:
    """Without gradio pytest would collect no test, and the session end with a bare exit code 5."""
    browser = tmp_path / "bin" / "chromium"
    browser.parent.mkdir()
    browser.write_text("#!/bin/sh\n")
    browser.chmod(0o755)
    (tmp_path / "gradio.py").write_text("raise ImportError('not here')\n")
    # Python's folder first: the session asks the interpreter that runs nox.
    path = os.pathsep.join([str(Path(sys.executable).parent), str(browser.parent), os.environ["PATH"]])
    assert shutil.which("chromium", path=path)
    done = subprocess.run(
        [sys.executable, "-m", "nox", "--no-venv", "-s", "demo", "-f", str(ROOT / "noxfile.py")],
        env={**os.environ, "PATH": path, "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert "skipped: the extras demo and browser are not installed here: pip install" in done.stderr
