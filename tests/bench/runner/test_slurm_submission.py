"""What is handed to submitit, without a Slurm; ``tests/cluster`` has the real one."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.config import Request, resolve_config
from bench.errors import BenchError, UsageError
from bench.runner import data_job, slurm
from bench.runner.callbacks import RunCallbacks
from bench.runner.run_folder import RunFolder
from bench.runner.slurm_jobs import SlurmConfig, UnitProcess, read_slurm_config
from bench.runner.work import WorkUnit
from tests.bench.cli.test_cli import bench, error_of


class Executor:
    """Stands for submitit's, and keeps what it is given."""

    made: dict[str, Any]
    given: dict[str, Any]
    commands: list[list[str]]

    def __init__(self, **parameters: Any) -> None:
        self.jobs = 0
        Executor.made = parameters
        Executor.commands = []

    def update_parameters(self, **parameters: Any) -> None:
        Executor.given = parameters

    @contextmanager
    def batch(self) -> Iterator[None]:
        yield

    def submit(self, process: UnitProcess) -> SimpleNamespace:
        self.jobs += 1
        Executor.commands.append(process.command)
        return SimpleNamespace(job_id=f"7_{self.jobs - 1}")


@pytest.mark.parametrize(
    ("text", "setup"),
    [
        ('setup = ["module load cuda"]', ["module load cuda"]),
        ('slurm_setup = ["export A=1"]', ["export A=1"]),
        ('setup = ["module load cuda"]\nslurm_setup = ["export A=1"]', ["module load cuda", "export A=1"]),
    ],
)
def test_both_spellings_of_setup_reach_the_job(
    text: str, setup: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitit = pytest.importorskip("submitit")
    monkeypatch.setattr(submitit, "AutoExecutor", Executor)
    monkeypatch.setattr(slurm, "read_queue", dict)
    monkeypatch.setattr(slurm, "portable_request", lambda _: (None, tmp_path))
    monkeypatch.setattr(slurm, "write_request", lambda *_: tmp_path / "request.json")
    (tmp_path / "slurm.toml").write_text(f'partition = "gpu"\n{text}\n')
    context = SimpleNamespace(
        store=RunFolder("x", tmp_path),
        callbacks=RunCallbacks(),
        request=SimpleNamespace(models=(), models_from=()),
    )
    prepared: Any = SimpleNamespace(context=context)
    units = [WorkUnit("0" * 64, "glcic-center-seed0", "GLCIC", (), 10)]
    slurm._Watch(prepared, units, read_slurm_config(tmp_path / "slurm.toml"))
    assert Executor.given["slurm_setup"] == setup
    assert Executor.given["slurm_partition"] == "gpu"
    assert Executor.given["slurm_signal_delay_s"] == 120
    assert shlex.split(Executor.made["slurm_python"])[1:] == ["-P"]
    assert Executor.commands[-1][1:5] == ["-P", "-m", "bench", "work"]


def test_a_batch_is_not_chosen_by_the_memory_of_the_head(workplace: Path) -> None:
    (workplace / "slurm.toml").write_text('partition = "gpu"\n')
    said = error_of("run", "--on", "slurm.toml", "--batch", "auto")
    assert "--batch auto: with --on, this machine plans and another trains; give a number" in said


_GPU = SlurmConfig(
    {"partition": "gpu", "gres": "gpu:1", "slurm_gpus_per_task": 1, "cpus_per_task": 8}, poll_seconds=0
)


def smoke(**fields: Any) -> Request:
    return Request(models=("mean",), masks=("center",), settings=resolve_config("smoke"), **fields)


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, str]]:
    """What the queue lists at each look, the last for ever; the images are never decoded unless a test does it."""
    submitit = pytest.importorskip("submitit")
    monkeypatch.setattr(submitit, "AutoExecutor", Executor)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    looks: list[dict[str, str]] = [{}]
    monkeypatch.setattr(data_job, "read_queue", lambda name: looks.pop(0) if len(looks) > 1 else looks[0])
    Executor.commands = []
    return looks


