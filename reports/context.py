"""What every section of a report needs: methods with their looks, metrics, statistics, comparability."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from reports.claims.conditions import find_shortfalls
from reports.claims.verdicts import Verdict, evaluate_claims
from reports.palette import LineStyle, line_styles
from reports.results.experiment import Experiment
from reports.results.manifest import is_claims_dataset
from reports.results.schema import PRIMARY_METRICS, metric_columns
from reports.statistics.paired import paired_differences
from reports.statistics.scores import Scores, group_scores
from reports.statistics.summary import distribution_note, summarize, summarize_distribution_metrics

#: Headings of metrics by name; others are shown under the name they have.
_HEADINGS = {
    "psnr_db": "PSNR",
    "ssim": "SSIM",
    "lpips_alex": "LPIPS",
    "hole_psnr_db": "Hole PSNR",
    "hole_mae": "Hole MAE",
    "hole_ssim": "Hole SSIM",
    "lpips_vgg": "LPIPS (VGG)",
    "lpips_squeeze": "LPIPS (SqueezeNet)",
    "raw_psnr_db": "Raw PSNR",
    "ssim_y": "SSIM of luma",
    "ssim_uniform7": "SSIM, uniform 7",
    "fid": "FID",
}

#: Below this many images seen the ranking of trained models is called noise.
FEW_IMAGES_SEEN = 100_000


@dataclass(frozen=True)
class MetricView:
    """A metric as tables show it."""

    name: str
    heading: str
    unit: str
    convention: str
    higher_is_better: bool
    unavailable: str | None

    @property
    def digits(self) -> int:
        """Decimal places."""
        return 2 if self.unit == "dB" or self.name == "fid" else 4

    @property
    def arrow(self) -> str:
        """Which way is better."""
        return "↑" if self.higher_is_better else "↓"

    @property
    def title(self) -> str:
        """Heading with unit."""
        return f"{self.heading} ({self.unit})" if self.unit and self.unit != "1" else self.heading

    def show(self, value: float | None, *, sign: bool = False) -> str:
        """A value with this metric's digits, or a dash."""
        if value is None or pd.isna(value):
            return "–"
        return f"{value:{'+' if sign else ''}.{self.digits}f}".replace("-", "−")


@dataclass(frozen=True)
class MethodView:
    """A line of the tables: a model as configured and trained. ``label`` is unique in the report."""

    label: str
    model: str
    trained: bool
    look: LineStyle
    cells: list[dict[str, Any]] = field(repr=False)

    @property
    def done(self) -> list[dict[str, Any]]:
        """Its finished cells."""
        return [c for c in self.cells if c["status"] == "done"]

    @property
    def training(self) -> dict[str, Any] | None:
        """The record of its first training that is known."""
        return next((c["training"] for c in self.done if c["training"]), None)


