"""Verdicts on the paper's claims, from synthetic experiments whose truth is known."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.cli.commands.run import run_command
from reports.claims.claim_verdicts import CLAIMS, Verdict, evaluate_claims
from reports.claims.evidence import ModelPair, compare_size
from reports.claims.paper import ClaimComparison, EquivalenceMargin, published_table, published_value
from reports.render import render_report
from reports.results.experiment import load_experiment
from reports.results.schema import read_rows, write_rows
from reports.statistics.paired_differences import compare_scores
from reports.statistics.scores import Scores
from tests.reports.synthetic import make_experiment

FOUR = ("context-encoder", "glcic", "pconv", "mgs-iim")
TABLE_4 = {"context-encoder": 24.5531, "glcic": 27.1197, "pconv": 27.3876, "mgs-iim": 27.9212}


def verdicts(tmp_path: Path, **about: Any) -> dict[str, Verdict]:
    """Verdicts by key, of an experiment on CelebA at full size and budget unless told otherwise."""
    full = {
        "procedural": False,
        "preset": "paper",
        "size": 160,
        "seeds": (0, 1, 2),
        "images": 60,
        "pictures": 0,
    }
    quiet = {"models": FOUR, "means": TABLE_4, "seed_sd": 0.01, "noise_sd": 0.05}
    folder = make_experiment(tmp_path, **{**full, **quiet, **about})
    _as_published(folder)
    return {v.claim.key: v for v in evaluate_claims(load_experiment(folder))}


def _as_published(folder: Path, **data: Any) -> None:
    """Make the manifest one of the paper's split, all its images, and PConv with its losses."""
    with manifest_of(folder) as manifest:
        if not manifest["data"]["procedural"]:
            whole = {"split": "paper", "train": 173_222, "test": 20_260, "evaluated": 20_260}
            manifest["data"] |= {**whole, **data}
        manifest["settings"]["test_images"] = None
        for cell in manifest["cells"]:
            cell["config"].pop("vgg_losses", None)


