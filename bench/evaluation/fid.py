"""Fréchet distances of sets of images: FID (Heusel et al. 2017, arXiv:1706.08500), and those of CLIP and DINOv2.

Feature extractors are those of the ``torch-fidelity`` package (extra ``fid``); FID's is the Inception network of the
original TensorFlow code (2,048 pooled features). Weights come through torch's cache.
"""

from __future__ import annotations

import importlib.util
import pickle
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from bench.backbones import MetricUnavailableError, cached_file, first_line, require_package_weights
from bench.evaluation.feature_sets import FeatureExtractor, FeatureSets, SetScore
from bench.evaluation.image_batch import FaceBox
from bench.evaluation.lpips import without_autocast
from bench.evaluation.metrics import distribution_metric
from reports.results.metric_info import MetricInfo


@cache
def inception_features(device: torch.device) -> FeatureExtractor:
    """Load the feature extractor of FID, in float32 whatever the caller runs in.

    Raises:
        MetricUnavailableError: the package is not installed, or its weights are neither cached nor
            downloadable, or damaged.
    """
    _require_torch_fidelity()
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

    file = require_package_weights(URL_INCEPTION_V3)
    try:
        torch.load(file, map_location="cpu", weights_only=True)  # the package would unpickle anything
        network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(file))
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        name = cached_file(URL_INCEPTION_V3).name
        raise MetricUnavailableError(
            f"{name} in torch's cache is not readable as these weights ({first_line(error)}); delete it"
        ) from error
    network = network.to(device)

    def features(images: Tensor, face_box: FaceBox | None = None) -> Tensor:
        # One image's features must not depend on the precision of the run that is measured.
        with torch.inference_mode(), without_autocast(device):
            # On the CPU: features of a whole test set are kept until its last batch.
            return network(images.contiguous())[0].cpu()  # type: ignore[no-any-return]

    return features


@distribution_metric(
    MetricInfo(
        name="fid",
        heading="FID",
        digits=2,
        value_range=(0.0, None),
        higher_is_better=False,
        convention="Fréchet distance between the Inception features (2048, TensorFlow's weights of 2015) of all "
        "truths and all 8-bit RGB composites",
        source="Heusel et al. 2017 (arXiv:1706.08500)",
        oracle="torch-fidelity; SciPy's matrix root",
        of="set",
        weights="Inception weights of 2015 (torch-fidelity, Apache-2.0)",
        few_images="it is biased upwards",
    ),
    features=inception_features,
)
def fid(sets: FeatureSets) -> SetScore:
    """Compute the Fréchet Inception distance.

    Examples:
        >>> truth = torch.tensor([[0.0], [1.0], [2.0]])
        >>> fid(FeatureSets(truth, truth + 3)).value  # equal spread, means 3 apart
        9.0
    """
    return SetScore(frechet_distance(sets.truth, sets.composite))


@cache
def clip_features(device: torch.device) -> FeatureExtractor:
    """Load CLIP's image encoder (ViT-B/32, 512 features) from torch-fidelity's registry.

    Raises:
        MetricUnavailableError: as :func:`inception_features`.
    """
    _require_torch_fidelity()
    from torch_fidelity.feature_extractor_clip import MODEL_METADATA, MODEL_URLS

    name = "clip-vit-b-32"
    file = require_package_weights(MODEL_URLS[name], f"{name}-{MODEL_METADATA[name]['hash']}.pt")
    return _registered_extractor(name, "clip", device, file)


@cache
def dinov2_features(device: torch.device) -> FeatureExtractor:
    """Load DINOv2 (ViT-B/14, 768 features) from torch-fidelity's registry.

    The network's code comes from torch.hub, and code is never fetched unasked: it must be in torch's cache.

    Raises:
        MetricUnavailableError: as :func:`inception_features`.
    """
    _require_torch_fidelity()
    code = Path(torch.hub.get_dir()) / "facebookresearch_dinov2_main"
    if not code.is_dir():
        raise MetricUnavailableError(
            "DINOv2 is code besides weights, which is fetched only by you: "
            "python -c \"import torch; torch.hub.load('facebookresearch/dinov2:main', 'dinov2_vitb14')\""
        )
    return _registered_extractor("dinov2-vit-b-14", "dinov2", device, code)


def _require_torch_fidelity() -> None:
    if importlib.util.find_spec("torch_fidelity") is None:
        raise MetricUnavailableError("torch-fidelity is not installed; pip install 'inpaint-bench[fid]'")


