"""Load what completes images: a training-free baseline, a training of an experiment, or a file of weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from bench.errors import UsageError
from bench.experiments import open_experiment
from bench.inpainting import trained_weights
from bench.inpainting.tiling import ImageCompleter
from bench.training.device import Compute
from models import discovery
from models.base import Batch, InpaintingModel, Task
from models.errors import ModelError
from models.pretrained import PretrainedModel, load_pretrained
from reports.results.experiment import Experiment

#: Baselines computed from the mean of a training split; like those with ``needs_fit``, they need the data.
NEED_DATA = ("mean", "mean-image")


def load_completer(
    source: str | None,
    model: str | None,
    compute: Compute,
    models_from: Sequence[Path] = (),
    *,
    seed: int | None = None,
    train_mask: str | None = None,
) -> ImageCompleter:
    """Load what completes images.

    Args:
        source: an experiment's name or folder, a file of ``bench export-weights``, or ``None`` for a baseline.
        model: the baseline, or which of the source's models.
        compute: device and precision.
        models_from: files with models of a user's own.
        seed: which of an experiment's trainings; the lowest seed by default.
        train_mask: which of an experiment's trainings, where several masks were trained on.

    Raises:
        UsageError: unknown, or not one training.
    """
    if source is None:
        if model is None or seed is not None or train_mask is not None:
            raise UsageError("give --model biharmonic, or --from EXPERIMENT (or a weights file)")
        return load_baseline(model, compute, models_from)
    # A name with this suffix is meant as a file, even if it is missing: the error should say so.
    if Path(source).is_file() or source.endswith(".safetensors"):
        return load_weights_file(Path(source), model, compute, models_from)
    return load_from_experiment(open_experiment(source), model, seed, train_mask, compute, models_from)


def load_baseline(name: str, compute: Compute, models_from: Sequence[Path] = ()) -> ImageCompleter:
    """Load the training-free baseline ``name``.

    Raises:
        UsageError: unknown, needing a training or data, or an uninstalled package.
    """
    try:
        entry = discovery.load_model(name, models_from)
        # Fitting needs a training split, which one photo does not give.
        if entry.model.trained or entry.model.needs_fit or name in NEED_DATA:
            need = (
                "is trained: give --from EXPERIMENT or a weights file"
                if entry.model.trained
                else ("is computed from a training split, which an image alone does not give: use biharmonic")
            )
            raise UsageError(f"--model {name} {need}")
        config = entry.config()
        entry.model.requirements(config)
    except ModelError as error:
        raise UsageError(str(error)) from error

    # Built for each size, since tiles of a photo differ and a baseline costs nothing to build.
    def complete(image: Tensor, mask: Tensor) -> Tensor:
        return complete_with(entry.model(config, Task(size=image.shape[-1])), image, mask)

    return ImageCompleter(complete, None, None, compute)


def complete_with(model: InpaintingModel, image: Tensor, mask: Tensor) -> Tensor:
    """Complete ``(N, 3, S, S)`` images with a baseline, outside of any run; ``mask`` is 1 in holes."""
    batch = Batch(image, mask, torch.arange(len(image)), 0, torch.Generator())
    return model.complete(batch).composite


def load_weights_file(
    path: Path, name: str | None, compute: Compute, models_from: Sequence[Path] = ()
) -> ImageCompleter:
    """Load the weights of a file, which must be of the model ``name`` if one is given.

    Raises:
        UsageError: unreadable, or of another model.
    """
    try:
        loaded = load_pretrained(path, models_from)
    except ModelError as error:
        raise UsageError(f"--from: {error}") from error
    if name not in (None, loaded.card["model"]):
        raise UsageError(f"--model {name}: {path} holds {loaded.card['model']}")
    return _completer(loaded, compute)


def load_from_experiment(
    experiment: Experiment,
    name: str | None,
    seed: int | None,
    train_mask: str | None,
    compute: Compute,
    models_from: Sequence[Path] = (),
) -> ImageCompleter:
    """Load the one training of ``experiment`` that is meant.

    Raises:
        UsageError: none, or several.
    """
    found = trained_weights.stored_trainings(experiment, [name] if name else [], seed, train_mask)
    # Several seeds of one model are no question: any of them will do, see below.
    if name is None and len({t.model for t in found}) > 1:
        there = ", ".join(dict.fromkeys(t.model for t in found))
        raise UsageError(f"{experiment.name} holds several models; give --model, one of: {there}")
    if len({t.train_mask for t in found}) > 1:
        there = ", ".join(dict.fromkeys(t.train_mask for t in found))
        raise UsageError(f"{experiment.name} holds several trainings; give --train-mask, one of: {there}")
    chosen = min(found, key=lambda t: t.seed)  # any would do; the least is the one that everybody has
    return _completer(trained_weights.load_trained_model(experiment, chosen, models_from), compute)


def _completer(loaded: PretrainedModel, compute: Compute) -> ImageCompleter:
    loaded.to(compute.device)
    complete: Callable[[Tensor, Tensor], Tensor] = loaded
    return ImageCompleter(complete, loaded.size, loaded.model.task.fixed_hole_box, compute)
