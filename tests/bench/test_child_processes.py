"""Processes that the suite starts run nothing of the working folder, and programs of the user's keep their neighbors.

The folders here hold files called like modules of Python's own; each leaves a trace where it is imported.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import child_processes
from bench.data.procedural_faces import render_faces
from bench.perf import measure
from bench.runner import work
from models.template import template_source

ROOT = Path(__file__).parents[2]
#: What Python imports as it starts, multiprocessing and torch's compiler among it.
_SHADOWED = (
    "pickle",
    "signal",
    "socket",
    "random",
    "tempfile",
    "struct",
    "queue",
    "selectors",
    "ctypes",
    "warnings",
)
#: As the installed script: its own folder is first on the path. Few images are enough for several processes.
_SCRIPT = """
from bench.cli import main
from bench.data import cache

cache.BLOCK = 10
cache.num_processes = lambda: 2
if __name__ == "__main__":
    main()
"""


def write_script(place: Path) -> None:
    (place / "script").mkdir()
    (place / "script" / "bench-script.py").write_text(_SCRIPT)


@pytest.fixture
def trapped(tmp_path: Path) -> Path:
    """A working folder with 60 pictures in ``pictures``, and files that shadow Python's own and touch ``ran-...``."""
    from PIL import Image

    write_script(tmp_path)
    folder = tmp_path / "work"
    (folder / "pictures").mkdir(parents=True)
    for i, face in enumerate(render_faces(list(range(60)), 32)):
        Image.fromarray(face).save(folder / "pictures" / f"{i:03d}.png")
    for name in _SHADOWED:
        (folder / f"{name}.py").write_text(
            f"from os import getpid\nopen({str(folder)!r} + f'/ran-{name}-{{getpid()}}', 'w').close()\n"
            "raise ImportError('of the working folder')\n"
        )
    return folder


