"""Baselines that are computed from training images, fitted anew for holes that nobody knows beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

import masks.registry
from bench.data import Dataset
from bench.inpainting.tiling import ImageCompleter
from bench.training.device import Compute
from models import discovery
from models.base import Batch, FitData, InpaintingModel, Task
from models.pretrained import restore_fields
from models.registry import ModelEntry
from reports.results.experiment import Experiment

#: Computed from the mean of the training split, which the task carries.
_OF_THE_MEAN = ("mean", "mean-image")


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
    """
    found: dict[str, ImageCompleter] = {}
    known = discovery.find_models()
    for cell in experiment.done():
        if cell.get("training") or cell["label"] in found or cell["model"] not in known:
            continue
        entry = discovery.load_model(cell["model"])
        if entry.model.needs_fit or cell["model"] in _OF_THE_MEAN:
            model = _fit(entry, cell, experiment, data, compute)
            found[cell["label"]] = ImageCompleter(_completion(model), data.size, None, compute)
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
                validation_masks=masks.registry.draw_masks(cell["mask"], data.validation.ids, data.size),
                device=compute.device,
            )
        )
    return model


def _completion(model: InpaintingModel) -> Any:
    def complete(image: Tensor, mask: Tensor) -> Tensor:
        batch = Batch(image, mask, torch.arange(len(image)), 0, torch.Generator())
        return model.complete(batch).composite

    return complete
