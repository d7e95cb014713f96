"""``bench merge``: seeds and models of several experiments in one table; and tuning on one grid."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.errors import UsageError
from bench.ledger.importing import import_experiment
from bench.ledger.kept_files import pack_bundle
from bench.ledger.merging import merge_experiments
from bench.runner.run_folder import file_signature
from benchmarks.tune import record, tune
from reports.claims.claim_verdicts import evaluate_claims
from reports.claims.evidence import validation_fluctuation
from reports.export import export_tables
from reports.leaderboard import leaderboard_rows
from reports.render import render_report
from reports.results.experiment import load_experiment, read_train_log, values_digest
from reports.results.manifest import IMPORTED_LOG, SEAL, manifest_checksum
from reports.results.schema import read_rows, write_rows
from reports.statistics.paired_differences import paired_differences
from reports.statistics.summary import summarize
from tests.bench.cli.test_cli import bench
from tests.reports.synthetic import make_experiment

CELEBA = {"procedural": False, "images": 12, "pictures": 2}


def test_seeds_of_two_experiments_stand_side_by_side(tmp_path: Path) -> None:
    parts = [
        make_experiment(tmp_path, name=f"seeds-{i}", models=("mgs-iim", "mean"), seeds=seeds, **CELEBA)  # type: ignore[arg-type]
        for i, seeds in enumerate(((0, 1), (2,)))
    ]
    for part in parts:  # a baseline has one cell, whatever the seeds
        manifest = json.loads((part / "manifest.json").read_text())
        for cell in manifest["cells"]:
            if cell["model"] == "mean":
                results = part / cell["folder"] / "results.parquet"
                write_rows(read_rows(results).assign(seed=0), results)
                cell["seed"] = 0
        (part / "manifest.json").write_text(json.dumps(manifest))
    for part in parts[1:]:  # the same numbers, computed twice
        (mean,) = part.glob("cells/mean-*/results.parquet")
        mean.write_bytes(next(parts[0].glob("cells/mean-*/results.parquet")).read_bytes())
    merged = load_experiment(merge_experiments(parts, "all", runs=tmp_path / "runs"))
    assert sorted(merged.rows.loc[merged.rows["model"] == "mgs-iim", "seed"].unique()) == [0, 1, 2]
    assert len(merged.done()) == 4
    assert merged.manifest["settings"]["seeds"] == [0, 1, 2]
    assert [m["experiment"] for m in merged.manifest["merged"]] == ["seeds-0", "seeds-1"]
    assert merged.curves["training"].nunique() == 3
    assert merged.pictures("center") is not None
    apart = pd.concat([load_experiment(part).curves for part in parts])
    assert len(merged.curves) == len(apart)


def test_the_command_joins_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, model in (("a", "mgs-iim"), ("b", "glcic")):
        make_experiment(tmp_path / "runs", name=name, models=(model,), seeds=(0, 1), **CELEBA)  # type: ignore[arg-type]
    result = bench("merge", "a", "b", "--name", "both")
    assert result.exit_code == 0, result.output
    assert "merged: runs/both (4 cells, seeds 0, 1)" in result.output
    assert bench("merge", "a", "b", "--name", "both").exit_code != 0


def test_what_does_not_fit_together_is_named(tmp_path: Path) -> None:
    first = make_experiment(tmp_path, name="first", models=("mgs-iim",), **CELEBA)  # type: ignore[arg-type]
    for name, change, says in (
        ("size", {"size": 160}, "differ in size"),
        ("budget", {"images_seen": 99}, "differ in images_seen"),
        ("data", {"procedural": True}, "differ in images"),
        ("mask", {"mask_digest": "cd"}, "differ in mask center"),
        ("numbers", {"means": {"mgs-iim": 20.0}}, "has other numbers in first and numbers"),
    ):
        other = make_experiment(tmp_path, name=name, models=("mgs-iim",), **(CELEBA | change))  # type: ignore[arg-type, operator]
        with pytest.raises(UsageError, match=says):
            merge_experiments([first, other], "all", runs=tmp_path / "runs")
    assert not list((tmp_path / "runs").glob("*"))


def test_two_models_under_one_label_are_not_joined(tmp_path: Path) -> None:
    one = make_experiment(tmp_path, name="one", models=("mgs-iim",), **CELEBA)  # type: ignore[arg-type]
    other = make_experiment(tmp_path, name="other", models=("glcic",), **CELEBA)  # type: ignore[arg-type]
    manifest = json.loads((other / "manifest.json").read_text())
    for cell in manifest["cells"]:
        cell["label"] = "MGS-IIM"
        results = other / cell["folder"] / "results.parquet"
        write_rows(read_rows(results).assign(label="MGS-IIM"), results)
    (other / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UsageError, match="two models are called 'MGS-IIM': mgs-iim and glcic"):
        merge_experiments([one, other], "all", runs=tmp_path / "runs")


def test_words_for_one_split_and_training_masks_of_their_own_are_no_difference(tmp_path: Path) -> None:
    """What a split came to is in the fingerprint of the images, and the training mask in every cell."""
    folders = []
    for name, model, words in (
        ("one", "mgs-iim", ("auto", "same")),
        ("other", "glcic", ("official", "center")),
    ):
        folder = make_experiment(tmp_path, name=name, models=(model,), **CELEBA)  # type: ignore[arg-type]
        path = folder / "manifest.json"
        manifest = json.loads(path.read_text())
        manifest["settings"]["split"], manifest["settings"]["train_mask"] = words
        manifest.pop(SEAL, None)
        path.write_text(json.dumps(manifest))
        folders.append(folder)
    merged = load_experiment(merge_experiments(folders, "all", runs=tmp_path / "runs"))
    assert {(c["model"], c["train_mask"]) for c in merged.done()} == {
        ("mgs-iim", "center"),
        ("glcic", "center"),
    }


CPU = {"device": "cpu", "threads": 2, "torch": "2.5.0"}
GPU = {"device": "cuda", "gpu": "NVIDIA H100", "torch": "2.5.0", "precision": "bf16"}


def computed(
    folder: Path,
    where: Mapping[str, Any] | None,
    *,
    what: str = "same",
    hardware: str = "a processor",
    by: str = "",
) -> Path:
    """Let an experiment say what and where its cells were computed."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["hardware"]["cpu"] = hardware
    manifest["settings"]["precision"] = (where or {}).get(
        "precision", "fp32"
    )  # resolved, as a run records it
    if by:
        manifest["computed_by"] = by
    for cell in manifest["cells"]:
        cell["what"] = f"{what}-{cell['cell']}"
        if where is not None:
            cell["where"] = dict(where)
        if cell["training"] and where is not None:
            cell["training"]["where"] = [dict(where)]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def two_machines(root: Path) -> list[Path]:
    """The same what on two machines: MGS-IIM with other numbers, the mean with the same."""
    common = {**CELEBA, "models": ("mgs-iim", "mean")}
    cpu = make_experiment(root / "cpu", name="seeds", seeds=(0, 1), **common)  # type: ignore[arg-type]
    gpu = make_experiment(root / "gpu", name="seeds", seeds=(0, 1, 2), means={"mgs-iim": 24.9}, **common)  # type: ignore[arg-type]
    return [computed(cpu, CPU, by="Ada"), computed(gpu, GPU, hardware="another processor")]


