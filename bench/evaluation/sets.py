"""Metrics of a set of images: one number a cell, without rows and without pairing by image."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from bench.evaluation.cards import CARDS, Card, expand
from bench.evaluation.fid import Features, frechet_distance, inception_features
from bench.evaluation.weights import MetricUnavailableError


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
        self._made: dict[str, list[Tensor]] = {m.name: [] for m in self._metrics}
        self._true: dict[str, list[Tensor]] = {
            m.name: [] for m in self._metrics if m.name not in self._truths
        }

    def add(self, composite: Tensor, truth: Tensor) -> None:
        """Take a batch of uint8 images ``(N, 3, H, W)``."""
        for metric in self._metrics:
            self._made[metric.name].append(metric.features(composite))
            if metric.name in self._true:
                self._true[metric.name].append(metric.features(truth))

    def distances(self) -> dict[str, float]:
        """Metric -> number, over everything that was added."""
        self._truths |= {name: torch.cat(parts) for name, parts in self._true.items()}
        return {
            m.name: m.distance(self._truths[m.name], torch.cat(self._made[m.name])) for m in self._metrics
        }


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
