"""Conditions of a verdict: what falls short of the paper's set-up, and on which mask models are comparable."""

from __future__ import annotations

from typing import Any

from reports.claims.conditions import assignments
from reports.results.experiment import Experiment
from reports.claims.paper import Claim
from reports.statistics.scores import Scores

#: What a verdict needs: CelebA at this size with the budget of the preset ``paper``, and CelebA's own training images.
FULL_SIZE, FULL_BUDGET, FULL_TRAINING = 160, 3_600_000, 162_770

Arranged = dict[tuple[str, str, str], Scores]


def shortfalls(experiment: Experiment) -> list[str]:
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
        altered = {k: v for k, v in assignments(experiment, model).items() if k != "vgg_losses"}
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
