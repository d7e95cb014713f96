"""Files of an experiment that are read back and shown, besides those of ``test_integrity.py``: edited ones are refused,
never shown as what was measured; those of earlier versions, without a digest, are read.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from bench.errors import UsageError
from bench.ledger.importing import import_experiment
from bench.ledger.kept_files import pack_bundle
from bench.ledger.merging import merge_experiments
from bench.runner.run import run_experiment
from bench.runner.run_folder import RunFolder
from reports.export import export_tables
from reports.render import render_report
from reports.results.attributes import write_attributes
from reports.results.experiment import Experiment, ExperimentError, StoredImages, load_experiment
from reports.results.manifest import SEAL, digests_all, manifest_checksum
from reports.results.recorded_files import ATTRIBUTES
from reports.results.schema import read_rows, write_rows
from tests.bench.cli.test_cli import error_of
from tests.bench.runner.test_recovery import Warned
from tests.bench.runner.test_run import request
from tests.places import working_in

MODELS = ("mean", "mean-image")
MASKS = ("center", "half")
Arrays = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def two_masks(tmp_path_factory: pytest.TempPathFactory, pictures_dir: Path) -> Path:
    """A workplace with an experiment of two baselines on two masks."""
    folder = tmp_path_factory.mktemp("two-masks")
    with working_in(folder):
        run_experiment(request(pictures_dir, MODELS, name="kept", masks=MASKS), Warned())
    return folder


@pytest.fixture
def store(two_masks: Path, workplace: Path) -> RunFolder:
    """A copy of it in the current folder."""
    shutil.copytree(two_masks, workplace, dirs_exist_ok=True)
    return RunFolder("kept")


def edit_arrays(path: Path, edit: Callable[[Arrays], Arrays]) -> None:
    with np.load(path) as archive:
        found = {name: archive[name] for name in archive.files}
    np.savez_compressed(path, **edit(found))  # type: ignore[arg-type]


def shown(store: RunFolder, mask: str = "center") -> StoredImages:
    found = load_experiment(store.folder).pictures(mask)
    assert found is not None
    return found


def reseal(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Edit a sealed file as an earlier version would have written it."""
    value = json.loads(path.read_text())
    edit(value)
    value[SEAL] = manifest_checksum(value)
    path.write_text(json.dumps(value))


def forget_digests(path: Path) -> None:
    """Take the digests out of a manifest or a cell's record that no version wrote before it sealed them all."""

    def forget(value: dict[str, Any]) -> None:
        cells = value.get("cells", [value])
        for part in (*cells, *value.get("masks", {}).values()):
            part.pop("pictures_sha256", None)
        for cell in cells:
            cell["evaluation"].pop("rows_sha256", None)
        value.get("data", {}).pop("attributes_sha256", None)

    reseal(path, forget)


def _one_value(arrays: Arrays) -> Arrays:
    image = arrays["image"].copy()
    image[0, 0, 0, 0] ^= 1
    return {**arrays, "image": image}


EDITS: dict[str, Callable[[Arrays], Arrays]] = {
    "one value": _one_value,
    "another truth": lambda a: {**a, "image": a["image"][::-1]},
    "the hole elsewhere": lambda a: {**a, "mask": 1 - a["mask"]},
    "no hole": lambda a: {**a, "mask": np.zeros_like(a["mask"])},
    "names in another order": lambda a: {**a, "ids": a["ids"][::-1]},
    "fewer images": lambda a: {name: array[:-1] for name, array in a.items()},
    "another kind": lambda a: {**a, "image": a["image"].astype(np.int16)},
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=list(EDITS))
def test_edited_images_of_a_mask_are_not_shown_and_are_stored_again(
    store: RunFolder, pictures_dir: Path, tmp_path: Path, edit: Callable[[Arrays], Arrays]
) -> None:
    before = shown(store)
    edit_arrays(store.folder / "pictures" / "center.npz", edit)
    with pytest.raises(ExperimentError, match=r"center\.npz: damaged \(not the images that were written\)"):
        shown(store)
    with pytest.raises(ExperimentError, match=r"center\.npz: damaged"):
        render_report(store.folder, tmp_path / "page")
    assert not (tmp_path / "page" / "index.html").exists()
    run_experiment(request(pictures_dir, MODELS, name="kept", masks=MASKS), Warned())
    after = shown(store)
    assert (after.image == before.image).all()
    assert (after.mask == before.mask).all()
    assert after.ids == before.ids