def start(
    folder: Path, *words: str, module: bool = False, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run ``bench`` in ``folder`` as the installed script does, or as ``python -m bench``."""
    first = ["-m", "bench"] if module else [str(folder.parent / "script" / "bench-script.py")]
    return subprocess.run(
        [sys.executable, *first, *words],
        cwd=folder,
        # Nothing of the tester's own: an empty entry of PYTHONPATH would be the working folder.
        env={
            **{k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"},
            "PYTHONPATH": str(ROOT),
            "XDG_CACHE_HOME": str(folder.parent / "cache"),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def traces(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("ran-*"))


def test_the_traps_spring(trapped: Path) -> None:
    """What follows could fail."""
    subprocess.run([sys.executable, "-c", "import signal"], cwd=trapped, capture_output=True, check=False)
    assert traces(trapped)


_JOBS = [
    *("run", "--preset", "smoke", "--size", "32", "--mask", "center", "--test-images", "2", "--no-pictures"),
    *("--jobs", "2"),
]


@pytest.mark.parametrize(
    ("words", "environment"),
    [
        (("data", "prepare", "--data", "pictures", "--size", "32"), {}),
        (("data", "info", "--data", "pictures", "--size", "32"), {"PYTHONSAFEPATH": ""}),
        pytest.param(
            (*_JOBS, "--data", "pictures", "--models", "mean,mean-image"), {}, marks=pytest.mark.long
        ),
    ],
    ids=["prepare", "info, variable empty", "jobs"],
)
def test_files_of_the_working_folder_are_not_run(
    trapped: Path, words: tuple[str, ...], environment: Mapping[str, str]
) -> None:
    done = start(trapped, *words, **environment)
    assert traces(trapped) == []
    assert done.returncode == 0, done.stderr


@pytest.mark.long
@pytest.mark.parametrize("module", [False, True], ids=["script", "python -m"])
def test_programs_and_model_files_of_the_user_find_their_neighbors_in_jobs(
    tmp_path: Path, module: bool
) -> None:
    """A program that is a Python script has its own folder on its path; a model file has what the run has on its."""
    folder = tmp_path / "work"
    folder.mkdir()
    write_script(tmp_path)
    (folder / "own_helper.py").touch()
    (folder / "fill.py").write_text(
        "import os, shutil, sys\nimport own_helper\nassert 'PYTHONSAFEPATH' not in os.environ\n"
        "shutil.copy(sys.argv[1], sys.argv[3])\n"
    )
    (folder / "fill.toml").write_text(
        f"command = [{sys.executable!r}, 'fill.py', '{{input}}', '{{mask}}', '{{output}}']\n"
    )
    source = template_source("test-unet")
    (folder / "unet.py").write_text(
        source.replace("\nimport torch\n", "\nimport own_helper\nimport torch\n", 1)
    )
    assert "own_helper" in (folder / "unet.py").read_text()
    # python -m has the working folder on its path by itself.
    path = {} if module else {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    words = [*_JOBS, "--images-seen", "8", "--train-images", "8", "--models-from", "unet.py"]
    done = start(folder, *words, "--models", "exec:fill.toml,test-unet", module=module, **path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("before", [None, "", "1", "inpaint-bench"])
def test_the_environment_is_as_it_was(monkeypatch: pytest.MonkeyPatch, before: str | None) -> None:
    if before is None:
        monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    else:
        monkeypatch.setenv("PYTHONSAFEPATH", before)
    with child_processes.isolated_start():
        assert os.environ["PYTHONSAFEPATH"]
        with child_processes.safe_path():
            assert os.environ["PYTHONSAFEPATH"] == (before or "inpaint-bench")
        assert os.environ["PYTHONSAFEPATH"]
    assert os.environ.get("PYTHONSAFEPATH") == before
    with pytest.raises(ZeroDivisionError), child_processes.safe_path():
        1 / 0  # noqa: B018
    assert os.environ.get("PYTHONSAFEPATH") == before


@pytest.mark.parametrize(("before", "after"), [(None, None), ("1", "1"), ("", None)])
def test_a_job_gives_its_programs_the_users_environment(
    monkeypatch: pytest.MonkeyPatch, before: str | None, after: str | None
) -> None:
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    if before is not None:
        monkeypatch.setenv("PYTHONSAFEPATH", before)
    with child_processes.safe_path():
        inherited = dict(os.environ)
    monkeypatch.setattr(os, "environ", inherited)
    child_processes.forget_safe_path()
    assert inherited.get("PYTHONSAFEPATH") == after


@pytest.mark.parametrize(
    ("settings", "trained", "isolated"),
    [
        ({"compile": True, "cuda_graphs": False}, True, True),
        ({"compile": False, "cuda_graphs": True}, True, True),
        ({"compile": False, "cuda_graphs": False}, True, False),
        # A program of the user's, which keeps the user's environment.
        ({"compile": True, "cuda_graphs": True}, False, False),
    ],
)
def test_networks_are_compiled_by_processes_that_see_no_working_folder(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, bool], trained: bool, isolated: bool
) -> None:
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    seen: list[bool] = []

    def look(*_: object, **__: object) -> Any:
        seen.append("PYTHONSAFEPATH" in os.environ)
        return SimpleNamespace(plan=plan, model=None)

    plan = SimpleNamespace(key="k", entry=SimpleNamespace(model=SimpleNamespace(trained=trained)))
    cell: Any = SimpleNamespace(training=plan, mask="center", samples=1, label="L")
    context = SimpleNamespace(
        request=SimpleNamespace(settings=SimpleNamespace(**settings)), compute=None, callbacks=None
    )
    prepared: Any = SimpleNamespace(context=context, metrics={}, sets=[])
    monkeypatch.setattr(work, "train_model", look)
    monkeypatch.setattr(work.evaluator, "evaluate_model", look)
    monkeypatch.setattr(work.CellComputer, "test_set", lambda *_: None)
    computer = work.CellComputer(prepared)
    computer.train(cell)
    computer.measure(cell, [])
    assert seen == [isolated, isolated]
    assert "PYTHONSAFEPATH" not in os.environ


def test_measurements_compile_so_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    monkeypatch.setattr(measure, "matrix_rate", lambda *_, **__: 1.0)
    monkeypatch.setattr(
        measure._Subject, "measure", lambda _: {"isolated": bool(os.environ.get("PYTHONSAFEPATH"))}
    )
    config = measure.PerfConfig(size=32, batch=2, preset="smoke", device="cpu", compile=True)
    assert measure.measure_models(["glcic"], config)["models"] == [{"isolated": True}]
    assert "PYTHONSAFEPATH" not in os.environ


def test_every_place_that_starts_processes_is_known() -> None:
    """A place that is added is looked at here: Python's processes see no working folder, the user's programs do."""
    starts = re.compile(
        r"^\s*(?:import|from) (?:subprocess|multiprocessing|concurrent)\b|\bos\.(?:exec|\w*spawn|system|popen)",
        re.MULTILINE,
    )
    known = {
        "bench/data/cache.py": "isolated_start",
        "bench/runner/local_jobs.py": "isolated_start",
        "bench/runner/slurm_jobs.py": "python -P, and squeue",
        "bench/training/data_loader.py": "threads",
        "bench/profiling/rehearsal.py": "threads",
        "bench/provenance.py": "git",
        "reports/pdf.py": "Chromium",
        "models/external_program.py": "a program that the user gives",
    }
    found = {
        str(path.relative_to(ROOT))
        for package in ("bench", "masks", "models", "reports")
        for path in (ROOT / package).rglob("*.py")
        if starts.search(path.read_text(encoding="utf-8"))
    }
    assert found == set(known)
