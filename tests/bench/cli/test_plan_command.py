"""``bench plan``: seeds, images and hours for a difference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.coverage import TRIAL, between_trainings
from reports.claims.power import (
    ASSUMED_SPREAD,
    detection_probability,
    measure_spread,
    plan_experiment,
    predict_estimate,
    seeds_to_decide,
)
from reports.statistics.intervals import seed_interval
from reports.statistics.scores import Scores
from tests.bench.cli.test_cli import bench, error_of
from tests.reports.synthetic import make_experiment


def plan(*args: str) -> dict[str, Any]:
    result = bench("plan", *args, "--json")
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.output)
    return found


def test_a_pilot_gives_seeds_images_and_hours(tmp_path: Path) -> None:
    folder = make_experiment(
        tmp_path, models=("glcic", "pconv", "mgs-iim", "mean"), seeds=(0, 1, 2), images=40, seed_sd=0.1
    )
    found = plan("--pilot", str(folder), "--detect", "0.2")
    assert (found["models"], found["pairs"]) == (3, 3)
    assert [line["n_images"] for line in found["plan"]] == [10, 40, 160]
    seeds = [line["seeds"] for line in found["plan"]]
    assert all(isinstance(n, int) and n >= 3 for n in seeds)
    assert seeds == sorted(seeds, reverse=True)
    # Three trainings of 60 s and the evaluation of 40 images at 16 a second, for each model.
    (line,) = [line for line in found["plan"] if line["n_images"] == 40]
    assert line["hours"] == pytest.approx(line["seeds"] * 3 * (60 + 40 / 16) / 3600)
    longer = plan("--pilot", str(folder), "--detect", "0.2", "--images-seen", "16000")
    assert longer["plan"][1]["hours"] > 9 * line["hours"]


def test_without_a_pilot_the_assumed_spread_is_printed() -> None:
    result = bench("plan", "--detect", "0.2")
    assert result.exit_code == 0
    assert "assumed, for want of a --pilot" in result.output
    assert "standard deviation between trainings 0.1" in result.output
    assert plan("--detect", "0.5")["plan"][1]["seeds"] < plan("--detect", "0.1")["plan"][1]["seeds"]


def test_what_cannot_be_planned_is_said(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path, models=("glcic", "mgs-iim"), seeds=(0,), pictures=0)
    assert "two seeds each" in error_of("plan", "--pilot", str(folder), "--detect", "0.2")
    for metric in ("fid", "image_id", "seed", "hole_ratio", "identical"):  # columns that are no metrics, too
        assert "lacks it" in error_of("plan", "--pilot", str(folder), "--detect", "0.2", "--metric", metric)
    assert "has center" in error_of("plan", "--pilot", str(folder), "--detect", "0.2", "--mask", "wide")
    assert "positive" in error_of("plan", "--detect", "0")
    assert "only psnr_db" in error_of("plan", "--detect", "0.1", "--metric", "ssim")


@pytest.mark.parametrize(("seeds", "difference"), [(3, 0.2), (5, 0.2), (5, 0.1)])
def test_predicted_power_is_the_simulated_one(seeds: int, difference: float) -> None:
    simulated = between_trainings(TRIAL, seeds, 400, difference=difference, compare=False)["excludes zero"]
    # Standard error of 400 repeats at one half is 2.5 points; three of them.
    assert detection_probability(ASSUMED_SPREAD, seeds, difference) == pytest.approx(simulated, abs=0.075)


def test_power_grows_with_seeds_images_and_the_difference() -> None:
    for smaller, larger in (
        (detection_probability(ASSUMED_SPREAD, 3, 0.2), detection_probability(ASSUMED_SPREAD, 6, 0.2)),
        (detection_probability(ASSUMED_SPREAD, 5, 0.1), detection_probability(ASSUMED_SPREAD, 5, 0.2)),
        (
            detection_probability(ASSUMED_SPREAD.scaled_to(100), 5, 0.2),
            detection_probability(ASSUMED_SPREAD, 5, 0.2),
        ),
    ):
        assert smaller < larger
    needed = seeds_to_decide(ASSUMED_SPREAD, 0.2)
    assert needed is not None
    assert detection_probability(ASSUMED_SPREAD, needed, 0.2) >= 0.8
    assert detection_probability(ASSUMED_SPREAD, needed - 1, 0.2) < 0.8


def test_a_spread_is_measured_as_it_was_made_and_predicts_the_interval() -> None:
    rng = np.random.default_rng(4)
    people = pd.Series(np.repeat(np.arange(200), 5), dtype="Int64")
    hard = TRIAL.difficulty(rng)[:1000]

    def scores(name: str, seeds: int) -> Scores:
        own = rng.normal(0, 0.3, (seeds, 1)) + rng.normal(0, 0.5, (seeds, 1000))
        images = pd.Index(range(1000))
        return Scores(name, name, "center", tuple(range(seeds)), hard + own, images, people, 0)

    a, b = scores("a", 60), scores("b", 60)
    spread = measure_spread(a, b)
    assert spread is not None
    assert spread.offset_a == pytest.approx(0.09, rel=0.5)
    assert spread.interaction_a == pytest.approx(0.25 / 1000, rel=0.3)
    predicted = predict_estimate(spread, 60)
    observed = seed_interval(a.values, people.to_numpy(dtype=np.int64), b.values)
    assert predicted.half_width(0.05) == pytest.approx(observed.half_width(0.05), rel=0.02)


def test_the_noisiest_pair_needs_the_most_seeds() -> None:
    noisy = type(ASSUMED_SPREAD)(0.09, 0.01, 0.0002, 0.0002, 0.0002, 1500, 300)
    (line,) = plan_experiment([ASSUMED_SPREAD, noisy], 0.3, [1500], comparisons=3)
    assert line.seeds is not None
    assert line.noisiest is not None
    assert line.noisiest > line.seeds
    assert line.hours is None
