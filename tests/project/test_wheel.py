"""What a user installs: the wheel holds every file that the packages need, and types for the user's own code."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from models.template import template_source

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("bench", "masks", "models", "reports")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without build isolation, so that nothing is downloaded."""
    pytest.importorskip("hatchling", reason="needs hatchling to build without the network")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.long
def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", *PACKAGES], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    assert set(tracked) <= held
    assert {f"{package}/py.typed" for package in PACKAGES} <= held


@pytest.mark.long
def test_a_new_model_passes_mypy_strict_and_ruff_against_the_installed_wheel(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed, own = tmp_path / "site", tmp_path / "own"
    own.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith((".py", "py.typed")):
                target = installed / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(name))
    (own / "my_unet.py").write_text(template_source("my-unet"), encoding="utf-8")
    monkeypatch.setenv(
        "PYTHONPATH", str(installed)
    )  # mypy reads installed packages as typed by their py.typed
    monkeypatch.setenv("MYPYPATH", "")
    for command in (["mypy", "--strict", "--config-file="], ["ruff", "check", "--isolated"]):
        done = subprocess.run(
            [sys.executable, "-m", *command, "my_unet.py"],
            cwd=own,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
