"""A folder ``models/`` or a file ``masks.py`` of the user's own does not get in the way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import bench

ROOT = Path(bench.__file__).parents[1]
COMMAND = Path(sys.executable).with_name("bench")


@pytest.fixture
def crowded(workplace: Path) -> Path:
    """A directory with a package, a module and a plain folder of our packages' names."""
    (workplace / "models").mkdir()
    (workplace / "models" / "__init__.py").write_text("raise RuntimeError('models of the user')\n")
    (workplace / "masks.py").write_text("raise RuntimeError('masks of the user')\n")
    (workplace / "reports").mkdir()
    return workplace


def python(*words: str, path: str = str(ROOT)) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.run(
        [sys.executable, *words], capture_output=True, text=True, check=False, env=environment
    )


#: Of a folder's pictures, and without those in the report: neither is where packages are mistaken for one another.
RUN = ["run", "--models", "mean,biharmonic", "--preset", "smoke", "--test-images", "2", "-q", "--name", "x"]
RUN += ["--no-pictures", "--data"]


@pytest.mark.long
@pytest.mark.parametrize("words", [["list", "--check"], RUN, ["masks", "preview"]])
def test_python_m_bench_uses_its_own_packages(crowded: Path, pictures_dir: Path, words: list[str]) -> None:
    done = python("-m", "bench", *words, *([str(pictures_dir)] if words is RUN else []))
    assert done.returncode == 0, done.stderr
    assert "of the user" not in done.stderr
    assert "means inpaint-bench's package" not in done.stderr


def test_a_path_that_begins_with_the_directory(crowded: Path) -> None:
    done = python("-m", "bench", "list", path=f"{crowded}{os.pathsep}{ROOT}")
    assert done.returncode == 0, done.stderr


@pytest.mark.long
@pytest.mark.skipif(not COMMAND.exists(), reason="needs the installed command")
def test_torchrun_starts_the_command(crowded: Path, pictures_dir: Path) -> None:
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
    done = python(*words, str(COMMAND), *RUN, str(pictures_dir))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report: ") == 1


@pytest.mark.long
def test_side_by_side_trainings_use_our_packages(crowded: Path, pictures_dir: Path) -> None:
    words = [
        "run",
        "--models",
        "context-encoder",
        "--seeds",
        "0,1",
        "--images-seen",
        "16",
        "--metrics",
        "psnr_db",
        "--data",
        str(pictures_dir),
        "--preset",
        "smoke",
        "--jobs",
        "2",
        "-q",
        "--name",
        "y",
    ]
    done = python("-m", "bench", *words, "--test-images", "2", "--no-pictures")
    assert done.returncode == 0, done.stderr


def test_import_bench_works_and_names_what_it_hides(crowded: Path) -> None:
    done = python("-c", "import bench.config, models.registry, masks.registry; print(models.__file__)")
    assert (done.returncode, done.stdout.strip()) == (0, str(ROOT / "models" / "__init__.py")), done.stderr
    assert f"not {crowded / 'models'}; rename that to use both" in done.stderr
    assert f"not {crowded / 'masks.py'}; rename that to use both" in done.stderr


def test_a_package_imported_before_is_named_in_one_line(crowded: Path) -> None:
    (crowded / "models" / "__init__.py").write_text("")
    done = python("-c", "import models\nimport bench")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        f"ImportError: inpaint-bench has a package named 'models', but {crowded / 'models'} was"
    )


def test_nothing_is_said_where_nothing_is_in_the_way(workplace: Path) -> None:
    done = python("-W", "error", "-c", "import sys, bench; assert 'models' not in sys.modules")
    assert (done.returncode, done.stderr) == (0, "")
