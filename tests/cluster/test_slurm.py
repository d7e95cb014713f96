"""Units of work on a real Slurm of two nodes on loopback: no mocks.

Scenarios are few and long, since each starts Python on the nodes anew. The first three run in CI, all of them in
``nox -s cluster``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch

from models.template import template_source
from tests.cluster.slurm_cluster import SlurmCluster, missing_programs, slurm_cluster

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(missing_programs()), reason="needs slurmctld, slurmd and slurm-client"),
]

_FOUR = ["--models", "context-encoder,glcic,pconv,mgs-iim", "--preset", "smoke", "--test-images", "4"]
_LOSS = "        error = (completion.raw"


def slow_model() -> str:
    """The example model with a pause in every step, so that there is time to kill what trains it."""
    source = template_source("slow-unet").replace(_LOSS, f"        time.sleep(0.15)\n{_LOSS}")
    return source.replace("import annotations\n", "import annotations\n\nimport time\n", 1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    with slurm_cluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture
def shared(tmp_path: Path, cluster: SlurmCluster) -> Path:
    """A folder that head and nodes share, with the launcher's settings."""
    (tmp_path / "slurm.toml").write_text(
        'partition = "main"\ncpus_per_task = 1\ntimeout_min = 30\nlead_seconds = 30\npoll_seconds = 0.5\n'
    )
    (tmp_path / "slow.py").write_text(slow_model())
    return tmp_path


def environment(cluster: SlurmCluster, folder: Path) -> dict[str, str]:
    repository = str(Path(__file__).resolve().parents[2])
    return {
        **os.environ,
        **cluster.environment,
        "PYTHONPATH": repository,
        "XDG_CACHE_HOME": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
    }


