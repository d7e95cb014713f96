"""Verdicts on the paper's claims from the data at hand.

Absolute values of Table 4 are a reference, never a pass mark: masks, crop, SSIM convention and two of the
baselines cannot be identified from the paper. Differences between models trained here alike can be judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from reports.claims import conditions
from reports.claims.conditions import (
    GroupedScores,
    cells_of,
    common_train_mask,
    find_shortfalls,
    model_shortfalls,
)
from reports.claims.evidence import (
    ComparisonEvidence,
    Leaning,
    ModelPair,
    compare_divergence,
    compare_order,
    compare_size,
    compare_stability,
    diverged_trainings,
)
from reports.claims.paper import CLAIMS, SSIM_CONVENTIONS, Claim, ClaimComparison
from reports.results.experiment import Experiment
from reports.results.manifest import is_claims_dataset, trained_seeds
from reports.statistics.intervals import MIN_SEEDS
from reports.statistics.pair_verdicts import PairedDifference
from reports.statistics.paired_differences import compare_families
from reports.statistics.scores import Scores, group_scores

__all__ = ["CLAIMS", "Claim", "Outcome", "Verdict", "evaluate_claims"]

Outcome = Literal["reproduced", "not reproduced", "inconclusive", "indicative", "not tested"]

_MethodKey = tuple[str, str]


@dataclass(frozen=True)
class Verdict:
    """What the data say about a claim.

    Attributes:
        claim: the claim.
        outcome: ``reproduced``, ``not reproduced``, ``inconclusive``, ``indicative`` (decided, but with departures
            from the paper's set-up), ``not tested``.
        leaning: direction of a decided claim, ``neither`` where nothing was decided.
        reason: why, in a sentence.
        findings: one for each comparison and metric, where it could be made.
        missing: models that are not there, with the reason where a cell failed.
        command: what would run them; empty where nothing is missing.
        summary: ``reason`` without the sentences of several findings, where it holds them; else empty.
        shortfalls: departures from the paper's set-up, which the verdict carries whatever it is.
    """

    claim: Claim
    outcome: Outcome
    leaning: Leaning
    reason: str
    findings: tuple[ComparisonEvidence, ...] = ()
    missing: tuple[str, ...] = ()
    command: str = ""
    summary: str = ""
    shortfalls: tuple[str, ...] = ()


def evaluate_claims(experiment: Experiment, claims: tuple[Claim, ...] = CLAIMS) -> list[Verdict]:
    """Judge each claim, in order."""
    judge = _Judge(experiment)
    return [judge.verdict(claim) for claim in claims]


def shared_shortfalls(verdicts: Sequence[Verdict]) -> list[str]:
    """List the departures from the paper's set-up that every tested claim carries."""
    carried = [v.shortfalls for v in verdicts if v.outcome != "not tested"]
    return [s for s in carried[0] if all(s in other for other in carried)] if carried else []


class _Judge:
    """An experiment with what several claims need of it, computed once."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self._grouped: dict[str, GroupedScores] = {}
        self._families: dict[tuple[str, str], dict[tuple[_MethodKey, _MethodKey], PairedDifference]] = {}

    @cached_property
    def shortfalls(self) -> list[str]:
        return find_shortfalls(self.experiment)

    def verdict(self, claim: Claim) -> Verdict:
        experiment = self.experiment
        data = experiment.manifest["data"]
        # The first obstacle is the one that is named: the data, missing models, different training
        # masks, damaged logs, too few trainings.
        if not is_claims_dataset(data):
            what = "procedural faces" if data["procedural"] else f"{data['title']}, not CelebA"
            command = conditions.command_on_celeba(claim)
            return Verdict(claim, "not tested", "neither", f"these are {what}", command=command)
        seeds = trained_seeds(experiment.manifest)
        if missing := _missing(experiment, claim):
            command = conditions.command_for_cells(experiment, claim, list(missing), seeds)
            reason = "needs results of " + ", ".join(missing.values())
            return Verdict(claim, "not tested", "neither", reason, (), tuple(missing.values()), command)
        # Before the curves, because diverged trainings leave none that could be compared.
        if claim.test == "stability" and (divergence := compare_divergence(experiment.cells, claim)):
            return self._outcome(claim, [divergence], None)
        grouped = self.scores(claim.comparisons[0].metric)
        trained_on = common_train_mask(grouped, claim)
        if trained_on is None:
            return self._untested(claim, "its models were trained on different masks, and are not compared")
        findings = self._findings(claim, trained_on)
        if isinstance(findings, str):
            return self._untested(claim, findings)
        counts = {model: len(_scores(grouped, model, claim, trained_on).seeds) for model in claim.models}
        # Findings are shown all the same, without a verdict.
        if few := {model: count for model, count in counts.items() if count < MIN_SEEDS}:
            reason = f"fewer than {MIN_SEEDS} trainings: " + ", ".join(f"{m} has {n}" for m, n in few.items())
            command = conditions.command_for_cells(experiment, claim, claim.models, list(range(MIN_SEEDS)))
            return Verdict(
                claim, "inconclusive", "neither", reason, tuple(findings), command=command,
                shortfalls=self._shortfalls(claim, trained_on),
            )  # fmt: skip
        return self._outcome(claim, findings, trained_on)

    def scores(self, metric: str) -> GroupedScores:
        if metric not in self._grouped:
            self._grouped[metric] = group_scores(self.experiment.rows, metric)
        return self._grouped[metric]

    def _untested(self, claim: Claim, reason: str) -> Verdict:
        seeds = trained_seeds(self.experiment.manifest)
        command = conditions.command_for_cells(self.experiment, claim, claim.models, seeds, afresh=True)
        return Verdict(claim, "not tested", "neither", reason, command=command)

    def _shortfalls(self, claim: Claim, trained_on: str | None) -> tuple[str, ...]:
        return (*self.shortfalls, *model_shortfalls(self.experiment, claim, trained_on))

    def _outcome(
        self, claim: Claim, findings: Sequence[ComparisonEvidence], trained_on: str | None
    ) -> Verdict:
        """Make the verdict where all data is present; any shortfall downgrades a decided one to an indication."""
        short = self._shortfalls(claim, trained_on)
        leaning, reason, summary = _leaning_across_conventions(findings)
        outcome: Outcome = "inconclusive"
        if leaning != "neither":
            outcome = "indicative" if short else "reproduced" if leaning == "for" else "not reproduced"
        return Verdict(claim, outcome, leaning, reason, tuple(findings), summary=summary, shortfalls=short)

    def _findings(self, claim: Claim, trained_on: str) -> list[ComparisonEvidence] | str:
        """Judge each comparison under each metric, or say why that is not possible."""
        if claim.test == "stability":
            if problem := self._log_problem(claim, trained_on):
                return problem
            curves = self.experiment.curves
            # One comparison that cannot be made leaves the claim untested.
            found = [compare_stability(curves, c, trained_on) for c in claim.comparisons]
            return next(
                (f for f in found if isinstance(f, str)), [f for f in found if not isinstance(f, str)]
            )
        pairs = [self._pair(c, metric, claim, trained_on) for c, metric in self._measured(claim)]
        if claim.test == "size":
            return [compare_size(pair, claim.margin, len(claim.comparisons)) for pair in pairs]
        return [compare_order(pair) for pair in pairs]

    def _log_problem(self, claim: Claim, trained_on: str) -> str:
        """Name the first training of the claim's models whose log is not what was written."""
        for model in claim.models:
            for cell in cells_of(self.experiment, claim, model):
                key = (cell["training"] or {}).get("key")
                if cell["train_mask"] == trained_on and key in self.experiment.log_problems:
                    return f"{model}, seed {cell['seed']}: {self.experiment.log_problems[key]}"
        return ""

    def _measured(self, claim: Claim) -> Iterator[tuple[ClaimComparison, str]]:
        """Yield the comparisons, those in SSIM once for each convention that was measured."""
        for metric in dict.fromkeys(c.metric for c in claim.comparisons):
            conventions = SSIM_CONVENTIONS if metric == "ssim" else (metric,)
            rows = self.experiment.rows
            for convention in conventions:
                if convention == metric or (convention in rows and rows[convention].notna().any()):
                    yield from ((c, convention) for c in claim.comparisons if c.metric == metric)

    def _pair(self, comparison: ClaimComparison, metric: str, claim: Claim, trained_on: str) -> ModelPair:
        grouped = self.scores(metric)
        a, b = (_scores(grouped, m, claim, trained_on) for m in (comparison.better, comparison.worse))
        higher = self.experiment.higher_is_better.get(metric, True)
        family = self._family(metric, claim.mask, higher)
        return ModelPair(comparison, metric, a, b, family[a.key, b.key], higher)

    def _family(
        self, metric: str, mask: str, higher_is_better: bool
    ) -> dict[tuple[_MethodKey, _MethodKey], PairedDifference]:
        """All pairs of trained models of a metric and mask, both ways round."""
        if (metric, mask) not in self._families:
            # All trained models, not the claim's alone, so that its p-values are those of every table.
            methods = [s for (on, _, _), s in self.scores(metric).items() if on == mask and s.trained]
            lines = compare_families(methods, higher_is_better=higher_is_better)
            self._families[metric, mask] = lines | {(b, a): line.reversed() for (a, b), line in lines.items()}
        return self._families[metric, mask]


def _leaning_across_conventions(findings: Sequence[ComparisonEvidence]) -> tuple[Leaning, str, str]:
    """Return leaning, reason and summary of a claim: what its metrics agree on.

    The paper does not name its SSIM, so a claim about SSIM holds where it holds under every convention measured.
    """
    shared = [f for f in findings if f.metric not in SSIM_CONVENTIONS]
    conventions = dict.fromkeys(f.metric for f in findings if f.metric in SSIM_CONVENTIONS)
    if not conventions:
        return _combine(findings)
    by_convention = {
        name: _combine([*shared, *(f for f in findings if f.metric == name)])[0] for name in conventions
    }
    leaning, reason, summary = _combine(findings)
    if len(conventions) == 1:
        return leaning, reason, summary
    leanings = set(by_convention.values())
    if leanings == {"for"}:
        return leaning, f"all comparisons hold under all {len(conventions)} SSIM conventions", ""
    if len(leanings) == 1:
        return leanings.pop(), reason, f"{summary}, alike under all {len(conventions)} SSIM conventions"
    shown = "; ".join(f"{name}: {_WORDS[found]}" for name, found in by_convention.items())
    return (
        "neither",
        f"the SSIM conventions do not agree ({shown})",
        f"SSIM conventions do not agree: {shown}",
    )


_WORDS: dict[Leaning, str] = {"for": "holds", "against": "does not hold", "neither": "undecided"}


def _combine(findings: Sequence[ComparisonEvidence]) -> tuple[Leaning, str, str]:
    """Combine comparisons: all must hold for a claim to hold; one against it suffices for it not to."""
    against = [f for f in findings if f.leaning == "against"]
    if against:
        return "against", *_sentences(against, len(findings))
    # None against, so anything open leaves the claim open.
    open_ones = [f for f in findings if f.leaning == "neither"]
    if open_ones:
        return "neither", *_sentences(open_ones, len(findings))
    return "for", "all comparisons hold" if len(findings) > 1 else findings[0].reason, ""


def _sentences(findings: Sequence[ComparisonEvidence], of: int) -> tuple[str, str]:
    """Join the findings' sentences, and count them by their relation to the claim."""
    counts: dict[str, int] = {}
    for finding in findings:
        counts[finding.relation] = counts.get(finding.relation, 0) + 1
    summary = ", ".join(f"{n} of {of} comparisons {relation}" for relation, n in counts.items())
    return "; ".join(f.reason for f in findings), summary if of > 1 else ""


def _scores(grouped: GroupedScores, model: str, claim: Claim, trained_on: str) -> Scores:
    """Find the model's scores on the claim's mask, trained on ``trained_on``."""
    return next(
        s
        for (on, _, _), s in grouped.items()
        if on == claim.mask and s.model == model and s.train_mask == trained_on
    )


def _missing(experiment: Experiment, claim: Claim) -> dict[str, str]:
    """Map each model without results to what is missing, with the reason where a cell failed."""
    missing = {}
    for model in claim.models:
        cells = cells_of(experiment, claim, model)
        enough = [
            c for c in cells if c["status"] == "done" or (claim.test == "stability" and diverged_trainings(c))
        ]
        if not enough:
            why = next((f" ({c['status']}: {c.get('reason') or 'no reason was kept'})" for c in cells), "")
            missing[model] = f"{model} on {claim.mask}{why}"
    return missing
