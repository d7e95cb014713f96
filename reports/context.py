"""What the sections of a report share: methods in table order with their line styles, metrics, statistics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from reports.claims.claim_verdicts import Verdict, evaluate_claims
from reports.claims.conditions import find_shortfalls
from reports.claims.paper import MASK as PAPER_MASK
from reports.claims.paper import OURS as PROPOSED
from reports.claims.paper import published_models, published_value
from reports.palette import LineStyle, line_styles
from reports.results.experiment import Experiment
from reports.results.manifest import is_claims_dataset
from reports.results.metric_info import MetricInfo
from reports.results.schema import EXTERNAL, mean_over_samples, metric_columns
from reports.statistics.intervals import MIN_SEEDS
from reports.statistics.paired_differences import paired_differences
from reports.statistics.scores import Scores, group_scores
from reports.statistics.summary import distribution_note, summarize, summarize_distribution_metrics

#: Order of methods in tables and legends. ``own`` is every model that is in no group of the registry.
GROUPS = ("paper", "ablations", "modern", "own", "external", "untrained")

#: Below this many images seen, training has hardly begun, and the report cautions so.
FEW_IMAGES_SEEN = 100_000


@dataclass(frozen=True, kw_only=True)
class MetricView(MetricInfo):
    """A metric as tables show it: what the manifest says of it, and why it was unavailable where it was.

    Attributes:
        unavailable: why it has no values, or ``None``.
    """

    unavailable: str | None = None

    def show(self, value: float | None, *, sign: bool = False) -> str:
        """Format a value with this metric's digits; a missing one is a dash."""
        return self.format_value(None if value is None or pd.isna(value) else value, sign=sign)


@dataclass(frozen=True)
class MethodView:
    """A line of the tables: a model as configured and trained.

    Attributes:
        label: name in tables and legends, unique in the report.
        model: registry name.
        trained: false for training-free baselines.
        group: one of :data:`GROUPS`.
        style: color, dash and marker of its lines.
        cells: its cells in the manifest, finished or not.
    """

    label: str
    model: str
    trained: bool
    group: str
    style: LineStyle
    cells: list[dict[str, Any]] = field(repr=False)

    @property
    def done(self) -> list[dict[str, Any]]:
        """Return the finished cells."""
        return [c for c in self.cells if c["status"] == "done"]

    @property
    def training(self) -> dict[str, Any] | None:
        """Return the record of its first known training."""
        return next((c["training"] for c in self.done if c["training"]), None)


