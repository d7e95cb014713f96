"""Evaluation of a stochastic model: several samples of every image, their differences, and whether they hold the truth.

Sample ``k`` of an image is a pure function of the training's seed, ``k`` and the image's name, as masks are
(:meth:`models.base.InpaintingModel.sample`): neither order nor number of samples changes it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from bench.backbones import MetricUnavailableError
from bench.evaluation.evaluator import (
    EVALUATION_BATCH,
    EvaluationResult,
    TestSet,
    cluster_people,
    evaluation_batch,
    identities_of,
)
from bench.evaluation.feature_sets import FeatureCollector, SetScore
from bench.evaluation.image_batch import ImageBatch, hole_mean, to_uint8
from bench.evaluation.lpips import LpipsNetwork, without_autocast
from bench.evaluation.metrics import DistributionMetric
from bench.training.device import Compute
from models.base import InpaintingModel

#: Samples of an image whose completions are kept for reports, the first ones.
KEPT_SAMPLES = 4


@dataclass(frozen=True)
class SampleSpread:
    """How the samples of each image differ from each other and from the truth.

    Attributes:
        diversity: ``(N,)`` mean LPIPS in the hole over all pairs of samples, or why there is none.
        inside: ``(N,)`` share of the hole's values where the truth lies between the samples (:func:`share_inside`).
        pictures: ``(P, k, H, W, 3)`` uint8, completions of the pool's images: the first ``k`` samples, at most
            :data:`KEPT_SAMPLES`.
    """

    diversity: NDArray[np.float64] | str
    inside: NDArray[np.float64]
    pictures: NDArray[np.uint8]


def expected_inside(samples: int) -> float:
    """Return the share of the hole where the truth lies between the samples, if it is one more sample of the same kind.

    Of ``samples + 1`` values in random order, the truth is neither the lowest nor the highest.

    >>> expected_inside(4)
    0.6
    """
    return (samples - 1) / (samples + 1)


def share_inside(truth: Tensor, samples: Tensor, mask: Tensor) -> Tensor:
    """Return the share of the hole's values, ``(N,)`` float64, where the truth lies between the samples' extremes.

    A truth that equals the lowest of the samples is below them with the probability that a random order of the equal
    values gives, so that the expectation is :func:`expected_inside` for 8-bit levels too.

    Args:
        truth: ``(N, 3, H, W)`` uint8.
        samples: ``(K, N, 3, H, W)`` uint8.
        mask: ``(N, 1, H, W)`` float32, 1 = hole.

    Examples:
        >>> truth = torch.tensor([5, 1, 9, 3], dtype=torch.uint8).view(1, 1, 2, 2).expand(1, 3, 2, 2)
        >>> drawn = torch.stack([torch.full_like(truth, level) for level in (3, 7)])
        >>> share_inside(truth, drawn, torch.ones(1, 1, 2, 2))  # inside, below, above, and equal to the lowest
        tensor([0.3750], dtype=torch.float64)
    """
    equal = (samples == truth).sum(0)
    tied = 1.0 / (equal + 1)

    def outside(beyond: Tensor, reached: Tensor) -> Tensor:
        return torch.where(beyond, 1.0, torch.where(reached, tied, 0.0))

    lowest, highest = samples.amin(0), samples.amax(0)
    beyond = outside(truth < lowest, truth == lowest) + outside(truth > highest, truth == highest)
    return hole_mean(1 - beyond, mask)


class LpipsMap(LpipsNetwork):
    """LPIPS by pixel: the maps of all layers enlarged to the image and added, as the package's ``spatial=True``."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Compute the distances ``(N, 1, H, W)`` of two batches ``(N, 3, H, W)`` in [-1, 1]."""
        return self.between(self._maps(a), self._maps(b), a.shape[-1])

    def maps(self, image: Tensor) -> list[Tensor]:
        """Extract what is compared of ``(N, 3, H, W)`` in [-1, 1], a map a layer."""
        return self._maps(image)

    def between(self, a: Sequence[Tensor], b: Sequence[Tensor], size: int) -> Tensor:
        """Compute the distances ``(N, 1, size, size)`` of two batches whose maps are known."""
        total = torch.zeros((), device=a[0].device)
        for place, (x, y) in enumerate(zip(a, b, strict=True)):
            weights: Tensor = getattr(self, f"linear{place}")
            distance = F.conv2d((x - y) ** 2, weights)
            total = total + F.interpolate(distance, (size, size), mode="bilinear", align_corners=False)
        return total


@cache
def lpips_map(device: torch.device) -> LpipsMap:
    """Build :class:`LpipsMap` with AlexNet.

    Raises:
        MetricUnavailableError: its weights are neither cached nor downloadable.
    """
    return LpipsMap("alex").to(device)


