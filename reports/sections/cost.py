"""What each model costs, and what it gives for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from reports import plots
from reports.context import MethodView, ReportContext
from reports.sections import Plot, ReportSection
from reports.svg import apply_style


def build_cost(context: ReportContext) -> dict[str, Any]:
    """Build the view of ``sections/cost.html.j2``."""
    rows = [{"method": m, "columns": _columns(m)} for m in context.methods if m.done]
    with apply_style():
        return {
            "rows": rows,
            "plots": _plots(context),
            "heads": HEADS,
            # Only they have parameters and a training time, which the figures are about.
            "methods": [m for m in context.methods if m.done and m.trained],
        }


#: Heading and unit of each column.
HEADS = (
    ("Generator", "parameters"),
    ("Discriminator", "parameters"),
    ("Multiply-adds", "one image"),
    ("Trained in", "wall time"),
    ("Training", "images/s"),
    ("Evaluation", "images/s"),
    ("Peak memory", "training"),
)


def _columns(method: MethodView) -> list[tuple[str, float | None]]:
    """Return text and sort value of each column: means over the method's trainings and cells."""
    # By key, since a training that serves several masks is paid for once.
    trainings = list({c["training"]["key"]: c["training"] for c in method.done if c["training"]}.values())
    speeds = [c["evaluation"].get("images_per_second") for c in method.done if c["evaluation"]]
    # All trainings of a method have the same networks.
    parameters = trainings[0].get("parameters", {}) if trainings else {}
    return [
        _scaled(parameters.get("generator")),
        _scaled(sum(v for k, v in parameters.items() if k != "generator") or None),
        _scaled(trainings[0].get("multiply_accumulates") if trainings else None),
        _time(_mean([t.get("seconds") for t in trainings])),
        _rate(_mean([t.get("images_per_second") for t in trainings])),
        _rate(_mean(speeds)),
        _memory(_mean([t.get("peak_memory_mb") for t in trainings])),
    ]


def _plots(context: ReportContext) -> list[Plot]:
    metric = context.measured[0] if context.measured else None
    mask = context.main_mask
    if metric is None or mask is None:
        return []
    styles = {m.label: m.style for m in context.methods}
    seconds = [_columns(m)[3][1] or 0.0 for m in context.methods_on(mask)]
    unit, divisor = plots.time_unit(max(seconds, default=0.0))
    # Column by position in _columns, and its unit in that of the axis.
    costs = (
        ("parameters", "parameters of the generator (millions)", 0, 1e6),
        ("time", f"training time ({unit})", 3, divisor),
    )
    found = []
    for short, name, column, scale in costs:
        points: list[dict[str, Any]] = []
        for method in context.methods_on(mask):
            cost = _columns(method)[column][1]
            line = context.value(mask, method.label, metric.name)
            if cost is not None and line is not None:
                points.append({"label": method.label, "cost": cost / scale, "value": float(line["mean"])})
        if len(points) > 1:
            words = ", ".join(f"{p['label']} {p['cost']:.3g}, {metric.show(p['value'])}" for p in points)
            found.append(
                Plot(
                    plots.plot_quality_against_cost(pd.DataFrame(points), styles, name, metric.title),
                    f"cost {short}",
                    f"{metric.heading} against {name.split(' (')[0]}",
                    f"{metric.title} on “{mask}” against {name}: {words}.",
                )
            )
    return found


def _mean(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def _scaled(value: float | None) -> tuple[str, float | None]:
    if value is None:
        return "–", None
    for divisor, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= divisor:
            return f"{value / divisor:.2f} {letter}", float(value)
    return f"{value:.0f}", float(value)


def _time(seconds: float | None) -> tuple[str, float | None]:
    if seconds is None:
        return "–", None
    if seconds < 120:
        return (f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"), seconds
    return (f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"), seconds


def _rate(value: float | None) -> tuple[str, float | None]:
    return ("–", None) if value is None else (f"{value:,.0f}" if value >= 100 else f"{value:.1f}", value)


def _memory(megabytes: float | None) -> tuple[str, float | None]:
    if megabytes is None:
        return "–", None
    return (f"{megabytes / 1024:.1f} GiB" if megabytes >= 1024 else f"{megabytes:.0f} MiB"), megabytes


SECTION = ReportSection("cost", "Cost", 80, build_cost)