@contextmanager
def manifest_of(folder: Path) -> Iterator[dict[str, Any]]:
    """The manifest, written back with what was changed."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    yield manifest
    path.write_text(json.dumps(manifest))


def _with_validations(folder: Path, swing: dict[str, float]) -> None:
    for log in folder.glob("trainings/*/train.jsonl"):
        model = next(m for m in sorted(swing, key=len, reverse=True) if log.parent.name.startswith(m))
        seed = int(log.parent.name.split("seed")[1][0])
        lines = [
            {"step": 10 * i, "images_seen": 160 * i, "seconds": float(i),
             "validation": {"psnr_db": 24 + swing[model] * (1 + 0.1 * seed) * (-1) ** i}}
            for i in range(1, 13)
        ]  # fmt: skip
        log.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_the_published_numbers_are_table_4() -> None:
    assert {(m, "psnr_db"): published_value(m, "psnr_db") for m in FOUR} == {
        (m, "psnr_db"): value for m, value in TABLE_4.items()
    }
    assert set(published_table()["table"]) == {"Table 4"}
    assert published_value("mean", "psnr_db") is None


def test_published_differences_in_claims_are_those_of_table_4() -> None:
    sized = [c for claim in CLAIMS if claim.test == "size" for c in claim.comparisons]
    assert len(sized) == 6
    for comparison in sized:
        ours, theirs = (published_value(m, comparison.metric) for m in (comparison.better, comparison.worse))
        assert ours is not None
        assert theirs is not None
        assert comparison.published == pytest.approx(ours - theirs, abs=1e-9)


def test_the_papers_own_numbers_reproduce_order_and_sizes(tmp_path: Path) -> None:
    found = verdicts(tmp_path)
    assert found["order-psnr"].outcome == "reproduced"
    assert found["size-psnr"].outcome == "reproduced"
    assert [f.difference for f in found["size-psnr"].findings] == pytest.approx([0.53, 0.80, 3.37], abs=0.1)


def test_a_reversed_pair_is_not_reproduced(tmp_path: Path) -> None:
    found = verdicts(tmp_path, means={**TABLE_4, "pconv": 26.0})["order-psnr"]
    assert (found.outcome, found.leaning) == ("not reproduced", "against")
    assert "PConv (no perceptual/style) - GLCIC: -1.1" in found.reason


def test_a_difference_of_another_size_is_not_reproduced(tmp_path: Path) -> None:
    assert verdicts(tmp_path, means={**TABLE_4, "glcic": 22.0})["size-psnr"].outcome == "not reproduced"


def test_an_interval_with_zero_is_inconclusive(tmp_path: Path) -> None:
    found = verdicts(tmp_path, means={**TABLE_4, "pconv": 27.15}, seed_sd=0.5)["order-psnr"]
    assert found.outcome == "inconclusive"
    assert "the interval includes zero" in found.reason
    assert found.summary == "2 of 3 comparisons undecided"
    assert [f.leaning for f in found.findings] == ["neither", "neither", "for"]


def test_what_is_undecided_says_which_gap_and_how_many_seeds_would_decide(tmp_path: Path) -> None:
    found = verdicts(tmp_path, means={**TABLE_4, "pconv": 26.9}, seed_sd=0.15)["order-psnr"]
    (finding,) = [f for f in found.findings if f.comparison.better == "pconv"]
    assert finding.relation == "undecided"
    assert 0 < abs(finding.difference) < finding.smallest_gap
    assert finding.seeds_needed is not None
    assert finding.seeds_needed > 3
    assert (
        f"about {finding.seeds_needed} trainings of each would decide a difference of this size"
        in finding.reason
    )
    assert f"a gap of {finding.smallest_gap:.2f} dB would have been decided" in finding.reason


def test_two_seeds_are_inconclusive_by_rule_however_large_the_difference(tmp_path: Path) -> None:
    found = verdicts(tmp_path, seeds=(0, 1), means={**TABLE_4, "mgs-iim": 40.0})["order-psnr"]
    assert found.outcome == "inconclusive"
    assert "fewer than 3 trainings" in found.reason
    assert "--seeds 0,1,2" in found.command


@pytest.mark.parametrize(
    ("settings", "data", "text"),
    [
        ({"size": 64}, {}, "64 px instead of the paper's 160"),
        (
            {"track": "uniform", "learning_rate": 1e-7},
            {},
            "one recipe for all models (Adam 1e-07) instead of",
        ),
        ({"batch": 2}, {}, "batch 2 for all models instead of each paper's own"),
        ({"micro_batch": 4}, {}, "micro-batches of 4"),
        ({"images_seen": 1600}, {}, "1,600 images seen instead of the preset's 3,600,000 (our choice"),
        ({"steps_per_phase": 5}, {}, "5 steps per phase instead of the preset's budget"),
        ({"flips": False}, {}, "no mirrored training images"),
        ({"crop": "face"}, {}, "crop face instead of the preset's center"),
        ({}, {"split": "official"}, "split official instead of the paper's 90/10 at random"),
        ({}, {"evaluated": 60}, "60 test images instead of the paper's 20,000"),
        ({}, {"train": 12_000}, "12,000 training images instead of the paper's 180,000"),
        ({"train_images": 100}, {}, "100 training images instead of the paper's 180,000"),
        ({"evaluate_on": "validation"}, {}, "validation images instead of test images"),
        ({"preset": "smoke"}, {}, "narrow networks"),
    ],
)
def test_every_departure_from_the_papers_set_up_makes_a_verdict_indicative(
    tmp_path: Path, settings: dict[str, Any], data: dict[str, Any], text: str
) -> None:
    folder = make_experiment(
        tmp_path, models=FOUR, means=TABLE_4, seed_sd=0.01, noise_sd=0.05, procedural=False, preset="paper",
        size=160, seeds=(0, 1, 2), images=60, pictures=0,
    )  # fmt: skip
    _as_published(folder, **data)
    with manifest_of(folder) as manifest:
        manifest["settings"] |= settings
    found = {v.claim.key: v for v in evaluate_claims(load_experiment(folder))}["order-psnr"]
    assert (found.outcome, found.leaning) == ("indicative", "for")
    (shortfall,) = found.shortfalls
    assert text in shortfall


def test_an_undecided_verdict_carries_its_departures_too(tmp_path: Path) -> None:
    found = verdicts(tmp_path, means={**TABLE_4, "pconv": 27.15}, seed_sd=1.0, size=64)["order-psnr"]
    assert found.outcome == "inconclusive"
    assert "64 px instead of the paper's 160" in found.shortfalls


def test_models_trained_on_another_mask_than_the_one_evaluated_are_indicative(tmp_path: Path) -> None:
    folder = make_experiment(
        tmp_path, models=FOUR, means=TABLE_4, seed_sd=0.01, noise_sd=0.05, procedural=False, preset="paper",
        size=160, seeds=(0, 1, 2), images=60, pictures=0,
    )  # fmt: skip
    _as_published(folder)
    with manifest_of(folder) as manifest:
        for cell in manifest["cells"]:
            results = folder / cell["folder"] / "results.parquet"
            write_rows(read_rows(results).assign(train_mask="paper"), results)
            cell["train_mask"] = "paper"
    found = {v.claim.key: v for v in evaluate_claims(load_experiment(folder))}["order-psnr"]
    assert found.outcome == "indicative"
    assert found.shortfalls == (
        "trained on paper instead of the mask evaluated (the paper does not say which)",
    )


def test_pconv_without_its_losses_is_indicative(tmp_path: Path) -> None:
    folder = make_experiment(
        tmp_path, models=FOUR, means=TABLE_4, seed_sd=0.01, noise_sd=0.05, procedural=False, preset="paper",
        size=160, seeds=(0, 1, 2), images=60, pictures=0,
    )  # fmt: skip
    found = evaluate_claims(load_experiment(folder))[0]
    assert found.outcome == "indicative"
    assert "PConv (no perceptual/style) lacks published losses" in found.shortfalls


def test_procedural_faces_test_nothing(tmp_path: Path) -> None:
    found = verdicts(tmp_path, procedural=True)
    assert {v.outcome for v in found.values()} == {"not tested"}
    assert all("--preset paper" in v.command and not v.findings for v in found.values())


@pytest.mark.parametrize("change", [{"models": ("mgs-iim",)}, {"seeds": (0, 1)}, {"procedural": True}])
def test_every_command_is_one_that_the_command_line_takes_with_models_that_there_are(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    from models.discovery import expand_models

    commands = [v.command for v in verdicts(tmp_path, **change).values() if v.command]
    assert commands
    for words in map(shlex.split, commands):
        context = run_command.make_context("run", words[2:])
        asked = [name for group in context.params["models"] for name in group]
        assert expand_models(asked) == asked


def test_missing_cells_are_named_with_a_command_that_the_command_line_takes(tmp_path: Path) -> None:
    found = verdicts(tmp_path, models=("mgs-iim", "mgs-iim-no-skip"), failed=["mgs-iim-no-skip"])
    skips = found["skip-connections"]
    assert skips.outcome == "not tested"
    assert "mgs-iim-no-skip on center (failed: loss is not a number at step 7)" in skips.reason
    words = shlex.split(skips.command)
    assert words[:4] == ["bench", "run", "--models", "mgs-iim-no-skip"]

    context = run_command.make_context("run", words[2:])
    assert context.params["seeds"] == (("0", "1", "2"),)
    assert context.params["size"] == 160


def test_ablation_verdict_needs_both_metrics(tmp_path: Path) -> None:
    models = ("mgs-iim", "mgs-iim-no-gate")
    found = verdicts(tmp_path, models=models, means={"mgs-iim": 27.9, "mgs-iim-no-gate": 27.0})
    gates = found["gated-convolution"]
    assert gates.outcome == "reproduced"
    assert [f.metric for f in gates.findings] == ["psnr_db", "ssim"]


@pytest.mark.parametrize(
    ("with_sn", "without", "outcome"),
    [(0.05, 0.5, "reproduced"), (0.5, 0.05, "not reproduced"), (0.3, 0.3, "inconclusive")],
)
def test_stability_is_the_fluctuation_of_validation(
    tmp_path: Path, with_sn: float, without: float, outcome: str
) -> None:
    folder = make_experiment(
        tmp_path, models=("mgs-iim", "mgs-iim-no-sn"), procedural=False, preset="paper", size=160,
        seeds=(0, 1, 2), pictures=0,
    )  # fmt: skip
    _with_validations(folder, {"mgs-iim": with_sn, "mgs-iim-no-sn": without})
    _as_published(folder)
    found = {v.claim.key: v for v in evaluate_claims(load_experiment(folder))}["spectral-normalisation"]
    assert found.outcome == outcome
    assert found.findings[0].difference == pytest.approx(with_sn / without, rel=1e-9)


def test_stability_without_validations_is_not_tested(tmp_path: Path) -> None:
    found = verdicts(tmp_path, models=("mgs-iim", "mgs-iim-no-sn"))["spectral-normalisation"]
    assert found.outcome == "not tested"
    assert "validations in its second half" in found.reason
    assert "--models mgs-iim,mgs-iim-no-sn" in found.command


def test_stability_is_not_judged_by_a_log_that_is_not_what_was_written(tmp_path: Path) -> None:
    folder = make_experiment(
        tmp_path, models=("mgs-iim", "mgs-iim-no-sn"), procedural=False, preset="paper", size=160,
        seeds=(0, 1, 2), pictures=0,
    )  # fmt: skip
    _with_validations(folder, {"mgs-iim": 0.05, "mgs-iim-no-sn": 0.5})
    (log,) = folder.glob("trainings/mgs-iim-center-seed1*/train.jsonl")
    log.write_bytes(log.read_bytes().replace(b"validation", b"valid\xfftion", 1))
    found = {v.claim.key: v for v in evaluate_claims(load_experiment(folder))}["spectral-normalisation"]
    assert found.outcome == "not tested"
    assert found.reason == "mgs-iim, seed 1: log damaged: 1 unreadable lines, the first is line 1"


def _with_diverged(folder: Path, model: str, seeds: tuple[int, ...]) -> None:
    with manifest_of(folder) as manifest:
        for cell in manifest["cells"]:
            if cell["model"] == model and cell["seed"] in seeds:
                reason = "loss of the generator is not finite at step 7"
                cell |= {"status": "failed", "reason": reason, "error": f"NonFiniteLossError: {reason}"}


@pytest.mark.parametrize(
    ("seeds", "gone", "outcome", "p"),
    # By hand: 1 of 3 against 0 of 3 is 6 of 6 tables, 1; 3 against 0 is 2 of 20; 5 against 0 of 5, 2 of 252.
    [
        (3, (1,), "inconclusive", "p = 1"),
        (3, (0, 1, 2), "inconclusive", "p = 0.1"),
        (5, (0, 1, 2, 3, 4), "reproduced", "p = 0.0079"),
    ],
)
def test_a_training_that_diverged_is_evidence_and_no_missing_cell(
    tmp_path: Path, seeds: int, gone: tuple[int, ...], outcome: str, p: str
) -> None:
    folder = make_experiment(
        tmp_path, models=("mgs-iim", "mgs-iim-no-sn"), procedural=False, preset="paper", size=160,
        seeds=range(seeds), pictures=0,
    )  # fmt: skip
    _with_diverged(folder, "mgs-iim-no-sn", gone)
    _as_published(folder)
    found = {v.claim.key: v for v in evaluate_claims(load_experiment(folder))}["spectral-normalisation"]
    assert found.outcome == outcome
    assert f"{len(gone)} of {seeds} trainings of MGS-IIM, no spectral norm diverged" in found.reason
    assert p in found.reason


def test_a_difference_with_the_other_sign_speaks_against_a_size(tmp_path: Path) -> None:
    means = {**TABLE_4, "mgs-iim": TABLE_4["pconv"] - 0.8}
    found = verdicts(tmp_path, means=means, seed_sd=0.15, noise_sd=0.3)["size-psnr"]
    over_pconv = next(f for f in found.findings if f.comparison.worse == "pconv")
    assert over_pconv.difference < 0 < over_pconv.comparison.published  # type: ignore[operator]
    assert (over_pconv.relation, over_pconv.leaning) == ("opposite sign", "against")
    assert found.outcome == "not reproduced"


def size_of(tmp_path: Path, glcic: float, **about: Any) -> Any:
    """The evidence on MGS-IIM's lead over GLCIC, published as 0.80 dB."""
    found = verdicts(tmp_path, means={**TABLE_4, "glcic": glcic}, **about)["size-psnr"]
    return next(f for f in found.findings if f.comparison.worse == "glcic")