def test_the_same_what_on_two_machines_stays_two_methods(tmp_path: Path) -> None:
    parts = two_machines(tmp_path)
    merged = load_experiment(merge_experiments(parts, "all", runs=tmp_path / "runs"))
    summary = summarize(merged.rows, ["psnr_db"]).set_index("label")
    assert summary["n_seeds"].to_dict() == {
        "MGS-IIM (on cpu)": 2,
        "MGS-IIM (on NVIDIA H100)": 3,
        "Mean pixel": 1,  # the same numbers on both: one cell
    }
    for part, label in zip(parts, ("MGS-IIM (on cpu)", "MGS-IIM (on NVIDIA H100)"), strict=True):
        alone = summarize(load_experiment(part).rows, ["psnr_db"]).set_index("label").loc["MGS-IIM"]
        for number in ("mean", "low", "high"):
            assert summary.loc[label, number] == alone[number], "as if the other machine were not there"
    # Each training's log is its own, although both have one key.
    assert merged.curves.groupby("label")["training"].nunique().to_dict() == {
        "MGS-IIM (on cpu)": 2,
        "MGS-IIM (on NVIDIA H100)": 3,
    }
    assert len({cell["folder"] for cell in merged.done()}) == len(merged.done()) == 6
    # One computed in fp32 and one in bf16, as "auto" chooses on each: a later run is not held to either.
    assert merged.manifest["settings"]["precision"] == "auto"
    pictures = merged.pictures("center")
    assert pictures is not None
    assert len(pictures.composites) == 6
    # Stability of the claims is of the first machine alone, not of two trainings a seed.
    alone = validation_fluctuation(load_experiment(parts[0]).curves, "mgs-iim")
    pd.testing.assert_series_equal(validation_fluctuation(merged.curves, "mgs-iim"), alone)
    page = render_report(merged.folder, tmp_path / "report").read_text(encoding="utf-8")
    assert page.count("MGS-IIM (on cpu)") > 1
    assert page.count("MGS-IIM (on NVIDIA H100)") > 1


