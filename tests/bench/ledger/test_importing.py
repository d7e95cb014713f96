"""``bench import`` and bundles: what travels comes back as it was, and nothing else comes in."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.errors import UsageError
from bench.ledger.importing import import_experiment
from bench.ledger.kept_files import pack_bundle, without_folders
from bench.runner.run_folder import file_signature
from bench.runner.status import read_status
from reports.claims.claim_verdicts import evaluate_claims
from reports.export import export_tables
from reports.render import render_report
from reports.results.experiment import Experiment, curves_digest, load_experiment
from reports.results.manifest import IMPORTED_LOG, SEAL, manifest_checksum
from reports.results.schema import read_rows, rows_digest, write_rows
from tests.bench.cli.test_cli import bench, error_of
from tests.reports.synthetic import make_experiment


@pytest.fixture
def experiment(tmp_path: Path) -> Experiment:
    folder = make_experiment(
        tmp_path / "there", models=("mgs-iim", "glcic", "mean"), seeds=(0, 1, 2), procedural=False, failed=()
    )
    return load_experiment(folder)


def loose_files(experiment: Experiment, folder: Path, form: str) -> list[Path]:
    """Manifest, rows and curves as 'bench export' writes them."""
    folder.mkdir()
    files = [folder / "manifest.json", folder / f"rows.{form}", folder / f"curves.{form}"]
    files[0].write_bytes((experiment.folder / "manifest.json").read_bytes())
    files[1].write_bytes(export_tables(experiment, "rows", form))
    files[2].write_bytes(export_tables(experiment, "curves", form))
    return files


def seal(path: Path, **changes: Any) -> None:
    manifest = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({**manifest, SEAL: manifest_checksum(manifest)}))


@pytest.mark.parametrize("form", ["bundle", "parquet", "csv"])
def test_what_was_kept_comes_back_as_it_was(experiment: Experiment, tmp_path: Path, form: str) -> None:
    if form == "bundle":
        files = [tmp_path / "kept.zip"]
        files[0].write_bytes(pack_bundle(experiment))
    else:
        files = loose_files(experiment, tmp_path / "kept", form)
    back = load_experiment(import_experiment(files, runs=tmp_path / "runs"))
    pd.testing.assert_frame_equal(back.rows, experiment.rows)
    pd.testing.assert_frame_equal(back.curves, experiment.curves)
    assert back.manifest == (
        without_folders(experiment.manifest) if form == "bundle" else experiment.manifest
    )
    assert not list(back.folder.glob("weights*")), (
        "the card is made of the manifest, and needs no place of its own"
    )
    assert [vars(v) for v in evaluate_claims(back)] == [vars(v) for v in evaluate_claims(experiment)]


def test_a_bundle_is_the_same_bytes_each_time(experiment: Experiment) -> None:
    assert pack_bundle(experiment) == pack_bundle(experiment)


def test_a_bundle_does_not_tell_where_its_maker_keeps_files(experiment: Experiment) -> None:
    private = {
        **experiment.manifest,
        "command": [
            "bench",
            "run",
            "--data",
            "/home/ada/celeba",
            "--mask",
            "files:/home/ada/masks",
            "--name",
            "a:b",
        ],
        "options": [{"data": "/home/ada/celeba", "models": ["exec:/home/ada/program.toml", "mgs-iim"]}],
        "data": {**experiment.manifest["data"], "source": "/home/ada/celeba"},
    }
    packed = pack_bundle(replace(experiment, manifest=private))
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        manifest = json.loads(archive.read("manifest.json"))
    assert "/home" not in json.dumps(manifest)
    assert manifest["command"][3:] == ["celeba", "--mask", "files:masks", "--name", "a:b"]
    assert manifest["options"] == [{"data": "celeba", "models": ["exec:program.toml", "mgs-iim"]}]
    assert manifest[SEAL] == manifest_checksum(manifest)


def test_the_commands_go_round(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    packed = bench("export", str(experiment.folder), "--format", "bundle", "--output", "kept.zip")
    assert packed.exit_code == 0, packed.output
    result = bench("import", "kept.zip", "--name", "again")
    assert result.exit_code == 0, result.output
    assert "imported: runs/again (7 cells, 168 rows)" in result.output
    assert "curves: 6 trainings" in result.output
    assert bench("claims", "again").exit_code == 0
    assert "exists; give another --name" in error_of("import", "kept.zip", "--name", "again")


def test_a_renamed_experiment_is_sealed_anew(experiment: Experiment, tmp_path: Path) -> None:
    files = loose_files(experiment, tmp_path / "kept", "parquet")
    seal(files[0])
    folder = import_experiment(files, name="other", runs=tmp_path / "runs")
    assert load_experiment(folder).name == "other"


def test_without_curves_everything_else_is_there(experiment: Experiment, tmp_path: Path) -> None:
    files = loose_files(experiment, tmp_path / "kept", "parquet")[:2]
    back = load_experiment(import_experiment(files, runs=tmp_path / "runs"))
    assert back.curves.empty
    pd.testing.assert_frame_equal(back.rows, experiment.rows)


def test_rows_that_are_not_the_recorded_numbers_are_refused(experiment: Experiment, tmp_path: Path) -> None:
    from reports.results.schema import cell_numbers

    files = loose_files(experiment, tmp_path / "kept", "parquet")
    manifest = json.loads(files[0].read_text())
    for cell in manifest["cells"]:
        key = ["model", "label", "mask", "train_mask", "seed"]
        rows = experiment.rows[(experiment.rows[key] == [cell[k] for k in key]).all(axis=1)]
        cell["evaluation"]["numbers"] = cell_numbers(rows)
    seal(files[0], cells=manifest["cells"])
    import_experiment(files, name="right", runs=tmp_path / "runs")
    pd.read_parquet(files[1]).assign(ssim=lambda t: t["ssim"] + 1e-12).to_parquet(files[1])
    with pytest.raises(UsageError, match="are not those that the manifest records"):
        import_experiment(files, name="wrong", runs=tmp_path / "runs")
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["right"]


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize("column", ["identity", "hole_ratio", "identical"])
def test_rows_that_were_edited_beside_the_metrics_are_refused(
    experiment: Experiment, tmp_path: Path, form: str, column: str
) -> None:
    files = loose_files(experiment, tmp_path / "kept", form)
    manifest = json.loads(files[0].read_text())
    for cell in manifest["cells"]:
        if cell["status"] == "done":
            rows = read_rows(experiment.folder / cell["folder"] / "results.parquet")
            cell["evaluation"]["rows_sha256"] = rows_digest(rows)
    seal(files[0], cells=manifest["cells"])
    import_experiment(files, name="right", runs=tmp_path / "runs")

    def edit(table: pd.DataFrame) -> pd.DataFrame:
        values = {"identity": 7, "hole_ratio": table["hole_ratio"] / 2, "identical": True}
        return table.assign(**{column: values[column]})

    if form == "csv":
        edit(pd.read_csv(files[1])).to_csv(files[1], index=False)
    else:
        edit(pd.read_parquet(files[1])).to_parquet(files[1])
    with pytest.raises(UsageError, match="are not those that the manifest records"):
        import_experiment(files, name="wrong", runs=tmp_path / "runs")
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["right"]


@pytest.fixture
def logged(experiment: Experiment) -> Experiment:
    """The experiment with the signatures of its logs, as trainings record them."""
    for cell in experiment.cells:
        if cell["training"]:
            log = experiment.folder / cell["training"]["folder"] / "train.jsonl"
            own = experiment.curves[experiment.curves["training"] == cell["training"]["key"]]
            cell["training"]["log"] = {**file_signature(log), "values_sha256": curves_digest(own)}
    seal(experiment.folder / "manifest.json", cells=experiment.cells)
    return load_experiment(experiment.folder)


@pytest.mark.parametrize("form", ["bundle", "parquet", "csv"])
@pytest.mark.parametrize("older", [False, True])
def test_the_log_of_an_import_is_whole_until_it_is_damaged(
    logged: Experiment, tmp_path: Path, form: str, older: bool
) -> None:
    """Its lines are made from a table, and are not those of the training. ``older``: without a digest of the values."""
    if older:
        for cell in logged.cells:
            (cell["training"] or {}).get("log", {}).pop("values_sha256", None)
        seal(logged.folder / "manifest.json", cells=logged.cells)
        logged = load_experiment(logged.folder)
    if form == "bundle":
        files = [tmp_path / "kept.zip"]
        files[0].write_bytes(pack_bundle(logged))
    else:
        files = loose_files(logged, tmp_path / "kept", form)
    folder = import_experiment(files, runs=tmp_path / "runs")
    assert load_experiment(folder).log_problems == {}
    pd.testing.assert_frame_equal(load_experiment(folder).curves, logged.curves)
    log = next(folder.glob("trainings/mgs-iim-*/train.jsonl"))
    assert read_status(log.parents[2]).trainings == [], "nothing of an import is on its way"
    (folder / "config.toml").touch()  # as a run leaves it that adds a cell
    assert read_status(folder).trainings == []
    whole, beside = log.read_bytes(), log.with_name(IMPORTED_LOG)
    log.write_bytes(whole.replace(b'"step": 4', b'"step": 5', 1))
    assert list(load_experiment(folder).log_problems.values()) == ["log changed since it was written"]
    log.write_bytes(whole)
    made = beside.read_text()
    for content in ("", "{}", "[]", made.replace('"lines": ', '"lines": 1')):
        beside.write_text(content)
        assert len(load_experiment(folder).log_problems) == 1
    log.unlink()
    assert next(iter(load_experiment(folder).log_problems.values())).startswith("log missing")


def _logs(folder: Path) -> dict[str, Path]:
    """Return the folders of the trainings of GLCIC by key."""
    cells = load_experiment(folder).done()
    found = {c["training"]["key"]: folder / c["training"]["folder"] for c in cells if c["model"] == "glcic"}
    assert len(found) == 3
    return found


def _own_curves(experiment: Experiment) -> Experiment:
    """Give each training curves of its own, which those of synthetic experiments do not have."""
    for number, log in enumerate(sorted(experiment.folder.glob("trainings/*/train.jsonl"))):
        log.write_text(log.read_text().replace('score": 0.5}', f'score": 0.5{number + 1}}}'))
    fresh = load_experiment(experiment.folder)
    for cell in fresh.cells:
        if cell["training"]:
            own = fresh.curves[fresh.curves["training"] == cell["training"]["key"]]
            log = experiment.folder / cell["training"]["folder"] / "train.jsonl"
            cell["training"]["log"] = {**file_signature(log), "values_sha256": curves_digest(own)}
    seal(experiment.folder / "manifest.json", cells=fresh.cells)
    return load_experiment(experiment.folder)


def _rewrite_mark(folder: Path) -> None:
    """Write the record of an imported log as earlier versions did, without its training."""
    path = folder / IMPORTED_LOG
    mark = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("training", SEAL)}
    path.write_text(json.dumps({**mark, SEAL: manifest_checksum(mark)}))


@pytest.mark.parametrize("recorded", ["values", "lines", "nothing"])
@pytest.mark.parametrize("mark", ["of this version", "earlier"])
def test_curves_of_another_training_are_not_an_imports_own(
    experiment: Experiment, tmp_path: Path, recorded: str, mark: str
) -> None:
    """``recorded``: what the manifest says of the training's log."""
    whole = _own_curves(experiment)
    for cell in whole.cells:
        log = (cell["training"] or {}).get("log", {})
        if recorded != "values":
            log.pop("values_sha256", None)
        if recorded == "nothing":
            (cell["training"] or {}).pop("log", None)
    seal(whole.folder / "manifest.json", cells=whole.cells)
    bundle = tmp_path / "kept.zip"
    bundle.write_bytes(pack_bundle(load_experiment(whole.folder)))
    folder = import_experiment([bundle], runs=tmp_path / "runs")
    logs = _logs(folder)
    if mark == "earlier":
        for place in logs.values():
            _rewrite_mark(place)
    assert load_experiment(folder).log_problems == {}
    pd.testing.assert_frame_equal(load_experiment(folder).curves, whole.curves)
    (a, one), (b, other), _ = logs.items()
    for name in ("train.jsonl", IMPORTED_LOG):
        kept = (one / name).read_bytes()
        (one / name).write_bytes((other / name).read_bytes())
        (other / name).write_bytes(kept)
    found = load_experiment(folder)
    if mark == "earlier" and recorded != "values":
        assert found.log_problems == {}  # nothing there tells whose they are
        return
    assert found.log_problems == dict.fromkeys((a, b), "log of another training")
    page = render_report(folder, tmp_path / "page").read_text(encoding="utf-8")
    assert "log of another training. Nothing of it is shown.</p>" in page
    assert "show what is there" not in page
    assert not {a, b} & set(found.curves["training"])
    # Nor do they travel on.
    bundle.write_bytes(pack_bundle(found))
    on = load_experiment(import_experiment([bundle], name="on", runs=tmp_path / "runs"))
    assert on.log_problems.keys() == ({a, b} if recorded != "nothing" else set())
    assert not {a, b} & set(on.curves["training"])


