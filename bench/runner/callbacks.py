"""What a run tells whoever watches it. The base class says nothing; the command line overrides it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.runner.estimate import RunEstimate
    from bench.training.metric_logger import Progress


class RunCallbacks:
    """All methods may be overridden; none may change what is computed."""

    def note(self, text: str) -> None:
        """A sentence for the user."""

    def warn(self, text: str) -> None:
        """Something was passed over or went wrong without ending the run."""

    def preparing(self, what: str, done: int, of: int) -> None:
        """Data are being packed or drawn."""

    def planned(self, trainings: int, cells: int, cached: int, estimate: RunEstimate | None) -> None:
        """The plan stands: how much there is to do, and about how long it takes (``None``: unknown)."""

    def training_started(self, label: str, index: int, of: int, num_steps: int) -> None:
        """A training starts or goes on."""

    def training_step(self, label: str, step: int, num_steps: int) -> None:
        """``step`` steps are done; called first where a training starts or resumes, then after each step."""

    def training_progress(self, label: str, progress: Progress) -> None:
        """Losses were read."""

    def training_done(self, label: str, seconds: float) -> None:
        """A training ended."""

    def evaluating(self, label: str, mask: str, done: int, of: int) -> None:
        """Images were completed and scored."""

    def cell_done(self, label: str, mask: str, means: dict[str, float]) -> None:
        """A cell is finished; its means over the test images."""

    def cell_failed(self, label: str, mask: str, reason: str) -> None:
        """A cell failed and was recorded; the others go on."""
