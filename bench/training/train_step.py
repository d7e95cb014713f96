"""One optimization step: one generator forward, then zero, loss, backward, step for each network of the phase.

The order of the networks is the phase's (``phases()`` of the model). A discriminator sees the completion detached. The
generator sees the updated discriminator and leaves no gradient in it, since ``backward`` is restricted to the
generator's parameters.
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
    """A step does not fit into memory, and its batch may not or cannot be split further."""


class TrainStep:
    """Runs optimization steps, on whole batches or on micro-batches.

    Args:
        model: on the device.
        optimizers: the networks' optimizers.
        metric_logger: records every loss.
        compute: device, precision, and the processes over which gradients are averaged.
        micro_batch: maximum images per forward pass; ``None``: the whole batch.
        warn: called with one sentence when memory runs out.
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
        self.model, self.optimizers, self.metric_logger = model, optimizers, metric_logger
        self.compute = compute
        self.micro_batch, self._halved, self._warn = micro_batch, False, warn
        # One scaler per network: an overflow in the discriminator must not skip the generator's step.
        self._scalers = {name: compute.grad_scaler() for name in model.networks}

    def run(self, phase: Phase, batch: Batch) -> None:
        """Update every network of ``phase`` once.

        On the first out-of-memory error, halve the micro-batch for the rest of training. Networks that this step has
        updated already are not updated again; batch normalization has then seen part of one batch twice.

        Raises:
            OutOfMemoryError: on the second out-of-memory error, or if a single image does not fit.
        """
        self.compute.mark_step_begin()
        # A copy: names are struck off as they are done, so that a retry goes on where memory ran out.
        remaining = list(phase.networks)
        while remaining:
            try:
                self._update_networks(remaining, phase, batch)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                # The retry waits for the loop: until this handler ends, the error's traceback keeps the
                # failed step's tensors alive.
                self._halve_micro_batch(batch)

    def state_dict(self) -> dict[str, Any]:
        """Return the size of micro-batches and the state of the gradient scalers."""
        scalers = {name: scaler.state_dict() for name, scaler in self._scalers.items() if scaler.is_enabled()}
        return {"micro_batch": self.micro_batch, "halved": self._halved, "scalers": scalers}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state``."""
        self.micro_batch, self._halved = state["micro_batch"], state["halved"]
        for name, scaler_state in state.get("scalers", {}).items():
            self._scalers[name].load_state_dict(scaler_state)

    def _update_networks(self, remaining: list[str], phase: Phase, batch: Batch) -> None:
        """Update the networks in ``remaining``, removing each once it is done."""
        parts = batch.split(self.micro_batch)
        # With micro-batches the generator runs again for each network: its own loss needs the discriminator that all
        # parts of the batch have updated, and keeping every part's graph until then would save no memory.
        shared = self._complete(phase, parts[0]) if len(parts) == 1 else None
        while remaining:
            network = remaining[0]
            optimizer, scaler = self.optimizers.prepare(network, batch.step), self._scalers[network]
            losses = []
            for part in parts:
                completion = shared or self._complete(phase, part)
                with self.compute.autocast():
                    seen = completion if network == "generator" else completion.detach()
                    terms = self.model.loss(network, part, seen, phase)
                # The last part may be smaller; losses are means, so each part counts by its images.
                weight = len(part) / len(batch)
                loss = scaler.scale(terms["loss"] * weight)
                # ``inputs`` confines the gradients: the generator's loss passes through the discriminator and
                # leaves none there.
                loss.backward(inputs=self.optimizers.parameters[network])  # type: ignore[no-untyped-call]
                losses.append(({name: value.detach() for name, value in terms.items()}, weight))
            # Once per network, after all parts: what is averaged is the gradient of the whole batch.
            self.compute.process_group.average_gradients(self.optimizers.parameters[network])
            scaler.step(optimizer)
            scaler.update()
            # Only now: a loss of a step that ran out of memory halfway must not be counted twice.
            for values, weight in losses:
                self.metric_logger.record(network, values, weight, batch.step)
            remaining.pop(0)

    def _complete(self, phase: Phase, batch: Batch) -> Completion:
        # A phase that trains the discriminator alone needs no graph of the generator.
        with torch.set_grad_enabled("generator" in phase.optimizers), self.compute.autocast():
            return self.model.complete(batch)

    def _halve_micro_batch(self, batch: Batch) -> None:
        # The last micro-batch of a batch may be the smaller one, and the setting may exceed the batch.
        used = min(self.micro_batch or len(batch), len(batch))
        # Processes would have to agree on the new size in the middle of a step, so several of them give up at once.
        if self._halved or used == 1 or self.compute.process_group.is_distributed:
            raise OutOfMemoryError(
                f"out of memory at step {batch.step} with {used} images at once; "
                f"give --micro-batch {max(1, used // 2)} (the same effective batch), or a smaller --size"
            )
        self.micro_batch, self._halved = (used + 1) // 2, True
        detail = f"{used} images at once did not fit: {self.micro_batch} at once from this step on, the batch stays"
        self.metric_logger.log_event(batch.step + 1, "out of memory", detail)
        self._warn(f"out of memory at step {batch.step}: {detail}")