@pytest.mark.parametrize("recorded", ["values", "lines"])
def test_an_imports_record_vouches_for_no_log_of_a_training_that_ended_here(
    experiment: Experiment, tmp_path: Path, recorded: str
) -> None:
    whole = _own_curves(experiment)
    bundle = tmp_path / "kept.zip"
    bundle.write_bytes(pack_bundle(whole))
    imported = _logs(import_experiment([bundle], runs=tmp_path / "runs"))
    if recorded == "lines":
        for cell in whole.cells:
            (cell["training"] or {}).get("log", {}).pop("values_sha256", None)
        seal(whole.folder / "manifest.json", cells=whole.cells)
    (a, one), (b, _), _ = _logs(whole.folder).items()
    (one / "training.json").write_text("{}")  # as a training leaves it
    for name in ("train.jsonl", IMPORTED_LOG):
        (one / name).write_bytes((imported[b] / name).read_bytes())
    assert load_experiment(whole.folder).log_problems.keys() == {a}


@pytest.mark.parametrize(
    "name", ["manifest.json", "rows.parquet", "curves.parquet", "weights.json", "notes.txt"]
)
@pytest.mark.parametrize("first", [False, True])
def test_a_bundle_that_holds_a_name_twice_is_refused(
    experiment: Experiment, tmp_path: Path, name: str, first: bool
) -> None:
    """Readers of zip files take one of the two, and not all of them the same one."""
    with zipfile.ZipFile(io.BytesIO(pack_bundle(experiment))) as archive:
        parts = {part: archive.read(part) for part in archive.namelist()}
    parts.setdefault(name, b"")
    twice = [(name, b"{}"), *parts.items()] if first else [*parts.items(), (name, b"{}")]
    bundle = tmp_path / "twice.zip"
    with warnings.catch_warnings(), zipfile.ZipFile(bundle, "w") as archive:
        warnings.simplefilter("ignore", UserWarning)
        for part, content in twice:
            archive.writestr(part, content)
    with pytest.raises(UsageError, match=f"holds '{name}' twice"):
        import_experiment([bundle], runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("form", ["parquet", "csv"])
@pytest.mark.parametrize("column", ["value", "step", "seconds", "phase"])
def test_edited_curves_are_refused(logged: Experiment, tmp_path: Path, form: str, column: str) -> None:
    files = loose_files(logged, tmp_path / "kept", form)
    read = pd.read_parquet if form == "parquet" else lambda path: pd.read_csv(path, keep_default_na=False)
    table = read(files[2])
    table.loc[3, column] = "another" if column == "phase" else table.loc[3, column] + 1
    if form == "parquet":
        table.to_parquet(files[2])
    else:
        table.to_csv(files[2], index=False)
    with pytest.raises(UsageError, match=r"the curves of .* are not those that the manifest records"):
        import_experiment(files, runs=tmp_path / "runs")


def test_a_damaged_log_does_not_become_a_whole_one_on_its_way(logged: Experiment, tmp_path: Path) -> None:
    log = next(logged.folder.glob("trainings/mgs-iim-*/train.jsonl"))
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-2]))
    damaged = load_experiment(logged.folder)
    (problem,) = damaged.log_problems
    bundle = tmp_path / "kept.zip"
    bundle.write_bytes(pack_bundle(damaged))
    back = load_experiment(import_experiment([bundle], runs=tmp_path / "runs"))
    assert back.log_problems.keys() == {problem}
    # No other table that travels holds its numbers either.
    for form in ("csv", "json"):
        assert problem not in export_tables(damaged, "curves", form).decode()
    assert back.curves["training"].nunique() == damaged.curves["training"].nunique() - 1


