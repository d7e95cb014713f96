"""An experiment that is made once and copied to the tests that look at, damage or continue it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bench.config import Request
from bench.runner.callbacks import RunCallbacks
from bench.runner.run import run_experiment
from models.template import template_source
from tests.bench.runner.test_run import request as small_request
from tests.places import working_in


@pytest.fixture(scope="session")
def finished_workplace(tmp_path_factory: pytest.TempPathFactory, pictures_dir: Path) -> Path:
    """A folder with an experiment ``kept``: ``test-unet``, trained, and ``mean``."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "unet.py").write_text(template_source("test-unet"))
    with working_in(folder):
        run_experiment(_asked(pictures_dir, folder / "unet.py"), RunCallbacks())
    return folder


@pytest.fixture
def finished(finished_workplace: Path, workplace: Path, pictures_dir: Path, unet: Path) -> Request:
    """The request of that experiment, a copy of which is in the current folder."""
    shutil.copytree(finished_workplace, workplace, dirs_exist_ok=True)
    return _asked(pictures_dir, unet)


def _asked(pictures: Path, unet: Path) -> Request:
    return small_request(pictures, ("test-unet", "mean"), models_from=(str(unet),), name="kept")
