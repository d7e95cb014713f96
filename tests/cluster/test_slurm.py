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
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch

from bench.runner.unit_status import read_jobs
from models.template import template_source
from tests.cluster.slurm_cluster import SlurmCluster, missing_programs, slurm_cluster

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(bool(missing_programs()), reason="needs slurmctld, slurmd and slurm-client"),
]

_FOUR = ["--models", "context-encoder,glcic,pconv,mgs-iim", "--preset", "smoke", "--test-images", "4"]
_LOSS = "        error = (completion.raw"
#: Seconds that a step of the slow model pauses, so that there is time to kill what trains it; not part of its code.
_PAUSE = "SLOW_UNET_SECONDS"


def slow_model() -> str:
    """The example model with a pause in every step."""
    pause = f'        time.sleep(float(os.environ.get("{_PAUSE}", "0")))\n'
    source = template_source("slow-unet").replace(_LOSS, f"{pause}{_LOSS}")
    return source.replace("import annotations\n", "import annotations\n\nimport os\nimport time\n", 1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    with slurm_cluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, cluster: SlurmCluster) -> Callable[[], Path]:
    """The slow training without Slurm and without pauses: started at once; the call waits for it."""
    folder = tmp_path_factory.mktemp("reference")
    (folder / "slow.py").write_text(slow_model())
    process = bench(cluster, folder, *slow("local"), pause=0)

    def wait() -> Path:
        if process.returncode is None:
            finished(process)
        return folder

    return wait


@pytest.fixture
def shared(tmp_path: Path, cluster: SlurmCluster) -> Iterator[Path]:
    """A folder that head and nodes share, with the launcher's settings; no job outlives the test."""
    (tmp_path / "slurm.toml").write_text(
        'partition = "main"\ncpus_per_task = 1\ntimeout_min = 30\nlead_seconds = 30\npoll_seconds = 0.5\n'
    )
    (tmp_path / "slow.py").write_text(slow_model())
    yield tmp_path
    cluster.cancel_jobs()
    cluster.wait_until("idle")


def environment(cluster: SlurmCluster, folder: Path, pause: float = 0.2) -> dict[str, str]:
    repository = str(Path(__file__).resolve().parents[2])
    return {
        **os.environ,
        **cluster.environment,
        "PYTHONPATH": repository,
        "XDG_CACHE_HOME": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
        _PAUSE: str(pause),
    }