def test_missing_rows_second_manifests_and_other_files_are_named(
    experiment: Experiment, tmp_path: Path
) -> None:
    manifest, rows, curves = loose_files(experiment, tmp_path / "kept", "parquet")
    some = tmp_path / "some.parquet"
    experiment.rows[experiment.rows["model"] != "glcic"].to_parquet(some)
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(rows.read_bytes()[:100])
    for files, text in (
        ([manifest, some], "no rows of glcic-center-seed0"),
        ([manifest, manifest, rows], "2 manifests"),
        ([rows, curves], "0 manifests"),
        ([manifest, curves], "no table of rows"),
        ([manifest, rows, other], "neither rows nor curves"),
        ([manifest, broken], "not readable as a table"),
        ([tmp_path / "nowhere.zip"], "no such file"),
    ):
        with pytest.raises(UsageError, match=text):
            import_experiment(files, runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_an_experiment_without_a_finished_cell_is_not_kept(
    experiment: Experiment, tmp_path: Path, form: str
) -> None:
    unfinished = replace(experiment, rows=experiment.rows[:0])
    with pytest.raises(UsageError, match="no cell is done"):
        pack_bundle(unfinished)
    files = loose_files(unfinished, tmp_path / "kept", form)
    with pytest.raises(UsageError, match=r"rows\.\w+: no rows, so no cell"):
        import_experiment(files, runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_damaged_part_is_named_with_its_bundle(experiment: Experiment, tmp_path: Path) -> None:
    whole, bundle = io.BytesIO(pack_bundle(experiment)), tmp_path / "kept.zip"
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(bundle, "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name)[:50] if name == "rows.parquet" else source.read(name))
    with pytest.raises(UsageError) as caught:
        import_experiment([bundle], runs=tmp_path / "runs")
    assert str(caught.value).startswith(f"{bundle}: rows.parquet: not readable as a table")


@pytest.mark.parametrize(
    "folder",
    ["../outside", "/elsewhere/outside", "cells/../../outside", "manifest.json", "cells", "trainings/x"],
)
def test_a_manifest_that_names_other_folders_writes_nothing(
    experiment: Experiment, tmp_path: Path, folder: str
) -> None:
    files = loose_files(experiment, tmp_path / "kept", "parquet")
    manifest = json.loads(files[0].read_text())
    manifest["cells"][0]["folder"] = folder
    seal(files[0], cells=manifest["cells"])
    with pytest.raises(UsageError):
        import_experiment(files, runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_damaged_manifest_and_a_strange_archive_are_refused(experiment: Experiment, tmp_path: Path) -> None:
    files = loose_files(experiment, tmp_path / "kept", "parquet")
    seal(files[0])
    text = files[0].read_text()
    files[0].write_text(text.replace('"seed": 1', '"seed": 7', 1))
    with pytest.raises(UsageError, match="its content is not what was written"):
        import_experiment(files, runs=tmp_path / "runs")
    strange = tmp_path / "strange.zip"
    with zipfile.ZipFile(strange, "w") as archive:
        archive.writestr("../manifest.json", "{}")
    with pytest.raises(UsageError, match="not a bundle"):
        import_experiment([strange], runs=tmp_path / "runs")
    cut = tmp_path / "cut.zip"
    cut.write_bytes(pack_bundle(experiment)[:-200])
    with pytest.raises(UsageError):
        import_experiment([cut], runs=tmp_path / "runs")


def test_texts_like_formulas_are_guarded_in_csv_and_come_back(tmp_path: Path) -> None:
    folder = make_experiment(tmp_path / "there", models=("mgs-iim",), pictures=0, procedural=False)
    (path,) = folder.glob("cells/*/results.parquet")
    rows = read_rows(path)
    starts = ("=", "+", "-", "@", "  =", "\uff1d", "'=", "''+", "\t", "-1+2", "+-1", "-1")
    ids = [f"{starts[i % len(starts)]}cmd|{i:03d}.png" for i in range(len(rows))]
    write_rows(rows.assign(image_id=ids), path)
    experiment = load_experiment(folder)
    for table in ("rows", "curves", "differences", "claims", "summary"):
        for line in export_tables(experiment, table, "csv").decode().splitlines()[1:]:
            assert not [
                c for c in line.split(",") if c.strip() and (c.lstrip()[0] in "=@\uff1d" or c[0] == "\t")
            ]
    assert b",'=cmd|000.png," in export_tables(experiment, "rows", "csv")
    back = load_experiment(
        import_experiment(loose_files(experiment, tmp_path / "kept", "csv"), runs=tmp_path / "runs")
    )
    assert back.rows["image_id"].tolist() == experiment.rows["image_id"].tolist()
    assert np.array_equal(back.rows["psnr_db"], experiment.rows["psnr_db"])


@pytest.mark.parametrize("ends", ["\r", "\r\n", "\n"])
def test_names_with_line_ends_come_back_from_csv(experiment: Experiment, tmp_path: Path, ends: str) -> None:
    """All texts are quoted then; gaps and truth values are still read as what they are."""
    for path in experiment.folder.glob("cells/*/results.parquet"):
        rows = read_rows(path)
        rows["identity"] = rows["identity"].where(rows.index > 2)
        write_rows(rows.assign(image_id=[f"a{ends}{i}.png" for i in range(len(rows))]), path)
    before = load_experiment(experiment.folder)
    back = load_experiment(
        import_experiment(loose_files(before, tmp_path / "kept", "csv"), runs=tmp_path / "runs")
    )
    pd.testing.assert_frame_equal(back.rows, before.rows)


def test_names_that_are_not_utf8_hinder_no_bundle_and_no_table(
    experiment: Experiment, tmp_path: Path
) -> None:
    """Nor an experiment in a folder of such a name, read by its whole path."""
    place = tmp_path / "M\udcfcller"
    place.mkdir()
    bundle = place / "B\udcfcndel.zip"
    bundle.write_bytes(pack_bundle(experiment))
    back = load_experiment(import_experiment([bundle], runs=place / "runs"))
    pd.testing.assert_frame_equal(back.rows, experiment.rows)
    files = loose_files(experiment, place / "Tabellen \udce4", "parquet")
    again = load_experiment(import_experiment(files, runs=place / "again"))
    pd.testing.assert_frame_equal(again.rows, experiment.rows)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_damaged_bundle_is_refused(experiment: Experiment, tmp_path: Path, share: float) -> None:
    content = bytearray(pack_bundle(experiment))
    for place in range(int(share * len(content)), int(share * len(content)) + 20):
        content[place] ^= 0xFF
    (tmp_path / "kept.zip").write_bytes(content)
    with pytest.raises(UsageError):
        import_experiment([tmp_path / "kept.zip"], runs=tmp_path / "runs")
    assert not any((tmp_path / "runs").glob("*"))
