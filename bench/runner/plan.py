"""From a request to trainings and cells with their keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

import masks.registry
from bench.code_digest import CodeDigest
from bench.config import Request, json_digest, resolve_mask_names
from bench.data import ImageSet
from bench.errors import UsageError
from bench.evaluation.evaluator import people_digest
from bench.profiling.flops import needs_several_images
from bench.runner.context import RunContext
from bench.runner.keys import Key, evaluation_code, training_code
from masks.registry import fixed_hole_box
from models.base import UNIFORM_OPTIMIZER, Box, Budget, FitCost, InpaintingModel, Task
from models.discovery import find_models, load_model
from models.errors import (
    BrokenModelError,
    InvalidModelError,
    MissingPackageError,
    MissingWeightsError,
    ModelError,
    UnsupportedSizeError,
)
from models.registry import ModelEntry, did_you_mean
from reports.results.recorded_files import mask_file_name

#: The mixture on which a model is trained when several masks are evaluated.
MIXTURE = "paper"


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """One training: a model and its config, on one mixture of masks, with one seed.

    Attributes:
        entry: the model.
        config: an instance of its ``Config``.
        task: what the model is built for.
        budget: steps and optimizers.
        train_mask: a mask's name, or a mixture.
        seed: of weights, order, flips, masks and losses.
        batch_size: images a step.
        label: the model as tables show it.
        what: everything that decides the numbers.
        fit_cost: estimate of fitting a training-free baseline; ``None`` where there is nothing to fit.
    """

    entry: ModelEntry
    config: Any
    task: Task
    budget: Budget
    train_mask: str
    seed: int
    batch_size: int
    label: str
    what: Key
    fit_cost: FitCost | None = None

    @property
    def key(self) -> str:
        """Digest of everything that decides the numbers."""
        return self.what.digest

    @property
    def slug(self) -> str:
        """Readable start of the folder's name."""
        return f"{mask_file_name(self.entry.card.name)}-{mask_file_name(self.train_mask)}-seed{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """An evaluation: a training, or a training-free baseline, on one mask.

    Attributes:
        model: registry name.
        label: the model as tables show it.
        mask: mask evaluated on.
        seed: of the training.
        training: what it rests on; ``None`` if the model's file does not import.
        what: everything that decides the completed images; ``None`` if the cell cannot be computed.
        not_applicable: why it cannot be computed.
        broken: the traceback of a model's file that does not import.
        samples: completions of each image; more than one of stochastic models alone.
    """

    model: str
    label: str
    mask: str
    seed: int
    training: TrainingPlan | None
    what: Key | None = None
    not_applicable: str | None = None
    broken: str | None = None
    samples: int = 1

    @property
    def key(self) -> str:
        """Digest of what decides the completed images; empty for a cell that cannot be computed."""
        return self.what.digest if self.what else ""

    @property
    def train_mask(self) -> str:
        """What it was trained on; a dash for training-free baselines."""
        return self.training.train_mask if self.training and self.trained else "-"

    @property
    def trained(self) -> bool:
        """Whether there is anything to train."""
        return self.training is not None and self.training.entry.model.trained

    @property
    def slug(self) -> str:
        """Readable start of the folder's name."""
        return f"{mask_file_name(self.model)}-{mask_file_name(self.mask)}-seed{self.seed}"


@dataclass(frozen=True)
class Plan:
    """All cells in table order."""

    cells: list[Cell]

    @property
    def trainings(self) -> list[TrainingPlan]:
        """Every training once, in order."""
        return unique_trainings(self.cells)


def unique_trainings(cells: Iterable[Cell]) -> list[TrainingPlan]:
    """Return the trainings that the cells rest on, each once and in order; none for cells that do not apply."""
    # A cell that does not apply rests on no training, although it has one planned to say why.
    needed = [c for c in cells if c.trained and c.not_applicable is None]
    return list({c.training.key: c.training for c in needed if c.training}.values())


