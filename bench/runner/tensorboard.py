"""``--tensorboard``: every line of ``train.jsonl`` as curves, and sample pictures, for TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.errors import UsageError
from bench.training.train_log import TrainLog


class TensorBoardLog(TrainLog):
    """``train.jsonl`` that is told to TensorBoard as well, in the folder ``tensorboard`` beside it.

    Raises:
        UsageError: the package ``tensorboard`` is not installed.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UsageError(
                "--tensorboard needs the package tensorboard: pip install 'inpaint-bench[tensorboard]'"
            ) from error
        self._open = SummaryWriter
        self._writer: Any = None

    def rewind(self, step: int) -> None:
        """Drop later lines; TensorBoard hides the curves' later points."""
        super().rewind(step)
        self._writer = self._open(str(self.path.parent / "tensorboard"), purge_step=step + 1)

    def write(self, line: dict[str, Any]) -> None:
        """Append one line; its numbers are scalars at its step."""
        super().write(line)
        for kind in ("terms", "validation"):
            for name, value in line.get(kind, {}).items():
                self._writer.add_scalar(
                    name if kind == "terms" else f"validation/{name}", value, line["step"]
                )
        self._writer.flush()

    def picture(self, sheet: NDArray[np.uint8], step: int) -> None:
        """Show a sheet of samples ``(H, W, 3)``."""
        self._writer.add_image("samples", sheet, step, dataformats="HWC")
        self._writer.flush()
