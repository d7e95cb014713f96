"""Baselines that are computed from training images, fitted anew for holes that nobody knows beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch

import masks.registry
from bench.data import Dataset
from bench.errors import BenchError
from bench.inpainting.model_source import NEED_DATA, complete_with
from bench.inpainting.tiling import ImageCompleter
from bench.training.device import Compute
from models import discovery
from models.base import FitData, InpaintingModel, Task
from models.errors import ModelError
from models.pretrained import restore_fields
from models.registry import ModelEntry
from reports.results.experiment import Experiment


def fit_baselines(experiment: Experiment, data: Dataset, compute: Compute) -> dict[str, ImageCompleter]:
    """Fit the baselines of an experiment that training images decide, each with its own configuration.

    A fit for one known hole cannot complete another, so that ``linear`` is solved for changing holes, whatever mask
    the experiment has. ``lambda`` is chosen on validation images with the experiment's first mask.

    Args:
        experiment: whose baselines; those that look at one image alone, and programs of other authors, are left out.
        data: what the experiment was run on.
        compute: device and precision.

    Returns:
        Label -> what completes squares of the experiment's size, in the experiment's order.

    Raises:
        BenchError: one cannot be fitted, or its configuration is of a version that is not known.
    """
    found: dict[str, ImageCompleter] = {}
    known = discovery.find_models()
    for cell in experiment.done():
        if cell.get("training") or cell["label"] in found or cell["model"] not in known:
            continue
        entry = discovery.load_model(cell["model"])
        if entry.model.needs_fit or cell["model"] in NEED_DATA:
            try:
                model = _fit(entry, cell, experiment, data, compute)
            except (ModelError, TypeError, ValueError) as error:
                raise BenchError(f"{experiment.name}: {cell['label']}: {error}") from error
            found[cell["label"]] = ImageCompleter(partial(complete_with, model), data.size, None, compute)
    return found


def _fit(
    entry: ModelEntry, cell: Mapping[str, Any], experiment: Experiment, data: Dataset, compute: Compute
) -> InpaintingModel:
    mean_image = torch.from_numpy(np.ascontiguousarray(data.mean_image.transpose(2, 0, 1))).float()
    task = Task(
        size=data.size,
        mean_pixel=tuple(float(v) for v in data.mean_pixel),  # type: ignore[arg-type]
        mean_image=mean_image,
    )
    model: InpaintingModel = entry.model(entry.model.Config(**restore_fields(cell["config"])), task)
    if entry.model.needs_fit:
        model.fit(
            FitData(
                images=data.train.pixels[: experiment.manifest["settings"].get("train_images")],
                validation=data.validation.pixels,
                validation_masks=masks.registry.draw_validation_masks(
                    cell["mask"], data.validation.ids, data.size
                ),
                device=compute.device,
            )
        )
    return model
