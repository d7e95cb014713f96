"""A ``matplotlibrc``, of the working folder or of the person, starts nothing, ends nothing and changes no figure."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import pytest

from reports import svg

ROOT = Path(__file__).parents[2]
#: Draws and writes as pages and exports do; ``first`` is what is imported before.
_SCRIPT = """
import sys, {first}
from pathlib import Path
from reports import plots, svg
with svg.apply_style():
    figure, axes = svg.new_figure()
    axes.plot([0, 1e5], [0, 1e-5], label="a_b$")
    axes.set_xlabel("steps")
print(svg.to_svg(figure, "curve"))
(path, _) = svg.save_figure(figure, Path(sys.argv[1]), "curve")
print(path.read_text(encoding="utf-8"))
print(Path.cwd())
"""


def _text(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


RC: dict[str, Callable[[Path], object]] = {
    # Together, since each alone would end or change the figures, and a process takes seconds.
    "settings": _text(
        b"text.usetex: True\ntext.latex.preamble: \\typeout{hello}\nbackend: module://trap\n"
        b"axes.xmargin: 0.4\npath.sketch: 5, 100, 2\n"
        b"axes.formatter.limits: 0, 0\nxtick.bottom: False\nsvg.image_inline: False\n"
    ),
    "not UTF-8": _text(b"\xff\xfe\0\1"),
    "nonsense": _text(b"nonsense: 1\nno colon\nlines.linewidth: wide\n"),
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a dead link": lambda path: path.symlink_to("nowhere"),
}


def _draw(folder: Path, first: str, **environment: str) -> str:
    """Return the figures drawn in ``folder`` by a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT.format(first=first), str(folder.parent)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1", **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    (folder := tmp_path_factory.mktemp("plain") / "work").mkdir()
    *figures, place = _draw(folder, "os").splitlines()
    assert place == str(folder)
    return figures


@pytest.mark.parametrize(
    ("rc", "first"),
    [*((rc, "reports.sections") for rc in RC), ("settings", "reports.plots"), ("a pipe", "reports.svg")],
)
def test_figures_are_the_same_whatever_lies_in_the_working_folder(
    tmp_path: Path, plain: list[str], rc: str, first: str
) -> None:
    """``first``: the module that brings matplotlib; afterwards the folder is what it was."""
    (folder := tmp_path / "work").mkdir()
    RC[rc](folder / "matplotlibrc")
    (folder / "trap.py").write_text("raise SystemExit('of the working folder')\n")
    *figures, place = _draw(folder, first).splitlines()
    assert (figures, place) == (plain, str(folder))


@pytest.mark.parametrize("where", ["MATPLOTLIBRC", "MPLCONFIGDIR"])
def test_figures_are_the_same_whatever_a_person_has_set(tmp_path: Path, plain: list[str], where: str) -> None:
    for name in ("work", "set"):
        (tmp_path / name).mkdir()
    RC["settings"](tmp_path / "set" / "matplotlibrc")
    figures = _draw(tmp_path / "work", "reports", **{where: str(tmp_path / "set")}).splitlines()[:-1]
    assert figures == plain
    # Also where a notebook has imported matplotlib before.
    figures = _draw(tmp_path / "work", "matplotlib", **{where: str(tmp_path / "set")}).splitlines()[:-1]
    assert figures == plain


def test_the_settings_of_a_notebook_are_left_to_it() -> None:
    with mpl.rc_context({"lines.linewidth": 7.0, "axes.xmargin": 0.4}):
        with svg.apply_style({"svg.hashsalt": "x"}):
            assert (mpl.rcParams["axes.xmargin"], mpl.rcParams["svg.hashsalt"]) == (0.05, "x")
        assert (mpl.rcParams["lines.linewidth"], mpl.rcParams["axes.xmargin"]) == (7.0, 0.4)


def test_a_working_folder_that_is_gone_ends_no_import(tmp_path: Path) -> None:
    words = f"import os; os.rmdir({str(tmp_path)!r}); import reports.plain_matplotlib, matplotlib"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-c", words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