class ReportContext:
    """An experiment with what is computed from it once and shown in several sections.

    Args:
        experiment: as read from its folder.
        title: heading of the page; by default the one kept with the experiment, or its name.
        embed_images: whether sections may embed images of the data set.
    """

    def __init__(
        self, experiment: Experiment, *, title: str | None = None, embed_images: bool = True
    ) -> None:
        self.experiment = experiment
        self.title = title or experiment.title or experiment.name
        self.embed_images = embed_images
        self.manifest = experiment.manifest
        self.settings: dict[str, Any] = self.manifest["settings"]
        self.data: dict[str, Any] = self.manifest["data"]
        self._names = names = unique_labels(experiment.cells)
        self.methods = list_methods(experiment.cells, names)
        self.by_label = {m.label: m for m in self.methods}
        #: One row an image: several samples of a stochastic model count by their mean.
        self.rows = _with_categories(_with_unique_labels(mean_over_samples(experiment.rows), names))
        # In the order in which the masks were asked for, which is not always the order in which cells finished.
        present = dict.fromkeys(self.rows["mask"])
        asked = [mask for mask in self.settings["masks"] if mask in present]
        self.masks = [*asked, *(mask for mask in present if mask not in asked)]
        self.metrics = _metrics(experiment)

    @property
    def measured(self) -> list[MetricView]:
        """Return the metrics with values."""
        return [m for m in self.metrics if m.unavailable is None]

    @property
    def main_mask(self) -> str | None:
        """Return the mask of the headline: the paper's center hole where it was evaluated, else the first."""
        return PAPER_MASK if PAPER_MASK in self.masks else (self.masks[0] if self.masks else None)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """Summarize all measured metrics (:func:`reports.statistics.summary.summarize`)."""
        of_images = summarize(self.rows, [m.name for m in self.measured])
        return (
            pd.concat([of_images, self._distribution_summary])
            if len(self._distribution_summary)
            else of_images
        )

    @cached_property
    def _distribution_summary(self) -> pd.DataFrame:
        return summarize_distribution_metrics(self.named_cells)

    @cached_property
    def named_cells(self) -> list[dict[str, Any]]:
        """Return the manifest's cells under this report's labels, which tell apart what the manifest calls the same."""
        return [
            c | {"label": self._names[c["model"], c["label"], c["train_mask"]]} for c in self.experiment.cells
        ]

    @cached_property
    def sample_rows(self) -> pd.DataFrame:
        """Return the rows of methods with several samples of an image, a row each, with the labels of the report."""
        rows = self.experiment.rows
        if "sample" not in rows.columns or not (rows["sample"] > 0).any():
            return rows.head(0)
        several = rows.groupby(["mask", "label", "train_mask"], observed=True)["sample"].transform("max") > 0
        return _with_unique_labels(rows[several], self._names)

    @cached_property
    def distribution_metrics(self) -> list[MetricView]:
        """Return the distribution metrics (FID and its kin) with a value in some cell."""
        table = self._distribution_summary
        measured = set(table["metric"]) if len(table) else set()
        infos = self.experiment.metrics
        return [MetricView(**vars(info)) for name, info in infos.items() if name in measured]

    def distribution_notes(self, mask: str) -> list[str]:
        """Return what must be said beside distribution metrics on a mask, a sentence each."""
        table = self._distribution_summary
        if not len(table):
            return []
        on_mask = table[table["mask"] == mask]
        counts = {str(name): int(part["n_images"].min()) for name, part in on_mask.groupby("metric")}
        with_interval = set(on_mask.loc[on_mask["interval"] != "none", "metric"])
        return [
            distribution_note(m, counts[m.name], interval=m.name in with_interval)
            for m in self.distribution_metrics
            if m.name in counts
        ]

    @cached_property
    def _lines(self) -> dict[tuple[str, str, str], dict[str, Any]]:
        lines: list[dict[str, Any]] = self.summary.to_dict("records")  # type: ignore[assignment]
        return {(line["mask"], line["label"], line["metric"]): line for line in lines}

    def value(self, mask: str, label: str, metric: str) -> dict[str, Any] | None:
        """Return the line of :attr:`summary`, or ``None`` where there is no value."""
        key = (mask, label, metric)
        line = self._lines.get(key)
        return None if line is None or np.isnan(line["mean"]) else line

    def methods_on(self, mask: str) -> list[MethodView]:
        """Return the methods with results on a mask, in table order."""
        return [m for m in self.methods if (mask, m.label) in self._present]

    @cached_property
    def _present(self) -> set[tuple[str, str]]:
        pairs = self.rows[["mask", "label"]].drop_duplicates()
        return set(zip(pairs["mask"], pairs["label"], strict=True))

    def ranking(self, mask: str, metric: MetricView, *, trained: bool | None = None) -> list[MethodView]:
        """Rank methods from best to worst mean."""
        found = [
            (self.value(mask, m.label, metric.name), m)
            for m in self.methods_on(mask)
            if trained in (None, m.trained)
        ]
        known = [(float(v["mean"]), m) for v, m in found if v is not None]
        # By the mean alone: of equal ones a pair would go on to compare the methods, which have no order.
        known.sort(key=lambda item: item[0], reverse=metric.higher_is_better)
        return [m for _, m in known]

    @cached_property
    def against_best(self) -> pd.DataFrame:
        """Compare each mask's and metric's best method (``a``) with every other (``b``), paired by image."""
        directions = {m.name: m.higher_is_better for m in self.metrics}
        tables = []
        for mask in self.masks:
            part = self.rows[self.rows["mask"] == mask]
            for metric in self.measured:
                order = self.ranking(mask, metric)
                pairs = [(order[0].label, m.label) for m in order[1:]] if order else []
                trained = self.ranking(mask, metric, trained=True)
                # Tables mark what is tied with the best of all; sentences compare with the best
                # trained model, which may be another.
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
        """Return the line of :attr:`against_best` for a pair, or ``None``."""
        t = self.against_best
        found = t[(t["mask"] == mask) & (t["metric"] == metric) & (t["a"] == a) & (t["b"] == b)]
        return found.iloc[0] if len(found) else None

    def scores(self, mask: str, metric: str) -> dict[str, Scores]:
        """Return the per-image scores of a metric by label."""
        arranged = group_scores(self.rows.loc[self.rows["mask"] == mask], metric)
        return {s.label: s for s in arranged.values() if s.values.size}

    @property
    def is_claims_dataset(self) -> bool:
        """Return whether the paper's claims are about these images."""
        return is_claims_dataset(self.data)

    @property
    def evaluated_on(self) -> str:
        """Return the evaluated split: ``test``, or ``validation`` where settings are being chosen."""
        return str(self.settings.get("evaluate_on", "test"))

    @property
    def comparable(self) -> bool:
        """Return whether differences to Table 4 may be printed.

        They need CelebA at 160 px and the preset ``paper`` with its budget.
        """
        return (
            self.is_claims_dataset
            and self.settings["preset"] == "paper"
            and not find_shortfalls(self.experiment)
        )

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """Evaluate each claim of the paper."""
        return evaluate_claims(self.experiment)

    @property
    def budget_is_small(self) -> bool:
        """Return whether so few images were seen that a longer training may well reverse the ranking."""
        return bool(self.images_seen) and self.images_seen[0] < FEW_IMAGES_SEEN

    @property
    def images_seen(self) -> list[int]:
        """List the numbers of images that the methods' trainings saw, fewest first; empty where nothing was trained."""
        usual = self.settings["images_seen"]
        return sorted({m.training.get("images_seen", usual) for m in self.methods if m.training})

    @property
    def credits(self) -> str:
        """Return the data set with its license, as a sentence."""
        parts = [self.data["title"], self.data.get("licence") or ""]
        return ": ".join(part.rstrip(".") for part in parts if part) + "."

    def hole_ratio(self, mask: str) -> float | None:
        """Return the mean share of the image that a mask's holes cover, in (0, 1]; ``None`` where it is not known."""
        recorded = self.manifest["masks"].get(mask, {}).get("mean_hole_ratio")
        if recorded is not None:
            return float(recorded)
        # A manifest that was rebuilt from its cells lacks it; the rows do not.
        ratios = self.rows[self.rows["mask"] == mask].drop_duplicates("image_id")["hole_ratio"]
        return float(ratios.mean()) if len(ratios) else None


