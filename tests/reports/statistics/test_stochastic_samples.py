"""Several samples of each image: the split of a mean's variance, and what tables say of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from reports.results.schema import mean_over_samples
from reports.statistics.intervals import seed_interval
from reports.statistics.scores import group_scores
from reports.statistics.stochastic_samples import split_variance, summarize_samples
from reports.statistics.summary import summarize
from tests.reports.synthetic import make_rows


def draw(
    rng: np.random.Generator,
    trainings: int,
    images: int,
    samples: int,
    sds: tuple[float, float, float, float],
) -> np.ndarray:
    """Scores (S, N, K) of a world whose trainings, images, interaction and samples have these standard deviations."""
    training, image, interaction, sample = sds
    return (
        rng.normal(0, training, (trainings, 1, 1))
        + rng.normal(0, image, (1, images, 1))
        + rng.normal(0, interaction, (trainings, images, 1))
        + rng.normal(0, sample, (trainings, images, samples))
    )


@pytest.mark.parametrize("sds", [(0.3, 2.0, 0.5, 1.5), (0.1, 1.0, 0.2, 3.0), (0.5, 0.5, 0.1, 0.2)])
def test_the_split_finds_the_variances_that_the_scores_were_drawn_with(
    sds: tuple[float, float, float, float],
) -> None:
    trainings, images, samples, repeats = 4, 60, 5, 400
    rng = np.random.default_rng(7)
    found = [
        split_variance(draw(rng, trainings, images, samples, sds), np.arange(images)) for _ in range(repeats)
    ]
    training, image, interaction, sample = (sd**2 for sd in sds)
    known = {
        "training": training / trainings,
        "image": image / images + interaction / (trainings * images),
        "sample": sample / (trainings * images * samples),
        "within": sample,
    }
    for name, value in known.items():
        estimates = np.array([getattr(split, name) for split in found])
        error = estimates.std(ddof=1) / np.sqrt(repeats)
        # Unbiased: three and a half standard errors of this simulation, which is itself within a tenth of the whole.
        assert abs(estimates.mean() - value) < 3.5 * error, name
        assert error < 0.1 * sum(known[part] for part in ("training", "image", "sample")) + 0.1 * value, name


def test_the_parts_sum_to_the_variance_of_the_interval() -> None:
    values = draw(np.random.default_rng(3), 5, 300, 4, (0.4, 1.0, 0.3, 0.8))
    codes = np.arange(300) // 3
    split = split_variance(values, codes)
    error = seed_interval(values.mean(axis=2), codes).standard_error
    assert split.training + split.image + split.sample == pytest.approx(error**2, rel=1e-9)
    alone = split_variance(values[:1], codes)
    assert np.isnan(alone.training)
    error = seed_interval(values[:1].mean(axis=2), codes).standard_error
    assert alone.image + alone.sample == pytest.approx(error**2, rel=1e-9)


def test_two_known_images() -> None:
    """By hand: samples 1, 3 and 5, 9 of two images, one training."""
    split = split_variance(np.array([[[1.0, 3.0], [5.0, 9.0]]]), np.arange(2))
    assert split.within == pytest.approx((2 + 8) / 2)
    assert split.sample == pytest.approx(5 / 4)
    # Means 2 and 7: variance 12.5, of the mean of two 6.25.
    assert split.image == pytest.approx(6.25 - 1.25)


def several(samples: int, **changes: object) -> pd.DataFrame:
    """Rows of one cell, each image with ``samples`` completions 1 dB apart."""
    rows = make_rows(**changes)  # type: ignore[arg-type]
    tables = [
        rows.assign(sample=k, psnr_db=rows["psnr_db"] + k, hole_mae=rows["hole_mae"] / (k + 1))
        for k in range(samples)
    ]
    return pd.concat(tables, ignore_index=True)


def test_the_headline_is_the_mean_and_the_best_is_apart() -> None:
    rows = pd.concat([several(3), make_rows("mean", mean_db=19.0).assign(sample=0)], ignore_index=True)
    plain = make_rows()
    summary = summarize(rows, ["psnr_db"]).set_index("label")
    assert summary.loc["MGS-IIM", "mean"] == pytest.approx(plain["psnr_db"].mean() + 1)
    assert summary.loc["MGS-IIM", "n_samples"] == 3
    assert summary.loc["Mean pixel", "n_samples"] == 1
    table = summarize_samples(rows, ["psnr_db", "hole_mae"], {"psnr_db": True, "hole_mae": False})
    assert list(table["label"].unique()) == ["MGS-IIM"], "a deterministic method has no samples to speak of"
    psnr, mae = (table[table["metric"] == m].iloc[0] for m in ("psnr_db", "hole_mae"))
    assert psnr["best_of_samples"] == pytest.approx(plain["psnr_db"].mean() + 2)
    assert mae["best_of_samples"] == pytest.approx(plain["hole_mae"].mean() / 3)
    assert psnr["mean"] == pytest.approx(summary.loc["MGS-IIM", "mean"])
    assert psnr["sample_sd"] == pytest.approx(1.0)
    assert psnr["se_sample"] == pytest.approx(np.sqrt(1 / (24 * 3)))


def test_one_sample_is_what_there_was_before() -> None:
    rows = make_rows()
    numbered = rows.assign(sample=0)
    pd.testing.assert_frame_equal(summarize(rows, ["psnr_db"]), summarize(numbered, ["psnr_db"]))
    assert mean_over_samples(numbered) is numbered
    assert summarize_samples(numbered, ["psnr_db"]).empty
    one, other = (group_scores(table, "psnr_db") for table in (rows, numbered))
    for key, scores in one.items():
        assert np.array_equal(scores.values, other[key].values)
        assert scores.samples == other[key].samples == 1


def test_the_mean_over_samples_leaves_one_row_an_image() -> None:
    rows = several(4)
    rows.loc[(rows["sample"] < 3) & (rows["image_id"] == "000000.png"), "identical"] = True
    rows.loc[rows["image_id"] == "000001.png", "identical"] = True
    averaged = mean_over_samples(rows)
    assert list(averaged["image_id"]) == list(make_rows()["image_id"])
    assert averaged["psnr_db"].to_numpy() == pytest.approx(make_rows()["psnr_db"].to_numpy() + 1.5)
    assert averaged.set_index("image_id")["identical"].sum() == 1, "all of its samples are"
