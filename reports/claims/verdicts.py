"""A verdict on each of the paper's claims from the data at hand.

Absolute values of Table 4 are a reference, never a pass mark: masks, crop, SSIM convention and two of the
baselines cannot be identified from the paper. Differences between models trained here alike can be judged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from reports.claims import conditions
from reports.claims.conditions import Arranged, altered_models, cells_of, common_train_mask, find_shortfalls
from reports.claims.evidence import (
    ComparisonEvidence,
    Leaning,
    compare_divergence,
    compare_means,
    compare_sizes,
    compare_stability,
    diverged_trainings,
)
from reports.claims.paper import CLAIMS, Claim
from reports.results.experiment import Experiment
from reports.results.manifest import is_claims_dataset
from reports.statistics.intervals import MIN_SEEDS
from reports.statistics.scores import Scores, group_scores

__all__ = ["CLAIMS", "Claim", "Outcome", "Verdict", "evaluate_claims"]

Outcome = Literal["reproduced", "not reproduced", "inconclusive", "indicative", "not tested"]


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
    findings: tuple[ComparisonEvidence, ...] = ()
    missing: tuple[str, ...] = ()
    command: str = ""
    summary: str = ""


def evaluate_claims(experiment: Experiment, claims: tuple[Claim, ...] = CLAIMS) -> list[Verdict]:
    """A verdict on each claim, in order."""
    short = find_shortfalls(experiment)
    arranged: dict[str, Arranged] = {}
    for metric in dict.fromkeys(c.metric for claim in claims for c in claim.comparisons):
        if metric in experiment.rows.columns:
            arranged[metric] = group_scores(experiment.rows, metric)
    return [_evaluate(experiment, claim, arranged, short) for claim in claims]


def _evaluate(
    experiment: Experiment, claim: Claim, arranged: dict[str, Arranged], short: list[str]
) -> Verdict:
    data = experiment.manifest["data"]
    if not is_claims_dataset(data):
        what = "procedural faces" if data["procedural"] else f"{data['title']}, not CelebA"
        command = conditions.on_claims_dataset(claim)
        return Verdict(claim, "not tested", "neither", f"these are {what}", command=command)
    seeds = experiment.manifest["settings"]["seeds"]
    if missing := _missing(experiment, claim):
        command = conditions.more_cells(experiment, claim, list(missing), seeds)
        reason = "needs results of " + ", ".join(missing.values())
        return Verdict(claim, "not tested", "neither", reason, (), tuple(missing.values()), command)
    if claim.test == "stability" and (divergence := compare_divergence(experiment.cells, claim)):
        return _judge(claim, [divergence], [*short, *altered_models(experiment, claim)])
    scores = arranged[claim.comparisons[0].metric]
    trained_on = common_train_mask(scores, claim)
    if trained_on is None:
        reason = "its models were trained on different masks, and are not compared"
        command = conditions.more_cells(experiment, claim, claim.models, seeds, afresh=True)
        return Verdict(claim, "not tested", "neither", reason, command=command)
    findings = _findings(experiment, claim, arranged, trained_on)
    if isinstance(findings, str):
        command = conditions.more_cells(experiment, claim, claim.models, seeds, afresh=True)
        return Verdict(claim, "not tested", "neither", findings, command=command)
    counts = {model: len(_scores(scores, model, claim, trained_on).seeds) for model in claim.models}
    if few := {model: count for model, count in counts.items() if count < MIN_SEEDS}:
        reason = f"fewer than {MIN_SEEDS} trainings: " + ", ".join(f"{m} has {n}" for m, n in few.items())
        command = conditions.more_cells(experiment, claim, claim.models, [0, 1, 2])
        return Verdict(claim, "inconclusive", "neither", reason, tuple(findings), command=command)
    return _judge(claim, findings, [*short, *altered_models(experiment, claim)])


def _judge(claim: Claim, findings: list[ComparisonEvidence], short: list[str]) -> Verdict:
    """The verdict where there is all that it takes; ``short`` makes it an indication."""
    leaning, reason, summary = _decide(findings)
    if leaning == "neither":
        return Verdict(claim, "inconclusive", leaning, reason, tuple(findings), summary=summary)
    if short:
        only = "; indicative only: " + ", ".join(short)
        summary = summary and summary + only
        return Verdict(claim, "indicative", leaning, reason + only, tuple(findings), summary=summary)
    outcome: Outcome = "reproduced" if leaning == "for" else "not reproduced"
    return Verdict(claim, outcome, leaning, reason, tuple(findings), summary=summary)


def _decide(findings: list[ComparisonEvidence]) -> tuple[Leaning, str, str]:
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


def _told(findings: list[ComparisonEvidence], what: str, of: int) -> tuple[str, str]:
    """Their sentences, and how many they are of several."""
    summary = f"{len(findings)} of {of} comparisons {what}" if of > 1 else ""
    return "; ".join(f.reason for f in findings), summary


def _findings(
    experiment: Experiment, claim: Claim, arranged: dict[str, Arranged], trained_on: str
) -> list[ComparisonEvidence] | str:
    """One for each comparison; or why there can be none."""
    if claim.test == "stability":
        found = [compare_stability(experiment.curves, c, trained_on) for c in claim.comparisons]
        return next((f for f in found if isinstance(f, str)), [f for f in found if not isinstance(f, str)])
    share = len(claim.comparisons)
    compare = compare_sizes if claim.test == "size" else compare_means
    return [
        compare(
            c,
            _scores(arranged[c.metric], c.better, claim, trained_on),
            _scores(arranged[c.metric], c.worse, claim, trained_on),
            higher_is_better=experiment.higher_is_better.get(c.metric, True),
            comparisons=share,
        )
        for c in claim.comparisons
    ]


def _scores(arranged: Arranged, model: str, claim: Claim, trained_on: str) -> Scores:
    """The model's scores on the claim's mask, trained on ``trained_on``."""
    return next(
        s
        for (on, _, _), s in arranged.items()
        if on == claim.mask and s.model == model and s.train_mask == trained_on
    )


def _missing(experiment: Experiment, claim: Claim) -> dict[str, str]:
    """Model -> what is missing of it, with the reason where a cell failed."""
    missing = {}
    for model in claim.models:
        cells = cells_of(experiment, claim, model)
        enough = [
            c for c in cells if c["status"] == "done" or (claim.test == "stability" and diverged_trainings(c))
        ]
        if not enough:
            why = next((f" ({c['status']}: {c['reason']})" for c in cells), "")
            missing[model] = f"{model} on {claim.mask}{why}"
    return missing