def test_images_of_another_mask_are_not_shown_under_its_name(store: RunFolder) -> None:
    one, other = (store.folder / "pictures" / f"{mask}.npz" for mask in MASKS)
    one.write_bytes(other.read_bytes())
    with pytest.raises(ExperimentError, match="not the images that were written"):
        shown(store)
    assert shown(store, "half").ids


def test_images_that_are_packed_otherwise_are_the_same_images(store: RunFolder) -> None:
    """Other versions of zlib give other bytes, and a run writes the file again before it writes the manifest."""
    before = shown(store)
    path = store.folder / "pictures" / "center.npz"
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    np.savez(path, **arrays)  # type: ignore[arg-type]
    assert (shown(store).image == before.image).all()


def test_images_of_an_earlier_version_without_a_digest_are_shown(store: RunFolder) -> None:
    before = shown(store)

    forget_digests(store.manifest_path)
    assert (shown(store).image == before.image).all()
    assert shown(store).composites.keys() == before.composites.keys()
    for cell in store.folder.glob("cells/*/cell.json"):
        forget_digests(cell)
    after = shown(store)
    assert after.composites.keys() == before.composites.keys()
    # Without a digest too, images that cannot belong together are none.
    edit_arrays(store.folder / "pictures" / "center.npz", lambda a: {**a, "image": a["image"][:, :8, :8]})
    with pytest.raises(ExperimentError, match="of another size"):
        shown(store)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"{")])
def test_a_manifest_made_again_from_the_cells_knows_the_images_of_every_mask(
    store: RunFolder, pictures_dir: Path, damage: Callable[[Path], object]
) -> None:
    """Also those of masks that the command which rebuilds it does not name."""
    damage(store.manifest_path)
    edit_arrays(store.folder / "pictures" / "half.npz", _one_value)
    run_experiment(request(pictures_dir, MODELS, name="kept", masks=("center",)), Warned())
    assert shown(store, "center").ids
    with pytest.raises(ExperimentError, match=r"half\.npz: damaged"):
        shown(store, "half")


def test_a_command_without_pictures_keeps_the_digest_of_those_that_are_there(
    store: RunFolder, pictures_dir: Path
) -> None:
    asked = request(pictures_dir, (*MODELS, "linear"), name="kept", masks=MASKS)
    run_experiment(dataclasses.replace(asked, pictures=False), Warned())
    assert shown(store).ids
    edit_arrays(store.folder / "pictures" / "center.npz", _one_value)
    with pytest.raises(ExperimentError, match="not the images that were written"):
        shown(store)


@pytest.mark.parametrize("record", ["as it was", "gone", "damaged", "edited"])
def test_edited_completions_are_not_shown_whatever_became_of_the_record_beside_them(
    store: RunFolder, record: str
) -> None:
    path = next(store.folder.glob("cells/mean-center*/pictures.npz"))
    edit_arrays(path, lambda a: {**a, "composite": 255 - a["composite"]})
    beside = path.with_name("cell.json")
    if record == "gone":
        beside.unlink()
    elif record == "damaged":
        beside.write_bytes(beside.read_bytes()[:100])
    elif record == "edited":
        reseal(beside, lambda value: value.pop("pictures_sha256"))
    with pytest.raises(ExperimentError, match="not the images of its cell"):
        shown(store)


@pytest.mark.parametrize("bare", [0, 1, None])
def test_merged_experiments_know_whose_images_they_show(
    store: RunFolder, pictures_dir: Path, tmp_path: Path, bare: int | None
) -> None:
    """``bare``: which of the two was made without pictures."""
    asked = request(pictures_dir, ("linear",), name="more", masks=MASKS)
    more = run_experiment(asked, Warned()).store
    folders = [store.folder, more.folder]
    if bare is not None:
        models = MODELS if bare == 0 else ("linear",)
        again = dataclasses.replace(request(pictures_dir, models, name="bare", masks=MASKS), pictures=False)
        folders[bare] = run_experiment(again, Warned()).store.folder
    merged = merge_experiments(folders, "both", runs=tmp_path / "merged")
    experiment = load_experiment(merged)
    assert experiment.pictures("center") is not None
    edit_arrays(merged / "pictures" / "center.npz", _one_value)
    with pytest.raises(ExperimentError, match="not the images that were written"):
        load_experiment(merged).pictures("center")


