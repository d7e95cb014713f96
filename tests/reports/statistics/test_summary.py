"""Tables of means and paired differences."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from reports.statistics.multiplicity import holm_correction
from reports.statistics.pair_verdicts import BASELINE_PAIRS, MIXED_PAIRS, TRAINED_PAIRS
from reports.statistics.paired_differences import paired_differences
from reports.statistics.scores import group_scores
from reports.statistics.summary import summarize
from tests.reports.synthetic import make_rows


def rows_of(*parts: pd.DataFrame) -> pd.DataFrame:
    return pd.concat(parts, ignore_index=True)


def test_mean_is_over_seeds_of_the_mean_over_images() -> None:
    rows = rows_of(*(make_rows("glcic", seed=s, images=10) for s in (0, 1, 2)))
    line = summarize(rows, ["psnr_db"]).iloc[0]
    assert line["mean"] == pytest.approx(rows["psnr_db"].mean(), rel=1e-12)
    by_seed = rows.groupby("seed")["psnr_db"].mean()
    assert line["seed_sd"] == pytest.approx(by_seed.std(ddof=1), rel=1e-9)
    assert (line["n_images"], line["n_identities"], line["n_seeds"]) == (10, 5, 3)
    assert line["interval"] == "seeds and images"
    assert line["low"] < line["mean"] < line["high"]


def test_one_training_says_that_its_interval_is_over_images() -> None:
    table = summarize(rows_of(make_rows("glcic"), make_rows("mean", mean_db=20)), ["psnr_db", "ssim"])
    assert list(zip(table["label"], table["metric"], strict=True)) == [
        ("GLCIC", "psnr_db"),
        ("GLCIC", "ssim"),
        ("Mean pixel", "psnr_db"),
        ("Mean pixel", "ssim"),
    ]
    assert set(table["interval"]) == {"images"}
    assert table["seed_sd"].isna().all()


def test_unavailable_metrics_are_nan_and_capped_images_are_counted() -> None:
    rows = make_rows()
    rows.loc[:2, "identical"] = True
    table = summarize(rows, ["psnr_db", "lpips_alex", "no_such_metric"]).set_index("metric")
    assert np.isnan(table.loc["lpips_alex", "mean"])
    assert table.loc["lpips_alex", "n_images"] == 0
    assert table.loc["psnr_db", "n_capped"] == 3
    assert "no_such_metric" not in table.index


def test_summary_does_not_depend_on_the_order_of_images() -> None:
    rows = make_rows(images=30)
    table = summarize(rows, ["psnr_db"])
    shuffled = summarize(rows.sample(frac=1, random_state=1), ["psnr_db"])
    pd.testing.assert_frame_equal(table, shuffled, rtol=1e-12)


def test_difference_is_paired_by_image() -> None:
    a, b = (
        make_rows("mgs-iim", mean_db=24, noise_sd=0.0),
        make_rows("glcic", mean_db=23, noise_sd=0.0, seed_sd=0.0),
    )
    line = paired_differences(rows_of(a, b.sample(frac=1, random_state=2)), ["psnr_db"]).iloc[0]
    expected = a["psnr_db"].mean() - b["psnr_db"].mean()
    assert line["difference"] == pytest.approx(expected, rel=1e-9)
    # Images differ by decibels, the paired difference not at all.
    assert line["high"] - line["low"] < 1e-9
    assert line["superiority"] == 1.0


def test_below_three_seeds_trained_models_are_inconclusive_by_rule() -> None:
    two = rows_of(
        *(make_rows(m, seed=s, mean_db=d) for m, d in (("mgs-iim", 30), ("glcic", 20)) for s in (0, 1))
    )
    line = paired_differences(two, ["psnr_db"]).iloc[0]
    assert line["verdict"] == "inconclusive"
    assert "fewer than 3 trainings" in line["reason"]
    three = rows_of(two, *(make_rows(m, seed=2, mean_db=d) for m, d in (("mgs-iim", 30), ("glcic", 20))))
    assert paired_differences(three, ["psnr_db"]).iloc[0]["verdict"] == "a better"


def test_untrained_fills_need_no_seeds() -> None:
    rows = rows_of(make_rows("mean", mean_db=18), make_rows("biharmonic", mean_db=21))
    line = paired_differences(rows, ["psnr_db"]).iloc[0]
    assert (line["verdict"], line["reason"]) == ("b better", "")


def test_direction_of_a_metric_decides_who_is_better() -> None:
    rows = rows_of(make_rows("mean", mean_db=18), make_rows("biharmonic", mean_db=21))
    by_name = paired_differences(rows, ["hole_mae"]).iloc[0]
    assert by_name["difference"] > 0
    assert by_name["verdict"] == "b better"
    assert by_name["superiority"] < 0.5
    told = paired_differences(rows, ["hole_mae"], higher_is_better={"hole_mae": True}).iloc[0]
    assert told["verdict"] == "a better"


def test_only_images_that_both_have_are_compared() -> None:
    a, b = make_rows("mean", images=20), make_rows("biharmonic", images=20).iloc[5:]
    b.loc[b.index[0], "psnr_db"] = np.nan
    line = paired_differences(rows_of(a, b), ["psnr_db"]).iloc[0]
    assert line["n_images"] == 14
    nothing = paired_differences(rows_of(a.iloc[:5], b), ["psnr_db"]).iloc[0]
    assert nothing["n_images"] == 0
    assert nothing["reason"] == "no image has a value for both"


def test_shared_resamples_give_what_each_pair_gives_alone() -> None:
    fills = {"mean": 18, "biharmonic": 21, "mean-image": 20}
    rows = rows_of(*(make_rows(model, mean_db=mean) for model, mean in fills.items()))
    together = paired_differences(rows, ["psnr_db"])
    alone = paired_differences(rows[rows["model"] != "mean-image"], ["psnr_db"])
    assert len(together) == 3
    for limit in ("low", "high"):
        assert together[limit].iloc[0] == pytest.approx(alone[limit].iloc[0], abs=1e-9)


def three_models(seeds: int = 3, step: float = 0.3) -> pd.DataFrame:
    """Rows of three trained models ``step`` dB apart, and two baselines."""
    trained = [
        make_rows(m, seed=s, mean_db=24 + step * i, seed_sd=0.03)
        for i, m in enumerate(("glcic", "pconv", "mgs-iim"))
        for s in range(seeds)
    ]
    return rows_of(*trained, make_rows("mean", mean_db=18), make_rows("biharmonic", mean_db=21))


def test_p_values_are_corrected_within_the_family_of_mask_and_metric() -> None:
    table = paired_differences(three_models(step=0.05), ["psnr_db", "ssim"])
    assert dict(table.groupby(["metric", "family"]).size()) == {
        ("psnr_db", TRAINED_PAIRS): 3, ("psnr_db", MIXED_PAIRS): 6, ("psnr_db", BASELINE_PAIRS): 1,
        ("ssim", TRAINED_PAIRS): 3, ("ssim", MIXED_PAIRS): 6, ("ssim", BASELINE_PAIRS): 1,
    }  # fmt: skip
    for _, family in table.groupby(["metric", "family"]):
        assert family["p_holm"].tolist() == pytest.approx(holm_correction(family["p_value"]).tolist())
        assert (family["family_size"] == len(family)).all()


def test_a_chosen_pair_is_corrected_for_the_pairs_that_were_not_chosen() -> None:
    rows = three_models()
    every = paired_differences(rows, ["psnr_db"]).set_index(["a", "b"])
    one = paired_differences(rows, ["psnr_db"], pairs=[("MGS-IIM", "GLCIC")]).iloc[0]
    whole = every.loc[("GLCIC", "MGS-IIM")]
    assert one["p_holm"] == whole["p_holm"] > one["p_value"]
    assert (one["difference"], one["low"]) == (-whole["difference"], -whole["high"])
    assert (one["verdict"], whole["verdict"]) == ("a better", "b better")


def test_the_verdict_is_where_the_difference_reaches_the_smallest_gap() -> None:
    for step in (0.02, 0.08, 0.3):
        table = paired_differences(three_models(step=step), ["psnr_db", "ssim"])
        reached = table["difference"].abs() >= table["smallest_gap"]
        assert ((table["verdict"] != "inconclusive") == reached).all()
    assert set(table.loc[table["family"] == TRAINED_PAIRS, "verdict"]) == {"b better"}


def test_no_p_value_stands_beside_too_few_trainings() -> None:
    table = paired_differences(three_models(seeds=2), ["psnr_db"])
    trained = table[table["family"] != BASELINE_PAIRS]
    assert trained[["p_value", "p_holm", "smallest_gap"]].isna().all(axis=None)
    assert trained["reason"].str.startswith("fewer than 3 trainings").all()


def test_a_pair_that_the_correction_undoes_says_so() -> None:
    rows = rows_of(
        *(
            make_rows(m, seed=s, mean_db=d, seed_sd=0.1)
            for m, d in (("glcic", 24.0), ("pconv", 24.35), ("mgs-iim", 24.2), ("context-encoder", 24.1))
            for s in range(3)
        )
    )
    table = paired_differences(rows, ["psnr_db"])
    undone = table[(table["p_value"] < 0.05) & (table["p_holm"] >= 0.05)]
    assert len(undone)
    assert undone["reason"].str.match(r"not after Holm's correction for 6 comparisons \(p = 0\.\d+\)").all()
    assert (undone["verdict"] == "inconclusive").all()


def test_chosen_pairs_only() -> None:
    rows = rows_of(*(make_rows(m) for m in ("glcic", "pconv", "mgs-iim")))
    table = paired_differences(rows, ["psnr_db"], pairs=[("MGS-IIM", "GLCIC"), ("MGS-IIM", "nobody")])
    assert table[["a", "b"]].to_numpy().tolist() == [["MGS-IIM", "GLCIC"]]


def test_scores_do_not_depend_on_the_order_of_rows_nor_on_gaps_elsewhere() -> None:
    rows = pd.concat([make_rows(seed=seed, images=30) for seed in (0, 1, 2)], ignore_index=True)
    rows.loc[[3, 40], "psnr_db"] = float("nan")
    (stored,) = group_scores(rows, "psnr_db").values()
    (shuffled,) = group_scores(rows.sample(frac=1, random_state=1), "psnr_db").values()
    assert stored.images.equals(shuffled.images)
    assert len(stored.images) == 28
    assert stored.seeds == shuffled.seeds == (0, 1, 2)
    np.testing.assert_array_equal(stored.values, shuffled.values)
    np.testing.assert_array_equal(stored.codes, shuffled.codes)
