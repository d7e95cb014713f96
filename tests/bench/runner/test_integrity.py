"""Files of a run folder that are cut, edited or gone: noticed, named, and made again without losing the others."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.cli import main
from bench.config import Request
from bench.errors import BenchError
from bench.inpainting.trained_weights import load_trained_model, stored_trainings
from bench.ledger.importing import import_experiment
from bench.ledger.kept_files import pack_bundle, read_kept_files
from bench.runner import cell_files
from bench.runner.callbacks import ProtectedCallbacks, RunCallbacks
from bench.runner.preview import preview_run
from bench.runner.run import run_experiment
from bench.runner.run_folder import (
    RunFolder,
    file_signature,
    read_checked_json,
    write_checked_json,
)
from bench.runner.status import read_status
from bench.training import checkpoint
from bench.training.data_loader import StepBatches
from bench.training.phase_schedule import Intervals
from bench.training.signals import InterruptedTrainingError
from models.base import Batch
from reports.export import export_tables
from reports.results import atomic_io
from reports.results.experiment import ExperimentError, curves_digest, load_experiment
from reports.results.manifest import IMPORTED_CELL, SEAL, manifest_checksum
from reports.results.schema import cell_numbers, read_rows, write_rows
from tests.bench.runner.test_recovery import Warned, truncate
from tests.bench.runner.test_run import request, rows
from tests.bench.runner.toy_model import toy_trainer
from tests.places import working_in


def test_an_edit_of_checked_json_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_checked_json(path, {"fid": 41.2, "seconds": [1, 2]})
    assert read_checked_json(path) == {"fid": 41.2, "seconds": [1, 2]}
    whole = path.read_text()
    for old, new in (("41.2", "1.23"), ("41.2", "41.20000001"), ('"seconds"', '"second"'), ("[", "[0,")):
        path.write_text(whole.replace(old, new, 1))
        with pytest.raises(ValueError, match="does not hold what was written"):
            read_checked_json(path)
    # Without its checksum a record could say anything.
    bare = json.dumps({"fid": 41.2, "seconds": [1, 2]})
    for text in ("", "[]", "{}", "null", whole[:20], bare):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"\w"):
            read_checked_json(path)


@pytest.fixture(scope="module")
def two_baselines(tmp_path_factory: pytest.TempPathFactory, pictures_dir: Path) -> Path:
    """A workplace with an experiment of two training-free baselines."""
    folder = tmp_path_factory.mktemp("two-baselines")
    with working_in(folder):
        run_experiment(request(pictures_dir, ("mean", "mean-image"), name="kept"), Warned())
    return folder


@pytest.fixture
def store(two_baselines: Path, workplace: Path) -> RunFolder:
    """A copy of it in the current folder."""
    shutil.copytree(two_baselines, workplace, dirs_exist_ok=True)
    return RunFolder("kept")


def _label(value: dict[str, Any]) -> None:
    value["label"] = "Context Encodes"


def _seconds(value: dict[str, Any]) -> None:
    value["evaluation"]["seconds"] = 7777.0


def _sets(value: dict[str, Any]) -> None:
    value["evaluation"]["sets"] = {"fid": {"value": 1.23, "images": 8}}


@pytest.mark.parametrize("edit", [_label, _seconds, _sets])
@pytest.mark.parametrize("sealed", [True, False])
def test_an_edited_cell_is_never_taken_into_the_manifest(
    store: RunFolder, pictures_dir: Path, edit: Callable[[dict[str, Any]], None], sealed: bool
) -> None:
    """``sealed``: whoever edits it makes the checksum anew, and the identity still does not agree."""
    before = store.read_manifest()
    path = next(store.folder.glob("cells/mean-center*/cell.json"))
    value = json.loads(path.read_text())
    edit(value)
    if sealed and edit is _label:
        value[SEAL] = manifest_checksum(value)
    path.write_text(json.dumps(value))
    callbacks = Warned()
    run_experiment(request(pictures_dir, ("mean", "mean-image"), name="kept"), callbacks)
    assert any("evaluating Mean pixel on center again" in warning for warning in callbacks.warnings)
    after = store.read_manifest()
    assert before is not None
    assert after is not None
    for old, new in zip(before["cells"], after["cells"], strict=True):
        assert new["label"] == old["label"]
        assert new["evaluation"]["numbers"] == old["evaluation"]["numbers"]
        assert new["evaluation"]["sets"] == {}
        assert new["evaluation"]["seconds"] < 1000


def test_rows_of_another_cell_are_refused_by_run_and_report(store: RunFolder, pictures_dir: Path) -> None:
    a, b = (next(store.folder.glob(f"cells/{m}-center*/results.parquet")) for m in ("mean", "mean-image"))
    a.write_bytes(b.read_bytes())
    with pytest.raises(ExperimentError, match="rows of model 'mean-image' where the manifest says 'mean'"):
        load_experiment(store.folder)
    callbacks = Warned()
    run_experiment(request(pictures_dir, ("mean", "mean-image"), name="kept"), callbacks)
    assert any("results.parquet is of another cell" in warning for warning in callbacks.warnings)
    assert set(load_experiment(store.folder).rows["model"]) == {"mean", "mean-image"}


@pytest.mark.parametrize("damage", [truncate, Path.unlink, lambda path: path.write_bytes(b"")])
def test_a_damaged_manifest_is_made_again_from_all_cells(
    store: RunFolder, pictures_dir: Path, damage: Callable[[Path], object]
) -> None:
    """Cells of other commands than the one that is given are not lost."""
    expected = rows(store)
    damage(store.manifest_path)
    callbacks = Warned()
    run_experiment(request(pictures_dir, ("mean",), name="kept"), callbacks)
    assert any("rebuilt from 2 finished cells" in warning for warning in callbacks.warnings)
    found = rows(store)
    assert set(found["model"]) == {"mean", "mean-image"}
    assert sorted(found["psnr_db"]) == sorted(expected["psnr_db"])
    assert load_experiment(store.folder).manifest["masks"]["center"]["digest"]


def _truncate(path: Path) -> None:
    path.write_bytes(b"")


def _replace_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("mark", ["", "{}", '{"experiment": "kept"}', "[]"])
def test_a_mark_of_an_import_that_no_import_wrote_vouches_for_nothing(
    store: RunFolder, capsys: pytest.CaptureFixture[str], mark: str
) -> None:
    cell = next(store.folder.glob("cells/*"))
    (cell / "cell.json").unlink()
    (cell / IMPORTED_CELL).write_text(mark)
    with pytest.raises(SystemExit) as leaving:
        main(["status", "kept"])
    assert leaving.value.code == 1
    assert "cell.json is empty or gone" in capsys.readouterr().out


@pytest.mark.parametrize("lose", [Path.unlink, _truncate, _replace_by_a_folder])
@pytest.mark.parametrize("lost", ["pictures/center.npz", "cells/*/pictures.npz"])
@pytest.mark.parametrize("marked", [False, True])
def test_images_that_are_gone_are_said_to_be(
    store: RunFolder,
    capsys: pytest.CaptureFixture[str],
    lose: Callable[[Path], object],
    lost: str,
    marked: bool,
) -> None:
    """``marked``: whether a file beside each cell says that an import made it, of which no image is missed."""

    def status() -> tuple[object, str]:
        with pytest.raises(SystemExit) as leaving:
            main(["status", "kept"])
        return leaving.value.code, capsys.readouterr().out

    assert "empty or gone" not in status()[1]
    path = sorted(store.folder.glob(lost))[0]
    for cell in store.folder.glob("cells/*") if marked else ():
        (cell / IMPORTED_CELL).touch()
    lose(path)
    name = path.relative_to(store.folder).as_posix()
    code, said = status()
    assert code == 1
    assert f"{name} is empty or gone; give the command that made it again" in said
    assert read_status(store.folder).missing == load_experiment(store.folder).missing_files == [name]
    if lose is not _truncate:  # the page of a file that is there and is none of images is refused
        with pytest.raises(SystemExit) as leaving:
            main(["report", "kept"])
        assert leaving.value.code == 0
        assert f"note: {name} is empty or gone; what it holds is left out" in capsys.readouterr().err
        page = Path("reports/kept/index.html").read_text(encoding="utf-8")
        assert f"<li><code>{name}</code></li>" in page
        # Not that it was run without.
        assert "This experiment holds no images" not in page


@pytest.mark.parametrize("lost", ["pictures/center.npz", "cells/*/pictures.npz"])
@pytest.mark.parametrize("lose", [Path.unlink, _truncate])
def test_the_same_command_writes_images_again_that_are_gone(
    store: RunFolder, pictures_dir: Path, lose: Callable[[Path], object], lost: str
) -> None:
    path = sorted(store.folder.glob(lost))[0]
    before = rows(store)
    lose(path)
    run_experiment(request(pictures_dir, ("mean", "mean-image"), name="kept"), Warned())
    assert read_status(store.folder).missing == []
    assert load_experiment(store.folder).pictures("center") is not None
    pd.testing.assert_frame_equal(rows(store), before)


def test_of_an_import_no_image_is_missed(store: RunFolder) -> None:
    Path("kept.zip").write_bytes(pack_bundle(load_experiment(store.folder)))
    import_experiment([Path("kept.zip")], name="imported")
    assert read_status(Path("runs/imported")).missing == []
    assert load_experiment(Path("runs/imported")).pictures("center") is None


def test_a_manifest_is_not_made_from_cells_of_another_set_up(store: RunFolder, pictures_dir: Path) -> None:
    store.manifest_path.unlink()
    callbacks = Warned()
    run_experiment(request(pictures_dir, ("mean",), name="kept", size=32), callbacks)
    assert sum("it is of another set-up" in warning for warning in callbacks.warnings) == 2
    assert set(rows(store)["model"]) == {"mean"}


def test_each_damaged_manifest_is_kept_under_a_name_of_its_own(store: RunFolder, pictures_dir: Path) -> None:
    contents = [b"{", b'{"schema": 1}', b"}"]
    for content in contents:
        store.manifest_path.write_bytes(content)
        callbacks = Warned()
        run_experiment(request(pictures_dir, ("mean",), name="kept"), callbacks)
        (said,) = [w for w in callbacks.warnings if "it is kept as" in w]
        name = said.split("it is kept as ")[1].split(",")[0]
        assert store.manifest_path.with_name(name).read_bytes() == content
    found = {path.name: path.read_bytes() for path in store.folder.glob("manifest.damaged*")}
    names = ("manifest.damaged.json", "manifest.damaged-2.json", "manifest.damaged-3.json")
    assert found == dict(zip(names, contents, strict=True))


class PowerCutError(BaseException):
    """Ends a command where it is, as nothing in it foresees."""


def _interrupt(patch: pytest.MonkeyPatch, at: int) -> None:
    """End the command after it has replaced or removed ``at`` files."""
    count = 0

    def ending(call: Callable[..., None]) -> Callable[..., None]:
        def counted(*paths: Path) -> None:
            nonlocal count
            call(*paths)
            count += 1
            if count == at:
                raise PowerCutError

        return counted

    patch.setattr(atomic_io, "replace_durably", ending(atomic_io.replace_durably))
    patch.setattr(cell_files, "remove_durably", ending(cell_files.remove_durably))


def _interrupted_everywhere(before: Path, asked: Request) -> Iterator[RunFolder]:
    """Yield copies of the experiment ``before`` in which the command ``asked`` ended after 1, 2, 3 ... files."""
    for at in itertools.count(1):
        shutil.rmtree("runs")
        shutil.copytree(before, "runs/kept")
        with pytest.MonkeyPatch.context() as patch:
            _interrupt(patch, at)
            try:
                run_experiment(asked, Warned())
            except PowerCutError:
                pass
            else:
                assert at > 3
                return
        yield RunFolder("kept")


@pytest.mark.parametrize(
    "add",
    [
        "a metric",
        "both",
        pytest.param("images", marks=pytest.mark.long),
        pytest.param("a metric, without images", marks=pytest.mark.long),
    ],
)
def test_a_cell_to_which_something_is_added_is_whole_at_every_moment(
    workplace: Path, pictures_dir: Path, add: str
) -> None:
    asked = request(pictures_dir, ("mean",), name="kept")
    more = request(
        pictures_dir, ("mean",), name="kept", **({} if add == "images" else {"metrics": ("hole_ssim",)})
    )
    bare = dataclasses.replace(asked, pictures=False)
    more = dataclasses.replace(more, pictures="without" not in add)
    store = run_experiment(bare if add in ("images", "both") else asked, Warned()).store
    before = load_experiment(store.folder).rows
    shutil.copytree(store.folder, "before")
    run_experiment(more, Warned())
    after = load_experiment(store.folder)
    shown = after.pictures("center")
    for cut in _interrupted_everywhere(Path("before"), more):
        found = load_experiment(cut.folder)
        expected = after.rows if "hole_ssim" in found.rows else before
        pd.testing.assert_frame_equal(found.rows, expected)
        found.pictures("center")
        assert read_status(cut.folder).counts == {"done": 1}
        callbacks = Warned()
        run_experiment(more, callbacks)
        assert callbacks.warnings == []
        again = load_experiment(cut.folder)
        pd.testing.assert_frame_equal(again.rows, after.rows)
        images = again.pictures("center")
        assert images is not None
        assert shown is not None
        for name, composite in shown.composites.items():
            assert (images.composites[name] == composite).all()


def test_a_cell_that_is_measured_again_is_old_or_new_or_said_to_be_interrupted(
    workplace: Path, pictures_dir: Path
) -> None:
    """As where the code of a metric was another, so that its numbers are not those of now."""
    asked = request(pictures_dir, ("mean",), name="kept")
    asked = dataclasses.replace(asked, options={"models": "mean"})  # as commands do
    store = run_experiment(asked, Warned()).store
    right = load_experiment(store.folder).rows
    (results,) = store.folder.glob("cells/*/results.parquet")
    other = right.assign(psnr_db=right["psnr_db"] + 1)
    write_rows(other, results)
    record = read_checked_json(results.with_name("cell.json"))
    record["evaluation"]["numbers"] = cell_numbers(other)
    record["metrics"]["psnr_db"]["digest"] = "of other code"
    write_checked_json(results.with_name("cell.json"), record)
    manifest = store.read_manifest()
    assert manifest is not None
    manifest["cells"][0]["evaluation"]["numbers"] = cell_numbers(other)
    store.write_manifest(manifest)
    shutil.copytree(store.folder, "before")
    interrupted = 0
    for cut in _interrupted_everywhere(Path("before"), asked):
        said = ""
        try:
            found = load_experiment(cut.folder).rows
            assert found["psnr_db"].tolist() in (other["psnr_db"].tolist(), right["psnr_db"].tolist())
        except ExperimentError as error:
            said = str(error)
        if said:
            assert "give the same command again" in said
            assert "delete" not in said
            (cell,) = read_status(cut.folder).cells
            assert cell["status"] == "damaged"
            assert "run the command again" in cell["reason"]
            interrupted += 1
        run_experiment(asked, Warned())
        pd.testing.assert_frame_equal(load_experiment(cut.folder).rows, right)
        assert read_status(cut.folder).counts == {"done": 1}
    assert interrupted == 3


def test_a_column_that_was_put_into_a_table_is_not_shown(store: RunFolder) -> None:
    before = load_experiment(store.folder)
    for path in store.folder.glob("cells/*/results.parquet"):
        write_rows(read_rows(path).assign(hole_ssim=0.99, fid=1.23), path)
    pd.testing.assert_frame_equal(load_experiment(store.folder).rows, before.rows)
    for form in ("csv", "parquet"):
        assert export_tables(load_experiment(store.folder), "rows", form) == export_tables(
            before, "rows", form
        )
    assert read_kept_files([_bundle(store)]).cells[0].columns.tolist() == before.rows.columns.tolist()


def _bundle(store: RunFolder) -> Path:
    path = Path("kept.zip")
    path.write_bytes(pack_bundle(load_experiment(store.folder)))
    return path


def test_status_names_the_folder_and_what_is_empty_or_gone(store: RunFolder) -> None:
    next(store.folder.glob("cells/mean-center*/results.parquet")).write_bytes(b"")
    moved = store.folder.rename(store.folder.with_name("moved"))
    status = read_status(moved)
    assert status.name == "moved"
    assert status.counts == {"done": 1, "damaged": 1}
    next(moved.glob("cells/mean-image-center*/cell.json")).unlink()
    assert read_status(moved).counts == {"damaged": 2}


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes().replace(b'"step"', b'"st\xffep"', 1)),
        lambda path: path.write_bytes(b"\xff\xfe\x00" + path.read_bytes()),
        lambda path: path.write_bytes(path.read_bytes().rpartition(b"\n{")[0]),
        Path.unlink,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("[" * 100_000),
    ],
)
def test_a_damaged_log_is_read_as_far_as_it_goes_and_named(
    trained: RunFolder, damage: Callable[[Path], object]
) -> None:
    assert load_experiment(trained.folder).log_problems == {}
    path = next(trained.folder.glob("trainings/*/train.jsonl"))
    whole = path.read_bytes()
    record = read_checked_json(path.with_name("training.json"))
    assert {name: record["log"][name] for name in ("lines", "sha256")} == file_signature(path)
    assert record["log"]["values_sha256"] == curves_digest(load_experiment(trained.folder).curves)
    assert "lost_before" not in record["log"]
    assert record["log"]["lines"] == len(whole.splitlines())
    damage(path)
    assert load_experiment(trained.folder).log_problems.keys() == {record["key"]}
    path.write_bytes(whole)


@pytest.fixture
def trained(workplace: Path, pictures_dir: Path, unet: Path) -> RunFolder:
    """An experiment with one training."""
    asked = request(pictures_dir, ("test-unet",), models_from=(str(unet),), name="kept")
    return run_experiment(asked, Warned()).store


@pytest.mark.parametrize("name", ["pictures/center.npz", "cells/*/pictures.npz"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04K\x01.", b"\x93NUMPY"])
def test_damaged_images_are_named_with_a_remedy_that_helps(
    store: RunFolder, pictures_dir: Path, name: str, content: bytes
) -> None:
    for path in store.folder.glob(name):
        path.write_bytes(content)
    with pytest.raises(ExperimentError, match=r"damaged .*; delete it"):
        load_experiment(store.folder).pictures("center")
    run_experiment(request(pictures_dir, ("mean", "mean-image"), name="kept"), Warned())
    assert load_experiment(store.folder).pictures("center") is not None


def test_images_of_another_cell_are_not_shown(store: RunFolder, pictures_dir: Path) -> None:
    """Files of images look alike; each is whole, and belongs to the other model."""
    shown = load_experiment(store.folder).pictures("center")
    a, b = sorted(store.folder.glob("cells/*/pictures.npz"))
    first, second = a.read_bytes(), b.read_bytes()
    assert first != second
    a.write_bytes(second)
    b.write_bytes(first)
    with pytest.raises(ExperimentError, match="not the images of its cell"):
        load_experiment(store.folder).pictures("center")
    callbacks = Warned()
    run_experiment(request(pictures_dir, ("mean", "mean-image"), name="kept"), callbacks)
    assert sum("pictures.npz does not hold what was written" in text for text in callbacks.warnings) == 2
    again = load_experiment(store.folder).pictures("center")
    assert shown is not None
    assert again is not None
    for name, pixels in shown.composites.items():
        assert (again.composites[name] == pixels).all()


def test_an_edited_record_of_a_training_is_written_again_from_its_checkpoint(
    trained: RunFolder, pictures_dir: Path, workplace: Path
) -> None:
    path = next(trained.folder.glob("trainings/*/training.json"))
    before = read_checked_json(path)
    path.write_text(path.read_text().replace('"num_steps": 4', '"num_steps": 400', 1))
    for cell in trained.folder.glob("cells/*/cell.json"):
        cell.unlink()
    callbacks = Warned()
    asked = request(pictures_dir, ("test-unet",), models_from=(str(workplace / "unet.py"),), name="kept")
    run_experiment(asked, callbacks)
    after = read_checked_json(path)
    assert after["num_steps"] == before["num_steps"]
    assert after["log"] == before["log"]


def test_a_refused_checkpoint_is_one_line_without_dangerous_advice(tmp_path: Path) -> None:
    import hashlib
    import pickle

    content = pickle.dumps({"format": print})
    path = tmp_path / f"checkpoint-000000004-{hashlib.sha256(content).hexdigest()[:16]}.pt"
    path.write_bytes(content)
    warnings: list[str] = []
    assert checkpoint.newest_checkpoint(tmp_path, warn=warnings.append) is None
    (said,) = warnings
    assert "\n" not in said
    assert "weights_only" not in said
    assert "refused" in said


def _cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-100])
    return path


def _with_code(path: Path) -> Path:
    import hashlib
    import pickle

    content = pickle.dumps({"format": print})
    path.unlink()
    path = path.with_name(f"{path.name[:20]}-{hashlib.sha256(content).hexdigest()[:16]}.pt")
    path.write_bytes(content)
    return path


def _foreign(path: Path) -> Path:
    state = checkpoint.load_checkpoint(path)
    path.unlink()
    return checkpoint.save_checkpoint(
        path.parent, state["step"], {**state, "origin": {**state["origin"], "what": "another"}}
    )


def _empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_cut, "its bytes do not match its name"),
        (_empty, "its bytes do not match its name"),
        (_with_code, "refused, since it holds more than tensors and plain values"),
        (_foreign, "holds a checkpoint of another training"),
    ],
)
def test_a_refused_checkpoint_is_work_in_the_plan(
    trained: RunFolder,
    pictures_dir: Path,
    workplace: Path,
    damage: Callable[[Path], Path],
    says: str,
) -> None:
    """One line says why, in the plan and in the run, and both count the training."""
    before = rows(trained)
    asked = request(pictures_dir, ("test-unet",), models_from=(str(workplace / "unet.py"),), name="kept")
    for cell in trained.folder.glob("cells/*/cell.json"):
        cell.unlink()
    (path,) = trained.folder.glob("trainings/*/checkpoint-*.pt")
    sound = preview_run(asked, Warned())
    assert (sound.trainings, [c.state for c in sound.cells]) == (0, ["trained, to evaluate"])
    damage(path)
    planned = Warned()
    preview = preview_run(asked, planned)
    assert (preview.trainings, [c.state for c in preview.cells]) == (1, ["to train, 4 steps"])
    (line,) = planned.warnings
    assert says in line
    assert "\n" not in line
    ran = Warned()
    run_experiment(asked, ran)
    assert [says in warning for warning in ran.warnings] == [True]
    after = rows(trained)
    assert after["psnr_db"].tolist() == before["psnr_db"].tolist()


def test_a_hangup_checkpoints_like_any_other_signal(tmp_path: Path) -> None:
    trainer = toy_trainer(tmp_path, intervals=Intervals(report=4))
    batches = trainer.batches

    def hanging_up(at: int) -> Batch:
        if at == 5:
            os.kill(os.getpid(), signal.SIGHUP)
        return batches(at)

    trainer.batches = StepBatches(4, hanging_up)
    with pytest.raises(InterruptedTrainingError) as stop:
        trainer.train()
    assert stop.value.exit_code == 128 + signal.SIGHUP
    state = checkpoint.newest_checkpoint(tmp_path)
    assert state is not None
    assert state["step"] == 6


def test_nohup_is_respected(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        trainer = toy_trainer(tmp_path, intervals=Intervals(report=4))
        batches = trainer.batches

        def hanging_up(at: int) -> Batch:
            if at == 5:
                os.kill(os.getpid(), signal.SIGHUP)
            return batches(at)

        trainer.batches = StepBatches(4, hanging_up)
        trainer.train()
        assert trainer.step == 12
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_terminal_that_is_gone_ends_no_training() -> None:
    class Gone(RunCallbacks):
        def note(self, text: str) -> None:
            raise OSError(5, "Input/output error")

        def warn(self, text: str) -> None:
            raise ValueError("a mistake of ours")

    protected = ProtectedCallbacks(Gone())
    protected.note("said to nobody")
    with pytest.raises(ValueError, match="a mistake of ours"):
        protected.warn("is not hidden")


def test_a_cell_copied_from_another_experiment_is_not_taken(workplace: Path, pictures_dir: Path) -> None:
    """Of the same model, mask, seed and images; whole, sealed, and of another size."""
    small, large = (
        run_experiment(request(pictures_dir, ("mean",), name=f"side{size}", size=size), Warned()).store
        for size in (32, 64)
    )
    expected = rows(large)
    (mine,), (other,) = (list(s.folder.glob("cells/mean-center*")) for s in (large, small))
    for name in ("cell.json", "results.parquet", "pictures.npz"):
        (mine / name).write_bytes((other / name).read_bytes())
    callbacks = Warned()
    run_experiment(request(pictures_dir, ("mean",), name="side64", size=64), callbacks)
    assert any("cell.json is of another set-up" in warning for warning in callbacks.warnings)
    found = rows(large)
    assert set(found["size"]) == {64}
    assert found["psnr_db"].tolist() == expected["psnr_db"].tolist()


def _other_weights(folder: Path) -> None:
    """Put in place of a training's weights what the same training gave elsewhere: whole, and named by its bytes."""
    state = checkpoint.newest_checkpoint(folder)
    assert state is not None
    for tensor in state["networks"].values():
        if tensor.is_floating_point():
            tensor.mul_(1.001)
    for old in folder.glob("checkpoint-*.pt"):
        old.unlink()
    step = state["step"]
    checkpoint.save_checkpoint(folder, step, {k: v for k, v in state.items() if k not in ("format", "step")})


