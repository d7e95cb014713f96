"""``bench score --into``: pictures of another program in the table and the report of an experiment."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench import api
from bench.errors import UsageError
from bench.runner.run_folder import read_manifest
from reports.results.experiment import load_experiment
from reports.statistics.paired_differences import paired_differences
from reports.statistics.scores import group_scores
from tests.bench.cli.test_cli import bench, error_of
from tests.places import working_in

LABEL = "My method (scored from a folder)"
RUN = ("run", "--preset", "smoke", "--images-seen", "16", "--mask", "center", "--name", "first", "--quiet")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, pictures_dir: Path) -> Path:
    """A workplace with an experiment of two fills, and a grey picture for each of its images."""
    folder = tmp_path_factory.mktemp("into")
    with working_in(folder):
        result = bench(*RUN, "--data", str(pictures_dir), "--models", "mean,mean-image")
        assert result.exit_code == 0, result.output
    experiment = load_experiment(folder / "runs" / "first")
    (folder / "grey").mkdir()
    size = experiment.manifest["settings"]["size"]
    for image_id in experiment.rows["image_id"].unique():
        Image.new("RGB", (size, size), (128, 128, 128)).save(folder / "grey" / image_id)
    return folder


@pytest.fixture
def workplace(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it as the current folder."""
    shutil.copytree(made, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "work" / "cache"))
    return tmp_path / "work"


def score() -> None:
    result = bench("score", "grey", "--mask", "center", "--into", "first", "--label", "My method")
    assert result.exit_code == 0, result.output


def external(folder: Path) -> list[dict[str, object]]:
    cells = read_manifest(folder / "runs" / "first" / "manifest.json")["cells"]
    return [c for c in cells if c["train_mask"] == "external"]


def test_the_row_is_in_table_report_export_and_status_and_decides_nothing(workplace: Path) -> None:
    score()
    experiment = load_experiment(workplace / "runs" / "first")
    rows = experiment.rows[experiment.rows["label"] == LABEL]
    assert set(rows["image_id"]) == set(experiment.rows["image_id"])
    assert set(rows["train_mask"]) == {"external"}
    # Oracle: what the same pictures give when they are scored alone.
    alone = ("score", "grey", "--mask", "center", "--data", experiment.manifest["data"]["source"])
    size = str(experiment.manifest["settings"]["size"])
    assert bench(*alone, "--size", size, "--output", "alone.parquet").exit_code == 0
    pd.testing.assert_series_equal(
        rows.set_index("image_id")["psnr_db"],
        pd.read_parquet("alone.parquet").set_index("image_id")["psnr_db"],
    )
    against_fills = paired_differences(experiment.rows, ["psnr_db"])
    ours = against_fills[(against_fills["a"] == LABEL) | (against_fills["b"] == LABEL)]
    assert len(ours) == 2
    assert set(ours["verdict"]) == {"inconclusive"}
    assert ours["reason"].str.contains("fewer than 3 trainings").all()
    assert LABEL in (workplace / "reports" / "first" / "index.html").read_text()
    assert LABEL in bench("export", "first", "--format", "markdown").output
    assert LABEL in bench("status", "first").output
    assert bench("claims", "first").exit_code == 0
    shutil.copytree("runs/first", "runs/second")
    assert LABEL[:10] in bench("compare", "first", "second").output
    pictures = experiment.pictures("center")
    assert pictures is not None
    composite = pictures.composites[str(external(workplace)[0]["cell"])]
    assert (composite[pictures.mask == 1] == 128).all()
    assert np.array_equal(composite[pictures.mask == 0], pictures.image[pictures.mask == 0])


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
@pytest.mark.parametrize(
    ("folder", "label"),
    [
        (b"pr\xe9", "pr%E9"),
        pytest.param(b"\x83e a\nb\x1b[2J", "%83e a%0Ab%1B[2J", marks=pytest.mark.long),
        pytest.param("gr\u202eün".encode(), "gr%E2%80%AEün", marks=pytest.mark.long),
    ],
)
def test_a_folder_of_any_name_is_scored_under_that_name(workplace: Path, folder: bytes, label: str) -> None:
    name = os.fsdecode(folder)
    Path("grey").rename(name)
    settings = load_experiment(workplace / "runs" / "first").manifest
    alone = ("score", name, "--mask", "center", "--data", settings["data"]["source"])
    scored = bench(*alone, "--size", str(settings["settings"]["size"]), "--output", "alone.parquet")
    assert scored.exit_code == 0, scored.output
    assert set(pd.read_parquet("alone.parquet")["label"]) == {label}
    added = bench("score", name, "--mask", "center", "--into", "first")
    assert added.exit_code == 0, added.output
    (cell,) = external(workplace)
    assert (cell["label"], cell["model"]) == (f"{label} (scored from a folder)", f"external:{label}")
    # Without half a character that another reader of the file would stop at.
    text = json.dumps(read_manifest(workplace / "runs" / "first" / "manifest.json"), ensure_ascii=False)
    assert text.encode().count(label.replace("\\", "\\\\").encode()) > 2


@pytest.mark.parametrize(
    "label", ["pr\udce9", "a\nb", "\x1b[2J", "\u202egnp", "\u061cgnp", "x\x9b31m", "\ud800"]
)
def test_a_label_that_no_table_can_hold_is_refused_before_anything_is_read(
    workplace: Path, label: str
) -> None:
    said = error_of("score", "nowhere", "--mask", "center", "--data", "nowhere", "--label", label)
    assert said.startswith("--label ")
    assert "give one line of UTF-8 without control characters" in said
    assert len(said.strip().splitlines()) == 1
    with pytest.raises(UsageError, match="one line of UTF-8"):
        api.score(lambda image, mask: image, data="nowhere", label=label)


