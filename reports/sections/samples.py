"""Stochastic models: the mean over samples, what the best sample would give, how samples differ, and calibration."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from reports.context import MethodView, MetricView, ReportContext
from reports.images import SampleRow, ShownImages, load_shown_images
from reports.sections import ReportSection
from reports.statistics.stochastic_samples import sample_spread, summarize_samples


def build_samples(context: ReportContext) -> dict[str, Any] | None:
    """Build the view of ``sections/samples.html.j2``; ``None`` where no model drew several samples of an image."""
    metrics = {m.name: m for m in context.measured if m.group == "primary"} or {
        m.name: m for m in context.measured[:1]
    }
    directions = {m.name: m.higher_is_better for m in metrics.values()}
    table = summarize_samples(context.sample_rows, list(metrics), directions)
    if table.empty:
        return None
    lines: list[dict[str, Any]] = table.to_dict("records")  # type: ignore[assignment]
    spread: list[dict[str, Any]] = sample_spread(context.named_cells).to_dict("records")  # type: ignore[assignment]
    return {
        "metrics": [
            {"metric": metric, "lines": [_line(context, metric, x) for x in lines if x["metric"] == name]}
            for name, metric in metrics.items()
        ],
        "spread": [_spread(context, x) for x in spread],
        "panels": _panels(context),
        "several_masks": table["mask"].nunique() > 1,
        "several_seeds": int(table["n_seeds"].max()) > 1,
    }


def _panels(context: ReportContext) -> list[dict[str, Any]]:
    """Show the samples of some images side by side: on each mask, of each method whose cells keep several."""
    panels = []
    for mask in context.masks:
        sample = load_shown_images(context, mask)
        if sample is None:
            continue
        methods = [
            {"method": method, "rows": rows, "columns": len(rows[0].samples) + 2}
            for method, cell in sample.methods
            if cell in sample.stored.samples and (rows := _sample_rows(context, sample, mask, method, cell))
        ]
        if methods:
            panels.append({"mask": mask, "methods": methods})
    return panels


def _sample_rows(
    context: ReportContext, sample: ShownImages, mask: str, method: MethodView, cell: str
) -> list[SampleRow]:
    # Neither best nor worst: what somebody sees who asks for samples of an image.
    choices = [c for c in sample.choose() if {"random", "median"} & set(c.rules)]
    rows = context.sample_rows
    rows = rows[(rows["mask"] == mask) & (rows["label"] == method.label)]
    # As the pictures: of the training with the lowest seed.
    by_image = dict(iter(rows[rows["seed"] == rows["seed"].min()].groupby("image_id", observed=True)))
    names = [m.name for m in sample.metrics]
    return [
        sample.sample_row(choice.place, choice.rules, cell, np.asarray(own.sort_values("sample")[names]))
        for choice in choices
        if (own := by_image.get(sample.stored.ids[choice.place])) is not None
    ]


def _line(context: ReportContext, metric: MetricView, line: dict[str, Any]) -> dict[str, Any]:
    return {
        "mask": line["mask"],
        "method": context.by_label[line["label"]],
        "samples": line["n_samples"],
        "images": line["n_images"],
        "mean": metric.show(line["mean"]),
        "interval": ""
        if math.isnan(line["low"])
        else f"{metric.show(line['low'])}–{metric.show(line['high'])}",
        "best": metric.show(line["best_of_samples"]),
        # Standard errors are small beside the metric: a digit more than it is shown with.
        "errors": [_error(metric, line[f"se_{level}"]) for level in ("training", "image", "sample")],
        "sample_sd": _error(metric, line["sample_sd"]),
    }


def _error(metric: MetricView, value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.{metric.digits + 1}f}"


def _spread(context: ReportContext, line: dict[str, Any]) -> dict[str, Any]:
    def shown(name: str, digits: int, scale: float = 1.0) -> dict[str, str]:
        value, low, high = (scale * line[key] for key in (name, f"{name}_low", f"{name}_high"))
        limits = "" if math.isnan(low) else f"{low:.{digits}f}–{high:.{digits}f}"
        return {"text": "n/a" if math.isnan(value) else f"{value:.{digits}f}", "interval": limits}

    return {
        "mask": line["mask"],
        "method": context.by_label[line["label"]],
        "seed": line["seed"],
        "samples": line["n_samples"],
        "diversity": shown("diversity", 4),
        "inside": shown("inside", 1, 100),
        "expected": f"{100 * line['expected_inside']:.1f}",
        "narrow": line["inside_high"] < line["expected_inside"],
        "wide": line["inside_low"] > line["expected_inside"],
        "reason": line["reason"],
    }


SECTION = ReportSection("samples", "Several samples of an image", 37, build_samples)
