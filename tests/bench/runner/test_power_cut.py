"""What a power cut may find. Every rename of a run follows a flush of the file and is followed by one of its folder;
and of a disk that is copied in the midst of a run, nothing is lost but the work since the last checkpoint.
"""

from __future__ import annotations

import contextlib
import filecmp
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import bench
from bench.runner.run_folder import read_checked_json
from bench.runner.status import completed_steps, read_status
from bench.training import checkpoint
from bench.training.train_log import TrainLog
from models.template import template_source
from reports.results.experiment import load_experiment
from tests.bench.runner.power_cut_driver import SAID, Order

_CALL = re.compile(r"^(?:\[pid +\d+\] |\d+ +)?(\w+)\((.*)\) = (\d+)")


_TRACED = "rename,renameat,renameat2,mkdir,mkdirat,fsync,fdatasync"

#: Commands that write what people keep, one after the other in one process.
_COMMANDS = """
import sys
from bench.cli import main
for words in sys.argv[1:]:
    try:
        main(words.split())
    except SystemExit as leaving:
        assert not leaving.code, words
"""


@pytest.mark.long
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_every_rename_is_flushed_before_and_after(workplace: Path, pictures_dir: Path) -> None:
    trace = workplace / "trace"
    run = f"run --mask center --preset smoke --data {pictures_dir} --test-images 2 --quiet"
    photo = workplace / "photo.png"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(photo)
    commands = [
        f"{run} --models pconv,mean --name x",
        f"{run} --models mean-image --name y",
        "merge x y --name both",
        "export x --format bundle -o x.zip",
        "import x.zip --name again",
        "report x --figures figures --blind --title Kept",
        "export x --format csv -o x.csv",
        "export-weights x --hub-card",
        f"inpaint {photo} --from x --mask hole.png -o filled.png",
        f"masks export --data {pictures_dir} --size 64 --mask center --with-images new/deeper/exported",
        f"{run} --models exec:fill.toml --name program",
        "masks preview --count 1 --mask center -o masks.png",
        f"data info --data {pictures_dir} --sheet sheet.png",
        "new-model my-unet",
        "init",
    ]
    (workplace / "fill.toml").write_text(
        "command = ['sh', '-c', 'cp \"$0\" \"$2\"', '{input}', '{mask}', '{output}']\nmode = 'image'\n"
    )
    Image.fromarray(np.pad(np.full((32, 32), 255, np.uint8), 16)).save(workplace / "hole.png")
    strace = ["strace", "-f", "-y", "-e", f"trace={_TRACED}", "-o", str(trace)]
    done = subprocess.run(
        [*strace, sys.executable, "-c", _COMMANDS, *commands],
        cwd=workplace,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    if "Operation not permitted" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr

    flushed: set[str] = set()
    unflushed_folders: dict[str, str] = {}
    made: dict[str, set[str]] = {}
    renamed = []
    for line in trace.read_text().splitlines():
        if not (call := _CALL.match(line)):
            continue
        name, arguments, _ = call.groups()
        if name in ("fsync", "fdatasync"):
            (path,) = re.findall(r"<(.*)>", arguments)
            flushed.add(path)
            unflushed_folders.pop(path, None)
            made.pop(path, None)
        elif name in ("mkdir", "mkdirat"):
            folder = (workplace / re.findall(r'"(.*?)"', arguments)[0]).resolve()
            # A cache that is lost is made again.
            if folder.is_relative_to(workplace) and not {"matplotlib", "cache"} & {*folder.parts}:
                made.setdefault(str(folder.parent), set()).add(folder.name)
        else:
            source, target = ((workplace / p).resolve() for p in re.findall(r'"(.*?)"', arguments)[:2])
            if not target.is_relative_to(workplace) or "matplotlib" in str(target):
                continue
            renamed.append(target)
            whole = [source / p.relative_to(target) for p in target.rglob("*")] if target.is_dir() else []
            for each in (source, *whole):
                assert str(each) in flushed, (
                    f"{each.relative_to(workplace)} was renamed before it was flushed"
                )
            unflushed_folders[str(target.parent)] = target.name
    assert len(renamed) >= 20
    assert not unflushed_folders, "renamed, and the folder never flushed"
    # What was published was made in a hidden folder, which is gone.
    there = {folder: names for folder, names in made.items() if Path(folder).exists()}
    assert not there, "made, and the folder around never flushed"
    kept = {p for p in workplace.rglob("*") if p.is_file() and "matplotlib" not in str(p)}
    unnamed = {p for p in kept if not any(p == r or p.is_relative_to(r) for r in renamed)}
    # Logs grow and are flushed with each checkpoint; images are flushed block by block; locks hold nothing.
    given = {"photo.png", "hole.png", "fill.toml"}
    assert {p.name for p in unnamed if p.suffix not in (".npy", ".lock", ".jsonl")} <= {
        "trace",
        ".lock",
        *given,
    }


# Copies of a disk. The file behind a loop device holds what the file system has sent to its disk, and nothing of what
# it still keeps in memory; a copy of that file is what a machine finds when it starts after a power cut.

NAME = "power"
WORDS = ("run", "--models", "test-unet,mean", "--models-from", "unet.py", "--data", "pictures", "--quiet")
WORDS = (*WORDS, "--preset", "smoke", "--images-seen", "64", "--checkpoint-every", "1", "--test-images", "4")
WORDS = (*WORDS, "--name", NAME)
#: Names are written and contents are not, as late as can be: ext4 flushes a file that is renamed over another unasked,
#: if not told otherwise. With the first, names reach the disk within a second, long before contents that nobody
#: flushes; with the second, nothing reaches it that nobody flushes.
EARLY, LATE = "commit=1,noauto_da_alloc", "commit=300,noauto_da_alloc"


def run_tool(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, words)), check=False, capture_output=True, text=True)


