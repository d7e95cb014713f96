"""The table of bad input: for each case the exact message, the exit code, and that nothing computed before is lost.

The message says what is wrong, where, and what to do. Cases run in a folder that holds a finished experiment
(``kept``); its bytes must be the same afterwards, whatever was asked.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from bench.backbones import cached_file
from bench.cli import main
from masks.folder import load_folder
from models.template import template_source
from reports.results.schema import read_rows
from tests.bench.cli.test_cli import bench
from tests.places import working_in
from tests.reports.synthetic import make_experiment

RUN = "run --models mean --data pictures --preset smoke --quiet --name new "
UNET = "run --models test-unet --models-from unet.py --data pictures --preset smoke --quiet --name kept"


@dataclass(frozen=True)
class Case:
    """``words`` end with ``code`` and ``says``, after ``prepare`` has spoilt something."""

    words: str
    says: str
    code: int = 2
    prepare: Callable[[], object] = field(default=lambda: None)


def mask(value: object) -> Callable[[], None]:
    """A folder ``masks`` with one 64 px mask: of a hole of 10 x 10 px where ``value`` does not say otherwise."""

    def prepare() -> None:
        hole = np.zeros((64, 64), np.uint8)
        hole[10:20, 10:20] = 255
        Path("masks").mkdir()
        if isinstance(value, bytes):
            Path("masks/m.png").write_bytes(value)
            return
        if value == "grey":
            hole[10, 10] = 128
        elif value == "small":
            hole = hole[:32, :32]
        elif isinstance(value, int):
            hole[:] = value
        Image.fromarray(hole).save("masks/m.png")

    return prepare


def masks_of_some() -> None:
    """Masks of the names of every second picture."""
    Path("masks").mkdir()
    hole = np.zeros((64, 64), np.uint8)
    hole[10:20, 10:20] = 255
    for path in sorted(Path("pictures").iterdir())[::2]:
        Image.fromarray(hole).save(Path("masks") / f"{path.stem}.png")


#: What is said of masks that :func:`masks_of_some` wrote.
SOME_MASKS = "error: files:masks: has masks of the name of "


def cut(pattern: str, keep: int = 100) -> Callable[[], None]:
    """Cut off a file of the experiment ``other``, a copy of ``kept``."""

    def prepare() -> None:
        shutil.copytree("runs/kept", "runs/other")
        (path,) = Path("runs/other").glob(pattern)
        path.write_bytes(path.read_bytes()[:keep])

    return prepare


def other_schema() -> None:
    shutil.copytree("runs/kept", "runs/other")
    (path,) = Path("runs/other").glob("cells/mean-*/results.parquet")
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({b"inpaint_bench_schema": b"7"}), path)


def other_manifest() -> None:
    shutil.copytree("runs/kept", "runs/other")
    path = Path("runs/other/manifest.json")
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 7'))


def spoilt_pictures(count: int) -> Callable[[], None]:
    def prepare() -> None:
        shutil.copytree("pictures", "spoilt")
        for path in sorted(Path("spoilt").iterdir())[:count]:
            path.write_bytes(path.read_bytes()[:500])

    return prepare


def small_pictures() -> None:
    Path("small").mkdir()
    for index in range(20):
        Image.new("RGB", (40, 48)).save(f"small/{index}.png")


def damaged_vgg() -> None:
    from torchvision.models import VGG16_Weights

    file = cached_file(str(VGG16_Weights.IMAGENET1K_V1.url))
    file.parent.mkdir(parents=True)
    file.write_bytes(b"no weights")


def foreign_checkpoint() -> None:
    """A checkpoint whose name fits its bytes, and which would run code if it were unpickled."""

    class Evil:
        def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
            return (lambda name: Path(name).touch(), ("owned",)) if False else (eval, ("open('owned', 'w')",))

    shutil.copytree("runs/kept", "runs/other")
    (path,) = Path("runs/other").glob("trainings/*/checkpoint-*.pt")
    torch.save({"networks": Evil()}, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    path.rename(path.with_name(f"{path.name.rpartition('-')[0]}-{digest}.pt"))


def photo_and_mask(photo: bytes | None = None, size: int = 64) -> Callable[[], None]:
    def prepare() -> None:
        mask(None)()
        Image.new("RGB", (size, size)).save("photo.png")
        if photo is not None:
            Path("photo.png").write_bytes(photo)

    return prepare


def text(path: str, content: str | bytes) -> Callable[[], object]:
    return lambda: Path(path).write_bytes(content if isinstance(content, bytes) else content.encode())


CASES = {
    # Names: what was meant is suggested.
    "command": Case("rnu", "Error: No such command 'rnu'; did you mean 'run'?"),
    "option": Case(
        "run --modles all",
        "Error: No such option '--modles'. (Did you mean one of: '--models', '--models-from', '--samples'?)",
    ),
    "model": Case(RUN + "--models glcci", "error: unknown model 'glcci'; did you mean 'glcic'?"),
    "mask": Case(RUN + "--mask centre", "error: unknown mask 'centre'; did you mean 'center'?"),
    "training mask": Case(
        RUN + "--train-mask centre", "error: --train-mask: unknown mask 'centre'; did you mean 'center'?"
    ),
    "metric": Case(
        RUN + "--metrics hole_pnsr_db",
        "error: no metric 'hole_pnsr_db'; did you mean 'hole_psnr_db' or 'psnr_db' or 'raw_psnr_db'?",
    ),
    "preset": Case(RUN + "--preset papr", "error: --preset papr: unknown; did you mean 'paper'?"),
    "split": Case(RUN + "--split oficial", "error: --split oficial: unknown; did you mean 'official'?"),
    "crop": Case(RUN + "--crop centre", "error: --crop centre: unknown; did you mean 'center'?"),
    "experiment": Case("report ketp", "error: no experiment 'ketp' in runs/; did you mean 'kept'?"),
    "field of a model": Case(
        RUN + "--models pconv --set pconv.hole_wieght=3",
        "error: pconv has no option 'hole_wieght'; did you mean 'hole_weight' or 'style_weight' or 'valid_weight'?",
    ),
    "model of a field": Case(
        RUN + "--set maen.x=3", "error: --set maen...: 'maen' is not among the models; did you mean 'mean'?"
    ),
    "key of a config file": Case(
        "run --config a.toml",
        "error: --config a.toml: unknown key 'modles'; did you mean 'models' or 'samples' or 'models-from'?",
        prepare=text("a.toml", "modles = ['mean']"),
    ),
    "backbone": Case("weights fetch alexnte", "error: no backbone 'alexnte'; did you mean 'alexnet'?"),
    # Values that no run can have.
    "value of a field": Case(
        RUN + "--models pconv --set pconv.hole_weight=x", "error: pconv.hole_weight: 'x' is not a number"
    ),
    "choice of a field": Case(
        RUN + "--models pconv --set pconv.vgg_losses=on",
        "error: pconv.vgg_losses: 'on' is not one of 'required', 'off'",
    ),
    "size of a model": Case(
        RUN.replace("--models mean", "--models context-encoder") + "--size 100",
        "error: --size 100: context-encoder: Context Encoder's layers fit 64, 128 and 160 px, not 100 "
        "(its 4 x 4 bottleneck)",
    ),
    "size": Case(RUN + "--size 7", "error: --size 7: must lie between 32 and 512 pixels"),
    "seeds": Case(RUN + "--seeds 0,-1", "error: --seeds 0,-1: must be one or more numbers from 0"),
    "learning rate": Case(
        RUN + "--learning-rate nan", "error: --learning-rate nan: must be a positive number"
    ),
    "device": Case(RUN + "--device cuad", "error: --device cuad: not a torch device (cpu, cuda, cuda:1 ...)"),
    "name": Case(
        RUN + "--name ../up",
        "error: --name '../up': give letters, digits, '.', '-', '_' or '+' (at most 100)",
    ),
    "set-up under a name": Case(
        UNET + " --learning-rate 0.1",
        "error: runs/kept holds results of another set-up (learning_rate differ); give another --name",
    ),
    "no TOML": Case(
        "run --config a.toml",
        "error: --config a.toml: not TOML: Invalid value (at end of document)",
        prepare=text("a.toml", "models = "),
    ),
    "no config file": Case(
        "run --config b.toml", "error: --config b.toml: no such file; 'bench init b.toml' writes one"
    ),
    # Data.
    "no data": Case(RUN + "--data gone", "error: --data gone: no such file or folder"),
    "home of nobody": Case(RUN + "--data ~nobody-here", "error: --data ~nobody-here: no such file or folder"),
    "pictures that are a link to itself": Case(
        "score loop --data pictures --mask center --preset smoke",
        "error: loop: no such folder of pictures",
        prepare=lambda: Path("loop").symlink_to("loop"),
    ),
    "photo that is a link to itself": Case(
        "inpaint loop --mask loop --model mean",
        "error: loop: no such image",
        prepare=lambda: Path("loop").symlink_to("loop"),
    ),
    "empty data": Case(
        RUN + "--data empty",
        "error: --data empty: holds no pictures (.bmp, .gif, .jpeg, .jpg, .png, .ppm, .tif, .tiff, .webp)",
        prepare=lambda: Path("empty").mkdir(),
    ),
    "no zip": Case(
        RUN + "--data a.zip",
        "error: --data a.zip: not a readable zip of images (File is not a zip file); get it again",
        prepare=text("a.zip", "no zip"),
    ),
    "truncated pictures": Case(
        RUN + "--data spoilt",
        "error: --data spoilt: 2 of 60 pictures cannot be used (000.png: unreadable: image file is truncated; "
        "001.png: unreadable: image file is truncated); remove them, or give --allow-unreadable",
        prepare=spoilt_pictures(2),
    ),
    "small pictures": Case(
        RUN + "--data small",
        "error: --data small: no picture can be used; the first: 0.png: 40 x 48 pixels: smaller than 64 x 64",
        prepare=small_pictures,
    ),
    # Masks.
    "mask of another size": Case(
        RUN + "--mask files:masks",
        "error: --mask: masks/m.png: 32 x 32 pixels, needs 64 x 64; "
        "give --resize-masks nearest (or files:FOLDER?resize=nearest) to resize",
        prepare=mask("small"),
    ),
    "mask with grey": Case(
        RUN + "--mask files:masks",
        "error: --mask: masks/m.png: 3 gray values, so its edges are smoothed; a mask must be binary (black = known, "
        "white = hole): save it as PNG without smoothing, or give files:FOLDER?threshold=128 to read values from 128 "
        "on as hole",
        prepare=mask("grey"),
    ),
    "mask all hole": Case(
        RUN + "--mask files:masks", "error: --mask: masks/m.png: all hole", prepare=mask(255)
    ),
    "mask without hole": Case(
        RUN + "--mask files:masks", "error: --mask: masks/m.png: no hole", prepare=mask(0)
    ),
    "no mask folder": Case(RUN + "--mask files:masks", "error: --mask: files:masks: no such folder"),
    "mask folder of nobody's home": Case(
        RUN + "--mask files:~nobody-here", "error: --mask: files:~nobody-here: no such folder"
    ),
    "masks for some pictures": Case(RUN + "--mask files:masks", SOME_MASKS, prepare=masks_of_some),
    "mask that is no picture": Case(
        RUN + "--mask files:masks",
        "error: --mask: masks/m.png: not readable as an image (cannot identify image file 'masks/m.png')",
        prepare=mask(b"no picture"),
    ),
    "no export of masks": Case(
        "masks verify pictures",
        "error: pictures/manifest.json: not readable as a manifest of masks "
        "([Errno 2] No such file or directory: 'pictures/manifest.json')",
    ),
    # Weights and checkpoints.
    "no VGG16": Case(
        RUN + "--models pconv --set pconv.vgg_losses=required",
        "error: VGG16 weights are needed for the perceptual and style terms; "
        "torch/hub/checkpoints/vgg16-397923af.pth is missing and could not be downloaded (",
    ),
    "damaged VGG16": Case(
        RUN + "--models pconv --set pconv.vgg_losses=required",
        "failed: PConv on center: torch/hub/checkpoints/vgg16-397923af.pth is not a readable torch file (",
        1,
        prepare=damaged_vgg,
    ),
    "truncated checkpoint": Case(
        "export-weights other --models-from unet.py",
        "error: runs/other/trainings/{training}: the weights are gone or damaged; "
        "the experiment's own command trains them again",
        1,
        prepare=cut("trainings/*/checkpoint-*.pt"),
    ),
    "checkpoint that is not ours": Case(
        "export-weights other --models-from unet.py",
        "error: runs/other/trainings/{training}: the weights are gone or damaged; "
        "the experiment's own command trains them again",
        1,
        prepare=foreign_checkpoint,
    ),
    "no safetensors": Case(
        "inpaint photo.png --mask masks/m.png --from a.safetensors",
        "error: --from: a.safetensors: not readable as safetensors (Error while deserializing header: header too "
        "small); give a file written by 'bench export-weights'",
        prepare=lambda: (photo_and_mask()(), text("a.safetensors", "no")()),
    ),
    # Results.
    "truncated results": Case(
        "report other",
        "error: runs/other/cells/{mean}/results.parquet: not readable as Parquet (",
        prepare=cut("cells/mean-*/results.parquet"),
    ),
    "results of another schema": Case(
        "report other",
        "error: runs/other/cells/{mean}/results.parquet: results of schema 7, this version reads 1; "
        "install a newer inpaint-bench",
        prepare=other_schema,
    ),
    "manifest of another schema": Case(
        UNET.replace("kept", "other"),
        "error: runs/other/manifest.json: schema 7, this version reads 1; "
        "run the experiment again under another --name",
        1,
        prepare=other_manifest,
    ),
    "truncated manifest": Case(
        "status other",
        "error: runs/other/manifest.json: not readable as a manifest (",
        1,
        prepare=cut("manifest.json"),
    ),
    # Pictures of one's own.
    "no photo": Case("inpaint gone.png --mask masks --model biharmonic", "error: gone.png: no such image"),
    "truncated photo": Case(
        "inpaint photo.png --mask masks/m.png --model biharmonic",
        "error: photo.png: not an image (JPEG, PNG, BMP, WEBP, TIFF, GIF, PPM)",
        prepare=photo_and_mask(b"\x89PNG\r\n"),
    ),
    "mask of another size than the photo": Case(
        "inpaint photo.png --mask masks/m.png --model biharmonic",
        "error: masks/m.png: mask is 64 x 64, image 80 x 80: a mask must have the image's size",
        prepare=photo_and_mask(size=80),
    ),
    # Models of one's own.
    "model file without a model": Case(
        RUN + "--models-from a.py",
        "error: --models-from a.py: nothing there is decorated with @register(...)",
        prepare=text("a.py", "x = 1"),
    ),
    "model file that is no Python": Case(
        RUN + "--models-from a.py",
        "error: {place}/a.py: not readable as Python: ",
        prepare=text("a.py", "def"),
    ),
    "NaN loss": Case(
        UNET.replace("kept", "new") + " --learning-rate 1e30",
        "failed: Test Unet on center: ",
        1,
    ),
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory, pictures_dir: Path) -> Iterator[Path]:
    """A folder with a finished experiment: a model of one's own and a fill."""
    folder = tmp_path_factory.mktemp("kept")
    shutil.copytree(pictures_dir, folder / "pictures")
    (folder / "unet.py").write_text(template_source("test-unet"))
    with working_in(folder):
        with pytest.raises(SystemExit) as done:
            main([*UNET.split(), "--models", "test-unet,mean"])
        assert done.value.code == 0
    return folder


