"""The walk of ``docs/compare-anything.md``: every command and file of it, in order, with smaller budgets."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench.data import open_dataset
from reports.results.experiment import load_experiment
from reports.statistics.summary import summarize
from tests.bench.cli.test_cli import bench

PAGE = Path(__file__).resolve().parents[2] / "docs" / "compare-anything.md"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
#: What the page has -> what a test can afford.
SMALLER = {
    "--images-seen 16000": "--preset smoke --images-seen 4 --batch 2",
    "--train-images 1000": "--train-images 24",
    "--test-images 100": "--test-images 8",
}


@pytest.mark.long
@pytest.mark.usefixtures("no_drawings")
def test_the_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cv2")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(open_dataset, "FACES_COUNTS", (48, 8, 16))
    blocks = FENCE.findall(PAGE.read_text("utf-8"))
    scripts = [body for language, body in blocks if language == "python"]
    for name, script in zip(("complete.py", "one.py", "noisy.py"), scripts, strict=True):
        Path(name).write_text(script)
    programs = [body for language, body in blocks if language == "toml"]
    for name, program in zip(("telea.toml", "noisy.toml"), programs, strict=True):
        # The same interpreter: "python" may be another one, or none.
        Path(name).write_text(program.replace("python ", f"{sys.executable} ", 1))
    assert {language for language, _ in blocks} == {"bash", "python", "toml"}, "a block that is not tried"
    lines = [line for language, body in blocks if language == "bash" for line in body.splitlines()]
    assert all(line.startswith(("bench ", "python complete.py ")) for line in lines)
    assert [line.split()[1] for line in lines if line.startswith("bench ")] == [
        *("run", "masks", "score", "export", "score", "export", "leaderboard", "run", "merge", "run", "run"),
    ]

    outputs = {}
    for line in lines:
        # Nothing but budgets is changed, and every budget is.
        assert line.count("--images-seen") + line.count("--train-images") in (0, 2)
        smaller = line
        for given, affordable in SMALLER.items():
            smaller = smaller.replace(given, affordable)
        words = shlex.split(smaller)
        if words[0] == "python":
            subprocess.run([sys.executable, *words[1:]], check=True)
            # Another seed of the same program: the results, a level brighter.
            for path in Path("walk-results").rglob("*.png"):
                with Image.open(path) as image:
                    brighter = np.clip(np.asarray(image.convert("RGB"), np.int16) + 1, 0, 255).astype(
                        np.uint8
                    )
                target = Path("walk-results-1") / path.relative_to("walk-results")
                target.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(brighter).save(target)
            continue
        result = bench(*words[1:])
        assert result.exit_code == 0, f"{line}\n{result.output}"
        outputs[line] = result.output

    table = next(
        text for line, text in outputs.items() if line.startswith("bench export walk --format markdown")
    )
    for method in ("Telea (scored from a folder)", "GLCIC", "Linear"):
        (own,) = [line for line in table.splitlines() if line.startswith(f"| {method}")]
        assert re.search(r"\d+\.\d\d \[\d+\.\d\d, \d+\.\d\d\]", own), f"{method}: a mean with its interval"
    experiment = load_experiment(tmp_path / "runs" / "walk")
    assert experiment.manifest["settings"]["size"] == 256
    status = {cell["model"]: cell["status"] for cell in experiment.cells}
    assert status["context-encoder"] == "not-applicable"
    assert status["glcic"] == status["linear"] == status["exec:telea.toml"] == "done"
    rows = experiment.rows
    scored, called = (rows[rows["label"].str.startswith(label)] for label in ("Telea (", "Telea, called"))
    assert set(scored["seed"]) == {0, 1}
    # The hole is gray in the exported images and black in those of exec:, and Telea looks at neither.
    pd.testing.assert_series_equal(
        scored[scored["seed"] == 0].set_index("image_id")["psnr_db"],
        called.set_index("image_id")["psnr_db"],
    )
    summary = summarize(rows, ["psnr_db"]).set_index("label")
    assert summary.loc["Telea (scored from a folder)", "n_seeds"] == 2
    board = Path("leaderboard.html").read_text(encoding="utf-8")
    for method in ("Telea (scored from a folder)", "GLCIC"):
        assert method in board
    assert '<span class="unit">by Ada Lovelace</span>' in board
    assert Path("walk.bundle.zip").stat().st_size > 0
    both = summarize(load_experiment(tmp_path / "runs" / "both").rows, ["psnr_db"]).set_index("label")
    # Merged before the programs were called: what walk had then, and the other machine's method.
    assert set(both.index) == {"GLCIC", "Linear (ridge)", "Telea (scored from a folder)", "Mean image"}
    pd.testing.assert_series_equal(both.loc["GLCIC"], summary.loc["GLCIC"])
    noisy = rows[rows["label"] == "Telea with noise"]
    assert set(noisy["sample"]) == set(range(4))
    assert noisy.groupby("image_id")["psnr_db"].nunique().min() == 4
    page = (Path("reports") / "walk" / "index.html").read_text("utf-8")
    assert "Telea (scored from a folder)" in page
    assert 'data-label="Telea with noise, sample 3"' in page.split("Samples side by side")[1]