class ReportContext:
    """An experiment with what is computed from it once and shown in several sections."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.manifest = experiment.manifest
        self.settings: dict[str, Any] = self.manifest["settings"]
        self.data: dict[str, Any] = self.manifest["data"]
        self._names = names = _unique_labels(experiment.cells)
        self.methods = _methods(experiment.cells, names)
        self.by_label = {m.label: m for m in self.methods}
        self.rows = _quick(_relabelled(experiment.rows, names))
        self.masks = list(dict.fromkeys(self.rows["mask"]))
        self.metrics = _metrics(self.manifest["metrics"], self.rows)

    @property
    def measured(self) -> list[MetricView]:
        """Metrics with values."""
        return [m for m in self.metrics if m.unavailable is None]

    @property
    def main_mask(self) -> str | None:
        """The mask that the headline speaks of: the centre hole of the paper where there is one."""
        return "center" if "center" in self.masks else (self.masks[0] if self.masks else None)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """:func:`reports.statistics.summary.summarize` of all measured metrics."""
        of_images = summarize(self.rows, [m.name for m in self.measured])
        return pd.concat([of_images, self._sets]) if len(self._sets) else of_images

    @cached_property
    def _sets(self) -> pd.DataFrame:
        named = [
            c | {"label": self._names[c["model"], c["label"], c["train_mask"]]} for c in self.experiment.cells
        ]
        return summarize_distribution_metrics(named)

    @cached_property
    def set_metrics(self) -> list[MetricView]:
        """Metrics of sets of images with a value in some cell."""
        cards = self.manifest["metrics"]
        names = dict.fromkeys(self._sets["metric"]) if len(self._sets) else {}
        return [_metric(name, cards.get(name, {}), None) for name in names]

    def set_notes(self, mask: str) -> list[str]:
        """What must be said beside metrics of sets on a mask."""
        part = self._sets[self._sets["mask"] == mask] if len(self._sets) else self._sets
        return [
            distribution_note(m.heading, int(part.loc[part["metric"] == m.name, "n_images"].min()))
            for m in self.set_metrics
            if len(part) and (part["metric"] == m.name).any()
        ]

    @cached_property
    def _lines(self) -> dict[tuple[str, str, str], dict[str, Any]]:
        lines: list[dict[str, Any]] = self.summary.to_dict("records")  # type: ignore[assignment]
        return {(line["mask"], line["label"], line["metric"]): line for line in lines}

    def value(self, mask: str, label: str, metric: str) -> dict[str, Any] | None:
        """The line of :attr:`summary`, or ``None`` where there is no value."""
        key = (mask, label, metric)
        line = self._lines.get(key)
        return None if line is None or np.isnan(line["mean"]) else line

    def methods_on(self, mask: str) -> list[MethodView]:
        """Methods with results on a mask, in table order."""
        return [m for m in self.methods if (mask, m.label) in self._present]

    @cached_property
    def _present(self) -> set[tuple[str, str]]:
        pairs = self.rows[["mask", "label"]].drop_duplicates()
        return set(zip(pairs["mask"], pairs["label"], strict=True))

    def ranking(self, mask: str, metric: MetricView, *, trained: bool | None = None) -> list[MethodView]:
        """Methods from best to worst."""
        found = [
            (self.value(mask, m.label, metric.name), m)
            for m in self.methods_on(mask)
            if trained in (None, m.trained)
        ]
        known = [(float(v["mean"]), m) for v, m in found if v is not None]
        known.sort(key=lambda item: item[0], reverse=metric.higher_is_better)
        return [m for _, m in known]

    @cached_property
    def against_best(self) -> pd.DataFrame:
        """Paired differences of each mask's and metric's best method (``a``) to every other (``b``)."""
        directions = {m.name: m.higher_is_better for m in self.metrics}
        tables = []
        for mask in self.masks:
            part = self.rows[self.rows["mask"] == mask]
            for metric in self.measured:
                order = self.ranking(mask, metric)
                pairs = [(order[0].label, m.label) for m in order[1:]] if order else []
                trained = self.ranking(mask, metric, trained=True)
                if trained and trained[0] is not order[0]:
                    pairs += [(trained[0].label, m.label) for m in trained[1:]]
                if pairs:
                    tables.append(
                        paired_differences(part, [metric.name], pairs=pairs, higher_is_better=directions)
                    )
        if not tables:
            return paired_differences(self.rows, [])
        return pd.concat(tables, ignore_index=True)

    def difference(self, mask: str, metric: str, a: str, b: str) -> pd.Series | None:
        """The line of :attr:`against_best` for a pair, or ``None``."""
        t = self.against_best
        found = t[(t["mask"] == mask) & (t["metric"] == metric) & (t["a"] == a) & (t["b"] == b)]
        return found.iloc[0] if len(found) else None

    def scores(self, mask: str, metric: str) -> dict[str, Scores]:
        """Per-image scores of a metric by label."""
        arranged = group_scores(self.rows.loc[self.rows["mask"] == mask], metric)
        return {s.label: s for s in arranged.values() if s.values.size}

    @property
    def is_claims_dataset(self) -> bool:
        """Whether the paper's claims are about these images."""
        return is_claims_dataset(self.data)

    @property
    def evaluated_on(self) -> str:
        """``test``, or ``validation`` where settings are being chosen."""
        return str(self.settings.get("evaluate_on", "test"))

    @property
    def comparable(self) -> bool:
        """Whether differences to Table 4 may be printed: CelebA, 160 px, preset ``paper`` with its budget."""
        return (
            self.is_claims_dataset
            and self.settings["preset"] == "paper"
            and not find_shortfalls(self.experiment)
        )

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """A verdict on each claim of the paper."""
        return evaluate_claims(self.experiment)

    @property
    def budget_is_small(self) -> bool:
        """Whether so few images were seen that the ranking of trained models is noise."""
        seen = [m.training["images_seen"] for m in self.methods if m.training]
        return bool(seen) and min(seen) < FEW_IMAGES_SEEN


