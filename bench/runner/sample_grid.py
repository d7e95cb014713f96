"""``--samples STEPS``: the same held-out images, completed every so often during a training, as one grid each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import masks.registry
from bench.data import Dataset
from bench.evaluation import evaluator
from bench.runner.run_folder import atomic_write
from bench.training.device import Compute
from models.base import InpaintingModel

#: Images of a sheet, chosen by seed.
COUNT = 8
_HOLE_GRAY = 128


class SampleGrid:
    """Draws ``samples/step-000000100.png``: a row of masked images, one of completions, one of originals.

    Args:
        model: in training; called in evaluation mode.
        data: its validation images are shown, or its test images where there are none.
        mask: name of the masks.
        compute: device and precision.
        folder: of the training.
    """

    def __init__(
        self, model: InpaintingModel, data: Dataset, mask: str, compute: Compute, folder: Path
    ) -> None:
        # Held-out images, so that the grid shows what the model has learned and not what it has seen.
        held_out = data.validation if data.validation.ids else data.test
        images = evaluator.sample_subset(held_out, COUNT)
        drawn = masks.registry.draw_validation_masks(mask, images.ids, data.size)
        self._test = evaluator.TestSet(images, drawn, np.arange(len(images.ids)))
        self._model, self._compute, self._folder = model, compute, folder / "samples"

    def __call__(self, step: int) -> NDArray[np.uint8]:
        """Complete, write and return the grid after ``step`` steps, ``(3 * S, N * S, 3)``."""
        truth = np.array(self._test.images.pixels)
        # Without metrics: only the pictures are wanted. All processes take part, since evaluation is shared.
        completed = evaluator.evaluate_model(self._model, self._test, self._compute, {}).pictures
        masked = np.where(self._test.masks[..., None] > 0, np.uint8(_HOLE_GRAY), truth)
        sheet: NDArray[np.uint8] = np.concatenate(
            [np.concatenate(list(row), axis=1) for row in (masked, completed, truth)], axis=0
        )
        path = self._folder / f"step-{step:09d}.png"
        if self._compute.process_group.is_main:
            atomic_write(path, lambda temporary: Image.fromarray(sheet).save(temporary, format="PNG"))
        return sheet