def tied_with_best(line: pd.Series) -> bool:
    """Return whether a paired difference to the best is not decided (:mod:`reports.statistics.paired_differences`).

    With fewer than three trainings nothing is decided by rule, and a mark at every number would say nothing: there the
    interval over images tells which differences are within the noise of the images alone.
    """
    if min(line["seeds_a"], line["seeds_b"]) < MIN_SEEDS and line["interval"] == "images":
        return bool(line["low"] <= 0 <= line["high"])
    return bool(line["verdict"] == "inconclusive")


def unique_labels(cells: list[dict[str, Any]]) -> dict[tuple[str, str, str], str]:
    """Map (model, label, training mask) to a label that stands for one method on every mask.

    Training on each mask for itself is one method. Where one mask shows several training masks of a label,
    each is a method of its own and named so.
    """
    keys = list(dict.fromkeys((c["model"], c["label"], c["train_mask"]) for c in cells))
    on = {(c["model"], c["label"], c["mask"], c["train_mask"]) for c in cells}
    # Counted a mask at a time: a label trained on each mask for itself has one training mask on each.
    per_mask = Counter((model, label, mask) for model, label, mask, _ in on)
    several = {(model, label) for (model, label, _), count in per_mask.items() if count > 1}
    models = {label: {m for m, other, _ in keys if other == label} for _, label, _ in keys}
    result = {}
    for model, label, train_mask in keys:
        # Two models may have been given one label; then their names tell them apart.
        shown = f"{label} [{model}]" if len(models[label]) > 1 else label
        result[model, label, train_mask] = (
            f"{shown}, trained on {train_mask}" if (model, label) in several else shown
        )
    return result


