"""``bench leaderboard``: rows with their protocol, and entries that fail their checks with the reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.ledger.kept_files import pack_bundle
from bench.runner.reproduce import MetricComparison, Reproduction, reproduction_as_json
from reports.leaderboard import leaderboard_rows
from reports.results.experiment import cell_title, load_experiment
from reports.results.manifest import SEAL, manifest_checksum
from reports.results.schema import cell_numbers, read_rows, rows_digest, write_rows
from tests.bench.cli.test_cli import bench, error_of
from tests.reports.synthetic import make_experiment


def test_experiments_and_bundles_become_rows_and_damaged_ones_reasons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = make_experiment(
        tmp_path / "runs", name="here", models=("mgs-iim", "mean"), seeds=(0, 1), procedural=False, pictures=0
    )
    (here / "reproduction.json").write_text(json.dumps(_outcome(_with_numbers(here))))
    there = make_experiment(
        tmp_path / "elsewhere", name="there", models=("mgs-iim",), procedural=False, pictures=0
    )
    (tmp_path / "runs" / "there.zip").write_bytes(pack_bundle(load_experiment(there)))
    (tmp_path / "runs" / "cut.zip").write_bytes(pack_bundle(load_experiment(there))[:-300])
    damaged = make_experiment(tmp_path / "runs", name="damaged", models=("mean",), pictures=0)
    (damaged / "manifest.json").write_text("{")
    result = bench("leaderboard", "runs", "--output", "board.html")
    assert result.exit_code == 0, result.output
    assert "board.html (2 experiments)" in result.output
    page = (tmp_path / "board.html").read_text(encoding="utf-8")
    assert page.count('<tr><th scope="row">') == 3
    assert page.count('<th scope="row">MGS-IIM</th>') == 2  # the same model in two places stays two rows
    assert "reported 27.92" in page
    assert "CelebA, 64\u00a0px, crop center, split official" in page
    assert "a processor, torch 2.5.0, commit 0123456789ab" in page
    assert page.count(">yes<") == 2
    assert ">not tried<" in page
    for name in ("damaged", "cut.zip"):
        assert f"<strong>{name}</strong>" in page
    assert "not shown: damaged" in result.output


def test_a_bundle_says_who_computed_it_and_nobody_else_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_experiment(tmp_path / "runs", name="here", models=("mgs-iim",), pictures=0)
    assert bench("export", "here", "--format", "bundle", "-o", "plain.zip").exit_code == 0
    named = bench("export", "here", "--format", "bundle", "--by", "Ada <a@b.c>", "-o", "named.zip")
    assert named.exit_code == 0, named.output
    for bundle, said in (("plain.zip", ""), ("named.zip", "Ada &lt;a@b.c&gt;")):
        assert bench("leaderboard", bundle, "--output", "board.html").exit_code == 0
        page = (tmp_path / "board.html").read_text(encoding="utf-8")
        assert ('<span class="unit">by' in page) == bool(said)
        assert not said or f'<span class="unit">by {said}</span></td>' in page
        assert "nobody has checked it" in page
    # Whoever imports it passes the name on, and cannot put another one there.
    assert bench("import", "named.zip", "--name", "theirs").exit_code == 0
    assert bench("export", "theirs", "--format", "bundle", "-o", "again.zip").exit_code == 0
    assert leaderboard_rows(load_experiment(Path("runs") / "theirs"))[0].computed_by == "Ada <a@b.c>"
    assert "was computed by 'Ada" in error_of("export", "theirs", "--format", "bundle", "--by", "Eve")
    assert "give --format bundle" in error_of("export", "here", "--by", "Ada")
    assert "printable" in error_of("export", "here", "--format", "bundle", "--by", "A\nB")
    assert "printable" in error_of("export", "here", "--format", "bundle", "--by", " ")


def test_rows_have_means_with_intervals_and_what_was_reported(tmp_path: Path) -> None:
    folder = make_experiment(
        tmp_path, models=("mgs-iim", "biharmonic"), seeds=(0, 1, 2), procedural=False, pictures=0
    )
    ours, fill = leaderboard_rows(load_experiment(folder))
    mean, low, high = ours.values["psnr_db"]
    assert low < mean < high
    assert (ours.seeds, ours.reported["psnr_db"], fill.reported) == (3, 27.9212, {})
    assert ours.reproduced == "not tried"
    for said in ({"reproduced": "perhaps"}, {"reproduced": True}, {"reproduced": True, "numbers": []}):
        (folder / "reproduction.json").write_text(json.dumps(said))
        assert leaderboard_rows(load_experiment(folder))[0].reproduced == "not tried"


def _outcome(folder: Path) -> dict[str, Any]:
    """What ``bench reproduce --json`` prints of an experiment that it has computed again."""
    outcome: dict[str, Any] = json.loads(
        reproduction_as_json(Reproduction(folder / "again", _comparisons(folder)))
    )
    return outcome


def _comparisons(folder: Path) -> list[MetricComparison]:
    return [
        MetricComparison(cell_title(cell), name, number["mean"], number["mean"], "equal")
        for cell in load_experiment(folder).done()
        for name, number in cell["evaluation"]["numbers"].items()
        if number["mean"] is not None
    ]


def _with_numbers(folder: Path) -> Path:
    manifest = json.loads((folder / "manifest.json").read_text())
    for cell in manifest["cells"]:
        cell["evaluation"]["numbers"] = cell_numbers(read_rows(folder / cell["folder"] / "results.parquet"))
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def _to_reproduced(outcome: dict[str, Any]) -> None:
    outcome["reproduced"] = not outcome["reproduced"]


@pytest.mark.parametrize(
    "edit",
    [
        _to_reproduced,
        lambda outcome: outcome["numbers"].pop(),
        lambda outcome: outcome["numbers"][0].update(found=1.0),
        lambda outcome: outcome["numbers"][0].update(verdict="differs"),
        lambda outcome: outcome.update(sha256="ab"),
    ],
)
def test_an_edited_outcome_of_a_reproduction_says_nothing(
    tmp_path: Path, edit: Callable[[dict[str, Any]], object]
) -> None:
    folder = _with_numbers(make_experiment(tmp_path, models=("mgs-iim",), pictures=0))
    outcome = _outcome(folder)
    (folder / "reproduction.json").write_text(json.dumps(outcome))
    assert leaderboard_rows(load_experiment(folder))[0].reproduced == "yes"
    edit(outcome)
    (folder / "reproduction.json").write_text(json.dumps(outcome))
    assert leaderboard_rows(load_experiment(folder))[0].reproduced == "not tried"


@pytest.mark.parametrize("with_numbers", [True, False])
def test_the_outcome_of_another_experiment_says_nothing(tmp_path: Path, with_numbers: bool) -> None:
    """``with_numbers``: manifests of earlier versions keep their means beside them."""
    one = make_experiment(tmp_path, name="one", models=("mgs-iim",), pictures=0)
    other = _with_numbers(
        make_experiment(tmp_path, name="other", models=("mgs-iim",), means={"mgs-iim": 20.0}, pictures=0)
    )
    outcome = _outcome(other)
    if with_numbers:
        _with_numbers(one)
    for folder, reproduced in ((one, "not tried"), (other, "yes")):
        (folder / "reproduction.json").write_text(json.dumps(outcome))
        assert leaderboard_rows(load_experiment(folder))[0].reproduced == reproduced


@pytest.mark.parametrize(("of_rows", "said"), [(False, "yes"), (True, "not tried")])
def test_an_outcome_without_its_checksum_is_an_older_one_only_beside_older_records(
    tmp_path: Path, of_rows: bool, said: str
) -> None:
    folder = _with_numbers(make_experiment(tmp_path, models=("mgs-iim",), pictures=0))
    if of_rows:
        manifest = json.loads((folder / "manifest.json").read_text())
        for cell in manifest["cells"]:
            cell["evaluation"]["rows_sha256"] = rows_digest(
                read_rows(folder / cell["folder"] / "results.parquet")
            )
        (folder / "manifest.json").write_text(json.dumps({**manifest, SEAL: manifest_checksum(manifest)}))
    outcome = _outcome(folder)
    del outcome[SEAL]
    (folder / "reproduction.json").write_text(json.dumps(outcome))
    assert leaderboard_rows(load_experiment(folder))[0].reproduced == said


@pytest.mark.parametrize(
    ("keep", "verdict", "said"),
    [
        (lambda number: True, "equal", ["yes", "yes"]),
        (lambda number: "Mean" in number.cell, "equal", ["not tried", "yes"]),
        (lambda number: "seed 1" in number.cell, "equal", ["1 of 3 trainings", "not tried"]),
        (
            lambda number: "seed 1" in number.cell,
            "within",
            ["1 of 3 trainings, within a tolerance", "not tried"],
        ),
        (lambda number: "Mean" not in number.cell, "within", ["yes, within a tolerance", "not tried"]),
        (lambda number: "seed 2" in number.cell, "differs", ["no: numbers differ", "not tried"]),
        (lambda number: True, "not measured", ["not tried", "not tried"]),
    ],
)
def test_a_row_is_reproduced_as_far_as_its_own_cells_were(
    tmp_path: Path, keep: Callable[[MetricComparison], bool], verdict: str, said: list[str]
) -> None:
    folder = _with_numbers(make_experiment(tmp_path, models=("mgs-iim", "mean"), seeds=(0, 1, 2), pictures=0))
    numbers = [replace(number, verdict=verdict) for number in _comparisons(folder) if keep(number)]
    outcome = reproduction_as_json(Reproduction(folder / "again", numbers))
    (folder / "reproduction.json").write_text(outcome)
    assert [row.reproduced for row in leaderboard_rows(load_experiment(folder))] == said


def test_one_label_with_two_training_masks_is_reproduced_each_for_itself(tmp_path: Path) -> None:
    """Both cells have one name; their numbers tell them apart."""
    folder = _with_numbers(make_experiment(tmp_path, models=("mgs-iim", "glcic"), pictures=0))
    manifest = json.loads((folder / "manifest.json").read_text())
    for cell, train_mask in zip(manifest["cells"], ("paper", "center"), strict=True):
        cell.update(model="mgs-iim", label="MGS-IIM", train_mask=train_mask)
        results = folder / cell["folder"] / "results.parquet"
        write_rows(
            read_rows(results).assign(**{k: cell[k] for k in ("model", "label", "train_mask")}), results
        )
    (folder / "manifest.json").write_text(json.dumps(manifest))
    own = [
        n
        for n in _comparisons(folder)
        if n.recorded == manifest["cells"][1]["evaluation"]["numbers"][n.metric]["mean"]
    ]
    (folder / "reproduction.json").write_text(reproduction_as_json(Reproduction(folder / "again", own)))
    assert [row.reproduced for row in leaderboard_rows(load_experiment(folder))] == ["not tried", "yes"]


def test_procedural_faces_have_no_reported_numbers_and_nothing_is_no_board(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path, models=("mgs-iim",), pictures=0)
    (row,) = leaderboard_rows(load_experiment(folder))
    assert row.reported == {}
    assert "no experiment and no bundle" in error_of("leaderboard", str(tmp_path / "nowhere"))
