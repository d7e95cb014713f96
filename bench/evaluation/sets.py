"""Metrics of a set of images: one number a cell, without rows and without pairing by image."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from bench.evaluation.cards import CARDS, Card, expand
from bench.evaluation.fid import Features, frechet_distance, inception_features
from bench.pretrained_weights import MetricUnavailableError


@dataclass(frozen=True, kw_only=True)
class SetMetric(Card):
    """A card with what it takes: features of uint8 images, and the distance of two sets of them."""

    features: Features
    distance: Callable[[Tensor, Tensor], float]


class Collector:
    """Gathers the features of one set of completions while they are evaluated.

    Args:
        metrics: what is gathered for.
        truths: metric -> features of the truths of the same images, filled here where it is empty; several
            cells on the same images share it.
    """

    def __init__(self, metrics: Iterable[SetMetric], truths: dict[str, Tensor] | None = None) -> None:
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


def prepare_sets(names: Iterable[str], device: torch.device) -> tuple[list[SetMetric], dict[str, str]]:
    """The metrics of sets among ``names`` (metrics or groups), and for those that are unavailable the reason.

    Raises:
        UnknownMetricError: a name that is no metric.
    """
    ready: list[SetMetric] = []
    unavailable: dict[str, str] = {}
    for card in (CARDS[name] for name in expand(names) if CARDS[name].of == "set"):
        try:
            ready.append(
                SetMetric(**asdict(card), features=inception_features(device), distance=frechet_distance)
            )
        except MetricUnavailableError as error:
            unavailable[card.name] = str(error)
    return ready, unavailable
