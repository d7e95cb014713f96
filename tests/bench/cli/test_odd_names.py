"""Names of files, folders and labels with line ends, terminal sequences and brackets: shown as what they are."""

from __future__ import annotations

import ast
import io
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from bench import cli
from bench.cli import main
from bench.progress import ConsoleCallbacks
from masks.file_names import escape_name, one_line, resolve_path
from models.template import template_source
from reports.results.experiment import load_experiment
from tests.places import shown_on_a_terminal
from tests.reports.synthetic import make_experiment

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
    assert err == f"error: --data nowhere {escape_name(name)}: no such file or folder\n"


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
        assert out.count(escape_name(shown)) == 1
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
    assert f"mask: {escape_name(mask)}"[:40] in out
    assert not [line for line in (out + err).splitlines() if line.startswith("error")]
    code, out, err = bench("status", "odd", capsys=capsys)
    assert code == 0, err
    assert_plain(out + err)


#: Of folders: all at once, then bytes that are not UTF-8, a line end, a terminal's title, a turn of the direction, and
#: a sequence of one byte before what looks like a tag.
FOLDERS = (
    "caf\udce9\nerror: b\x1b]0;title\x07\u202e\x9b31m[b]",
    *(
        pytest.param(name, marks=pytest.mark.long)
        for name in ("caf\udce9", "a\nerror: b", "\x1b]0;title\x07", "\u202egnp", "\x9b31m[b]")
    ),
)


