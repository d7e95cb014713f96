"""Fit training-free baselines that are computed from the training images."""

from __future__ import annotations

import contextlib
from typing import Any

import masks.registry
from bench.runner.context import RunContext
from bench.runner.plan import TrainingPlan, train_mask_names
from bench.runner.run_folder import read_checked_json, write_checked_json
from models.base import FitData, InpaintingModel


def fit_baseline(model: InpaintingModel, plan: TrainingPlan, context: RunContext) -> dict[str, Any]:
    """Fit ``model`` to the training split; return what it chose on the validation split.

    The choice is stored as ``fits/FIT.json`` under the key of the plan, like a training, and is not made again. The
    fit itself is repeated in each process: it takes seconds, and its result may be larger than the images.

    Args:
        model: a model with ``needs_fit``.
        plan: its configuration; ``train_mask`` is the mask that is evaluated.
        context: the run.
    """
    data, compute = context.data, context.compute
    path = context.store.folder / "fits" / f"{plan.slug}-{plan.key[:12]}.json"
    # Made once: with other versions of a library a close choice might tip over, and rows of one cell would
    # differ.
    chosen = None
    with contextlib.suppress(OSError, ValueError):  # never fitted, or damaged: choose again
        stored = read_checked_json(path)
        chosen = stored["chosen"] if stored.get("key") == plan.key else None
    # A baseline is fitted for the mask that it is evaluated on, so there is one name.
    (mask,) = train_mask_names(plan.train_mask)
    record = model.fit(
        FitData(
            images=data.train.pixels[: context.request.settings.train_images],
            validation=data.validation.pixels,
            validation_masks=masks.registry.draw_validation_masks(mask, data.validation.ids, data.size),
            device=compute.device,
        ),
        chosen,
    )
    # After the fit, so that a file on disk always stands for a fit that came to its end.
    if chosen is None and compute.process_group.is_main:
        write_checked_json(path, {"key": plan.key, "where": [context.where], "chosen": record})
    return record
