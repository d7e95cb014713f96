"""Metrics that disagree on the order: found where both differences are clear, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reports.render import render_report
from reports.results.schema import read_rows, write_rows
from reports.statistics.disagreement import find_order_disagreements
from tests.reports.synthetic import make_experiment

DIRECTIONS = {"psnr_db": True, "ssim": True, "distance": False}


def table(**means: tuple[float, float, float]) -> pd.DataFrame:
    """Methods with means of PSNR, SSIM and a distance; 40 images, noise of 0.1."""
    rng = np.random.default_rng(0)
    parts = []
    for label, (psnr, ssim, distance) in means.items():
        noise = rng.normal(0, 0.1, (3, 40))
        parts.append(
            pd.DataFrame(
                {
                    "mask": "center", "label": label, "model": label, "train_mask": "-", "seed": 0,
                    "image_id": [f"{i:03d}.png" for i in range(40)],
                    "identity": pd.array(np.arange(40), dtype="Int64"), "identical": False,
                    "psnr_db": psnr + noise[0], "ssim": ssim + noise[1] / 10, "distance": distance + noise[2] / 10,
                }
            )
        )  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def test_the_mean_image_beats_the_mean_color_in_psnr_and_is_further_from_the_person() -> None:
    rows = table(color=(18.9, 0.7, 0.55), image=(20.8, 0.7, 0.62))
    (found,) = find_order_disagreements(rows, DIRECTIONS)
    assert (found.better, found.worse) == ("image", "color")
    assert (found.metric, found.other) == ("psnr_db", "distance")
    assert found.difference == pytest.approx(1.9, abs=0.1)
    assert found.low < found.difference < found.high
    assert 0.05 < found.other_low < found.other_difference < found.other_high
    assert found.decided, "neither was trained: images alone decide"
    assert found.is_decided
    assert found.other_is_decided


def test_what_the_images_do_not_tell_apart_is_no_disagreement() -> None:
    assert find_order_disagreements(table(a=(20.0, 0.7, 0.5), b=(21.0, 0.7001, 0.4999)), DIRECTIONS) == []
    assert find_order_disagreements(table(a=(20.0, 0.7, 0.5), b=(21.0, 0.8, 0.4)), DIRECTIONS) == []


def test_the_report_shows_the_pair_with_both_differences(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path / "runs", models=("mean", "mean-image"), pictures=0)
    for number, path in enumerate(sorted(folder.glob("cells/*/results.parquet"))):
        rows = read_rows(path)
        spread = np.linspace(0, 0.5, len(rows))
        write_rows(
            rows.assign(psnr_db=20.0 + number + spread, hole_mae=0.1 + number / 10 + spread / 10), path
        )
    page = render_report(folder, tmp_path / "reports").read_text()
    part = page.split("Metrics that disagree on the order", 2)[-1].split("<h2", 1)[0]
    # One row for the pair, however many metrics disagree; its first side is the favorite of the first metric.
    assert part.count("<tr><td") == 1
    assert "1 pair with a baseline" in part
    assert "hole MAE" in part
    assert "+1.00" in part
    assert "−0.1000" in part, "told from the side of the method that is better: a lower error"
