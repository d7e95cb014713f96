"""Named protocols: what they fix, what contradicts them, and where they run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from markupsafe import escape
from PIL import Image

from bench.cli import main
from bench.data.sources import data_sources
from bench.data.splits import SPLITS
from bench.data.transforms import CROPS
from bench.errors import UsageError
from bench.evaluation.metrics import list_metrics
from bench.protocols import PROTOCOLS, Protocol, apply_protocol, find_protocol
from masks.registry import resolve_masks
from reports.leaderboard import leaderboard_rows
from reports.page import typeset
from reports.results.experiment import load_experiment


def _bench(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(list(arguments))
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=list(PROTOCOLS))
def test_a_protocol_names_things_that_there_are(protocol: Protocol) -> None:
    (source,) = [s for s in data_sources() if s.name == protocol.data]
    assert resolve_masks(protocol.masks) == list(protocol.masks)
    assert protocol.crop in CROPS
    assert protocol.split in SPLITS
    assert set(protocol.metrics) <= set(list_metrics())
    assert source.largest_side is None or protocol.size <= source.largest_side
    assert protocol.known
    assert protocol.unknown


#: Metrics as the originals' papers name them.
PUBLISHED_METRICS = {
    "PSNR": "psnr_db", "SSIM": "ssim", "LPIPS": "lpips_alex", "FID": "fid", "P-IDS": "p_ids", "U-IDS": "u_ids",
}  # fmt: skip


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=list(PROTOCOLS))
def test_a_protocol_measures_what_it_says_that_the_original_measures(protocol: Protocol) -> None:
    primary = {name for name, info in list_metrics().items() if info.group == "primary"}
    words = set(" ".join(protocol.known).replace(",", " ").split())
    named = {metric for name, metric in PUBLISHED_METRICS.items() if name in words}
    assert named, "every original names its metrics"
    assert named <= primary | set(protocol.metrics)


def test_what_contradicts_a_protocol_is_refused() -> None:
    protocol = find_protocol("lama-celebahq-256-thick")
    assert apply_protocol(protocol, {"size": 256, "seeds": (1,)})["mask_names"] == ("lama-thick",)
    for option, value, says in [
        ("size", 128, "--size 128: the protocol lama-celebahq-256-thick has 256"),
        ("mask_names", ("center", "half"), "--mask center,half: .* has lama-thick"),
        ("test_images", 10, "--test-images 10: .* has all"),
    ]:
        with pytest.raises(UsageError, match=says):
            apply_protocol(protocol, {option: value})
    with pytest.raises(UsageError, match="--protocol lama: unknown"):
        find_protocol("lama")


def test_protocols_are_listed_and_run(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _bench(capsys, "list", "protocols")
    assert code == 0
    for name in PROTOCOLS:
        assert name in out
    assert "Not known" in out
    _, out, _ = _bench(capsys, "list", "data", "--json")
    names = {
        "celeba",
        "celeba-in-the-wild",
        "celeba-hq",
        "ffhq",
        "places2",
        "paris-street-view",
        "folder",
        "faces",
    }
    assert names == set(json.loads(out)["data"])
    images = np.random.default_rng(0).integers(0, 255, (40, 160, 160, 3), dtype=np.uint8)
    (workplace / "mine").mkdir()
    for k, image in enumerate(images):
        Image.fromarray(image).save(workplace / "mine" / f"{k}.png")
    protocol = ("--data", "mine", "--protocol", "mgs-iim-celeba-160")
    run = ("run", "--models", "mean", *protocol, "--dry-run", "--json")
    code, out, err = _bench(capsys, *run, "--name", "p")
    assert code == 0
    assert "is defined on celeba, these images are folder: no published number is comparable" in err
    assert "random-rect" in out
    code, _, err = _bench(capsys, *run, "--size", "64")
    assert code == 2
    assert "--size 64: the protocol mgs-iim-celeba-160 has 160" in err


def test_the_protocol_is_in_the_manifest_and_on_the_pages(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (workplace / "mine").mkdir()
    images = np.random.default_rng(0).integers(0, 255, (24, 160, 160, 3), dtype=np.uint8)
    for k, image in enumerate(images):
        Image.fromarray(image).save(workplace / "mine" / f"{k}.png")
    run = ("run", "--models", "mean", "--data", "mine", "--protocol", "mgs-iim-celeba-160", "--name", "p")
    assert _bench(capsys, *run)[0] == 0
    experiment = load_experiment(workplace / "runs" / "p")
    protocol = find_protocol("mgs-iim-celeba-160")
    assert experiment.manifest["protocol"] == protocol.as_record()
    page = (workplace / "reports" / "p" / "index.html").read_text(encoding="utf-8")
    assert "<dt>protocol</dt><dd>mgs-iim-celeba-160</dd>" in page
    for words in (*protocol.unknown, "These images are not celeba"):
        assert typeset(str(escape(words))) in page
    assert {row.protocol.split(":")[0] for row in leaderboard_rows(experiment)} == {protocol.name}
    # Models that are added later are under the same settings, or are refused.
    more = (
        "run",
        "--models",
        "mean-image",
        "--data",
        "mine",
        "--size",
        "160",
        "--split",
        "paper",
        "--name",
        "p",
    )
    assert _bench(capsys, *more, "--mask", "center", "--test-images", "all")[0] == 0
    assert load_experiment(workplace / "runs" / "p").manifest["protocol"]["name"] == protocol.name
