"""A verdict on each of the paper's claims from the data at hand.

Absolute values of Table 4 are a reference, never a pass mark: masks, crop, SSIM convention and two of the
baselines cannot be identified from the paper. Differences between models trained here alike can be judged.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any, Literal

from reports.experiment import Experiment
from reports.findings import Finding, Leaning, compare_means, compare_sizes
from reports.intervals import MIN_SEEDS
from reports.paper_claims import CLAIMS, Claim
from reports.scores import Scores, arrange
from reports.stability import compare_stability

__all__ = ["CLAIMS", "Claim", "Finding", "Outcome", "Verdict", "evaluate_claims", "shortfalls"]

Outcome = Literal["reproduced", "not reproduced", "inconclusive", "indicative", "not tested"]

#: What a verdict needs: CelebA at this size with the budget of the preset ``paper``.
FULL_SIZE, FULL_BUDGET = 160, 3_600_000

#: Settings that a command repeats where they are set.
_OPTIONS = (
    "batch",
    "micro_batch",
    "steps_per_phase",
    "learning_rate",
    "train_mask",
    "train_images",
    "split",
    "crop",
    "evaluate_on",
)


@dataclass(frozen=True)
class Verdict:
    """What the data say of a claim.

    Attributes:
        claim: the claim.
        outcome: ``reproduced``, ``not reproduced``, ``inconclusive``, ``indicative`` (decided, but below the
            conditions for a verdict), ``not tested``.
        leaning: which way a decided claim went, ``neither`` where nothing was decided.
        reason: why, in a sentence.
        findings: one for each comparison, where it could be made.
        missing: what is not there: models, with the reason where a cell failed.
        command: what would run it; empty where nothing is missing.
        summary: ``reason`` without the sentences of several findings, where it holds them; else empty.
    """

    claim: Claim
    outcome: Outcome
    leaning: Leaning
    reason: str
    findings: tuple[Finding, ...] = ()
    missing: tuple[str, ...] = ()
    command: str = ""
    summary: str = ""


def evaluate_claims(experiment: Experiment, claims: tuple[Claim, ...] = CLAIMS) -> list[Verdict]:
    """A verdict on each claim, in order."""
    short = shortfalls(experiment)
    arranged: dict[str, dict[tuple[str, str, str], Scores]] = {}
    for metric in dict.fromkeys(c.metric for claim in claims for c in claim.comparisons):
        if metric in experiment.rows.columns:
            arranged[metric] = arrange(experiment.rows, metric)
    return [_evaluate(experiment, claim, arranged, short) for claim in claims]


def shortfalls(experiment: Experiment) -> list[str]:
    """What keeps a run on CelebA from carrying a verdict, beside seeds; empty if nothing does."""
    settings = experiment.manifest["settings"]
    short = []
    if settings["size"] != FULL_SIZE:
        short.append(f"{settings['size']} px instead of {FULL_SIZE}")
    if settings.get("steps_per_phase") is not None:
        short.append(f"{settings['steps_per_phase']} steps per phase instead of the paper's budget")
    elif settings["images_seen"] < FULL_BUDGET:
        short.append(f"{settings['images_seen']:,} images seen instead of {FULL_BUDGET:,}")
    if settings.get("evaluate_on", "test") != "test":
        short.append(f"{settings['evaluate_on']} images instead of test images")
    return short


def _evaluate(
    experiment: Experiment,
    claim: Claim,
    arranged: dict[str, dict[tuple[str, str, str], Scores]],
    short: list[str],
) -> Verdict:
    data = experiment.manifest["data"]
    if data["procedural"] or data["name"] != "celeba":
        what = "procedural faces" if data["procedural"] else f"{data['title']}, not CelebA"
        return Verdict(claim, "not tested", "neither", f"these are {what}", command=_celeba_command(claim))
    missing = _missing(experiment, claim)
    if missing:
        return Verdict(
            claim, "not tested", "neither", "needs results of " + ", ".join(missing), (), tuple(missing),
            _missing_command(experiment, claim),
        )  # fmt: skip
    short = [*short, *_reduced_models(experiment, claim)]
    findings = _findings(experiment, claim, arranged)
    if findings is None:
        return Verdict(claim, "not tested", "neither", "the trainings logged no validation to judge by")
    few = _too_few_seeds(claim, arranged[claim.comparisons[0].metric])
    if few:
        command = _more_seeds_command(experiment, claim)
        return Verdict(claim, "inconclusive", "neither", few, tuple(findings), command=command)
    leaning, reason, summary = _decide(findings)
    if leaning == "neither":
        return Verdict(claim, "inconclusive", leaning, reason, tuple(findings), summary=summary)
    if short:
        only = "; indicative only: " + ", ".join(short)
        summary = summary and summary + only
        return Verdict(claim, "indicative", leaning, reason + only, tuple(findings), summary=summary)
    outcome: Outcome = "reproduced" if leaning == "for" else "not reproduced"
    return Verdict(claim, outcome, leaning, reason, tuple(findings), summary=summary)


def _decide(findings: list[Finding]) -> tuple[Leaning, str, str]:
    """Leaning, reason and summary of a claim.

    All comparisons for: reproduced. Any against: not. The two errors are held to 5 % for the claim as a whole: the
    first since all must hold, the second since each is tested at its share of 5 %.
    """
    against = [f for f in findings if f.leaning == "against"]
    if against:
        return "against", *_told(against, "other way round", len(findings))
    open_ones = [f for f in findings if f.leaning == "neither"]
    if open_ones:
        return "neither", *_told(open_ones, "undecided", len(findings))
    return "for", "all comparisons hold" if len(findings) > 1 else findings[0].reason, ""


def _told(findings: list[Finding], what: str, of: int) -> tuple[str, str]:
    """Their sentences, and how many they are of several."""
    summary = f"{len(findings)} of {of} comparisons {what}" if of > 1 else ""
    return "; ".join(f.reason for f in findings), summary


def _findings(
    experiment: Experiment, claim: Claim, arranged: dict[str, dict[tuple[str, str, str], Scores]]
) -> list[Finding] | None:
    if claim.test == "stability":
        found = [compare_stability(experiment.curves, c, claim.mask) for c in claim.comparisons]
        return None if any(f is None for f in found) else [f for f in found if f is not None]
    share = len(claim.comparisons)
    compare = compare_sizes if claim.test == "size" else compare_means
    return [
        compare(
            c,
            _scores(arranged[c.metric], c.better, claim.mask),
            _scores(arranged[c.metric], c.worse, claim.mask),
            higher_is_better=experiment.higher_is_better.get(c.metric, True),
            comparisons=share,
        )
        for c in claim.comparisons
    ]


def _scores(arranged: dict[tuple[str, str, str], Scores], model: str, mask: str) -> Scores:
    """The model's scores on ``mask``; trained on it, where it was trained on several."""
    found = [s for (on, _, _), s in arranged.items() if on == mask and s.model == model]
    return next((s for s in found if s.train_mask == mask), found[0])


