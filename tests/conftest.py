"""Fixtures shared by all tests: where real data and weights are, if they are."""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests import forked_command

# The suite's parallelism is pytest-xdist's: the networks of these tests are so small that a second thread of torch
# costs more CPU time than it saves, in this process and in every one that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Many tests start the program anew. Where bytecode is not written, each of those processes would compile every module
# again, which takes longer than what most of them do.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Shells that start a job in the background have SIGINT ignored, and nohup SIGHUP, and every child inherits that. The
# commands under test must get the dispositions that a terminal gives them.
for _signum, _usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_signum) is signal.SIG_IGN:
        signal.signal(_signum, _usual)


def pytest_collection_finish() -> None:
    """Take what is imported out of the garbage collector's sight: each training here collects once more."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Give it back, so that libraries find their objects when the interpreter ends."""
    gc.unfreeze()
    forked_command.stop()


@pytest.fixture(scope="session", autouse=True)
def _one_measurement_of_this_machine() -> Iterator[None]:
    """Estimates of all runs share one measured rate of matrix products; each would multiply for a third of a second."""
    with pytest.MonkeyPatch.context() as patch:
        # Not imported here: tests of masks run where there is no torch.
        if estimate := sys.modules.get("bench.runner.estimate"):
            patch.setattr(estimate, "matrix_rate", cache(estimate.matrix_rate))
        yield


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests reach no network: connecting to anything but a local socket is an error."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family == socket.AF_UNIX or (
            isinstance(address, tuple) and address[0] in ("127.0.0.1", "::1")
        ):
            connect(self, address)
            return
        raise OSError(f"tests must not reach the network (tried {address!r})")

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def celeba_dir() -> Path:
    """Folder with CelebA in its official layout (environment variable ``INPAINT_BENCH_CELEBA``)."""
    folder = os.environ.get("INPAINT_BENCH_CELEBA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("needs CelebA: set INPAINT_BENCH_CELEBA to its folder")
    return Path(folder)


@pytest.fixture(scope="session")
def backbone_folder() -> Path:
    """Torchvision's weight cache with AlexNet, VGG16 and SqueezeNet (environment variable ``TORCH_HOME``)."""
    home = os.environ.get("TORCH_HOME")
    checkpoints = Path(home or "") / "hub" / "checkpoints"
    if not home or not (checkpoints / "alexnet-owt-7be5be79.pth").is_file():
        pytest.skip("needs the ImageNet backbones: set TORCH_HOME to torchvision's cache that holds them")
    return checkpoints


@pytest.fixture(scope="session")
def pictures_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 60 small procedural faces as PNG: real files to open, quick to decode."""
    from PIL import Image

    from bench.data.procedural_faces import render_faces

    folder = tmp_path_factory.mktemp("pictures")
    for index, face in enumerate(render_faces(list(range(60)), 64)):
        Image.fromarray(face).save(folder / f"{index:03d}.png")
    return folder


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def no_drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages have empty figures, which take half of a page's time; for tests of everything else that is on it."""
    from reports import svg

    monkeypatch.setattr(svg, "to_svg", lambda figure, name: "<svg></svg>")


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs draw no page, which takes as long as all else of a small run; for tests that do not open it."""
    from reports import render

    monkeypatch.setattr(render, "render_report", lambda _, folder, **__: folder / "index.html")


@pytest.fixture
def unet(workplace: Path) -> Path:
    """The file of a small model of a user's own, registered as ``test-unet``."""
    from models.template import template_source

    path = workplace / "unet.py"
    path.write_text(template_source("test-unet"))
    return path