@pytest.mark.parametrize(
    ("glcic", "seed_sd", "relation", "leaning"),
    [
        (27.92 - 0.80, 0.01, "within the margin", "for"),
        (27.92 - 0.60, 0.01, "within the margin", "for"),
        (27.92 - 0.45, 0.10, "consistent", "neither"),
        (27.92 - 0.20, 0.01, "smaller", "against"),
        (27.92 - 2.40, 0.01, "larger", "against"),
        (27.92 + 0.60, 0.01, "opposite sign", "against"),
    ],
)
def test_a_size_is_consistent_smaller_larger_or_of_opposite_sign(
    tmp_path: Path, glcic: float, seed_sd: float, relation: str, leaning: str
) -> None:
    found = size_of(tmp_path, glcic, seed_sd=seed_sd)
    assert (found.relation, found.leaning) == (relation, leaning)
    assert "published +0.80 dB, margin +0.40 to +1.20" in found.reason


def test_a_lead_twice_as_large_as_published_does_not_speak_for_a_size() -> None:
    """As was simulated: seeds 0.2 dB apart, three of them, the true lead twice the published one."""
    shares = Counter(
        size_outcome(true=1.6, published=0.8, seed_sd=0.2, seed=seed).leaning for seed in range(60)
    )
    assert shares["for"] <= 1
    assert Counter(
        size_outcome(true=0.8, published=0.8, seed_sd=0.05, seed=seed).leaning for seed in range(30)
    ) == {"for": 30}


