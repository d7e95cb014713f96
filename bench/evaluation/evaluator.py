"""Evaluation: every model on the same held-out images and masks, one row per image.

The batch size is fixed: it can change the last bit of a bf16 convolution, and no option may change the numbers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from bench.config import json_digest
from bench.data import ImageSet
from bench.data.dataset import UNKNOWN
from bench.evaluation.feature_sets import FeatureCollector, SetScore
from bench.evaluation.image_batch import FaceBox, ImageBatch, to_uint8
from bench.evaluation.metrics import DistributionMetric, prepare_metrics
from bench.training.data_loader import seeded_permutation
from bench.training.device import Compute
from models.base import Batch, InpaintingModel

EVALUATION_BATCH = 32
PICTURE_POOL = 48


@dataclass(frozen=True)
class TestSet:
    """Images to evaluate, their masks, and the positions of those whose completions are kept.

    Attributes:
        images: the held-out images.
        masks: ``(N, H, W)`` uint8, 1 = hole, by image.
        pool: positions of the images whose completions are kept, drawn by seed before any metric is known.
        truths: features of the images for metrics of sets, filled by the first evaluation.
        face_box: where the images' faces lie, where they are aligned (:attr:`bench.data.Dataset.face_box`).
    """

    __test__ = False  # not a test class, whatever its name begins with

    images: ImageSet
    masks: NDArray[np.uint8]
    pool: NDArray[np.int64]
    truths: dict[str, torch.Tensor] = field(default_factory=dict, repr=False)
    face_box: FaceBox | None = None


@dataclass(frozen=True)
class EvaluationResult:
    """The result of an evaluation.

    Attributes:
        rows: per-image metric columns.
        pictures: ``(P, H, W, 3)`` uint8, the kept completions in the pool's order.
        seconds: time that the model took to complete the images.
        sets: metric of sets -> its number over all images.
    """

    rows: pd.DataFrame
    pictures: NDArray[np.uint8]
    seconds: float
    sets: dict[str, SetScore]


def sample_subset(images: ImageSet, count: int | None, seed: int = 0) -> ImageSet:
    """Choose ``count`` images by seed and keep their order; ``None`` keeps all.

    Examples:
        >>> images = ImageSet([f"{i}.png" for i in range(9)], np.zeros((9, 4, 4, 3), np.uint8))
        >>> len(sample_subset(images, 3)), len(sample_subset(images, None))
        (3, 9)
    """
    if count is None or count >= len(images.ids):
        return images
    # Sorted, so that the subset keeps the order of the whole and its pixels are read in one direction.
    chosen = np.sort(seeded_permutation(len(images.ids), "test images", seed)[:count])
    identities = None if images.identities is None else images.identities[chosen]
    return ImageSet([images.ids[i] for i in chosen], images.pixels[chosen], identities)


def identities_of(images: ImageSet) -> pd.arrays.IntegerArray:
    """Return the people shown as results tables hold them: Int64, missing where unknown."""
    who = np.full(len(images), UNKNOWN) if images.identities is None else images.identities
    return pd.arrays.IntegerArray(who.astype(np.int64), who == UNKNOWN)


def people_digest(images: ImageSet) -> str | None:
    """Return a digest of who is shown in each image, over which intervals are; ``None`` where nobody is known."""
    people = images.identities
    return None if people is None or (people == UNKNOWN).all() else json_digest([int(who) for who in people])


def image_sample(count: int, seed: int = 0) -> NDArray[np.int64]:
    """Draw the positions of at most :data:`PICTURE_POOL` images among ``count``.

    Examples:
        >>> image_sample(4).tolist(), len(image_sample(1000))
        ([0, 1, 2, 3], 48)
    """
    return np.sort(seeded_permutation(count, "pictures", seed)[:PICTURE_POOL])


def evaluate_model(
    model: InpaintingModel,
    test: TestSet,
    compute: Compute,
    ready: dict[str, Callable[[ImageBatch], torch.Tensor]],
    *,
    sets: Sequence[DistributionMetric] = (),
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> EvaluationResult:
    """Complete and score every image of ``test``.

    Args:
        model: on the device; put into evaluation mode here.
        test: images and masks.
        compute: device and precision.
        ready: metric name -> function, from :func:`bench.evaluation.metrics.prepare_metrics`.
        sets: metrics of sets, from :func:`bench.evaluation.metrics.prepare_distribution_metrics`.
        on_progress: called with (images done, images in total).
    """
    # Running statistics of batch normalization: an image's completion must not depend on its neighbors in the
    # batch.
    model.networks.eval()
    # By position of the batch's first image: several processes fill them in turns, and they are joined in
    # order.
    columns: dict[str, dict[int, NDArray[np.float64]]] = {name: {} for name in ready}
    identical: dict[int, NDArray[np.bool_]] = {}
    kept: dict[int, NDArray[np.uint8]] = {}
    count, seconds = len(test.images.ids), 0.0
    pool = set(test.pool.tolist())
    collector, process_group = FeatureCollector(sets, compute.device, test.truths), compute.process_group
    for start in range(
        process_group.rank * EVALUATION_BATCH, count, process_group.world_size * EVALUATION_BATCH
    ):
        batch, truth = evaluation_batch(test.images, test.masks, start, compute.device)
        compute.mark_step_begin()
        began = time.perf_counter()
        with torch.inference_mode(), compute.autocast():
            completion = model.complete(batch)
        # Kernels run on after the call has returned; without this, the time would be that of launching them.
        if compute.device.type == "cuda":
            torch.cuda.synchronize(compute.device)
        seconds += time.perf_counter() - began
        with torch.inference_mode():
            # Outside of autocast: rounding to levels, and every metric, is done in float32 or float64.
            shown = to_uint8(completion.composite)
            pictures = ImageBatch(
                truth=truth,
                composite=shown,
                raw=completion.raw.float(),
                mask=batch.mask,
                face_box=test.face_box,
            )
            for name, function in ready.items():
                # On the CPU at once: results of a whole test set would take memory that the model needs.
                columns[name][start] = function(pictures).double().cpu().numpy()
            collector.add(start, pictures)
            identical[start] = (shown == truth).flatten(1).all(1).cpu().numpy()
        for offset in range(len(batch)):
            if start + offset in pool:
                kept[start + offset] = shown[offset].permute(1, 2, 0).cpu().numpy()
        on_progress(min(start + EVALUATION_BATCH, count), count)
    # Batches are the same as in one process, dealt out to several, so the numbers are the same too.
    for other in process_group.all_gather((columns, identical, kept, seconds, collector.features)):
        for name, parts in other[0].items():
            columns[name].update(parts)
        identical.update(other[1])
        kept.update(other[2])
        # Processes work side by side, so the slowest one is the time that it took.
        seconds = max(seconds, other[3])
        collector.merge(other[4])
    frame = {name: _in_order(parts) for name, parts in columns.items()}
    rows = pd.DataFrame(
        {
            "image_id": test.images.ids,
            "identity": identities_of(test.images),
            "hole_ratio": test.masks.reshape(count, -1).mean(axis=1),
            **frame,
            "identical": _in_order(identical),
        }
    )
    return EvaluationResult(
        rows,
        np.stack([kept[i] for i in sorted(kept)]),
        seconds,
        collector.scores(cluster_people(test.images)),
    )


def cluster_people(images: ImageSet) -> torch.Tensor | None:
    """Give each person of the images a number, and each unknown one another; ``None`` where none is known."""
    if images.identities is None:
        return None
    who = torch.from_numpy(np.asarray(images.identities, dtype=np.int64).copy())
    unknown = who == UNKNOWN
    # Below every known number, and each another.
    # Taken together, all unknown images would count as one person.
    who[unknown] = who.min() - 1 - torch.arange(int(unknown.sum()))
    return who


def _in_order(parts: dict[int, NDArray[Any]]) -> NDArray[Any]:
    """Join what the batches gave in the order of their first images."""
    return np.concatenate([parts[start] for start in sorted(parts)])


def evaluation_batch(
    images: ImageSet, masks: NDArray[np.uint8], start: int, device: torch.device
) -> tuple[Batch, torch.Tensor]:
    """Build the evaluation batch from position ``start``, and its truth as uint8 ``(N, 3, H, W)``."""
    stop = min(start + EVALUATION_BATCH, len(images.ids))
    # Copied: a memory map is read-only, which torch warns about.
    raw = torch.from_numpy(np.array(images.pixels[start:stop])).to(device)
    truth = raw.permute(0, 3, 1, 2)
    mask = torch.from_numpy(np.array(masks[start:stop])).to(device).unsqueeze(1).float()
    # A model that draws while it completes gets the same numbers for every cell.
    generator = torch.Generator().manual_seed(0)
    batch = Batch(
        truth.float().div(255),
        mask,
        torch.arange(start, stop),
        0,
        generator,
        image_ids=tuple(images.ids[start:stop]),
    )
    return batch, truth


def validation_score(
    model: InpaintingModel,
    images: ImageSet,
    masks: NDArray[np.uint8],
    compute: Compute,
    metrics: Sequence[str],
) -> dict[str, float]:
    """Average metrics over a few held-out images for the training log; nothing is chosen by them."""
    # The metrics were prepared before the training, so this finds them loaded.
    ready, _ = prepare_metrics(metrics, compute.device)
    # Not empty, since pictures are stacked; nobody looks at it.
    rows = evaluate_model(model, TestSet(images, masks, np.arange(1)), compute, ready).rows
    return {name: float(rows[name].mean()) for name in metrics}