def lpips_between_samples(samples: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Return LPIPS (AlexNet) by pixel, averaged over the hole and over all pairs of samples: ``(N,)`` float64.

    Args:
        samples: at least two, ``(N, 3, H, W)`` uint8 composites of the same images.
        mask: ``(N, 1, H, W)`` float32, 1 = hole.
    """
    device, size = mask.device, mask.shape[-1]
    network = lpips_map(device)
    with torch.inference_mode(), without_autocast(device):
        maps = [network.maps(sample.float().div(127.5).sub(1)) for sample in samples]
        pairs = [(a, b) for b in range(len(maps)) for a in range(b)]
        distances = [hole_mean(network.between(maps[a], maps[b], size), mask) for a, b in pairs]
    return torch.stack(distances).mean(0)


@dataclass
class _Sample:
    """What is gathered of one sample of all images: by position of a batch's first image, as evaluations keep it."""

    collector: FeatureCollector
    columns: dict[str, dict[int, NDArray[np.float64]]]
    identical: dict[int, NDArray[np.bool_]] = field(default_factory=dict)
    kept: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    seconds: float = 0.0

    def parts(self) -> tuple[Any, ...]:
        return self.columns, self.identical, self.kept, self.seconds, self.collector.features

    def merge(self, other: tuple[Any, ...]) -> None:
        columns, identical, kept, seconds, features = other
        for name, found in columns.items():
            self.columns[name].update(found)
        self.identical.update(identical)
        self.kept.update(kept)
        self.seconds = max(self.seconds, seconds)
        self.collector.merge(features)


def evaluate_samples(
    model: InpaintingModel,
    test: TestSet,
    compute: Compute,
    ready: dict[str, Callable[[ImageBatch], Tensor]],
    count: int,
    *,
    sets: Sequence[DistributionMetric] = (),
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[EvaluationResult, SampleSpread]:
    """Draw and score ``count`` samples of every image of ``test``.

    Sample 0 is what :func:`bench.evaluation.evaluator.evaluate_model` completes.

    Args:
        model: on the device; put into evaluation mode here.
        test: images and masks.
        compute: device and precision.
        ready: metric name -> function.
        count: samples of each image, at least 2.
        sets: metrics of sets of images; each is computed over every sample of all images, and averaged.
        on_progress: called with (images done, images in total).

    Returns:
        The result, with a column ``sample`` and ``count`` rows an image, sample by sample; the kept images are those of
        sample 0. And how the samples differ, with those of the kept images.
    """
    model.networks.eval()
    total, pool, group = len(test.images.ids), set(test.pool.tolist()), compute.process_group
    diversity: dict[int, NDArray[np.float64]] | str = {}
    try:
        lpips_map(compute.device)
    except MetricUnavailableError as error:
        diversity = str(error)
    inside: dict[int, NDArray[np.float64]] = {}
    runs = [
        _Sample(FeatureCollector(sets, compute.device, test.truths), {name: {} for name in ready})
        for _ in range(count)
    ]
    for start in range(group.rank * EVALUATION_BATCH, total, group.world_size * EVALUATION_BATCH):
        batch, truth = evaluation_batch(test.images, test.masks, start, compute.device)
        drawn = []
        for number, run in enumerate(runs):
            compute.mark_step_begin()
            began = time.perf_counter()
            with torch.inference_mode(), compute.autocast():
                completion = model.sample(batch, number)
            if compute.device.type == "cuda":
                torch.cuda.synchronize(compute.device)
            run.seconds += time.perf_counter() - began
            with torch.inference_mode():
                shown = to_uint8(completion.composite)
                pictures = ImageBatch(truth, shown, completion.raw.float(), batch.mask, test.face_box)
                for name, function in ready.items():
                    run.columns[name][start] = function(pictures).double().cpu().numpy()
                run.collector.add(start, pictures)
                run.identical[start] = (shown == truth).flatten(1).all(1).cpu().numpy()
            if number < KEPT_SAMPLES:
                chosen = [place for place in range(len(batch)) if start + place in pool]
                run.kept |= {start + p: shown[p].permute(1, 2, 0).cpu().numpy() for p in chosen}
            drawn.append(shown)
        inside[start] = share_inside(truth, torch.stack(drawn), batch.mask).cpu().numpy()
        if isinstance(diversity, dict):
            diversity[start] = lpips_between_samples(drawn, batch.mask).cpu().numpy()
        on_progress(min(start + EVALUATION_BATCH, total), total)
    # Batches are dealt out to processes, and joined in the order of images.
    for gathered, gathered_inside, gathered_diversity in group.all_gather(
        ([run.parts() for run in runs], inside, diversity)
    ):
        for run, parts in zip(runs, gathered, strict=True):
            run.merge(parts)
        inside.update(gathered_inside)
        if isinstance(diversity, dict) and isinstance(gathered_diversity, dict):
            diversity.update(gathered_diversity)
    kept = np.stack([[run.kept[place] for run in runs[:KEPT_SAMPLES]] for place in sorted(runs[0].kept)])
    result = EvaluationResult(
        rows=pd.concat([_rows(run, number, test) for number, run in enumerate(runs)], ignore_index=True),
        pictures=kept[:, 0],
        seconds=sum(run.seconds for run in runs),
        sets=_mean_scores([run.collector.scores(cluster_people(test.images)) for run in runs]),
    )
    spread = SampleSpread(
        diversity if isinstance(diversity, str) else _in_order(diversity), _in_order(inside), kept
    )
    return result, spread


def _rows(run: _Sample, number: int, test: TestSet) -> pd.DataFrame:
    count = len(test.images.ids)
    return pd.DataFrame(
        {
            "sample": number,
            "image_id": test.images.ids,
            "identity": identities_of(test.images),
            "hole_ratio": test.masks.reshape(count, -1).mean(axis=1),
            **{name: _in_order(parts) for name, parts in run.columns.items()},
            "identical": _in_order(run.identical),
        }
    )


def _mean_scores(of_samples: Sequence[dict[str, SetScore]]) -> dict[str, SetScore]:
    """Average the scores of the samples; the images are the same, so the intervals do not shrink with their number."""
    return {
        name: SetScore(
            *(
                float(np.mean([getattr(found[name], part) for found in of_samples]))
                for part in ("value", "low", "high")
            )
        )
        for name in of_samples[0]
    }


def _in_order(parts: dict[int, NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate([parts[start] for start in sorted(parts)])
