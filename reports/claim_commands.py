"""Commands that would bring what a claim still needs, spelt out so that they fit into their experiment."""

from __future__ import annotations

import shlex
from typing import Any

from reports.results.experiment import Experiment
from reports.claims.paper import Claim

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


def on_celeba(claim: Claim) -> str:
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
        for field, value in assignments(experiment, model).items():
            words += ["--set", f"{model}.{field}={value}"]
    return shlex.join([*words, "--name", experiment.name + "-again" * afresh])


def last_options(experiment: Experiment) -> dict[str, Any]:
    """The options of the last command that wrote into the experiment, as resolved; empty in older manifests."""
    options = experiment.manifest.get("options") or [{}]
    last: dict[str, Any] = options[-1]
    return last


def assignments(experiment: Experiment, model: str) -> dict[str, Any]:
    """Fields of the model's config set by hand (``--set``) when it was last computed."""
    found: dict[str, Any] = {}
    for options in experiment.manifest.get("options") or []:
        if model in options.get("models", []):
            found = options.get("set", {}).get(model, {})
    return found
