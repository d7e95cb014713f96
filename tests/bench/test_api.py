"""The Python API: scripts and notebooks get what the command line gets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import bench
from bench.api import summary_table
from tests.bench.cli.test_cli import bench as command


def gray(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Fill the hole with gray."""
    assert image.dtype == np.uint8
    assert mask.dtype == np.bool_
    assert not image[mask].any()  # nothing of what lies under the hole
    image[mask] = 128
    return image


def test_every_name_of_the_api_is_there_and_documented() -> None:
    for name in bench.__all__:
        assert name == "__version__" or getattr(bench, name).__doc__
    assert set(bench.__all__) <= set(dir(bench))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = bench.nothing  # type: ignore[attr-defined]


def test_import_is_quick_and_light() -> None:
    code = "import sys, bench; assert not {'torch', 'pandas', 'numpy', 'click'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_run_gives_what_the_command_gives(workplace: Path, pictures_dir: Path) -> None:
    experiment = bench.run(
        "mean,linear",
        "center",
        pictures_dir,
        "smoke",
        name="a",
        metrics=["hole_mae"],
        seeds=0,
        progress=False,
    )
    words = ["run", "--models", "mean,linear", "--data", str(pictures_dir), "--preset", "smoke", "-q"]
    assert command(*words, "--metrics", "hole_mae", "--name", "b").exit_code == 0
    pd.testing.assert_frame_equal(experiment.rows, bench.load_experiment("b").rows, check_exact=True)
    table = experiment.table
    assert list(table["method"]) == ["Mean pixel", "Linear"] or len(table) == 2
    assert {"psnr_db", "psnr_db_low", "psnr_db_high", "ssim", "hole_mae", "n_images"} <= set(table)
    for name, part in experiment.rows.groupby("label"):
        mean = table.loc[table["method"] == name, "psnr_db"].item()
        assert mean == pytest.approx(part["psnr_db"].mean(), abs=1e-9)
    assert experiment.failures == {}
    assert experiment.report().is_file()
    assert experiment.images(count=2).size == (64 * 4, 64 * 2)
    assert list(experiment.claims()["outcome"].unique()) == ["not tested"]
    assert "<table" in experiment._repr_html_()
    again = bench.load_experiment(Path("runs/a"))
    assert repr(again) == repr(experiment)


def test_score_measures_a_function_as_the_command_measures_its_images(
    workplace: Path, pictures_dir: Path
) -> None:
    """Oracle: the images written to a folder, scored by ``bench score``."""
    from PIL import Image

    from bench.data import DataSpec, open_data

    scores = bench.score(gray, "center", pictures_dir, "smoke", metrics="psnr_db,hole_mae", progress=False)
    data = open_data(DataSpec(source=str(pictures_dir), size=64))
    (hole,) = bench.masks("center", count=1, size=64)
    Path("made").mkdir()
    for name, pixels in zip(data.test.ids, data.test.pixels, strict=True):
        image = pixels.copy()
        image[hole] = 128
        Image.fromarray(image).save(Path("made") / Path(name).with_suffix(".png").name)
    words = ["--data", str(pictures_dir), "--mask", "center", "--size", "64", "--output", "rows.parquet"]
    result = command("score", "made", *words, "--metrics", "psnr_db,hole_mae", "--label", "gray")
    assert result.exit_code == 0, result.output
    theirs = pd.read_parquet("rows.parquet").set_index("image_id").loc[scores.rows["image_id"]]
    for name in ("psnr_db", "hole_mae", "hole_ratio"):
        assert scores.rows[name].tolist() == theirs[name].tolist()
    assert list(scores.table["method"]) == ["gray"]
    folder = bench.score("made", "center", pictures_dir, "smoke", metrics="psnr_db", progress=False)
    assert folder.rows["psnr_db"].tolist() == scores.rows["psnr_db"].tolist()


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (
            lambda image, mask: image[..., 0],
            r"returned uint8 of shape \(64, 64\); it must return uint8 of shape",
        ),
        (lambda image, mask: image / 255, "returned float64"),
        (lambda image, mask: None, "returned object"),
    ],
)
def test_a_function_that_returns_something_else_is_one_line(
    workplace: Path, pictures_dir: Path, function: object, says: str
) -> None:
    with pytest.raises(bench.UsageError, match=says):
        bench.score(function, data=pictures_dir, metrics="psnr_db", progress=False)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"models": "glcci"}, "did you mean 'glcic'"),
        ({"masks": "centre"}, "did you mean 'center'"),
        ({"masks": "files:"}, "names no folder"),
        ({"masks": "files:?pair=name"}, "names no folder"),
        ({"preset": "smok"}, "did you mean 'smoke'"),
        ({"images_sen": 3}, "did you mean 'images_seen'"),
        ({"name": "a/b"}, "--name 'a/b'"),
        ({"size": 64.5}, "size"),
        ({"track": "banana"}, "track"),
        ({"precision": "int8"}, "precision"),
    ],
)
def test_wrong_values_are_one_line_before_anything_runs(
    workplace: Path, pictures_dir: Path, settings: dict[str, object], says: str
) -> None:
    with pytest.raises(bench.UsageError, match=says):
        bench.run(**{"models": "mean", "data": pictures_dir, "progress": False, **settings})  # type: ignore[arg-type]
    assert not (workplace / "runs").exists()


def test_no_empty_path_is_the_current_folder(workplace: Path, pictures_dir: Path) -> None:
    with pytest.raises(bench.UsageError, match="an empty path"):
        bench.score("", data=pictures_dir, progress=False)
    for name in ("files:", "files:?invert"):
        with pytest.raises(bench.UsageError, match="names no folder"):
            bench.masks(name)


@pytest.mark.long
def test_a_script_without_a_guard_trains_side_by_side(
    workplace: Path, unet: Path, pictures_dir: Path
) -> None:
    script = workplace / "script.py"
    script.write_text(
        "import bench\n"
        f"e = bench.run('test-unet', data={str(pictures_dir)!r}, preset='smoke', models_from=[{str(unet)!r}],\n"
        "              seeds=[0, 1], jobs=2, name='side', progress=False, pictures=False)\n"
        "print(len(e.rows), e.failures)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stderr
    assert done.stdout.endswith("{}\n")


def test_the_summary_of_two_seeds_is_over_both() -> None:
    rows = pd.DataFrame(
        {
            "model": "m", "label": "M", "track": "uniform", "preset": "quick", "mask": "center", "train_mask": "center",
            "size": 64, "image_id": ["a", "b"] * 2, "seed": [0, 0, 1, 1], "hole_ratio": 0.25, "identical": False,
            "identity": pd.array([1, 2, 1, 2], dtype="Int64"), "psnr_db": [20.0, 22.0, 24.0, 26.0],
        }
    )  # fmt: skip
    (line,) = summary_table(rows).to_dict("records")
    assert (line["method"], line["psnr_db"], line["n_images"], line["n_seeds"]) == ("M", 23.0, 2, 2)
    assert line["psnr_db_low"] < 23.0 < line["psnr_db_high"]


def test_masks_of_a_folder_that_changed_in_a_session_are_read_anew(tmp_path: Path) -> None:
    holes = bench.masks("shapes", ids=["a", "b"], size=32)
    for hole in holes:
        Image.fromarray(hole).convert("L").save(tmp_path / "only.png")
        assert np.array_equal(bench.masks(f"files:{tmp_path}", ids=["x"], size=32)[0], hole)
