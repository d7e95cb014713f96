"""The settings of an experiment: typed, self-validating, with presets and a digest.

Defaults of a field come from the preset; whatever is given explicitly wins. The resolved settings are written to the
run folder, and are what keys are made from.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from bench.errors import UsageError
from masks.file_names import escape_name
from models.config_fields import describe_type, fits_type, type_hints
from models.learning_rate_schedules import SCHEDULES, UNIFORM_LEARNING_RATE, UNIFORM_SCHEDULE
from models.registry import did_you_mean

Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
SIZES = (32, 512)

#: Fields each preset changes; the class defaults are those of ``quick``.
PRESETS: dict[str, dict[str, Any]] = {
    "smoke": {"images_seen": 48, "batch": 4, "test_images": 8, "train_images": 32},
    "quick": {},
    "paper": {
        "size": 160,
        "images_seen": 3_600_000,
        "track": "faithful",
        "seeds": (0, 1, 2),
        "test_images": None,
        "split": "paper",
        "validate_every": 5000,
        "report_every": 100,
    },
}
PRESET_SUMMARIES = {
    "smoke": "a few steps of every phase with narrow networks; checks that everything runs (seconds)",
    "quick": "64 px, 1,600 images seen per model; shows the whole thing work (5 minutes on two cores)",
    "paper": "160 px, each paper's own optimizer and batch, 3.6 million images seen, 3 seeds (needs a GPU)",
}


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What decides the numbers of an experiment, besides models, masks and data.

    Attributes:
        preset: ``smoke``, ``quick`` or ``paper``; model configs have presets of the same names.
        size: side of the images in pixels.
        track: ``uniform`` (one optimizer, batch and budget for all) or ``faithful`` (each paper's own).
        images_seen: training budget of each model, in images.
        batch: images per step; ``None`` is 16 on the uniform track and the paper's own on the faithful track;
            ``auto`` is the largest that fits, chosen once for an experiment (:mod:`bench.runner.batch_size`).
        micro_batch: at most this many images at once; gradients are accumulated over the batch.
        steps_per_phase: exactly this many steps for every phase, instead of ``images_seen``.
        learning_rate: of the uniform track's Adam, at the first step.
        schedule: how the uniform track's learning rate changes (:data:`models.learning_rate_schedules.SCHEDULES`).
        seeds: one training each.
        flips: mirror half of the training images.
        precision: ``auto`` is bf16 autocast where the device computes in it, else fp32; or one by name
            (:class:`bench.training.device.Compute`).
        deterministic: replace or refuse kernels whose sums depend on the order of threads.
        compile: run networks through ``torch.compile``.
        cuda_graphs: compile, and replay each network as a CUDA graph.
        split: how data is divided: ``auto``, ``official``, ``paper``, ``identity``, ``digest``.
        crop: ``center``, ``resize`` or ``face``.
        train_mask: ``auto`` (the mask given; the paper's three kinds mixed where several are), ``same``, or a name.
        train_images: use only this many training images, the first ones (``None``: all).
        evaluate_on: ``test``, or ``validation`` to choose settings by without a look at the test images.
        test_images: evaluate only this many of those images, chosen by seed (``None``: all).
        metrics: measured besides the primary ones: names or groups (``bench list metrics``).
        samples_per_image: completions that a stochastic model draws of each image; others have one.
        mask_bank: training masks drawn before training.
        report_every: steps between readings of the losses, at most a tenth of a training.
        validate_every: steps between validations, at most a tenth of a training (``None``: just that).
        checkpoint_every: steps between checkpoints (``None``: by time only).
    """

    preset: str = "quick"
    size: int = 64
    track: Literal["uniform", "faithful"] = "uniform"
    images_seen: int = 1600
    batch: int | Literal["auto"] | None = None
    micro_batch: int | None = None
    steps_per_phase: int | None = None
    learning_rate: float = UNIFORM_LEARNING_RATE
    schedule: str = UNIFORM_SCHEDULE
    seeds: tuple[int, ...] = (0,)
    flips: bool = True
    precision: Precision = "auto"
    deterministic: bool = False
    compile: bool = False
    cuda_graphs: bool = False
    split: str = "auto"
    crop: str = "center"
    train_mask: str = "auto"
    train_images: int | None = None
    evaluate_on: Literal["test", "validation"] = "test"
    test_images: int | None = 500
    metrics: tuple[str, ...] = ("hole_psnr_db", "hole_mae")
    samples_per_image: int = 1
    mask_bank: int = 8192
    report_every: int = 10
    validate_every: int | None = None
    checkpoint_every: int | None = None

    def __post_init__(self) -> None:
        # By the option's name: most settings are given on the command line, and Python users find it as
        # easily.
        def refuse(name: str, why: str) -> None:
            value = getattr(self, name)
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else value
            raise UsageError(f"--{name.replace('_', '-')} {shown}: {why}")

        # Types first, so that the comparisons below cannot fail on a text.
        for name, hint in type_hints(type(self)).items():
            if not fits_type(getattr(self, name), hint):
                refuse(name, f"must be {describe_type(hint)}")
        if self.preset not in PRESETS:
            refuse("preset", "there are " + ", ".join(PRESETS))
        for name in ("images_seen", "report_every", "mask_bank", "samples_per_image"):
            if getattr(self, name) < 1:
                refuse(name, "must be at least 1")
        for name in (
            "batch",
            "micro_batch",
            "steps_per_phase",
            "train_images",
            "test_images",
            "validate_every",
            "checkpoint_every",
        ):
            value = getattr(self, name)
            # None and "auto" are not numbers, and are allowed where the type says so.
            if isinstance(value, int) and value < 1:
                refuse(name, "must be at least 1")
        if not SIZES[0] <= self.size <= SIZES[1]:
            refuse("size", f"must lie between {SIZES[0]} and {SIZES[1]} pixels")
        if self.schedule not in SCHEDULES:
            refuse("schedule", "unknown" + did_you_mean(self.schedule, SCHEDULES))
        if not (0 < self.learning_rate < math.inf):
            refuse("learning_rate", "must be a positive number")
        if not self.seeds or min(self.seeds) < 0:
            refuse("seeds", "must be one or more numbers from 0")

    def batch_for(self, published_batch_size: int) -> int:
        """Return the images per step for a model whose paper says ``published_batch_size``.

        Examples:
            >>> RunConfig().batch_for(96), RunConfig(track="faithful").batch_for(96), RunConfig(batch=8).batch_for(96)
            (16, 96, 8)
        """
        if isinstance(self.batch, int):
            return self.batch
        return published_batch_size if self.track == "faithful" else 16

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON values."""
        return {**dataclasses.asdict(self), "seeds": list(self.seeds), "metrics": list(self.metrics)}


def resolve_mask_names(names: Iterable[str]) -> list[str]:
    """Expand groups of masks into names.

    Raises:
        UsageError: neither a mask nor a group (with suggestions), or a folder of masks with unknown parameters.

    Examples:
        >>> resolve_mask_names(["half", "paper"])
        ['half', 'center', 'random-rect', 'shapes']
        >>> resolve_mask_names(["centre"])
        Traceback (most recent call last):
        ...
        bench.errors.UsageError: unknown mask 'centre'; did you mean 'center'?
    """
    from masks.registry import UnknownMaskError, resolve_masks

    try:
        return resolve_masks(names)
    except UnknownMaskError as error:
        raise UsageError(f"unknown mask {error.name!r}{did_you_mean(error.name, error.known)}") from error
    except ValueError as error:
        raise UsageError(str(error)) from error


def resolve_config(preset: str = "quick", overrides: Mapping[str, Any] | None = None) -> RunConfig:
    """Return the settings of ``preset`` with ``overrides``; entries that are ``None`` count as not given.

    Raises:
        UsageError: unknown preset or field (with suggestions), or a value of a wrong type or out of range.

    Examples:
        >>> resolve_config("paper", {"size": 64, "batch": None}).as_dict()["seeds"]
        [0, 1, 2]
        >>> resolve_config("quick", {"track": "banana"})
        Traceback (most recent call last):
            ...
        bench.errors.UsageError: --track banana: must be one of 'uniform', 'faithful'
    """
    if preset not in PRESETS:
        raise UsageError(f"--preset {preset}: unknown{did_you_mean(preset, PRESETS)}")
    fields = {**PRESETS[preset], "preset": preset}
    known = {f.name for f in dataclasses.fields(RunConfig)}
    for name, value in (overrides or {}).items():
        if name not in known:
            raise UsageError(f"unknown setting {name!r}{did_you_mean(name, known)}")
        # A list from a file or from JSON; settings are tuples, so that they can be hashed.
        if value is not None:
            fields[name] = tuple(value) if isinstance(value, list) else value
    return RunConfig(**fields)


def json_digest(value: Any) -> str:
    """Return the hex SHA-256 of a JSON value, independent of the order of keys.

    Examples:
        >>> json_digest({"size": 64, "seeds": (0, 1)}) == json_digest({"seeds": [0, 1], "size": 64})
        True
    """
    # Separators and order are fixed, so that equal values have equal digests on every Python.
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    # A set has no order of its own.
    if isinstance(value, (tuple, set, frozenset)):
        return sorted(value) if isinstance(value, (set, frozenset)) else list(value)
    raise TypeError(f"{type(value).__name__} cannot enter a digest")


@dataclass(frozen=True, kw_only=True)
class Request:
    """A whole ``bench run``: what to train on which data with which settings.

    Attributes:
        models: model names, already expanded. Names and paths of files are escaped
            (:func:`masks.file_names.escape_name`), since rows and manifests hold them.
        masks: evaluation mask names, already expanded.
        data: ``faces`` or a path.
        settings: the resolved settings.
        model_options: model name -> config fields to change (``--set pconv.hole_weight=3``).
        models_from: a user's model files or folders.
        name: the experiment's name, or ``None`` for a readable one.
        device: ``auto``, ``cpu``, ``cuda`` ...
        pictures: whether images are stored and embedded in the report.
        allow_unreadable: continue although more than 1 % of the images cannot be read.
        jobs: units of work (a training and its cells) side by side; ``auto``: one a GPU.
        jobs_per_gpu: of ``jobs="auto"``.
        recompute: compute again what was computed with other versions or on other hardware.
        samples_every: steps between grids of sample images (``None``: none).
        protocol: name of the protocol that fixed masks and settings (:mod:`bench.protocols`), for the record.
        command: the words of the command line, for the record.
        options: the same as resolved options, key -> plain value: what ``bench run --config`` takes.
    """

    models: tuple[str, ...]
    masks: tuple[str, ...]
    data: str = "faces"
    settings: RunConfig = field(default_factory=RunConfig)
    model_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    models_from: tuple[str, ...] = ()
    name: str | None = None
    device: str = "auto"
    pictures: bool = True
    allow_unreadable: bool = False
    jobs: int | Literal["auto"] = 1
    jobs_per_gpu: int = 1
    recompute: bool = False
    samples_every: int | None = None
    protocol: str | None = None
    command: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # A request comes from a file too, or from Python, where nothing has looked at its values yet.
        for name, hint in type_hints(type(self)).items():
            value = getattr(self, name)
            if not fits_type(value, hint):
                raise UsageError(f"{name} must be {describe_type(hint)}, not {value!r}")
        if not isinstance(self.settings, RunConfig):
            raise UsageError(f"settings must be a RunConfig, not {self.settings!r}")
        for name in ("model_options", "options"):
            if not isinstance(getattr(self, name), Mapping):
                raise UsageError(f"{name} must be a mapping, not {getattr(self, name)!r}")
        if wrong := [v for v in self.model_options.values() if not isinstance(v, Mapping)]:
            raise UsageError(f"model_options must map each model to a mapping of fields, not to {wrong[0]!r}")
        # To Python, an empty path is the current folder, which nobody named.
        for name, paths in {"data": (self.data,), "models_from": self.models_from}.items():
            if "" in paths:
                raise UsageError(f"{name}: an empty path; give '.' for the current folder")
        escaped = {
            "models": tuple(map(escape_name, self.models)),
            "models_from": tuple(map(escape_name, self.models_from)),
            "model_options": {escape_name(name): fields for name, fields in self.model_options.items()},
        }
        for name, value in escaped.items():
            object.__setattr__(self, name, value)
