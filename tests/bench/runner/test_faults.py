"""What can happen to a run from outside. It ends with a clear error or goes on, and the same command then gives the
numbers of an undisturbed run. ``nox -s faults`` runs all of it; kills inside of trainings are in ``test_stress.py``.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch

import bench
from models.template import template_source
from reports.results.schema import read_rows
from tests.bench.runner.test_stress import RUN, Driver, outcome

#: Root without the capabilities to read and write everywhere: permissions count for it too.
ORDINARY = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
ROOT = str(Path(bench.__file__).parents[1])
WORDS = ("run", "--models", "test-unet,mean", "--models-from", "unet.py", "--data", "pictures")
WORDS = (*WORDS, "--preset", "smoke", "--images-seen", "16", "--name", "fault", "--quiet")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, pictures_dir: Path
) -> tuple[dict[str, torch.Tensor], pd.DataFrame, list[object]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    driver = Driver(pictures_dir, folder / "run")
    assert driver.run() == 0
    driver.close()
    return outcome(folder / "run")


@pytest.mark.parametrize(
    ("stage", "moments"),
    [
        ("packing", (10, 40, 0)),
        ("checkpoint write", (1, 60, 200)),
        ("evaluation", (1, 2, 3)),
        ("result write", (1,)),
        ("report write", (1, 2)),
        ("rename", (1, 3, 20, 30)),
    ],
)
def test_a_kill_in_any_stage_changes_no_number(
    undisturbed: tuple[dict[str, torch.Tensor], pd.DataFrame, list[object]],
    pictures_dir: Path,
    tmp_path: Path,
    stage: str,
    moments: tuple[int, ...],
) -> None:
    weights, rows, told = undisturbed
    driver = Driver(pictures_dir, tmp_path / "killed")
    codes = [driver.run(stage, moment) for moment in moments]
    assert codes[0] == -9
    assert set(codes) <= {-9, 0}
    assert driver.run() == 0
    driver.close()
    found, found_rows, found_told = outcome(tmp_path / "killed")
    assert all(torch.equal(found[name], value) for name, value in weights.items())
    pd.testing.assert_frame_equal(found_rows, rows, check_exact=True)
    assert found_told == told
    assert (
        (tmp_path / "killed" / "reports" / RUN.name / "index.html").read_text().rstrip().endswith("</html>")
    )


# Out of memory, native code (oneDNN, OpenMP) may die of a signal before Python can say so.
@pytest.mark.parametrize(
    ("fault", "number", "codes"),
    [("clock", 0, {0}), ("memory", 20 * 2**20, {1, -signal.SIGSEGV, -signal.SIGABRT})],
)
def test_a_clock_that_runs_backwards_and_too_little_memory(
    undisturbed: tuple[dict[str, torch.Tensor], pd.DataFrame, list[object]],
    pictures_dir: Path,
    tmp_path: Path,
    fault: str,
    number: int,
    codes: set[int],
) -> None:
    weights, rows, _ = undisturbed
    driver = Driver(pictures_dir, tmp_path / "run")
    assert driver.run(fault, number) in codes
    assert driver.run() == 0
    driver.close()
    found, found_rows, _ = outcome(tmp_path / "run")
    assert all(torch.equal(found[name], value) for name, value in weights.items())
    pd.testing.assert_frame_equal(found_rows, rows, check_exact=True)


@pytest.fixture
def place(pictures_dir: Path) -> Iterator[Path]:
    """A folder that another user may be given, with data and a model."""
    folder = Path(tempfile.mkdtemp(prefix="inpaint-bench-faults-"))
    folder.chmod(0o755)
    shutil.copytree(pictures_dir, folder / "pictures")
    (folder / "unet.py").write_text(template_source("test-unet"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def command(place: Path, *before: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": ROOT,
        "XDG_CACHE_HOME": str(place / "cache"),
        "HOME": str(place),
    }
    return subprocess.Popen(
        [*before, sys.executable, "-m", "bench", *WORDS],
        cwd=place,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, list[str]]:
    _, said = process.communicate(timeout=600)
    assert "Traceback" not in said, said
    return process.returncode, said.splitlines()


def results(place: Path) -> pd.DataFrame:
    tables = [read_rows(p) for p in sorted((place / "runs" / "fault" / "cells").glob("*/results.parquet"))]
    return pd.concat(tables, ignore_index=True)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, pictures_dir: Path) -> pd.DataFrame:
    folder = tmp_path_factory.mktemp("expected")
    shutil.copytree(pictures_dir, folder / "pictures")
    (folder / "unet.py").write_text(template_source("test-unet"))
    assert ended(command(folder))[0] == 0
    return results(folder)


@pytest.mark.parametrize("kibibytes", [16, 64, 128])
def test_a_full_disk(place: Path, expected: pd.DataFrame, kibibytes: int) -> None:
    (place / "runs").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(place / "runs")]
    if os.getuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs permission to mount a small tmpfs")
    try:
        code, said = ended(command(place))
        assert code == 1
        assert "No space left on device" in said[-1]
        subprocess.run(["mount", "-o", "remount,size=64m", str(place / "runs")], check=True)
        assert ended(command(place))[0] == 0
        pd.testing.assert_frame_equal(results(place), expected, check_exact=True)
    finally:
        subprocess.run(["umount", str(place / "runs")], check=True)


def test_folders_that_may_not_be_written(place: Path, expected: pd.DataFrame) -> None:
    before = ORDINARY if os.getuid() == 0 else ()
    if before and not shutil.which(before[0]):
        pytest.skip("root may write everywhere, and setpriv is not installed")
    for name in ("runs", "reports", "cache"):
        (place / name).mkdir()
    for name, says in (("cache", "cache folder"), ("runs", "runs/fault"), ("reports", "reports/fault")):
        (place / name).chmod(0o555)
        code, said = ended(command(place, *before))
        assert code == 1, said
        assert says in said[-1]
        assert "Permission denied" in said[-1]
        (place / name).chmod(0o755)
    code, said = ended(command(place, *before))
    assert code == 0, said
    pd.testing.assert_frame_equal(results(place), expected, check_exact=True)


def test_data_that_vanish(place: Path, expected: pd.DataFrame) -> None:
    (place / "pictures").rename(place / "elsewhere")
    code, said = ended(command(place))
    assert (code, said) == (2, ["error: --data pictures: no such file or folder"])
    (place / "elsewhere").rename(place / "pictures")
    assert ended(command(place))[0] == 0
    (place / "pictures").rename(place / "elsewhere")
    assert ended(command(place))[0] == 2
    pd.testing.assert_frame_equal(results(place), expected, check_exact=True)


def test_two_processes_at_once(place: Path, expected: pd.DataFrame) -> None:
    """One works; the other says so, or comes late enough to find all done."""
    both = [ended(process) for process in [command(place), command(place)]]
    assert sorted(code for code, _ in both) in ([0, 0], [0, 1])
    for code, said in both:
        assert code == 0 or "runs/fault is in use by another run (process " in said[-1]
    assert ended(command(place))[0] == 0
    pd.testing.assert_frame_equal(results(place), expected, check_exact=True)
