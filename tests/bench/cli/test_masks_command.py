"""``bench masks``: what a user sees."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.cli import main
from bench.data import DataSpec, open_data
from masks import registry


def _bench(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["masks", *map(str, arguments)])
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


def test_export_writes_the_masks_of_the_run_with_the_same_options(
    workplace: Path, pictures_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    choice = {"size": 32, "crop": "resize", "split": "paper"}
    options = [word for key, value in choice.items() for word in (f"--{key}", str(value))]
    code, out, _ = _bench(
        capsys, "export", "--data", pictures_dir, "--mask", "freeform", *options, "--seed", "3", "out"
    )
    assert code == 0
    ids = open_data(DataSpec(source=str(pictures_dir), **choice)).test.ids  # type: ignore[arg-type]
    assert f"wrote {len(ids)} masks" in out
    drawn = registry.draw_masks("freeform", ids, 32, base_seed=3)
    for image_id, mask in zip(ids, drawn, strict=True):
        png = Path("out", image_id).with_suffix(".png")
        assert np.array_equal(np.asarray(Image.open(png)), mask * np.uint8(255))
    manifest = json.loads(Path("out/manifest.json").read_text())
    assert {key: manifest[key] for key in (*choice, "base_seed", "mask")} == {
        **choice,
        "base_seed": 3,
        "mask": "freeform",
    }
    assert _bench(capsys, "verify", "out")[:2] == (0, "out: as written\n")
    # What is no file and foreign is named; what a file manager hides there is nobody's.
    Path("out/.thumbnails").mkdir()
    Path("out/.thumbnails/x.png").write_bytes(b"x")
    Path("out/gone.png").symlink_to("/nowhere")
    Path("out/more").symlink_to("/nowhere/at/all")
    os.mkfifo("out/pipe.png")
    code, out, err = _bench(capsys, "verify", "out")
    assert (code, out) == (1, "out: 3 problems\n")
    assert err.splitlines() == [
        "gone.png: not in the manifest (a broken link)",
        "more: not in the manifest (a broken link)",
        "pipe.png: not in the manifest (not a regular file)",
    ]
    for name in ("gone.png", "more", "pipe.png"):
        Path("out", name).unlink()
    code, _, err = _bench(capsys, "export", "--data", pictures_dir, "--mask", "center", *options, "out")
    assert code == 2
    assert "there are files already; give a new folder" in err
    Path("out/manifest.json").write_text(json.dumps({**manifest, "mask": "center"}))
    code, out, err = _bench(capsys, "verify", "out")
    assert (code, out) == (1, "out: 1 problems\n")
    assert err == "manifest.json: is not what was written\n"


def test_the_printed_commands_run_from_any_folder(
    workplace: Path, pictures_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """LaMa's is typed in LaMa's checkout, and the names of folders and files: masks need quotes in a shell."""
    given = ["--data", pictures_dir, "--size", "32", "--test-images", "2"]
    first = ["export", *given, "--mask", "center", "--with-images"]
    assert _bench(capsys, *first, "my masks")[0] == 0
    mask = "files:my masks/masks?pair=digest&resize=nearest"
    code, out, _ = _bench(
        capsys, "export", *given, "--mask", mask, "--with-images", "--layout", "lama", "for lama"
    )
    assert code == 0
    lines = dict(line.split(": ", 1) for line in out.splitlines() if line.startswith(("run: ", "then: ")))
    folder, results = str(workplace / "for lama"), str(workplace / "for lama-results")
    assert {f"indir={folder}", f"outdir={results}"} <= set(shlex.split(lines["run"]))
    score = shlex.split(lines["then"])
    assert score[:3] == ["bench", "score", results]
    assert score[score.index("--mask") + 1] == mask
    Path(results).mkdir()
    for path in Path(folder).glob("*_mask001.png"):
        Image.open(str(path).replace("_mask001", "")).save(Path(results) / path.name)
    with pytest.raises(SystemExit) as stop:
        main(score[1:])
    assert stop.value.code in (0, None), capsys.readouterr().err


def test_preview_draws_every_mask_and_says_the_share_of_the_hole(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = _bench(capsys, "preview", "--size", "32", "--count", "2", "--output", "all.png")
    assert (code, out) == (0, "wrote all.png\n")
    with Image.open("all.png") as sheet:
        assert sheet.height >= 32 * len(registry.mask_names())
    code, _, err = _bench(capsys, "preview", "--mask", "centre")
    assert code == 2
    assert "did you mean 'center'" in err


@pytest.mark.filterwarnings("default::masks.folder.UnusedFilesWarning")
@pytest.mark.usefixtures("workplace")
def test_files_of_a_folder_that_are_no_masks_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    Path("holes/@eaDir").mkdir(parents=True)
    for i, mask in enumerate(registry.draw_masks("center", ["a", "b"], 32)):
        Image.fromarray(mask * np.uint8(255)).save(f"holes/{i}.png")
    Path("holes/c\x1b[2J.jfif").write_bytes(Path("holes/0.png").read_bytes())
    code, _, err = _bench(capsys, "preview", "--mask", "files:holes", "--size", "32")
    assert code == 0
    assert "warning: holes: left out: @eaDir (hidden)\n" in err
    assert "warning: holes: not read, since they are none of" in err
    assert "c%1B[2J.jfif\n" in err


@pytest.mark.filterwarnings("default::masks.folder.UnusedFilesWarning")
@pytest.mark.usefixtures("workplace", "no_page")
def test_a_run_keeps_what_of_its_masks_is_not_used(
    pictures_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("openings").mkdir()
    for i, mask in enumerate(registry.draw_masks("center", ["a", "b"], 32)):
        Image.fromarray(mask * np.uint8(255)).save(f"openings/{i}.png")
    Path("openings/gone.png").symlink_to("nowhere")
    words = ["run", "--models", "mean", "--mask", "files:openings,center", "--data", str(pictures_dir)]
    with pytest.raises(SystemExit, match=r"^0$"):
        main([*words, "--size", "32", "--preset", "smoke", "--test-images", "2", "--name", "kept"])
    said = "left out: gone.png (a broken link)"
    assert f"warning: openings: {said}\n" in capsys.readouterr().err
    masks = json.loads(Path("runs/kept/manifest.json").read_text())["masks"]
    assert masks["files:openings"]["notes"] == [said]
    assert "notes" not in masks["center"]
    # Masks that are trained on are not among those that are evaluated.
    words = ["run", "--models", "pconv", "--mask", "center", "--train-mask", "files:openings"]
    words += ["--data", str(pictures_dir)]
    words += [
        "--size",
        "32",
        "--preset",
        "smoke",
        "--images-seen",
        "4",
        "--test-images",
        "2",
        "--name",
        "trained",
    ]
    with pytest.raises(SystemExit, match=r"^0$"):
        main(words)
    trained = json.loads(Path("runs/trained/manifest.json").read_text())
    assert trained["training_masks"] == {"files:openings": [said]}


@pytest.mark.filterwarnings("default::masks.folder.PolarityWarning")
def test_inverted_masks_of_a_folder_are_warned_about(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("inverted").mkdir()
    for i, mask in enumerate(registry.draw_masks("shapes", ["a", "b"], 32)):
        Image.fromarray((1 - mask) * np.uint8(255)).save(f"inverted/{i}.png")
    code, _, err = _bench(capsys, "preview", "--mask", "files:inverted", "--size", "32")
    assert code == 0
    assert "most masks are mostly hole; here white is hole, so they may be inverted" in err
