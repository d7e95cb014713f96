"""FID (Heusel et al. 2017, arXiv:1706.08500): a number of a set of images, not of one.

Features are the 2,048 pooled ones of the Inception network of the original TensorFlow code, through the
``torch-fidelity`` package (extra ``fid``); its weights come through torch's cache.
"""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cache

import torch
from torch import Tensor

from bench.evaluation.cards import METRIC_INFO, MetricInfo, expand_metrics
from bench.evaluation.lpips import without_autocast
from bench.pretrained_weights import MetricUnavailableError, cached_file, first_line, require_package_weights

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


# Metrics of a set of images: one number a cell, without rows and without pairing by image.


@dataclass(frozen=True, kw_only=True)
class DistributionMetric(MetricInfo):
    """A card with what it takes: features of uint8 images, and the distance of two sets of them."""

    features: Features
    distance: Callable[[Tensor, Tensor], float]


class FeatureCollector:
    """Gathers the features of one set of completions while they are evaluated.

    Args:
        metrics: what is gathered for.
        truths: metric -> features of the truths of the same images, filled here where it is empty; several
            cells on the same images share it.
    """

    def __init__(
        self, metrics: Iterable[DistributionMetric], truths: dict[str, Tensor] | None = None
    ) -> None:
        self._metrics = list(metrics)
        self._truths = truths if truths is not None else {}
        #: (metric, whether of truths) -> position of a batch's first image -> its features.
        self.features: dict[tuple[str, bool], dict[int, Tensor]] = {}
        for metric in self._metrics:
            self.features[metric.name, False] = {}
            if metric.name not in self._truths:
                self.features[metric.name, True] = {}

    def add(self, start: int, composite: Tensor, truth: Tensor) -> None:
        """Take the batch of uint8 images ``(N, 3, H, W)`` whose first is at position ``start`` of the set."""
        for metric in self._metrics:
            self.features[metric.name, False][start] = metric.features(composite)
            if (metric.name, True) in self.features:
                self.features[metric.name, True][start] = metric.features(truth)

    def take(self, features: dict[tuple[str, bool], dict[int, Tensor]]) -> None:
        """Add what another process's collector has gathered of the same set."""
        for key, batches in features.items():
            self.features[key].update(batches)

    def distances(self) -> dict[str, float]:
        """Metric -> number, over everything that was added."""
        whole = {
            key: torch.cat([batches[start] for start in sorted(batches)])
            for key, batches in self.features.items()
        }
        self._truths |= {name: features for (name, of_truths), features in whole.items() if of_truths}
        return {m.name: m.distance(self._truths[m.name], whole[m.name, False]) for m in self._metrics}


def prepare_distribution_metrics(
    names: Iterable[str], device: torch.device
) -> tuple[list[DistributionMetric], dict[str, str]]:
    """The metrics of sets among ``names`` (metrics or groups), and for those that are unavailable the reason.

    Raises:
        UnknownMetricError: a name that is no metric.
    """
    ready: list[DistributionMetric] = []
    unavailable: dict[str, str] = {}
    for card in (METRIC_INFO[name] for name in expand_metrics(names) if METRIC_INFO[name].of == "set"):
        try:
            ready.append(
                DistributionMetric(
                    **asdict(card), features=inception_features(device), distance=frechet_distance
                )
            )
        except MetricUnavailableError as error:
            unavailable[card.name] = str(error)
    return ready, unavailable
