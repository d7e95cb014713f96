"""Names of files, folders and labels with line ends, terminal sequences and brackets: shown as what they are."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.cli import main
from bench.progress import ConsoleCallbacks
from masks.image_files import one_line

NAMES = ("a\nerror: b", "\x1b[2J\x1b]0;title\x07", "\x9b31m", "[/b] [red]", "\u202egnp.exe", "x\u2028y")


def bench(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as leaving:
        main(list(words))
    told = capsys.readouterr()
    return leaving.value.code, told.out, told.err


def assert_plain(text: str) -> None:
    assert all(line == one_line(line) for line in text.split("\n"))


@pytest.mark.parametrize("name", NAMES)
def test_an_error_is_one_line_whatever_it_names(
    workplace: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    code, out, err = bench("data", "info", "--data", f"nowhere {name}", capsys=capsys)
    assert (code, out) == (2, "")
    assert err == f"error: --data nowhere {one_line(name)}: no such file or folder\n"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_known_of_data_is_one_line_each(
    workplace: Path, pictures_dir: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    name = name.replace("/", "")
    root = workplace / f"data {name}"
    shutil.copytree(pictures_dir, root)
    (root / f"left out {name}.png").symlink_to("nowhere")
    (root / f"bad {name}.png").write_bytes(b"x")
    code, out, err = bench(
        "data", "info", "--data", str(root), "--size", "32", "--allow-unreadable", capsys=capsys
    )
    assert code == 0, err
    assert_plain(out + err)
    for shown in (f"Folder data {name}", f"left out {name}.png (a broken link)", f"bad {name}.png: "):
        assert out.count(one_line(shown)) == 1
    assert len([line for line in out.splitlines() if line.startswith("error")]) == 0


def test_messages_of_a_run_are_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    for name in NAMES:
        with ConsoleCallbacks(verbose=True) as callbacks:
            callbacks.note(f"note {name}")
            callbacks.warn(f"warning {name}")
            callbacks.cell_failed(name, name, name)
            callbacks.preparing(name, 1, 2)
        said = capsys.readouterr().err
        assert_plain(said)
        assert len(said.splitlines()) == 4
        assert said.count(one_line(name)) == 6


def test_the_table_of_a_run_shows_brackets_as_they_are(
    workplace: Path, pictures_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``[/b]`` is a tag to rich, which ends in an error where nothing is open, and ``[red]`` vanishes."""
    folder = workplace / "masks [red] [" / "b]\x1b[31m\nerror: c"
    folder.mkdir(parents=True)
    hole = np.zeros((32, 32), np.uint8)
    hole[8:24, 8:24] = 255
    Image.fromarray(hole).save(folder / "1.png")
    mask = f"files:{folder.relative_to(workplace)}"
    words = ["run", "--models", "mean", "--mask", mask, "--data", str(pictures_dir), "--size", "32"]
    words += ["--preset", "smoke", "--test-images", "2", "--name", "odd"]
    code, out, err = bench(*words, "--dry-run", capsys=capsys)
    assert code == 0, err
    assert_plain(out + err)
    code, out, err = bench(*words, capsys=capsys)
    assert code == 0, err
    assert_plain(out + err)
    assert f"mask: {one_line(mask)}"[:40] in out
    assert not [line for line in (out + err).splitlines() if line.startswith("error")]
    code, out, err = bench("status", "odd", capsys=capsys)
    assert code == 0, err
    assert_plain(out + err)