def size_outcome(true: float, published: float, seed_sd: float, seed: int) -> Any:
    """Judge one simulated experiment whose true lead is known."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(0, 1.3, 200)

    def scores(name: str, mean: float) -> Scores:
        values = mean + hard + rng.normal(0, seed_sd, (3, 1)) + rng.normal(0, 0.3, (3, 200))
        people = pd.Series(np.arange(200), dtype="Int64")
        return Scores(name, name, "center", (0, 1, 2), values, pd.Index(range(200)), people, 0)

    a, b = scores("mgs-iim", 24 + true), scores("glcic", 24.0)
    comparison = ClaimComparison("mgs-iim", "glcic", "psnr_db", published)
    line = compare_scores(a, b, higher_is_better=True)
    return compare_size(ModelPair(comparison, "psnr_db", a, b, line), EquivalenceMargin(), 3)


def test_models_trained_on_different_masks_are_not_compared(tmp_path: Path) -> None:
    folder = make_experiment(
        tmp_path, models=FOUR, means=TABLE_4, procedural=False, preset="paper", size=160, seeds=(0, 1, 2), pictures=0,
    )  # fmt: skip
    with manifest_of(folder) as manifest:
        for cell in manifest["cells"]:
            if cell["model"] != "mgs-iim":
                results = folder / cell["folder"] / "results.parquet"
                write_rows(read_rows(results).assign(train_mask="random-rect"), results)
                cell["train_mask"] = "random-rect"
    found = {v.claim.key: v for v in evaluate_claims(load_experiment(folder))}
    assert found["order-psnr"].outcome == "not tested"
    assert "different masks" in found["order-psnr"].reason


def test_what_falls_short_of_the_papers_set_up_is_named(tmp_path: Path) -> None:
    folder = make_experiment(
        tmp_path, models=FOUR, means=TABLE_4, procedural=False, preset="paper", size=160, seeds=(0, 1, 2), pictures=0,
        seed_sd=0.01, noise_sd=0.05,
    )  # fmt: skip
    _as_published(folder)
    with manifest_of(folder) as manifest:
        manifest["settings"]["train_images"] = 100
        manifest["options"] = [{"models": list(FOUR), "set": {"mgs-iim": {"width": 0.1}}}]
    found = {v.claim.key: v for v in evaluate_claims(load_experiment(folder))}["order-psnr"]
    assert found.outcome == "indicative"
    assert "100 training images instead of the paper's 180,000" in found.shortfalls
    assert "mgs-iim with width = 0.1" in found.shortfalls


def test_a_command_repeats_what_its_experiment_was_run_with(tmp_path: Path) -> None:
    folder = make_experiment(
        tmp_path, models=("mgs-iim", "mgs-iim-no-skip"), procedural=False, seeds=(0,), pictures=0
    )
    with manifest_of(folder) as manifest:
        manifest["settings"] |= {"flips": False, "metrics": ["secondary"], "precision": "fp32"}
        manifest["options"] = [
            {"models": ["mgs-iim"], "precision": "fp32", "set": {"mgs-iim": {"gate": "all"}}, "train-mask": "auto"},
            {"models": ["mgs-iim-no-skip"], "precision": "fp32", "train-mask": "auto"},
        ]  # fmt: skip
    found = {v.claim.key: v for v in evaluate_claims(load_experiment(folder))}["skip-connections"]
    for words in (
        "--no-flips",
        "--metrics secondary",
        "--precision fp32",
        "--set mgs-iim.gate=all",
        "--name synthetic",
    ):
        assert words in found.command
    assert "--train-mask" not in found.command

    assert run_command.make_context("run", shlex.split(found.command)[2:]).params["flips"] is False


@pytest.mark.usefixtures("no_drawings")
def test_a_command_names_every_seed_that_was_trained_whatever_the_last_command_added(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path, models=("mgs-iim",), seeds=(0, 1, 2), procedural=False, pictures=0)
    with manifest_of(folder) as manifest:
        manifest["settings"]["seeds"] = [2, 0]
    found = {v.claim.key: v for v in evaluate_claims(load_experiment(folder))}["gated-convolution"]
    assert "--seeds 0,1,2 " in found.command
    page = render_report(folder, tmp_path / "page").read_text(encoding="utf-8")
    assert "3 (seeds 0, 1, 2)" in page


def test_a_command_repeats_the_batch_that_was_found_automatically(tmp_path: Path) -> None:
    folder = make_experiment(
        tmp_path, models=("mgs-iim", "mgs-iim-no-skip"), procedural=False, seeds=(0,), pictures=0
    )
    with manifest_of(folder) as manifest:
        manifest["settings"]["batch"] = 24
        manifest["options"] = [{"models": ["mgs-iim", "mgs-iim-no-skip"], "batch": "auto"}]
    found = {v.claim.key: v for v in evaluate_claims(load_experiment(folder))}["skip-connections"]
    assert "--batch 24" in found.command


def test_trainings_on_other_masks_do_not_count_as_seeds(tmp_path: Path) -> None:
    folder = make_experiment(
        tmp_path, models=("mgs-iim", "mgs-iim-no-gate"), procedural=False, preset="paper", size=160,
        seeds=(0, 1, 2), pictures=0,
    )  # fmt: skip
    manifest = json.loads((folder / "manifest.json").read_text())
    cell = manifest["cells"][0]
    results = folder / cell["folder"] / "results.parquet"
    write_rows(read_rows(results).assign(train_mask="paper"), results)
    cell["train_mask"] = "paper"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    found = {v.claim.key: v for v in evaluate_claims(load_experiment(folder))}["gated-convolution"]
    assert found.outcome == "inconclusive"
    assert "mgs-iim has 2" in found.reason


def test_json_has_no_nan(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from bench.cli.commands.claims import claims_command

    folder = make_experiment(
        tmp_path, models=("mgs-iim", "mgs-iim-no-sn"), procedural=False, seeds=(0,), pictures=0
    )
    _with_validations(folder, {"mgs-iim": 0.1, "mgs-iim-no-sn": 0.2})
    result = CliRunner().invoke(claims_command, [str(folder), "--json"])
    assert result.exit_code == 0, result.output
    found = {v["key"]: v for v in json.loads(result.output, parse_constant=pytest.fail)}
    (finding,) = found["spectral-normalisation"]["findings"]
    assert finding["low"] is None
    assert "takes two trainings of each" in finding["reason"]


def with_conventions(folder: Path, **shift: float) -> None:
    """Give every cell more SSIM columns, MGS-IIM's moved by ``shift`` of the column's name."""
    for path in folder.glob("cells/*/results.parquet"):
        rows = read_rows(path)
        ours = (rows["model"] == "mgs-iim").to_numpy()
        for name in ("ssim_uniform7", "ssim_y", "hole_ssim"):
            rows[name] = rows["ssim"] + np.where(ours, shift.get(name, 0.0), 0.0)
        write_rows(rows, path)


@pytest.mark.parametrize(
    ("shift", "outcome", "text"),
    [
        ({}, "reproduced", "under all 4 SSIM conventions"),
        ({"ssim_y": -0.2}, "inconclusive", "ssim_y: does not hold"),
        (dict.fromkeys(("ssim_uniform7", "ssim_y", "hole_ssim"), -0.2), "inconclusive", "ssim: holds"),
    ],
)
def test_ssim_claims_are_judged_under_every_convention_measured(
    tmp_path: Path, shift: dict[str, float], outcome: str, text: str
) -> None:
    folder = make_experiment(
        tmp_path, models=FOUR, means=TABLE_4, seed_sd=0.01, noise_sd=0.02, procedural=False, preset="paper",
        size=160, seeds=(0, 1, 2), images=60, pictures=0,
    )  # fmt: skip
    _as_published(folder)
    with_conventions(folder, **shift)
    found = {v.claim.key: v for v in evaluate_claims(load_experiment(folder))}["order-ssim"]
    assert found.outcome == outcome
    assert text in found.reason
    assert [f.metric for f in found.findings] == [
        name for name in ("ssim", "ssim_uniform7", "ssim_y", "hole_ssim") for _ in range(3)
    ]


def test_the_terminal_shows_departures_once_conventions_and_the_bar(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from bench.cli.commands.claims import claims_command

    folder = make_experiment(
        tmp_path, models=(*FOUR, "mgs-iim-no-gate", "biharmonic"), means=TABLE_4, seed_sd=0.05, noise_sd=0.1,
        procedural=False, seeds=(0, 1, 2), images=40, pictures=0,
    )  # fmt: skip
    with_conventions(folder)
    result = CliRunner().invoke(claims_command, [str(folder)])
    assert result.exit_code == 0, result.output
    assert result.output.count("64 px instead of the paper's 160") == 1
    assert "departures of its own: PConv (no perceptual/style) lacks published losses" in result.output
    assert "as claimed        hole_ssim" in result.output
    assert "PSNR on center: MGS-IIM leads" in result.output
    assert "The bar is Biharmonic, the best training-free baseline: MGS-IIM (+" in result.output
