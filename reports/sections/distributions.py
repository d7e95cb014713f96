"""Per-image distributions, paired differences, score against hole area, and who wins how often; by mask."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd

from reports import plots
from reports.claims.paper import MASK as PAPER_MASK
from reports.claims.paper import published_value
from reports.context import MetricView, ReportContext
from reports.sections import Plot, ReportSection
from reports.statistics.effect_sizes import probability_of_superiority
from reports.statistics.scores import Scores
from reports.svg import apply_style

_BINS = 8


def build_distributions(context: ReportContext) -> dict[str, Any]:
    """Build the view of ``sections/distributions.html.j2``."""
    with apply_style():
        return {"masks": [{"mask": mask, **_mask(context, mask)} for mask in context.masks]}


def _mask(context: ReportContext, mask: str) -> dict[str, Any]:
    found: list[Plot] = []
    notes: list[str] = []
    metrics = [m for m in context.measured if m.group == "primary"] or context.measured[:1]
    styles = {m.label: m.style for m in context.methods}
    for metric in metrics:
        arranged = context.scores(mask, metric.name)
        scores = {m.label: arranged[m.label] for m in context.methods if m.label in arranged}
        per_image = {label: s.values.mean(axis=0) for label, s in scores.items()}
        name = f"{mask} {metric.name}"
        if metric is metrics[0]:
            found.append(_ecdf(per_image, styles, metric, name))
            found.append(_violins(per_image, styles, metric, name))
        found += _forest(context, mask, metric, styles, name)
        if metric is metrics[0]:
            if len(scores) > 1:
                found.append(_wins(scores, metric, name))
            ratios = context.rows[context.rows["mask"] == mask].drop_duplicates("image_id")["hole_ratio"]
            # Below half a percent of the image holes differ by rounding to pixels only.
            if ratios.max() - ratios.min() > 0.005:
                found.append(_hole(context, mask, metric, styles, name))
            else:
                notes.append(
                    f"Every hole of this mask covers {100 * ratios.mean():.1f} % of its image: there is no "
                    "score against hole area to draw."
                )
    methods = context.methods_on(mask)
    return {"plots": found, "notes": notes, "methods": methods, "images": context.data["evaluated"]}


def _ecdf(scores: dict[str, Any], styles: dict[str, Any], metric: MetricView, name: str) -> Plot:
    medians = ", ".join(f"{label} {metric.show(np.median(v))}" for label, v in scores.items())
    return Plot(
        plots.plot_ecdf(scores, styles, metric.title),
        f"{name} ecdf",
        f"{metric.heading} over all images",
        f"Cumulative distribution of {metric.title} over images. Medians: {medians}.",
        f"{'Further right' if metric.higher_is_better else 'Further left'} is better.",
    )


def _violins(scores: dict[str, Any], styles: dict[str, Any], metric: MetricView, name: str) -> Plot:
    spans = ", ".join(
        f"{label} {metric.show(np.quantile(v, 0.25))} to {metric.show(np.quantile(v, 0.75))}"
        for label, v in scores.items()
    )
    return Plot(
        plots.plot_violins(scores, styles, metric.title),
        f"{name} violins",
        f"Spread of {metric.heading}",
        f"Violins of {metric.title} over images. Middle halves: {spans}.",
        "Lines inside: quartiles and median.",
    )


def _forest(
    context: ReportContext, mask: str, metric: MetricView, styles: dict[str, Any], name: str
) -> list[Plot]:
    order = context.ranking(mask, metric)
    if len(order) < 2:
        return []
    best = order[0].label
    t = context.against_best
    t = t[(t["mask"] == mask) & (t["metric"] == metric.name) & (t["a"] == best)]
    t = t.drop_duplicates("b").sort_values("difference", key=abs, kind="stable")
    words = ", ".join(
        "{} {} [{}, {}]".format(line["b"], *(metric.show(line[k]) for k in ("difference", "low", "high")))
        for line in t.to_dict("records")
    )
    t = t.assign(published=[_published_difference(context, mask, metric, best, str(b)) for b in t["b"]])
    baselines = [m.label for m in context.methods if not m.trained]
    drawn = plots.plot_paired_forest(t, styles, metric.title, baselines=baselines)
    # What a bar is over depends on the trainings of both sides, so one figure may have both kinds.
    kinds = set(t["interval"])
    caption = (
        "Bars: 95 % intervals over seeds and images."
        if kinds == {"seeds and images"}
        else "Bars: 95 % intervals over images, for these very trainings."
        if kinds == {"images"}
        else "Bars: 95 % intervals over seeds and images; over images where a model has one training."
    )
    side = "right" if metric.higher_is_better else "left"
    caption += f" To the {side} of the line, {best} is better."
    if t["published"].notna().any():
        caption += " Hollow diamonds: the paper’s differences."
    title = f"{best} − each other model ({metric.heading})"
    alt = f"{best} minus each other model in {metric.title}: {words}."
    return [Plot(drawn, f"{name} forest", title, alt, caption)]


def _published_difference(context: ReportContext, mask: str, metric: MetricView, a: str, b: str) -> float:
    """Return the paper's difference of two of its models, NaN unless these are its images and its mask."""
    if not context.is_claims_dataset or mask != PAPER_MASK:
        return float("nan")
    values = [published_value(context.by_label[label].model, metric.name) for label in (a, b)]
    return float("nan") if None in values else float(values[0] - values[1])  # type: ignore[operator]


