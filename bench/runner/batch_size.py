"""``--batch auto``: the largest batch with which every training fits into memory, found before the first one starts."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch

from bench.config import RunConfig
from bench.errors import BenchError, UsageError
from bench.profiling.flops import needs_several_images, training_bytes
from bench.runner.context import RunContext
from bench.runner.plan import TrainingPlan, build_plan
from bench.runner.run_folder import DamagedManifestError
from bench.training.data_loader import StepBatches, keep_resident
from bench.training.device import Compute
from bench.training.model_setup import build_model
from bench.training.phase_schedule import Schedule
from bench.training.train_step import OutOfMemoryError
from bench.training.trainer import Trainer
from models.base import Batch
from models.registry import ModelEntry

#: A training has at least this many steps, however large a batch would fit.
_STEPS = 100
#: Above eight images, batches are multiples of it.
_GRAIN = 8
#: Share of the free memory of a CPU that an estimate may fill (it is between 0.7 and 1.6 times the truth).
_SHARE = 0.6


def largest_fitting(fits: Callable[[int], bool], limit: int) -> int:
    """Return the largest batch up to ``limit`` that fits: any number up to 8, multiples of 8 above; 0 if none does.

    Doubles until it does not fit, then halves the gap: what fits must fit in smaller batches too.

    >>> largest_fitting(lambda images: images <= 45, limit=100)
    40
    """
    # Small batches are tried one by one, since a multiple of 8 would be a coarse step there.
    batches = [*range(1, min(limit, _GRAIN) + 1), *range(2 * _GRAIN, limit + 1, _GRAIN)]
    good, bad = -1, 0
    while bad < len(batches) and fits(batches[bad]):
        # Doubling costs a logarithm of trials, and each of them builds a model.
        good, bad = bad, bisect_left(batches, 2 * batches[bad])
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if fits(batches[middle]) else (good, middle)
    return batches[good] if good >= 0 else 0


def resolve_auto_batch_size(context: RunContext, entries: Mapping[str, ModelEntry | str]) -> RunConfig:
    """Return the settings with a number for ``--batch auto``: the run folder's own, or what fits now.

    One batch for all models keeps the comparison fair.

    Raises:
        BenchError: not even one image fits.
    """
    settings, compute = context.request.settings, context.compute
    processes = compute.process_group.world_size
    if settings.batch != "auto":
        return settings
    with contextlib.suppress(DamagedManifestError):  # it will be rebuilt from the cells
        old = context.store.read_manifest()
        # An experiment keeps its batch, whatever fits today: its cells would not compare otherwise.
        if old is not None and isinstance(old["settings"]["batch"], int):
            return dataclasses.replace(settings, batch=old["settings"]["batch"])
    available = len(context.data.train.ids)
    limit = min(available, settings.train_images or available)
    if settings.steps_per_phase is None:
        # A batch that leaves fewer steps than this would train worse for want of updates, not of memory.
        limit = max(1, min(limit, settings.images_seen // _STEPS))
    # Only to learn which trainings there are. Two images a process: with one, the plan would leave out the models
    # whose batch normalization needs several, and the batch would be found without them.
    least = dataclasses.replace(settings, batch=2 * processes)
    request = dataclasses.replace(context.request, settings=least)
    trial = build_plan(dataclasses.replace(context, request=request), entries, context.data.test)
    # One plan a model: seeds and masks change nothing about memory.
    plans = {plan.entry.card.name: plan for plan in trial.trainings}.values()
    # Images and masks first: a batch must fit beside what the training keeps on the device.
    pixels = context.data.train.pixels[: settings.train_images]
    mask_bank = np.zeros((settings.mask_bank, -(-(settings.size**2) // 8)), np.uint8)
    if limit < processes:
        raise UsageError(f"--batch auto: {limit} images a step are fewer than the {processes} processes")
    with _limited_memory(compute):
        resident = keep_resident([pixels, mask_bank], compute)
        batch = processes * largest_fitting(
            lambda images: all(_fits(plan, images, compute) for plan in plans),
            limit // processes,
        )
        del resident
    if batch == 0:
        raise BenchError("--batch auto: not even one image fits into memory; give a smaller --size")
    why = (
        "the largest that fits" if batch + _GRAIN <= limit else f"the most for {_STEPS} steps of these images"
    )
    context.callbacks.note(f"--batch auto: {batch} images a step, {why}.")
    return dataclasses.replace(settings, batch=batch)


@contextlib.contextmanager
def _limited_memory(compute: Compute) -> Iterator[None]:
    """Let trial steps fill this process's share of a GPU and no more, where several jobs are to use it."""
    if compute.device.type != "cuda" or compute.memory_share == 1.0:
        yield
        return
    _, total = torch.cuda.mem_get_info(compute.device)
    torch.cuda.set_per_process_memory_fraction(compute.available_bytes() / total, compute.device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, compute.device)


def _fits(plan: TrainingPlan, images: int, compute: Compute) -> bool:
    """Try a step of every phase on a GPU; estimate on a CPU, whose memory the system overcommits."""
    if compute.device.type == "cuda":
        fits = fits_in_memory(plan, images, compute)
        # The allocator would otherwise keep the blocks of this trial, and the next would find less free
        # memory.
        torch.cuda.empty_cache()
    else:
        needed = training_bytes(plan.entry.model, plan.config, plan.task, plan.budget, compute, images)
        fits = needed <= _SHARE * free_bytes(compute)
    # A collective call: all processes must choose the same batch, so one that does not fit decides.
    return bool(min(compute.process_group.all_gather(fits)))


def fits_in_memory(plan: TrainingPlan, images: int, compute: Compute) -> bool:
    """Return whether a step of every phase with ``images`` images does not run out of memory."""
    # A single image, which batch normalization may refuse, fits if two do; a training of one is refused by the plan.
    if images == 1 and needs_several_images(plan.entry.model, plan.config, plan.task, plan.budget):
        images = 2
    size, device = plan.task.size, compute.device
    # A hole of a quarter of the image is a common case; memory does not depend on where it is.
    mask = torch.zeros(images, 1, size, size, device=device)
    mask[:, :, size // 4 : 3 * size // 4, size // 4 : 3 * size // 4] = 1
    image = torch.rand(images, 3, size, size, device=device).contiguous(memory_format=torch.channels_last)
    # Trials differ in length between processes, so a step here must not wait for the others.
    alone = dataclasses.replace(compute, process_group=type(compute.process_group)())
    model = build_model(plan.entry, plan.config, plan.task, plan.seed, alone)
    schedule = Schedule(model.phases(plan.budget))
    with tempfile.TemporaryDirectory() as folder:
        source = StepBatches(images, lambda step: batch)
        trainer = Trainer(model, schedule, source, alone, Path(folder), micro_batch=images)
        # Every phase: the joint one holds the graphs of two networks, and the first has built no
        # discriminator's state.
        for index in range(len(schedule.phases)):
            step = schedule.start_of(index)
            batch = Batch(image, mask, torch.arange(images), step, torch.Generator().manual_seed(0))
            try:
                trainer.train_step.run(trainer.optimizers.enter_phase(step), batch)
            except OutOfMemoryError:
                return False
            # The step split the batch to get through, so the whole of it did not fit.
            if trainer.train_step.micro_batch != images:
                return False
    return True


def free_bytes(compute: Compute) -> float:
    """Return the memory that this process may fill now; infinity where the system does not tell."""
    return compute.available_bytes()
