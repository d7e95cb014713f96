"""``bench data``: what a user sees."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.cli import main


def _bench(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["data", *map(str, arguments)])
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


def test_info_tells_counts_fingerprint_and_what_was_skipped(
    workplace: Path, pictures_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for path in pictures_dir.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "broken.jpg").write_bytes(b"")
    code, _, err = _bench(capsys, "info", "--data", folder)
    assert code == 2
    assert err.splitlines()[-1].startswith("error: ")
    assert "broken.jpg: empty file" in err
    code, out, _ = _bench(
        capsys, "info", "--data", folder, "--allow-unreadable", "--sheet", tmp_path / "sheets" / "sheet.png"
    )
    assert code == 0
    assert "pictures     60" in out
    assert "64 x 64 pixels, crop center" in out
    assert "skipped: broken.jpg: empty file" in out
    assert "unknown: no list of identities" in out
    with Image.open(tmp_path / "sheets" / "sheet.png") as sheet:
        assert sheet.format == "PNG"
        assert len(np.unique(np.asarray(sheet.convert("L")))) > 50


def test_info_verify_sums_the_pack(
    workplace: Path, pictures_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = ("info", "--data", pictures_dir, "--size", "32", "--verify")
    code, out, _ = _bench(capsys, *choice)
    assert code == 0
    assert "verified: every pixel is as it was packed" in out
    (path,) = (workplace / "cache" / "inpaint-bench").glob("*.npy")
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    code, out, err = _bench(capsys, *choice)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: the image cache {path} is not what was written, from picture 1 of 60 on")
    assert err.count("\n") == 1
    assert _bench(capsys, *choice)[0] == 0  # made again


def test_prepare_says_how_many(
    workplace: Path, pictures_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = _bench(capsys, "prepare", "--data", pictures_dir, "--size", "32")
    assert code == 0
    assert "60 pictures ready at 32 x 32" in out
    assert list((workplace / "cache" / "inpaint-bench").glob("*.npy"))


def test_a_missing_folder_is_one_line(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = _bench(capsys, "info", "--data", "nowhere")
    assert (code, out) == (2, "")
    assert err == "error: --data nowhere: no such file or folder\n"


def test_download_without_gdown_says_what_to_do(
    workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "gdown" else find(name, *a)
    )
    code, _, err = _bench(capsys, "download", "celeba", "--to", "data")
    assert code == 1
    assert "pip install gdown" in err
    assert err.count("\n") == 1
    assert not Path("data").exists()


def test_download_without_network_says_what_to_do(
    workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchvision.datasets

    def refuse(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable\nand more lines")

    monkeypatch.setattr(importlib.util, "find_spec", lambda *_: object())
    monkeypatch.setattr(torchvision.datasets, "CelebA", refuse)
    code, _, err = _bench(capsys, "download", "celeba", "--to", "data")
    assert code == 1
    assert "Network is unreachable" in err
    assert "--data" in err
    assert err.count("\n") == 1


def test_many_duplicates_are_counted_and_the_first_few_named(
    workplace: Path, pictures_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = workplace / "copies"
    folder.mkdir()
    (first, *_) = sorted(pictures_dir.iterdir())
    for i in range(200):
        (folder / f"{i:03d}.png").write_bytes(first.read_bytes())
    code, out, _ = _bench(capsys, "info", "--data", folder, "--size", "32")
    assert code == 0
    listed = [line for line in out.splitlines() if line.startswith("  duplicate: ")]
    assert len(listed) == 5
    count = int(out.split("duplicates ")[1].split()[0])
    assert f"... and {count - 5} more; --all lists them, --json holds them" in out
    code, out, _ = _bench(capsys, "info", "--data", folder, "--size", "32", "--json")
    assert len(json.loads(out)["duplicates"]) == count
    code, out, _ = _bench(capsys, "info", "--data", folder, "--size", "32", "--all")
    assert out.count("  duplicate: ") == count


@pytest.mark.parametrize(
    "words",
    [
        "data prepare --size 32",
        "data info --size 32",
        "masks export --mask center --size 32 --test-images all out",
        "masks export --mask center --size 32 --test-images all --with-images out",
        "score pictures --mask center --size 32 --test-images all --metrics psnr_db",
        "run --models mean --mask center --size 32 --preset smoke --test-images all --name notes",
        "run --models mean --mask center --size 32 --preset smoke --test-images all --name notes --plan-only",
        "run --models mean --mask center --size 32 --preset smoke --test-images all --name notes --dry-run",
    ],
)
def test_every_command_that_opens_data_says_what_of_it_is_not_used(
    workplace: Path, pictures_dir: Path, capfd: pytest.CaptureFixture[str], words: str
) -> None:
    """A list that is not read, which makes another split, what was left out, and a picture that is damaged."""
    root = workplace / "celeba"
    shutil.copytree(pictures_dir, root / "img_align_celeba")
    (root / "list_eval_partition (1).txt").write_text("000001.jpg 0\n")
    (root / "gone.png").symlink_to("nowhere")
    # What cannot be read must be less than a hundredth for 'bench score'.
    damaged = not words.startswith("score")
    if damaged:
        (root / "img_align_celeba" / "damaged.png").write_bytes(b"x")
    shutil.copytree(pictures_dir, workplace / "pictures")
    allowed = ("--allow-unreadable",) if damaged else ()
    with pytest.raises(SystemExit):
        main([*words.split(), "--data", "celeba", *allowed])
    told = capfd.readouterr()
    said = told.out + told.err
    assert "list_eval_partition (1).txt is not read: to use it, rename it" in said
    assert "gone.png (a broken link)" in said
    assert "no list_eval_partition.txt or .csv that names these pictures was read" in said
    assert ("damaged.png: " in said) == damaged
