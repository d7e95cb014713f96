"""``--tensorboard``: losses, validations and sample images as TensorBoard event files, a folder a training.

A callback like any other (:mod:`bench.runner.callbacks`), and an example of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.errors import UsageError
from bench.runner.callbacks import RunCallbacks


class TensorBoardCallbacks(RunCallbacks):
    """Writes what ``train.jsonl`` records to the folder ``tensorboard`` beside it.

    Raises:
        UsageError: the package ``tensorboard`` is not installed.
    """

    def __init__(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UsageError(
                "--tensorboard needs the package tensorboard: pip install 'inpaint-bench[tensorboard]'"
            ) from error
        self._open = SummaryWriter
        self._writers: dict[str, Any] = {}

    def training_opened(self, label: str, folder: Path, step: int) -> None:
        """Open the event file; TensorBoard hides points after the resumed step."""
        # A resumed training repeats the steps after its checkpoint, whose points would show twice.
        self._writers[label] = self._open(str(folder / "tensorboard"), purge_step=step + 1)

    def training_logged(self, label: str, line: Mapping[str, Any]) -> None:
        """Add a line's numbers as scalars at its step."""
        for kind in ("terms", "validation"):
            for name, value in line.get(kind, {}).items():
                tag = name if kind == "terms" else f"validation/{name}"
                self._writers[label].add_scalar(tag, value, line["step"])
        # Flushed per report: whoever watches sees it now, and a killed run loses none.
        self._writers[label].flush()

    def samples_drawn(self, label: str, step: int, grid: NDArray[np.uint8]) -> None:
        """Show the grid of samples."""
        self._writers[label].add_image("samples", grid, step, dataformats="HWC")
        self._writers[label].flush()

    def training_done(self, label: str, seconds: float) -> None:
        """Close the event file."""
        self._writers.pop(label).close()