def _cells(experiment: Experiment, claim: Claim, model: str) -> list[dict[str, Any]]:
    return [c for c in experiment.cells if c["model"] == model and c["mask"] == claim.mask]


def _missing(experiment: Experiment, claim: Claim) -> list[str]:
    missing = []
    for model in claim.models:
        cells = _cells(experiment, claim, model)
        if not any(c["status"] == "done" for c in cells):
            why = next((f" ({c['status']}: {c['reason']})" for c in cells), "")
            missing.append(f"{model} on {claim.mask}{why}")
    return missing


def _too_few_seeds(claim: Claim, arranged: dict[tuple[str, str, str], Scores]) -> str:
    counts = {model: len(_scores(arranged, model, claim.mask).seeds) for model in claim.models}
    few = {model: count for model, count in counts.items() if count < MIN_SEEDS}
    if not few:
        return ""
    return f"fewer than {MIN_SEEDS} trainings: " + ", ".join(f"{m} has {n}" for m, n in few.items())


def _reduced_models(experiment: Experiment, claim: Claim) -> list[str]:
    """Models that lack a published part by their own config, which their label says."""
    cells = [c for model in claim.models for c in _cells(experiment, claim, model)]
    labels = [c["label"] for c in cells if c["status"] == "done" and c["config"].get("vgg_losses") == "off"]
    return [f"{label} lacks published losses" for label in dict.fromkeys(labels)]


def _celeba_command(claim: Claim) -> str:
    models = ",".join(claim.models)
    return f"bench run --models {models} --mask {claim.mask} --data PATH/TO/celeba --preset paper"


def _missing_command(experiment: Experiment, claim: Claim) -> str:
    absent = [m for m in claim.models if not any(c["status"] == "done" for c in _cells(experiment, claim, m))]
    return _command(experiment, claim, absent, experiment.manifest["settings"]["seeds"])


def _more_seeds_command(experiment: Experiment, claim: Claim) -> str:
    return _command(experiment, claim, claim.models, [0, 1, 2])


def _command(experiment: Experiment, claim: Claim, models: list[str], seeds: list[int]) -> str:
    """The command that adds cells to this experiment, with every setting spelt out."""
    manifest = experiment.manifest
    settings, images = manifest["settings"], manifest["settings"].get("test_images")
    words = [
        "bench", "run", "--models", ",".join(models), "--mask", claim.mask,
        "--data", str(manifest["data"].get("source", "PATH/TO/celeba")), "--preset", settings["preset"],
        "--seeds", ",".join(map(str, seeds)), "--size", str(settings["size"]), "--track", settings["track"],
        "--images-seen", str(settings["images_seen"]), "--test-images", str(images or "all"),
    ]  # fmt: skip
    for option in _OPTIONS:
        if settings.get(option) not in (None, "auto"):
            words += [f"--{option.replace('_', '-')}", str(settings[option])]
    return shlex.join([*words, "--name", experiment.name])
