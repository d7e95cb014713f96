"""Keys: digests of what decides a number, and of nothing else.

A result has two parts of origin, which are kept apart everywhere:

* *what* was computed: model, config, masks, seed, data (by their fingerprint), budget, and the code that decides
  numbers (:mod:`bench.code_digest`). Its digest is the key: folders are named after it, and a planner needs no GPU to
  know it.
* *where* it was computed: device, precision, thread count, instruction set or GPU, versions of numeric libraries. It is
  recorded beside every result and compared, but is not in a key.

A training and a cell have one key each. A metric has a key of its own within its cell, so that a new metric, or a
change in one, measures that metric alone again.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import masks.registry
from bench import code_digest
from bench.code_digest import CodeDigest, QualifiedName, SourceTree
from bench.config import json_digest
from bench.evaluation.metrics import DistributionMetric, ImageMetric
from models.base import InpaintingModel

#: What a training does beside the model's own code.
_TRAINING_CODE: tuple[QualifiedName, ...] = (
    ("bench.training.train_step", "TrainStep.run"),
    ("bench.training.optimizers", "Optimizers.enter_phase"),
    ("bench.training.optimizers", "Optimizers.set_modes"),
    ("bench.training.phase_schedule", "Schedule"),
    ("bench.training.data_loader", "TrainingDataLoader"),
    ("bench.training.device", "select_device"),
    ("bench.training.model_setup", "build_model"),
    ("masks.bank", "draw_bank"),
)
#: What an evaluation does beside the model's completion and the metrics.
_EVALUATION_CODE: tuple[QualifiedName, ...] = (
    ("bench.evaluation.evaluator", "evaluate_model"),
    ("bench.training.model_setup", "build_model"),
    ("masks.registry", "draw_masks"),
)
#: The same where several samples of an image are drawn.
_SAMPLES_CODE: tuple[QualifiedName, ...] = (
    ("bench.evaluation.stochastic_samples", "evaluate_samples"),
    *_EVALUATION_CODE[1:],
)
#: Methods of a model that are called by others.
_MODEL_METHODS = ("phases", "complete", "loss")
#: Where every search stops: tables of all masks and metrics, whose entries count one by one; names, which keys hold as
#: they are; and how mask images are read, since their pixels are in the keys.
_STOPS: tuple[QualifiedName, ...] = (
    ("masks.kinds", "KINDS"),
    ("masks.registry", "_import_families"),
    ("masks.registry", "resolve_masks"),
    ("masks.folder", "_load"),
    ("bench.evaluation.metrics", "_REGISTERED"),
)
#: Drawing from a folder counts where a mask is a folder's alone, and collecting features for metrics of sets alone.
_FROM_FOLDER: QualifiedName = ("masks.folder", "draw_from_folder")
_OF_SETS: QualifiedName = ("bench.evaluation.feature_sets", "FeatureCollector")


@dataclass(frozen=True)
class Key:
    """A key with the parts that it is made of.

    Attributes:
        parts: name -> JSON value; ``code`` is a digest of the code.
        code: module -> digest of its part of that code: says where a change is, and is not in the digest.
    """

    parts: Mapping[str, Any]
    code: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of the parts."""
        return json_digest(self.parts)

    def as_json(self) -> dict[str, Any]:
        """Return the key as run folders record it."""
        return {"digest": self.digest, "parts": dict(self.parts), "code": dict(self.code)}


def training_code(
    model: type[InpaintingModel],
    train_masks: Iterable[str],
    mentions: Iterable[str] = (),
    tree: SourceTree | None = None,
) -> CodeDigest:
    """Return the digest of the code that decides a training's numbers.

    Args:
        model: its class; of a training-free baseline, its own code counts alone.
        train_masks: names of the masks it draws from.
        mentions: names that settings choose from registries, such as that of a learning-rate schedule.
        tree: sources to read; this program's if not given.
    """
    # The user's file is not in the program's tree; with it come the modules of its own folder.
    tree, place = model_place(model, tree or code_digest.program_source())
    if not model.trained:
        # A baseline has no step, loader or schedule: a change there must not compute it again.
        return code_digest.closure(tree, [place], ["complete", "fit"])
    # By function and not by name: two names may share one function with other arguments, which are added
    # below.
    drawn = [masks.registry.mask_function(name) for name in train_masks]
    functions = [code_digest.qualified_name(function) for function in drawn]
    # The trainer calls the methods by name from modules outside of this closure, so they are mentioned here.
    code = code_digest.closure(
        tree, [place, *_TRAINING_CODE, *functions], {*_MODEL_METHODS, *mentions}, _stops(functions)
    )
    return _with_arguments(code, drawn)