def bare(store: RunFolder, pictures_dir: Path, name: str = "bare", model: str = "mean") -> RunFolder:
    """Make an experiment without images, and put those of ``store`` into it: all, and of another cell."""
    asked = dataclasses.replace(request(pictures_dir, (model,), name=name, masks=MASKS), pictures=False)
    made = run_experiment(asked, Warned()).store
    assert not list(made.folder.rglob("*.npz"))
    shutil.copytree(store.folder / "pictures", made.folder / "pictures")
    for mask in MASKS:
        source = next(store.folder.glob(f"cells/mean-image-{mask}*/pictures.npz"))
        (target,) = made.folder.glob(f"cells/{model}-{mask}*")
        shutil.copy2(source, target / source.name)
    return made


def composites(folder: Path) -> list[NDArray[np.uint8]]:
    images = load_experiment(folder).pictures("center")
    return [] if images is None else list(images.composites.values())


@pytest.mark.parametrize("kept", ["all", "of the cell", "of the mask"])
def test_images_that_were_put_into_an_experiment_without_any_are_not_shown(
    store: RunFolder, pictures_dir: Path, tmp_path: Path, kept: str
) -> None:
    """Nor by a merge, and the command that wants images makes its own."""
    made = bare(store, pictures_dir)
    if kept == "of the cell":
        shutil.rmtree(made.folder / "pictures")
    elif kept == "of the mask":
        for path in made.folder.glob("cells/*/pictures.npz"):
            path.unlink()
    assert composites(made.folder) == []
    assert "data:image" not in render_report(made.folder, tmp_path / "page").read_text(encoding="utf-8")
    for order in ([made.folder, store.folder], [store.folder, made.folder]):
        merged = merge_experiments(order, "both", runs=tmp_path / f"merged-{order[0].name}")
        assert len(composites(merged)) == (1 if order[0] == made.folder else 2)
    run_experiment(request(pictures_dir, ("mean",), name="bare", masks=MASKS), Warned())
    (own,) = composites(made.folder)
    mean, image = composites(store.folder)
    assert (own == mean).all()
    assert (own != image).any()


def test_a_damaged_manifest_does_not_let_in_images_that_were_put_there(
    store: RunFolder, pictures_dir: Path
) -> None:
    made = bare(store, pictures_dir)
    made.manifest_path.write_bytes(b"{")
    asked = request(pictures_dir, ("mean",), name="bare", masks=("center",))
    run_experiment(dataclasses.replace(asked, pictures=False), Warned())
    assert load_experiment(made.folder).pictures("center") is None
    assert load_experiment(made.folder).pictures("half") is None


@pytest.mark.parametrize("older", [False, True])
def test_a_metric_that_is_added_without_images_leaves_those_of_its_cell(
    store: RunFolder, pictures_dir: Path, older: bool
) -> None:
    """``older``: they were stored without a digest, and get one with the record of now."""
    before = composites(store.folder)
    if older:
        for path in (store.manifest_path, *store.folder.glob("cells/*/cell.json")):
            forget_digests(path)
    asked = request(pictures_dir, MODELS, name="kept", masks=MASKS, metrics=("hole_ssim",))
    run_experiment(dataclasses.replace(asked, pictures=False), Warned())
    for one, other in zip(composites(store.folder), before, strict=True):
        assert (one == other).all()
    path = next(store.folder.glob("cells/mean-center*/pictures.npz"))
    edit_arrays(path, lambda a: {**a, "composite": 255 - a["composite"]})
    with pytest.raises(ExperimentError, match="not the images of its cell"):
        shown(store)


def _attributes(experiment: Experiment) -> pd.DataFrame:
    ids = list(dict.fromkeys(experiment.rows["image_id"]))
    return pd.DataFrame({"image_id": ids, "Forged": [i % 2 == 0 for i in range(len(ids))]})


def test_attributes_that_were_put_into_an_experiment_without_any_are_not_shown_and_do_not_travel(
    store: RunFolder, tmp_path: Path, pictures_dir: Path
) -> None:
    experiment = load_experiment(store.folder)
    write_attributes(_attributes(experiment), store.folder)
    experiment = load_experiment(store.folder)
    assert experiment.attributes.empty
    assert "Forged" not in render_report(store.folder, tmp_path / "page").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="no attributes of its images are known"):
        export_tables(experiment, by_attribute=["Forged"])
    bundle = tmp_path / "kept.zip"
    bundle.write_bytes(pack_bundle(experiment))
    with zipfile.ZipFile(bundle) as archive:
        assert ATTRIBUTES not in archive.namelist()
    imported = import_experiment([bundle], runs=tmp_path / "imported")
    write_attributes(_attributes(experiment), imported)
    assert load_experiment(imported).attributes.empty
    more = run_experiment(request(pictures_dir, ("linear",), name="more", masks=MASKS), Warned()).store
    merged = merge_experiments([store.folder, more.folder], "both", runs=tmp_path / "merged")
    assert not (merged / ATTRIBUTES).exists()
    # Put into the bundle itself, they are refused.
    with zipfile.ZipFile(bundle, "a") as archive:
        archive.write(store.folder / ATTRIBUTES, ATTRIBUTES)
    with pytest.raises(UsageError, match="whose manifest records no attributes"):
        import_experiment([bundle], runs=tmp_path / "other")