def load_models(request: Request) -> dict[str, ModelEntry | str]:
    """Load every model and ask it about size and requirements, before data are opened and anything starts.

    Returns:
        Model name -> entry, or the traceback of a file that failed to import.

    Raises:
        UsageError: an unknown option, a size that no model can take, weights that are required and missing.
    """
    # The masks first: they are cheap to check, and a misspelled one is the commonest mistake.
    _check_masks(request)
    unsupported: list[str] = []
    entries: dict[str, ModelEntry | str] = {}
    for name in request.model_options:
        if name not in request.models:
            raise UsageError(
                f"--set {name}...: {name!r} is not among the models{did_you_mean(name, request.models)}"
            )
    for name in request.models:
        try:
            entry = load_model(name, [Path(p) for p in request.models_from])
        except BrokenModelError as error:
            # A user's file that does not import costs its own cells; the other models go on.
            entries[name] = str(error)
            continue
        except ModelError as error:
            raise UsageError(str(error)) from error
        try:
            config = _config_of(request, entry)
            entry.model.validate(config, request.settings.size)
            entry.model.requirements(config)
        except UnsupportedSizeError as error:
            unsupported.append(f"--size {request.settings.size}: {name}: {error}")
        except (InvalidModelError, MissingPackageError, MissingWeightsError) as error:
            raise UsageError(str(error)) from error
        # Also where the size does not suit: its cells are planned, and say that they do not apply.
        entries[name] = entry
    # Where some models can take the size, the others' cells do not apply; where none can, the size is wrong.
    if unsupported and len(unsupported) == len(entries):
        raise UsageError(unsupported[0])
    return entries


def unsupported_size(entry: ModelEntry, config: Any, size: int) -> str | None:
    """Return why a model cannot take a size, or ``None`` if it can."""
    try:
        entry.model.validate(config, size)
    except UnsupportedSizeError as error:
        return f"{size} x {size} pixels: {error}"
    return None


def _check_masks(request: Request) -> None:
    """Look at every mask of the request, and into the folders of mask images, before anything starts.

    Raises:
        UsageError: an unknown mask (with suggestions), or a mask image that cannot be used.
    """
    for option in ("--mask", "--train-mask"):
        # Both, since a training mask may be another than those that are evaluated.
        try:
            given = request.masks
            if option == "--train-mask":
                given = tuple(train_masks_for(request, mask) for mask in request.masks)
            for name in dict.fromkeys(part for mask in given for part in train_mask_names(mask)):
                masks.registry.mask_content_digest(name, request.settings.size)
        except (ValueError, UsageError) as error:
            raise UsageError(f"{option}: {error}") from error


def build_plan(context: RunContext, entries: Mapping[str, ModelEntry | str], images: ImageSet) -> Plan:
    """Plan all cells of a request, each with the training it needs.

    Args:
        context: the run.
        entries: from :func:`load_models`.
        images: to be evaluated.
    """
    request = context.request
    listings = find_models([Path(p) for p in request.models_from])
    cells = []
    for name in request.models:
        entry = entries[name]
        # A training-free baseline is the same for every seed, and one cell whatever seeds are asked for.
        seeded = isinstance(entry, str) or entry.model.is_seeded(_config_of(request, entry))
        for mask in request.masks:
            for seed in request.settings.seeds if seeded else (0,):
                if isinstance(entry, str):
                    label = listings[name].card.label
                    cells.append(
                        Cell(model=name, label=label, mask=mask, seed=seed, training=None, broken=entry)
                    )
                else:
                    cells.append(_plan_cell(context, entry, mask, seed, images))
    # Where nothing is left for a reason that an option removes, that is an error and not an empty table.
    refused = [cell.not_applicable for cell in cells]
    if refused and refused[0] and "batch normalization" in refused[0] and all(refused):
        raise UsageError(f"{request.models[0]}: {refused[0]}")
    return Plan(cells)