def test_the_images_are_decoded_by_a_job_without_gpus(
    queue: list[dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = iter([False, True])
    monkeypatch.setattr(data_job, "is_prepared", lambda _: next(decoded))
    store = RunFolder("x", tmp_path)
    data_job.prepare_data_by_job(smoke(data="faces", allow_unreadable=True), _GPU, store, RunCallbacks())
    (command,) = Executor.commands
    # Without the working folder, whose random.py a job would import otherwise.
    assert command[1:6] == ["-P", "-m", "bench", "data", "prepare"]
    assert command[6:] == [
        *("--data", "faces", "--size", "64", "--crop", "center", "--split", "auto", "--allow-unreadable")
    ]
    assert Executor.given["slurm_partition"] == "gpu"
    assert Executor.given["cpus_per_task"] == 8
    assert not [key for key in Executor.given if "gres" in key or "gpus" in key]


@pytest.mark.long
def test_decoded_images_need_no_job(queue: list[dict[str, str]], tmp_path: Path) -> None:
    assert bench("data", "prepare", "--data", "faces", "--preset", "smoke").exit_code == 0
    data_job.prepare_data_by_job(smoke(data="faces"), _GPU, RunFolder("x", tmp_path), RunCallbacks())
    assert not Executor.commands
    assert not (tmp_path / "runs").exists()


def test_a_job_that_is_decoding_is_waited_for(
    queue: list[dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue[:] = [{"12": "PENDING (Resources)"}, {"12": "RUNNING"}, {}]
    decoded = iter([False, True])
    monkeypatch.setattr(data_job, "is_prepared", lambda _: next(decoded))
    heard: list[str] = []
    callbacks = RunCallbacks()
    monkeypatch.setattr(callbacks, "note", heard.append)
    data_job.prepare_data_by_job(smoke(data="faces"), _GPU, RunFolder("x", tmp_path), callbacks)
    assert not Executor.commands
    assert heard == ["job 12 is decoding the images already", "images: job 12 running"]


@pytest.mark.parametrize(
    ("output", "error", "said"),
    [
        ("faces: 1,000 pictures ready at 32 x 32\n", "", "XDG_CACHE_HOME to a folder that all machines see"),
        ("", "Traceback\nerror: disk full\n", "ended without them (log {log}): error: disk full"),
        ("", None, "ended without them (log {log})"),
    ],
)
def test_a_job_that_left_no_images_is_an_error(
    output: str, error: str | None, said: str, queue: list[dict[str, str]], tmp_path: Path
) -> None:
    store = RunFolder("x", tmp_path)
    log = store.folder / "jobs" / "7_0_0_log.err"
    log.parent.mkdir(parents=True)
    if error is not None:
        log.write_text(error)
        log.with_suffix(".out").write_text(output)
    with pytest.raises(BenchError) as caught:
        data_job.prepare_data_by_job(smoke(data="faces"), _GPU, store, RunCallbacks())
    assert str(caught.value).startswith("job 7_0")
    assert said.format(log=log) in str(caught.value)


def test_the_job_of_the_images_has_settings_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "slurm.toml").write_text(
        'partition = "gpu"\ngres = "gpu:1"\narray_parallelism = 4\ntimeout_min = 720\n'
        '[data]\npartition = "cpu"\ncpus_per_task = 16\n'
    )
    config = read_slurm_config(tmp_path / "slurm.toml")
    assert config.parameters["gres"] == "gpu:1"
    assert config.for_data().parameters == {"partition": "cpu", "timeout_min": 720, "cpus_per_task": 16}


def test_a_misspelled_table_of_slurm_toml_is_named(workplace: Path) -> None:
    (workplace / "slurm.toml").write_text('partition = "gpu"\n[dta]\npartition = "cpu"\n')
    with pytest.raises(UsageError, match=r"\[dta\] is not known; did you mean 'data'"):
        read_slurm_config(Path("slurm.toml"))
