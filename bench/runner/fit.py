"""Fit training-free baselines that are computed from the training images."""

from __future__ import annotations

import json
from typing import Any

import masks.registry
from bench.data import Dataset
from bench.runner.plan import TrainingPlan, train_mask_names
from bench.runner.run_folder import RunFolder, write_json
from bench.training.device import Compute
from models.base import FitData, InpaintingModel


def fit_baseline(
    model: InpaintingModel,
    plan: TrainingPlan,
    train_images: int | None,
    data: Dataset,
    compute: Compute,
    store: RunFolder,
) -> dict[str, Any]:
    """Fit ``model`` to the training split; return what it chose on the validation split.

    The choice is stored as ``fits/FIT.json`` under the key of the plan, like a training, and is not made again. The
    fit itself is repeated in each process: it takes seconds, and its result may be larger than the images.

    Args:
        model: a model with ``needs_fit``.
        plan: its configuration; ``train_mask`` is the mask that is evaluated.
        train_images: use only the first ``train_images`` training images (``None``: all).
        data: the images.
        compute: device and process group.
        store: the experiment's folder.
    """
    path = store.folder / "fits" / f"{plan.slug}-{plan.key[:12]}.json"
    chosen = None
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        if stored["key"] == plan.key:
            chosen = stored["chosen"]
    except (OSError, ValueError, KeyError, TypeError):
        pass  # never fitted, or damaged: choose again
    (mask,) = train_mask_names(plan.train_mask)
    record = model.fit(
        FitData(
            images=data.train.pixels[:train_images],
            validation=data.validation.pixels,
            validation_masks=masks.registry.draw_masks(mask, data.validation.ids, data.size),
            device=compute.device,
        ),
        chosen,
    )
    if chosen is None and compute.process_group.is_main:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"key": plan.key, "chosen": record})
    return record
