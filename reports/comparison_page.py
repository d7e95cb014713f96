"""The page of ``bench compare``: one experiment beside others, method by method, paired by image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from reports import plots
from reports.context import MetricView, ReportContext, method_places
from reports.page import render_page, write_page
from reports.palette import LineStyle, line_styles
from reports.results.experiment import Experiment
from reports.sections import Plot
from reports.sections.setup import plain_value
from reports.statistics.compare_experiments import (
    ComparisonError,
    ExperimentComparison,
    compare_experiments,
    nothing_in_common,
)
from reports.svg import apply_style

#: Parts of the manifest in which experiments may differ, with what the page calls them.
_PARTS = ("settings", "data", "software", "hardware")


def compare_all_pairs(
    experiments: Sequence[Experiment], metrics: Sequence[str]
) -> list[ExperimentComparison]:
    """Compare the first experiment with each of the others; one without anything in common is rejected by itself.

    Raises:
        ComparisonError: none of them has anything in common with the first.
    """
    first, *others = experiments
    found, reasons = [], []
    for other in others:
        try:
            found.append(compare_experiments(first, other, metrics))
        except ComparisonError as error:
            reasons.append(str(error))
            # Kept in its place: pages pair comparisons with experiments by position.
            found.append(nothing_in_common(str(error)))
    if len(reasons) == len(others):
        raise ComparisonError("; ".join(reasons))
    return found


def render_comparison(
    experiments: Sequence[Experiment], comparisons: Sequence[ExperimentComparison], folder: Path
) -> Path:
    """Write ``folder/index.html``, atomically.

    Args:
        experiments: two or more.
        comparisons: of the first with each of the others (:func:`compare_all_pairs`).
        folder: made where it is missing.

    Returns:
        The page's path.
    """
    first, *others = experiments
    # Headings and digits as the first experiment describes them.
    metrics = {m.name: m for m in ReportContext(first).metrics}
    pairs = (
        (cell["model"], line["label"])
        for comparison in comparisons
        for line in comparison.differences.to_dict("records")
        for cell in first.cells
        if cell["label"] == line["label"]
    )
    style = line_styles(dict.fromkeys(pairs))
    with apply_style():
        sections = [
            _section(place, first, other, comparison, metrics, style)
            for place, (other, comparison) in enumerate(zip(others, comparisons, strict=True))
        ]
    context = {
        "first": first,
        "others": others,
        "sections": sections,
        "set_up": _set_up(experiments),
        "data": first.manifest["data"],
    }
    return write_page(folder / "index.html", render_page("compare.html.j2", context))


def _section(
    place: int,
    first: Experiment,
    other: Experiment,
    comparison: ExperimentComparison,
    metrics: dict[str, MetricView],
    style: dict[str, LineStyle],
) -> dict[str, Any]:
    """Build what is shown of one pair of experiments."""
    table, places = comparison.differences, method_places(first)
    # Stable, so that masks and metrics keep their order.
    table = table.iloc[
        sorted(range(len(table)), key=lambda i: places[table["label"].iloc[i], table["train_mask"].iloc[i]])
    ]
    panels = []
    for mask, part in table.groupby("mask", sort=False):
        lines = [
            {
                **line,
                "method": {"label": line["label"], "style": style[str(line["label"])]},
                "metric": metrics[str(line["metric"])],
                "winner": {"a better": first.name, "b better": other.name}.get(str(line["verdict"]), ""),
            }
            for line in part.to_dict("records")
        ]
        panels.append(
            {
                "mask": mask,
                "lines": lines,
                "plots": [
                    _forest(f"{place} {mask}", first, other, of, metrics[str(name)], style)
                    for name, of in part.groupby("metric", sort=False)
                ],
            }
        )
    return {
        "other": other,
        "panels": panels,
        "words": _words(first, other, table, metrics),
        "refused": comparison.refused,
        "notes": comparison.notes,
        "reasons": [str(r) for r in dict.fromkeys(table["reason"]) if r],
        "several_trainings": table.groupby(["mask", "label", "metric"]).size().max() > 1,
    }


def _forest(
    name: str,
    first: Experiment,
    other: Experiment,
    part: pd.DataFrame,
    metric: MetricView,
    style: dict[str, LineStyle],
) -> Plot:
    words = ", ".join(
        f"{line['label']} {metric.show(line['difference'], sign=True)} "
        f"[{metric.show(line['low'], sign=True)}, {metric.show(line['high'], sign=True)}]"
        for line in part.to_dict("records")
    )
    side = "right" if metric.higher_is_better else "left"
    return Plot(
        plots.plot_paired_forest(part.assign(b=part["label"]), style, f"difference, {metric.title}"),
        f"compare {name} {metric.name}",
        metric.heading,
        f"{first.name} − {other.name} in {metric.title}: {words}.",
        f"Further {side} is better for {first.name}. Bars: 95 % intervals; the vertical line is no difference.",
    )


def _words(
    first: Experiment, other: Experiment, table: pd.DataFrame, metrics: dict[str, MetricView]
) -> list[str]:
    """Say in a sentence per metric how many methods are better where."""
    found = []
    for name, part in table.groupby("metric", sort=False):
        counts = part["verdict"].value_counts()
        ahead, behind = int(counts.get("a better", 0)), int(counts.get("b better", 0))
        widest = max(part.to_dict("records"), key=lambda line: abs(line["difference"]))
        metric = metrics[str(name)]
        number = f"{metric.show(widest['difference'], sign=True)} {metric.unit}".strip()
        tied = len(part) - ahead - behind
        found.append(
            f"In {metric.heading}, {first.name} is better in {ahead} of {len(part)} "
            f"{'pair' if len(part) == 1 else 'pairs'}, {other.name} in {behind}, and {tied} "
            f"{'is' if tied == 1 else 'are'} undecided; the widest difference is {number} "
            f"({widest['label']} on “{widest['mask']}”)."
        )
    return found


def _set_up(experiments: Sequence[Experiment]) -> list[dict[str, Any]]:
    """List the fields of the manifests that are not the same in all: ``name`` and one value per experiment."""
    rows = []
    fields = [(part, k) for part in _PARTS for e in experiments for k in e.manifest.get(part, {})]
    for part, key in dict.fromkeys(fields):
        values = [plain_value(e.manifest.get(part, {}).get(key)) for e in experiments]
        # Lists of files and people say nothing that could be read in a table.
        if len(set(values)) > 1 and key not in ("skipped", "duplicates", "unseen_identities"):
            rows.append({"name": f"{part}: {key.replace('_', ' ')}", "values": values})
    commits = [plain_value(e.manifest.get("commit")) for e in experiments]
    if len(set(commits)) > 1:
        rows.append({"name": "commit", "values": commits})
    return rows
