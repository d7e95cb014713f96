"""Optimizers by network: built from an :class:`~models.base.OptimizerSpec`, kept over phases, saved by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from bench.training.phase_schedule import Schedule
from models.base import OptimizerSpec, Phase


def build_optimizer(spec: OptimizerSpec, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Build the optimizer of ``spec``, with fused kernels where torch has them.

    Fused kernels cut Adam on 71 million parameters from 140 to 35 ms per step on a CPU. On a GPU the learning rate is a
    tensor there, so that a new rate changes no captured graph.
    """
    parameters, rate = list(parameters), spec.learning_rate
    on_gpu = any(p.device.type == "cuda" for p in parameters)
    optimizer: torch.optim.Optimizer
    if spec.name == "adam":
        optimizer = torch.optim.Adam(parameters, lr=rate, betas=spec.betas, fused=True)
    elif spec.name == "sgd":
        optimizer = torch.optim.SGD(parameters, lr=rate, momentum=spec.momentum, fused=True)
    else:  # Adadelta has no fused kernel; "capturable" keeps its step count on the device
        optimizer = torch.optim.Adadelta(parameters, lr=rate, capturable=on_gpu, foreach=on_gpu or None)
    if on_gpu:
        # Not through the constructor, which would read the tensor back to check its range.
        for group in optimizer.param_groups:
            group["lr"] = torch.full((), rate, device=group["params"][0].device)
    return optimizer


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Use ``rate`` for the next step; a rate that is a tensor is filled in place."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


class Optimizers:
    """The optimizers of a training's networks, and the networks' modes in each phase.

    Args:
        networks: name -> network.
        schedule: the phases.
    """

    def __init__(self, networks: nn.ModuleDict, schedule: Schedule) -> None:
        self.networks, self.schedule = networks, schedule
        #: Network -> the parameters that its optimizer updates.
        self.parameters = {name: list(net.parameters()) for name, net in networks.items()}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self._kinds: dict[str, tuple[Any, ...]] = {}
        self._phase_index = -1

    def enter_phase(self, step: int) -> Phase:
        """Return the phase of ``step``; if it has just begun, prepare its optimizers and modes.

        An optimizer and its state are kept from phase to phase unless its kind changes.
        """
        index = self.schedule.index_at(step)
        phase = self.schedule.phases[index]
        if index != self._phase_index:
            self._phase_index = index
            for network, spec in phase.optimizers.items():
                # Compared by kind, which has no learning rate: PConv's fine-tuning lowers the rate and keeps
                # Adam's moments.
                if self._kinds.get(network) != spec.kind:
                    self.optimizers[network] = build_optimizer(spec, self.parameters[network])
                    self._kinds[network] = spec.kind
            self.set_modes()
        return phase

    def set_modes(self) -> None:
        """Put the networks into training mode, except for the batch-norm layers that the phase freezes."""
        self.networks.train()
        for name in self.schedule.phases[self._phase_index].frozen_batch_norm:
            for module in self.networks.get_submodule(name).modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()

    def prepare(self, network: str, step: int) -> torch.optim.Optimizer:
        """Return the network's optimizer, set to the learning rate of ``step``, with gradients cleared."""
        optimizer = self.optimizers[network]
        spec = self.schedule.phase_at(step).optimizers[network]
        set_learning_rate(optimizer, spec.learning_rate_at(step, self.schedule.num_steps))
        # Set to None, a network whose loss does not reach a parameter leaves it alone; zeros would still move
        # it by momentum.
        optimizer.zero_grad(set_to_none=True)
        return optimizer

    def first_nonfinite_network(self) -> str | None:
        """Return the name of a network with weights that are not finite, or ``None``; waits for the device.

        The loss of a step says nothing about the weights after it.
        """
        for network, parameters in self.parameters.items():
            if parameters and not torch.stack([torch.isfinite(p).all() for p in parameters]).all():
                return network
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizers' states by network; learning rates are numbers, whatever the device."""
        states = {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}
        for state in states.values():
            for group in state["param_groups"]:
                group["lr"] = float(group["lr"])
        return states

    def load_state_dict(self, state: dict[str, Any], step: int) -> None:
        """Continue from ``state``, which was taken after ``step`` steps."""
        # The phases done so far are entered in order, since an optimizer may stem from an earlier one; the
        # next is the loop's.
        for index in range(self.schedule.index_at(max(step - 1, 0)) + 1):
            self.enter_phase(self.schedule.start_of(index))
        for network, optimizer in self.optimizers.items():
            if network in state:
                rates = [group["lr"] for group in optimizer.param_groups]
                optimizer.load_state_dict(state[network])
                # The rate is a function of the step; what must survive is that it lives on this optimizer's device.
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate
