"""Means by attribute: on rows with known groups, on the page, in exports and in bundles."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.errors import UsageError
from bench.ledger.importing import import_experiment
from bench.ledger.kept_files import pack_bundle, read_kept_files
from bench.ledger.merging import merge_experiments
from reports.export import export_tables
from reports.render import render_report
from reports.results.attributes import (
    attribute_table,
    attributes_digest,
    checked_attributes,
    read_attributes,
    write_attributes,
)
from reports.results.experiment import ExperimentError, load_experiment
from reports.results.manifest import SEAL, manifest_checksum
from reports.results.recorded_files import ATTRIBUTES
from reports.statistics.attributes import summarize_by_attribute
from reports.statistics.intervals import seed_interval
from tests.reports.synthetic import make_experiment, make_rows

IMAGES = 120


def table_of(count: int = IMAGES) -> pd.DataFrame:
    """Every third image smiles; two images have a hat."""
    ids = [f"{i:06d}.png" for i in range(count)]
    smiling = {name: i % 3 == 0 for i, name in enumerate(ids)}
    hat = {name: i in (3, 8) for i, name in enumerate(ids)}
    return attribute_table(ids, {"Smiling": smiling, "Wearing_Hat": hat})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = make_experiment(tmp_path / "runs", images=IMAGES, models=("glcic", "mean"), seeds=(0, 1, 2))
    write_attributes(table_of(), made)
    return made


def test_groups_have_the_means_of_their_images() -> None:
    rows = pd.concat([make_rows("glcic", images=IMAGES, seed=s) for s in (0, 1)], ignore_index=True)
    attributes = table_of().set_index("image_id")
    found = summarize_by_attribute(rows, attributes, ["psnr_db"], ["Smiling", "Wearing_Hat"])
    smiles = rows["image_id"].map(attributes["Smiling"])
    for has in (True, False):
        line = found[(found["attribute"] == "Smiling") & (found["has"] == has)].iloc[0]
        own = rows[smiles == has]
        assert line["mean"] == pytest.approx(own["psnr_db"].mean())
        assert line["n_images"] == own["image_id"].nunique()
        assert line["n_identities"] == own["identity"].nunique()
        values = own.pivot(index="seed", columns="image_id", values="psnr_db")
        people = own.drop_duplicates("image_id").set_index("image_id").loc[values.columns, "identity"]
        codes = pd.factorize(people)[0].astype(np.int64)
        estimate = seed_interval(values.to_numpy(), codes)
        assert (line["low"], line["high"]) == pytest.approx((estimate.low, estimate.high))
        assert not line["small"]
    hats = found[(found["attribute"] == "Wearing_Hat") & found["has"]].iloc[0]
    assert (hats["n_images"], hats["small"]) == (2, True)
    assert not found[(found["attribute"] == "Wearing_Hat") & ~found["has"]]["small"].any()


def test_images_in_no_list_are_in_no_group() -> None:
    rows = make_rows("glcic", images=IMAGES)
    found = summarize_by_attribute(rows, table_of(90).set_index("image_id"), ["psnr_db"], ["Smiling"])
    assert found["n_images"].sum() == 90


@pytest.mark.usefixtures("no_drawings")
def test_the_page_shows_groups_and_marks_small_ones(folder: Path, tmp_path: Path) -> None:
    page = render_report(folder, tmp_path / "page").read_text(encoding="utf-8")
    for words in ("By attribute", "not Smiling", "Wearing Hat", "(few)"):
        assert words in page
    (folder / ATTRIBUTES).unlink()
    assert "By attribute" not in render_report(folder, tmp_path / "without").read_text(encoding="utf-8")


def test_exports_by_attribute(folder: Path) -> None:
    experiment = load_experiment(folder)
    table = pd.read_csv(io.BytesIO(export_tables(experiment, by_attribute=["Smiling"])))
    assert set(table["attribute"]) == {"Smiling"}
    assert set(table["label"]) == {"GLCIC", "Mean pixel"}
    assert len(export_tables(experiment, form="markdown", by_attribute=["all"]).splitlines()) == 2 + len(
        pd.read_csv(io.BytesIO(export_tables(experiment, by_attribute=["all"])))
    )
    with pytest.raises(ValueError, match="no attribute 'Smile'; there are Smiling, Wearing_Hat"):
        export_tables(experiment, by_attribute=["Smile"])
    (folder / ATTRIBUTES).unlink()
    with pytest.raises(ValueError, match="no attributes of its images are known"):
        export_tables(load_experiment(folder), by_attribute=["Smiling"])


def test_a_bundle_carries_them(folder: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "kept.zip"
    bundle.write_bytes(pack_bundle(load_experiment(folder)))
    back = import_experiment([bundle], runs=tmp_path / "elsewhere")
    pd.testing.assert_frame_equal(read_attributes(back), table_of().set_index("image_id"))
    assert read_kept_files([bundle]).attributes is not None


def test_what_is_no_table_of_attributes_is_refused(folder: Path) -> None:
    for bad in (pd.DataFrame({"a": [1]}), table_of().assign(Smiling=1), pd.concat([table_of()] * 2)):
        with pytest.raises(ValueError, match=r"image_id is missing or comes twice|is not boolean"):
            checked_attributes(bad)
    (folder / ATTRIBUTES).write_bytes(b"PAR1")
    with pytest.raises(ExperimentError, match="not readable as attributes"):
        _ = load_experiment(folder).attributes


def test_a_damaged_bundle_says_so(folder: Path, tmp_path: Path) -> None:
    table_of().assign(Smiling=1).to_parquet(folder / f"kept-{ATTRIBUTES}")
    files = [folder / "manifest.json", tmp_path / "rows.parquet", folder / f"kept-{ATTRIBUTES}"]
    files[1].write_bytes(export_tables(load_experiment(folder), "rows", "parquet"))
    with pytest.raises(UsageError, match="is damaged"):
        read_kept_files(files)


@pytest.fixture
def recorded(folder: Path) -> Path:
    """The experiment with the digest of its attributes in the manifest, as a run records it."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["data"]["attributes_sha256"] = attributes_digest(table_of())
    path.write_text(json.dumps({**manifest, SEAL: manifest_checksum(manifest)}))
    return folder