def _plan_cell(context: RunContext, entry: ModelEntry, mask: str, seed: int, images: ImageSet) -> Cell:
    # A training-free baseline may be computed from images with the masks that it is evaluated on.
    train_mask = train_masks_for(context.request, mask) if entry.model.trained else mask
    training = _plan_training(context, entry, train_mask, seed)
    box = fixed_hole_box(mask, context.request.settings.size)
    reason = (
        unsupported_size(entry, training.config, training.task.size)
        or _unsuitable_mask(context, mask)
        or _unsuitable_batch(context, training)
        or entry.model.not_applicable(training.config, training.task, Box(*box) if box else None)
    )
    samples = context.request.settings.samples_per_image
    if not entry.model.draws_samples(training.config):
        samples = 1
    return Cell(
        model=entry.card.name,
        label=training.label,
        mask=mask,
        seed=seed,
        training=training,
        what=None if reason else _cell_key(context, training, mask, images, samples),
        not_applicable=reason,
        samples=samples,
    )


def _unsuitable_mask(context: RunContext, mask: str) -> str | None:
    """Return why a mask makes no sense on these images, or ``None`` if it does."""
    if masks.registry.mask_info(mask).needs_aligned_faces and not context.data.aligned_faces:
        return f"mask {mask} is a part of a face, and these images are not aligned faces"
    return None


def train_masks_for(request: Request, mask: str) -> str:
    """Return the mask or mixture a model is trained on before it is evaluated on ``mask``, in one spelling."""
    chosen = request.settings.train_mask
    if chosen == "same":
        chosen = mask
    elif chosen == "auto":
        chosen = request.masks[0] if len(request.masks) == 1 else MIXTURE
    # In one spelling, so that "paper" and its three names written out are one training and not two.
    names = train_mask_names(chosen)
    return MIXTURE if names == train_mask_names(MIXTURE) else "+".join(names)


def train_mask_names(train_mask: str) -> list[str]:
    """Return the names a training mask stands for, sorted: the order in which a mixture is given does not matter.

    >>> train_mask_names("paper") == train_mask_names("shapes,random-rect,center")
    True
    >>> train_mask_names("half+center")
    ['center', 'half']
    """
    # The name of a folder of masks may hold commas and pluses.
    given = [train_mask] if train_mask.startswith("files:") else train_mask.replace(",", "+").split("+")
    return sorted(resolve_mask_names(given))


def _unsuitable_batch(context: RunContext, training: TrainingPlan) -> str | None:
    """Return why a model cannot be trained in parts of one image, if it would be."""
    if not training.entry.model.trained:
        return None
    # The share of one process: batch normalization is applied to what one forward pass sees.
    own = context.compute.process_group.share_of(training.batch_size)  # refused before anything is trained
    at_once = min(context.request.settings.micro_batch or own, own)
    # The last micro-batch is the smallest, and it is the one that would fail.
    if min(at_once, own % at_once or at_once) > 1:
        return None
    if not needs_several_images(training.entry.model, training.config, training.task, training.budget):
        return None
    return (
        "its batch normalization needs at least 2 images in each forward pass; "
        "give another --batch or --micro-batch"
    )


def _config_of(request: Request, entry: ModelEntry) -> Any:
    """Return a model's config with the preset and ``--set`` applied."""
    return entry.config(request.settings.preset, **request.model_options.get(entry.card.name, {}))


