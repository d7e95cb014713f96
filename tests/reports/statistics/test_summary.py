"""Tables of means and paired differences."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from reports.statistics.scores import group_scores
from reports.statistics.summary import paired_differences, summarize
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


def test_p_values_are_corrected_within_mask_and_metric() -> None:
    rows = rows_of(
        *(make_rows(m, mean_db=20 + 0.05 * i) for i, m in enumerate(("glcic", "pconv", "mgs-iim")))
    )
    table = paired_differences(rows, ["psnr_db", "ssim"])
    for _, family in table.groupby("metric"):
        smallest = family["p_value"].idxmin()
        assert family.loc[smallest, "p_holm"] == pytest.approx(min(1.0, 3 * family.loc[smallest, "p_value"]))
        assert (family["p_holm"] >= family["p_value"]).all()


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