def test_two_machines_are_not_two_seeds_for_a_verdict(tmp_path: Path) -> None:
    """Two trainings of each model decide no claim, and the same two on another machine are not four."""
    about = {
        **CELEBA,
        "models": ("context-encoder", "glcic", "pconv", "mgs-iim"),
        "seeds": (0, 1),
        "images": 60,
    }
    alone = computed(make_experiment(tmp_path, name="cpu", **about), CPU)  # type: ignore[arg-type]
    means = {"context-encoder": 22.6, "glcic": 23.9, "pconv": 23.5, "mgs-iim": 24.4}
    other = computed(make_experiment(tmp_path, name="gpu", means=means, **about), GPU)  # type: ignore[arg-type]
    merged = load_experiment(merge_experiments([alone, other], "all", runs=tmp_path / "runs"))
    pairs = paired_differences(merged.rows, ["psnr_db"])
    assert len(pairs) == 8 * 7 / 2
    assert set(pairs["seeds_a"]) == set(pairs["seeds_b"]) == {2}
    assert set(pairs["verdict"]) == {"inconclusive"}
    verdicts = [(v.claim.key, v.outcome) for v in evaluate_claims(merged)]
    assert verdicts == [(v.claim.key, v.outcome) for v in evaluate_claims(load_experiment(alone))]
    # As many seeds of one machine do decide some of them: the test above can fail.
    enough = make_experiment(tmp_path, name="enough", **(about | {"seeds": (0, 1, 2, 3)}))  # type: ignore[arg-type]
    assert set(paired_differences(load_experiment(enough).rows, ["psnr_db"])["verdict"]) != {"inconclusive"}


def test_a_leaderboard_says_who_computed_each_of_the_rows_on_what(tmp_path: Path) -> None:
    folder = merge_experiments(two_machines(tmp_path), "all", runs=tmp_path / "runs")
    rows = {row.model: row for row in leaderboard_rows(load_experiment(folder))}
    cpu, gpu, mean = (rows[m] for m in ("MGS-IIM (on cpu)", "MGS-IIM (on NVIDIA H100)", "Mean pixel"))
    assert (cpu.seeds, gpu.seeds) == (2, 3)
    assert (cpu.computed_by, gpu.computed_by, mean.computed_by) == ("Ada", "", "Ada")
    assert cpu.computed_on == mean.computed_on == "a processor, torch 2.5.0, commit 0123456789ab, threads 2"
    assert gpu.computed_on == "another processor, torch 2.5.0, commit 0123456789ab, precision bf16"
    # A bundle of it travels, and what was merged is merged again with a third machine.
    bundle = tmp_path / "all.zip"
    bundle.write_bytes(pack_bundle(load_experiment(folder), by="Bea"))
    travelled = import_experiment([bundle], runs=tmp_path / "elsewhere")
    assert {row.model: row for row in leaderboard_rows(load_experiment(travelled))} == rows
    third = make_experiment(tmp_path / "third", name="third", models=("glcic",), **CELEBA)  # type: ignore[arg-type]
    again = merge_experiments([computed(third, CPU, by="Cy"), folder], "again", runs=tmp_path / "runs")
    found = {row.model: row.computed_by for row in leaderboard_rows(load_experiment(again))}
    assert found == {
        "GLCIC": "Cy",
        "MGS-IIM (on cpu)": "Ada",
        "MGS-IIM (on NVIDIA H100)": "",
        "Mean pixel": "Ada",
    }
    manifest = load_experiment(again).manifest
    assert [part["experiment"] for part in manifest["merged"]] == ["third", "seeds", "seeds"]


