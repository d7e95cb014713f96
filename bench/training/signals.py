"""Ctrl-C and SIGTERM during a training: finish the step, write a checkpoint, end the run."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

from bench.errors import BenchError


class InterruptedTrainingError(BenchError):
    """A signal stopped the training after its checkpoint was written; exit code 128 + signal."""

    def __init__(self, signum: int, where: str) -> None:
        super().__init__(f"stopped {where}; give the same command again to continue")
        self.exit_code = 128 + signum


#: Ctrl-C, a scheduler's or a system's request to end, and a terminal or ssh connection that is closed.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_SIGHUP = getattr(signal, "SIGHUP", None)


class StopSignals:
    """While entered, records a SIGINT, SIGTERM or SIGHUP as :attr:`signum` (0: none) for the loop to read."""

    def __init__(self) -> None:
        self.signum = 0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        """Install the handlers of the signals, but for a SIGHUP that ``nohup`` has told this process to ignore."""
        taken = [s for s in _SIGNALS if s != _SIGHUP or signal.getsignal(s) is not signal.SIG_IGN]
        self._previous = {s: signal.signal(s, self._remember) for s in taken}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the previous handlers."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def stop_if_asked(self, step: int) -> None:
        """Raise :class:`InterruptedTrainingError` if a signal arrived; ``step`` is the checkpointed step."""
        # Called only after a checkpoint was written: whatever stops here can be continued.
        if self.signum:
            raise InterruptedTrainingError(self.signum, f"after step {step}")

    def _remember(self, signum: int, frame: FrameType | None) -> None:
        # Nothing else is done in a handler, which may run between any two bytecodes, in the middle of a write
        # too.
        if self.signum:  # a second Ctrl-C ends the run at once, without a checkpoint
            raise KeyboardInterrupt
        self.signum = signum
