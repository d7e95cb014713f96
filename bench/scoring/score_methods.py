"""Methods that are Python functions or folders, scored on the suite's images and masks (``bench.score``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

import masks.registry
from bench.config import RunConfig
from bench.data import DataSpec, ImageSet, open_data
from bench.errors import UsageError
from bench.evaluation.evaluator import EVALUATION_BATCH, identities_of, sample_subset
from bench.evaluation.image_batch import ImageBatch
from bench.evaluation.metrics import ImageFunction, expand_metrics, prepare_metrics
from bench.runner.callbacks import RunCallbacks
from bench.runner.prepare import evaluated_images, pairing_rule
from bench.scoring.external_images import as_result_rows, score_images
from bench.training.device import select_device

CompletionFunction = Callable[[NDArray[np.uint8], NDArray[np.bool_]], NDArray[Any]]


@dataclass(frozen=True)
class ScoringTask:
    """The images of one mask that a method is scored on.

    Attributes:
        mask: its name.
        images: the test images.
        holes: ``(N, H, W)`` uint8, 1 = hole.
        metrics: name -> function.
        device: where metrics are computed.
    """

    mask: str
    images: ImageSet
    holes: NDArray[np.uint8]
    metrics: dict[str, ImageFunction]
    device: torch.device


def score_function(
    function: CompletionFunction,
    mask_names: Sequence[str],
    config: RunConfig,
    *,
    data: str,
    label: str,
    metrics: Sequence[str],
    device: str,
    callbacks: RunCallbacks,
) -> pd.DataFrame:
    """Score ``function`` on every mask; rows in the schema of ``docs/results-schema.md``.

    Raises:
        UsageError: it returns something else than an image of the same size.
    """
    tables = []
    for task in _tasks(mask_names, config, data, metrics, device, callbacks):
        count = len(task.images)
        parts = []
        for start in range(0, count, EVALUATION_BATCH):
            places = range(start, min(start + EVALUATION_BATCH, count))
            # In the batches of an evaluation, since their size can change the last bit of a metric on a GPU.
            truth = np.asarray(task.images.pixels[start : start + EVALUATION_BATCH])
            holes = task.holes[start : start + EVALUATION_BATCH].astype(bool)
            completed = np.stack(
                [
                    _call(function, image, hole, task.images.ids[place])
                    for place, image, hole in zip(places, truth, holes, strict=True)
                ]
            )
            parts.append(_measure(task, truth, completed, holes))
            callbacks.evaluating(label, task.mask, places.stop, count)
        columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        rows = pd.DataFrame(
            {
                "image_id": task.images.ids,
                "identity": identities_of(task.images),
                "hole_ratio": task.holes.reshape(count, -1).mean(axis=1),
                **columns,
            }
        )
        tables.append(as_result_rows(rows, label=label, mask=task.mask, size=config.size))
    return pd.concat(tables, ignore_index=True)


def score_folder(
    folder: Path,
    mask_names: Sequence[str],
    config: RunConfig,
    *,
    data: str,
    label: str,
    metrics: Sequence[str],
    device: str,
    callbacks: RunCallbacks,
) -> pd.DataFrame:
    """Score the images of ``folder``, completed on one mask by any program.

    Raises:
        UsageError: several masks, or no image that can be scored.
    """
    if len(mask_names) != 1:
        raise UsageError(f"{folder}: a folder holds completions of one mask; {len(mask_names)} were given")
    # Checked first: a folder has no way to say which of several masks it was completed on.
    (task,) = _tasks(mask_names, config, data, metrics, device, callbacks)
    scored = score_images(folder, task.images, task.holes, task.metrics, task.device)
    for sentence in scored.findings.sentences():
        callbacks.warn(sentence)
    return as_result_rows(scored.rows, label=label, mask=task.mask, size=config.size)


def _tasks(
    mask_names: Sequence[str],
    config: RunConfig,
    data: str,
    metrics: Sequence[str],
    device: str,
    callbacks: RunCallbacks,
) -> Iterator[ScoringTask]:
    spec = DataSpec(source=data, size=config.size, crop=config.crop, split=config.split)
    dataset = open_data(spec, progress=callbacks.preparing)
    for note in dataset.warnings:
        callbacks.warn(note)
    # The test images of a run with the same settings.
    images = sample_subset(evaluated_images(dataset, config.evaluate_on), config.test_images)
    where = select_device(device).device
    ready, unavailable = prepare_metrics(expand_metrics(("primary", *metrics)), where, dataset.face_box)
    for name, reason in unavailable.items():
        callbacks.warn(f"{name} is not available: {reason}")
    for mask in mask_names:
        if rule := pairing_rule(mask, images, dataset):
            callbacks.note(rule)
        yield ScoringTask(
            mask, images, masks.registry.draw_masks(mask, images.ids, config.size), ready, where
        )


def _call(
    function: CompletionFunction, truth: NDArray[np.uint8], hole: NDArray[np.bool_], image_id: str
) -> NDArray[np.uint8]:
    """Complete one image; the function never sees what lies under the hole."""
    image = np.where(hole[..., None], np.uint8(0), truth)
    # A copy, so that a function that writes into its mask cannot change what is scored.
    completed = np.asarray(function(image, hole.copy()))
    # Nothing is converted: a float image could be meant as [0, 1] or as levels.
    if completed.shape != truth.shape or completed.dtype != np.uint8:
        raise UsageError(
            f"{image_id}: the function returned {completed.dtype} of shape {completed.shape}; "
            f"it must return uint8 of shape {truth.shape}, as it was given"
        )
    return completed


def _measure(
    task: ScoringTask, truth: NDArray[np.uint8], completed: NDArray[np.uint8], holes: NDArray[np.bool_]
) -> dict[str, NDArray[Any]]:
    """Compute the metric columns of a batch; known pixels come from the truth, as for every other method."""
    composite = np.where(holes[..., None], completed, truth)

    def tensor(images: NDArray[np.uint8]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(images)).to(task.device).permute(0, 3, 1, 2)

    batch = ImageBatch(
        truth=tensor(truth),
        composite=tensor(composite),
        raw=tensor(completed).float() / 255,
        mask=torch.from_numpy(holes).to(task.device).unsqueeze(1).float(),
    )
    with torch.inference_mode():
        columns = {name: f(batch).double().cpu().numpy() for name, f in task.metrics.items()}
    return {**columns, "identical": (composite == truth).all(axis=(1, 2, 3))}
