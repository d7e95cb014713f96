"""``--output`` and its like: what stands there is replaced only where it is a file, and a link keeps leading there."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.bench.cli.test_cli import bench, error_of
from tests.reports.synthetic import make_experiment

#: Commands that write the file which their last word names.
COMMANDS = {
    "export": ("export", "one", "-o"),
    "a bundle": ("export", "one", "--format", "bundle", "--output"),
    "leaderboard": ("leaderboard", "runs", "-o"),
    "masks preview": ("masks", "preview", "--count", "1", "--size", "32", "--mask", "center", "-o"),
    "init": ("init",),
}


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


@pytest.fixture
def experiment(workplace: Path) -> Path:
    return make_experiment(workplace / "runs", name="one", models=("mean",), pictures=0)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("make", [make_pipe, make_socket])
def test_what_is_no_file_is_refused_and_stays(
    experiment: Path, command: str, make: Callable[[Path], None]
) -> None:
    there = Path("there")
    make(there)
    kind = stat.S_IFMT(there.stat().st_mode)
    assert "there is no regular file; give the name of a file" in error_of(*COMMANDS[command], "there")
    assert stat.S_IFMT(there.stat().st_mode) == kind
    # Nor through a link, as /dev/stdout is one.
    Path("link").symlink_to(there)
    assert "link is no regular file" in error_of(*COMMANDS[command], "link")
    assert stat.S_IFMT(there.stat().st_mode) == kind


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "init"])
@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_its_target_is_written(experiment: Path, command: str, there: bool) -> None:
    folder = Path("elsewhere")
    folder.mkdir()
    if there:
        (folder / "target").write_text("old")
    Path("link").symlink_to(folder / "target")
    Path("chain").symlink_to("link")
    result = bench(*COMMANDS[command], "chain")
    assert result.exit_code == 0, result.output
    assert Path("chain").is_symlink()
    assert Path("link").is_symlink()
    assert (folder / "target").read_bytes() not in (b"", b"old")
    assert [path.name for path in folder.iterdir()] == ["target"]


def test_a_link_to_itself_is_refused(experiment: Path) -> None:
    Path("loop").symlink_to("loop")
    assert "loop is a link to itself" in error_of("export", "one", "-o", "loop")
    assert Path("loop").is_symlink()


def test_a_preview_through_a_link_is_a_picture(experiment: Path) -> None:
    Path("link.png").symlink_to("masks-of-today.png")
    assert bench(*COMMANDS["masks preview"], "link.png").exit_code == 0
    with Image.open("masks-of-today.png") as opened:
        assert opened.format == "PNG"
