"""Every training seen: the spread between seeds beside the paper's lead, the figure that answers "or noise?"."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from reports import plots
from reports.claims.paper import MASK as PAPER_MASK
from reports.claims.paper import OURS as PROPOSED
from reports.claims.paper import published_table
from reports.context import MetricView, ReportContext
from reports.results.manifest import trained_seeds
from reports.sections import Plot, ReportSection
from reports.svg import apply_style


def build_seeds(context: ReportContext) -> dict[str, Any] | None:
    """Build the view of ``sections/seeds.html.j2``; ``None`` where nothing was trained."""
    metrics = [m for m in context.measured if m.group == "primary"] or context.measured[:1]
    panels = []
    with apply_style():
        for mask in context.masks:
            drawn = [plot for m in metrics if (plot := _plot(context, mask, m)) is not None]
            if drawn:
                panels.append({"mask": mask, "plots": drawn, "sentence": _spread(context, mask, metrics[0])})
    if not panels:
        return None
    lead = _published_lead(context, PAPER_MASK, metrics[0])
    title = (
        "Seeds and spread"
        if lead is None
        # A metric without a unit leaves a space before the comma.
        else f"{metrics[0].show(lead)} {metrics[0].unit}, or noise?".replace(" ,", ",")
    )
    seeds = trained_seeds(context.experiment.manifest)
    return {"title": title, "panels": panels, "one_each": len(seeds) == 1, "has_lead": lead is not None}


def _published_lead(context: ReportContext, mask: str, metric: MetricView) -> float | None:
    """Return how far the paper's model is ahead of its runner-up in Table 4; ``None`` on other images or masks."""
    if not context.is_claims_dataset or mask != PAPER_MASK or mask not in context.masks:
        return None
    table = published_table()
    values = table[table["metric"] == metric.name].set_index("model")["value"]
    if PROPOSED not in values.index or len(values) < 2:
        return None
    # The runner-up, whichever of the other models it is.
    return float(values[PROPOSED] - values.drop(PROPOSED).max())


def _plot(context: ReportContext, mask: str, metric: MetricView) -> Plot | None:
    scores = context.scores(mask, metric.name)
    methods = [m for m in context.methods_on(mask) if m.trained and m.label in scores]
    if not methods:
        return None
    trainings = pd.DataFrame(
        [
            {"label": m.label, "seed": seed, "value": float(values.mean())}
            for m in methods
            for seed, values in zip(scores[m.label].seeds, scores[m.label].values, strict=True)
        ]
    )
    lines = [context.value(mask, m.label, metric.name) for m in methods]
    means = pd.DataFrame([line for line in lines if line is not None])[["label", "mean", "low", "high"]]
    lead = _published_lead(context, mask, metric)
    bar = None
    if lead is not None:
        by_model = {m.model: m.label for m in methods}
        highest = max(methods, key=lambda m: _mean(context, mask, m.label, metric))
        end = _mean(context, mask, by_model.get(PROPOSED, highest.label), metric)
        # The bar ends at the model that the paper puts first, or at the highest where that was not trained.
        bar = (end - lead, end, f"the paper’s lead: {metric.show(lead)} {metric.unit}".strip())
    words = "; ".join(
        f"{m.label} "
        + ", ".join(metric.show(v) for v in trainings.loc[trainings["label"] == m.label, "value"])
        for m in methods
    )
    return Plot(
        plots.plot_seeds(trainings, means, {m.label: m.style for m in methods}, metric.title, lead=bar),
        f"{mask} {metric.name} seeds",
        metric.title,
        f"Every training’s mean {metric.title} on “{mask}”: {words}." + (f" {bar[2]}." if bar else ""),
    )


def _mean(context: ReportContext, mask: str, label: str, metric: MetricView) -> float:
    line = context.value(mask, label, metric.name)
    return float("nan") if line is None else float(line["mean"])


def _spread(context: ReportContext, mask: str, metric: MetricView) -> str:
    """Compare the spread between trainings of one model with the paper's lead, in a sentence."""
    scores = [s for s in context.scores(mask, metric.name).values() if s.trained and len(s.seeds) > 1]
    if not scores:
        return ""
    variances = [float(s.values.mean(axis=1).var(ddof=1)) for s in scores]
    weights = [len(s.seeds) - 1 for s in scores]
    # Pooled as in an analysis of variance: weighted by degrees of freedom.
    spread = float(np.sqrt(np.average(variances, weights=weights)))
    text = (
        f"Trainings of one model that differ only in their seed spread by {metric.show(spread)} {metric.unit}".rstrip()
        + " (standard deviation, pooled over models)"
    )
    lead = _published_lead(context, mask, metric)
    if lead is None or spread == 0:
        return text + "."
    # The difference of two independent trainings has twice the variance of one.
    ratio = lead / (np.sqrt(2) * spread)
    of_difference = f"{metric.show(np.sqrt(2) * spread)} {metric.unit}".rstrip()
    return (
        f"{text}. The paper’s lead of {metric.show(lead)} {metric.unit} rests on one training per model; the "
        f"difference of two such trainings has a standard deviation of {of_difference}, so the lead is {ratio:.1f} "
        "times as large."
    )


SECTION = ReportSection("seeds", "Seeds and spread", 20, build_seeds)
