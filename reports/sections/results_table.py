"""The table of results: one a mask, with intervals and ties, beside the paper's numbers where those belong."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pandas as pd

from reports.claims.paper import MASK as PAPER_MASK
from reports.claims.paper import PAPER, published_value
from reports.context import MethodView, MetricView, ReportContext, tied_with_best
from reports.export import as_csv, as_latex, as_markdown
from reports.sections import ReportSection
from reports.statistics.ranking import Clearance, compare_with_baseline

_PAPER_METRICS = ("psnr_db", "ssim")

#: Metrics beside each other in a further table, which scrolls on no page of 1,400 pixels.
_MAX_METRICS = 6

#: How a model stands to the best baseline, as the table marks it.
_STANDING = {"clears": "✓", "falls short": "✗", "undecided": "?"}


@dataclass(frozen=True)
class TableValue:
    """A cell of the table.

    Attributes:
        text: the number as printed.
        sort: its value for sorting and for the CSV file; ``None`` where there is none.
        interval: printed under it; may be empty.
        best: whether it is the best of its column.
        tied: whether its difference to the best is not decided.
        tie_reason: why it is not; empty where it is.
        hint: what hovering over the cell shows.
    """

    text: str
    sort: float | None
    interval: str = ""
    best: bool = False
    tied: bool = False
    tie_reason: str = ""
    hint: str = ""


@dataclass(frozen=True)
class ColumnGroup:
    """A metric's columns under one heading: ``paper``, ``ours``, ``difference``, ``over the baseline``."""

    metric: MetricView
    columns: tuple[str, ...]


@dataclass(frozen=True)
class TablePart:
    """The metrics that one table of a mask shows; a table of all of them would be wider than the page.

    Attributes:
        groups: the metrics.
        start: place of the first column among the values of a row.
    """

    groups: list[ColumnGroup]
    start: int


