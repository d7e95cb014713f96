"""``worst.html`` beside a report: each model's worst completions, and what its worst images have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reports.context import MethodView, MetricView, ReportContext
from reports.images import ShownImages, load_shown_images
from reports.page import render_page, write_page
from reports.statistics.scores import Scores
from reports.statistics.worst_images import WORST_SHARE, TraitContrast, contrast_traits, worst_images

FILE_NAME = "worst.html"

#: Images shown of each model and mask.
_NUM_SHOWN = 5


def render_worst_page(context: ReportContext, report_folder: Path) -> Path | None:
    """Write ``report_folder/worst.html``, atomically; ``None`` where no images may be shown, or nothing was trained.

    A page left by an earlier call is removed then, so that no image stays that was to be left out.
    """
    path = report_folder / FILE_NAME
    panels = [panel for mask in context.masks if (panel := _panel(context, mask))]
    if not panels:
        path.unlink(missing_ok=True)
        return None
    values = {
        "context": context,
        "panels": panels,
        "metric": context.measured[0],
        "share": WORST_SHARE,
    }
    return write_page(path, render_page("worst.html.j2", values))


def _panel(context: ReportContext, mask: str) -> dict[str, Any] | None:
    sample = load_shown_images(context, mask)
    if sample is None or not context.measured:
        return None
    metric = context.measured[0]
    scores = context.scores(mask, metric.name)
    baselines = context.ranking(mask, metric, trained=False)
    # The best baseline, as a measure of how hard an image is without any training.
    baseline = baselines[0] if baselines else None
    methods = [
        _method(context, mask, sample, method, metric, scores, baseline)
        for method, _ in sample.methods
        if method.trained and method.label in scores
    ]
    return {"mask": mask, "methods": methods} if methods else None


def _method(
    context: ReportContext,
    mask: str,
    sample: ShownImages,
    method: MethodView,
    metric: MetricView,
    scores: dict[str, Scores],
    baseline: MethodView | None,
) -> dict[str, Any]:
    own = scores[method.label]
    values = own.values.mean(axis=0)
    worst = worst_images(values, higher_is_better=metric.higher_is_better)
    traits = _traits(context, mask, own, scores, baseline)
    # A trait that is the same everywhere tells nothing apart; its difference would be zero
    # with an interval of rounding errors.
    constant = [name for name in traits.columns if np.ptp(traits[name].to_numpy(dtype=float)) < 1e-9]
    contrasts = contrast_traits(traits.drop(columns=constant), worst, own.codes)
    other = baseline if baseline and any(m is baseline for m, _ in sample.methods) else None
    shown = {method.label, *([other.label] if other else [])}
    return {
        "method": method,
        "rows": [
            sample.row(place, _reasons(own, values, traits, sample.stored.ids[place], metric), only=shown)
            for place in _worst_places(sample, method.label, metric)
        ],
        "lines": [_line(contrast, metric, baseline) for contrast in contrasts],
        "notes": _unknown(traits, constant),
        "worst": int(worst.sum()),
        "images": len(values),
    }


def _worst_places(sample: ShownImages, label: str, metric: MetricView) -> list[int]:
    """Return the positions of a method's worst images in the stored sample, worst first."""
    own = sample.scores[label][:, 0]
    signed = own if metric.higher_is_better else -own
    # Images without a score go last, and out.
    order = np.argsort(np.where(np.isnan(signed), np.inf, signed), kind="stable")
    return [int(place) for place in order[:_NUM_SHOWN] if not np.isnan(own[place])]


def _traits(
    context: ReportContext, mask: str, own: Scores, scores: dict[str, Scores], baseline: MethodView | None
) -> pd.DataFrame:
    """Return what is known of every image: the area of its hole, whether its person is new, how hard it is."""
    # Every mask has its own holes; all methods and trainings share them.
    rows = context.rows[context.rows["mask"] == mask]
    table = pd.DataFrame(index=own.images)
    holes = rows.drop_duplicates("image_id").set_index("image_id")["hole_ratio"]
    table["hole"] = holes.reindex(own.images).to_numpy()
    unseen = context.data.get("unseen_identities")
    # Only where everybody is known: unknown people are neither seen nor new.
    if unseen is not None and own.identities.notna().all():
        table["new person"] = own.identities.isin(list(unseen)).to_numpy(dtype=float)
    if baseline is not None and own.images.isin(scores[baseline.label].images).all():
        table["baseline"] = scores[baseline.label].on(own.images).values.mean(axis=0)
    return table


def _unknown(traits: pd.DataFrame, constant: list[str]) -> list[str]:
    """Say which traits cannot tell the worst images from the others, and why."""
    notes = []
    if "hole" in constant:
        notes.append(f"Every hole covers {100 * traits['hole'].iloc[0]:.1f} % of its image.")
    if "new person" not in traits:
        notes.append("Which of these persons were seen in training is not known.")
    elif "new person" in constant:
        new = bool(traits["new person"].iloc[0])
        notes.append(f"{'None' if new else 'Every one'} of these persons was seen in training.")
    return notes


def _reasons(
    own: Scores, values: np.ndarray[Any, Any], traits: pd.DataFrame, image: str, metric: MetricView
) -> list[str]:
    """Say in short labels where an image stands among all of the model's, and what is known of it."""
    if image not in own.images:
        return []
    place = int(own.images.get_indexer(pd.Index([image]))[0])
    signed = values if metric.higher_is_better else -values
    rank = int((signed < signed[place]).sum()) + 1
    found = [f"{_ordinal(rank)} worst of {len(values):,}"]
    if "hole" in traits:
        found.append(f"hole {100 * traits['hole'].iloc[place]:.0f} %")
    if "new person" in traits:
        found.append(
            "person not seen in training" if traits["new person"].iloc[place] else "person seen in training"
        )
    return found


def _ordinal(number: int) -> str:
    """Write a rank; the first goes without a number.

    >>> [_ordinal(n) for n in (1, 2, 3, 11, 22)]
    ['the', '2nd', '3rd', '11th', '22nd']
    """
    if number == 1:
        return "the"
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number % 100 not in (11, 12, 13) else "th"
    return f"{number}{ending}"


def _line(contrast: TraitContrast, metric: MetricView, baseline: MethodView | None) -> dict[str, str]:
    """Write a contrast in the units of its trait, with what it means."""
    names = {
        "hole": "area of the hole",
        "new person": "share of persons not seen in training",
        "baseline": f"{metric.title} of {baseline.label if baseline else ''}",
    }
    if contrast.trait == "baseline":
        shown = [metric.show(v) for v in (contrast.worst, contrast.others)]
        gap = [metric.show(v, sign=True) for v in (contrast.difference, contrast.low, contrast.high)]
    else:
        shown = [f"{100 * v:.1f} %" for v in (contrast.worst, contrast.others)]
        gap = [
            "–" if np.isnan(v) else f"{100 * v:+.1f} %".replace("-", "−")
            for v in (contrast.difference, contrast.low, contrast.high)
        ]
    decided = not np.isnan(contrast.low) and not contrast.low <= 0 <= contrast.high
    return {
        "trait": names[contrast.trait],
        "worst": shown[0],
        "others": shown[1],
        # Of a single image, or a single person, there is no interval.
        "difference": gap[0] if np.isnan(contrast.low) else f"{gap[0]} [{gap[1]}, {gap[2]}]",
        "decided": "differs" if decided else "undecided",
    }