def test_weights_that_no_number_was_measured_with_are_not_used(
    trained: RunFolder, pictures_dir: Path, workplace: Path
) -> None:
    before = load_experiment(trained.folder)
    folder = next(trained.folder.glob("trainings/*"))
    digest = read_checked_json(folder / "training.json")["weights"]["digest"]
    source = (workplace / "unet.py",)
    (training,) = stored_trainings(before)
    assert load_trained_model(before, training, source).card["digest"] == digest
    _other_weights(folder)
    with pytest.raises(
        BenchError, match="holds other weights than those that the numbers were measured with"
    ):
        load_trained_model(before, training, source)
    asked = request(
        pictures_dir,
        ("test-unet",),
        models_from=(str(source[0]),),
        name="kept",
        masks=("center", "half"),
        train_mask="center",
    )
    assert any("train" in cell.state for cell in preview_run(asked, Warned()).cells)
    callbacks = Warned()
    assert run_experiment(asked, callbacks).failed == 0
    assert any("holds other weights than training.json records" in text for text in callbacks.warnings)
    assert callbacks.trained == ["Test Unet"]
    after = load_experiment(trained.folder)
    assert {cell["training"]["weights"]["digest"] for cell in after.done()} == {digest}
    assert load_trained_model(after, stored_trainings(after)[0], source).card["digest"] == digest


@pytest.mark.parametrize(
    "damage", [truncate, Path.unlink, lambda path: path.write_text(path.read_text()[:-9])]
)
def test_cells_of_an_import_are_not_lost_without_a_word(
    store: RunFolder, pictures_dir: Path, damage: Callable[[Path], object]
) -> None:
    """They have no record of their own, so that no manifest can be rebuilt from them."""
    bundle = Path("kept.zip")
    bundle.write_bytes(pack_bundle(load_experiment(store.folder)))
    imported = import_experiment([bundle], name="imported")
    results = sorted(imported.glob("cells/*/results.parquet"))
    assert len(results) == 2
    damage(imported / "manifest.json")
    callbacks = Warned()
    run_experiment(request(pictures_dir, ("mean",), name="imported"), callbacks)
    (warning,) = [text for text in callbacks.warnings if "without their record" in text]
    assert "2 folders hold results" in warning
    assert "import it again under another --name" in warning
    assert sorted(imported.glob("cells/*/results.parquet")) == results
