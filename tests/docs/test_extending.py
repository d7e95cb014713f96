"""The examples of docs/extending.md, put where the page says into a copy of the packages, and used."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


def example(heading: str, language: str = "python") -> str:
    """The code of a section of the page."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    (code,) = re.findall(rf"^```{language}\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return str(code)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages with all five examples in it."""
    folder = tmp_path_factory.mktemp("extended")
    for package in ("bench", "masks", "models", "reports"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "bench/evaluation/hole_bias.py").write_text(example("A metric"))
    (folder / "bench/data/sources/tiles.py").write_text(example("A data source"))
    (folder / "masks/kinds/bands.py").write_text(example("A mask"))
    schedules = folder / "models/learning_rate_schedules.py"
    text = schedules.read_text()
    end = text.index("def schedule_factor")
    schedules.write_text(f"{text[:end]}{example('A learning-rate schedule')}\n\n{text[end:]}")
    (folder / "reports/sections/slowest.py").write_text(example("A report section"))
    template = folder / "reports/templates/sections/slowest.html.j2"
    template.write_text(example("A report section", "html"))
    return folder


def bench(copy: Path, workplace: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(copy), "XDG_CACHE_HOME": str(workplace / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "bench", *words], cwd=workplace, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long
def test_one_run_uses_all_five(copy: Path, tmp_path: Path) -> None:
    from PIL import Image

    from bench.data.procedural_faces import render_faces

    images = tmp_path / "tiles_v1"
    images.mkdir()
    for index, face in enumerate(render_faces(list(range(60)), 64)):
        Image.fromarray(face).save(images / f"{index:03d}.png")
    words = ["run", "--models", "glcic", "--mask", "band", "--preset", "smoke", "--size", "64", "--name", "x"]
    words += ["--data", str(tmp_path), "--crop", "resize", "--schedule", "half-way", "--metrics", "hole_bias"]
    bench(copy, tmp_path, *words, "--train-images", "32", "--test-images", "2")
    manifest = json.loads((tmp_path / "runs/x/manifest.json").read_text())
    assert manifest["data"]["title"] == "Tiles"
    assert manifest["settings"]["schedule"] == "half-way"
    page = (tmp_path / "reports/x/index.html").read_text()
    assert "bias of the hole" in page.lower()
    assert "took longest" in page
    assert "Slowest training" in page


@pytest.mark.long
def test_lists_and_help_follow(copy: Path, tmp_path: Path) -> None:
    assert "hole_bias" in bench(copy, tmp_path, "list", "metrics")
    assert "band" in bench(copy, tmp_path, "list", "masks")
    assert "half-way" in bench(copy, tmp_path, "run", "--help")
