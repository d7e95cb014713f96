"""Results rows arranged for statistics: trainings by images, images aligned over methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.resampling import Floats, cluster_bootstrap_means, cluster_codes
from reports.table import UNTRAINED

#: What makes a line of a table: a method on a mask.
METHOD = ("mask", "label", "train_mask")

#: Metrics for which less is better, by the start or end of their names, where no manifest says.
_LOWER_PREFIXES, _LOWER_SUFFIXES = ("lpips", "fid"), ("mae", "mse", "l1")


@dataclass(frozen=True)
class Scores:
    """One metric of one method on one mask.

    Attributes:
        label: the method as tables show it.
        model: its registry name.
        train_mask: what it was trained on.
        seeds: ``(S,)``.
        values: ``(S, N)``, a row a training; only images that every training has a finite value for.
        images: ``(N,)`` image names.
        identities: ``(N,)`` Int64, NA where unknown.
        capped: pairs of training and image whose composite equals the truth.
    """

    label: str
    model: str
    train_mask: str
    seeds: tuple[int, ...]
    values: Floats
    images: pd.Index
    identities: pd.Series
    capped: int

    @property
    def trained(self) -> bool:
        """Whether seeds matter."""
        return self.train_mask != UNTRAINED

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from the other methods on its mask."""
        return self.label, self.train_mask

    @property
    def codes(self) -> NDArray[np.int64]:
        """``(N,)`` cluster of each image."""
        return cluster_codes(self.identities)[0]

    def on(self, images: pd.Index) -> Scores:
        """Restricted to ``images``, in their order."""
        place = self.images.get_indexer(images)
        return Scores(
            self.label,
            self.model,
            self.train_mask,
            self.seeds,
            self.values[:, place],
            images,
            self.identities.iloc[place],
            self.capped,
        )


def arrange(rows: pd.DataFrame, metric: str) -> dict[tuple[str, str, str], Scores]:
    """Scores by (mask, label, train_mask), in the order of the rows."""
    arranged = {}
    for key, part in rows.groupby(list(METHOD), sort=False, observed=True):
        table = part.pivot(index="seed", columns="image_id", values=metric)
        table = table.dropna(axis=1)
        about = part.drop_duplicates("image_id").set_index("image_id")
        arranged[key] = Scores(
            label=str(part["label"].iloc[0]),
            model=str(part["model"].iloc[0]),
            train_mask=str(part["train_mask"].iloc[0]),
            seeds=tuple(int(s) for s in table.index),
            values=table.to_numpy(dtype=np.float64),
            images=table.columns,
            identities=about.loc[table.columns, "identity"],
            capped=int(part["identical"].sum()),
        )
    return arranged  # type: ignore[return-value]


def resample_together(methods: Sequence[Scores], resamples: int) -> dict[tuple[str, str], Floats]:
    """Resampled means of each method, ``(resamples, 1)`` by :attr:`Scores.key`, all from one set of draws.

    Differences of these means are the resampled means of differences. Empty where the methods' images differ,
    or where there is nothing to share: no single trainings, or a single method.
    """
    if len(methods) < 2 or all(len(m.seeds) > 1 for m in methods):
        return {}
    images = methods[0].images
    if not len(images) or not all(m.images.equals(images) for m in methods):
        return {}
    values = np.stack([m.values.mean(axis=0) for m in methods])
    means = cluster_bootstrap_means(values, methods[0].codes, resamples=resamples)
    return {m.key: means[:, [i]] for i, m in enumerate(methods)}


def resample_together(scores: Sequence[Scores], resamples: int) -> dict[int, Floats]:
    """Resampled means ``(resamples, 1)`` of each item, averaged over its trainings, by ``id``.

    Items on the same images share one set of draws, which costs little more than one of them alone, and makes
    differences of resampled means the resampled means of differences. Items without values are left out.
    """
    groups: list[list[Scores]] = []
    for item in scores:
        if not item.values.size:
            continue
        group = next((g for g in groups if g[0].images.equals(item.images)), None)
        if group is None:
            groups.append([item])
        else:
            group.append(item)
    result = {}
    for group in groups:
        values = np.stack([item.values.mean(axis=0) for item in group])
        means = cluster_bootstrap_means(values, group[0].codes, resamples=resamples)
        result.update({id(item): means[:, [i]] for i, item in enumerate(group)})
    return result


def is_higher_better(metric: str, directions: Mapping[str, bool] | None = None) -> bool:
    """Direction of a metric: as ``directions`` (the manifest) says, else by its name."""
    if directions and metric in directions:
        return directions[metric]
    return not (metric.startswith(_LOWER_PREFIXES) or metric.endswith(_LOWER_SUFFIXES))
