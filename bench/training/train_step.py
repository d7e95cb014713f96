"""One step: one generator forward; then each network of the phase in order: zero, loss, backward, step.

A discriminator sees the completion detached; the generator sees the updated discriminator and, since ``backward`` is
told whose gradients to make, leaves none in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from bench.errors import BenchError
from bench.training.device import Compute, is_out_of_memory
from bench.training.metric_logger import MetricLogger
from bench.training.optimizers import Optimizers
from models.base import Batch, Completion, InpaintingModel, Phase


class OutOfMemoryError(BenchError):
    """A step does not fit into memory, and may not or cannot be cut into smaller pieces."""


class TrainStep:
    """Takes steps, whole or in micro-batches.

    Args:
        model: on the device.
        optimizers: whose optimizers are stepped.
        metric_logger: told every loss.
        compute: device, precision, and the processes that gradients are averaged over.
        micro_batch: see :class:`bench.config.RunConfig`.
        warn: called with a sentence when memory ran out.
    """

    def __init__(
        self,
        model: InpaintingModel,
        optimizers: Optimizers,
        metric_logger: MetricLogger,
        compute: Compute,
        *,
        micro_batch: int | None,
        warn: Callable[[str], None],
    ) -> None:
        self.model, self.optimizers, self.metric_logger, self.compute = (
            model,
            optimizers,
            metric_logger,
            compute,
        )
        self.micro_batch, self._halved, self._warn = micro_batch, False, warn

    def run(self, phase: Phase, batch: Batch) -> None:
        """One step of every network. Where memory runs out, once in a training, the rest of the step and all later
        ones are taken in halves: batch-norm has then seen a part of one batch twice.

        Raises:
            OutOfMemoryError: the second time, or where a single image does not fit.
        """
        left = list(phase.networks)
        while left:
            try:
                self._move(left, phase, batch)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(batch)

    def state_dict(self) -> dict[str, Any]:
        """How batches are cut."""
        return {"micro_batch": self.micro_batch, "halved": self._halved}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it up."""
        self.micro_batch, self._halved = state["micro_batch"], state["halved"]

    def _move(self, left: list[str], phase: Phase, batch: Batch) -> None:
        """Move the optimizers in ``left`` and take them from it. With micro-batches the generator runs again for each
        network, since a generator's loss needs the whole discriminator step first.
        """
        parts = batch.split(self.micro_batch)
        shared = self._complete(phase, parts[0]) if len(parts) == 1 else None
        while left:
            network = left[0]
            optimizer, moved = self.optimizers.prepare(network, batch.step), []
            for part in parts:
                completion = shared or self._complete(phase, part)
                with self.compute.autocast():
                    seen = completion if network == "generator" else completion.detach()
                    terms = self.model.loss(network, part, seen, phase)
                weight = len(part) / len(batch)
                (terms["loss"] * weight).backward(inputs=self.optimizers.parameters[network])  # type: ignore[no-untyped-call]
                moved.append(({name: value.detach() for name, value in terms.items()}, weight))
            self.compute.process_group.average_gradients(self.optimizers.parameters[network])
            optimizer.step()
            for values, weight in moved:
                self.metric_logger.record(network, values, weight, batch.step)
            left.pop(0)

    def _complete(self, phase: Phase, batch: Batch) -> Completion:
        with torch.set_grad_enabled("generator" in phase.optimizers), self.compute.autocast():
            return self.model.complete(batch)

    def _halve(self, batch: Batch) -> None:
        used = min(self.micro_batch or len(batch), len(batch))
        if self._halved or used == 1 or self.compute.process_group.is_distributed:
            raise OutOfMemoryError(
                f"out of memory at step {batch.step} with {used} images at once; "
                f"give --micro-batch {max(1, used // 2)} (the same effective batch), or a smaller --size"
            )
        self.micro_batch, self._halved = (used + 1) // 2, True
        detail = f"{used} images at once did not fit: {self.micro_batch} at once from this step on, the batch stays"
        self.metric_logger.note(batch.step + 1, "out of memory", detail)
        self._warn(f"out of memory at step {batch.step}: {detail}")