@contextlib.contextmanager
def mounted(image: Path, options: str = "") -> Iterator[Path]:
    """Mount a file system in a file; its journal is replayed, as at a start after a power cut."""
    place = image.with_suffix(".mounted")
    place.mkdir()
    done = run_tool("mount", "-o", f"loop,{options}".rstrip(","), image, place)
    if done.returncode:
        pytest.skip(f"cannot mount a file system in a file: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


@contextlib.contextmanager
def disk(folder: Path, options: str, pictures: Path) -> Iterator[Path]:
    """Make a file system with data and a model in it; its folder, beside the file ``disk``."""
    if os.getuid() != 0:
        pytest.skip("needs root, to mount a file system")
    if missing := [tool for tool in ("mkfs.ext4", "mount", "umount", "sync") if not shutil.which(tool)]:
        pytest.skip(f"needs {', '.join(missing)}")
    image = folder / "disk"
    with image.open("wb") as file:
        file.truncate(48 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    with mounted(image, options) as place:
        shutil.copytree(pictures, place / "pictures")
        (place / "unet.py").write_text(template_source("test-unet"))
        subprocess.run(["sync", "-f", str(place)], check=True)
        yield place


def copy_disk(place: Path, name: str) -> Path:
    """Copy the file behind the mounted folder ``place``, at one moment: until two readings agree."""
    image = place.with_name("disk")
    copy = image.with_name(name)
    while True:
        shutil.copyfile(image, copy)
        if filecmp.cmp(image, copy, shallow=False):
            return copy


class Driver:
    """A process that runs commands in children of its own (``power_cut_driver.py``)."""

    def __init__(self) -> None:
        repository = str(Path(bench.__file__).parents[1])
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        own = {"PYTHONPATH": repository, "TORCH_HOME": "/nonexistent"}  # fewer metrics, and so less time
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.runner.power_cut_driver"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=repository,
            env={**os.environ, **threads, **own},
        )

    def _send(self, line: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()

    def start(self, order: Order) -> Iterator[dict[str, Any]]:
        """Start a command; yields each time that it stands still, and at its end. It goes on at the next request."""
        self._send(asdict(order))
        assert self._process.stdout is not None
        while "code" not in (told := json.loads(self._process.stdout.readline())):
            yield told
            self._send("go on")
        yield told

    def run(self, folder: Path, **how: Any) -> dict[str, Any]:
        """Run the command to its end, which is exit code 0."""
        (ended,) = self.start(Order(str(folder), WORDS, **how))
        assert ended["code"] == 0, (folder.parent / SAID).read_text()
        return ended

    def close(self) -> None:
        self._process.communicate(timeout=60)


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    driver = Driver()
    yield driver
    driver.close()


def published(place: Path) -> dict[Path, bytes]:
    """Every file of an experiment and its report that is believed: neither hidden, nor the log, which grows."""
    files = [p for part in ("runs", "reports") for p in (place / part).rglob("*") if p.is_file()]
    names = [p.relative_to(place) for p in files if not p.name.startswith(".") and p.name != "train.jsonl"]
    return {name: (place / name).read_bytes() for name in names}


def find_losses(live: Path, copy: Path) -> list[str]:
    """Compare what a run had published with what the copy of its disk holds."""
    held = published(copy)
    losses = [f"{name}: empty" for name, content in held.items() if not content]
    for name, content in published(live).items():
        if name not in held:
            losses.append(f"{name}: gone")
        elif held[name] != content and held[name]:
            losses.append(f"{name}: other content")
    for training in (live / "runs" / NAME / "trainings").glob("*"):
        there = copy / training.relative_to(live)
        lines = TrainLog(training / "train.jsonl").read()
        saved = completed_steps(there)
        if [line for line in lines if line["step"] <= saved] != [
            line for line in TrainLog(there / "train.jsonl").read() if line["step"] <= saved
        ]:
            losses.append(
                f"{there / 'train.jsonl'}: lacks lines that the checkpoint of step {saved} rests on"
            )
    return losses


def results(place: Path) -> tuple[pd.DataFrame, dict[str, torch.Tensor], list[Any]]:
    """Rows as an experiment is read (numbers are checked against the manifest), weights, and what the log tells."""
    experiment = load_experiment(place / "runs" / NAME)
    assert experiment.log_problems == {}
    (training,) = (place / "runs" / NAME / "trainings").iterdir()
    read_checked_json(training / "training.json")
    state = checkpoint.newest_checkpoint(training, warn=pytest.fail)
    assert state is not None
    told = [
        (x["step"], x.get("terms"), x.get("validation")) for x in TrainLog(training / "train.jsonl").read()
    ]
    return experiment.rows, state["networks"], told


def check_status(live: Path, copy: Path) -> None:
    """What ``bench status`` says of the copy is true of it, and what it said before the power went."""
    if (live / "runs" / NAME / "manifest.json").exists():
        before, after = (read_status(place / "runs" / NAME) for place in (live, copy))
        assert after.cells == before.cells
        assert after.counts["damaged"] == 0
        if done := after.counts["done"]:
            assert load_experiment(copy / "runs" / NAME).rows.groupby("model").ngroups == done


def continue_and_compare(driver: Driver, place: Path, expected: tuple[Any, Any, Any]) -> None:
    """The same command goes on, on the disk as it is after the power cut, and gives the same numbers."""
    driver.run(place)
    rows, weights, told = results(place)
    pd.testing.assert_frame_equal(rows, expected[0], check_exact=True)
    assert weights.keys() == expected[1].keys()
    assert all(torch.equal(weights[name], value) for name, value in expected[1].items())
    assert told == expected[2]
    page = (place / "reports" / NAME / "index.html").read_text()
    assert page.rstrip().endswith("</html>")


def choose_stops(counts: dict[str, int]) -> list[tuple[str, int]]:
    """Choose eight moments, spread over a run with so many writes of each kind."""
    published, written = counts["published"], counts["checkpoint write"]
    return [
        *(("published", max(1, round(published * share))) for share in (0.05, 0.25, 0.5, 0.75, 0.95)),
        *(("renamed", max(1, round(counts["renamed"] * share))) for share in (0.4, 0.8)),
        ("checkpoint write", written // 2),
    ]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("options", [EARLY, LATE])
def test_a_power_cut_loses_the_work_since_the_last_checkpoint_and_nothing_else(
    driver: Driver, tmp_path: Path, pictures_dir: Path, options: str
) -> None:
    """Ten moments: eight in the midst of the run, one at exit code 0, one six seconds later."""
    with disk(tmp_path, options, pictures_dir) as place:
        shutil.copytree(place, tmp_path / "ordinary")
        counts = driver.run(tmp_path / "ordinary")["counts"]
        expected = results(tmp_path / "ordinary")
        stops = choose_stops(counts)
        copies: list[tuple[Path, Path, bool]] = []

        def copy_now(*, renaming: bool = False) -> None:
            """Keep the disk, and beside it what the run had published."""
            if options == EARLY:
                time.sleep(2)  # by now, names that nobody flushed are on the disk
            number = len(copies)
            live = tmp_path / f"live-{number}"
            shutil.copytree(place, live, ignore=shutil.ignore_patterns("lost+found", "pictures"))
            copies.append((copy_disk(place, f"copy-{number}"), live, renaming))

        moments = iter(driver.start(Order(str(place), WORDS, stops)))
        for told in moments:
            if "code" in told:
                assert told["code"] == 0, (tmp_path / SAID).read_text()
                break
            copy_now(renaming=told["stopped"] == "renamed")
        copy_now()
        time.sleep(6)
        copy_now()
        pd.testing.assert_frame_equal(results(place)[0], expected[0], check_exact=True)
    assert len(copies) == 10
    for number, (copy, live, renaming) in enumerate(copies):
        with mounted(copy) as after:
            losses = find_losses(live, after)
            if (
                renaming
            ):  # a rename whose folder is not flushed yet may be lost, and leaves what was there before
                assert len(losses) <= 1
                assert not any("empty" in loss for loss in losses), losses
            else:
                assert losses == []
                check_status(live, after)
            if options == EARLY or number % 3 == 0:  # each takes seconds; with LATE, less is on the disk
                continue_and_compare(driver, after, expected)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("options", "symptom"), [(EARLY, "empty"), (LATE, "gone")])
def test_without_flushes_the_same_check_finds_the_loss(
    driver: Driver, tmp_path: Path, pictures_dir: Path, options: str, symptom: str
) -> None:
    """The check can fail: the same run without ``fsync`` loses its results after exit code 0."""
    with disk(tmp_path, options, pictures_dir) as place:
        driver.run(place, flushes=False)
        if options == EARLY:
            time.sleep(6)
        copy = copy_disk(place, "copy")
        with mounted(copy) as after:
            losses = find_losses(place, after)
    told = "\n".join(losses)
    for name in ("manifest.json", "results.parquet", "cell.json", "index.html"):
        assert re.search(rf"{name}: {symptom}", told), told