def evaluation_code(
    mask: str, tree: SourceTree | None = None, *, several_samples: bool = False
) -> CodeDigest:
    """Return the digest of the code that completes test images under ``mask``, besides model and metrics."""
    tree = tree or code_digest.program_source()
    drawn = masks.registry.mask_function(mask)
    function = code_digest.qualified_name(drawn)
    evaluation = _SAMPLES_CODE if several_samples else _EVALUATION_CODE
    # Features are collected only for metrics of sets, and belong to the keys of those.
    code = code_digest.closure(tree, [*evaluation, function], (), [*_stops([function]), _OF_SETS])
    return _with_arguments(code, [drawn])


def metric_code(metric: ImageMetric | DistributionMetric, tree: SourceTree | None = None) -> CodeDigest:
    """Return the digest of the code of one metric: its function, and what loads the weights that it needs."""
    tree = tree or code_digest.program_source()
    # All callables of the entry: beside the function, its preparation, which loads weights and scales images.
    functions = [value for value in vars(metric).values() if callable(value)]
    places = [code_digest.qualified_name(function) for function in functions]
    module = metric.function.__module__
    if tree.module(module) is None:  # a file that another distribution adds to the package of metrics
        tree, known = tree.with_file(Path(inspect.getfile(metric.function)))
        places = [(known if place[0] == module else place[0], place[1]) for place in places]
    of_sets = [_OF_SETS] if isinstance(metric, DistributionMetric) else []
    return _with_arguments(code_digest.closure(tree, [*places, *of_sets], (), _STOPS), functions)


def _stops(functions: Iterable[QualifiedName]) -> list[QualifiedName]:
    return [*_STOPS, *([] if _FROM_FOLDER in functions else [_FROM_FOLDER])]


def _with_arguments(code: CodeDigest, functions: Iterable[Callable[..., Any]]) -> CodeDigest:
    """Add what partial applications of the functions have fixed to a digest."""
    fixed = [code_digest.bound_arguments(function) for function in functions]
    # Only where something is fixed, so that the digest of a plain function is that of its code.
    return dataclasses.replace(code, digest=json_digest([code.digest, fixed])) if any(fixed) else code


def model_place(model: type[InpaintingModel], tree: SourceTree) -> tuple[SourceTree, QualifiedName]:
    """Return a tree that knows the file of a model's class, and where in it the class is defined."""
    known = tree.module(model.__module__)
    if known is not None:
        return tree, (model.__module__, model.__qualname__)
    tree, module = tree.with_file(Path(inspect.getfile(model)))
    return tree, (module, model.__qualname__)


# What differs between two origins, in words.


def describe_changes(old: Mapping[str, Any], new: Key) -> list[str]:
    """Say which parts of a recorded key differ from ``new``, each in a few words.

    Args:
        old: as :meth:`Key.as_json` gave it.
        new: the key that is wanted now.

    Examples:
        >>> now = Key({"config": {"width": 2}, "seed": 0, "code": "f00"}, {"models.glcic": "b"})
        >>> was = Key({"config": {"width": 1}, "seed": 0, "code": "ba5"}, {"models.glcic": "a"}).as_json()
        >>> describe_changes(was, now)
        ['code of models.glcic', 'config width (2, was 1)']
    """
    parts = old.get("parts") or {}
    found = []
    if parts.get("code") != new.parts.get("code"):
        # A record of another version may lack the parts by module; then "code" is all that can be said.
        modules = changed_modules(old.get("code") or {}, new.code)
        found.append("code of " + ", ".join(modules) if modules else "code")
    for name, value in new.parts.items():
        # "training" is the digest of another key, whose own parts are compared instead.
        if name not in ("code", "training") and parts.get(name) != as_json(value):
            found += _describe_part(name, parts.get(name), as_json(value))
    return found


def changed_modules(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """Name the modules whose part of the code differs, or that only one of two closures has."""
    return sorted(name for name in {**old, **new} if old.get(name) != new.get(name))


def describe_where(recorded: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Say what of a machine differs from another.

    >>> describe_where({"threads": 8, "torch": "2.5.0"}, {"threads": 2, "torch": "2.5.0"})
    ['threads 8, here 2']
    """
    names = dict.fromkeys([*recorded, *here])
    return [
        f"{name} {recorded.get(name)}, here {here.get(name)}"
        for name in names
        if recorded.get(name) != here.get(name)
    ]


_PART_NAMES = {
    "data": "data",
    "ids": "test images",
    "mask_content": "mask images",
    "suite": "version of the masks",
}


def _describe_part(name: str, old: Any, new: Any) -> list[str]:
    if name in _PART_NAMES:
        return [_PART_NAMES[name]]
    if isinstance(new, dict) and isinstance(old, dict):
        return [
            f"{name} {k} ({new.get(k)}, was {old.get(k)})" for k in {**old, **new} if old.get(k) != new.get(k)
        ]
    return [f"{name} ({new}, was {old})"]


def as_json(value: Any) -> Any:
    """Return a value as it is after it has been written to JSON and read again."""
    if isinstance(value, Mapping):
        return {str(k): as_json(v) for k, v in value.items()}
    return [as_json(v) for v in value] if isinstance(value, list | tuple) else value
