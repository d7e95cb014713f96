"""Manifests and results that are not what was written are refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports.results.experiment import ExperimentError, load_experiment
from reports.results.manifest import SEAL, ManifestError, manifest_checksum, read_manifest
from reports.results.schema import cell_numbers, read_rows, write_rows
from tests.reports.synthetic import make_experiment


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_experiment(tmp_path, models=("mgs-iim", "mean"), pictures=0)


def change(folder: Path, edit: Callable[[dict[str, Any]], object], *, sealed: bool = False) -> Path:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    edit(manifest)
    if sealed:
        manifest[SEAL] = manifest_checksum(manifest)
    path.write_text(json.dumps(manifest))
    return path


def test_a_sealed_manifest_is_read_back_and_one_changed_digit_is_seen(folder: Path) -> None:
    path = change(folder, lambda manifest: None, sealed=True)
    assert read_manifest(path)["cells"]
    path.write_text(path.read_text().replace('"images_seen": 1600', '"images_seen": 1601', 1))
    with pytest.raises(
        ManifestError, match=r"manifest\.json: damaged \(its content is not what was written\)"
    ):
        read_manifest(path)


def test_a_manifest_without_its_seal_beside_a_sealed_cell_is_not_an_older_one(folder: Path) -> None:
    """Deleting a line would make any edit pass, and the next command would seal it."""
    path = change(folder, lambda manifest: manifest.pop(SEAL, None))
    assert read_manifest(path)["cells"], "of earlier versions, which sealed nothing"
    cell = folder / json.loads(path.read_text())["cells"][0]["folder"] / "cell.json"
    cell.write_text("{}")
    assert read_manifest(path)["cells"]
    cell.write_text(json.dumps({"label": "MGS-IIM", SEAL: manifest_checksum({"label": "MGS-IIM"})}))
    with pytest.raises(ManifestError, match=r"damaged \(its checksum is gone\)"):
        read_manifest(path)
    change(folder, lambda manifest: None, sealed=True)
    assert read_manifest(path)["cells"]


@pytest.mark.parametrize(
    "edit",
    [
        lambda manifest: manifest["cells"][0]["evaluation"].update(rows_sha256="ab"),
        lambda manifest: manifest["cells"][-1].update(pictures_sha256="ab"),
        lambda manifest: manifest["masks"]["center"].update(pictures_sha256="ab"),
        lambda manifest: manifest["data"].update(attributes_sha256="ab"),
        lambda manifest: next(c["training"] for c in manifest["cells"] if c["training"]).update(
            log={"lines": 1, "sha256": "ab", "values_sha256": "ab"}
        ),
    ],
    ids=["rows", "images of a cell", "images of a mask", "attributes", "curves"],
)
def test_a_manifest_without_its_seal_is_no_older_one_where_only_sealed_ones_have_its_fields(
    folder: Path, edit: Callable[[dict[str, Any]], object]
) -> None:
    """An import has no sealed cell beside its manifest, and is shown to others all the same."""
    change(folder, lambda manifest: manifest.pop(SEAL, None))
    with pytest.raises(ManifestError, match=r"damaged \(its checksum is gone\)"):
        read_manifest(change(folder, edit))
    assert read_manifest(change(folder, lambda manifest: None, sealed=True))["cells"]


@pytest.mark.parametrize("text", ["\ud800", "a\udce9b", "\udfff and more"])
@pytest.mark.parametrize(
    "edit",
    [
        lambda manifest, text: manifest["cells"][0].update(label=text),
        lambda manifest, text: manifest["cells"][0].update(reason=text),
        lambda manifest, text: manifest["data"].update(title=text),
        lambda manifest, text: manifest["masks"].update({text: {"digest": "ab"}}),
        lambda manifest, text: manifest.update(software={"torch": text}),
        lambda manifest, text: manifest.update(not_declared=[[text]]),
    ],
)
def test_half_a_character_is_shown_as_its_escape_and_a_whole_one_as_it_is(
    folder: Path, edit: Callable[[dict[str, Any], str], object], text: str
) -> None:
    """JSON can write what no page can: one such text ended every page that named the experiment."""
    path = folder / "manifest.json"
    before = path.read_text()
    read = read_manifest(change(folder, lambda manifest: edit(manifest, text), sealed=True))
    written = json.dumps(read, ensure_ascii=False).encode()
    assert json.dumps(text.encode("utf-8", "backslashreplace").decode())[1:-1].encode() in written
    assert read[SEAL] == manifest_checksum(read)  # an import keeps it as it was read
    path.write_text(before)
    whole = read_manifest(change(folder, lambda manifest: edit(manifest, "\U0001f600 é"), sealed=True))
    assert "\U0001f600 é" in json.dumps(whole, ensure_ascii=False)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"value_range": [0.0]}, "value_range is no pair"),
        ({"value_range": [0.0, 1.0, 2.0]}, "value_range is no pair"),
        ({"value_range": ["0", None]}, "value_range is no pair"),
        ({"value_range": [{}, []]}, "value_range is no pair"),
        ({"digits": -1}, "digits is out of range"),
        ({"digits": 10**9}, "digits is out of range"),
    ],
)
def test_a_metric_that_no_page_can_print_is_damage(folder: Path, value: dict[str, Any], says: str) -> None:
    with pytest.raises(ManifestError, match=f"metrics.ssim.{says}"):
        read_manifest(change(folder, lambda manifest: manifest["metrics"]["ssim"].update(value), sealed=True))


@pytest.mark.parametrize(
    "value",
    [
        {"value_range": [0, None]},
        {"value_range": None},
        {"value_range": [-1.0, 1]},
        {"digits": 0},
        {"digits": 17},
    ],
)
def test_a_metric_with_any_limits_and_digits_is_read(folder: Path, value: dict[str, Any]) -> None:
    edited = change(folder, lambda manifest: manifest["metrics"]["ssim"].update(value), sealed=True)
    assert read_manifest(edited)["metrics"]["ssim"].items() >= value.items()


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (
            lambda m: m["cells"][0].update(status=3),
            r"cells\[0\]\.status is none of done, failed, not-applicable",
        ),
        (lambda m: m["cells"][1].update(seed=True), r"cells\[1\]\.seed is of another kind"),
        (lambda m: m["cells"][0].pop("label"), r"cells\[0\]\.label is missing"),
        (lambda m: m["cells"].append("x"), r"cells\[2\] is no table"),
        (
            lambda m: m["cells"][0].update(folder="../../etc"),
            r"cells\[0\]\.folder leaves the experiment's folder",
        ),
        (lambda m: m["cells"][0].update(folder="/etc"), r"cells\[0\]\.folder leaves"),
        (lambda m: m["cells"][0]["training"].update(folder="a/../../b"), r"training\.folder leaves"),
        (lambda m: m["cells"][0].update(evaluation=None), r"cells\[0\]\.evaluation is no table"),
        (lambda m: m["settings"].update(size="64"), r"settings\.size is of another kind"),
        (lambda m: m["data"].pop("fingerprint"), r"data\.fingerprint is missing"),
        (lambda m: m["masks"].update(center=3), r"masks\.center is no table"),
        (lambda m: m["metrics"]["ssim"].pop("unit"), r"metrics\.ssim\.unit is missing"),
        (lambda m: m.update(planned=[{}]), r"planned\[0\]\.model is missing"),
        (lambda m: m["data"].update(train="many"), r"data\.train is of another kind"),
        (lambda m: m["settings"].update(seeds="0,1"), r"settings\.seeds is of another kind"),
        (lambda m: m["settings"].update(seeds=[0, None]), r"settings\.seeds\[1\] is of another kind"),
        (lambda m: m["settings"].update(masks={"center": 1}), r"settings\.masks is of another kind"),
        (lambda m: m["settings"].update(learning_rate=[4e-4]), r"settings\.learning_rate is of another kind"),
        (lambda m: m["settings"].update(size=10**30), r"settings\.size is out of range"),
        (lambda m: m["data"].update(skipped=["x"]), r"data\.skipped\[0\] is no table"),
        (lambda m: m["cells"][0]["training"].update(seconds="long"), r"training\.seconds is of another kind"),
        (lambda m: m["cells"][0]["training"].update(seconds=math.nan), r"training\.seconds is out of range"),
        (lambda m: m["cells"][0]["training"].update(phases=[{}]), r"phases\[0\]\.name is missing"),
        (lambda m: m["cells"][0]["evaluation"].update(sets={"fid": {}}), r"sets\.fid\.value is missing"),
        (
            lambda m: m["cells"][0].update(ambiguities=[{"topic": 3}]),
            r"ambiguities\[0\]\.topic is of another",
        ),
        (lambda m: m.update(commands=[["bench", 3]]), r"commands\[0\]\[1\] is of another kind"),
    ],
)
def test_every_field_that_is_used_is_checked(
    folder: Path, edit: Callable[[dict[str, Any]], object], says: str
) -> None:
    path = change(folder, edit, sealed=True)
    with pytest.raises(ManifestError, match=says):
        read_manifest(path)
    with pytest.raises(
        ExperimentError, match="get an intact copy of it, or run the experiment's command again"
    ):
        load_experiment(folder)


def test_results_other_than_the_manifest_records_are_refused(folder: Path) -> None:
    results = folder / "cells" / "mean-center-seed0" / "results.parquet"
    rows = read_rows(results)

    def record(manifest: dict[str, Any]) -> None:
        (cell,) = [c for c in manifest["cells"] if c["model"] == "mean"]
        cell["evaluation"]["numbers"] = cell_numbers(rows)

    change(folder, record, sealed=True)
    assert len(load_experiment(folder).rows) == 2 * len(rows)
    rows.loc[3, "psnr_db"] += 1e-9
    write_rows(rows, results)
    with pytest.raises(ExperimentError, match=r"results\.parquet: not the results that the manifest records"):
        load_experiment(folder)


def test_a_flipped_bit_in_the_values_is_seen_without_a_manifest(folder: Path) -> None:
    """Parquet's page checksums: without them zstd passes some flips on as other numbers."""
    results = folder / "cells" / "mean-center-seed0" / "results.parquet"
    content = bytearray(results.read_bytes())
    before = read_rows(results)
    refused = 0
    for place in range(4, len(content) // 2, 97):
        content[place] ^= 0x10
        results.write_bytes(content)
        try:
            assert read_rows(results).equals(before)
        except ValueError:
            refused += 1
        content[place] ^= 0x10
    assert refused > 10