def list_methods(cells: list[dict[str, Any]], names: dict[tuple[str, str, str], str]) -> list[MethodView]:
    """Group cells into methods, in table order: by :data:`GROUPS`, the paper's models as in its Table 4."""
    grouped: dict[str, list[dict[str, Any]]] = {shown: [] for shown in names.values()}
    for cell in cells:
        grouped[names[cell["model"], cell["label"], cell["train_mask"]]].append(cell)
    ordered = sorted(grouped, key=lambda shown: table_place(grouped[shown][0]))
    styles = line_styles((grouped[shown][0]["model"], shown) for shown in ordered)
    return [
        MethodView(
            shown,
            grouped[shown][0]["model"],
            bool(grouped[shown][0]["trained"]),
            _group_of(grouped[shown][0]),
            styles[shown],
            grouped[shown],
        )
        for shown in ordered
    ]


def table_place(cell: dict[str, Any]) -> tuple[int, int]:
    """Return where a cell's method stands in every table and legend: its group of :data:`GROUPS`, then Table 4's order.

    Models that the table does not have share the place after its last, so a stable sort keeps them in order.
    """
    order = published_models()
    model = cell["model"]
    return GROUPS.index(_group_of(cell)), order.index(model) if model in order else len(order)


def method_places(experiment: Experiment) -> dict[tuple[Hashable, ...], tuple[int, int]]:
    """Map the (label, training mask) of every finished method to its :func:`table_place`."""
    return {(c["label"], c["train_mask"]): table_place(c) for c in experiment.cells if c["status"] == "done"}


def _group_of(cell: dict[str, Any]) -> str:
    """Return the registry's group of a cell's model; manifests written before groups were kept lack it."""
    if not cell["trained"]:
        return "untrained"
    if cell["train_mask"] == EXTERNAL:
        return "external"
    known = [group for group in cell.get("groups") or () if group in GROUPS]
    if known:
        return str(known[0])
    if published_value(cell["model"], "psnr_db") is not None:
        return "paper"
    return "ablations" if cell["model"].startswith(f"{PROPOSED}-") else "own"


def _with_unique_labels(rows: pd.DataFrame, names: dict[tuple[str, str, str], str]) -> pd.DataFrame:
    if all(label == shown for (_, label, _), shown in names.items()):
        return rows
    keys = zip(rows["model"], rows["label"], rows["train_mask"], strict=True)
    return rows.assign(label=[names.get(key, key[1]) for key in keys])


def _with_categories(rows: pd.DataFrame) -> pd.DataFrame:
    """Store repeated texts as categories: large tables are filtered by them many times."""
    few = ["model", "label", "track", "preset", "mask", "train_mask"]
    return rows.astype(
        {name: pd.CategoricalDtype(list(rows[name].unique())) for name in few} | {"image_id": object}
    )


def _metrics(experiment: Experiment) -> list[MetricView]:
    """Metrics that the rows have, primary ones first; unavailable ones with the reason."""
    rows, records = experiment.rows, experiment.manifest["metrics"]
    columns = set(metric_columns(rows))
    result = []
    for name, info in experiment.metrics.items():
        if name not in columns:
            continue
        unavailable = records.get(name, {}).get("unavailable")
        if unavailable is None and len(rows) and rows[name].isna().all():
            unavailable = "no value was stored"
        result.append(MetricView(**vars(info), unavailable=unavailable))
    return result
