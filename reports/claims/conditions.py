"""Conditions of a verdict: departures from the paper's set-up, and the commands that supply what is missing.

The reference is the paper where it says something, and the preset ``paper`` where it is silent: the length of
training (3.6 million images seen), batch sizes and flips are choices of this program, and are called so.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import Any

from reports.claims.paper import Claim
from reports.results.experiment import Experiment
from reports.statistics.scores import Scores

#: What the paper says: size of the images, and 180,000 / 20,000 of CelebA's images, split at random.
PAPER_SIZE, PAPER_TRAIN_IMAGES, PAPER_TEST_IMAGES = 160, 180_000, 20_000
#: Shares of these numbers that pass: the preset holds out 5 % of the training part for validation.
_ENOUGH = 0.95
#: Images seen by each model with the preset ``paper``; the paper gives no number.
PRESET_IMAGES_SEEN = 3_600_000

GroupedScores = dict[tuple[str, str, str], Scores]
_Settings = Mapping[str, Any]


def _size(settings: _Settings, data: _Settings) -> str:
    size = settings["size"]
    return "" if size == PAPER_SIZE else f"{size} px instead of the paper's {PAPER_SIZE}"


def _recipe(settings: _Settings, data: _Settings) -> str:
    # Here and below: what an older manifest does not say is not held against it.
    if settings.get("track", "faithful") == "faithful":
        return ""
    rate = settings.get("learning_rate")
    adam = "" if rate is None else f" (Adam {rate:g})"
    return f"one recipe for all models{adam} instead of each paper's own"


def _length(settings: _Settings, data: _Settings) -> str:
    if settings.get("steps_per_phase") is not None:
        return f"{settings['steps_per_phase']} steps per phase instead of the preset's budget"
    seen = settings["images_seen"]
    if seen >= PRESET_IMAGES_SEEN:
        return ""
    return f"{seen:,} images seen instead of the preset's {PRESET_IMAGES_SEEN:,} (our choice: the paper gives none)"


def _batch(settings: _Settings, data: _Settings) -> str:
    parts = []
    if settings.get("batch") is not None:
        parts.append(f"batch {settings['batch']} for all models instead of each paper's own")
    if settings.get("micro_batch") is not None:
        parts.append(f"micro-batches of {settings['micro_batch']}, which batch-norm sees")
    return ", ".join(parts)


def _flips(settings: _Settings, data: _Settings) -> str:
    return "" if settings.get("flips", True) else "no mirrored training images, which the preset has"


def _crop(settings: _Settings, data: _Settings) -> str:
    crop = settings.get("crop", "center")
    return "" if crop == "center" else f"crop {crop} instead of the preset's center"


def _split(settings: _Settings, data: _Settings) -> str:
    split = data.get("split", "paper")
    return "" if split == "paper" else f"split {split} instead of the paper's 90/10 at random"


def _train_images(settings: _Settings, data: _Settings) -> str:
    # A limit above the size of the split limits nothing.
    images = min(settings.get("train_images") or data["train"], data["train"])
    if images >= _ENOUGH * PAPER_TRAIN_IMAGES:
        return ""
    return f"{images:,} training images instead of the paper's {PAPER_TRAIN_IMAGES:,}"


def _test_images(settings: _Settings, data: _Settings) -> str:
    if settings.get("evaluate_on", "test") != "test":
        return f"{settings['evaluate_on']} images instead of test images"
    images = data["evaluated"]
    if images >= _ENOUGH * PAPER_TEST_IMAGES:
        return ""
    return f"{images:,} test images instead of the paper's {PAPER_TEST_IMAGES:,}"


def _width(settings: _Settings, data: _Settings) -> str:
    return "narrow networks (preset smoke)" if settings["preset"] == "smoke" else ""


_CHECKS: tuple[Callable[[_Settings, _Settings], str], ...] = (
    _size,
    _recipe,
    _length,
    _batch,
    _flips,
    _crop,
    _split,
    _train_images,
    _test_images,
    _width,
)


def find_shortfalls(experiment: Experiment) -> list[str]:
    """List every departure of an experiment on CelebA from the paper's set-up; empty if there is none.

    Each one keeps every claim from a verdict and makes it an indication. Departures of single models are
    :func:`model_shortfalls`.
    """
    settings, data = experiment.manifest["settings"], experiment.manifest["data"]
    return [text for check in _CHECKS if (text := check(settings, data))]


def model_shortfalls(experiment: Experiment, claim: Claim, trained_on: str | None) -> list[str]:
    """List departures of the claim's models: training mask, parts that they lack, fields altered by hand, tuning.

    Args:
        experiment: the experiment.
        claim: the claim.
        trained_on: mask that its models were trained on, where one was found.
    """
    short = []
    if trained_on is not None and trained_on != claim.mask:
        short.append(f"trained on {trained_on} instead of the mask evaluated (the paper does not say which)")
    for model in claim.models:
        done = [c for c in cells_of(experiment, claim, model) if c["status"] == "done"]
        for label in dict.fromkeys(c["label"] for c in done if c["config"].get("vgg_losses") == "off"):
            short.append(f"{label} lacks published losses")
        # vgg_losses has been named in words already.
        altered = {k: v for k, v in option_assignments(experiment, model).items() if k != "vgg_losses"}
        short += [f"{model} with {field} = {value}" for field, value in altered.items()]
        rates = {rate for c in done if (rate := tuned_learning_rate(c)) is not None}
        short += [f"{model} with a learning rate of its own ({rate:g})" for rate in sorted(rates)]
    return short


def tuned_learning_rate(cell: Mapping[str, Any]) -> float | None:
    """Return the learning rate that was tuned for a cell's model, or ``None`` where the common one was used."""
    tuning = (cell.get("training") or {}).get("tuning")
    return None if tuning is None else float(tuning["learning_rate"])