@pytest.fixture
def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Click takes sequences away where no terminal reads them; on a terminal all that is printed arrives."""
    monkeypatch.setattr("click.utils.should_strip_ansi", lambda *_: False)


def assert_plain_but_for_styles(text: str) -> None:
    assert_plain(re.sub(r"\x1b\[[0-9;]*m", "", text))
    assert not [line for line in text.splitlines() if line.startswith("error: b")]


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
@pytest.mark.parametrize("name", FOLDERS)
def test_commands_show_an_experiment_of_any_name_on_lines_of_their_own(
    workplace: Path,
    capsys: pytest.CaptureFixture[str],
    no_drawings: None,
    on_a_terminal: None,
    name: str,
) -> None:
    folder = make_experiment(Path("runs"), models=("mean", "linear"), images=4, pictures=2)
    shutil.copytree(folder, Path("runs") / name)
    # Weights that 'clean' offers to remove.
    weights = Path("runs") / name / "trainings" / "x" / "final.pt"
    weights.parent.mkdir(parents=True, exist_ok=True)
    weights.write_bytes(b"x")
    shown = one_line(name)
    for words, code, is_named in (
        (["status"], 0, True),
        (["status", name], 0, True),
        (["report", name, "--blind", "--figures", f"figures {name}"], 0, True),
        (["report", "synthetic"], 0, False),
        (["compare", name, "synthetic"], 0, True),
        (["compare", "synthetic", name], 0, True),
        (["leaderboard", "runs", "--output", f"board {name}.html"], 0, True),
        (["claims", name], 0, False),
        (["export", name, "--output", f"table {name}.csv"], 0, True),
        (["export", name, "--format", "bundle", "--output", f"{name}.zip"], 0, True),
        (["import", f"{name}.zip", "--name", "again"], 0, False),
        (["import", f"{name}.zip", "--name", f"again{name}"], 2, False),
        (["merge", name, "synthetic", "--name", "both"], 0, False),
        (["init", f"{name}.toml"], 0, True),
        (["plan", "--pilot", name, "--detect", "0.1"], None, False),
        (["masks", "verify", name], None, True),
        (["clean", name, "--checkpoints", "--dry-run"], 0, False),
        (["status", f"no {name}"], 2, False),
        (["report", name, name], 2, False),  # an error of click's own
        (["report", name, f"--{name}"], 2, False),
    ):
        left, out, err = bench(*words, capsys=capsys)
        assert left == code or code is None, (words, out, err)
        assert "(unexpected: " not in err
        assert_plain_but_for_styles(out + err)
        assert not is_named or shown in (out + err).replace("\n", ""), (words, out, err)


@pytest.mark.parametrize("name", [name for name in NAMES if one_line(name) != name])
def test_a_title_that_a_page_cannot_show_is_refused(
    workplace: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    make_experiment(Path("runs"), models=("mean",), images=2, pictures=0)
    code, out, err = bench("report", "synthetic", "--title", name, capsys=capsys)
    assert (code, out) == (2, "")
    assert err == f"error: --title {one_line(name)}: give one line of UTF-8 without control characters\n"
    assert not Path("reports").exists()


#: Of pictures: control characters, marks of direction, bytes that are not UTF-8, and what looks like an escape.
ODD_PICTURES = (
    *("\tx", "\rx", "a\rb", "a\x1cb", "a\nb", "red\x1b[31m", "\u202egnp", "a\u2028b", "\x9b31m"),
    *("a%0Ab", "caf\udce9"),
)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such names")
def test_ids_of_odd_names_are_told_apart_wherever_they_are_shown(
    workplace: Path, pictures_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the data to every table and the page, and back to the picture that is scored."""
    data = workplace / "data"
    data.mkdir()
    picture = Image.open(next(pictures_dir.iterdir())).convert("RGB").resize((32, 32))
    names = [f"{name}{k}.png" for name in ODD_PICTURES for k in range(9)]
    for i, name in enumerate(names):
        picture.putpixel((0, 0), (i, i, i))  # no two are duplicates
        picture.save(data / name)
    # "a\nb" and "a%0Ab" have one id: the first is used, and the second named.
    ids = set(map(escape_name, names))
    assert len(ids) == len(names) - 9
    run = ["run", "--models", "mean", "--mask", "center", "--data", "data", "--size", "32"]
    run += ["--preset", "smoke", "--test-images", "all", "--split", "paper", "--name", "odd", "--quiet"]
    code, _, err = bench(*run, capsys=capsys)
    assert code == 0, err
    tested = set(load_experiment(Path("runs/odd")).rows["image_id"])
    assert len(tested) > 5
    assert tested <= ids
    for form in ("csv", "markdown", "latex", "json"):
        code, out, err = bench("export", "odd", "--table", "rows", "--format", form, capsys=capsys)
        assert code == 0, err
        assert_plain(out)
    assert_plain(Path("reports/odd/index.html").read_text(encoding="utf-8"))
    # Under the names that pictures have on disk, and those of an export.
    Path("exported").mkdir()
    for image_id in tested:
        shutil.copy(resolve_path(f"data/{image_id}"), f"exported/{image_id}")
    for folder in ("data", "exported"):
        score = ["score", folder, "--mask", "center", "--into", "odd", "--label", folder]
        code, _, err = bench(*score, capsys=capsys)
        assert code == 0, err
        rows = load_experiment(Path("runs/odd")).rows
        scored = rows[rows["label"] == f"{folder} (scored from a folder)"]
        assert set(scored["image_id"]) == tested
        assert scored["identical"].all()


@pytest.fixture
def odd_model(workplace: Path) -> list[str]:
    """Return the options that give a model whose label acts on a terminal."""
    label = "\x1b]0;title\x07\nerror: b"
    source = template_source("odd-unet").replace('label="Odd Unet"', f"label={label!r}")
    assert repr(label) in source
    Path("odd.py").write_text(source, encoding="utf-8")
    return ["--models-from", "odd.py"]


def assert_shown_plainly(capsys: pytest.CaptureFixture[str], *commands: list[str]) -> None:
    for words in commands:
        code, out, err = bench(*words, capsys=capsys)
        assert code == 0, (words, out, err)
        assert_plain_but_for_styles(out + err)


def test_a_model_of_any_label_is_shown_on_lines_of_its_own(
    odd_model: list[str], capsys: pytest.CaptureFixture[str], on_a_terminal: None
) -> None:
    assert_shown_plainly(capsys, ["show", "odd-unet", *odd_model], ["list", "models", *odd_model])


