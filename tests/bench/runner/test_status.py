"""Looking before and after: bench run --dry-run, bench status, bench clean, and what is printed where."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from bench.cli import console
from bench.runner import estimate
from bench.runner.run_folder import RunFolder, write_checked_json
from bench.runner.status import completed_steps, read_status
from reports.results.experiment import load_experiment
from reports.results.manifest import IMPORTED_CELL, SEAL, manifest_checksum
from tests.bench.cli.test_cli import bench, error_of
from tests.bench.runner.test_ownership import ILL_FORMED
from tests.forked_command import ForkedCommand


@pytest.fixture
def words(workplace: Path, pictures_dir: Path, unet: Path) -> list[str]:
    """A small run of a trained model and a fill, under the name ``kept``."""
    return [
        *("run", "--models", "test-unet,mean", "--models-from", str(unet), "--data", str(pictures_dir)),
        *("--preset", "smoke", "--images-seen", "16", "--name", "kept", "--quiet"),
    ]


@pytest.mark.usefixtures("no_page")
def test_a_dry_run_says_what_is_to_do_and_does_nothing(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Both estimates as on an idle machine: load that comes and goes would decide which is longer.
    monkeypatch.setattr(estimate, "processor_contention", lambda: 1.0)
    monkeypatch.setattr(estimate, "matrix_rate", lambda _: 1e11)
    before = json.loads(bench(*words, "--dry-run", "--json").stdout)
    assert [(c["label"], c["state"]) for c in before["cells"]] == [
        ("Test Unet", "to train, 4 steps"),
        ("Mean pixel", "to evaluate"),
    ]
    assert before["trainings"] == 1
    assert before["seconds"] > 0
    assert before["memory_bytes"] > 4 * 4 * 1000  # more than its weights with Adam
    assert not Path("runs").exists()
    assert bench(*words).exit_code == 0
    after = json.loads(bench(*words, "--dry-run", "--json").stdout)
    assert [c["state"] for c in after["cells"]] == ["done", "done"]
    assert (after["trainings"], after["memory_bytes"]) == (0, 0)
    assert after["seconds"] < before["seconds"]  # the report is written again
    next(Path("runs/kept/cells").glob("test-unet*/results.parquet")).write_bytes(b"PAR1")
    output = bench(*words, "--dry-run").stdout
    assert "damaged, to be evaluated again" in output
    assert "2 cells, 1 done; 0 trainings to run" in output


@pytest.mark.long
def test_more_memory_is_said_for_larger_batches_and_models(workplace: Path, pictures_dir: Path) -> None:
    def bytes_of(*words: str) -> float:
        data = ("--data", str(pictures_dir), "--dry-run", "--json")
        return float(json.loads(bench("run", *data, *words).stdout)["memory_bytes"])

    small, large = bytes_of("--models", "pconv"), bytes_of("--models", "pconv", "--batch", "32")
    assert small < large < 2 * small
    assert bytes_of("--models", "pconv", "--batch", "32", "--micro-batch", "16") == small


@pytest.mark.usefixtures("no_page")
def test_status_tells_what_is_done_what_waits_and_what_failed(words: list[str], unet: Path) -> None:
    assert "holds no experiment yet" in bench("status").output
    assert bench(*words).exit_code == 0
    unet.write_text(unet.read_text().replace("import torch\n", "import nothing_there\n", 1))
    sys.modules.pop("inpaint_bench_user_unet", None)
    assert bench(*words, "--seeds", "1").exit_code == 1
    status = json.loads(bench("status", "kept", "--json").output)
    assert status["counts"] == {"done": 2, "failed": 1}
    output = bench("status", "kept").output
    assert "3 cells: 2 done, 1 failed" in output
    assert "nothing_there" in output
    assert "bench run --config runs/kept/config.toml" in output
    assert "kept  3 cells" in bench("status").output
    assert "did you mean 'kept'" in error_of("status", "ketp")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, pictures_dir: Path) -> Path:
    """The folder ``runs`` with two finished experiments of one fill."""
    place = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        words = ("run", "--models", "mean", "--data", str(pictures_dir), "--preset", "smoke", "--quiet")
        for name in ("kept", "other"):
            assert bench(*words, "--name", name).exit_code == 0
    return place / "runs"


@pytest.mark.parametrize(
    ("damaged", "content"),
    [
        *(("manifest.json", content) for content in ("", "{", '{"schema": 1}', None)),
        # Of these a status looks at the sizes alone; a run checks everything.
        *(
            (f"cells/mean-*/{name}", content)
            for name in ("cell.json", "results.parquet")
            for content in ("", None)
        ),
    ],
)
def test_status_of_damaged_files_is_no_success(
    workplace: Path, finished: Path, damaged: str, content: str | None
) -> None:
    """Asked for alone, among others, and as JSON; the others are shown. ``None``: the file is gone."""
    shutil.copytree(finished, "runs")
    path = next(Path("runs/kept").glob(damaged))
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    for extra in ([], ["--json"], ["kept"], ["kept", "--json"]):
        done = bench("status", *extra)
        said = f"{done.stderr}{done.stdout}{done.exception}"
        assert done.exit_code != 0, said
        if damaged == "manifest.json":
            assert "manifest.json" in said
        else:
            assert "damaged" in said
        assert ("other" in done.stdout) == ("kept" not in extra)


def _add_by_run(pictures: Path) -> None:
    words = ("run", "--models", "linear", "--data", str(pictures), "--preset", "smoke", "--quiet")
    assert bench(*words, "--name", "mixed").exit_code == 0


def _add_by_score(pictures: Path) -> None:
    rows = load_experiment(Path("runs/mixed")).rows
    Path("outputs").mkdir()
    for name in rows["image_id"]:
        with Image.open(pictures / name) as image:
            image.convert("RGB").resize((64, 64)).save(f"outputs/{Path(name).stem}.png")
    words = (
        "score",
        "outputs",
        "--mask",
        "center",
        "--data",
        str(pictures),
        "--into",
        "mixed",
        "--label",
        "L",
    )
    done = bench(*words)
    assert done.exit_code == 0, done.output


def _add_by_merge(pictures: Path) -> None:
    _add_by_run(pictures)
    Path("runs/mixed").rename("runs/parts")
    assert bench("merge", "parts", "--name", "mixed").exit_code == 0


def _merge(pictures: Path) -> None:
    Path("runs/mixed").rename("runs/parts")
    assert bench("merge", "parts", "--name", "mixed").exit_code == 0


@pytest.mark.usefixtures("no_page")
@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("add", [_add_by_run, _add_by_score, _add_by_merge, _merge])
def test_an_imported_cell_is_done_whatever_lies_beside_it(
    workplace: Path, finished: Path, pictures_dir: Path, add: Callable[[Path], None], marked: bool
) -> None:
    """Its record did not travel. ``marked``: whether the import left a mark, as earlier versions did not."""
    shutil.copytree(finished, "runs")
    assert bench("export", "kept", "--format", "bundle", "-o", "kept.zip").exit_code == 0
    assert bench("import", "kept.zip", "--name", "mixed").exit_code == 0
    (imported,) = Path("runs/mixed/cells").iterdir()
    if not marked:
        (imported / IMPORTED_CELL).unlink()
    add(pictures_dir)
    config = Path("runs/mixed/config.toml").is_file()
    done = bench("status", "mixed")
    # Beside cells with a record, one without record and mark is one whose record is gone, but for a merge.
    known = marked or add in (_add_by_merge, _merge)
    assert done.exit_code == (0 if known else 1), done.output
    assert ("continue with" in done.output) == (config and not known)
    # What is gone of it is noticed, and no command is named that cannot be given.
    (imported / "results.parquet").unlink()
    damaged = bench("status", "mixed")
    assert damaged.exit_code == 1
    assert "results.parquet is empty or gone" in damaged.output
    if known:
        assert "give the command that made it again" in damaged.output
    assert ("bench run --config runs/mixed/config.toml" in damaged.output) == config


@pytest.mark.usefixtures("no_page")
def test_a_cell_that_was_run_again_is_no_import_any_more(
    workplace: Path, finished: Path, pictures_dir: Path
) -> None:
    shutil.copytree(finished, "runs")
    assert bench("export", "kept", "--format", "bundle", "-o", "kept.zip").exit_code == 0
    assert bench("import", "kept.zip", "--name", "mixed").exit_code == 0
    words = ("run", "--models", "mean", "--data", str(pictures_dir), "--preset", "smoke", "--quiet")
    assert bench(*words, "--name", "mixed").exit_code == 0
    assert bench("status", "mixed").exit_code == 0
    (record,) = Path("runs/mixed").glob("cells/*/cell.json")
    assert not record.with_name(IMPORTED_CELL).exists()
    record.unlink()
    done = bench("status", "mixed")
    assert (done.exit_code, "cell.json is empty or gone; run the command again" in done.output) == (1, True)


def test_an_ill_formed_owner_of_one_experiment_hinders_no_command(workplace: Path, finished: Path) -> None:
    """Of the experiment, and of a unit of work in it."""
    shutil.copytree(finished, "runs")
    unit = Path("runs/kept/units/mean-0123456789ab")
    unit.mkdir(parents=True)
    for content in ILL_FORMED.values():
        for path in (Path("runs/kept/.owner"), unit / "owner"):
            path.write_text(content)
        for words in (("status",), ("status", "kept"), ("status", "--json"), ("clean", "--dry-run")):
            done = bench(*words)
            assert done.exit_code == 0, f"{content}: {done.stderr}{done.stdout}{done.exception}"
    assert bench("run", "--config", "runs/kept/config.toml", "--quiet").exit_code == 0


def test_how_another_unit_ended_is_not_told_of_this_one(workplace: Path, finished: Path) -> None:
    shutil.copytree(finished, "runs")
    ended = {"what": "0123456789abcdef", "state": "done", "host": "here", "seconds": 1.0, "failures": {}}
    for name in ("mean-0123456789ab", "mean-fedcba987654"):
        write_checked_json(Path("runs/kept/units") / name / "unit.json", ended)
    assert [unit.name for unit in read_status(Path("runs/kept")).units] == ["mean-0123456789ab"]


@pytest.mark.usefixtures("no_page")
def test_status_keeps_trainings_on_other_masks_apart(words: list[str]) -> None:
    """One cell done on a training mask says nothing of the same cell on another."""
    assert bench(*words).exit_code == 0
    path = Path("runs/kept/manifest.json")
    manifest = json.loads(path.read_text())
    (unet,) = [c for c in manifest["planned"] if c["model"] == "test-unet"]
    manifest["planned"].append({**unet, "train_mask": "half"})
    path.write_text(json.dumps({**manifest, SEAL: manifest_checksum(manifest)}))
    cells = read_status(Path("runs/kept")).cells
    assert [(c["model"], c["train_mask"], c["status"]) for c in cells] == [
        ("test-unet", "center", "done"),
        ("mean", "-", "done"),
        ("test-unet", "half", "waiting"),
    ]


def test_status_sees_a_run_on_its_way(words: list[str], workplace: Path) -> None:
    command = [*words, "--steps-per-phase", "100000", "--checkpoint-every", "2"]
    process = ForkedCommand(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None and not list(workplace.glob("runs/kept/trainings/*/checkpoint-*.pt")):
            time.sleep(0.01)
        status = read_status(workplace / "runs" / "kept")
        assert str(status.owner) == f"process {process.pid} on {socket.gethostname()}"
        assert status.counts == {"waiting": 2}
        (training,) = status.trainings
        assert training.num_steps == 100000
        assert 0 < training.saved_step < training.num_steps
        assert bench("clean", "--yes", "--checkpoints").output == "nothing to remove\n"  # in use
    finally:
        process.kill()
        process.wait()
    assert read_status(workplace / "runs" / "kept").owner is None
    assert completed_steps(next(workplace.glob("runs/kept/trainings/*"))) > 0


@pytest.mark.usefixtures("no_page")
def test_clean_asks_and_keeps_results(words: list[str], workplace: Path) -> None:
    assert bench(*words).exit_code == 0
    folder = RunFolder("kept").folder
    (folder / ".manifest.json.1.tmp").write_text("left by a killed process")
    weights = list(folder.glob("trainings/*/checkpoint-*.pt"))
    shown = bench("clean", "--dry-run").output
    for part in (
        "weights of finished trainings",
        "leftovers of killed",
        "image cache",
        "could be freed",
    ):
        assert part in shown
    assert weights[0].exists()
    assert "there is no terminal; give --yes or --dry-run" in error_of("clean")
    assert weights[0].exists()
    assert "freed" in bench("clean", "--yes").output
    assert not [p for p in weights if p.exists()]
    assert not list(folder.glob(".*.tmp"))
    assert not list((workplace / "cache" / "inpaint-bench").glob("*.npy"))
    before = json.loads((folder / "manifest.json").read_text())["cells"]
    assert bench(*words).exit_code == 0  # packs are made again, results are as they were
    assert json.loads((folder / "manifest.json").read_text())["cells"] == before


@pytest.mark.long
@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_no_colours_no_bars_and_no_odd_letters_in_a_pipe(words: list[str], encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": f"{encoding}:strict"}
    done = subprocess.run(
        [sys.executable, "-m", "bench", *words[:-1], "--verbose"],
        capture_output=True,
        env=environment,
        check=True,
    )
    for printed in (done.stdout, done.stderr):
        assert b"\x1b" not in printed
        printed.decode(encoding)
    assert b"Test Unet: 4/4" in done.stderr


def test_json_is_all_that_stands_on_standard_output(words: list[str]) -> None:
    told = json.loads(bench(*words, "--json").stdout)
    assert (told["experiment"], told["failed"]) == ("kept", 0)
    assert [m["method"] for m in told["means"]] == ["Test Unet", "Mean pixel"]
    assert 5 < told["means"][0]["psnr_db"] < 50
    assert Path(told["report"]).is_file()


def test_sizes_as_a_person_reads_them() -> None:
    assert [console.format_bytes(n) for n in (0, 1023, 1024, 1536, 15 * 2**30)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.5 KiB",
        "15 GiB",
    ]
