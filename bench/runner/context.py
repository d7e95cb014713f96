"""What every part of a run shares."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bench import provenance
from bench.config import Request
from bench.data import Dataset
from bench.runner.callbacks import RunCallbacks
from bench.runner.run_folder import RunFolder
from bench.training.device import Compute


@dataclass(frozen=True)
class RunContext:
    """One run: the request, its data, where it is computed and stored, and the callbacks of whoever watches it.

    Attributes:
        request: with ``--batch auto`` resolved to a number.
        data: the open data set.
        compute: device, precision and process group.
        store: the experiment's folder.
        callbacks: of whoever watches the run.
        elsewhere: this process plans and watches only; other machines compute, each with the device it has.
    """

    request: Request
    data: Dataset
    compute: Compute
    store: RunFolder
    callbacks: RunCallbacks
    elsewhere: bool = False

    @property
    def precision(self) -> str:
        """``--precision``, resolved where this process computes; ``auto`` on a head, which cannot know."""
        return self.request.settings.precision if self.elsewhere else self.compute.precision

    @cached_property
    def where(self) -> dict[str, Any]:
        """What of the machine and its libraries can change a number's last bits (see :mod:`bench.runner.keys`)."""
        return provenance.numerics(self.compute.numerics())