def _registered_extractor(name: str, layer: str, device: torch.device, source: Path) -> FeatureExtractor:
    """Build an extractor of torch-fidelity's registry; ``source`` is what an error names."""
    from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

    # DINOv2 is loaded by torch.hub from the folder of its code, and takes no path of weights.
    weights = {"feature_extractor_weights_path": str(source)} if source.is_file() else {}
    try:
        with torch.random.fork_rng(devices=[]):  # initial weights are drawn, and overwritten at once
            network = FEATURE_EXTRACTORS_REGISTRY[name](name, [layer], **weights).to(device)
    except Exception as error:  # a reader of foreign bytes, or foreign code, may raise anything
        raise MetricUnavailableError(
            f"{source.name} in torch's cache cannot be loaded ({first_line(error)}); delete it"
        ) from error

    def features(images: Tensor, face_box: FaceBox | None = None) -> Tensor:
        with torch.inference_mode(), without_autocast(device):
            return network(images.contiguous())[0].cpu()  # type: ignore[no-any-return]

    return features


@distribution_metric(
    MetricInfo(
        name="fd_clip",
        heading="FD (CLIP)",
        digits=2,
        value_range=(0.0, None),
        higher_is_better=False,
        convention="as fid, with the image features of CLIP ViT-B/32 (512)",
        source="Kynkäänniemi et al. 2023 (arXiv:2203.06026)",
        oracle="torch-fidelity's extractor with planted weights; the distance as fid",
        of="set",
        weights="CLIP ViT-B/32 (OpenAI, MIT)",
        few_images="it is biased upwards",
    ),
    features=clip_features,
)
def fd_clip(sets: FeatureSets) -> SetScore:
    """Compute the Fréchet distance of CLIP's features.

    Examples:
        >>> truth = torch.tensor([[0.0], [1.0], [2.0]])
        >>> fd_clip(FeatureSets(truth, truth + 2)).value
        4.0
    """
    return SetScore(frechet_distance(sets.truth, sets.composite))


@distribution_metric(
    MetricInfo(
        name="fd_dinov2",
        heading="FD (DINOv2)",
        digits=2,
        value_range=(0.0, None),
        higher_is_better=False,
        convention="as fid, with the features of DINOv2 ViT-B/14 (768)",
        source="Stein et al. 2023 (arXiv:2306.04675)",
        oracle="torch-fidelity's extractor with planted weights; the distance as fid",
        of="set",
        weights="DINOv2 ViT-B/14 (Meta, Apache-2.0)",
        few_images="it is biased upwards",
    ),
    features=dinov2_features,
)
def fd_dinov2(sets: FeatureSets) -> SetScore:
    """Compute the Fréchet distance of DINOv2's features.

    Examples:
        >>> truth = torch.tensor([[0.0], [1.0], [2.0]])
        >>> fd_dinov2(FeatureSets(truth, truth + 1)).value
        1.0
    """
    return SetScore(frechet_distance(sets.truth, sets.composite))


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Compute the squared Fréchet distance of the normal distributions fitted to two sets of features (equation 6).

    ``|m - n|^2 + tr(A + B - 2 (A B)^1/2)`` with means ``m, n`` and sample covariances ``A, B``. The trace of the root
    is the nuclear norm of ``X Y^T / sqrt((N - 1) (M - 1))`` for centered features ``X, Y``: unlike a matrix root it
    needs no guard where there are fewer images than features and the covariances are singular.

    Args:
        a: ``(N, D)``, N at least 2.
        b: ``(M, D)``.

    Returns:
        At least 0; NaN where a set has fewer than two images.
    """
    if min(len(a), len(b)) < 2:
        return float("nan")
    x, y = _factor(a), _factor(b)
    root = torch.linalg.svdvals(x @ y.T).sum()
    # In float64: the distance is a small difference of large traces.
    between = (a.double().mean(dim=0) - b.double().mean(dim=0)).square().sum()
    # Rounding may leave a tiny negative number where the two sets are equal.
    return float((between + x.square().sum() + y.square().sum() - 2 * root).clamp(min=0))


def _factor(features: Tensor) -> Tensor:
    """Factor the sample covariance as ``F^T F`` with at most D rows."""
    centered = features.double() - features.double().mean(dim=0)
    centered /= (len(features) - 1) ** 0.5
    # With more images than features, the triangle of a QR has the same F^T F, and the SVD above stays small.
    if len(centered) > centered.shape[1]:
        centered = torch.linalg.qr(centered, mode="r").R
    return centered
