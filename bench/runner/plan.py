"""From a request to trainings and cells with their keys. Nothing is trained here."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import masks.registry
from bench import provenance
from bench.config import Request, json_digest
from bench.data import Dataset
from bench.errors import UsageError
from bench.training.device import Compute
from masks.registry import fixed_hole_box
from models.base import UNIFORM_OPTIMIZER, Box, Budget, FitCost, Task
from models.discovery import find_models, load_model
from models.errors import (
    BrokenModelError,
    InvalidModelError,
    MissingPackageError,
    MissingWeightsError,
    UnsupportedSizeError,
)
from models.registry import ModelEntry, did_you_mean
from reports.results.experiment import mask_file_name

#: The mixture on which a model is trained when several masks are evaluated.
MIXTURE = "paper"


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """One training: a model and its config, on one mixture of masks, with one seed."""

    entry: ModelEntry
    config: Any
    task: Task
    budget: Budget
    train_mask: str
    seed: int
    batch_size: int
    label: str
    key: str
    fit_cost: FitCost | None = None

    @property
    def slug(self) -> str:
        """Readable start of the folder's name."""
        return f"{self.entry.card.name}-{mask_file_name(self.train_mask)}-seed{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """An evaluation: a training (or an untrained fill) on one mask. ``broken`` or ``not_applicable`` say why not."""

    model: str
    label: str
    mask: str
    seed: int
    training: TrainingPlan | None
    not_applicable: str | None = None
    broken: str | None = None

    @property
    def train_mask(self) -> str:
        """What it was trained on; a dash for untrained fills."""
        return self.training.train_mask if self.training and self.trained else "-"

    @property
    def trained(self) -> bool:
        """Whether there is anything to train."""
        return self.training is not None and self.training.entry.model.trained

    @property
    def slug(self) -> str:
        """Readable start of the folder's name."""
        return f"{self.model}-{mask_file_name(self.mask)}-seed{self.seed}"

    @property
    def identity(self) -> tuple[str, ...]:
        """What a later run of the same cell replaces."""
        return (self.label, self.model, self.mask, self.train_mask, str(self.seed))


@dataclass(frozen=True)
class Plan:
    """All cells in table order."""

    cells: list[Cell]

    @property
    def trainings(self) -> list[TrainingPlan]:
        """Every training once, in order."""
        unique = {c.training.key: c.training for c in self.cells if c.trained and c.training}
        return list(unique.values())


def load_models(request: Request) -> dict[str, ModelEntry | str]:
    """Load every model and ask it about size and requirements, before data are opened and anything starts.

    Returns:
        Model name -> entry, or the traceback of a file that failed to import.

    Raises:
        UsageError: an unknown option, a size a model cannot take, weights that are required and missing.
    """
    _check_masks(request)
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
            entries[name] = str(error)
            continue
        try:
            config = entry.config(request.settings.preset, **request.model_options.get(name, {}))
            entry.model.validate(config, request.settings.size)
            entry.model.requirements(config)
        except UnsupportedSizeError as error:
            raise UsageError(f"--size {request.settings.size}: {name}: {error}") from error
        except (InvalidModelError, MissingPackageError, MissingWeightsError) as error:
            raise UsageError(str(error)) from error
        entries[name] = entry
    return entries


def _check_masks(request: Request) -> None:
    """Look at every mask of the request, and into the folders of mask images, before anything starts.

    Raises:
        UsageError: an unknown mask (with suggestions), or a mask image that cannot be used.
    """
    for option in ("--mask", "--train-mask"):
        try:
            given = request.masks
            if option == "--train-mask":
                given = tuple(train_masks_for(request, mask) for mask in request.masks)
            for name in dict.fromkeys(part for mask in given for part in train_mask_names(mask)):
                masks.registry.mask_content_digest(name, request.settings.size)
        except ValueError as error:
            raise UsageError(f"{option}: {error}") from error


def build_plan(
    request: Request, entries: dict[str, ModelEntry | str], data: Dataset, compute: Compute
) -> Plan:
    """All cells of ``request``, each with the training it needs."""
    cells = []
    listings = find_models([Path(p) for p in request.models_from])
    for name in request.models:
        entry = entries[name]
        if isinstance(entry, str):
            label = listings[name].card.label
            cells += [
                Cell(model=name, label=label, mask=mask, seed=seed, training=None, broken=entry)
                for mask in request.masks
                for seed in request.settings.seeds
            ]
            continue
        for mask in request.masks:
            for seed in request.settings.seeds:
                # A baseline without training is fitted to the masks that it completes.
                learnt = train_masks_for(request, mask) if entry.model.trained else mask
                plan = _training(request, entry, learnt, seed, data, compute)
                if not entry.model.trained and seed != request.settings.seeds[0]:
                    continue
                box = fixed_hole_box(mask, request.settings.size)
                reason = entry.model.not_applicable(plan.config, plan.task, Box(*box) if box else None)
                cells.append(
                    Cell(
                        model=name,
                        label=plan.label,
                        mask=mask,
                        # An untrained fill is the same for every seed, and one cell whatever seeds are asked for.
                        seed=seed if entry.model.trained else 0,
                        training=plan,
                        not_applicable=reason,
                    )
                )
    return Plan(cells)


