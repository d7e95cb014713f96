"""Table 4 beside ours: one table a mask, with intervals, ties, and the same table to copy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports.claims.paper import published_value
from reports.context import MethodView, MetricView, ReportContext, tied_with_best
from reports.export import as_csv, as_latex, as_markdown
from reports.sections import ReportSection

_PAPER_METRICS = ("psnr_db", "ssim")


@dataclass(frozen=True)
class TableValue:
    """A cell of the table."""

    text: str
    sort: float | None
    interval: str = ""
    best: bool = False
    tied: bool = False
    why: str = ""


def build_results_table(context: ReportContext) -> dict[str, Any]:
    """Context of ``sections/table4.html.j2``."""
    masks = [_table(context, mask) for mask in context.masks]
    used = any(v.tied for t in masks for r in t["rows"] for v in r["values"])
    return {
        "groups": [_group(context, metric) for metric in (*context.metrics, *context.distribution_metrics)],
        "masks": masks,
        "comparable": context.comparable,
        "ties": used,
        "unavailable": [m for m in context.metrics if m.unavailable],
        "seeds": context.settings.get("seeds", []),
        "capped": int(context.rows["identical"].sum()) if len(context.rows) else 0,
        "people": _people(context.rows),
        "why_not": _why_not(context),
    }


def _group(context: ReportContext, metric: MetricView) -> dict[str, Any]:
    """A metric's columns, under one heading."""
    columns = ["ours"]
    if metric.name in _PAPER_METRICS:
        columns = ["paper", "ours", "difference"] if context.comparable else ["paper", "ours"]
    return {"metric": metric, "columns": columns}


def _table(context: ReportContext, mask: str) -> dict[str, Any]:
    methods = context.methods_on(mask)
    rows: list[dict[str, Any]] = []
    for method in methods:
        values = [
            v
            for metric in (*context.metrics, *context.distribution_metrics)
            for v in _values(context, mask, method, metric)
        ]
        rows.append({"method": method, "values": values})
    header = ["Model"]
    for group in (_group(context, m) for m in (*context.metrics, *context.distribution_metrics)):
        header += [_column_name(group["metric"], column) for column in group["columns"]]
    plain = [[r["method"].label, *(v.text for v in r["values"])] for r in rows]
    exact = [
        [r["method"].label, *("" if v.sort is None else repr(v.sort) for v in r["values"])] for r in rows
    ]
    return {
        "mask": mask,
        "about": context.manifest["masks"].get(mask),
        "rows": rows,
        "copies": [
            {"name": "CSV", "text": as_csv([header, *exact])},
            {"name": "Markdown", "text": as_markdown([header, *plain])},
            {"name": "LaTeX", "text": as_latex([header, *plain])},
        ],
        "missing": _missing(context, mask),
        "notes": context.distribution_notes(mask),
    }


def _missing(context: ReportContext, mask: str) -> list[str]:
    """Models that lack results on a mask, with what became of them."""
    cells = [c for c in context.experiment.cells if c["mask"] == mask and c["status"] != "done"]
    return list(dict.fromkeys(f"{c['label']} ({c['status'].replace('-', ' ')})" for c in cells))


def _column_name(metric: MetricView, column: str) -> str:
    return metric.title if column == "ours" else f"{metric.title} {column}"


def _values(context: ReportContext, mask: str, method: MethodView, metric: MetricView) -> list[TableValue]:
    line = context.value(mask, method.label, metric.name)
    if line is None:
        why = metric.unavailable or "no value"
        ours = TableValue("n/a" if metric.unavailable else "–", None, why=why)
    else:
        best = context.ranking(mask, metric)[0]
        pair = None if best is method else context.difference(mask, metric.name, best.label, method.label)
        low, high = line["low"], line["high"]
        ours = TableValue(
            text=metric.show(line["mean"]),
            sort=float(line["mean"]),
            interval="" if line["interval"] == "none" else f"{metric.show(low)}–{metric.show(high)}",
            best=best is method,
            tied=pair is not None and tied_with_best(pair),
        )
    if metric.name not in _PAPER_METRICS:
        return [ours]
    number = published_value(method.model, metric.name)
    digits = metric.digits + 2 if metric.unit == "dB" else metric.digits
    paper = TableValue("–" if number is None else f"{number:.{digits}f}", number)
    if not context.comparable:
        return [paper, ours]
    gap = None if number is None or line is None else float(line["mean"]) - number
    return [paper, ours, TableValue(metric.show(gap, sign=True), gap)]


def _why_not(context: ReportContext) -> str:
    """Why no difference to the paper is printed, in a sentence; empty where it is."""
    if context.comparable:
        return ""
    if context.data["procedural"]:
        return (
            "These pictures are procedural faces, drawn by this program. No difference to the paper is "
            "printed and none may be read off: its numbers are of other pictures and stand here for reference only."
        )
    if not context.is_claims_dataset:
        return (
            "These pictures are not CelebA. No difference to the paper is printed: its numbers are of other "
            "pictures and stand here for reference only."
        )
    return (
        "No difference to the paper is printed: that needs CelebA at 160 px and the budget of the preset "
        "“paper” (3.6 million images seen). The paper's numbers stand here for reference only."
    )


def _people(rows: pd.DataFrame) -> str:
    """How the intervals treat pictures of one person."""
    images = rows.drop_duplicates("image_id")
    unknown, of = int(images["identity"].isna().sum()), len(images)
    if not unknown:
        return "pictures of one person count as one"
    if unknown == of:
        return "who is shown is not known, and each picture counts by itself"
    return (
        f"pictures of one person count as one; of {unknown:,} of {of:,} it is not known who is shown, "
        "and each counts by itself"
    )


SECTION = ReportSection("results_table", "Results", 30, build_results_table)
