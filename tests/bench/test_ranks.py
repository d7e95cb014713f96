"""Many devices: two processes under ``torchrun`` (gloo, CPU) do what one does; a dying one ends the other."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import torch

import bench
from bench.training import checkpoint
from models.template import source
from reports.table import read_rows

UNET = ["bench", "run", "--models", "test-unet", "--models-from", "unet.py", "--preset", "smoke", "-q"]
REPOSITORY = Path(bench.__file__).parents[1]


def launch(folder: Path, command: list[str], processes: int) -> subprocess.CompletedProcess[str]:
    """``python -m bench ARGS`` in ``folder``, with one thread each, under torchrun where there are several."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
        "XDG_CACHE_HOME": str(folder / "cache"),
        "GLOO_SOCKET_IFNAME": "lo",
    }
    runner = [sys.executable, "-m"]
    if processes > 1:
        runner += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    return subprocess.run(
        [*runner, *command],
        check=False,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def weights(folder: Path, pattern: str) -> dict[str, torch.Tensor]:
    (training,) = folder.glob(f"runs/ranks/trainings/{pattern}")
    state = checkpoint.newest(training)
    assert state is not None
    networks: dict[str, torch.Tensor] = state["networks"]
    return networks


def test_two_processes_train_and_evaluate_as_one_does(tmp_path: Path, pictures_dir: Path) -> None:
    """The user's U-Net has batch-norm, GLCIC draws a crop for every image: both see the global batch."""
    arguments = [
        "bench",
        "run",
        "--models",
        "test-unet,glcic",
        "--data",
        str(pictures_dir),
        "--preset",
        "smoke",
    ]
    arguments += ["--precision", "fp32", "--name", "ranks", "--size", "64", "--images-seen", "20", "-q"]
    folders = {}
    for processes in (1, 2):
        folder = folders[processes] = tmp_path / str(processes)
        folder.mkdir()
        (folder / "unet.py").write_text(source("test-unet"))
        done = launch(folder, [*arguments, "--models-from", "unet.py"], processes)
        assert done.returncode == 0, done.stderr[-3000:]
        # One rank alone writes and prints.
        assert done.stdout.count("report: ") == 1
        assert len(list(folder.glob("runs/ranks/trainings/*"))) == 2
        assert not list(folder.glob("runs/ranks/**/.*.tmp"))
    for model in ("test-unet-*", "glcic-*"):
        one, two = weights(folders[1], model), weights(folders[2], model)
        for name, value in one.items():
            torch.testing.assert_close(
                two[name], value, rtol=1e-3, atol=2e-4, msg=lambda m, n=name: f"{n}: {m}"
            )
    for cell in folders[1].glob("runs/ranks/cells/*"):
        (same,) = folders[2].glob(f"runs/ranks/cells/{cell.name[:-12]}*")
        left, right = read_rows(cell / "results.parquet"), read_rows(same / "results.parquet")
        pd.testing.assert_frame_equal(left, right, rtol=1e-2, check_dtype=False)


def test_a_process_that_dies_ends_the_other_within_a_minute_and_its_error_is_shown(
    tmp_path: Path, pictures_dir: Path
) -> None:
    text = source("test-unet")
    dying = (
        "        import os\n\n        if os.environ.get('RANK') == '1' and batch.step == 2:\n"
        "            raise ValueError('rank one had enough')\n"
    )
    text = text.replace("        known = batch", f"{dying}        known = batch")
    (tmp_path / "unet.py").write_text(text)
    began = time.monotonic()
    done = launch(
        tmp_path,
        [*UNET, "--data", str(pictures_dir)],
        2,
    )
    assert done.returncode != 0
    assert "rank one had enough" in done.stderr
    assert time.monotonic() - began < 60 + 60  # starting two interpreters is in it


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path: Path, pictures_dir: Path) -> None:
    (tmp_path / "unet.py").write_text(source("test-unet"))
    done = launch(
        tmp_path,
        [*UNET, "--data", str(pictures_dir), "--batch", "3"],
        2,
    )
    assert done.returncode != 0
    assert "--batch 3: cannot be shared equally by 2 processes; give a multiple" in done.stderr
