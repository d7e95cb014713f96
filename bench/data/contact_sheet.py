"""A contact sheet: some pictures of each split on one PNG."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from bench.data.dataset import Dataset
from reports.results.atomic_io import atomic_write

_GAP, _LABEL = 4, 16


def contact_sheet(dataset: Dataset, path: Path, *, columns: int = 12, rows: int = 3) -> None:
    """Write up to ``columns * rows`` pictures of each split, evenly spaced over it.

    Raises:
        OSError: the file cannot be written.
    """
    cell = dataset.size + _GAP
    splits = [
        (name, images)
        for name, images in (
            ("training", dataset.train),
            ("validation", dataset.validation),
            ("test", dataset.test),
        )
        if len(images)
    ]
    sheet = Image.new("RGB", (columns * cell + _GAP, len(splits) * (rows * cell + _LABEL) + _GAP), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (name, images) in enumerate(splits):
        top = number * (rows * cell + _LABEL)
        pen.text((_GAP, top + 2), f"{name}: {len(images):,}", fill="black")
        # Evenly spaced, since neighbors in many data sets are of one person or one scene.
        chosen = np.linspace(0, len(images) - 1, min(columns * rows, len(images))).astype(int)
        for place, index in enumerate(chosen):
            row, column = divmod(place, columns)
            at = (_GAP + column * cell, top + _LABEL + row * cell)
            sheet.paste(Image.fromarray(np.ascontiguousarray(images.pixels[index])), at)
    atomic_write(path, lambda temporary: sheet.save(temporary, format="PNG"))