def _plan_training(context: RunContext, entry: ModelEntry, train_mask: str, seed: int) -> TrainingPlan:
    settings, data = context.request.settings, context.data
    config = _config_of(context.request, entry)
    names = train_mask_names(train_mask)
    # Only a mask alone can have a fixed hole: in a mixture, the model must cope with every kind.
    box = fixed_hole_box(names[0], settings.size) if len(names) == 1 else None
    task = Task(
        size=settings.size,
        fixed_hole_box=Box(*box) if box else None,
        mean_pixel=tuple(float(v) for v in data.mean_pixel),  # type: ignore[arg-type]
        mean_image=torch.from_numpy(np.ascontiguousarray(data.mean_image.transpose(2, 0, 1))).float(),
        seed=seed,
    )
    batch_size = settings.batch_for(entry.model.published_batch_size)
    optimizer = dataclasses.replace(
        UNIFORM_OPTIMIZER, learning_rate=settings.learning_rate, schedule=settings.schedule
    )
    # At least one step, however large the batch.
    budget = Budget(
        num_steps=max(1, settings.images_seen // batch_size),
        track=settings.track,
        uniform_optimizer=optimizer,
        steps_per_phase=settings.steps_per_phase,
    )
    suffix = entry.model.label_suffix(config, task)
    plan = TrainingPlan(
        entry=entry,
        config=config,
        task=task,
        budget=budget,
        train_mask=train_mask,
        seed=seed,
        batch_size=batch_size,
        label=f"{entry.card.label} {suffix}".strip(),
        what=Key({}),
        fit_cost=entry.model.fit_cost(config, task, len(data.train.pixels[: settings.train_images])),
    )
    # In two steps, since the key is made of the rest of the plan.
    return dataclasses.replace(plan, what=_training_key(context, plan))


def _training_key(context: RunContext, plan: TrainingPlan) -> Key:
    """Collect everything that decides a training's numbers; of a training-free baseline, far less."""
    settings, names = context.request.settings, train_mask_names(plan.train_mask)
    model = plan.entry.model
    code = _training_code(model, tuple(names), plan.budget.uniform_optimizer.schedule)
    parts: dict[str, Any] = {
        "model": plan.entry.card.name,
        "config": dataclasses.asdict(plan.config),
        # In hexadecimal: a float's decimal text could differ between versions, and every bit of the mean
        # counts.
        "task": {
            "size": plan.task.size,
            "box": plan.task.fixed_hole_box,
            "mean": [float(v).hex() for v in plan.task.mean_pixel],
        },
        "data": context.data.fingerprint,
        "train_images": settings.train_images,
        "code": code.digest,
    }
    # A baseline that is computed from nothing but the image is the same whatever the mask.
    if model.trained or model.needs_fit:
        parts |= {
            "train_mask": names,
            "mask_content": [masks.registry.mask_content_digest(n, settings.size) for n in names],
            "mask_versions": [masks.registry.mask_info(n).version for n in names],
        }
    # A baseline without a seed is one cell, and must not be computed again for another.
    if model.is_seeded(plan.config):
        parts["seed"] = plan.seed
    if model.trained:
        parts |= {
            "budget": dataclasses.asdict(plan.budget),
            "batch": plan.batch_size,
            "micro_batch": settings.micro_batch,
            "flips": settings.flips,
            # A compiled network rounds otherwise; CUDA graphs replay the same kernels.
            "compile": settings.compile or settings.cuda_graphs,
            "mask_bank": settings.mask_bank,
        }
    return Key(parts, code.modules)


def _cell_key(
    context: RunContext, training: TrainingPlan, mask: str, images: ImageSet, samples: int = 1
) -> Key:
    """Collect everything that decides the rows of a cell: the completed test images, and whom they show."""
    code = _evaluation_code(mask, several_samples=samples > 1)
    # One sample is what every evaluation was before there were several: its key stays as it was.
    several = {"samples": samples} if samples > 1 else {}
    # Rows hold the people, over whom intervals are: a list of them that is mended later measures the cell again.
    people = {"people": digest} if (digest := people_digest(images)) else {}
    # Through the training's key, everything that it rests on is part of this one.
    return Key(
        {
            **several,
            **people,
            "training": training.key,
            "mask": mask,
            "mask_content": masks.registry.mask_content_digest(mask, context.data.size),
            "mask_version": masks.registry.mask_info(mask).version,
            "ids": json_digest(list(images.ids)),
            "data": context.data.fingerprint,
            "code": code.digest,
        },
        code.modules,
    )


@cache
# Reading and searching the sources takes tenths of a second, and each model has many cells.
def _training_code(model: type[InpaintingModel], names: tuple[str, ...], schedule: str) -> CodeDigest:
    return training_code(model, names, [schedule])


@cache
def _evaluation_code(mask: str, *, several_samples: bool = False) -> CodeDigest:
    return evaluation_code(mask, several_samples=several_samples)
