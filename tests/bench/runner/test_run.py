"""The main job: what is trained, what is taken from the run folder, what a failure or a kill leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from filelock import FileLock

from bench.config import Request, resolve_config
from bench.errors import UsageError
from bench.profiling.peak_memory import PeakMemory
from bench.runner.callbacks import RunCallbacks
from bench.runner.ownership import LOST_SECONDS
from bench.runner.run import run_experiment
from bench.runner.run_folder import OWNER, BusyError, RunFolder
from bench.runner.status import folder_owner
from bench.training.device import select_device
from models.template import template_source
from reports.render import render_report
from tests.forked_command import ForkedCommand


class Recorder(RunCallbacks):
    """Remembers what a run told."""

    def __init__(self) -> None:
        self.trained: list[str] = []
        self.failed: list[str] = []
        self.cached = 0

    def planned(self, trainings: int, cells: int, cached: int, estimate: object) -> None:
        self.cached = cached

    def training_started(self, label: str, index: int, of: int, num_steps: int) -> None:
        self.trained.append(label)

    def cell_failed(self, label: str, mask: str, reason: str) -> None:
        self.failed.append(f"{label} on {mask}: {reason}")


def request(pictures: Path, models: tuple[str, ...], **changes: Any) -> Request:
    fields = {k: changes.pop(k) for k in ("masks", "models_from", "name", "model_options") if k in changes}
    settings = resolve_config("smoke", {"images_seen": 16, **changes})
    return Request(
        models=models, masks=fields.pop("masks", ("center",)), data=str(pictures), settings=settings, **fields
    )


def rows(store: RunFolder) -> pd.DataFrame:
    manifest = store.read_manifest()
    assert manifest is not None
    done = [c for c in manifest["cells"] if c["status"] == "done"]
    return pd.concat([pd.read_parquet(store.folder / c["folder"] / "results.parquet") for c in done])


@pytest.mark.long
def test_the_papers_four_and_the_fills_on_the_same_images(workplace: Path, pictures_dir: Path) -> None:
    names = ("context-encoder", "glcic", "pconv", "mgs-iim", "mean", "mean-image", "linear", "biharmonic")
    outcome = run_experiment(request(pictures_dir, names), Recorder())
    assert outcome.failed == 0
    table = rows(outcome.store)
    assert list(table["model"].unique()) == list(names)
    assert len({tuple(g["image_id"]) for _, g in table.groupby("model")}) == 1
    assert (table["hole_ratio"] == 0.25).all()
    assert table["psnr_db"].between(5, 50).all()
    assert "PConv (no perceptual/style)" in set(table["label"])


def test_the_same_command_again_computes_nothing(workplace: Path, pictures_dir: Path, unet: Path) -> None:
    asked = request(pictures_dir, ("test-unet", "mean"), models_from=(str(unet),))
    first, second = Recorder(), Recorder()
    before = rows(run_experiment(asked, first).store)
    after = rows(run_experiment(asked, second).store)
    assert (first.trained, second.trained, second.cached) == (["Test Unet"], [], 2)
    pd.testing.assert_frame_equal(before, after)


def test_masks_share_one_training_on_the_papers_mixture(
    workplace: Path, pictures_dir: Path, unet: Path
) -> None:
    callbacks = Recorder()
    masks = ("center", "random-rect", "freeform")
    outcome = run_experiment(
        request(pictures_dir, ("test-unet",), masks=masks, models_from=(str(unet),)), callbacks
    )
    table = rows(outcome.store)
    assert callbacks.trained == ["Test Unet"]
    assert set(table["mask"]) == set(masks)
    assert set(table["train_mask"]) == {"paper"}


def test_a_training_says_what_it_cost(workplace: Path, pictures_dir: Path, unet: Path) -> None:
    store = run_experiment(request(pictures_dir, ("test-unet",), models_from=(str(unet),)), Recorder()).store
    (training,) = store.folder.glob("trainings/*/training.json")
    record = json.loads(training.read_text())
    assert record["images_per_second"] > 0
    assert record["parameters"]["generator"] > 0
    assert (record["peak_memory_mb"] is None) == (sys.platform != "linux")


@pytest.mark.skipif(sys.platform != "linux", reason="told by /proc")
def test_peak_memory_is_what_the_process_grew_by() -> None:
    compute = select_device("cpu", "fp32")
    memory = PeakMemory(compute)
    block = torch.ones(256, 2**18)
    del block
    peak = memory.mebibytes()
    assert peak is not None
    assert 250 < peak < 300
    after = PeakMemory(compute).mebibytes()
    assert after is not None
    assert after < 50


def test_settings_can_be_chosen_on_validation_images_alone(
    workplace: Path, pictures_dir: Path, unet: Path
) -> None:
    asked = request(
        pictures_dir, ("test-unet",), models_from=(str(unet),), evaluate_on="validation", name="choice"
    )
    store = run_experiment(asked, Recorder()).store
    held_out = set(rows(store)["image_id"])
    tested = run_experiment(request(pictures_dir, ("test-unet",), models_from=(str(unet),)), Recorder()).store
    assert held_out
    assert not held_out & set(rows(tested)["image_id"])
    text = render_report(store.folder, workplace / "page", pictures=False).read_text(encoding="utf-8")
    assert f"{len(held_out)} validation image" in text
    assert "for choosing settings by" in text
    with pytest.raises(UsageError, match="evaluate_on differ"):
        run_experiment(
            request(pictures_dir, ("test-unet",), models_from=(str(unet),), name="choice"), Recorder()
        )


def test_seeds_are_trained_each_and_fills_once(workplace: Path, pictures_dir: Path, unet: Path) -> None:
    callbacks = Recorder()
    asked = request(pictures_dir, ("test-unet", "mean"), seeds=(0, 1), models_from=(str(unet),))
    table = rows(run_experiment(asked, callbacks).store)
    assert callbacks.trained == ["Test Unet"] * 2
    assert {m: set(g["seed"]) for m, g in table.groupby("model")} == {"test-unet": {0, 1}, "mean": {0}}
    by_seed = table[table["model"] == "test-unet"].groupby("seed")["psnr_db"].mean()
    assert by_seed[0] != by_seed[1]


def test_adding_a_model_keeps_what_is_done(workplace: Path, pictures_dir: Path, unet: Path) -> None:
    run_experiment(request(pictures_dir, ("test-unet",), name="grown", models_from=(str(unet),)), Recorder())
    callbacks = Recorder()
    asked = request(pictures_dir, ("test-unet", "mean"), name="grown", models_from=(str(unet),))
    outcome = run_experiment(asked, callbacks)
    assert callbacks.trained == []
    assert set(rows(outcome.store)["model"]) == {"test-unet", "mean"}


def test_a_changed_option_is_another_training(workplace: Path, pictures_dir: Path, unet: Path) -> None:
    callbacks = Recorder()
    for width in (4, 6):
        asked = request(
            pictures_dir,
            ("test-unet",),
            name="one",
            models_from=(str(unet),),
            model_options={"test-unet": {"width": width}},
        )
        run_experiment(asked, callbacks)
    assert len(callbacks.trained) == 2


def test_a_failing_model_is_recorded_and_the_others_go_on(
    workplace: Path, pictures_dir: Path, unet: Path
) -> None:
    broken = workplace / "broken.py"
    text = template_source("broken-unet").replace(
        "error = (completion.raw", "raise RuntimeError('boom')\n        error = (raw"
    )
    broken.write_text(text)
    callbacks = Recorder()
    models_from = (str(broken), str(unet))
    outcome = run_experiment(
        request(pictures_dir, ("broken-unet", "test-unet"), models_from=models_from), callbacks
    )
    assert outcome.failed == 1
    assert callbacks.failed == ["Broken Unet on center: RuntimeError: boom"]
    manifest = outcome.store.read_manifest()
    assert manifest is not None
    status = {c["model"]: (c["status"], c["error"]) for c in manifest["cells"]}
    assert status["test-unet"][0] == "done"
    assert "RuntimeError: boom" in status["broken-unet"][1]
    assert "Traceback" in status["broken-unet"][1]


def test_a_file_that_does_not_import_fails_alone(workplace: Path, pictures_dir: Path) -> None:
    broken = workplace / "broken.py"
    broken.write_text(template_source("import-unet").replace("import torch\n", "import no_such_module\n", 1))
    callbacks = Recorder()
    outcome = run_experiment(
        request(pictures_dir, ("import-unet", "mean"), models_from=(str(broken),)), callbacks
    )
    assert outcome.failed == 1
    assert "no_such_module" in callbacks.failed[0]
    assert set(rows(outcome.store)["model"]) == {"mean"}


def test_a_cell_that_does_not_apply_is_listed_not_failed(workplace: Path, pictures_dir: Path) -> None:
    asked = request(pictures_dir, ("context-encoder",), masks=("random-rect",), train_mask="center")
    outcome = run_experiment(asked, Recorder())
    assert outcome.failed == 0
    manifest = outcome.store.read_manifest()
    assert manifest is not None
    (cell,) = manifest["cells"]
    assert cell["status"] == "not-applicable"
    assert cell["reason"]


def test_a_size_or_mask_that_does_not_fit_is_a_cell_that_does_not_apply(
    workplace: Path, pictures_dir: Path
) -> None:
    asked = request(pictures_dir, ("context-encoder", "mean"), masks=("center", "eyes"), size=48)
    outcome = run_experiment(asked, Recorder())
    assert outcome.failed == 0
    manifest = outcome.store.read_manifest()
    assert manifest is not None
    found = {(c["model"], c["mask"]): (c["status"], c["reason"]) for c in manifest["cells"]}
    assert found["mean", "center"][0] == "done"
    assert found["context-encoder", "center"][0] == "not-applicable"
    assert "48 x 48 pixels: Context Encoder's layers fit" in found["context-encoder", "center"][1]
    assert found["mean", "eyes"][0] == "not-applicable"
    assert "not aligned faces" in found["mean", "eyes"][1]


def test_not_a_number_fails_the_cell_with_its_step(workplace: Path, pictures_dir: Path) -> None:
    path = workplace / "nan.py"
    path.write_text(
        template_source("nan-unet").replace(
            "hole, valid = (error * batch.mask).mean()",
            'hole, valid = (error * batch.mask).mean() * (float("nan") if batch.step >= 2 else 1)',
        )
    )
    callbacks = Recorder()
    outcome = run_experiment(request(pictures_dir, ("nan-unet",), models_from=(str(path),)), callbacks)
    assert outcome.failed == 1
    assert "loss of the generator is not finite at step 2" in callbacks.failed[0]


@pytest.mark.parametrize(("fault", "says"), [("nan", "NaN"), ("inf", "infinite numbers")])
def test_an_output_that_is_not_finite_fails_the_cell_instead_of_being_scored(
    workplace: Path, pictures_dir: Path, monkeypatch: pytest.MonkeyPatch, fault: str, says: str
) -> None:
    """Where evaluation alone meets it: the losses and the weights are finite, and nothing is validated."""
    monkeypatch.setattr("bench.runner.train._validator", lambda *_: None)
    path = workplace / "overflow.py"
    path.write_text(
        template_source("overflow-unet").replace(
            "return Completion(raw,",
            f'raw = raw if self.networks.training else raw + float("{fault}")\n        return Completion(raw,',
        )
    )
    callbacks = Recorder()
    outcome = run_experiment(request(pictures_dir, ("overflow-unet",), models_from=(str(path),)), callbacks)
    assert outcome.failed == 1
    assert f"Overflow Unet on center: the model's output holds {says}" in callbacks.failed[0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"size": 48}, "--size 48: context-encoder"),
        ({"model_options": {"context-encoder": {"widht": 3}}}, "no option 'widht'; did you mean 'width'"),
        ({"model_options": {"glcic": {"width": 3}}}, "--set glcic"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(
    workplace: Path, pictures_dir: Path, change: dict[str, Any], says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        run_experiment(request(pictures_dir, ("context-encoder",), **change), Recorder())
    assert not (workplace / "runs").exists()


def test_one_name_holds_one_set_up(workplace: Path, pictures_dir: Path) -> None:
    run_experiment(request(pictures_dir, ("mean",), name="held"), Recorder())
    with pytest.raises(UsageError, match=r"another set-up \(size, data differ\)"):
        run_experiment(request(pictures_dir, ("mean",), name="held", size=32), Recorder())


def test_a_second_run_is_told_who_holds_the_folder(workplace: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys\nfrom bench.runner.run_folder import RunFolder\n"
            "with RunFolder('busy'): print('held', flush=True); sys.stdin.read()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    try:
        with (
            pytest.raises(BusyError, match=f"in use by another run \\(process {holder.pid} on .+\\)"),
            RunFolder("busy"),
        ):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with RunFolder("busy"):  # a killed holder leaves nothing in the way
        pass


def test_a_run_on_another_machine_keeps_the_folder_until_its_heart_stops(workplace: Path) -> None:
    """Over NFS a lock of the operating system may not be seen by other machines."""
    folder = RunFolder("far")
    folder.folder.mkdir(parents=True)
    owner = folder.folder / OWNER
    owner.write_text(json.dumps({"host": "login2", "process": 4711, "started": "1"}))
    with pytest.raises(BusyError, match=r"in use by another run \(process 4711 on login2\)"), folder:
        pass
    assert str(folder_owner(folder.folder)) == "process 4711 on login2"
    os.utime(owner, (time.time() - LOST_SECONDS - 60,) * 2)
    assert folder_owner(folder.folder) is None
    with folder:
        assert str(folder_owner(folder.folder)) == f"process {os.getpid()} on {socket.gethostname()}"
    assert folder_owner(folder.folder) is None


def test_a_container_that_bears_this_machines_name_keeps_the_folder(workplace: Path) -> None:
    """Its processes are not seen here, so they look lost; its lock is seen."""
    folder = RunFolder("contained")
    folder.folder.mkdir(parents=True)
    other = {"host": socket.gethostname(), "process": 1, "started": "of another boot"}
    (folder.folder / OWNER).write_text(json.dumps(other))
    with FileLock(folder.folder / ".lock"):
        assert str(folder_owner(folder.folder)) == f"process 1 on {socket.gethostname()}"
        with pytest.raises(BusyError, match="process 1 on"), folder:
            pass
    assert folder_owner(folder.folder) is None


def _command(pictures: Path, unet: Path) -> list[str]:
    return [
        "run",
        "--preset",
        "smoke",
        "--models",
        "test-unet,mean",
        "--models-from",
        str(unet),
        "--data",
        str(pictures),
        "--name",
        "killed",
        "--steps-per-phase",
        "40",
        "--checkpoint-every",
        "1",
        "--quiet",
    ]


@pytest.mark.long
def test_killed_runs_end_with_the_table_of_an_undisturbed_one(
    workplace: Path, pictures_dir: Path, unet: Path
) -> None:
    command = _command(pictures_dir, unet)
    undisturbed, disturbed = workplace / "undisturbed", workplace / "disturbed"
    for folder in (undisturbed, disturbed):
        folder.mkdir()
    assert (
        ForkedCommand(command, cwd=undisturbed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).wait()
        == 0
    )
    for steps in (3, 17, 33):
        process = ForkedCommand(command, cwd=disturbed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and _last_step(disturbed) < steps:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not list(disturbed.glob("runs/killed/cells/test-unet*/cell.json"))
    assert (
        ForkedCommand(command, cwd=disturbed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).wait()
        == 0
    )
    expected, found = (rows(RunFolder("killed", folder)) for folder in (undisturbed, disturbed))
    pd.testing.assert_frame_equal(expected, found, check_exact=True)
    assert (disturbed / "reports/killed/index.html").is_file()


def _last_step(folder: Path) -> int:
    steps = [int(p.name.split("-")[1]) for p in folder.glob("runs/killed/trainings/*/checkpoint-*.pt")]
    return max(steps, default=0)


def test_a_removed_checkpoint_is_trained_again_not_made_up(
    workplace: Path, pictures_dir: Path, unet: Path
) -> None:
    asked = request(pictures_dir, ("test-unet",), models_from=(str(unet),))
    outcome = run_experiment(asked, Recorder())
    expected = rows(outcome.store)
    for path in outcome.store.folder.glob("trainings/*/checkpoint-*.pt"):
        path.unlink()
    for path in outcome.store.folder.glob("cells/*/cell.json"):
        path.unlink()
    callbacks = Recorder()
    again = rows(run_experiment(asked, callbacks).store)
    assert callbacks.trained == ["Test Unet"]
    pd.testing.assert_frame_equal(expected, again, check_exact=True)


def test_the_manifest_says_where_numbers_come_from(workplace: Path, pictures_dir: Path) -> None:
    store = run_experiment(request(pictures_dir, ("mean",)), Recorder()).store
    manifest = json.loads(store.manifest_path.read_text())
    assert manifest["data"]["fingerprint"]
    assert manifest["masks"]["center"]["digest"]
    assert manifest["software"]["torch"]
    assert manifest["hardware"]["threads"]
    assert manifest["cells"][0]["training"] is None


def test_cells_that_were_stored_are_written_into_the_manifest_once(
    workplace: Path, pictures_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head that collects 500 finished units must not write 500 manifests."""
    asked = request(pictures_dir, ("mean", "mean-image"), masks=("center", "half"), name="kept")
    store = run_experiment(asked, Recorder()).store
    write, written = RunFolder.write_manifest, []

    def counting(self: RunFolder, manifest: dict[str, Any]) -> None:
        written.append([(c["model"], c["mask"]) for c in manifest["cells"]])
        write(self, manifest)

    monkeypatch.setattr(RunFolder, "write_manifest", counting)
    assert run_experiment(asked, Recorder()).failed == 0
    assert len(written) == 3  # opened, planned, finished: none for a cell
    (folder,) = store.folder.glob("cells/mean-image-half-*")
    shutil.rmtree(folder)
    kept = store.read_manifest()
    assert kept is not None
    write(store, {**kept, "cells": []})  # as after a head that was killed before it collected
    written.clear()
    assert run_experiment(asked, Recorder()).failed == 0
    missing = ("mean-image", "half")
    # Opened, planned, all that is stored before the missing one is computed, that one at once, finished.
    assert [len(cells) for cells in written] == [0, 0, 3, 4, 4]
    assert missing not in written[2]
    manifest = store.read_manifest()
    assert manifest is not None
    assert len(manifest["cells"]) == 4
