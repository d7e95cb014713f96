"""Prepare a run: check everything that can be checked, open the data, plan the cells. Nothing is written yet."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

import masks.folder
from bench.code_digest import CodeDigest
from bench.config import Request, json_digest, resolve_config
from bench.data import Dataset, DataSpec, ImageSet, open_data
from bench.data.dataset import known_identities
from bench.errors import BenchError, UsageError
from bench.evaluation import evaluator
from bench.evaluation.metrics import (
    DistributionMetric,
    expand_metrics,
    load_metric,
    prepare_distribution_metrics,
    prepare_metrics,
)
from bench.runner import batch_size, keys
from bench.runner.callbacks import ProtectedCallbacks, RunCallbacks
from bench.runner.context import RunContext
from bench.runner.plan import Plan, build_plan, load_models
from bench.runner.run_folder import RunFolder
from bench.runner.slots import list_slots, memory_share
from bench.training.device import select_device
from masks.file_names import real_path
from models import discovery

#: Settings that leave the name as it is: they add to an experiment, or say where it is computed.
_UNNAMED = ("seeds", "precision", "metrics", "samples_per_image")


@dataclass(frozen=True)
class PreparedRun:
    """All that a run needs before it writes anything.

    Attributes:
        context: what every part of the run shares.
        plan: the cells.
        metrics: name -> function, of those that are available.
        sets: metrics of sets of images that are available.
        unavailable: name -> reason, of the others.
        test_images: images to be evaluated.
    """

    context: RunContext
    plan: Plan
    metrics: dict[str, Any]
    sets: list[DistributionMetric]
    unavailable: dict[str, str]
    test_images: ImageSet

    @cached_property
    def metric_code(self) -> dict[str, CodeDigest]:
        """Metric -> digest of the code that decides its numbers."""
        names = [*self.metrics, *(metric.info.name for metric in self.sets)]
        return {name: keys.metric_code(load_metric(name)) for name in names}


def prepare_run(
    request: Request,
    callbacks: RunCallbacks,
    root: Path = Path(),
    *,
    share: float = 1.0,
    elsewhere: bool = False,
) -> PreparedRun:
    """Check everything that can be checked, open the data (packing them once) and plan the cells.

    Args:
        request: what to run.
        callbacks: of whoever watches.
        root: what ``runs/`` and ``reports/`` lie in.
        share: part of the device's memory that this process may plan with, beside other jobs of one run.
        elsewhere: other machines compute: neither the device nor the precision that is asked for must be here.
    """
    callbacks = ProtectedCallbacks(callbacks)
    wanted = expand_metrics(("primary", *request.settings.metrics))
    # Before the data: a misspelled option must not wait for an hour of packing.
    entries = load_models(request)
    settings = request.settings
    compute = (
        select_device("cpu")
        if elsewhere
        else select_device(
            request.device,
            settings.precision,
            deterministic=settings.deterministic,
            cuda_graphs=settings.cuda_graphs,
        )
    )
    # Divided here and not only in the jobs: the number of threads is recorded with every result, and
    # compared.
    if request.jobs != 1:
        if compute.process_group.is_distributed:
            raise UsageError("--jobs trains on one device, torchrun on many: give one of them")
        slots = list_slots(request, compute)
        torch.set_num_threads(max(1, torch.get_num_threads() // len(slots)))
        share = memory_share(slots)
    compute = dataclasses.replace(compute, memory_share=share)
    spec = data_spec(request)
    # One process packs, the others find the pack.
    data = open_data(spec, progress=callbacks.preparing) if compute.process_group.is_main else None
    # Says only that the pack is there.
    compute.process_group.broadcast(None)
    data = data or open_data(spec)
    test_images = evaluator.sample_subset(evaluated_images(data, settings.evaluate_on), settings.test_images)
    unknown = len(test_images) - len(known_identities(test_images))
    # Notes are of the data as a whole; the identities below are of the images that are evaluated.
    for note in data.warnings:
        callbacks.warn(note)
    if unknown and "identities" in data.kind.lists and data.kind.published_split:
        callbacks.warn(
            f"{data.kind.lists['identities']} names no person for "
            f"{unknown:,} of {len(test_images):,} images to be evaluated: "
            "each counts as a person of its own, and intervals may be too narrow"
        )
    for mask in request.masks:
        if rule := pairing_rule(mask, test_images, data):
            callbacks.note(rule)
    # Metrics are made ready before anything is trained: missing weights show now and not after the last step.
    ready, unavailable = prepare_metrics(wanted, compute.device, data.face_box)
    sets, unavailable_sets = prepare_distribution_metrics(wanted, compute.device, data.face_box)
    unavailable |= unavailable_sets
    for name, reason in unavailable.items():
        callbacks.warn(f"{name} is not available: {reason}")
    context = RunContext(
        request, data, compute, RunFolder(experiment_name(request), root), callbacks, elsewhere
    )
    # After the metrics, whose networks are on the device already, so that the batch fits beside them.
    settings = batch_size.resolve_auto_batch_size(context, entries)
    context = dataclasses.replace(context, request=dataclasses.replace(request, settings=settings))
    plan = _leave_rows_of_machines(context, build_plan(context, entries, test_images))
    return PreparedRun(
        context=context,
        plan=plan,
        metrics=ready,
        sets=sets,
        unavailable=unavailable,
        test_images=test_images,
    )


def _leave_rows_of_machines(context: RunContext, plan: Plan) -> Plan:
    """Leave out cells that ``bench merge`` keeps once for each machine, unless ``--recompute`` is given.

    A run has one cell for all of them: it would train again, and put one row in the place of what several machines
    computed.
    """
    if context.request.recompute:
        return plan
    try:
        manifest = context.store.read_manifest()
    except BenchError:  # a damaged one is rebuilt, or refused, when the run opens it
        return plan
    # By what was computed, so that a changed config or changed code is computed as it is in any experiment.
    apart = {
        (cell["model"], cell["train_mask"], cell.get("what"))
        for cell in (manifest or {"cells": []})["cells"]
        if cell["status"] == "done" and "place" in cell
    }
    left = [c for c in plan.cells if (c.model, c.train_mask, c.key) in apart]
    for label in dict.fromkeys(cell.label for cell in left):
        context.callbacks.note(
            f"{label}: kept as the rows of the machines that computed it (bench merge); add --recompute to compute it "
            "here, in one row that takes their place"
        )
    return Plan([cell for cell in plan.cells if cell not in left]) if left else plan


def data_spec(request: Request) -> DataSpec:
    """Return which images a run needs, cut to which size."""
    settings = request.settings
    return DataSpec(
        source=request.data,
        size=settings.size,
        crop=settings.crop,
        split=settings.split,
        allow_unreadable=request.allow_unreadable,
    )


def pairing_rule(mask: str, images: ImageSet, data: Dataset) -> str:
    """Say how evaluated images find their masks in a folder of masks; empty for any other mask.

    Raises:
        masks.mask_images.MaskFileError: some of them find none, or one that may be another image's.
    """
    if not mask.startswith(masks.folder.PREFIX):
        return ""
    known = [image_id for split in (data.train, data.validation, data.test) for image_id in split.ids]
    return masks.folder.pairing_rule(mask, images.ids, data.size, among=known)


def evaluated_images(data: Dataset, evaluate_on: str) -> ImageSet:
    """Return the images that ``--evaluate-on`` names.

    Raises:
        UsageError: validation images are asked for, and the data have none.
    """
    if evaluate_on == "test":
        return data.test
    if not data.validation.ids:
        raise UsageError("--evaluate-on validation: the data has no validation images; give another --split")
    return data.validation


def experiment_name(request: Request) -> str:
    """Return ``--name``, or a readable name from models, masks, data and preset, with a digest of other changes."""
    if request.name:
        return request.name
    models = "all" if list(request.models) == discovery.expand_models(["all"]) else "+".join(request.models)
    source = "faces" if request.data == "faces" else real_path(request.data).name or "data"
    parts = [models, "+".join(request.masks), source, request.settings.preset]
    # Compared with the preset and not with what was typed: an option given its default value changes no name.
    plain = resolve_config(request.settings.preset).as_dict()
    changed = {k: v for k, v in request.settings.as_dict().items() if v != plain[k] and k not in _UNNAMED}
    extra = {"set": {k: dict(v) for k, v in request.model_options.items()}, "settings": changed}
    if changed or request.model_options:
        parts.append(json_digest(extra)[:6])
    # Models and data may hold slashes and colons.
    name = "-".join("".join(c if c.isalnum() or c in "+-_" else "_" for c in part) for part in parts)
    # File systems limit names to 255 bytes, and this one becomes part of longer ones.
    return name if len(name) <= 80 else f"{name[:73]}-{json_digest(name)[:6]}"
