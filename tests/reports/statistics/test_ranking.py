"""The rule for "leads", "highest" and "noise", and the bar of the best baseline."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from reports.statistics.ranking import compare_with_baseline, describe_clearance, rank_trained
from tests.reports.synthetic import make_rows


def rows_of(means: dict[str, float], seeds: int = 3, seed_sd: float = 0.03) -> pd.DataFrame:
    baselines = {"mean": 18.0, "biharmonic": 21.0}
    return pd.concat(
        [
            make_rows(model, seed=seed, mean_db=mean, seed_sd=seed_sd)
            for model, mean in {**means, **baselines}.items()
            for seed in (range(seeds) if model in means else (0,))
        ],
        ignore_index=True,
    )


def test_a_model_leads_where_it_is_decided_better_than_every_other() -> None:
    ranking = rank_trained(rows_of({"glcic": 23, "pconv": 24, "mgs-iim": 25}), "psnr_db", "center")
    assert ranking is not None
    assert ranking.labels == ("MGS-IIM", "PConv (no perceptual/style)", "GLCIC")
    assert (ranking.standing, ranking.tied, ranking.decided, ranking.pairs) == ("leads", (), 3, 3)
    assert ranking.sentence.startswith("MGS-IIM leads")


def test_a_model_is_highest_where_another_cannot_be_told_apart() -> None:
    ranking = rank_trained(
        rows_of({"glcic": 23, "pconv": 25, "mgs-iim": 25}, seed_sd=0.05), "psnr_db", "center"
    )
    assert ranking is not None
    assert ranking.standing == "highest"
    assert ranking.tied == ranking.labels[1:2]
    assert "2 of 3 pairs" in ranking.sentence


def test_a_ranking_is_noise_where_no_pair_is_decided() -> None:
    equal = rank_trained(rows_of({"glcic": 25, "pconv": 25, "mgs-iim": 25}, seed_sd=0.3), "psnr_db", "center")
    few = rank_trained(rows_of({"glcic": 20, "mgs-iim": 25}, seeds=2), "psnr_db", "center")
    assert equal is not None
    assert few is not None
    assert (equal.standing, few.standing) == ("noise", "noise")
    assert "no pair of trained models is decided" in equal.sentence
    assert few.few_seeds == ("MGS-IIM", "GLCIC")
    assert "until every model has 3 trainings" in few.sentence


def test_each_undecided_pair_has_its_reason_and_holms_correction_is_named() -> None:
    means = {"glcic": 24.87, "pconv": 24.87, "mgs-iim": 25}
    ranking = rank_trained(rows_of(means, seed_sd=0.05), "psnr_db", "center")
    assert ranking is not None
    assert ranking.tied == ("GLCIC", "PConv (no perceptual/style)")
    assert ranking.reasons[0] == "the interval includes zero"
    assert ranking.reasons[1].startswith("not after Holm's correction for 3 comparisons (p = 0.")
    assert ranking.sentence.endswith(
        "not decided better than GLCIC (the interval includes zero) and PConv (no perceptual/style) (not after "
        "Holm's correction for 3 comparisons)."
    )


def test_the_bar_names_holms_correction_beside_other_reasons() -> None:
    found = compare_with_baseline(rows_of({"glcic": 24.87, "mgs-iim": 25.0}), "psnr_db", "center")
    reasons = ("not after Holm's correction for 2 comparisons (p = 0.06)", "the interval includes zero")
    undecided = [
        replace(c, status="undecided", difference=replace(c.difference, reason=reason))
        for c, reason in zip(found, reasons, strict=True)
    ]
    text = describe_clearance(undecided)
    assert "MGS-IIM (+" in text
    assert "dB) (not after Holm's correction for 2 comparisons) and GLCIC (" in text
    assert text.endswith("dB) (the interval includes zero).")


def test_one_model_is_alone_and_none_has_no_ranking() -> None:
    alone = rank_trained(rows_of({"glcic": 20}), "psnr_db", "center")
    assert alone is not None
    assert (alone.standing, alone.sentence) == ("alone", "")
    assert rank_trained(rows_of({}), "psnr_db", "center") is None
    assert rank_trained(rows_of({"glcic": 20}), "fid", "center") is None


def test_lower_is_better_turns_the_ranking_about() -> None:
    ranking = rank_trained(
        rows_of({"glcic": 23, "mgs-iim": 25}), "hole_mae", "center", higher_is_better=False
    )
    assert ranking is not None
    assert ranking.labels == ("MGS-IIM", "GLCIC")


def test_the_bar_is_the_best_baseline_and_clearing_it_is_decided() -> None:
    found = compare_with_baseline(rows_of({"glcic": 20.5, "mgs-iim": 25.0}), "psnr_db", "center")
    assert [(c.label, c.baseline, c.status, c.above) for c in found] == [
        ("MGS-IIM", "Biharmonic", "clears", True),
        ("GLCIC", "Biharmonic", "falls short", False),
    ]
    assert found[0].difference.difference == pytest.approx(4.0, abs=0.2)
    assert found[0].difference.low < found[0].difference.difference < found[0].difference.high
    assert {c.difference.family_size for c in found} == {2}
    text = describe_clearance(found)
    assert text.startswith("The bar is Biharmonic, the best training-free baseline: MGS-IIM (+")
    assert "clears it; GLCIC (-" in text
    assert text.endswith("falls short of it.")


def test_one_training_above_the_bar_is_not_a_model_that_clears_it() -> None:
    (found,) = compare_with_baseline(rows_of({"mgs-iim": 25.0}, seeds=1), "psnr_db", "center")
    assert (found.status, found.above, found.difference.interval) == ("undecided", True, "images")
    assert "not decided for MGS-IIM" in describe_clearance([found])
    assert "(fewer than 3 trainings)" in describe_clearance([found])


def test_linear_is_the_bar_where_it_was_run() -> None:
    linear = make_rows("linear", mean_db=25.5, label="Linear", train_mask="-")
    linear["train_mask"] = "-"
    rows = pd.concat([rows_of({"mgs-iim": 25.0}), linear], ignore_index=True)
    (found,) = compare_with_baseline(rows, "psnr_db", "center")
    assert (found.baseline, found.status) == ("Linear", "falls short")


def test_without_a_baseline_or_a_model_there_is_no_bar() -> None:
    rows = rows_of({"mgs-iim": 25.0})
    assert compare_with_baseline(rows[rows["train_mask"] != "-"], "psnr_db", "center") == []
    assert compare_with_baseline(rows[rows["train_mask"] == "-"], "psnr_db", "center") == []
    assert describe_clearance([]) == ""