def bytes_below(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name not in (".lock", ".owner")
    }


@pytest.fixture
def place(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to spoil; torch's cache is empty, and no folder of masks has been read."""
    load_folder.cache_clear()
    folder = tmp_path / "place"
    shutil.copytree(kept, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.setenv("TORCH_HOME", "torch")
    return folder


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_clear_line_and_loses_nothing(
    name: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = CASES[name]
    before = bytes_below(place / "runs" / "kept")
    case.prepare()
    capsys.readouterr()
    with pytest.raises(SystemExit) as done:
        main(case.words.split())
    said = capsys.readouterr().err.strip().splitlines()
    folders = {
        "place": str(place),
        "training": next(Path("runs/kept/trainings").iterdir()).name,
        "mean": next(Path("runs/kept/cells").glob("mean-*")).name,
    }
    expected = case.says
    for key, value in folders.items():
        expected = expected.replace(f"{{{key}}}", value)
    assert said
    assert said[-1] == expected or (expected.endswith(("(", " ")) and said[-1].startswith(expected)), said
    assert done.value.code == case.code
    assert "(unexpected:" not in said[-1]
    assert len(said) == 1 or said[0].startswith("Usage: "), said
    assert bytes_below(place / "runs" / "kept") == before
    assert not Path("owned").exists()


@pytest.mark.parametrize(
    "words",
    [
        RUN + "--dry-run --mask files:masks",
        RUN + "--mask files:masks?pair=name",
        RUN.replace("mean", "test-unet") + "--models-from unet.py --mask files:masks",
        "masks export --data pictures --preset smoke --mask files:masks export",
        "score pictures --data pictures --preset smoke --mask files:masks",
    ],
)
def test_masks_for_some_pictures_are_said_before_anything_is_computed(
    words: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    masks_of_some()
    with pytest.raises(SystemExit) as done:
        main(words.split())
    assert done.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: files:masks")
    assert not list(Path("runs").glob("new/cells/*"))
    assert not Path("export").exists()


def test_a_few_bad_pictures_are_left_out_and_named_in_the_report(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoilt_pictures(2)()
    with pytest.raises(SystemExit) as done:
        main([*RUN.split(), "--data", "spoilt", "--allow-unreadable"])
    assert done.value.code == 0
    page = Path("reports/new/index.html").read_text(encoding="utf-8")
    assert "000.png" in page
    assert "truncated" in page


def test_a_failed_cell_leaves_the_others(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """NaN in one training: the fill beside it is there, and so is the report."""
    with pytest.raises(SystemExit) as done:
        main([*UNET.replace("kept", "new").split(), "--models", "test-unet,mean", "--learning-rate", "1e30"])
    assert done.value.code == 1
    (results,) = Path("runs/new/cells").glob("*/results.parquet")
    assert set(read_rows(results)["model"]) == {"mean"}
    assert "not finite" in Path("reports/new/index.html").read_text(encoding="utf-8")


def test_a_folder_in_use_is_left_alone(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = bytes_below(place / "runs" / "kept")
    # By a process of another machine, which no lock of this one's operating system keeps out.
    owner = Path("runs/kept/.owner")
    owner.write_text(json.dumps({"host": "elsewhere", "process": 123, "started": "1"}))
    with pytest.raises(SystemExit) as done:
        main(UNET.split())
    owner.unlink()
    assert done.value.code == 1
    assert capsys.readouterr().err == (
        "error: runs/kept is in use by another run (process 123 on elsewhere); "
        "wait for it or give another --name\n"
    )
    assert bytes_below(place / "runs" / "kept") == before


@pytest.mark.parametrize("pattern", ["trainings/*/checkpoint-*.pt", "cells/test-unet*/results.parquet"])
def test_the_same_command_mends_what_is_damaged(
    place: Path, pattern: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Damaged results are evaluated again; weights that are needed again are trained again: the same numbers."""
    cells = sorted(Path("runs/kept/cells").glob("test-unet*/results.parquet"))
    before = [pd.read_parquet(path) for path in cells]
    for path in Path("runs/kept").glob(pattern):
        path.write_bytes(path.read_bytes()[:100])
    if pattern.startswith("trainings"):
        shutil.rmtree(cells[0].parent)
    with pytest.raises(SystemExit) as done:
        main(UNET.split())
    assert done.value.code == 0, capsys.readouterr().err
    for path, rows in zip(cells, before, strict=True):
        pd.testing.assert_frame_equal(pd.read_parquet(path), rows, check_exact=True)


@pytest.mark.timeout(120, method="signal")
def test_nothing_waits_for_a_pipe_in_place_of_a_file(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A pipe that nobody writes to is damage like any other: said, and mended by the same command."""
    pipes = [
        path
        for pattern in (
            *("runs/kept/trainings/*/train*.json*", "runs/kept/cells/*/*.npz", "runs/kept/pictures/*.npz"),
            *("runs/kept/title.json", "runs/kept/attributes.parquet", "reports/.index-cache.json"),
        )
        for path in (sorted(Path().glob(pattern)) or [Path(pattern)])
        if "*" not in path.name
    ]
    for path in pipes:
        path.unlink(missing_ok=True)
        os.mkfifo(path)
    for words in ("status kept", "claims kept", "report kept"):
        with pytest.raises(SystemExit) as done:
            main(words.split())
        assert done.value.code in (0, 1, 2), words
        printed = "".join(capsys.readouterr())
        assert "not foreseen" not in printed, words
    for path in pipes[-3:]:  # what the run does not make, and the reports' own file
        path.unlink(missing_ok=True)
    for words in (UNET, UNET.replace("test-unet", "mean")):  # each makes a cell of its own
        with pytest.raises(SystemExit) as done:
            main(words.split())
        assert done.value.code == 0, capsys.readouterr().err
        capsys.readouterr()
    with pytest.raises(SystemExit) as done:
        main(["status", "kept"])
    assert done.value.code == 0, capsys.readouterr()


@pytest.mark.parametrize("label", ["\x1b[2J\x1b]0;title\x07", "a\nerror: done", "\u202etxt"])
def test_what_a_manifest_calls_its_cells_does_not_reach_the_terminal_as_it_is(
    label: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from bench.cli.commands.reproduce import _print
    from bench.runner.reproduce import MetricComparison, Reproduction

    number = MetricComparison(f"{label} on center, seed 0", f"{label}_db", 1.0, 2.0, "differs", label)
    _print(Reproduction(Path("runs/again"), [number]))
    shown = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)
    assert len(shown.splitlines()) == 4


def test_a_disk_that_is_full_is_said_of_a_place_that_has_a_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The system's own error of a write names no file."""
    monkeypatch.chdir(tmp_path)
    make_experiment(tmp_path / "runs", name="kept", models=("mean",), pictures=0)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("reports.render.render_report", full)
    result = bench("report", "kept")
    assert str(result.exception) == "cannot write reports: No space left on device"