def test_attributes_of_an_earlier_version_without_a_digest_are_read(
    store: RunFolder, pictures_dir: Path
) -> None:
    """Also where cells of this version were added meanwhile, or all are measured again."""
    write_attributes(_attributes(load_experiment(store.folder)), store.folder)
    reseal(store.manifest_path, lambda value: value["cells"][0]["evaluation"].pop("rows_sha256"))
    assert list(load_experiment(store.folder).attributes.columns) == ["Forged"]
    for path in (store.manifest_path, *store.folder.glob("cells/*/cell.json")):
        forget_digests(path)
    assert list(load_experiment(store.folder).attributes.columns) == ["Forged"]
    run_experiment(request(pictures_dir, MODELS, name="kept", masks=MASKS, metrics=("hole_ssim",)), Warned())
    assert digests_all(load_experiment(store.folder).cells)
    assert list(load_experiment(store.folder).attributes.columns) == ["Forged"]


@pytest.mark.parametrize("keep", [0, 50, -1])
def test_damaged_attributes_are_said_where_they_would_travel(
    store: RunFolder, monkeypatch: pytest.MonkeyPatch, keep: int
) -> None:
    write_attributes(_attributes(load_experiment(store.folder)), store.folder)
    reseal(store.manifest_path, lambda value: value["cells"][0]["evaluation"].pop("rows_sha256"))
    file = store.folder / ATTRIBUTES
    file.write_bytes(file.read_bytes()[:keep])
    monkeypatch.chdir(store.folder.parents[1])
    for words in (("export", "kept", "--format", "bundle", "-o", "b.zip"), ("merge", "kept", "--name", "m")):
        said = error_of(*words)
        assert f"{ATTRIBUTES}: not readable as attributes of images" in said
        assert "unexpected" not in said
    assert not Path("b.zip").exists()
    assert not Path("runs/m").exists()


ROW_EDITS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "people": lambda r: r.assign(identity=pd.array(range(len(r)), dtype="Int64")),
    "one person": lambda r: r.assign(identity=pd.array([7] * len(r), dtype="Int64")),
    "area of the hole": lambda r: r.assign(hole_ratio=r["hole_ratio"] / 2),
    "identical": lambda r: r.assign(identical=True),
    "preset": lambda r: r.assign(preset="paper"),
    "track": lambda r: r.assign(track="faithful"),
    "size": lambda r: r.assign(size=256),
}


@pytest.mark.parametrize("edit", ROW_EDITS.values(), ids=list(ROW_EDITS))
def test_edited_rows_are_refused_where_no_metric_was_touched(
    store: RunFolder, pictures_dir: Path, edit: Callable[[pd.DataFrame], pd.DataFrame]
) -> None:
    """Intervals rest on the people, tables by area on the holes."""
    path = next(store.folder.glob("cells/mean-center*/results.parquet"))
    before = read_rows(path)
    write_rows(edit(before), path)
    with pytest.raises(ExperimentError, match="not the results that the manifest records"):
        load_experiment(store.folder)
    callbacks = Warned()
    run_experiment(request(pictures_dir, MODELS, name="kept", masks=MASKS), callbacks)
    assert any("does not hold the rows of cell.json" in warning for warning in callbacks.warnings)
    pd.testing.assert_frame_equal(read_rows(path), before)
    assert load_experiment(store.folder).rows["model"].nunique() == 2


def test_rows_of_an_earlier_version_without_a_digest_are_read(store: RunFolder, pictures_dir: Path) -> None:
    before = load_experiment(store.folder).rows

    def forget(cell: dict[str, Any]) -> None:
        del cell["evaluation"]["rows_sha256"]

    reseal(store.manifest_path, lambda manifest: [forget(cell) for cell in manifest["cells"]])  # type: ignore[arg-type,return-value]
    for cell in store.folder.glob("cells/*/cell.json"):
        reseal(cell, forget)
    pd.testing.assert_frame_equal(load_experiment(store.folder).rows, before)
    callbacks = Warned()
    run_experiment(request(pictures_dir, MODELS, name="kept", masks=MASKS), callbacks)
    assert callbacks.warnings == []