def test_other_numbers_that_no_machine_explains_are_refused(tmp_path: Path) -> None:
    def made(name: str, mean_db: float) -> Path:
        return make_experiment(
            tmp_path,
            name=name,
            models=("mgs-iim",),
            means={"mgs-iim": mean_db},
            **CELEBA,  # type: ignore[arg-type]
        )

    first = computed(made("first", 24.0), CPU)
    for other, says in (
        (computed(made("same-machine", 25.0), CPU), "both on one machine"),
        (computed(made("code", 25.0), GPU, what="other"), "not known to be the same computation"),
        (computed(made("silent", 25.0), None), "does not say where it was computed"),
    ):
        with pytest.raises(UsageError, match=f"other numbers in first and {other.name}, .*{says}"):
            merge_experiments([first, other], "all", runs=tmp_path / "runs")
    assert not list((tmp_path / "runs").glob("*"))


def test_every_pair_must_fit_together(tmp_path: Path) -> None:
    """Two that both fit the first may share a mask that the first does not have, drawn otherwise."""
    parts = [
        make_experiment(tmp_path, name=name, models=(model,), masks=(mask,), mask_digest=digest, **CELEBA)  # type: ignore[arg-type]
        for name, model, mask, digest in (
            ("first", "mgs-iim", "center", "ab"),
            ("second", "glcic", "half", "ab"),
            ("third", "pconv", "half", "cd"),
        )
    ]
    with pytest.raises(UsageError, match="second and third do not fit together: they differ in mask half"):
        merge_experiments(parts, "all", runs=tmp_path / "runs")


def test_a_tuned_learning_rate_is_kept_and_the_verdict_says_so(tmp_path: Path) -> None:
    models = ("context-encoder", "glcic", "pconv", "mgs-iim")
    parts, tuning = [], {}
    for i, model in enumerate(models):
        parts.append(
            make_experiment(tmp_path, name=model, models=(model,), seeds=(0, 1, 2), **CELEBA)  # type: ignore[arg-type]
        )
        rate = 2e-4 * 2**i
        tuning[model] = record(model, {rate / 2: 23.0, rate: 24.0, rate * 2: 23.5}, 1600)
        manifest = json.loads((parts[-1] / "manifest.json").read_text())
        manifest["settings"]["learning_rate"] = rate
        (parts[-1] / "manifest.json").write_text(json.dumps(manifest))
    merged = load_experiment(merge_experiments(parts, "tuned", runs=tmp_path / "runs", tuning=tuning))
    assert merged.manifest["settings"]["learning_rate"] is None
    kept = {c["model"]: c["training"]["tuning"]["learning_rate"] for c in merged.done()}
    assert kept == {"context-encoder": 2e-4, "glcic": 4e-4, "pconv": 8e-4, "mgs-iim": 1.6e-3}
    shortfalls = evaluate_claims(merged)[0].shortfalls
    assert "one recipe for all models instead of each paper's own" in shortfalls
    assert "mgs-iim with a learning rate of its own (0.0016)" in shortfalls


def test_the_grid_is_the_same_for_all_and_extended_until_every_best_is_inside() -> None:
    best = {"a": 4e-4, "b": 1.6e-3, "c": 2e-4}
    asked: list[tuple[str, float]] = []

    def score(model: str, rate: float) -> float:
        asked.append((model, rate))
        return -abs(rate - best[model])

    found = tune(list(best), (2e-4, 4e-4, 8e-4), score)
    assert {tuple(sorted(of)) for of in found.values()} == {(1e-4, 2e-4, 4e-4, 8e-4, 1.6e-3, 3.2e-3)}
    assert {m: max(of, key=lambda r, of=of: of[r]) for m, of in found.items()} == best  # type: ignore[misc]
    assert len(asked) == len(set(asked)) == 18
    with pytest.raises(ValueError, match="still best at an end"):
        tune(["d"], (1e-4, 2e-4), lambda model, rate: rate)


