"""Metrics of sets of images: features of all truths and all composites of a cell, and one number from them.

Such a number belongs to no image: it has no row and is not paired by image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bench.evaluation.image_batch import FaceBox, ImageBatch
from bench.evaluation.metrics import DistributionMetric

#: uint8 images ``(N, 3, H, W)`` and where their faces lie to features ``(N, D)`` on the CPU.
FeatureExtractor = Callable[[Tensor, FaceBox | None], Tensor]


@dataclass(frozen=True)
class FeatureSets:
    """Features of the two sets that a metric compares; row i of both belongs to image i.

    Attributes:
        truth: ``(N, D)``.
        composite: ``(N, D)``.
        clusters: ``(N,)`` int64, equal for images of one person; ``None`` where every image stands for itself.
    """

    truth: Tensor
    composite: Tensor
    clusters: Tensor | None = None


@dataclass(frozen=True)
class SetScore:
    """One number of a set, with its 95 % interval where the metric has one (NaN otherwise)."""

    value: float
    low: float = field(default=float("nan"))
    high: float = field(default=float("nan"))


class FeatureCollector:
    """Gather the features of one set of completions while they are evaluated.

    Args:
        metrics: what is gathered for; those that share an extractor share its features.
        device: where images are.
        truths: extractor's name -> features of the truths of the same images, filled here where it is empty; cells on
            the same images share it.
    """

    def __init__(
        self,
        metrics: Iterable[DistributionMetric],
        device: torch.device,
        truths: dict[str, Tensor] | None = None,
    ) -> None:
        self._metrics = list(metrics)
        self._truths = truths if truths is not None else {}
        # By name, so that metrics with one extractor run it once.
        self._extractors = {extractor_name(m): m.load_features(device) for m in self._metrics}
        #: (extractor's name, whether of truths) -> position of a batch's first image -> its features.
        self.features: dict[tuple[str, bool], dict[int, Tensor]] = {}
        for name in self._extractors:
            self.features[name, False] = {}
            # Truths of these images may be known from another cell: their features are the same under every
            # mask.
            if name not in self._truths:
                self.features[name, True] = {}

    def add(self, start: int, images: ImageBatch) -> None:
        """Take the batch whose first image is at position ``start`` of the set."""
        for name, extract in self._extractors.items():
            self.features[name, False][start] = extract(images.composite, images.face_box)
            if (name, True) in self.features:
                self.features[name, True][start] = extract(images.truth, images.face_box)

    def merge(self, features: dict[tuple[str, bool], dict[int, Tensor]]) -> None:
        """Add what another process's collector has gathered of the same set."""
        for key, batches in features.items():
            self.features[key].update(batches)

    def scores(self, clusters: Tensor | None = None) -> dict[str, SetScore]:
        """Compute every metric over everything that was added, by name.

        Args:
            clusters: as in :class:`FeatureSets`.
        """
        whole = {
            # In the order of images, whichever process or batch gave them: row i must belong to image i.
            key: torch.cat([batches[start] for start in sorted(batches)])
            for key, batches in self.features.items()
        }
        # Put into the dictionary that cells share, so that the next one need not extract them.
        self._truths |= {name: features for (name, of_truths), features in whole.items() if of_truths}
        found = {}
        for metric in self._metrics:
            name = extractor_name(metric)
            found[metric.info.name] = metric.function(
                FeatureSets(self._truths[name], whole[name, False], clusters)
            )
        return found


def extractor_name(metric: DistributionMetric) -> str:
    """Return the name under which metrics with the same extractor share features."""
    return str(getattr(metric.load_features, "__name__", metric.info.name))