def cells_of(experiment: Experiment, claim: Claim, model: str) -> list[dict[str, Any]]:
    """Return the manifest's cells of ``model`` on the claim's mask, finished or not."""
    return [c for c in experiment.cells if c["model"] == model and c["mask"] == claim.mask]


def common_train_mask(grouped: GroupedScores, claim: Claim) -> str | None:
    """Find the mask that all of the claim's models were trained on; ``None`` if they cannot be compared.

    The claim's own mask comes first where there are several.
    """
    by_model = [
        {s.train_mask for (on, _, _), s in grouped.items() if on == claim.mask and s.model == model}
        for model in claim.models
    ]
    shared = sorted(set.intersection(*by_model))
    # Sorted above, so that the choice does not depend on the order of a set.
    return claim.mask if claim.mask in shared else next(iter(shared), None)


#: Options of ``bench run`` that a command repeats as they were given; where the manifest is older, their settings.
_REPEATED = (
    "batch",
    "micro-batch",
    "steps-per-phase",
    "learning-rate",
    "train-mask",
    "train-images",
    "split",
    "crop",
    "precision",
    "evaluate-on",
)


def command_on_celeba(claim: Claim) -> str:
    """Return the command that tests the claim from nothing."""
    models = ",".join(claim.models)
    return f"bench run --models {models} --mask {claim.mask} --data PATH/TO/celeba --preset paper"


def command_for_cells(
    experiment: Experiment, claim: Claim, models: list[str], seeds: list[int], *, afresh: bool = False
) -> str:
    """Return the command that adds cells to an experiment, spelled out so that they fit into it.

    Args:
        experiment: the experiment.
        claim: the claim whose mask is evaluated.
        models: registry names.
        seeds: of the trainings.
        afresh: compute in an experiment of their own.
    """
    manifest, given = experiment.manifest, last_options(experiment)
    settings = manifest["settings"]
    words = [
        "bench", "run", "--models", ",".join(models), "--mask", claim.mask,
        "--data", str(manifest["data"].get("source", "PATH/TO/celeba")), "--preset", settings["preset"],
        "--seeds", ",".join(map(str, seeds)), "--size", str(settings["size"]),
        *(["--track", settings["track"]] if "track" in settings else []),
        "--images-seen", str(settings["images_seen"]), "--test-images", str(settings.get("test_images") or "all"),
    ]  # fmt: skip
    for option in _REPEATED:
        value = given.get(option, settings.get(option.replace("-", "_")))
        if option == "batch" and value == "auto":
            # The number that was found then is part of the experiment's
            # set-up; without it the command is refused.
            value = settings.get("batch")
        # The other options are "auto" unless somebody says otherwise.
        if value not in (None, "auto"):
            words += [f"--{option}", str(value)]
    # Flags are words without a value.
    words += [] if settings.get("flips", True) else ["--no-flips"]
    words += ["--compile"] if settings.get("compile") else []
    if metrics := settings.get("metrics"):
        words += ["--metrics", ",".join(metrics)]
    for file in given.get("models-from", []):
        words += ["--models-from", str(file)]
    for model in models:
        for field, value in option_assignments(experiment, model).items():
            words += ["--set", f"{model}.{field}={value}"]
    return shlex.join([*words, "--name", experiment.name + "-again" * afresh])


def last_options(experiment: Experiment) -> dict[str, Any]:
    """Return the resolved options of the last command that wrote into the experiment; empty in older manifests."""
    options = experiment.manifest.get("options") or [{}]
    last: dict[str, Any] = options[-1]
    return last


def option_assignments(experiment: Experiment, model: str) -> dict[str, Any]:
    """Return the fields of a model's config that were set by hand (``--set``) when it was last computed."""
    found: dict[str, Any] = {}
    for options in experiment.manifest.get("options") or []:
        # The last command that computed the model decides.
        if model in options.get("models", []):
            found = options.get("set", {}).get(model, {})
    return found
