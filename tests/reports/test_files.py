"""Files beside the page: figures for papers, and a PDF."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from bench.cli import main
from reports import pdf, svg
from reports.render import save_figures
from tests.reports.synthetic import make_experiment


@pytest.mark.long
def test_every_figure_is_written_as_svg_and_png(tmp_path: Path) -> None:
    folder = make_experiment(
        tmp_path / "runs", models=("glcic", "mgs-iim", "biharmonic"), masks=("center", "shapes")
    )
    written = save_figures(folder, tmp_path / "figures")
    names = {p.stem for p in written}
    assert {
        f"{mask}-psnr-db-{kind}" for mask in ("center", "shapes") for kind in ("ecdf", "violins", "wins")
    } <= names
    assert {"validation-images-seen", "validation-seconds", "cost-parameters", "cost-time"} <= names
    assert len([n for n in names if n.startswith("loss-")]) == 2
    for name in names:
        text = (tmp_path / "figures" / f"{name}.svg").read_text()
        assert "var(--" not in text, "colors of the page mean nothing outside of it"
        with Image.open(tmp_path / "figures" / f"{name}.png") as image:
            assert image.width > 1000


@pytest.mark.long
def test_figures_of_lines_name_their_models_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_experiment(tmp_path / "runs", models=("glcic", "mgs-iim"), pictures=0)
    told: list[set[str]] = []

    def note(figure, folder, name):  # type: ignore[no-untyped-def]
        original(figure, folder, name)
        if name.endswith("ecdf"):
            told.append({t.get_text() for legend in figure.legends for t in legend.get_texts()})
        return []

    original = svg.save_figure
    monkeypatch.setattr(svg, "save_figure", note)
    save_figures(folder, tmp_path / "figures")
    assert told == [{"GLCIC", "MGS-IIM"}]


@pytest.mark.long
def test_figures_whose_names_are_alike_do_not_overwrite_each_other(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path / "runs", models=("mgs-iim",), masks=("a*b", "a+b"), pictures=0)
    names = [p.name for p in save_figures(folder, tmp_path / "figures")]
    assert len(names) == len(set(names))


def test_figures_are_whole_after_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushed under another name, renamed, and the folder flushed, like every other file."""
    flushed: list[str] = []
    flush, rename = os.fsync, Path.replace

    def note_flush(descriptor: int) -> None:
        flushed.append(str(Path(f"/proc/self/fd/{descriptor}").resolve()))
        flush(descriptor)

    def note_rename(self: Path, target: Path) -> Path:
        assert flushed[-1] == str(self), "renamed before it was flushed"
        renamed.append(Path(target).name)
        return rename(self, target)

    renamed: list[str] = []
    monkeypatch.setattr(os, "fsync", note_flush)
    monkeypatch.setattr(Path, "replace", note_rename)
    figure, axes = svg.new_figure()
    axes.plot([0, 1], [0, 1])
    svg.save_figure(figure, tmp_path / "made" / "figures", "line")
    assert renamed == ["line.svg", "line.png"]
    assert flushed[-1] == str(tmp_path / "made" / "figures")
    assert sorted(p.name for p in (tmp_path / "made" / "figures").iterdir()) == sorted(renamed)


def test_a_pdf_without_chromium_is_a_clear_error_after_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_experiment(tmp_path / "runs", models=("mean",), pictures=0)
    monkeypatch.setattr(pdf, "_NAMES", ("no-such-browser",))
    with pytest.raises(SystemExit) as stop:
        main(["report", "synthetic", "--pdf"])
    assert stop.value.code == 2
    assert "needs Chromium" in capsys.readouterr().err
    assert (tmp_path / "reports" / "synthetic" / "index.html").is_file()


@pytest.mark.long
@pytest.mark.skipif(pdf.find_chromium() is None, reason="Chromium is not installed")
def test_the_page_is_printed_as_pdf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_experiment(tmp_path / "runs", models=("mean", "mgs-iim"), pictures=2)
    with pytest.raises(SystemExit) as stop:
        main(["report", "synthetic", "--pdf"])
    assert stop.value.code == 0
    printed = tmp_path / "reports" / "synthetic" / "index.pdf"
    assert printed.read_bytes().startswith(b"%PDF-")
    assert printed.stat().st_size > 20_000
