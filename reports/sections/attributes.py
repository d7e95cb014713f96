"""Tables by attribute: each metric over the images with an attribute, and over those without."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from reports.context import MetricView, ReportContext
from reports.sections import ReportSection
from reports.statistics.attributes import summarize_by_attribute


def build_attributes(context: ReportContext) -> dict[str, Any] | None:
    """Build the view of ``sections/attributes.html.j2``; ``None`` where no attribute of the images is known."""
    attributes, mask = context.experiment.attributes, context.main_mask
    names = list(attributes.columns)
    if not names or mask is None:
        return None
    metrics = [m for m in context.measured if m.group == "primary"] or context.measured[:1]
    rows = context.rows[context.rows["mask"] == mask]
    table = summarize_by_attribute(rows, attributes, [m.name for m in metrics], names)
    if table.empty:
        return None
    methods = context.methods_on(mask)
    return {
        "mask": mask,
        "several_masks": len(context.masks) > 1,
        "methods": methods,
        "tables": [
            {"metric": m, "groups": _groups(m, table[table["metric"] == m.name], [x.label for x in methods])}
            for m in metrics
        ],
        "unknown": int((~rows["image_id"].drop_duplicates().isin(attributes.index)).sum()),
        "small": bool(table["small"].any()),
    }


def _groups(metric: MetricView, table: pd.DataFrame, labels: list[str]) -> list[dict[str, Any]]:
    found = []
    for (name, has), part in table.groupby(["attribute", "has"], sort=False):
        by_label = {line["label"]: line for line in part.to_dict("records")}
        # Counts of the first method; those of others differ only where a metric has no value.
        first = part.iloc[0]
        found.append(
            {
                "name": f"{str(name).replace('_', ' ')}" if has else f"not {str(name).replace('_', ' ')}",
                "has": has,
                "images": int(first["n_images"]),
                "people": int(first["n_identities"]),
                "small": bool(first["small"]),
                "values": [_value(metric, by_label.get(label)) for label in labels],
            }
        )
    return found


def _value(metric: MetricView, line: dict[Any, Any] | None) -> dict[str, str]:
    if line is None:
        return {"text": "–", "interval": ""}
    limits = "" if math.isnan(line["low"]) else f"{metric.show(line['low'])}–{metric.show(line['high'])}"
    return {"text": metric.show(line["mean"]), "interval": limits}


SECTION = ReportSection("attributes", "By attribute", 38, build_attributes)
