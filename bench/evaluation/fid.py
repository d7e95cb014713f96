"""FID (Heusel et al. 2017, arXiv:1706.08500): a number of a set of images, not of one.

Features are the 2,048 pooled ones of the Inception network of the original TensorFlow code, through the
``torch-fidelity`` package (extra ``fid``); its weights come through torch's cache.
"""

from __future__ import annotations

import importlib.util
import pickle
from functools import cache

import torch
from torch import Tensor

from bench.evaluation.distributions import FeatureExtractor, FeatureSets, SetScore
from bench.evaluation.lpips import without_autocast
from bench.evaluation.metrics import distribution_metric
from bench.pretrained_weights import MetricUnavailableError, cached_file, first_line, require_package_weights
from reports.results.metric_info import MetricInfo


@cache
def inception_features(device: torch.device) -> FeatureExtractor:
    """Load the feature extractor of FID, in float32 whatever the caller runs in.

    Raises:
        MetricUnavailableError: the package is not installed, or its weights are neither cached nor
            downloadable, or damaged.
    """
    if importlib.util.find_spec("torch_fidelity") is None:
        raise MetricUnavailableError("torch-fidelity is not installed; pip install 'inpaint-bench[fid]'")
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

    def features(images: Tensor) -> Tensor:
        with torch.inference_mode(), without_autocast(device):
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
    between = (a.double().mean(dim=0) - b.double().mean(dim=0)).square().sum()
    return float((between + x.square().sum() + y.square().sum() - 2 * root).clamp(min=0))


def _factor(features: Tensor) -> Tensor:
    """Factor the sample covariance as ``F^T F`` with at most D rows."""
    centered = features.double() - features.double().mean(dim=0)
    centered /= (len(features) - 1) ** 0.5
    if len(centered) > centered.shape[1]:
        centered = torch.linalg.qr(centered, mode="r").R
    return centered
