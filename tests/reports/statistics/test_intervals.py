"""Intervals and tests: hand-computed values, SciPy as oracle, and coverage by simulation (quick variants)."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from benchmarks.coverage import (
    FAMILY_WORLDS,
    TRIAL,
    WORLDS,
    World,
    between_trainings,
    family_wise_error,
    one_training,
)
from reports.statistics.bootstrap import (
    bootstrap_p_value,
    cluster_bootstrap_means,
    cluster_codes,
    cluster_sums,
    percentile_interval,
)
from reports.statistics.effect_sizes import effect_size, probability_of_superiority
from reports.statistics.intervals import seed_interval
from reports.statistics.multiplicity import holm_correction, holm_thresholds
from reports.statistics.paired_differences import paired_differences
from reports.statistics.scores import group_scores
from tests.reports.synthetic import make_rows


def test_unknown_persons_are_clusters_of_their_own() -> None:
    codes, count = cluster_codes(pd.array([7, pd.NA, 7, pd.NA, 3], dtype="Int64"))
    assert count == 4
    assert codes[0] == codes[2]
    assert len(set(codes)) == 4


def test_cluster_sums_by_hand() -> None:
    sums = cluster_sums([[1.0, 2.0, 4.0], [0.0, 1.0, 10.0]], np.array([1, 0, 1]), 2)
    assert sums.tolist() == [[2.0, 5.0], [1.0, 10.0]]


def test_bootstrap_without_clusters_agrees_with_scipy() -> None:
    values = np.random.default_rng(3).gamma(2.0, 3.0, 400)
    ours = cluster_bootstrap_means(values, np.arange(400), resamples=20_000, seed=1)
    # SciPy renamed the argument in 1.15.
    seeded = {"rng" if "rng" in inspect.signature(stats.bootstrap).parameters else "random_state": 4}
    oracle = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", batch=2000, **seeded
    )
    low, high = np.quantile(ours[:, 0], [0.025, 0.975])
    # Two 2.5 % quantiles of B = 20,000 draws each differ by sqrt(2 p (1 - p) / B) / density(quantile),
    # which is 0.0267 standard errors of the mean; four of those.
    tolerance = 4 * 0.0267 * values.std() / math.sqrt(400)
    assert low == pytest.approx(oracle.confidence_interval.low, abs=tolerance)
    assert high == pytest.approx(oracle.confidence_interval.high, abs=tolerance)


def test_bootstrap_of_equal_clusters_is_the_bootstrap_of_their_means() -> None:
    people = np.random.default_rng(5).normal(size=60)
    repeated = cluster_bootstrap_means(
        np.repeat(people, 4), np.repeat(np.arange(60), 4), resamples=500, seed=9
    )
    once = cluster_bootstrap_means(people, np.arange(60), resamples=500, seed=9)
    np.testing.assert_allclose(repeated, once, rtol=0, atol=1e-12)


def test_bootstrap_is_a_function_of_its_seed_and_shares_draws_over_rows() -> None:
    rng = np.random.default_rng(0)
    values, codes = rng.normal(size=(3, 90)), rng.integers(0, 20, 90)
    codes[:20] = np.arange(20)
    first = cluster_bootstrap_means(values, codes, resamples=300, seed=2)
    assert np.array_equal(first, cluster_bootstrap_means(values, codes, resamples=300, seed=2))
    assert not np.array_equal(first, cluster_bootstrap_means(values, codes, resamples=300, seed=3))
    difference = cluster_bootstrap_means(values[0] - values[1], codes, resamples=300, seed=2)
    np.testing.assert_allclose(first[:, 0] - first[:, 1], difference[:, 0], rtol=0, atol=1e-12)


def test_bootstrap_does_not_depend_on_how_much_is_held_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    values, codes = np.arange(50.0), np.arange(50)
    whole = cluster_bootstrap_means(values, codes, resamples=64, seed=2)
    monkeypatch.setattr("reports.statistics.bootstrap._CHUNK_VALUES", 4 * 50)
    np.testing.assert_allclose(
        cluster_bootstrap_means(values, codes, resamples=64, seed=2), whole, rtol=0, atol=1e-12
    )


def test_expanded_percentile_interval_has_the_width_of_t_for_normal_means() -> None:
    # Resampled means of n normal values are about normal with variance (n - 1) / n * s^2 / n.
    n, s = 8, 2.0
    exact = stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000) * s * math.sqrt((n - 1) / n / n)
    low, high = percentile_interval(exact[:, None], n)
    half = stats.t.ppf(0.975, n - 1) * s / math.sqrt(n)
    assert high[0] == pytest.approx(half, rel=1e-3)
    assert low[0] == pytest.approx(-half, rel=1e-3)


def test_one_cluster_has_no_interval() -> None:
    low, high = percentile_interval(np.zeros((10, 1)), 1)
    assert math.isnan(low[0])
    assert math.isnan(high[0])
    assert math.isnan(seed_interval(np.ones((3, 4)), np.zeros(4, dtype=np.int64)).low)


def test_one_training_without_clusters_is_the_one_sample_t_interval() -> None:
    values = np.random.default_rng(1).normal(3, 2, 30)
    estimate = seed_interval(values, np.arange(30))
    oracle = stats.ttest_1samp(values, 0).confidence_interval()
    assert (estimate.low, estimate.high) == pytest.approx((oracle.low, oracle.high), rel=1e-12)
    assert estimate.degrees_of_freedom == pytest.approx(29)


def test_images_alike_leave_welch_over_the_seeds() -> None:
    a, b = np.array([24.1, 24.6, 23.9]), np.array([23.0, 23.2, 22.7, 23.3])
    estimate = seed_interval(np.repeat(a[:, None], 6, 1), np.arange(6), np.repeat(b[:, None], 6, 1))
    oracle = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
    assert (estimate.low, estimate.high) == pytest.approx((oracle.low, oracle.high), rel=1e-9)


def test_two_component_variance_by_hand() -> None:
    # Two trainings, three images, no persons. Seed means 2 and 5; deviations (-1, 0, 1) and (-2, 1, 1).
    scores = np.array([[1.0, 2.0, 3.0], [3.0, 6.0, 6.0]])
    estimate = seed_interval(scores, np.arange(3))
    v_seeds = 4.5 / 2
    v_images = (1.5 * (1.5**2 + 0.5**2 + 1.0**2)) / 9
    shared = (1.5 * 2 * (0.5**2 + 0.5**2)) / 9 / 2
    variance = v_seeds + v_images - shared
    df = variance**2 / (v_seeds**2 / 1 + v_images**2 / 2 + shared**2 / 2)
    assert estimate.value == 3.5
    assert estimate.standard_error == pytest.approx(math.sqrt(variance), rel=1e-12)
    assert estimate.degrees_of_freedom == pytest.approx(df, rel=1e-12)
    net = v_images - shared
    cochran_cox = (net * stats.t.ppf(0.975, 2) + v_seeds * stats.t.ppf(0.975, 1)) / variance
    quantile = (stats.t.ppf(0.975, df) + cochran_cox) / 2
    assert estimate.high - 3.5 == pytest.approx(quantile * math.sqrt(variance), rel=1e-12)


def test_prediction_for_one_training_is_wider_by_the_seed_variance() -> None:
    scores = np.repeat(np.array([[24.0], [25.0], [26.0]]), 5, 1)
    mean = seed_interval(scores, np.arange(5))
    single = seed_interval(scores, np.arange(5), single_training=True)
    assert single.standard_error**2 == pytest.approx(mean.standard_error**2 * 4, rel=1e-12)


@given(st.integers(0, 2**31), st.floats(-50, 50), st.floats(0.1, 10))
@settings(deadline=None, max_examples=30)
def test_intervals_move_and_scale_with_the_scores(seed: int, shift: float, scale: float) -> None:
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(5), 3)
    a, b = rng.normal(size=(3, 15)), rng.normal(size=(4, 15))
    plain, moved = seed_interval(a, codes, b), seed_interval(a * scale + shift, codes, b * scale)
    assert moved.low == pytest.approx(plain.low * scale + shift, abs=1e-9 * (1 + abs(shift)))
    reverse = seed_interval(b, codes, a)
    assert (reverse.low, reverse.high) == pytest.approx((-plain.high, -plain.low), abs=1e-12)


def test_p_inverts_the_interval() -> None:
    rng = np.random.default_rng(8)
    codes = np.repeat(np.arange(20), 2)
    estimate = seed_interval(rng.normal(0.4, 1, (3, 40)), codes, rng.normal(0.0, 1, (4, 40)))
    p = estimate.p_value()
    assert estimate.half_width(p) == pytest.approx(abs(estimate.value), rel=1e-9)
    assert estimate.half_width(0.05) == pytest.approx((estimate.high - estimate.low) / 2, rel=1e-12)


def test_p_is_welchs_where_images_are_alike_and_the_t_tests_for_one_training() -> None:
    a, b = np.array([24.1, 24.6, 23.1]), np.array([23.0, 23.9, 22.7, 23.3])
    estimate = seed_interval(np.repeat(a[:, None], 6, 1), np.arange(6), np.repeat(b[:, None], 6, 1))
    assert estimate.p_value() == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue, rel=1e-9)
    assert estimate.p_value() > 0.05
    values = np.random.default_rng(1).normal(0.5, 2, 30)
    assert seed_interval(values, np.arange(30)).p_value() == pytest.approx(
        stats.ttest_1samp(values, 0).pvalue, rel=1e-9
    )


def test_beyond_95_percent_the_quantile_is_a_little_more_than_welchs() -> None:
    a, b = np.array([24.1, 24.6, 23.9]), np.array([23.0, 23.2, 22.7, 23.3])
    estimate = seed_interval(np.repeat(a[:, None], 6, 1), np.arange(6), np.repeat(b[:, None], 6, 1))
    for p in (0.05, 0.01, 0.001):
        welch = stats.ttest_ind(a, b, equal_var=False).confidence_interval(1 - p)
        half = (welch.high - welch.low) / 2
        fewest = stats.t.ppf(1 - p / 2, 2) * estimate.standard_error
        share = 0.03 * (1 - p / 0.05)
        assert estimate.half_width(p) == pytest.approx(half + share * (fewest - half), rel=1e-9)


@pytest.mark.long
@pytest.mark.parametrize("world", ["normal (0.1 dB)", "unequal spreads (0.3 and 0.05 dB)"])
def test_equal_models_are_seldom_told_apart(world: str) -> None:
    corrected, plain = family_wise_error(FAMILY_WORLDS[world], 4, 3, 400, seed=2)
    # 6 % of 400 is 24; its standard deviation is 4.7, and three of them are 3.6 points.
    assert corrected <= 0.06 + 0.036
    assert plain > 0.12


@pytest.mark.parametrize("clusters", [8, 60])
def test_bootstrap_p_inverts_the_percentile_interval(clusters: int) -> None:
    values = np.random.default_rng(clusters).normal(0.25, 1, clusters)
    resampled = cluster_bootstrap_means(values, np.arange(clusters))
    p = bootstrap_p_value(resampled[:, 0], clusters)
    low, high = percentile_interval(resampled, clusters, confidence=1 - p)
    # The limits are order statistics of 10,000 resamples, which lie this close together.
    assert min(abs(low[0]), abs(high[0])) < 0.01
    assert p == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.02)
    assert bootstrap_p_value(np.zeros(100), 8) == 1.0
    assert math.isnan(bootstrap_p_value(np.zeros(100), 1))


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=8))
@settings(deadline=None, max_examples=200)
def test_a_p_value_is_rejected_exactly_where_it_is_below_its_threshold(p_values: list[float]) -> None:
    corrected, thresholds = holm_correction(p_values), holm_thresholds(p_values)
    for p, p_holm, threshold in zip(p_values, corrected, thresholds, strict=True):
        if abs(p - threshold) > 1e-9:
            assert (p_holm < 0.05) == (p < threshold)


def test_holm_by_hand() -> None:
    assert holm_correction([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm_correction([0.6, 0.7]).tolist() == [1.0, 1.0]
    corrected = holm_correction([0.02, math.nan, 0.03])
    assert corrected[[0, 2]].tolist() == pytest.approx([0.04, 0.04])
    assert math.isnan(corrected[1])


def test_superiority_and_effect_by_hand() -> None:
    assert probability_of_superiority(np.array([[1.0, 2, 3, 4]]), np.array([[0.0, 2, 4, 1]])) == 0.625
    assert probability_of_superiority(np.array([[1.0], [3.0]]), np.array([[2.0]])) == 0.5
    assert effect_size([1.0, 3.0, 5.0, 7.0], np.array([0, 0, 1, 1])) == pytest.approx(4 / math.sqrt(8))
    assert math.isnan(effect_size([1.0, 1.0], np.array([0, 1])))


#: 95 % of 500 repeats: 475 expected, standard deviation 4.9; three of them are 2.9 points.
SLACK = 0.03


@pytest.mark.long
def test_cluster_bootstrap_covers_and_the_plain_one_does_not() -> None:
    clustered, over_images = one_training(World(people=60), 500, seed=1)
    assert clustered == pytest.approx(0.95, abs=SLACK)
    assert over_images < 0.92


@pytest.mark.long
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_two_component_interval_covers(seeds: int) -> None:
    shares = between_trainings(World(people=60), seeds, 500, seed=seeds)
    assert shares["covered"] == pytest.approx(0.95, abs=SLACK)
    assert shares["mean"] == pytest.approx(0.95, abs=SLACK)
    assert shares["images only"] < 0.85


@pytest.mark.long
def test_it_is_not_too_wide_where_trainings_differ_by_chance_only() -> None:
    # No offset of a training, no difficulty: all that varies is how a training deals with an image.
    shares = between_trainings(WORLDS["interaction dominates"], 5, 2000, seed=5, compare=False)
    assert 0.93 <= shares["covered"] <= 0.97
    assert 0.93 <= shares["mean"] <= 0.97


@pytest.mark.long
def test_a_null_comparison_is_seldom_decided_and_a_planted_difference_is_found() -> None:
    null = between_trainings(TRIAL, 5, 300, seed=11, compare=False)
    assert null["excludes zero"] < 0.10
    planted = between_trainings(TRIAL, 10, 100, difference=0.2, seed=12, compare=False)
    assert planted["excludes zero"] > 0.9


@pytest.mark.long
@pytest.mark.parametrize("clusters", [2, 3, 5, 12, 19])
def test_few_clusters_are_covered_too(clusters: int) -> None:
    """Percentiles of resamples covered 51 % with two clusters and 92 % with five."""
    rng, covered, repeats = np.random.default_rng(clusters), 0, 600
    for repeat in range(repeats):
        values = rng.normal(size=clusters)
        resampled = cluster_bootstrap_means(values, np.arange(clusters), resamples=1000, seed=repeat)
        low, high = percentile_interval(resampled, clusters)
        covered += low[0] <= 0 <= high[0]
    assert 0.93 <= covered / repeats <= 0.97


def test_who_is_shown_does_not_depend_on_the_order_of_rows() -> None:
    rows = pd.concat([make_rows(seed=0), make_rows(seed=1, identities=False)], ignore_index=True)
    clusters = [
        int(next(iter(group_scores(table, "psnr_db").values())).codes.max()) + 1
        for table in (rows, rows[::-1])
    ]
    assert clusters == [12, 12]


def test_a_training_without_any_value_does_not_empty_its_method() -> None:
    rows = pd.concat([make_rows(seed=seed) for seed in range(4)], ignore_index=True)
    rows.loc[rows["seed"] == 2, "psnr_db"] = np.nan
    (scores,) = group_scores(rows, "psnr_db").values()
    assert scores.seeds == (0, 1, 3)
    assert scores.values.shape == (3, 24)


def test_a_method_trained_on_two_masks_is_told_apart_in_differences() -> None:
    rows = pd.concat(
        [
            make_rows("glcic", train_mask=mask, mean_db=mean)
            for mask, mean in (("center", 24.0), ("paper", 22.0))
        ],
        ignore_index=True,
    )
    (line,) = paired_differences(rows, ["psnr_db"]).to_dict("records")
    assert (line["a"], line["b"]) == ("GLCIC (trained on center)", "GLCIC (trained on paper)")
