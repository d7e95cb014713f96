"""Fifty kills: whenever SIGKILL strikes, the same command ends with the undisturbed run's weights and results."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
import torch

import bench
from bench.training import checkpoint
from reports.results.schema import read_rows

KILLS = 50
RUN = Path("runs") / "stress"


class Driver:
    """A process that runs the experiment in children of its own."""

    def __init__(self, data: Path, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        repository = str(Path(bench.__file__).parents[1])
        cache = {"XDG_CACHE_HOME": str(folder.parent / "cache"), "PYTHONPATH": repository}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.runner.stress_driver", str(data), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=repository,
            env={**os.environ, **threads, **cache},
        )

    def run(self, kind: str = "undisturbed", number: float = 0) -> int:
        """Run until the end or the moment; the exit code (-9: killed)."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([kind, number]) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        self._process.communicate(timeout=60)


def outcome(folder: Path) -> tuple[dict[str, torch.Tensor], pd.DataFrame, list[object]]:
    """Weights, rows, and the losses told in the log."""
    (training,) = (folder / RUN / "trainings").iterdir()
    state = checkpoint.newest_checkpoint(training)
    assert state is not None
    assert state["complete"]
    assert state["optimizers"] == {}
    (cell,) = (folder / RUN / "cells").iterdir()
    lines = [json.loads(text) for text in (training / "train.jsonl").read_text().splitlines()]
    told = [(line["step"], line.get("terms"), line.get("validation")) for line in lines]
    return state["networks"], read_rows(cell / "results.parquet"), told


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_at_fifty_moments_the_run_ends_bit_identical(tmp_path: Path, pictures_dir: Path) -> None:
    random.seed(5)
    driver = Driver(pictures_dir, tmp_path / "undisturbed")
    began = time.monotonic()
    assert driver.run() == 0
    seconds = time.monotonic() - began
    driver.close()
    weights, rows, told = outcome(tmp_path / "undisturbed")

    driver = Driver(pictures_dir, tmp_path / "killed")
    moments = {
        "time": lambda: random.uniform(0, seconds),
        "step": lambda: random.randint(1, 12),
        "phase": lambda: 0,
        "checkpoint write": lambda: random.randint(1, 400),
        "checkpoint closed": lambda: random.randint(1, 8),
        "rename": lambda: random.randint(1, 24),
        "removal": lambda: random.randint(1, 24),
    }
    kills: Counter[str] = Counter()
    finished, turn = 0, 0
    while kills.total() < KILLS or (driver.folder / RUN).exists():
        kind = list(moments)[turn % len(moments)] if kills.total() < KILLS else "undisturbed"
        turn += 1
        code = driver.run(kind, moments[kind]() if kind in moments else 0)
        assert code in (0, -9)
        if code:
            kills[kind] += 1
            continue
        finished += 1
        found, found_rows, found_told = outcome(driver.folder)
        assert all(torch.equal(found[name], value) for name, value in weights.items())
        pd.testing.assert_frame_equal(found_rows, rows, check_exact=True)
        assert found_told == told
        shutil.rmtree(driver.folder / RUN)
    driver.close()
    sys.stdout.write(f"{kills.total()} kills ({dict(kills)}), {finished} runs finished, each bit-identical\n")
    assert all(kills[kind] for kind in moments)
