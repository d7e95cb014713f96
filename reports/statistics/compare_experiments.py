"""Compare two experiments: paired where images and masks are the same, refused with the reason otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from reports.results.experiment import Experiment
from reports.results.schema import EXTERNAL, UNTRAINED, metric_columns
from reports.statistics.pair_verdicts import Comparison, PairedDifference, correct_family
from reports.statistics.paired_differences import measure_difference
from reports.statistics.scores import group_scores, is_higher_better
from reports.statistics.summary import distribution_scores

#: Name of the family that the methods of two experiments make, for each mask and metric.
FAMILY = "methods that both experiments have"

_COLUMNS = ["mask", "label", "train_mask", "metric", *PairedDifference.__dataclass_fields__]


class ComparisonError(ValueError):
    """Nothing of two experiments can be compared. The message says why."""


@dataclass(frozen=True)
class ExperimentComparison:
    """Differences between two experiments.

    Attributes:
        differences: one row for each mask, method and metric of both: ``mask``, ``label``, ``train_mask``,
            ``metric``, then the fields of :class:`reports.statistics.pair_verdicts.PairedDifference`; the first
            experiment is ``a``.
        refused: what could not be compared, and why, one sentence each.
        notes: what to know of the differences, one sentence each.
    """

    differences: pd.DataFrame
    refused: list[str]
    notes: list[str] = field(default_factory=list)


def compare_experiments(a: Experiment, b: Experiment, metrics: Sequence[str]) -> ExperimentComparison:
    """Subtract each method of ``b`` from the same method (label, mask, training mask) of ``a``.

    Verdicts are corrected over the methods of a mask and metric (:data:`FAMILY`).

    Raises:
        ComparisonError: the images differ, or nothing is in both.
    """
    _same_images(a, b)
    refused, masks = [], []
    # Masks of either, so that one that the other lacks is named among the refused.
    for mask in dict.fromkeys([*a.masks, *b.masks]):
        reason = _why_not(a, b, mask)
        if reason:
            refused.append(f"mask {mask}: {reason}")
        else:
            masks.append(mask)
    records = []
    for metric in metrics:
        reason = _why_not_metric(a, b, metric)
        if reason:
            refused.append(f"metric {metric}: {reason}")
            continue
        one, other = group_scores(a.rows, metric), group_scores(b.rows, metric)
        better = is_higher_better(metric, a.higher_is_better)
        for mask in masks:
            compared: dict[tuple[str, str, str], Comparison] = {
                key: measure_difference(scores, other[key], higher_is_better=better)
                for key, scores in one.items()
                if key[0] == mask and key in other
            }
            lines = correct_family(list(compared.values()), FAMILY)
            for key, line in zip(compared, lines, strict=True):
                about = dict(zip(("mask", "label", "train_mask"), key, strict=True))
                # Both sides have the same label; the names of the experiments tell them apart.
                records.append(about | {"metric": metric} | vars(line) | {"a": a.name, "b": b.name})
    refused += _only_in_one(a, b, masks)
    if not records:
        raise ComparisonError(
            f"{a.name} and {b.name} have nothing to compare: " + "; ".join(refused or ["no results"])
        )
    notes = []
    if people_differ(a, b):
        notes.append(
            f"rows of {a.name} and {b.name} name different people for the same images (the list of people changed "
            f"in between): intervals are over the people of {a.name}"
        )
    return ExperimentComparison(pd.DataFrame(records, columns=_COLUMNS), refused, notes)


def nothing_in_common(reason: str) -> ExperimentComparison:
    """Make the comparison with an experiment that cannot be compared at all, beside others that can."""
    return ExperimentComparison(pd.DataFrame(columns=_COLUMNS), [reason])


def people_differ(a: Experiment, b: Experiment) -> bool:
    """Return whether rows of one image that both have name different people, or some of them nobody.

    Intervals are over people. Rows of one experiment alone may differ, too, where it was run in several commands.
    """
    one, other = (x.rows[["image_id", "identity"]].drop_duplicates() for x in (a, b))
    both = {*one["image_id"]} & {*other["image_id"]}
    shown = pd.concat([one, other]).drop_duplicates()
    return bool(shown.loc[shown["image_id"].isin(both), "image_id"].duplicated().any())


def _same_images(a: Experiment, b: Experiment) -> None:
    one, other = a.manifest["data"], b.manifest["data"]
    if one["fingerprint"] != other["fingerprint"]:
        raise ComparisonError(
            f"{a.name} and {b.name} evaluated different images ({one['title']} and {other['title']}, "
            "with different fingerprints): their differences are not paired"
        )
    for setting in ("size", "crop"):
        if a.manifest["settings"][setting] != b.manifest["settings"][setting]:
            values = f"{a.manifest['settings'][setting]} and {b.manifest['settings'][setting]}"
            raise ComparisonError(f"{a.name} and {b.name} differ in {setting} ({values})")


def _why_not(a: Experiment, b: Experiment, mask: str) -> str:
    for one, other in ((a, b), (b, a)):
        if mask not in one.masks:
            return f"only {other.name} has it"
    if a.manifest["masks"][mask]["digest"] != b.manifest["masks"][mask]["digest"]:
        return "different masks were drawn, or for different images (their digests differ)"
    # Masks that are one fixed box have the same digest for any images of that number.
    if set(a.rows.loc[a.rows["mask"] == mask, "image_id"]) != set(
        b.rows.loc[b.rows["mask"] == mask, "image_id"]
    ):
        return "different images were evaluated"
    return ""


def _why_not_metric(a: Experiment, b: Experiment, metric: str) -> str:
    if metric in set(distribution_scores([*a.cells, *b.cells])["metric"]):
        return "a distribution metric: it has no value for a single image, so nothing is paired"
    for experiment in (a, b):
        if metric not in metric_columns(experiment.rows):
            return f"{experiment.name} lacks it"
        unavailable = experiment.manifest["metrics"].get(metric, {}).get("unavailable")
        if unavailable:
            return f"not available in {experiment.name}: {unavailable}"
    # The same name by another convention is another number: SSIM's
    # conventions are further apart than most models.
    one, other = (e.manifest["metrics"].get(metric, {}).get("convention") for e in (a, b))
    return "" if one == other else f"different conventions ({one}; {other})"


def _only_in_one(a: Experiment, b: Experiment, masks: list[str]) -> list[str]:
    def methods(experiment: Experiment) -> set[tuple[str, ...]]:
        rows = experiment.rows[experiment.rows["mask"].isin(masks)]
        return set(rows[["mask", "label", "train_mask"]].drop_duplicates().itertuples(index=False, name=None))

    of = {a.name: methods(a) - methods(b), b.name: methods(b) - methods(a)}
    return [
        # Fills are trained on nothing, and of other programs it is not known.
        f"{label} on {mask}{f' (trained on {train_mask})' if train_mask not in (UNTRAINED, EXTERNAL) else ''}: "
        f"only {name} has it"
        for name, only in of.items()
        for mask, label, train_mask in sorted(only)
    ]