@pytest.mark.parametrize("label", ["  ", "\u200b", "\u00a0\u2003", "\u3164", "\u2800\ufe0f"])
def test_a_label_of_which_nothing_can_be_seen_is_refused(workplace: Path, label: str) -> None:
    said = error_of("score", "nowhere", "--mask", "center", "--data", "nowhere", "--label", label)
    assert "nothing of it can be seen; give a name" in said


def test_a_label_that_fills_a_page_is_refused(workplace: Path) -> None:
    said = error_of("score", "nowhere", "--mask", "center", "--data", "nowhere", "--label", "x" * 3000)
    assert "--label xxxxxxxxxxxxxxxxxxxx...: 3,000 characters; give up to 100" in said


@pytest.mark.long
def test_scored_again_it_replaces_itself_and_a_run_keeps_it(workplace: Path) -> None:
    score()
    first = external(workplace)[0]
    side = read_manifest(workplace / "runs" / "first" / "manifest.json")["settings"]["size"]
    for path in (workplace / "grey").iterdir():
        Image.new("RGB", (side, side), (90, 90, 90)).save(path)
    score()
    (second,) = external(workplace)
    assert second["folder"] != first["folder"]
    assert not (workplace / "runs" / "first" / str(first["folder"])).exists()
    source = read_manifest(workplace / "runs" / "first" / "manifest.json")["data"]["source"]
    again = bench(*RUN, "--data", source, "--models", "mean")
    assert again.exit_code == 0, again.output
    assert "other software" not in again.output
    assert external(workplace) == [second]
    manifest = read_manifest(workplace / "runs" / "first" / "manifest.json")
    assert manifest["settings"]["models"] == ["mean", "mean-image"]
    assert LABEL in (workplace / "reports" / "first" / "index.html").read_text()


def test_a_label_of_one_of_our_models_is_a_method_of_its_own(workplace: Path) -> None:
    result = bench("score", "grey", "--mask", "center", "--into", "first", "--label", "Mean pixel")
    assert result.exit_code == 0, result.output
    arranged = group_scores(load_experiment(workplace / "runs" / "first").rows, "psnr_db")
    assert [(label, len(s.seeds)) for (_, label, _), s in arranged.items()] == [
        ("Mean pixel", 1),
        ("Mean image", 1),
        ("Mean pixel (scored from a folder)", 1),
    ]


def test_reproduce_leaves_it_out_with_a_word(workplace: Path) -> None:
    score()
    result = bench("reproduce", "first", "--json")
    assert result.exit_code == 0, result.output
    assert f"Left out, made by other programs: {LABEL}" in result.output
    told = json.loads(result.stdout[result.stdout.index("{") :])
    assert {n["cell"] for n in told["numbers"]} == {
        "Mean pixel on center, seed 0",
        "Mean image on center, seed 0",
    }


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--mask", "half"), "it has no results on mask 'half'"),
        (("--mask", "center", "--size", "32"), "its data are others"),
        (("--mask", "center", "--test-images", "2"), "these are 2"),
        (("--mask", "center", "--into", "nowhere"), "no experiment 'nowhere'"),
    ],
)
def test_other_images_or_masks_are_refused_with_the_reason(
    workplace: Path, words: tuple[str, ...], reason: str
) -> None:
    before = (workplace / "runs" / "first" / "manifest.json").read_bytes()
    assert reason in error_of("score", "grey", "--into", "first", *words)
    assert (workplace / "runs" / "first" / "manifest.json").read_bytes() == before


def test_an_image_without_a_picture_is_refused(workplace: Path) -> None:
    next((workplace / "grey").iterdir()).unlink()
    error = error_of("score", "grey", "--mask", "center", "--into", "first")
    assert "1 of its" in error
    assert "have no score" in error
    assert external(workplace) == []


@pytest.mark.long
def test_seeds_are_trainings_side_by_side_and_three_of_them_decide(workplace: Path) -> None:
    side = read_manifest(workplace / "runs" / "first" / "manifest.json")["settings"]["size"]
    for seed, level in enumerate((128, 126, 130)):
        for path in (workplace / "grey").iterdir():
            Image.new("RGB", (side, side), (level, level, level)).save(path)
        more = ("--into", "first", "--label", "My method", "--seed", str(seed))
        result = bench("score", "grey", "--mask", "center", *more)
        assert result.exit_code == 0, result.output
    assert [c["seed"] for c in external(workplace)] == [0, 1, 2]
    experiment = load_experiment(workplace / "runs" / "first")
    scores = group_scores(experiment.rows, "psnr_db")["center", LABEL, "external"]
    assert scores.seeds == (0, 1, 2)
    assert len(np.unique(scores.values.mean(axis=1))) == 3
    found = paired_differences(experiment.rows, ["psnr_db"])
    ours = found[(found["a"] == LABEL) | (found["b"] == LABEL)]
    assert not ours["reason"].str.contains("fewer than 3 trainings").any()
    before = external(workplace)[1]
    result = bench(
        "score", "grey", "--mask", "center", "--into", "first", "--label", "My method", "--seed", "1"
    )
    assert result.exit_code == 0, result.output
    assert [c["seed"] for c in external(workplace)] != []
    assert before["folder"] not in [c["folder"] for c in external(workplace)], "a seed replaces itself alone"
    assert len(external(workplace)) == 3
