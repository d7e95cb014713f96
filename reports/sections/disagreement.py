"""Metrics that disagree on the order of two methods: a row for each pair of methods, however many metrics there are."""

from __future__ import annotations

from collections.abc import Iterable
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
            _panel(context, mask, [item for item in found if item.mask == mask]) for mask in context.masks
        ],
        "any": bool(found),
        "metrics": len(context.measured),
    }


def _panel(context: ReportContext, mask: str, found: Iterable[OrderDisagreement]) -> dict[str, Any]:
    """Group the disagreements of a mask by pair: pairs of trained models apart from those with a baseline."""
    pairs: dict[frozenset[str], list[OrderDisagreement]] = {}
    for item in found:
        pairs.setdefault(frozenset((item.better, item.worse)), []).append(item)
    rows = [_row(context, items) for items in pairs.values()]
    return {
        "mask": mask,
        "trained": [row for row in rows if row["trained"]],
        "with_baseline": [row for row in rows if not row["trained"]],
    }


def _row(context: ReportContext, items: list[OrderDisagreement]) -> dict[str, Any]:
    """Tell a pair from both sides: each method with the metrics that prefer it, and its lead in them."""
    leads: dict[tuple[str, str], dict[str, Any]] = {}
    for item in items:
        leads[item.better, item.metric] = _lead(
            context, item.metric, item.difference, item.low, item.high, decided=item.is_decided
        )
        # Turned about, so that each lead is told from the side of the method that has it.
        leads[item.worse, item.other] = _lead(
            context,
            item.other,
            -item.other_difference,
            -item.other_high,
            -item.other_low,
            decided=item.other_is_decided,
        )
    # The favorite of the first metric of the tables comes first.
    order = [m.name for m in context.measured]
    first = min(leads, key=lambda key: order.index(key[1]))[0]
    labels = [first, *({items[0].better, items[0].worse} - {first})]
    return {
        "sides": [
            {
                "method": context.by_label[label],
                "leads": [leads[label, name] for name in order if (label, name) in leads],
            }
            for label in labels
        ],
        "trained": all(context.by_label[label].trained for label in labels),
    }


def _lead(
    context: ReportContext, name: str, difference: float, low: float, high: float, *, decided: bool
) -> dict[str, Any]:
    metric = next(m for m in context.measured if m.name == name)
    shown, lowest, highest = (metric.show(value, sign=True) for value in (difference, low, high))
    return {
        "metric": metric.title,
        "difference": shown,
        "interval": f"{lowest} to {highest}",
        "decided": decided,
    }


SECTION = ReportSection("disagreement", "Metrics that disagree on the order", 35, build_disagreement)