@pytest.mark.parametrize("models", [("mean",), ("mgs-iim",), ("mgs-iim", "mean")])
def test_one_computation_under_two_labels_is_refused_and_leaves_nothing(
    tmp_path: Path, models: tuple[str, ...]
) -> None:
    """A program's label is in no key: renamed between two runs, both have the same folders."""
    one, other = (make_experiment(tmp_path, name=name, models=models, **CELEBA) for name in ("one", "other"))  # type: ignore[arg-type]
    manifest = json.loads((other / "manifest.json").read_text())
    for cell in manifest["cells"]:
        cell["label"] = f"{cell['label']} II"
        results = other / cell["folder"] / "results.parquet"
        write_rows(read_rows(results).assign(label=cell["label"]), results)
    (other / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(
        UsageError, match=r"in one and .* II in other are the same computation under two labels"
    ):
        merge_experiments([one, other], "both", runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def _part(root: Path, name: str, mask: str, seconds: float, how: str) -> Path:
    """An experiment on ``mask`` of a training on center masks, run at a pace of its own: ``seconds`` a step.

    Args:
        root: folder of the test.
        name: of the experiment.
        mask: that it evaluates.
        seconds: for each step of its log.
        how: "run"; "damaged" (its log); "older" (nothing is recorded of its log); "import" or "bare import" (without
            curves) of such a run.
    """
    folder = make_experiment(root / "made", name=name, models=("mgs-iim",), masks=(mask,), **CELEBA)  # type: ignore[arg-type]
    manifest = json.loads((folder / "manifest.json").read_text())
    (cell,) = manifest["cells"]
    place = (folder / cell["training"]["folder"]).rename(folder / "trainings" / "mgs-iim-shared")
    cell["train_mask"] = "center"
    cell["training"] |= {"key": "shared", "folder": "trainings/mgs-iim-shared"}
    results = folder / cell["folder"] / "results.parquet"
    write_rows(read_rows(results).assign(train_mask="center"), results)
    log = place / "train.jsonl"
    log.write_text(log.read_text().replace('"seconds": ', f'"seconds": {seconds:.0f}'))
    (place / "training.json").write_text("{}")
    if how != "older":
        values = values_digest(read_train_log(log)[0])
        cell["training"]["log"] = {**file_signature(log), "values_sha256": values}
    manifest[SEAL] = manifest_checksum(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    if how == "damaged":
        log.write_bytes(log.read_bytes()[:-200])
    if how.endswith("import"):
        files = [root / f"{name}.zip"]
        files[0].write_bytes(pack_bundle(load_experiment(folder)))
        if how.startswith("bare"):
            files = [folder / "manifest.json", root / f"{name}.csv"]
            files[1].write_bytes(export_tables(load_experiment(folder), "rows", "csv"))
        return import_experiment(files, name=name, runs=root / "imported")
    return folder


@pytest.mark.parametrize(
    ("one", "other", "taken"),
    [
        ("run", "run", 0),
        ("run", "import", 0),
        ("import", "run", 0),
        ("import", "import", 0),
        ("bare import", "run", 1),
        ("bare import", "import", 1),
        ("damaged", "run", 1),
        ("damaged", "import", 1),
        ("run", "damaged", 0),
        ("older", "run", 1),
        ("damaged", "damaged", None),
    ],
)
def test_experiments_that_share_a_training_give_one_whole_log(
    tmp_path: Path, one: str, other: str, taken: int | None
) -> None:
    """Each has run it at a pace of its own; ``taken``: whose log is whole, and the first of such."""
    parts = [
        _part(tmp_path, f"part-{i}", mask, seconds=i + 1, how=how)
        for i, (mask, how) in enumerate((("center", one), ("half", other)))
    ]
    merged = load_experiment(merge_experiments(parts, "both", runs=tmp_path / "runs"))
    beside = {p.name for p in (merged.folder / "trainings" / "mgs-iim-shared").iterdir()}
    assert not {"training.json", IMPORTED_LOG} <= beside
    if taken is None:
        assert list(merged.log_problems) == ["shared"]
        assert merged.sound_curves.empty
        return
    assert merged.log_problems == {}
    pd.testing.assert_frame_equal(merged.sound_curves, load_experiment(parts[taken]).sound_curves)
    (bundle := tmp_path / "both.zip").write_bytes(pack_bundle(merged))
    again = load_experiment(import_experiment([bundle], runs=tmp_path / "again"))
    assert again.log_problems == {}
    pd.testing.assert_frame_equal(again.curves, merged.curves)
    # What none of the two recorded is still noticed.
    for folder in (merged.folder, again.folder):
        log = folder / "trainings" / "mgs-iim-shared" / "train.jsonl"
        log.write_text(log.read_text().replace('"step": 20', '"step": 21', 1))
        assert load_experiment(folder).log_problems == {"shared": "log changed since it was written"}