def bench(cluster: SlurmCluster, folder: Path, *words: str, pause: float = 0.2) -> subprocess.Popen[str]:
    """Start a head; jobs inherit its environment."""
    return subprocess.Popen(
        [sys.executable, "-m", "bench", *words],
        cwd=folder,
        env=environment(cluster, folder, pause),
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


def wait_for(condition: Callable[[], bool], *, head: subprocess.Popen[str], seconds: float = 600.0) -> None:
    """Wait for something that happens while ``head`` runs."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert head.poll() is None, head.communicate()[0]
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.2)


def logged_steps(folder: Path, name: str) -> int:
    logs = list(folder.glob(f"runs/{name}/trainings/*/train.jsonl"))
    return max(
        (json.loads(log.read_text().splitlines()[-1])["step"] for log in logs if log.read_text()), default=0
    )


def finished_with_releases(cluster: SlurmCluster, head: subprocess.Popen[str]) -> str:
    """Wait for a head while jobs that Slurm holds back are released, and return what it printed."""
    deadline = time.monotonic() + 900
    while head.poll() is None and time.monotonic() < deadline:
        cluster.release_jobs()
        time.sleep(1)
    return finished(head, seconds=1)


def test_the_four_models_give_the_weights_of_a_local_run(cluster: SlurmCluster, shared: Path) -> None:
    remote = bench(cluster, shared, "run", *_FOUR, "--name", "remote", "--on", "slurm.toml")
    # Only then, or the local run might decode the images first.
    wait_for(lambda: any(shared.glob("runs/remote/jobs/*")), head=remote)
    local = bench(cluster, shared, "run", *_FOUR, "--name", "local")
    printed = finished(remote)
    assert "which decodes the images before the units are planned" in printed
    assert "submitted 4 units" in printed
    finished(local)
    assert len(weights(shared, "remote")) == 4
    assert_equal_weights(weights(shared, "remote"), weights(shared, "local"))
    pd.testing.assert_frame_equal(rows(shared, "remote"), rows(shared, "local"))


def slow(name: str, *words: str) -> list[str]:
    """A training of sixty steps, with a checkpoint every other step."""
    model = ["--models", "slow-unet", "--models-from", "slow.py", "--preset", "smoke", "--test-images", "4"]
    budget = ["--images-seen", "240", "--batch", "4", "--checkpoint-every", "2"]
    return ["run", *model, *budget, "--name", name, *words]


def test_a_killed_node_and_a_killed_head_change_no_loss(
    cluster: SlurmCluster, shared: Path, reference: Callable[[], Path]
) -> None:
    head = bench(cluster, shared, *slow("remote", "--on", "slurm.toml"))
    wait_for(lambda: logged_steps(shared, "remote") >= 12, head=head)
    head.send_signal(signal.SIGKILL)
    head.communicate()
    submitted = read_jobs(shared / "runs/remote")

    node = cluster.run("squeue", "-h", "-t", "RUNNING", "-o", "%N").split()[0]
    cluster.kill_node(node)
    before = logged_steps(shared, "remote")
    assert before < 60, "nothing was interrupted"
    head = bench(cluster, shared, *slow("remote", "--on", "slurm.toml"))
    wait_for(lambda: "RUNNING" not in cluster.run("squeue", "-h", "-o", "%T"), head=head)
    printed = finished_with_releases(cluster, head)
    cluster.start_node(node)
    assert "submitted" not in printed
    (job,), (found,) = (
        [entry["job"] for entry in jobs.values()] for jobs in (submitted, read_jobs(shared / "runs/remote"))
    )
    assert job == found

    assert_equal_weights(weights(shared, "remote"), weights(reference(), "local"))
    assert losses(shared, "remote") == losses(reference(), "local")


@pytest.mark.slow
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
    wait_for(lambda: logged_steps(shared, "x") >= 8, head=head)
    head.send_signal(signal.SIGINT)
    assert "the jobs go on in the queue" in finished(head, code=130)
    assert cluster.run("squeue", "-h").strip(), "the job ended with the head"
    cluster.cancel_jobs()
    (key,) = read_jobs(shared / "runs/x")
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
    assert done.returncode == 1, done.stderr
    assert "was begun on another machine (threads" in done.stderr
    assert "--mixed" in done.stderr


@pytest.mark.slow
def test_a_job_that_is_killed_without_a_trace_is_noticed(
    cluster: SlurmCluster, shared: Path, reference: Callable[[], Path]
) -> None:
    head = bench(cluster, shared, *slow("x", "--on", "slurm.toml"))
    wait_for(lambda: logged_steps(shared, "x") >= 8, head=head)
    for process in cluster.processes_of_jobs():
        os.kill(process, signal.SIGKILL)
    assert "vanished from the queue without an outcome" in finished(head)
    assert_equal_weights(weights(shared, "x"), weights(reference(), "local"))


@pytest.mark.slow
def test_a_time_limit_checkpoints_and_goes_on(
    cluster: SlurmCluster, shared: Path, reference: Callable[[], Path]
) -> None:
    """The only checkpoint is the one that the limit asks for: Slurm signals up to a minute before it is due."""
    text = (shared / "slurm.toml").read_text().replace("timeout_min = 30", "timeout_min = 2")
    (shared / "slurm.toml").write_text(text)
    words = slow("x", "--checkpoint-every", "100000", "--on", "slurm.toml")
    head = bench(cluster, shared, *words, pause=1.5)
    # One job from the first step to the last: requeued, not submitted again.
    printed = finished_with_releases(cluster, head)
    assert "vanished" not in printed
    said = "".join(log.read_text() for log in shared.glob("runs/x/jobs/*_log.err"))
    assert "stopped after step" in said, "the limit was never reached"
    assert "resumes at step" in said
    assert_equal_weights(weights(shared, "x"), weights(reference(), "local"))
    assert losses(shared, "x") == losses(reference(), "local")
