"""What is handed to submitit, without a Slurm; ``tests/cluster`` has the real one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.runner import slurm
from bench.runner.callbacks import RunCallbacks
from bench.runner.run_folder import RunFolder
from bench.runner.slurm import read_slurm_config
from bench.runner.work import WorkUnit
from tests.bench.cli.test_cli import error_of


class Executor:
    """Stands for submitit's, and keeps what it is given."""

    given: dict[str, Any]

    def __init__(self, **_: Any) -> None:
        self.jobs = 0

    def update_parameters(self, **parameters: Any) -> None:
        Executor.given = parameters

    @contextmanager
    def batch(self) -> Iterator[None]:
        yield

    def submit(self, process: slurm.UnitProcess) -> SimpleNamespace:
        self.jobs += 1
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


def test_a_batch_is_not_chosen_by_the_memory_of_the_head(workplace: Path) -> None:
    (workplace / "slurm.toml").write_text('partition = "gpu"\n')
    said = error_of("run", "--on", "slurm.toml", "--batch", "auto")
    assert "--batch auto: with --on, this machine plans and another trains; give a number" in said
