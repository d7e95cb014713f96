"""Conditions of a verdict: what falls short of the paper's set-up, and on which mask models are comparable."""

from __future__ import annotations

import shlex
from typing import Any

from reports.claims.paper import Claim
from reports.results.experiment import Experiment
from reports.statistics.scores import Scores

#: What a verdict needs: CelebA at this size with the budget of the preset ``paper``, and CelebA's own training images.
FULL_SIZE, FULL_BUDGET, FULL_TRAINING = 160, 3_600_000, 162_770

Arranged = dict[tuple[str, str, str], Scores]


def find_shortfalls(experiment: Experiment) -> list[str]:
    """What keeps a run on CelebA from carrying a verdict, beside seeds; empty if nothing does."""
    settings, data = experiment.manifest["settings"], experiment.manifest["data"]
    short = []
    if settings["size"] != FULL_SIZE:
        short.append(f"{settings['size']} px instead of {FULL_SIZE}")
    if settings.get("steps_per_phase") is not None:
        short.append(f"{settings['steps_per_phase']} steps per phase instead of the paper's budget")
    elif settings["images_seen"] < FULL_BUDGET:
        short.append(f"{settings['images_seen']:,} images seen instead of {FULL_BUDGET:,}")
    images = min(settings.get("train_images") or data["train"], data["train"])
    if images < FULL_TRAINING:
        short.append(f"{images:,} training images instead of {FULL_TRAINING:,}")
    if settings.get("evaluate_on", "test") != "test":
        short.append(f"{settings['evaluate_on']} images instead of test images")
    if settings["preset"] == "smoke":
        short.append("narrow networks (preset smoke)")
    return short


def altered_models(experiment: Experiment, claim: Claim) -> list[str]:
    """Models that lack a published part by their own config, which their label says, or were altered by hand."""
    short = []
    for model in claim.models:
        done = [c for c in cells_of(experiment, claim, model) if c["status"] == "done"]
        for label in dict.fromkeys(c["label"] for c in done if c["config"].get("vgg_losses") == "off"):
            short.append(f"{label} lacks published losses")
        altered = {k: v for k, v in option_assignments(experiment, model).items() if k != "vgg_losses"}
        short += [f"{model} with {field} = {value}" for field, value in altered.items()]
    return short


def cells_of(experiment: Experiment, claim: Claim, model: str) -> list[dict[str, Any]]:
    """The manifest's cells of ``model`` on the claim's mask, finished or not."""
    return [c for c in experiment.cells if c["model"] == model and c["mask"] == claim.mask]


def common_train_mask(arranged: Arranged, claim: Claim) -> str | None:
    """The mask that all of the claim's models were trained on: the claim's own where there are several, ``None`` where
    there is none, and they cannot be compared.
    """
    by_model = [
        {s.train_mask for (on, _, _), s in arranged.items() if on == claim.mask and s.model == model}
        for model in claim.models
    ]
    shared = sorted(set.intersection(*by_model))
    return claim.mask if claim.mask in shared else next(iter(shared), None)


# Commands that would bring what a claim still needs, spelt out so that they fit into their experiment.


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


def on_claims_dataset(claim: Claim) -> str:
    """What tests the claim from nothing."""
    models = ",".join(claim.models)
    return f"bench run --models {models} --mask {claim.mask} --data PATH/TO/celeba --preset paper"


def more_cells(
    experiment: Experiment, claim: Claim, models: list[str], seeds: list[int], *, afresh: bool = False
) -> str:
    """What adds cells of ``models`` to this experiment, or computes them ``afresh`` in one of their own."""
    manifest, given = experiment.manifest, last_options(experiment)
    settings = manifest["settings"]
    words = [
        "bench", "run", "--models", ",".join(models), "--mask", claim.mask,
        "--data", str(manifest["data"].get("source", "PATH/TO/celeba")), "--preset", settings["preset"],
        "--seeds", ",".join(map(str, seeds)), "--size", str(settings["size"]), "--track", settings["track"],
        "--images-seen", str(settings["images_seen"]), "--test-images", str(settings.get("test_images") or "all"),
    ]  # fmt: skip
    for option in _REPEATED:
        value = given.get(option, settings.get(option.replace("-", "_")))
        if value not in (None, "auto"):
            words += [f"--{option}", str(value)]
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
    """The options of the last command that wrote into the experiment, as resolved; empty in older manifests."""
    options = experiment.manifest.get("options") or [{}]
    last: dict[str, Any] = options[-1]
    return last


def option_assignments(experiment: Experiment, model: str) -> dict[str, Any]:
    """Fields of the model's config set by hand (``--set``) when it was last computed."""
    found: dict[str, Any] = {}
    for options in experiment.manifest.get("options") or []:
        if model in options.get("models", []):
            found = options.get("set", {}).get(model, {})
    return found