@pytest.mark.long
def test_results_of_a_model_of_any_label_are_shown_on_lines_of_their_own(
    odd_model: list[str], capsys: pytest.CaptureFixture[str], on_a_terminal: None
) -> None:
    run = ["run", "--models", "odd-unet", "--preset", "smoke", "--size", "32", "--test-images", "1"]
    run += ["--images-seen", "4", "--name", "odd", *odd_model]
    assert_shown_plainly(
        capsys,
        [*run, "--dry-run"],
        run,
        ["status", "odd"],
        ["report", "odd"],
        ["compare", "odd", "odd"],
        ["export-weights", "odd", *odd_model],
        ["claims", "odd"],
    )


@pytest.mark.skipif(os.name != "posix", reason="a pseudo-terminal")
@pytest.mark.parametrize("form", ["csv", "markdown", "latex", "json"])
def test_a_table_on_a_terminal_shows_names_that_a_file_keeps(workplace: Path, form: str) -> None:
    name = "\x1b[2J\x1b]0;title\x07\u202e"
    make_experiment(Path("runs"), models=("mean",), images=2, pictures=0, labels={"mean": name})
    words = ["export", "synthetic", "--format", form]
    shown = shown_on_a_terminal(words, {}, forked=True).decode()
    assert not {"\x1b", "\x07", "\u202e"} & set(shown)
    assert "1b[2J" in shown
    kept = CliRunner().invoke(cli.cli, words).output
    # JSON escapes by itself.
    assert name in kept or (form == "json" and kept == shown.replace("\r\n", "\n"))


@pytest.mark.parametrize("name", NAMES)
def test_bars_show_labels_as_what_they_are(name: str) -> None:
    from rich.console import Console

    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=200, color_system=None)
    with ConsoleCallbacks(console=console) as callbacks:
        callbacks.training_started(name, 1, 1, 10)
        callbacks.training_step(name, 1, 10)
        callbacks.evaluating(name, name, 1, 2)
        assert callbacks._live is not None
        callbacks._live.refresh()
    drawn = screen.getvalue()
    assert one_line(name)[:10] in drawn
    # What the display itself moves the cursor with is none of the names' sequences.
    assert "\nerror: b" not in drawn
    for sequence in ("\x1b[2J\x1b]0", "\x9b", "\u202e", "\u2028"):
        assert sequence not in drawn


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_completion_offers_names_that_a_shell_can_read(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_experiment(Path("runs"), models=("mean",), images=2, pictures=0)
    for name in ("caf\udce9", "a\nplain,b", "\x1b[2J", "über"):
        shutil.copytree(folder, Path("runs") / name)
    monkeypatch.setenv("_BENCH_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "bench report ")
    monkeypatch.setenv("COMP_CWORD", "2")
    told = CliRunner().invoke(cli.cli, prog_name="bench", env={})
    assert told.output.split() == ["plain,synthetic", "plain,über"]


def test_commands_print_by_the_functions_that_escape() -> None:
    """Else the next command is the next hole; JSON escapes by itself, and a shell's script is nobody's name."""
    found, calls = [], 0
    for path in sorted(Path(cli.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and path.name != "wrapping.py":
                text = ast.unparse(node)
                if "table.add_row(" in text and "one_line" not in text:
                    found.append(f"{path.name}: {node.name}")
            if isinstance(node, ast.Call) and path.name != "wrapping.py":
                called, printed = ast.unparse(node.func), ast.unparse(node.args[0]) if node.args else ""
                calls += called in ("echo_line", "echo_wrapped")
                allowed = ("json.dumps(", "suite.reproduction_as_json(", "complete.source_template")
                if called in ("click.echo", "click.secho", "print") and not printed.startswith(allowed):
                    found.append(f"{path.name}:{node.lineno}: {printed}")
    assert not found
    assert calls > 100
