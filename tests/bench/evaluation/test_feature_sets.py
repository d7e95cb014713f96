"""KID, P-IDS and U-IDS, Fréchet distances with other features: against torch-fidelity and scikit-learn, on planted
features where weights cannot be had.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC

from bench.evaluation import fid
from bench.evaluation.feature_sets import FeatureSets
from bench.evaluation.fid import clip_features, dinov2_features
from bench.evaluation.inception_discrimination import fit_linear_svm, p_ids, u_ids
from bench.evaluation.kid import kid
from bench.evaluation.metrics import load_metric, prepare_distribution_metrics

CPU = torch.device("cpu")
EXTRACTORS = (clip_features, dinov2_features, fid.inception_features)


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    for extractor in EXTRACTORS:
        extractor.cache_clear()
    yield
    for extractor in EXTRACTORS:
        extractor.cache_clear()


def planted(count: int, shift: float = 0.3, dimensions: int = 12, seed: int = 0) -> FeatureSets:
    """Truths, and completions that depend on them: half noise, moved by ``shift``."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(count, dimensions))
    made = 0.7 * truth + 0.7 * rng.normal(size=(count, dimensions)) + shift
    return FeatureSets(torch.from_numpy(truth), torch.from_numpy(made))


@pytest.mark.parametrize("count", [9, 60, 1100])
def test_kid_is_torch_fidelitys_u_statistic(count: int) -> None:
    package = pytest.importorskip("torch_fidelity.metric_kid")
    sets = planted(count)
    x, y = sets.truth.numpy(), sets.composite.numpy()
    options = {"kid_kernel_poly_degree": 3, "kid_kernel_poly_gamma": None, "kid_kernel_poly_coef0": 1}
    kernels = [package.kernel_poly(a, b, **options) for a, b in ((x, x), (x, y), (y, y))]
    assert kid(sets).value == pytest.approx(package.mmd2(*kernels, mmd_est="u-statistic"), rel=1e-9)


def test_the_error_of_kid_is_that_of_leaving_out_each_person() -> None:
    """Oracle: the estimate computed again without each person; people have one to four images."""
    sets = planted(40)
    people = torch.arange(40) // 4 * (torch.arange(40) < 24) + torch.arange(40) * (torch.arange(40) >= 24)
    score = kid(FeatureSets(sets.truth, sets.composite, people))
    names = people.unique()
    without = torch.tensor(
        [kid(FeatureSets(sets.truth[people != p], sets.composite[people != p])).value for p in names],
        dtype=torch.float64,
    )
    error = ((len(names) - 1) / len(names) * (without - without.mean()).square().sum()).sqrt()
    assert (score.high - score.low) / 2 == pytest.approx(1.959964 * float(error), rel=1e-6)


def test_kid_is_unbiased_and_its_interval_covers() -> None:
    """Pairs with one distribution but dependent within a pair: the mean over sets is zero, which a mixed term over all
    pairs would miss; the interval holds the true value in about 95 % of sets.
    """
    values, covered = [], 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        truth = rng.normal(size=(40, 4))
        made = 0.8 * truth + 0.6 * rng.normal(size=(40, 4))  # standard normal again
        score = kid(FeatureSets(torch.from_numpy(truth), torch.from_numpy(made)))
        values.append(score.value)
        covered += score.low <= 0 <= score.high
    standard_error = np.std(values) / math.sqrt(len(values))
    assert abs(np.mean(values)) < 3 * standard_error
    assert covered / 300 > 0.9


@pytest.mark.parametrize(("count", "dimensions"), [(60, 5), (30, 80)])
def test_the_classifier_is_scikit_learns(count: int, dimensions: int) -> None:
    """With more features than images too, where the sets can be separated."""
    sets = planted(count, dimensions=dimensions)
    inputs, labels = torch.cat([sets.truth, sets.composite]), np.repeat([1, -1], count)
    weights = fit_linear_svm(inputs, torch.from_numpy(labels).double())
    oracle = LinearSVC(dual=False, tol=1e-12, max_iter=100_000).fit(inputs.numpy(), labels)
    np.testing.assert_allclose(weights[:-1], oracle.coef_[0], rtol=0, atol=1e-6)
    assert float(weights[-1]) == pytest.approx(oracle.intercept_[0], abs=1e-6)


