"""What the split leaks: people of the test images who are in training too, and what that is worth."""

from __future__ import annotations

from typing import Any

from reports.statistics.identity_leak import identity_leak
from reports.context import Metric, Page
from reports.results.schema import PRIMARY_METRICS


def build_identity_leak(page: Page) -> dict[str, Any] | None:
    """Context of ``sections/leak.html.j2``; ``None`` where nobody is known from training, or people are unknown.

    ``lines`` is empty where everybody is known, so that there is nothing to compare.
    """
    new = page.data.get("unseen_identities")
    if new is None or not len(page.rows):
        return None
    if not new:
        return {"lines": []}
    metrics = {m.name: m for m in page.measured if m.name in PRIMARY_METRICS}
    table = identity_leak(page.rows, list(metrics), new)
    if table.empty:
        return None
    lines = []
    for line in table.to_dict("records"):
        metric = metrics[line["metric"]]
        lines.append(
            {
                "mask": line["mask"],
                "method": page.by_label[line["label"]],
                "metric": f"{metric.title} {metric.arrow}",
                "known": metric.show(line["known"]),
                "new": metric.show(line["new"]),
                "difference": _interval(metric, line["difference"], line["low"], line["high"]),
                "net": _interval(metric, line["net"], line["net_low"], line["net_high"]),
            }
        )
    return {"counts": table.iloc[0].to_dict(), "reference": table["reference"].iloc[0], "lines": lines}


def _interval(metric: Metric, value: float, low: float, high: float) -> str:
    limits = ", ".join(metric.show(limit, sign=True) for limit in (low, high))
    return f"{metric.show(value, sign=True)} [{limits}]"