def bench(cluster: SlurmCluster, folder: Path, *words: str) -> subprocess.Popen[str]:
    """Start a head."""
    return subprocess.Popen(
        [sys.executable, "-m", "bench", *words],
        cwd=folder,
        env=environment(cluster, folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(process: subprocess.Popen[str], *, code: int = 0, seconds: float = 900) -> str:
    """Wait for a head and return what it printed."""
    printed, _ = process.communicate(timeout=seconds)
    assert process.returncode == code, printed
    return printed


def weights(folder: Path, name: str) -> dict[str, dict[str, torch.Tensor]]:
    """Weights of every training of an experiment, by the training's folder."""
    found = {}
    for path in sorted(folder.glob(f"runs/{name}/trainings/*/checkpoint-*.pt")):
        state = torch.load(path, map_location="cpu", weights_only=True)
        found[path.parent.name] = state["networks"]
    return found


def assert_equal_weights(
    first: dict[str, dict[str, torch.Tensor]], second: dict[str, dict[str, torch.Tensor]]
) -> None:
    assert list(first) == list(second)
    for training, networks in first.items():
        assert all(torch.equal(value, second[training][key]) for key, value in networks.items()), training


def losses(folder: Path, name: str) -> list[object]:
    (log,) = folder.glob(f"runs/{name}/trainings/*/train.jsonl")
    return [json.loads(line).get("terms") for line in log.read_text().splitlines()]


def rows(folder: Path, name: str) -> pd.DataFrame:
    files = sorted(folder.glob(f"runs/{name}/cells/*/results.parquet"))
    return pd.concat([pd.read_parquet(f) for f in files], ignore_index=True)


def wait_for(condition: object, *, seconds: float = 600.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.2)


def logged_steps(folder: Path, name: str) -> int:
    logs = list(folder.glob(f"runs/{name}/trainings/*/train.jsonl"))
    return max(
        (json.loads(log.read_text().splitlines()[-1])["step"] for log in logs if log.read_text()), default=0
    )


def release(cluster: SlurmCluster) -> None:
    """Let requeued jobs start at once: Slurm holds them for two minutes."""
    for line in cluster.run("squeue", "-h", "-r", "-t", "PENDING", "-o", "%i").split():
        cluster.run("scontrol", "update", f"jobid={line}", "starttime=now")


def test_the_four_models_give_the_weights_of_a_local_run(cluster: SlurmCluster, shared: Path) -> None:
    remote = bench(cluster, shared, "run", *_FOUR, "--name", "remote", "--on", "slurm.toml")
    printed = finished(remote)
    assert "submitted 4 units" in printed
    finished(bench(cluster, shared, "run", *_FOUR, "--name", "local"))
    assert_equal_weights(weights(shared, "remote"), weights(shared, "local"))
    pd.testing.assert_frame_equal(rows(shared, "remote"), rows(shared, "local"))


def slow(name: str, *words: str) -> list[str]:
    """A training of sixty steps of about a fifth of a second, with a checkpoint every other step."""
    model = ["--models", "slow-unet", "--models-from", "slow.py", "--preset", "smoke", "--test-images", "4"]
    return [
        "run",
        *model,
        "--images-seen",
        "240",
        "--batch",
        "4",
        "--checkpoint-every",
        "2",
        "--name",
        name,
        *words,
    ]


def test_a_killed_node_and_a_killed_head_change_no_loss(cluster: SlurmCluster, shared: Path) -> None:
    head = bench(cluster, shared, *slow("remote", "--on", "slurm.toml"))
    wait_for(lambda: logged_steps(shared, "remote") >= 12)
    head.send_signal(signal.SIGKILL)
    head.communicate()

    node = cluster.run("squeue", "-h", "-t", "RUNNING", "-o", "%N").split()[0]
    cluster.kill_node(node)
    jobs = json.loads((shared / "runs/remote/jobs.json").read_text())
    head = bench(cluster, shared, *slow("remote", "--on", "slurm.toml"))
    wait_for(lambda: "RUNNING" not in cluster.run("squeue", "-h", "-o", "%T"))
    cluster.start_node(node)
    deadline = time.monotonic() + 900
    while head.poll() is None and time.monotonic() < deadline:
        release(cluster)
        time.sleep(1)
    finished(head)
    assert json.loads((shared / "runs/remote/jobs.json").read_text()) == jobs, "submitted anew"

    finished(bench(cluster, shared, *slow("local")))
    assert_equal_weights(weights(shared, "remote"), weights(shared, "local"))
    assert losses(shared, "remote") == losses(shared, "local")


def test_a_unit_that_raises_fails_alone(cluster: SlurmCluster, shared: Path) -> None:
    source = template_source("broken-unet")
    (shared / "broken.py").write_text(
        source.replace(_LOSS, f'        raise RuntimeError("no such loss")\n{_LOSS}')
    )
    words = [
        "--models",
        "mean,broken-unet",
        "--models-from",
        "broken.py",
        "--preset",
        "smoke",
        "--test-images",
        "4",
    ]
    printed = finished(bench(cluster, shared, "run", *words, "--name", "x", "--on", "slurm.toml"), code=1)
    assert "no such loss" in printed
    manifest = json.loads((shared / "runs/x/manifest.json").read_text())
    assert {c["model"]: c["status"] for c in manifest["cells"]} == {"mean": "done", "broken-unet": "failed"}


@pytest.mark.slow
def test_a_worker_with_other_threads_is_refused_by_name(cluster: SlurmCluster, shared: Path) -> None:
    head = bench(cluster, shared, *slow("x", "--on", "slurm.toml"))
    wait_for(lambda: logged_steps(shared, "x") >= 8)
    head.send_signal(signal.SIGINT)
    assert "the jobs go on in the queue" in finished(head, code=130)
    cluster.run("scancel", "--full", "-u", "root" if os.geteuid() == 0 else os.environ["USER"])
    cluster.wait_until("empty")
    (key,) = json.loads((shared / "runs/x/jobs.json").read_text())
    command = ["work", "--request", "runs/x/request.json", "--what", key, "--models-from", "slow.py"]
    other = {**environment(cluster, shared), "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-m", "bench", *command],
        cwd=shared,
        env=other,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "was begun on another machine (threads" in done.stderr
    assert "--mixed" in done.stderr


@pytest.mark.slow
def test_a_job_that_is_killed_without_a_trace_is_noticed(cluster: SlurmCluster, shared: Path) -> None:
    head = bench(cluster, shared, *slow("x", "--on", "slurm.toml"))
    wait_for(lambda: logged_steps(shared, "x") >= 8)
    for process in cluster.processes_of_jobs():
        os.kill(process, signal.SIGKILL)
    printed = finished(head)
    assert "vanished from the queue without an outcome" in printed
    finished(bench(cluster, shared, *slow("local")))
    assert_equal_weights(weights(shared, "x"), weights(shared, "local"))


@pytest.mark.slow
def test_a_time_limit_checkpoints_and_goes_on(cluster: SlurmCluster, shared: Path) -> None:
    text = (shared / "slurm.toml").read_text().replace("timeout_min = 30", "timeout_min = 1")
    (shared / "slurm.toml").write_text(text.replace("lead_seconds = 30", "lead_seconds = 45"))
    head = bench(cluster, shared, *slow("x", "--images-seen", "800", "--on", "slurm.toml"))
    deadline = time.monotonic() + 1500
    while head.poll() is None and time.monotonic() < deadline:
        release(cluster)
        time.sleep(1)
    printed = finished(head)
    assert "pending" in printed, "the limit was never reached"
    finished(bench(cluster, shared, *slow("local", "--images-seen", "800")))
    assert_equal_weights(weights(shared, "x"), weights(shared, "local"))