@pytest.mark.parametrize("count", [60, 300])
def test_p_ids_and_u_ids_are_those_of_mats_evaluation(count: int) -> None:
    sets = planted(count, shift=0.1)
    inputs = np.concatenate([sets.truth.numpy(), sets.composite.numpy()])
    labels = np.repeat([1, 0], count)
    svm = LinearSVC(dual=False, tol=1e-12, max_iter=100_000).fit(inputs, labels)
    truth, made = (svm.decision_function(x.numpy()) for x in (sets.truth, sets.composite))
    assert p_ids(sets).value == pytest.approx((made > truth).mean())
    assert u_ids(sets).value == pytest.approx(1 - svm.score(inputs, labels))
    assert 0 < u_ids(sets).value < 0.5


def test_without_weights_there_is_a_reason_in_one_line_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch_fidelity")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    ready, unavailable = prepare_distribution_metrics(["all"], CPU)
    assert not ready
    assert set(unavailable) == {"fid", "kid", "p_ids", "u_ids", "fd_clip", "fd_dinov2", "identity_verified"}
    assert unavailable["fd_clip"].startswith("clip-vit-b-32-")
    assert "torch.hub.load('facebookresearch/dinov2:main', 'dinov2_vitb14')" in unavailable["fd_dinov2"]
    assert "aligned faces" in unavailable["identity_verified"]
    assert not any("\n" in reason for reason in unavailable.values())


def test_dinov2_is_the_extractor_of_torch_fidelitys_registry_with_planted_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch.hub's copy holds a network of ours: its features come out, of images scaled as DINOv2 wants them."""
    pytest.importorskip("torch_fidelity")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    code = tmp_path / "hub" / "facebookresearch_dinov2_main"
    code.mkdir(parents=True)
    (code / "hubconf.py").write_text(
        "import torch\n"
        "def dinov2_vitb14(pretrained=True):\n"
        "    return torch.nn.Sequential(torch.nn.AvgPool2d(224), torch.nn.Flatten())\n"
    )
    (tmp_path / "hub" / "trusted_list").write_text("facebookresearch_dinov2\n")
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (3, 3, 64, 64), generator=generator, dtype=torch.uint8)
    features = dinov2_features(CPU)(images, None)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = (images.float().div(255).mean((2, 3)) - mean) / std
    torch.testing.assert_close(features, expected, rtol=0, atol=0.05)
    (metric,), unavailable = prepare_distribution_metrics(["fd_dinov2"], CPU)
    assert not unavailable
    sets = FeatureSets(features, features + 1)
    assert metric.function(sets).value == pytest.approx(3, rel=1e-4)


def test_clip_is_built_from_the_cached_file_and_damage_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = pytest.importorskip("torch_fidelity.feature_extractor_clip")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    name = "clip-vit-b-32"
    file = tmp_path / "hub" / "checkpoints" / f"{name}-{clip.MODEL_METADATA[name]['hash']}.pt"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"PK\x03\x04 cut off")
    _, unavailable = prepare_distribution_metrics(["fd_clip"], CPU)
    assert unavailable["fd_clip"].endswith("delete it")
    assert file.name in unavailable["fd_clip"]

    class Planted(torch.nn.Module):
        def __init__(self, *_: object, **given: object) -> None:
            super().__init__()
            assert given == {"feature_extractor_weights_path": str(file)}

        def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
            return (images.float().mean((2, 3)),)

    from torch_fidelity import registry

    monkeypatch.setitem(registry.FEATURE_EXTRACTORS_REGISTRY, name, Planted)
    clip_features.cache_clear()
    (metric,), _ = prepare_distribution_metrics(["fd_clip"], CPU)
    assert (
        metric.load_features(CPU)(torch.full((2, 3, 8, 8), 7, dtype=torch.uint8), None).tolist()
        == [[7.0] * 3] * 2
    )


def test_metrics_with_one_extractor_share_its_features() -> None:
    loaders = {load_metric(name).load_features for name in ("fid", "kid", "p_ids", "u_ids")}  # type: ignore[union-attr]
    assert loaders == {fid.inception_features}


def test_sets_too_small_have_no_number() -> None:
    one = FeatureSets(torch.ones(1, 4), torch.ones(1, 4))
    assert math.isnan(kid(one).value)
    two = kid(planted(2))
    assert math.isfinite(two.value)
    assert math.isnan(two.low)