def tied_with_best(line: pd.Series) -> bool:
    """Whether a paired difference is not decided, by the rule of :mod:`reports.statistics.paired`."""
    return bool(line["verdict"] == "inconclusive")


def _unique_labels(cells: list[dict[str, Any]]) -> dict[tuple[str, str, str], str]:
    """(model, label, training mask) -> a label that stands for one method on every mask.

    Training on each mask for itself is one method. Where one mask shows several training masks of a label,
    each is a method of its own and named so.
    """
    keys = list(dict.fromkeys((c["model"], c["label"], c["train_mask"]) for c in cells))
    on = {(c["model"], c["label"], c["mask"], c["train_mask"]) for c in cells}
    per_mask = Counter((model, label, mask) for model, label, mask, _ in on)
    several = {(model, label) for (model, label, _), count in per_mask.items() if count > 1}
    models = {label: {m for m, other, _ in keys if other == label} for _, label, _ in keys}
    result = {}
    for model, label, train_mask in keys:
        shown = f"{label} [{model}]" if len(models[label]) > 1 else label
        result[model, label, train_mask] = (
            f"{shown}, trained on {train_mask}" if (model, label) in several else shown
        )
    return result


def _methods(cells: list[dict[str, Any]], names: dict[tuple[str, str, str], str]) -> list[MethodView]:
    look = line_styles((model, shown) for (model, _, _), shown in names.items())
    grouped: dict[str, list[dict[str, Any]]] = {shown: [] for shown in names.values()}
    for cell in cells:
        grouped[names[cell["model"], cell["label"], cell["train_mask"]]].append(cell)
    return [
        MethodView(shown, own[0]["model"], bool(own[0]["trained"]), look[shown], own)
        for shown, own in grouped.items()
    ]


def _relabelled(rows: pd.DataFrame, names: dict[tuple[str, str, str], str]) -> pd.DataFrame:
    if all(label == shown for (_, label, _), shown in names.items()):
        return rows
    keys = zip(rows["model"], rows["label"], rows["train_mask"], strict=True)
    return rows.assign(label=[names.get(key, key[1]) for key in keys])


def _quick(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with columns of few different texts as categories: large results are filtered by them many times."""
    few = ["model", "label", "track", "preset", "mask", "train_mask"]
    return rows.astype(
        {name: pd.CategoricalDtype(list(rows[name].unique())) for name in few} | {"image_id": object}
    )


def _metrics(cards: dict[str, dict[str, Any]], rows: pd.DataFrame) -> list[MetricView]:
    """Metrics that the rows have, first those that every table has; unavailable ones with the reason."""
    result = []
    names = metric_columns(rows)
    for name in [
        *(n for n in PRIMARY_METRICS if n in names),
        *(n for n in names if n not in PRIMARY_METRICS),
    ]:
        card = cards.get(name, {})
        unavailable = card.get("unavailable")
        if unavailable is None and len(rows) and rows[name].isna().all():
            unavailable = "no value was stored"
        result.append(_metric(name, card, unavailable))
    return result


def _metric(name: str, card: dict[str, Any], unavailable: str | None) -> MetricView:
    return MetricView(
        name=name,
        heading=_HEADINGS.get(name, name),
        unit=card.get("unit") or "",
        convention=card.get("convention") or "",
        higher_is_better=bool(card.get("higher_is_better", True)),
        unavailable=unavailable,
    )
