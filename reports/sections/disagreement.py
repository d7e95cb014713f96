"""Metrics that disagree on the order of two methods."""

from __future__ import annotations

from typing import Any

from reports.context import ReportContext
from reports.sections import ReportSection
from reports.statistics.disagreement import OrderDisagreement, find_order_disagreements


def build_disagreement(context: ReportContext) -> dict[str, Any] | None:
    """Build the view of ``sections/disagreement.html.j2``; nothing to say where one metric was measured."""
    if len(context.measured) < 2 or len(context.rows) == 0:
        return None
    found = find_order_disagreements(context.rows, {m.name: m.higher_is_better for m in context.measured})
    return {
        "masks": [
            {"mask": mask, "rows": [_row(context, item) for item in found if item.mask == mask]}
            for mask in context.masks
        ],
        "any": bool(found),
        "metrics": len(context.measured),
    }


def _row(context: ReportContext, item: OrderDisagreement) -> dict[str, Any]:
    views = {m.name: m for m in context.measured}

    def told(name: str, *values: float) -> dict[str, str]:
        metric = views[name]
        difference, low, high = (metric.show(value, sign=True) for value in values)
        return {"metric": metric.title, "difference": difference, "interval": f"{low} to {high}"}

    return {
        "better": context.by_label[item.better],
        "worse": context.by_label[item.worse],
        "one": told(item.metric, item.difference, item.low, item.high),
        "other": told(item.other, item.other_difference, item.other_low, item.other_high),
        "decided": item.decided,
    }


SECTION = ReportSection("disagreement", "Metrics that disagree on the order", 35, build_disagreement)