def _parts(groups: Sequence[ColumnGroup]) -> list[TablePart]:
    """Put the primary metrics into the first table, the others into further ones of about equal width."""
    first = [g for g in groups if g.metric.group == "primary"]
    others = [g for g in groups if g.metric.group != "primary"]
    # Primary metrics come first in every list of metrics, so that columns keep their places.
    assert [*first, *others] == list(groups)
    number = -(-len(others) // _MAX_METRICS)
    ends = [round(len(others) * place / number) for place in range(1, number + 1)]
    parts, start = [], 0
    for chosen in [first, *(others[a:b] for a, b in itertools.pairwise([0, *ends]))]:
        if chosen:
            parts.append(TablePart(chosen, start))
            start += sum(len(g.columns) for g in chosen)
    return parts


def build_results_table(context: ReportContext) -> dict[str, Any]:
    """Build the view of ``sections/results_table.html.j2``."""
    tables = [_table(context, mask) for mask in context.masks]
    values = [v for t in tables for r in t["rows"] for v in r["values"]]
    # Differences are printed only where the whole set-up is the paper's; only then is this its table.
    title = "Table 4, reproduced" if context.comparable and PAPER_MASK in context.masks else "Results"
    return {
        "title": title,
        "tables": tables,
        "overview": _overview(context),
        "metrics": [(m, metric_words(context, m.convention)) for m in _all_metrics(context)],
        "ties": any(v.tied for v in values),
        "several_seeds": len(context.settings.get("seeds", [])) > 1,
        "capped": int(context.rows["identical"].sum()) if len(context.rows) else 0,
        "people": _people(context.rows),
        "why_not": _why_not_comparable(context),
        "paper": PAPER,
        "paper_mask": PAPER_MASK,
    }


def metric_words(context: ReportContext, convention: str) -> str:
    """Write a metric's convention without column names: those become the headings of the table."""
    # Longest first, so that no name is replaced inside a longer one.
    for metric in sorted(context.metrics, key=lambda m: -len(m.name)):
        # Its backslashes doubled: re.sub reads one in a replacement as the beginning of an escape.
        heading = metric.heading.replace("\\", r"\\")
        convention = re.sub(rf"\b{re.escape(metric.name)}\b", heading, convention)
    return convention[:1].upper() + convention[1:]


def _all_metrics(context: ReportContext) -> list[MetricView]:
    return [*context.metrics, *context.distribution_metrics]


def _groups(context: ReportContext, mask: str, clearances: Sequence[Clearance]) -> list[ColumnGroup]:
    """List the columns of a mask's table: the paper's stand only beside the mask that they belong to."""
    published = mask == PAPER_MASK and any(
        published_value(m.model, name) is not None
        for m in context.methods_on(mask)
        for name in _PAPER_METRICS
    )
    groups = []
    for metric in _all_metrics(context):
        columns = ["ours"]
        if published and metric.name in _PAPER_METRICS:
            # A difference to other images, or to another budget, would be read as a result.
            columns = ["paper", "ours", "difference"] if context.comparable else ["paper", "ours"]
        # The bar is judged by the first metric alone: a test for each would need a correction of its own.
        if clearances and metric is context.measured[0]:
            columns.append(f"over {clearances[0].baseline}")
        groups.append(ColumnGroup(metric, tuple(columns)))
    return groups


def _table(context: ReportContext, mask: str) -> dict[str, Any]:
    metric = context.measured[0] if context.measured else None
    clearances: list[Clearance] = (
        compare_with_baseline(context.rows, metric.name, mask, higher_is_better=metric.higher_is_better)
        if metric
        else []
    )
    groups = _groups(context, mask, clearances)
    by_label = {c.label: c for c in clearances}
    rows: list[dict[str, Any]] = [
        {"method": m, "values": _values(context, mask, m, groups, by_label.get(m.label))}
        for m in context.methods_on(mask)
    ]
    header = ["Model", *(_column_name(g.metric, column) for g in groups for column in g.columns)]
    plain = [[r["method"].label, *(v.text for v in r["values"])] for r in rows]
    # The CSV has every digit, what is copied for a paper those of the page.
    exact = [
        [r["method"].label, *("" if v.sort is None else repr(v.sort) for v in r["values"])] for r in rows
    ]
    csv = as_csv([header, *exact])
    return {
        "mask": mask,
        "about": _about(context, mask),
        "parts": _parts(groups),
        "rows": rows,
        "published": any("paper" in g.columns for g in groups),
        "baseline": clearances[0].baseline if clearances else "",
        "copies": [
            {"name": "CSV", "text": csv},
            {"name": "Markdown", "text": as_markdown([header, *plain])},
            {"name": "LaTeX", "text": as_latex([header, *plain])},
        ],
        # A data URL, since the page has no server and its policy admits no script that would make a file.
        "csv": "data:text/csv;charset=utf-8," + quote(csv),
        # Names of masks may hold slashes and colons.
        "file": re.sub(r"[^\w.+-]+", "_", f"{context.experiment.name}-{mask}.csv"),
        "missing": _missing(context, mask),
        "notes": context.distribution_notes(mask),
    }


def _about(context: ReportContext, mask: str) -> str:
    """Say what a mask is, and how much of the image its holes cover."""
    ratio = context.hole_ratio(mask)
    parts = [
        context.manifest["masks"].get(mask, {}).get("summary", "").rstrip("."),
        "" if ratio is None else f"the holes cover {100 * ratio:.1f} % of the image on average",
    ]
    text = "; ".join(filter(None, parts))
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _missing(context: ReportContext, mask: str) -> list[str]:
    """List the models without results on a mask, with their status."""
    cells = [c for c in context.experiment.cells if c["mask"] == mask and c["status"] != "done"]
    return list(dict.fromkeys(f"{c['label']} ({c['status'].replace('-', ' ')})" for c in cells))


def _column_name(metric: MetricView, column: str) -> str:
    return metric.title if column == "ours" else f"{metric.title}, {column}"


def _values(
    context: ReportContext,
    mask: str,
    method: MethodView,
    groups: Sequence[ColumnGroup],
    clearance: Clearance | None,
) -> list[TableValue]:
    values = []
    for group in groups:
        ours = _ours(context, mask, method, group.metric)
        published = published_value(method.model, group.metric.name)
        for column in group.columns:
            match column:
                case "ours":
                    values.append(ours)
                case "paper":
                    values.append(_paper(group.metric, published))
                case "difference":
                    gap = None if published is None or ours.sort is None else ours.sort - published
                    values.append(TableValue(group.metric.show(gap, sign=True), gap))
                case _:
                    values.append(_over_baseline(group.metric, clearance))
    return values


def _ours(context: ReportContext, mask: str, method: MethodView, metric: MetricView) -> TableValue:
    line = context.value(mask, method.label, metric.name)
    if line is None:
        why = metric.unavailable or "no value"
        return TableValue("n/a" if metric.unavailable else "–", None, hint=why)
    # There is one: this method has a value.
    best = context.ranking(mask, metric)[0]
    pair = None if best is method else context.difference(mask, metric.name, best.label, method.label)
    interval = "" if line["interval"] == "none" else f"{metric.show(line['low'])}–{metric.show(line['high'])}"
    trainings = int(line["n_seeds"]) if method.trained else 0
    tied = pair is not None and tied_with_best(pair)
    return TableValue(
        text=metric.show(line["mean"]),
        sort=float(line["mean"]),
        interval=interval,
        best=best is method,
        tied=tied,
        tie_reason=str(pair["reason"]) if tied and pair is not None else "",
        hint=", ".join(
            filter(
                None,
                [
                    f"{method.label}: {float(line['mean']):.{metric.digits + 2}f} {metric.unit}".strip(),
                    interval and f"95 % interval {interval.replace('–', ' to ')}",
                    f"{int(line['n_images']):,} images",
                    f"{trainings} training{'' if trainings == 1 else 's'}" if trainings else "",
                ],
            )
        ),
    )


def _paper(metric: MetricView, published: float | None) -> TableValue:
    # As many digits as the paper prints.
    digits = metric.digits + 2 if metric.unit == "dB" else metric.digits
    return TableValue("–" if published is None else f"{published:.{digits}f}", published)


def _over_baseline(metric: MetricView, clearance: Clearance | None) -> TableValue:
    """Return the lead over the best baseline, marked by whether it is decided."""
    if clearance is None:
        return TableValue("", None)
    line = clearance.difference
    words = {"clears": "clears the baseline", "falls short": "falls short of the baseline"}
    limits = f"{metric.show(line.low, sign=True)} to {metric.show(line.high, sign=True)}"
    return TableValue(
        # A mark beside the number: color alone is lost in print.
        text=f"{_STANDING[clearance.status]} {metric.show(line.difference, sign=True)}",
        sort=line.difference,
        interval="" if line.interval == "none" else limits,
        hint=words.get(clearance.status, f"not decided: {line.reason}"),
    )


def _overview(context: ReportContext) -> dict[str, Any] | None:
    """Build the table of models by masks of the first metric; ``None`` for a single mask."""
    if len(context.masks) < 2 or not context.measured:
        return None
    metric = context.measured[0]
    rows = []
    for method in context.methods:
        values = [
            _ours(context, mask, method, metric)
            if method in context.methods_on(mask)
            else TableValue("–", None)
            for mask in context.masks
        ]
        if any(v.sort is not None for v in values):
            rows.append({"method": method, "values": values})
    return {"metric": metric, "masks": context.masks, "rows": rows}


def _why_not_comparable(context: ReportContext) -> str:
    """Say in a sentence why no difference to the paper is printed; empty where it is."""
    if context.comparable or PAPER_MASK not in context.masks:
        return ""
    if context.data["procedural"]:
        return (
            "These images are procedural faces, drawn by this program. No difference to the paper is "
            "printed and none may be read off: its numbers are of other images and stand here for reference only."
        )
    if not context.is_claims_dataset:
        return (
            "These images are not CelebA. No difference to the paper is printed: its numbers are of other "
            "images and stand here for reference only."
        )
    return (
        "No difference to the paper is printed: that needs CelebA at 160 px and the budget of the preset "
        "“paper” (3.6 million images seen: our choice, since the paper gives none). The paper's numbers stand "
        "here for reference only."
    )


def _people(rows: pd.DataFrame) -> str:
    """Say how the intervals treat images of one person."""
    images = rows.groupby("image_id")["identity"].agg(["min", "max"])
    unknown, of = int(images["min"].isna().sum()), len(images)
    if differing := int((images["min"] != images["max"]).fillna(False).sum()):
        which = "1 image" if differing == 1 else f"{differing:,} images"
        return (
            f"images of one person count as one, but rows name different people for {which}: "
            "the list of people changed between two commands; run or score the earlier ones again"
        )
    if not unknown:
        return "images of one person count as one"
    if unknown == of:
        return "the persons are not known, and each image counts by itself"
    return (
        f"images of one person count as one; for {unknown:,} of {of:,} the person is not known, "
        "and each counts by itself"
    )


SECTION = ReportSection("results_table", "Results", 30, build_results_table)
