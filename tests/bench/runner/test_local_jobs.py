"""``--jobs``: trainings side by side give the numbers of one after the other; failures and signals stay apart."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from bench.runner import local_jobs
from bench.runner.prepare import prepare_run
from bench.runner.run import run_experiment
from bench.runner.work import open_units
from bench.training.device import Compute
from models.template import template_source
from tests.bench.runner.test_run import Recorder, request, rows
from tests.forked_command import ForkedCommand


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As many threads as each of two jobs on two cores has."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.long
def test_two_jobs_give_the_numbers_of_none(
    workplace: Path, pictures_dir: Path, unet: Path, one_thread: None
) -> None:
    asked = request(pictures_dir, ("test-unet", "mean"), models_from=(str(unet),), seeds=(0, 1), name="alone")
    alone = run_experiment(asked, Recorder())
    callbacks = Recorder()
    torch.set_num_threads(2)
    together = run_experiment(replace(asked, name="together", jobs=2), callbacks)
    assert torch.get_num_threads() == 1
    assert together.failed == 0
    assert len(callbacks.trained) == 2  # in the jobs, and not again here
    pd.testing.assert_frame_equal(rows(alone.store), rows(together.store), check_exact=True)
    names = [sorted(p.name for p in o.store.folder.glob("trainings/*")) for o in (alone, together)]
    assert names[0] == names[1]  # the same keys


@pytest.mark.long
def test_a_failing_job_leaves_the_others_alone(workplace: Path, pictures_dir: Path, unet: Path) -> None:
    broken = workplace / "broken.py"
    text = template_source("test-broken").replace(
        "        known = batch", "        raise ValueError('cannot go on')\n        known = batch"
    )
    broken.write_text(text)
    callbacks = Recorder()
    asked = request(pictures_dir, ("test-broken", "test-unet"), models_from=(str(unet), str(broken)))
    outcome = run_experiment(replace(asked, jobs=2), callbacks)
    assert outcome.failed == 1
    assert callbacks.failed == ["Test Broken on center: ValueError: cannot go on"]
    manifest = outcome.store.read_manifest()
    assert manifest is not None
    assert {c["model"]: c["status"] for c in manifest["cells"]} == {
        "test-broken": "failed",
        "test-unet": "done",
    }
    (failed,) = (c for c in manifest["cells"] if c["status"] == "failed")
    assert "Traceback" in failed["error"]


@pytest.mark.long
def test_what_does_not_fit_beside_others_is_trained_alone(
    workplace: Path, pictures_dir: Path, unet: Path, one_thread: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine has room for one job at a time: never two at once."""
    monkeypatch.setattr(local_jobs, "free_bytes", lambda _: 1.0)
    events: list[str] = []

    class Watching(Recorder):
        def training_started(self, label: str, index: int, of: int, num_steps: int) -> None:
            events.append("started")

        def training_done(self, label: str, seconds: float) -> None:
            events.append("done")

    asked = request(pictures_dir, ("test-unet",), models_from=(str(unet),), seeds=(0, 1))
    assert run_experiment(replace(asked, jobs=2), Watching()).failed == 0
    assert events == ["started", "done"] * 2


def test_a_job_on_a_gpu_is_counted_with_the_images_that_it_keeps_there(
    workplace: Path, pictures_dir: Path, unet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare_run(request(pictures_dir, ("test-unet",), models_from=(str(unet),)), Recorder())
    (unit,) = open_units(prepared, dict.fromkeys(cell.key for cell in prepared.plan.cells))
    settings, pixels = prepared.context.request.settings, prepared.context.data.train.pixels
    images = pixels[: settings.train_images].nbytes
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 0)

    def needed(free: int, share: float) -> float:
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 2**40))
        compute = Compute(torch.device("cuda", 0), "fp32", memory_share=share)
        return local_jobs._Memory(replace(prepared.context, compute=compute)).needed(unit)

    # Kept where they take less than half of what one job may plan with.
    room, none = needed(2 * images + 2, 1.0), needed(2 * images, 1.0)
    assert room - none == images
    assert needed(2 * images + 2, 0.5) == none


@pytest.fixture
def slow_jobs(workplace: Path, pictures_dir: Path) -> list[str]:
    """A command of two jobs that take a while."""
    path = workplace / "slow.py"
    slow = "        import time\n\n        time.sleep(0.2)\n"
    path.write_text(
        template_source("slow-unet").replace("        known = batch", f"{slow}        known = batch")
    )
    command = ["run", "--models", "slow-unet", "--models-from", str(path)]
    command += [
        "--data",
        str(pictures_dir),
        "--preset",
        "smoke",
        "--seeds",
        "0,1",
        "--jobs",
        "2",
        "--name",
        "j",
    ]
    return [*command, "--images-seen", "400", "--test-images", "4"]


def wait_for_logs(workplace: Path) -> None:
    deadline = time.monotonic() + 480
    while len(list(workplace.glob("runs/j/trainings/*/train.jsonl"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)


@pytest.mark.long
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_checkpoints_every_job_and_the_same_command_goes_on(
    workplace: Path, slow_jobs: list[str], signum: signal.Signals, code: int
) -> None:
    process = ForkedCommand(slow_jobs)
    wait_for_logs(workplace)
    process.send_signal(signum)
    _, said = process.communicate(timeout=480)
    assert process.returncode == code, said
    assert "stopped with a checkpoint of every training; give the same command again" in said
    assert len(list(workplace.glob("runs/j/trainings/*/checkpoint-*.pt"))) >= 2
    assert "Traceback" not in said


@pytest.mark.long
def test_no_job_outlives_a_killed_run(workplace: Path, slow_jobs: list[str]) -> None:
    process = ForkedCommand(slow_jobs, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_logs(workplace)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) >= 2
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{child}").exists() for child in children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_jobs_and_torchrun_are_not_given_together(pictures_dir: Path, workplace: Path) -> None:
    from bench.errors import UsageError
    from bench.runner import prepare
    from bench.training.device import Compute
    from bench.training.distributed import ProcessGroup

    many = Compute(torch.device("cpu"), "fp32", ProcessGroup(0, 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "select_device", lambda *_, **__: many)
        with pytest.raises(UsageError, match="--jobs trains on one device, torchrun on many"):
            run_experiment(replace(request(pictures_dir, ("mean",)), jobs=2), Recorder())
