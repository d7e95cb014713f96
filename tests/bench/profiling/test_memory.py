"""Estimates of memory: an intercept that does not grow with the batch, and a slope."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.profiling.flops import count_memory, training_bytes
from bench.profiling.rehearsal import rehearse_cuda
from bench.training.data_loader import resident_copy
from bench.training.device import Compute
from models.base import Box, Budget, Task
from models.discovery import load_model

TASK, BUDGET = Task(size=64, fixed_hole_box=Box(16, 16, 32, 32)), Budget(num_steps=100)


def test_cast_weights_are_counted_once_not_per_image() -> None:
    """Context Encoder has 71 million parameters, 137 MiB of them kept in bf16, and small maps."""
    entry = load_model("context-encoder")
    memory = count_memory(
        entry.model, entry.config("quick"), TASK, BUDGET, Compute(torch.device("cpu"), "bf16")
    )
    for intercept, slope in memory.kept:
        assert intercept / 2**20 == pytest.approx(137, abs=5)
        assert slope / 2**20 < 1
    full = count_memory(
        entry.model, entry.config("quick"), TASK, BUDGET, Compute(torch.device("cpu"), "fp32")
    )
    assert all(intercept < 2**20 for intercept, _ in full.kept)


def test_the_estimate_is_a_line() -> None:
    entry, compute = load_model("glcic"), Compute(torch.device("cpu"), "bf16")
    config = entry.config("smoke")
    two, four, eight = (training_bytes(entry.model, config, TASK, BUDGET, compute, n) for n in (2, 4, 8))
    assert eight - four == pytest.approx(2 * (four - two))


def test_resident_arrays_have_one_copy_per_device_while_in_use() -> None:
    images = np.zeros((4, 8, 8, 3), np.uint8)
    with rehearse_cuda():
        device = torch.device("cuda", 0)
        first = resident_copy(images[:3], device)
        assert resident_copy(images[:3], device) is first
        assert resident_copy(images, device) is not first
        assert (first.device, tuple(first.shape)) == (device, (3, 8, 8, 3))
        number = id(first)
        del first
        again = resident_copy(images[:3], device)
        assert again.device == device, number
