"""What a run reports while it runs, and callbacks that installed packages bring (group ``inpaint_bench.callbacks``).

The base class does nothing. The command line overrides it to print; :mod:`bench.runner.tensorboard` to write event
files; a package can bring another tracker by an entry point, chosen with ``bench run --callback NAME``.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bench.errors import BenchError, UsageError

if TYPE_CHECKING:
    from bench.training.metric_logger import Progress

ENTRY_POINT_GROUP = "inpaint_bench.callbacks"
#: Callbacks of this package, by name; others come from entry points.
BUILT_IN = {"tensorboard": "bench.runner.tensorboard:TensorBoardCallbacks"}


@dataclass(frozen=True)
class RunEstimate:
    """Seconds that the parts of a run are foreseen to take.

    Attributes:
        trainings: each training, in the order in which they run.
        evaluations: each cell that is not done.
        overhead: what comes once: pictures, manifest and report.

    Examples:
        >>> RunEstimate(trainings=(60.0, 30.0), evaluations=(5.0,), overhead=4.0).seconds
        99.0
    """

    trainings: tuple[float, ...]
    evaluations: tuple[float, ...]
    overhead: float

    @property
    def seconds(self) -> float:
        """Seconds of the whole run."""
        return sum(self.trainings) + sum(self.evaluations) + self.overhead


class RunCallbacks:
    """All methods may be overridden; none may change what is computed."""

    def run_started(self, experiment: str, folder: Path, settings: Mapping[str, Any]) -> None:
        """Handle the start of a run, whose folder is open; ``settings`` are the resolved options of ``bench run``."""

    def run_finished(self, failed: int) -> None:
        """Handle the end of a run: every cell is done or ``failed``. Not called when the run is interrupted."""

    def note(self, text: str) -> None:
        """Show a sentence to the user."""

    def warn(self, text: str) -> None:
        """Show a non-fatal problem."""

    def preparing(self, what: str, done: int, of: int) -> None:
        """Show how far data are packed or drawn."""

    def planned(self, trainings: int, cells: int, cached: int, estimate: RunEstimate | None) -> None:
        """Handle the plan: how much there is to do, and about how long it takes (``None``: unknown)."""

    def training_started(self, label: str, index: int, of: int, num_steps: int) -> None:
        """Handle a training that starts or resumes."""

    def training_opened(self, label: str, folder: Path, step: int) -> None:
        """Handle a training's log that was opened; entries after ``step`` (-1: all) of an earlier attempt are void."""

    def training_step(self, label: str, step: int, num_steps: int) -> None:
        """Handle a step: ``step`` are done; called first where a training starts or resumes, then after each step."""

    def training_progress(self, label: str, progress: Progress) -> None:
        """Handle losses that were read."""

    def training_logged(self, label: str, line: Mapping[str, Any]) -> None:
        """Handle a line added to ``train.jsonl``: ``step`` with ``terms`` (losses), ``validation`` or ``event``."""

    def samples_drawn(self, label: str, step: int, grid: NDArray[np.uint8]) -> None:
        """Handle sample completions that were drawn (``--samples``), ``(H, W, 3)``."""

    def training_done(self, label: str, seconds: float) -> None:
        """Handle the end of a training."""

    def evaluating(self, label: str, mask: str, done: int, of: int) -> None:
        """Show how many images were completed and scored."""

    def cell_done(self, label: str, mask: str, means: dict[str, float]) -> None:
        """Handle a finished cell; its means over the test images."""

    def cell_failed(self, label: str, mask: str, reason: str) -> None:
        """Handle a cell that failed and was recorded; the others continue."""


class CallbackGroup(RunCallbacks):
    """Passes every event to several callbacks; one that raises is dropped with a warning, and the run continues.

    Errors that a user can act on (:class:`bench.errors.BenchError`) do end the run.
    """

    def __init__(self, members: Iterable[RunCallbacks]) -> None:
        self.members = list(members)

    def _pass_on(self, event: str, arguments: tuple[Any, ...]) -> None:
        # A copy, since a member that fails is removed on the way.
        for member in list(self.members):
            try:
                getattr(member, event)(*arguments)
            except BenchError:
                raise
            except Exception as error:
                self.members.remove(member)
                # The warning goes through the group as well, without the member that is gone, so this ends.
                self.warn(
                    f"{type(member).__name__}.{event} failed and is left out: {type(error).__name__}: {error}"
                )


class ProtectedCallbacks(RunCallbacks):
    """Calls another's methods, and ignores that those cannot write: a terminal that is closed ends no training.

    Args:
        callbacks: of whoever watches the run.
    """

    def __init__(self, callbacks: RunCallbacks) -> None:
        self._callbacks = callbacks

    def __getattribute__(self, name: str) -> Any:
        """Return the other's method, protected."""
        if name.startswith("_"):
            return object.__getattribute__(self, name)
        method = getattr(self._callbacks, name)

        def call(*arguments: Any, **keywords: Any) -> None:
            # Only OSError: a full pipe or a closed terminal. A mistake in a callback must show.
            with contextlib.suppress(OSError):
                method(*arguments, **keywords)

        return call


# A function of its own, since a closure in the loop below would forward every method to the last event.
def _forward(event: str) -> Any:
    def method(self: CallbackGroup, *arguments: Any) -> None:
        self._pass_on(event, arguments)

    method.__name__, method.__doc__ = event, getattr(RunCallbacks, event).__doc__
    return method


# Generated, so that an event added to the base class is forwarded without a second list.
for _event in [name for name in vars(RunCallbacks) if not name.startswith("_")]:
    setattr(CallbackGroup, _event, _forward(_event))


def load_callbacks(names: Sequence[str]) -> list[RunCallbacks]:
    """Import and make the callbacks ``names``: built-in ones, and those of installed packages.

    Raises:
        UsageError: unknown (with suggestions), or it cannot be imported or made.

    Examples:
        >>> load_callbacks(["tensorbord"])
        Traceback (most recent call last):
        ...
        bench.errors.UsageError: --callback tensorbord: unknown; did you mean 'tensorboard'?
    """
    from models.registry import did_you_mean

    # Built-in names win over an installed package of the same name.
    points = {point.name: point for point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)}
    points |= {
        name: importlib.metadata.EntryPoint(name, value, ENTRY_POINT_GROUP)
        for name, value in BUILT_IN.items()
    }
    loaded = []
    for name in names:
        if name not in points:
            raise UsageError(f"--callback {name}: unknown{did_you_mean(name, points)}")
        # Made here and now: what cannot be imported must stop the command before it trains for hours.
        try:
            callbacks = points[name].load()()
        except BenchError:
            raise
        except Exception as error:
            raise UsageError(
                f"--callback {name}: cannot be used ({type(error).__name__}: {error})"
            ) from error
        if not isinstance(callbacks, RunCallbacks):
            raise UsageError(f"--callback {name}: {points[name].value} makes no RunCallbacks")
        loaded.append(callbacks)
    return loaded
