"""FID (Heusel et al. 2017, arXiv:1706.08500): a number of a set of images, not of one.

Features are the 2,048 pooled ones of the Inception network of the original TensorFlow code, through the
``torch-fidelity`` package (extra ``fid``); its weights come through torch's cache.
"""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from bench.evaluation.lpips import full_precision
from bench.pretrained_weights import MetricUnavailableError, cached_file, one_line, require

#: uint8 images ``(N, 3, H, W)`` to features ``(N, D)`` on the CPU.
Features = Callable[[Tensor], Tensor]


@cache
def inception_features(device: torch.device) -> Features:
    """The feature extractor, in float32 whatever the caller runs in.

    Raises:
        MetricUnavailableError: the package is not installed, or its weights are neither cached nor
            downloadable, or damaged.
    """
    if importlib.util.find_spec("torch_fidelity") is None:
        raise MetricUnavailableError("torch-fidelity is not installed; pip install 'inpaint-bench[fid]'")
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3, FeatureExtractorInceptionV3

    file = require(URL_INCEPTION_V3)
    try:
        torch.load(file, map_location="cpu", weights_only=True)  # the package would unpickle anything
        network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(file))
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        name = cached_file(URL_INCEPTION_V3).name
        raise MetricUnavailableError(
            f"{name} in torch's cache is not readable as these weights ({one_line(error)}); delete it"
        ) from error
    network = network.to(device)

    def features(images: Tensor) -> Tensor:
        with torch.inference_mode(), full_precision(device):
            return network(images.contiguous())[0].cpu()  # type: ignore[no-any-return]

    return features


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Squared Fréchet distance of the normal distributions fitted to two sets of features (equation 6).

    ``|m - n|^2 + tr(A + B - 2 (A B)^1/2)`` with means ``m, n`` and sample covariances ``A, B``. The trace of the root
    is the nuclear norm of ``X Y^T / sqrt((N - 1) (M - 1))`` for centred features ``X, Y``: unlike a matrix root it
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
    """A matrix ``F`` of at most D rows with ``F^T F`` the sample covariance."""
    centred = features.double() - features.double().mean(dim=0)
    centred /= (len(features) - 1) ** 0.5
    if len(centred) > centred.shape[1]:
        centred = torch.linalg.qr(centred, mode="r").R
    return centred
