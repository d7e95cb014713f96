"""The one rule for "highest", "leads" and "noise", and the bar that training-free baselines set.

Page, index, terminal and claims use these words alike:

- a model *is highest* where its mean is the best of the trained models, which a mean alone shows;
- a model *leads* where it is decided better than every other trained model
  (:mod:`reports.statistics.paired_differences`);
- a ranking *is noise* where not a single pair of trained models is decided;
- a model *clears the bar* where it is decided better than the best training-free baseline.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from reports.statistics.bootstrap import RESAMPLES
from reports.statistics.intervals import MIN_SEEDS
from reports.statistics.pair_verdicts import PairedDifference, correct_family
from reports.statistics.paired_differences import compare_families, measure_difference, method_names
from reports.statistics.scores import Scores, group_scores

#: Name of the family that the comparisons with the bar make.
BAR_FAMILY = "each trained model against the best baseline"

Standing = Literal["leads", "highest", "noise", "alone"]


@dataclass(frozen=True)
class Ranking:
    """Trained models of one metric and mask, best first.

    Attributes:
        labels: of the models, by their means.
        means: of the models, in that order.
        standing: of the first: ``leads``, ``highest`` (some pair is decided, but not all of its own), ``noise`` (no
            pair is decided), ``alone`` (no other trained model).
        tied: models that the first is not decided better than.
        reasons: of each of those, why it is not decided.
        decided: number of decided pairs.
        pairs: number of pairs.
        few_seeds: models with fewer than three trainings.
    """

    labels: tuple[str, ...]
    means: tuple[float, ...]
    standing: Standing
    tied: tuple[str, ...]
    reasons: tuple[str, ...]
    decided: int
    pairs: int
    few_seeds: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """How sure the order is, in one sentence; empty for a model alone."""
        if self.standing == "alone":
            return ""
        first = self.labels[0]
        if self.few_seeds:
            return (
                f"{first} is highest, but the ranking is noise until every model has {MIN_SEEDS} trainings: "
                "another seed may reverse it."
            )
        of = f"{self.decided} of {self.pairs} pairs of trained models {'is' if self.decided == 1 else 'are'} decided"
        if self.standing == "leads":
            return f"{first} leads: it is decided better than every other trained model ({of})."
        why = _group_by_reason(self.tied, self.reasons)
        if self.standing == "noise":
            return (
                f"{first} is highest, but the ranking is noise: no pair of trained models is decided; it is not "
                f"decided better than {why}."
            )
        return f"{first} is highest, not decided better than {why}: {of}."


def rank_trained(
    rows: pd.DataFrame, metric: str, mask: str, *, higher_is_better: bool = True
) -> Ranking | None:
    """Rank the trained models of one metric and mask; ``None`` where there is none with values.

    Args:
        rows: results.
        metric: a metric column.
        mask: evaluated on.
        higher_is_better: direction of the metric.
    """
    methods = [m for m in _methods(rows, metric, mask) if m.trained]
    if not methods:
        return None
    methods.sort(key=_mean, reverse=higher_is_better)
    few = tuple(m.label for m in methods if len(m.seeds) < MIN_SEEDS)
    # Pairs of too few trainings are undecided by rule, and lists of hundreds of experiments need not compute them.
    able = [m for m in methods if len(m.seeds) >= MIN_SEEDS]
    lines = compare_families(able, higher_is_better=higher_is_better)
    decided = {pair for pair, line in lines.items() if line.verdict != "inconclusive"}
    first = methods[0]
    undecided = [m for m in methods[1:] if (first.key, m.key) not in decided]
    tied = tuple(m.label for m in undecided)
    reasons = tuple(
        # Only pairs of enough trainings were compared.
        lines[first.key, m.key].reason if (first.key, m.key) in lines else f"fewer than {MIN_SEEDS} trainings"
        for m in undecided
    )
    # Without a single decided pair the order is noise, whatever the means.
    standing: Standing = (
        "alone" if len(methods) == 1 else "noise" if not decided else "highest" if tied else "leads"
    )
    return Ranking(
        labels=tuple(m.label for m in methods),
        means=tuple(map(_mean, methods)),
        standing=standing,
        tied=tied,
        reasons=reasons,
        decided=len(decided),
        pairs=len(methods) * (len(methods) - 1) // 2,
        few_seeds=few,
    )


@dataclass(frozen=True)
class Clearance:
    """How a trained model stands to the best training-free baseline.

    Attributes:
        label: the model.
        baseline: the best baseline of the same metric and mask.
        difference: the paired comparison, model minus baseline, corrected for all trained models.
        status: ``clears``, ``falls short`` (decided worse), or ``undecided``.
        above: whether its mean is better than the baseline's, decided or not.
    """

    label: str
    baseline: str
    difference: PairedDifference
    status: Literal["clears", "falls short", "undecided"]
    above: bool


def compare_with_baseline(
    rows: pd.DataFrame,
    metric: str,
    mask: str,
    *,
    higher_is_better: bool = True,
    resamples: int = RESAMPLES,
) -> list[Clearance]:
    """Compare each trained model with the best training-free baseline (``linear``, where it was run).

    Paired by image and corrected by Holm's procedure for the number of trained models (:data:`BAR_FAMILY`). A
    model with fewer than three trainings is undecided by rule; its interval over images is about those trainings.

    Args:
        rows: results.
        metric: a metric column.
        mask: evaluated on.
        higher_is_better: direction of the metric.
        resamples: of the bootstrap, for models with a single training.

    Returns:
        Best model first; empty without a baseline or without a trained model.
    """
    methods = _methods(rows, metric, mask)
    baselines = [m for m in methods if not m.trained]
    trained = sorted((m for m in methods if m.trained), key=_mean, reverse=higher_is_better)
    if not baselines or not trained:
        return []
    # The best one is picked on these very images, which can only raise the bar for a model that clears it.
    best = (max if higher_is_better else min)(baselines, key=_mean)
    compared = [
        measure_difference(m, best, higher_is_better=higher_is_better, resamples=resamples) for m in trained
    ]
    statuses: dict[str, Literal["clears", "falls short", "undecided"]] = {
        "a better": "clears",
        "b better": "falls short",
    }
    return [
        Clearance(
            label=method.label,
            baseline=best.label,
            difference=line,
            status=statuses.get(line.verdict, "undecided"),
            above=(line.difference > 0) == higher_is_better and line.difference != 0,
        )
        for method, line in zip(trained, correct_family(compared, BAR_FAMILY), strict=True)
    ]


def describe_clearance(found: Sequence[Clearance], unit: str = "dB", digits: int = 2) -> str:
    """Say in one or two sentences which trained models clear the best baseline, and by how much.

    Args:
        found: from :func:`compare_with_baseline`.
        unit: of the metric, empty for none.
        digits: decimal places.
    """
    if not found:
        return ""
    baseline = found[0].baseline
    parts = []
    for status, verb in (("clears", "clear"), ("falls short", "fall short of"), ("undecided", "")):
        chosen = [c for c in found if c.status == status]
        if not chosen:
            continue
        named = [f"{c.label} ({_gap(c.difference, unit, digits)})" for c in chosen]
        shown = _join(named)
        if status == "undecided":
            parts.append("not decided for " + _group_by_reason(named, [c.difference.reason for c in chosen]))
        else:
            verb = verb if len(chosen) > 1 else {"clear": "clears", "fall short of": "falls short of"}[verb]
            parts.append(f"{shown} {verb} it")
    return f"The bar is {baseline}, the best training-free baseline: " + "; ".join(parts) + "."


def describe_ranking(rows: pd.DataFrame, metric: str = "psnr_db", heading: str = "PSNR") -> list[str]:
    """Say for each mask how sure the order of the trained models is, and which of them clear the bar.

    Args:
        rows: results.
        metric: a metric of which higher is better.
        heading: its name in the sentences.
    """
    found = []
    for mask in dict.fromkeys(rows["mask"]):
        ranking = rank_trained(rows, metric, mask)
        bar = describe_clearance(compare_with_baseline(rows, metric, mask))
        sentences = " ".join(filter(None, (ranking.sentence if ranking else "", bar)))
        if sentences:
            found.append(f"{heading} on {mask}: {sentences}")
    return found


def _general(reason: str) -> str:
    """Return the part of a reason that stands before its own names and numbers.

    >>> _general("fewer than 3 trainings: GLCIC has 1")
    'fewer than 3 trainings'
    >>> _general("not after Holm's correction for 6 comparisons (p = 0.067)")
    "not after Holm's correction for 6 comparisons"
    """
    return reason.split(":")[0].split(" (")[0]


def _group_by_reason(labels: Sequence[str], reasons: Sequence[str]) -> str:
    """Join models, those of one reason together, with the reason behind them.

    >>> _group_by_reason(["A", "B", "C"], ["the interval includes zero", "no interval", "no interval"])
    'A (the interval includes zero) and B and C (no interval)'
    """
    found: dict[str, list[str]] = {}
    for label, reason in zip(labels, reasons, strict=True):
        found.setdefault(_general(reason), []).append(label)
    return _join([_join(names) + (f" ({reason})" if reason else "") for reason, names in found.items()])


def _gap(line: PairedDifference, unit: str, digits: int) -> str:
    text = f"{line.difference:+.{digits}f}"
    if not math.isnan(line.low):
        text += f" [{line.low:+.{digits}f}, {line.high:+.{digits}f}]"
    return f"{text} {unit}".rstrip()


def _methods(rows: pd.DataFrame, metric: str, mask: str) -> list[Scores]:
    if metric not in rows.columns:
        return []
    grouped = group_scores(rows[rows["mask"] == mask], metric)
    methods = [scores for scores in grouped.values() if scores.values.size]
    names = method_names(methods)
    return [dataclasses.replace(scores, label=names[scores.key]) for scores in methods]


def _mean(scores: Scores) -> float:
    return float(scores.values.mean())


def _join(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