def _wins(scores: dict[str, Scores], metric: MetricView, name: str) -> Plot:
    labels = list(scores)
    sign = 1.0 if metric.higher_is_better else -1.0
    wins = np.full((len(labels), len(labels)), np.nan)
    for (i, a), (k, b) in itertools.combinations(enumerate(labels), 2):
        images = scores[a].images.intersection(scores[b].images, sort=False)
        if not len(images):
            continue
        one, other = scores[a].on(images), scores[b].on(images)
        wins[i, k] = probability_of_superiority(sign * one.values, sign * other.values)
        # Ties count half on both sides, so the two sum to one.
        wins[k, i] = 1 - wins[i, k]
    table = pd.DataFrame(wins, index=labels, columns=labels)
    share = table.mean(axis=1)
    words = ", ".join(f"{label} {100 * share[label]:.0f} %" for label in labels)
    return Plot(
        plots.plot_win_matrix(table),
        f"{name} wins",
        f"How often the row beats the column, % of images ({metric.heading})",
        f"Win rates in {metric.title}, image by image. Each model's average against the others: {words}.",
        "Ties count half; letters stand for the rows.",
    )


def _hole(context: ReportContext, mask: str, metric: MetricView, styles: dict[str, Any], name: str) -> Plot:
    binned = {}
    for method in context.methods_on(mask):
        rows = context.rows[(context.rows["mask"] == mask) & (context.rows["label"] == method.label)]
        rows = rows[["hole_ratio", metric.name]].dropna().sort_values("hole_ratio", kind="stable")
        # Equal counts, at least five images a bin where there are that many.
        bins = np.arange(len(rows)) * min(_BINS, max(1, len(rows) // 5)) // max(len(rows), 1)
        table = rows.groupby(bins).mean()
        binned[method.label] = table.rename(columns={"hole_ratio": "ratio", metric.name: "value"})
    words = ", ".join(
        f"{label} from {metric.show(t['value'].iloc[0])} to {metric.show(t['value'].iloc[-1])}"
        for label, t in binned.items()
        if len(t)
    )
    return Plot(
        plots.plot_against_hole_area(binned, styles, metric.title),
        f"{name} hole",
        f"{metric.heading} against the area of the hole",
        f"Mean {metric.title} from the smallest to the largest holes: {words}.",
        "Means of groups with equally many images.",
    )


SECTION = ReportSection("distributions", "Score distributions", 60, build_distributions)
