"""What a run folder survives: damage, other set-ups under one name, repaired models, left-out pictures, full disks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

import masks.bank
from bench.config import Request
from bench.errors import BenchError, DiskError, UsageError
from bench.runner.plan import train_mask_names, train_masks_for
from bench.runner.run import run_experiment
from bench.runner.run_folder import RunFolder, read_manifest
from bench.training import checkpoint
from bench.training.data_loader import StepBatches
from bench.training.metric_logger import NonFiniteLossError
from bench.training.phase_schedule import Intervals
from bench.training.signals import InterruptedTrainingError
from bench.training.train_log import MARK, TrainLog
from models.base import Batch
from models.template import template_source
from reports.render import render_report
from reports.results.experiment import load_experiment
from reports.results.manifest import SEAL, manifest_checksum
from reports.results.recorded_files import mask_file_name
from tests.bench.runner.test_run import Recorder, request, rows
from tests.bench.runner.toy_model import toy_trainer, weights
from tests.forked_command import ForkedCommand


class Warned(Recorder):
    def __init__(self) -> None:
        super().__init__()
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("pattern", "damage"),
    [
        ("cells/test-unet*/results.parquet", truncate),
        ("cells/test-unet*/results.parquet", Path.unlink),
        ("cells/test-unet*/cell.json", truncate),
        ("cells/test-unet*/pictures.npz", truncate),
        ("pictures/center.npz", truncate),
        ("trainings/*/training.json", truncate),
        ("trainings/*/train.jsonl", truncate),
    ],
)
def test_the_same_command_mends_a_damaged_file(
    finished: Request, pattern: str, damage: Callable[[Path], None]
) -> None:
    store = RunFolder("kept")
    expected = rows(store)
    (path,) = store.folder.glob(pattern)
    damage(path)
    if pattern.startswith("trainings"):  # make the training be looked at again
        for cell in store.folder.glob("cells/test-unet*/cell.json"):
            cell.unlink()
    callbacks = Warned()
    again = run_experiment(finished, callbacks)
    assert again.failed == 0
    pd.testing.assert_frame_equal(expected, rows(again.store), check_exact=True)
    if pattern.startswith("cells"):
        assert any("evaluating Test Unet on center again" in w for w in callbacks.warnings)
        assert callbacks.trained == []


@pytest.mark.parametrize("text", ["{", '{"schema": 1}', "[]", '{"schema": 1, "cells": {}}'])
def test_a_damaged_manifest_is_one_clear_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(text)
    with pytest.raises(BenchError, match=r"manifest\.json"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"learning_rate": 0.01}, "learning_rate"),
        ({"flips": False}, "flips"),
        ({"train_images": 16}, "train_images"),
        ({"micro_batch": 2}, "micro_batch"),
        ({"mask_bank": 99}, "mask_bank"),
    ],
)
def test_one_name_holds_one_way_of_training(
    workplace: Path, pictures_dir: Path, change: dict[str, object], field: str
) -> None:
    run_experiment(request(pictures_dir, ("mean",), name="held"), Recorder())
    with pytest.raises(UsageError, match=f"another set-up .*{field}"):
        run_experiment(request(pictures_dir, ("mean-image",), name="held", **change), Recorder())


def test_the_manifest_names_all_that_the_cells_hold(workplace: Path, pictures_dir: Path) -> None:
    run_experiment(request(pictures_dir, ("mean",), name="grown"), Recorder())
    store = run_experiment(
        request(pictures_dir, ("mean-image",), name="grown", masks=("half",)), Recorder()
    ).store
    manifest = store.read_manifest()
    assert manifest is not None
    assert manifest["settings"]["models"] == ["mean", "mean-image"]
    assert manifest["settings"]["masks"] == ["center", "half"]
    assert all(cell["where"]["torch"] for cell in manifest["cells"])


def test_a_fill_is_one_cell_whatever_seeds_are_asked_for(workplace: Path, pictures_dir: Path) -> None:
    run_experiment(request(pictures_dir, ("mean",), name="seeds"), Recorder())
    table = rows(
        run_experiment(request(pictures_dir, ("mean",), name="seeds", seeds=(1, 2)), Recorder()).store
    )
    assert set(table["seed"]) == {0}
    assert table["image_id"].is_unique


def test_a_mixture_does_not_depend_on_the_order_of_its_names(workplace: Path, pictures_dir: Path) -> None:
    spelled = [
        request(pictures_dir, ("mean",), train_mask=t) for t in ("center+half", "half+center", "half,center")
    ]
    assert {train_masks_for(r, "center") for r in spelled} == {"center+half"}
    banks = [
        masks.bank.draw_bank(train_mask_names(n), 6, 32, 0).digest for n in ("center+half", "half+center")
    ]
    assert banks[0] == banks[1]
    named = request(pictures_dir, ("mean",), train_mask="shapes+center+random-rect")
    assert train_masks_for(named, "center") == "paper"


def test_a_repaired_model_is_no_longer_failed(workplace: Path, pictures_dir: Path) -> None:
    path = workplace / "mended.py"
    sound = template_source("mended-unet")
    asked = request(pictures_dir, ("mended-unet",), models_from=(str(path),), name="mended")
    for text, status in (
        (sound.replace("import torch\n", "import nothing_there\n", 1), "failed"),
        (sound, "done"),
    ):
        path.write_text(text)
        sys.modules.pop("inpaint_bench_user_mended", None)
        manifest = run_experiment(asked, Recorder()).store.read_manifest()
        assert manifest is not None
        assert [c["status"] for c in manifest["cells"]] == [status]


def test_pictures_that_were_left_out_can_be_had_later(
    workplace: Path, pictures_dir: Path, unet: Path
) -> None:
    import dataclasses

    asked = request(pictures_dir, ("test-unet",), models_from=(str(unet),))
    store = run_experiment(dataclasses.replace(asked, pictures=False), Recorder()).store
    assert not list(store.folder.glob("**/*.npz"))
    callbacks = Recorder()
    run_experiment(asked, callbacks)
    assert len(list(store.folder.glob("**/*.npz"))) == 2
    assert callbacks.trained == []


def test_mask_folders_never_share_a_file() -> None:
    names = ["files:/x/a_b", "files:/x/a/b", "files:/" + "y" * 80 + "/m", "files:/z" + "y" * 80 + "/m"]
    assert len({mask_file_name(n) for n in names}) == 4
    assert mask_file_name("irregular-10-20-border") == "irregular-10-20-border"
    assert all(len(mask_file_name(n)) <= 60 and "/" not in mask_file_name(n) for n in names)


@pytest.mark.parametrize("step", [5, 11])
def test_a_signal_stops_the_run_also_in_the_last_step(tmp_path: Path, step: int) -> None:
    trainer = toy_trainer(tmp_path, intervals=Intervals(report=4))
    batches = trainer.batches

    def signalling(at: int) -> Batch:
        if at == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return batches(at)

    trainer.batches = StepBatches(4, signalling)
    with pytest.raises(InterruptedTrainingError) as stop:
        trainer.train()
    assert stop.value.exit_code == 143
    state = checkpoint.newest_checkpoint(tmp_path)
    assert state is not None
    assert state["complete"] == (step == 11)
    toy_trainer(tmp_path, intervals=Intervals(report=4)).train()


def test_weights_that_are_not_finite_are_never_kept(tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, intervals=Intervals(report=4))
    advance = trainer.train_step.run

    def spoil(phase, batch):  # type: ignore[no-untyped-def]
        advance(phase, batch)
        if batch.step == 11:  # the loss of this step was finite; what it did to the weights is not
            next(trainer.model.networks["generator"].parameters()).data.fill_(float("inf"))

    trainer.train_step.run = spoil  # type: ignore[method-assign]
    with pytest.raises(NonFiniteLossError, match="weights of the generator are not finite after step 11"):
        trainer.train()
    assert checkpoint.newest_checkpoint(tmp_path) is None


def test_seconds_go_on_over_a_resume(tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, intervals=Intervals(report=100, checkpoint=3))
    batches = trainer.batches

    def slow(at: int) -> Batch:
        time.sleep(0.02)
        if at == 7:
            raise KeyboardInterrupt
        return batches(at)

    trainer.batches = StepBatches(4, slow)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    state = checkpoint.newest_checkpoint(tmp_path)
    assert state is not None
    assert state["step"] == 6
    assert state["metric_logger"]["seconds"] >= 6 * 0.02


def test_a_cut_off_line_of_the_log_is_passed_over(tmp_path: Path) -> None:
    log = TrainLog(tmp_path / "train.jsonl")
    log.write({"step": 1, "terms": {}})
    with log.path.open("a") as file:
        file.write('{"step": 2, "ter')
    assert log.read() == [{"step": 1, "terms": {}}]
    log.rewind(0)
    assert log.read() == []


def _half(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[len(lines) // 2 :]))


def _of_another(path: Path, *names: str) -> None:
    """Put the log of another training, and the mark that vouches for it, in their place."""
    other = path.parent.with_name("test-unet-0123456789ab")
    other.mkdir()
    text = path.read_text().replace('"seconds": 0', '"seconds": 9')
    assert text != path.read_text()
    (other / path.name).write_text(text)
    TrainLog(other / path.name).sync()
    for name in names:
        (other / name).replace(path.with_name(name))
    shutil.rmtree(other)


@pytest.mark.parametrize("copied", [["train.jsonl", MARK], ["train.jsonl"], [MARK]])
def test_a_log_of_another_training_is_incomplete(tmp_path: Path, copied: list[str]) -> None:
    """While a training stands still; the mark of its own log, and marks of earlier versions, vouch for it."""
    logs = [TrainLog(tmp_path / name / "train.jsonl") for name in ("glcic-seed0-ab", "glcic-seed1-cd")]
    for number, log in enumerate(logs):
        log.path.parent.mkdir()
        for step in range(1, 7):
            log.write({"step": step, "seconds": number, "terms": {"l1": step / 2 + number}})
        log.sync()
    before = logs[0].path.read_bytes()
    logs[0].rewind(6)
    assert (logs[0].lost_before, logs[0].path.read_bytes()) == (None, before)
    mark = json.loads(logs[0].path.with_name(MARK).read_text())
    earlier = {name: value for name, value in mark.items() if name not in ("training", SEAL)}
    logs[0].path.with_name(MARK).write_text(json.dumps({**earlier, SEAL: manifest_checksum(earlier)}))
    logs[0].rewind(6)
    assert (logs[0].lost_before, logs[0].path.read_bytes()) == (None, before)
    for name in copied:
        shutil.copy2(tmp_path / "glcic-seed1-cd" / name, tmp_path / "glcic-seed0-ab" / name)
    logs[0].rewind(6)
    assert logs[0].lost_before == 6
    if len(copied) == 2:
        assert logs[0].read() == []
    elif copied == [MARK]:
        assert logs[0].path.read_bytes() == before
    # For good: what is logged from here on vouches for itself alone.
    logs[0].write({"step": 7, "seconds": 0, "terms": {"l1": 3.5}})
    logs[0].sync()
    logs[0].rewind(7)
    assert logs[0].lost_before == 6


def _folder_elsewhere(log: Path) -> None:
    place = log.parents[2] / "scratch"
    log.parent.rename(place)
    log.parent.symlink_to(place, target_is_directory=True)


def _log_elsewhere(log: Path) -> None:
    (place := log.parents[2] / "logs").mkdir()
    log.rename(place / log.name)
    log.symlink_to(place / log.name)


def _folder_back(log: Path) -> None:
    """As ``cp -rL``, which copies what links lead to."""
    shutil.copytree(log.parent, copy := log.parents[2] / "copy")
    log.parent.unlink()
    copy.rename(log.parent)


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize(
    "moves", [[_folder_elsewhere], [_log_elsewhere], [_folder_elsewhere, _folder_back], [_log_elsewhere] * 2]
)
def test_a_log_that_lies_elsewhere_is_its_trainings_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: list[Callable[[Path], None]], absolute: bool
) -> None:
    """On another disk, linked, and in the end back: no line is lost, and one that is lost stays lost."""
    monkeypatch.chdir(tmp_path)
    log = TrainLog((tmp_path if absolute else Path()) / "trainings" / "glcic-seed0-ab" / "train.jsonl")
    log.path.parent.mkdir(parents=True)
    for step in range(1, 7):
        log.write({"step": step, "seconds": 0, "terms": {"l1": step / 2}})
    log.sync()
    before = log.path.read_bytes()
    for move in moves:
        shutil.rmtree(tmp_path / "logs", ignore_errors=True)
        move(tmp_path / log.path)
        for _ in range(2):
            log.rewind(6)
            assert (log.lost_before, log.path.read_bytes()) == (None, before)
        log.sync()
    _half(log.path)
    log.rewind(6)
    log.sync()
    log.rewind(6)
    assert (log.lost_before, len(log.read())) == (6, 3)


LOG_DAMAGE: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "its first half": _half,
    "cut": truncate,
    "one byte": lambda path: path.write_bytes(path.read_bytes().replace(b'"step": 2', b'"step\xff 2', 1)),
    "edited": lambda path: path.write_bytes(path.read_bytes().replace(b'"step": 2', b'"step": 1', 1)),
    "gone, with what vouches for it": lambda path: (path.unlink(), path.with_name(MARK).unlink()),
    "its first half, without what vouches for it": lambda path: (_half(path), path.with_name(MARK).unlink()),
    "cut, and what vouches for it too": lambda path: (truncate(path), truncate(path.with_name(MARK))),
    "of another training, with what vouches for it": lambda path: _of_another(path, path.name, MARK),
    "gone, and what vouches for it edited": lambda path: (
        path.unlink(),
        path.with_name(MARK).write_text(json.dumps({"bytes": 0, "digest": "", "lost_before": None})),
    ),
}


#: Of each way to look at a log one; the others are for the session ``long``.
_QUICK_DAMAGE = ("one byte", "edited", "gone, with what vouches for it", "none")


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(damage, id=name, marks=() if name in _QUICK_DAMAGE else pytest.mark.long)
        for name, damage in [*LOG_DAMAGE.items(), ("none", None)]
    ],
)
def test_a_log_that_is_damaged_between_two_parts_of_a_training_is_incomplete_for_good(
    workplace: Path, pictures_dir: Path, unet: Path, damage: Callable[[Path], object] | None
) -> None:
    """Neither the rest of the training nor the record at its end takes what is left for the whole log."""
    asked = request(
        pictures_dir, ("test-unet",), models_from=(str(unet),), images_seen=64, checkpoint_every=1
    )

    class Stops(Warned):
        steps = 0

        def training_step(self, label: str, step: int, num_steps: int) -> None:
            super().training_step(label, step, num_steps)
            self.steps += 1
            if self.steps == 5:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(InterruptedTrainingError):
        run_experiment(asked, Stops())
    (path,) = Path("runs").glob("*/trainings/*/train.jsonl")
    if damage is not None:
        damage(path)
    callbacks = Warned()
    store = run_experiment(asked, callbacks).store
    problems = load_experiment(store.folder).log_problems
    (training,) = (c["training"] for c in load_experiment(store.folder).done())
    assert training["num_steps"] > 5
    if damage is None:
        assert problems == {}
        assert not any("lines before step" in text for text in callbacks.warnings)
        return
    step = training["log"]["lost_before"]
    assert 0 < step <= 6
    assert problems == {training["key"]: f"log incomplete: lines before step {step} were lost"}
    assert any(f"lines before step {step} are lost" in text for text in callbacks.warnings)
    page = render_report(store.folder, Path("page")).read_text(encoding="utf-8")
    assert f"log incomplete: lines before step {step} were lost" in page


def test_a_full_disk_is_said_where_it_first_hurts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights_before = weights(toy_trainer(tmp_path))

    def full(self: object, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint._HashingWriter, "write", full)
    with pytest.raises(DiskError, match=r"cannot write a checkpoint to .*No space left on device"):
        checkpoint.save_checkpoint(tmp_path, 1, {"networks": weights_before})
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_ends_the_run_and_the_next_goes_on(
    finished: Request, pictures_dir: Path, unet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = request(pictures_dir, ("test-unet", "mean"), models_from=(str(unet),), name="full")
    expected = rows(RunFolder("kept"))

    def full(*_: object, **__: object) -> Path:
        raise DiskError("cannot write a checkpoint to here: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_checkpoint", full)
        with pytest.raises(DiskError, match="No space left"):
            run_experiment(asked, Recorder())
    assert run_experiment(asked, Recorder()).failed == 0
    pd.testing.assert_frame_equal(expected, rows(RunFolder("full")), check_exact=True)


@pytest.mark.long
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_outside_of_training_has_its_code_and_a_word(
    workplace: Path, pictures_dir: Path, signum: signal.Signals, code: int
) -> None:
    path = workplace / "slow.py"
    hang = "        import time\n\n        print('started', flush=True)\n        time.sleep(60)\n"
    text = template_source("slow-fill").replace("        known = batch", f"{hang}        known = batch")
    fill = "class Model(InpaintingModel):\n    trained = False\n"
    path.write_text(text.replace("class Model(InpaintingModel):\n", fill))
    command = ["run", "--models", "slow-fill", "--models-from", str(path)]
    process = ForkedCommand([*command, "--data", str(pictures_dir), "--preset", "smoke", "--quiet"])
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signum)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code
    assert "give the same command again" in said.splitlines()[-1]
    assert "Traceback" not in said


@pytest.mark.usefixtures("no_page")
def test_the_terminal_names_two_trainings_of_one_model_apart(
    workplace: Path, pictures_dir: Path, unet: Path
) -> None:
    from click.testing import CliRunner

    from bench.cli import cli

    common = ["run", "--models", "test-unet", "--models-from", str(unet), "--data", str(pictures_dir), "-q"]
    common += ["--preset", "smoke", "--name", "two"]
    for mask in ("center", "center,half"):
        result = CliRunner().invoke(cli, [*common, "--mask", mask], env={"COLUMNS": "120"})
        assert result.exit_code == 0, result.output
    assert "Test Unet (trained on center)" in result.output
    assert "Test Unet (trained on paper)" in result.output


def test_a_report_leaves_out_pictures_as_the_run_did(workplace: Path, pictures_dir: Path) -> None:
    from click.testing import CliRunner

    from bench.cli import cli

    run_it = [
        "run",
        "--models",
        "mean",
        "--data",
        str(pictures_dir),
        "--preset",
        "smoke",
        "--name",
        "bare",
        "-q",
    ]
    page = workplace / "reports" / "bare" / "index.html"
    for option, kept in (("--pictures", True), ("--no-pictures", False)):
        assert CliRunner().invoke(cli, [*run_it, option]).exit_code == 0
        assert CliRunner().invoke(cli, ["report", "bare"]).exit_code == 0
        assert ("data:image/webp" in page.read_text(encoding="utf-8")) is kept
    manifest = json.loads((workplace / "runs" / "bare" / "manifest.json").read_text())
    assert manifest["settings"]["pictures"] is False