def train_masks_for(request: Request, mask: str) -> str:
    """The mask or mixture a model is trained on before it is evaluated on ``mask``; one spelling for one mixture."""
    chosen = request.settings.train_mask
    if chosen == "same":
        chosen = mask
    elif chosen == "auto":
        chosen = request.masks[0] if len(request.masks) == 1 else MIXTURE
    names = train_mask_names(chosen)
    return MIXTURE if names == train_mask_names(MIXTURE) else "+".join(names)


def train_mask_names(train_mask: str) -> list[str]:
    """The names a training mask stands for, sorted: a mixture does not depend on the order in which it is named."""
    given = [train_mask] if train_mask.startswith("files:") else train_mask.replace(",", "+").split("+")
    return sorted(masks.registry.resolve_masks(given))


def cell_key(cell: Cell, data: Dataset, ids: Iterable[str], metrics: Iterable[str], compute: Compute) -> str:
    """Digest of what decides a cell's numbers."""
    assert cell.training is not None
    return json_digest(
        {
            "training": cell.training.key,
            "mask": cell.mask,
            "mask_content": masks.registry.mask_content_digest(cell.mask, data.size),
            "mask_version": masks.registry.mask_info(cell.mask).version,
            "ids": list(ids),
            "data": data.fingerprint,
            "metrics": sorted(metrics),
            "numerics": compute.numerics(),
            "libraries": provenance.numeric_library_versions(),
            "code": provenance.evaluation_code_digest(),
        }
    )


def _training(
    request: Request, entry: ModelEntry, train_mask: str, seed: int, data: Dataset, compute: Compute
) -> TrainingPlan:
    settings = request.settings
    config = entry.config(settings.preset, **request.model_options.get(entry.card.name, {}))
    names = train_mask_names(train_mask)
    box = fixed_hole_box(names[0], settings.size) if len(names) == 1 else None
    task = Task(
        size=settings.size,
        fixed_hole_box=Box(*box) if box else None,
        mean_pixel=tuple(float(v) for v in data.mean_pixel),  # type: ignore[arg-type]
        mean_image=torch.from_numpy(np.ascontiguousarray(data.mean_image.transpose(2, 0, 1))).float(),
    )
    batch_size = settings.batch_for(entry.model.published_batch_size)
    budget = Budget(
        num_steps=max(1, settings.images_seen // batch_size),
        track=settings.track,
        uniform_optimizer=dataclasses.replace(UNIFORM_OPTIMIZER, learning_rate=settings.learning_rate),
        steps_per_phase=settings.steps_per_phase,
    )
    suffix = entry.model.label_suffix(config, task)
    label = f"{entry.card.label} {suffix}".strip()
    key = json_digest(
        {
            "model": entry.card.name,
            "config": dataclasses.asdict(config),
            "task": {
                "size": task.size,
                "box": task.fixed_hole_box,
                "mean": [float(v).hex() for v in task.mean_pixel],
            },
            "train_mask": names if entry.model.trained else None,
            "mask_content": [masks.registry.mask_content_digest(n, settings.size) for n in names],
            "mask_versions": [masks.registry.mask_info(n).version for n in names],
            "seed": seed if entry.model.trained else None,
            "data": data.fingerprint,
            "budget": dataclasses.asdict(budget),
            "batch": batch_size,
            "micro_batch": settings.micro_batch,
            "flips": settings.flips,
            "compile": settings.compile,
            "train_images": settings.train_images,
            "mask_bank": settings.mask_bank,
            "code": provenance.training_code_digest(model_file(entry)),
            "numerics": compute.numerics(),
            "libraries": provenance.numeric_library_versions(),
        }
    )
    return TrainingPlan(
        entry=entry,
        config=config,
        task=task,
        budget=budget,
        train_mask=train_mask,
        seed=seed,
        batch_size=batch_size,
        label=label,
        key=key,
        fit_cost=entry.model.fit_cost(config, task, len(data.train.pixels[: settings.train_images])),
    )


def model_file(entry: ModelEntry) -> Path:
    """The file of the model's class."""
    return Path(inspect.getfile(entry.model))
