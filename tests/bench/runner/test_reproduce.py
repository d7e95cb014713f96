"""``bench reproduce``: from a manifest alone to the same numbers; what cannot give them is refused first."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench.errors import BenchError
from bench.runner.cell_entries import evaluated_where
from bench.runner.reproduce import read_record, recorded_requests
from models.template import template_source
from reports.results.manifest import SEAL, manifest_checksum
from reports.results.schema import cell_numbers
from tests.bench.cli.test_cli import bench, error_of
from tests.places import working_in


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, pictures_dir: Path) -> Path:
    """The folder of an experiment: a model of one's own and a fill, two masks, two seeds."""
    from models.template import template_source

    folder = tmp_path_factory.mktemp("original")
    (folder / "unet.py").write_text(template_source("test-unet"))
    with working_in(folder):
        words = ["run", "--models", "test-unet,mean", "--models-from", str(folder / "unet.py"), "--quiet"]
        words += ["--data", str(pictures_dir), "--preset", "smoke", "--images-seen", "16", "--name", "first"]
        result = bench(*words, "--mask", "center,half", "--seeds", "0,1", "--set", "test-unet.width=8")
        assert result.exit_code == 0, result.output
    return folder / "runs" / "first"


@pytest.fixture
def manifest(original: Path, workplace: Path) -> Path:
    """Its manifest alone, elsewhere."""
    return Path(shutil.copy(original / "manifest.json", workplace / "manifest.json"))


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Change a manifest as somebody does who knows how it is sealed: what it says is no more to be trusted for it."""
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps({**value, SEAL: manifest_checksum(value)}))


@pytest.mark.long
def test_the_manifest_alone_gives_every_number_again(manifest: Path) -> None:
    result = bench("reproduce", "manifest.json", "--quiet", "--json", "--allow-code")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert told["reproduced"] is True
    assert {n["verdict"] for n in told["numbers"]} == {"equal"}
    assert len({n["cell"] for n in told["numbers"]}) == 2 * 2 + 2
    again = json.loads(Path("runs/first-again/manifest.json").read_text())
    first = json.loads(manifest.read_text())
    for cells in (first["cells"], again["cells"]):
        cells.sort(key=lambda c: c["cell"].rpartition("-")[0])
    for was, now in zip(first["cells"], again["cells"], strict=True):
        assert was["evaluation"]["numbers"] == now["evaluation"]["numbers"]
        assert (was["config"], was["train_mask"]) == (now["config"], now["train_mask"])
        if was["trained"]:
            assert was["training"]["key"] == now["training"]["key"]


def test_one_cell(manifest: Path) -> None:
    result = bench(
        "reproduce", ".", "--cell", "test-unet-half-seed1", "--name", "one", "--quiet", "--allow-code"
    )
    assert result.exit_code == 0, result.output
    assert "Test Unet on half, seed 1\n" in result.output
    assert re.search(r"^reproduced: [45] equal$", result.output, re.MULTILINE)  # LPIPS where its backbone is
    assert len(json.loads(Path("runs/one/manifest.json").read_text())["cells"]) == 1
    message = error_of("reproduce", "manifest.json", "--cell", "test-unet-hlaf-seed1")
    assert "no finished cell of manifest.json; did you mean 'test-unet-half-seed1-" in message


def test_model_files_of_a_manifest_are_not_run_unasked(manifest: Path, original: Path) -> None:
    """As written, or changed and sealed again; cells of installed models need no code, and so no question."""
    spy = original.parents[1] / "unet.py"
    source = spy.read_text()
    try:
        spy.write_text(
            f"{source}\nfrom pathlib import Path\nPath({str(manifest.parent / 'ran')!r}).touch()\n"
        )
        for changed in (False, True):
            if changed:
                change(manifest, lambda value: value["cells"].reverse())
            message = error_of("reproduce", "manifest.json", "--quiet")
            assert f"the manifest names code to run ({spy}): read it" in message
            assert not Path("ran").exists()
        result = bench("reproduce", "manifest.json", "--cell", "mean-center-seed0", "--quiet")
        assert result.exit_code == 0, result.output
        assert not Path("ran").exists()
    finally:
        spy.write_text(source)


def test_a_model_that_nobody_names_a_file_of_is_asked_for(manifest: Path, original: Path) -> None:
    """As of a run of the Python API, whose manifest has no command line."""
    change(manifest, lambda value: value.update(options=[{} for _ in value["options"]]))
    for allowed in ((), ("--allow-code",)):
        message = error_of("reproduce", "manifest.json", "--quiet", *allowed)
        assert "the manifest names no file of it: test-unet; give --models-from FILE" in message
    # A file without it is the user's mistake, and no failure of the program.
    Path("other.py").write_text(template_source("other"))
    assert "unknown model 'test-unet'" in error_of(
        "reproduce", "manifest.json", "--quiet", "--models-from", "other.py"
    )


def test_programs_of_a_manifest_are_not_run_unasked(manifest: Path) -> None:
    change(manifest, lambda value: [c.update(model="exec:evil.toml") for c in value["cells"] if c["trained"]])
    Path("evil.toml").write_text("command = ['touch', 'ran']")
    message = error_of("reproduce", "manifest.json", "--quiet")
    assert "exec:evil.toml" in message
    assert not Path("ran").exists()


def test_cells_that_a_run_can_compute_together_are_one_request(manifest: Path) -> None:
    (asked,) = recorded_requests(read_record(manifest), "x", allow_code=True)
    assert (asked.models, asked.masks, asked.settings.seeds) == (
        ("test-unet", "mean"),
        ("center", "half"),
        (0, 1),
    )
    assert asked.settings.train_mask == "paper"

    def scatter(value: dict[str, Any]) -> None:
        trained = [c for c in value["cells"] if c["trained"]]
        trained[0]["config"]["width"] = 4
        value["cells"] = [*trained[:3], *(c for c in value["cells"] if not c["trained"])]

    change(manifest, scatter)
    asked_for = [
        (r.model_options[m].get("width"), m, mask, seed)
        for r in recorded_requests(read_record(manifest), "x", allow_code=True)
        for m in r.models
        for mask in r.masks
        for seed in (r.settings.seeds if m != "mean" else (0,))
    ]
    cells = json.loads(manifest.read_text())["cells"]
    expected = [(c["config"].get("width"), c["model"], c["mask"], c["seed"]) for c in cells]
    assert sorted(asked_for, key=str) == sorted(expected, key=str)


def test_other_numbers_are_found_and_a_tolerance_is_one(manifest: Path) -> None:
    def shift(value: dict[str, Any]) -> None:
        (cell,) = [c for c in value["cells"] if c["model"] == "mean" and c["mask"] == "center"]
        cell["evaluation"]["numbers"]["psnr_db"]["mean"] *= 1.01
        cell["evaluation"]["numbers"]["ssim"]["digest"] = "0" * 64

    change(manifest, shift)
    words = ("reproduce", "manifest.json", "--cell", "mean-center-seed0", "--quiet")
    result = bench(*words)
    assert result.exit_code == 1
    assert "(0.99%)" in result.output
    assert "the mean is equal, single images differ" in result.output
    assert re.search(r"^not reproduced: [23] equal, 2 differs$", result.output, re.MULTILINE)
    assert bench(*words, "--tolerance", "0.009").exit_code == 1
    result = bench(*words, "--tolerance", "0.02")
    assert result.exit_code == 0
    assert re.search(r"^reproduced: [23] equal, 2 within$", result.output, re.MULTILINE)


def numerics(value: dict[str, Any]) -> None:
    for cell in value["cells"]:
        cell["where"] |= {"torch": "1.0.0"}


def test_versions_that_give_other_numbers_are_refused(manifest: Path) -> None:
    change(manifest, numerics)
    message = error_of("reproduce", "manifest.json", "--quiet", "--allow-code")
    assert message.startswith("manifest.json: it was computed elsewhere (torch 1.0.0, here ")
    assert "install these versions, or give --tolerance 0.02" in message
    assert not Path("runs").exists()
    result = bench("reproduce", "manifest.json", "--cell", "mean-half-seed0", "--tolerance", "0")
    assert result.exit_code == 0
    assert "Computed elsewhere: torch 1.0.0" in result.stderr


def test_other_data_and_masks_are_refused(manifest: Path, workplace: Path, pictures_dir: Path) -> None:
    other = workplace / "other"
    shutil.copytree(pictures_dir, other)
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(other / "000.png")
    message = error_of("reproduce", "manifest.json", "--data", str(other), "--quiet", "--allow-code")
    assert "manifest.json: the data are others" in message
    assert message.endswith("give --data PATH")
    change(manifest, lambda value: value["masks"]["half"].update(digest="0"))
    message = error_of("reproduce", "manifest.json", "--quiet", "--allow-code")
    assert "mask half is drawn otherwise (here version 2)" in message
    assert "no such file or folder" in error_of(
        "reproduce", "manifest.json", "--data", "gone", "--allow-code"
    )
    assert not Path("runs").exists()


def test_an_older_manifest_needs_its_results_beside_it(original: Path, workplace: Path) -> None:
    def age(value: dict[str, Any]) -> None:
        for cell in value["cells"]:
            del cell["evaluation"]["numbers"]

    beside = Path(shutil.copytree(original, workplace / "old")) / "manifest.json"
    alone = Path(shutil.copy(original / "manifest.json", workplace / "manifest.json"))
    new = read_record(alone)
    # Cells of those versions had no checksum either: beside one that has, a manifest without its own is damaged.
    for cell in beside.parent.glob("cells/*/cell.json"):
        cell.unlink()
    for path in (beside, alone):
        change(path, age)
    assert read_record(beside).numbers == new.numbers
    with pytest.raises(BenchError, match=r"keeps its numbers beside it: .*results\.parquet"):
        read_record(alone)


def test_the_experiment_itself_is_not_its_own_proof(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(original.parents[1])
    assert "--name first: is the experiment itself" in error_of("reproduce", "first", "--name", "first")


def test_what_is_no_manifest(workplace: Path, manifest: Path) -> None:
    assert "no experiment 'nothing'" in error_of("reproduce", "nothing")
    change(manifest, lambda value: value.update(cells=[]))
    assert "holds no finished cell" in error_of("reproduce", "manifest.json")


@pytest.mark.parametrize(
    "edit",
    [
        lambda value: value["cells"][0].pop("status"),
        lambda value: value["cells"][0].update(evaluation=3),
        lambda value: value["cells"][0].update(where=None),
        lambda value: value["cells"][0].update(config=[1]),
        lambda value: evaluated_where(value["cells"][0]).update(threads=10**9),
        lambda value: value["cells"][0]["evaluation"]["numbers"]["ssim"].update(mean="x"),
        lambda value: value["settings"].update(size="x"),
        lambda value: value["data"].pop("fingerprint"),
        lambda value: value.update(masks={}),
        lambda value: value.update(options=[3]),
        lambda value: value["cells"].append(3),
    ],
)
def test_a_damaged_manifest_is_one_line(manifest: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    change(manifest, edit)
    result = bench("reproduce", "manifest.json", "--quiet", "--allow-code")
    assert isinstance(result.exception, BenchError), result.exception
    assert str(result.exception).startswith("manifest.json: damaged (")
    assert not Path("runs").exists()


def test_numbers_are_exact_and_tell_images_apart() -> None:
    rows = pd.DataFrame(
        {"image_id": ["a", "b", "c"], "psnr_db": [1e16, 1.0, -1e16], "ssim": [0.1, np.nan, 0.2]}
    )
    found = cell_numbers(rows)
    assert found["psnr_db"]["mean"] == 1 / 3
    assert found["ssim"]["mean"] is None
    turned = rows.assign(psnr_db=[1.0, 1e16, -1e16])
    assert cell_numbers(turned)["psnr_db"]["mean"] == 1 / 3
    assert cell_numbers(turned)["psnr_db"]["digest"] != found["psnr_db"]["digest"]
    renamed = rows.assign(image_id=["a", "b", "d"])
    assert cell_numbers(renamed)["psnr_db"]["digest"] != found["psnr_db"]["digest"]
