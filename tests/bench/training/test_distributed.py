"""Many devices: two processes under ``torchrun`` (gloo, CPU) do what one does; a dying one ends the other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import bench
from bench.cli import cli
from bench.errors import UsageError
from bench.training.data_loader import TrainingDataLoader
from bench.training.device import Compute
from bench.training.distributed import ProcessGroup
from models.template import template_source
from reports.results.schema import read_rows

UNET = ["bench", "run", "--models", "test-unet", "--models-from", "unet.py", "--preset", "smoke", "-q"]
REPOSITORY = Path(bench.__file__).parents[1]


def start(folder: Path, command: list[str], processes: int) -> subprocess.Popen[str]:
    """``python -m COMMAND`` in ``folder``, with one thread each, under torchrun where there are several."""
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
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [*runner, *command], cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True
    )


def launch(folder: Path, command: list[str], processes: int) -> subprocess.CompletedProcess[str]:
    """The same, to its end."""
    process = start(folder, command, processes)
    out, errors = process.communicate(timeout=300)
    return subprocess.CompletedProcess(command, process.returncode, out, errors)


@pytest.mark.long
def test_gradients_and_running_statistics_are_those_of_one_process(tmp_path: Path) -> None:
    """All four models, every phase and network, batch-norm in training mode: exact but for rounding in float64."""
    done = launch(tmp_path, ["tests.bench.training.distributed_driver", str(tmp_path / "found.json")], 2)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found) == 12
    assert max(found.values()) < 1e-9, found


@pytest.mark.long
def test_two_processes_train_and_evaluate_as_one_does(workplace: Path, pictures_dir: Path) -> None:
    """Through the command line, in float32: the first losses agree to 1e-4, the scores to 0.1 dB."""
    asked = [*UNET, "--data", str(pictures_dir), "--precision", "fp32", "--images-seen", "20"]
    asked += ["--test-images", "all"]
    (workplace / "unet.py").write_text(template_source("test-unet"))
    many = launch(workplace, [*asked, "--name", "many"], 2)
    assert many.returncode == 0, many.stderr[-3000:]
    assert many.stdout.count("report: ") == 1  # one rank alone prints
    assert not list(workplace.glob("runs/many/**/.*.tmp"))
    one = CliRunner().invoke(cli, [*asked[1:], "--name", "one"], catch_exceptions=False)
    assert one.exit_code == 0, one.stderr
    logs, rows = {}, {}
    for name in ("one", "many"):
        (log,) = workplace.glob(f"runs/{name}/trainings/*/train.jsonl")
        logs[name] = [json.loads(line) for line in log.read_text().splitlines()]
        (results,) = workplace.glob(f"runs/{name}/cells/*/results.parquet")
        rows[name] = read_rows(results)
    assert [line["step"] for line in logs["one"]] == [line["step"] for line in logs["many"]]
    assert logs["many"][0]["terms"] == pytest.approx(logs["one"][0]["terms"], rel=1e-4)
    assert rows["many"]["image_id"].tolist() == rows["one"]["image_id"].tolist()
    assert float((rows["many"]["psnr_db"] - rows["one"]["psnr_db"]).abs().max()) < 0.1


def test_a_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(
        UsageError, match="--batch 3: cannot be shared equally by 2 processes; give a multiple"
    ):
        TrainingDataLoader(
            np.zeros((4, 8, 8, 3), np.uint8),
            np.zeros((1, 8), np.uint8),
            batch_size=3,
            seed=0,
            flips=False,
            compute=Compute(torch.device("cpu"), "fp32", ProcessGroup(rank=0, world_size=2)),
        )


@pytest.mark.slow
def test_a_process_that_dies_ends_the_other_within_a_minute_and_its_error_is_shown(
    tmp_path: Path, pictures_dir: Path
) -> None:
    text = template_source("test-unet")
    dying = (
        "        import os\n\n        if os.environ.get('RANK') == '1' and batch.step == 2:\n"
        "            raise ValueError('rank one had enough')\n"
    )
    text = text.replace("        known = batch", f"{dying}        known = batch")
    (tmp_path / "unet.py").write_text(text)
    began = time.monotonic()
    done = launch(tmp_path, [*UNET, "--data", str(pictures_dir)], 2)
    assert done.returncode != 0
    assert "rank one had enough" in done.stderr
    assert time.monotonic() - began < 60 + 60  # starting two interpreters is in it


@pytest.mark.slow
def test_a_signal_checkpoints_and_the_same_command_goes_on(tmp_path: Path, pictures_dir: Path) -> None:
    slow = "        import time\n\n        time.sleep(0.05)\n"
    (tmp_path / "unet.py").write_text(
        template_source("test-unet").replace("        known = batch", f"{slow}        known = batch")
    )
    command = [*UNET, "--data", str(pictures_dir), "--name", "ranks", "--images-seen", "800"]
    process = start(tmp_path, command, 2)
    deadline = time.monotonic() + 120
    logs = "runs/ranks/trainings/*/train.jsonl"
    while not any(log.stat().st_size for log in tmp_path.glob(logs)) and time.monotonic() < deadline:
        time.sleep(0.1)  # until both have taken a step
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "give the same command again to continue" in errors
    (saved,) = tmp_path.glob("runs/ranks/trainings/*/checkpoint-*.pt")
    step = int(saved.name.split("-")[1])
    assert 0 < step < 200
    done = launch(tmp_path, command, 2)
    assert done.returncode == 0, done.stderr[-3000:]
    (log,) = tmp_path.glob("runs/ranks/trainings/*/train.jsonl")
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines() if "terms" in line]
    assert steps == sorted(set(steps))
    assert steps[-1] == 200