EDITS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "one image": lambda t: t.assign(Smiling=t["Smiling"].where(t.index != 5, ~t["Smiling"])),
    "all": lambda t: t.assign(Smiling=~t["Smiling"]),
    "names": lambda t: t.rename(columns={"Smiling": "Young"}),
    "columns exchanged": lambda t: t.rename(columns={"Smiling": "Wearing_Hat", "Wearing_Hat": "Smiling"}),
    "fewer images": lambda t: t[3:].reset_index(drop=True),
    "fewer columns": lambda t: t.drop(columns="Wearing_Hat"),
    "ids": lambda t: t.assign(image_id=t["image_id"].to_numpy()[::-1]),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=list(EDITS))
def test_edited_attributes_are_refused_by_page_and_bundle(
    recorded: Path, tmp_path: Path, edit: Callable[[pd.DataFrame], pd.DataFrame]
) -> None:
    assert len(load_experiment(recorded).attributes) == IMAGES
    bundle = tmp_path / "kept.zip"
    bundle.write_bytes(pack_bundle(load_experiment(recorded)))
    assert len(load_experiment(import_experiment([bundle], runs=tmp_path / "whole")).attributes) == IMAGES
    write_attributes(edit(table_of()), recorded)
    with pytest.raises(ExperimentError, match="not what was written"):
        render_report(recorded, tmp_path / "page")
    with pytest.raises(ExperimentError, match="not what was written"):
        pack_bundle(load_experiment(recorded))
    with zipfile.ZipFile(bundle) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts[ATTRIBUTES] = (recorded / ATTRIBUTES).read_bytes()
    with zipfile.ZipFile(bundle, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    with pytest.raises(UsageError, match="not what was written"):
        import_experiment([bundle], runs=tmp_path / "edited")


@pytest.mark.parametrize("holder", [0, 1])
def test_merged_experiments_know_their_attributes(tmp_path: Path, holder: int) -> None:
    """``holder``: which of the two has them; the digest is that of the file which is copied."""
    folders = [
        make_experiment(tmp_path / "runs", name=name, images=IMAGES, models=(model,), pictures=0)
        for name, model in (("a", "glcic"), ("b", "mgs-iim"))
    ]
    write_attributes(table_of(), folders[holder])
    path = folders[holder] / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["data"]["attributes_sha256"] = attributes_digest(table_of())
    path.write_text(json.dumps({**manifest, SEAL: manifest_checksum(manifest)}))
    merged = merge_experiments(folders, "both", runs=tmp_path / "merged")
    assert len(load_experiment(merged).attributes) == IMAGES
    write_attributes(EDITS["all"](table_of()), merged)
    with pytest.raises(ExperimentError, match="not what was written"):
        _ = load_experiment(merged).attributes
