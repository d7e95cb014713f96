"""A manifest that was copied over another experiment's is noticed, and the same command rebuilds the right one."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from bench.cli import main
from bench.errors import BenchError
from bench.runner.run import run_experiment
from bench.runner.run_folder import RunFolder
from bench.runner.status import read_status
from reports.results.experiment import ExperimentError, load_experiment
from tests.bench.runner.test_recovery import Warned
from tests.bench.runner.test_run import request, rows


def run(pictures: Path, name: str, *models: str) -> tuple[RunFolder, list[str]]:
    """Run with options, as the command line does, which keeps them beside the manifest."""
    asked = replace(request(pictures, models, name=name), options={"models": list(models)})
    callbacks = Warned()
    outcome = run_experiment(asked, callbacks)
    assert outcome.failed == 0
    return outcome.store, callbacks.warnings


@pytest.mark.parametrize("others", [("mean",), ("biharmonic",), ("mean", "biharmonic")])
def test_a_manifest_of_another_experiment_is_refused_and_rebuilt(
    workplace: Path, pictures_dir: Path, others: tuple[str, ...]
) -> None:
    store, _ = run(pictures_dir, "own", "mean", "mean-image")
    before = rows(store)
    other, _ = run(pictures_dir, "other", *others)
    shutil.copy(other.manifest_path, store.manifest_path)
    said = "it is that of experiment other, not of own, and lacks"
    with pytest.raises(ExperimentError, match=said):
        load_experiment(store.folder)
    with pytest.raises(BenchError, match=said):
        read_status(store.folder)
    _, warnings = run(pictures_dir, "own", "mean", "mean-image")
    assert any(said in text and "is rebuilt from the cells" in text for text in warnings), warnings
    assert rows(store).equals(before)
    assert load_experiment(store.folder).name == "own"
    assert [cell["model"] for cell in load_experiment(store.folder).cells] == ["mean", "mean-image"]


@pytest.mark.parametrize("edit", [False, True])
def test_a_folder_that_was_renamed_is_read_as_before(workplace: Path, pictures_dir: Path, edit: bool) -> None:
    """``edit``: the name in its options too, with which ``bench run --config`` goes on."""
    store, _ = run(pictures_dir, "before", "mean", "mean-image")
    kept = rows(store)
    moved = store.folder.rename(store.folder.with_name("after"))
    if edit:
        options = moved / "config.toml"
        options.write_text(options.read_text().replace('"before"', '"after"'))
    assert load_experiment(moved).rows["psnr_db"].tolist() == kept["psnr_db"].tolist()
    assert read_status(moved).counts == {"done": 2}
    again, warnings = run(pictures_dir, "after", "mean", "mean-image")
    assert warnings == []
    assert rows(again).equals(kept)


def test_finished_cells_of_which_an_earlier_manifest_says_nothing_are_named(
    workplace: Path, pictures_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after a part of a backup was put back; earlier results of a method that is listed are not meant."""
    store, _ = run(pictures_dir, "own", "mean")
    earlier = store.manifest_path.read_bytes()
    run(pictures_dir, "own", "mean", "mean-image")
    whole = load_experiment(store.folder)
    assert whole.unlisted_cells == []
    store.manifest_path.write_bytes(earlier)
    (place,) = load_experiment(store.folder).unlisted_cells
    assert place.startswith("cells/mean-image-center-")
    run(pictures_dir, "other", "mean")
    for command, code in (
        ("status own", 1), ("report own", 0), ("export own", 0), ("claims own", 0), ("leaderboard runs", 0),
        ("compare own other", 0), ("merge own other --name both", 0),
    ):  # fmt: skip
        with pytest.raises(SystemExit) as stop:
            main(command.split())
        printed = "".join(capsys.readouterr())
        assert (int(stop.value.code or 0), f"{place} holds a finished cell" in printed) == (code, True), (
            command
        )
    page = (Path("reports") / "own" / "index.html").read_text(encoding="utf-8")
    assert "Finished cells that are not listed" in page
    assert place in page
    # One that is damaged, of which nobody can tell, or that the manifest plans, as while a run writes it, is none.
    record = store.folder / place / "cell.json"
    kept = record.read_bytes()
    record.write_bytes(kept[:-20])
    assert load_experiment(store.folder).unlisted_cells == []
    record.write_bytes(kept)
    manifest = store.read_manifest()
    assert manifest is not None
    fields = ("model", "label", "mask", "train_mask", "seed")
    planned = [{field: cell[field] for field in fields} for cell in whole.cells]
    store.write_manifest({**manifest, "planned": planned})
    assert load_experiment(store.folder).unlisted_cells == []
    store.manifest_path.write_bytes(earlier)
    _, warnings = run(pictures_dir, "own", "mean", "mean-image")
    assert warnings == []
    again = load_experiment(store.folder)
    assert again.unlisted_cells == []
    assert again.rows.equals(whole.rows)
