"""Time the sections of a training step on a CPU or a GPU."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from models.base import InpaintingModel


class DeviceTimer:
    """Takes times on the device's own timeline, so that nothing waits for it while a step runs."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._cuda = device, device.type == "cuda"

    def mark(self) -> Any:
        """Return the present moment as the device sees it."""
        # Times of the host would be those of launching kernels, not of running them.
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def wait(self) -> None:
        """Wait for the device; marks may be read afterwards."""
        if self._cuda:
            torch.cuda.synchronize(self._device)

    def seconds(self, start: Any, end: Any) -> float:
        """Return the seconds between two marks."""
        return float(start.elapsed_time(end)) / 1e3 if self._cuda else float(end - start)


@dataclass
class _Step:
    """The marks of one step: its start, and start and end of every section."""

    start: Any
    sections: dict[str, list[tuple[Any, Any]]] = field(default_factory=dict)


@dataclass(frozen=True)
class StepBreakdown:
    """Median seconds over the measured steps."""

    step: float
    forward: float
    backward: float
    optimizer: float

    @property
    def outside(self) -> float:
        """Seconds outside networks and optimizer: batches, compositing, the losses' forward pass, logging, Python."""
        return max(0.0, self.step - self.forward - self.backward - self.optimizer)


class StepTimer:
    """Times the steps of any training loop from outside, through hooks.

    ``forward`` lasts from entering a network (or a frozen loss network) to leaving it, ``backward`` from the end of
    the model's loss to the last gradient, ``optimizer`` from entering to leaving ``step``. The backward pass of the
    losses themselves counts as backward.
    """

    def __init__(self, clock: DeviceTimer) -> None:
        self._clock = clock
        self._steps: list[_Step] = []
        self._open: Any = None
        self._gradient: Any = None

    def begin_step(self) -> None:
        """Mark the start of a step; call it once more after the last."""
        # The backward of the last network is open until something begins after it.
        self._close_backward()
        self._steps.append(_Step(self._clock.mark()))

    @contextmanager
    def watching(self, model: InpaintingModel) -> Iterator[None]:
        """Install hooks on networks, losses and optimizers while the context lasts."""
        # The bound method, which is put back by deleting the instance's own.
        loss = model.loss

        def timed_loss(*args: Any, **kwargs: Any) -> Any:
            self._close_backward()
            terms = loss(*args, **kwargs)
            self._open = self._clock.mark()
            return terms

        # The last gradient that arrives ends the backward; earlier marks are overwritten.
        def gradient_arrived(_: Any) -> None:
            self._gradient = self._clock.mark()

        # A stack, since networks may call each other.
        entered: list[Any] = []
        networks = [*model.networks.values(), *model.frozen.values()]
        handles: list[Any] = []
        for network in networks:
            handles.append(
                network.register_forward_pre_hook(lambda *_: entered.append(self._clock.mark()) or None)  # type: ignore[func-returns-value]
            )
            handles.append(network.register_forward_hook(lambda *_: self._add("forward", entered.pop())))
            for parameter in network.parameters():
                # Frozen networks take no gradient, and have no hook to wait for.
                if parameter.requires_grad:
                    handle = parameter.register_post_accumulate_grad_hook(gradient_arrived)  # type: ignore[no-untyped-call]
                    handles.append(handle)

        def optimizer_enters(*_: Any) -> None:
            self._close_backward()
            entered.append(self._clock.mark())

        # Global hooks: optimizers are made in the first step of a phase, after this.
        handles.append(register_optimizer_step_pre_hook(optimizer_enters))
        handles.append(register_optimizer_step_post_hook(lambda *_: self._add("optimizer", entered.pop())))
        model.loss = timed_loss  # type: ignore[method-assign]
        try:
            yield
        finally:
            del model.loss
            for handle in handles:
                handle.remove()

    def split(self, skip: int) -> StepBreakdown:
        """Return medians over all complete steps but the first ``skip``."""
        self._clock.wait()
        # A step ends where the next begins, so the last mark closes a step without opening one.
        pairs = list(zip(self._steps, self._steps[1:], strict=False))[skip:]
        totals = {
            name: median(
                sum(self._clock.seconds(*marks) for marks in step.sections.get(name, [])) for step, _ in pairs
            )
            for name in ("forward", "backward", "optimizer")
        }
        return StepBreakdown(step=median(self._clock.seconds(a.start, b.start) for a, b in pairs), **totals)

    def _close_backward(self) -> None:
        # Both are needed: a loss without a gradient (a phase that trains another network) is no backward.
        if self._open is not None and self._gradient is not None:
            self._add("backward", self._open, self._gradient)
        self._open = self._gradient = None

    def _add(self, section: str, start: Any, end: Any = None) -> None:
        if self._steps:
            end = self._clock.mark() if end is None else end
            self._steps[-1].sections.setdefault(section, []).append((start, end))
