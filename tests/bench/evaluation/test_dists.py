"""DISTS against torchmetrics, which ships the authors' weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from bench.backbones import MetricUnavailableError
from bench.evaluation import dists as dists_module
from bench.evaluation.dists import dists_distance
from bench.evaluation.metrics import prepare_metrics

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    dists_distance.cache_clear()
    yield
    dists_distance.cache_clear()


@pytest.mark.filterwarnings("ignore")  # torchmetrics' own, on import
def test_equal_to_torchmetrics(backbone_folder: Path) -> None:
    image = pytest.importorskip("torchmetrics.functional.image")
    if not (backbone_folder / "vgg16-397923af.pth").is_file():
        pytest.skip("needs VGG16")
    generator = torch.Generator().manual_seed(5)
    truth = torch.randint(0, 256, (3, 3, 64, 64), generator=generator, dtype=torch.uint8)
    made = truth.clone()
    made[:, :, 16:48, 16:48] //= 2
    with torch.no_grad():
        oracle = image.deep_image_structure_and_texture_similarity(made / 255.0, truth / 255.0)
    torch.testing.assert_close(dists_distance(CPU)(made, truth).float(), oracle, rtol=0, atol=1e-5)
    assert dists_distance(CPU)(truth, truth).abs().max() < 1e-6


def test_without_vgg16_there_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    ready, unavailable = prepare_metrics(["dists"], CPU)
    assert not ready
    assert unavailable["dists"].startswith("vgg16-397923af.pth is not in torch's cache")


def test_without_torchmetrics_the_extra_is_named(
    backbone_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dists_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MetricUnavailableError, match=r"pip install 'inpaint-bench\[dists\]'"):
        dists_module._load_learned_weights()
