"""Per-image results grouped for statistics: trainings by images, images aligned over methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.results.schema import UNTRAINED, mean_over_samples
from reports.statistics.bootstrap import Floats, cluster_bootstrap_means, cluster_codes

#: Columns that identify a line of a table: a method on a mask.
METHOD = ("mask", "label", "train_mask")

#: Metrics for which lower is better, by the start or end of their names, where no manifest says.
_LOWER_PREFIXES, _LOWER_SUFFIXES = ("lpips", "fid"), ("mae", "mse", "l1")


@dataclass(frozen=True)
class Scores:
    """One metric of one method on one mask.

    Attributes:
        label: the method as tables show it.
        model: its registry name.
        train_mask: what it was trained on.
        seeds: ``(S,)``, those with values.
        values: ``(S, N)``, a row for each training; only images for which every training has a finite value.
        images: ``(N,)`` image names.
        identities: ``(N,)`` Int64, NA where unknown.
        capped: pairs of training and image whose composite equals the truth.
        samples: completions of each image that ``values`` are the means of.
    """

    label: str
    model: str
    train_mask: str
    seeds: tuple[int, ...]
    values: Floats
    images: pd.Index
    identities: pd.Series
    capped: int
    samples: int = 1

    @property
    def trained(self) -> bool:
        """Whether the method was trained, so that its seeds matter."""
        return self.train_mask != UNTRAINED

    @property
    def key(self) -> tuple[str, str]:
        """Label and training mask, which identify a method on its mask."""
        return self.label, self.train_mask

    @property
    def codes(self) -> NDArray[np.int64]:
        """``(N,)`` cluster of each image."""
        return cluster_codes(self.identities)[0]

    def on(self, images: pd.Index) -> Scores:
        """Restrict the scores to ``images``, in their order."""
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
            self.samples,
        )


def group_scores(rows: pd.DataFrame, metric: str) -> dict[tuple[str, str, str], Scores]:
    """Group rows by (mask, label, train_mask), in the order of the rows.

    Of several samples of an image the mean counts. A training without a single finite value is dropped and does not
    count as a seed. Where some rows of an image name the person and others do not, the name counts for all of them.

    Examples:
        >>> rows = pd.DataFrame(
        ...     {"mask": "center", "label": "GLCIC", "train_mask": "center", "model": "glcic", "seed": [1, 1, 0, 0],
        ...      "image_id": ["b", "a", "a", "b"], "identity": pd.array([1, 2, 2, 1], dtype="Int64"),
        ...      "identical": False, "psnr_db": [24.0, 25.0, 26.0, 27.0]})
        >>> scores = group_scores(rows, "psnr_db")["center", "GLCIC", "center"]
        >>> scores.seeds, list(scores.images), scores.values.tolist()
        ((0, 1), ['a', 'b'], [[26.0, 27.0], [25.0, 24.0]])
    """
    if rows["identity"].isna().any():
        # All known identities of an image are the same, and min() skips those that are missing.
        named = rows.groupby("image_id")["identity"].min()
        rows = rows.assign(identity=rows["image_id"].map(named).astype("Int64"))
    needed = [*METHOD, "model", "seed", "image_id", "identity", "identical", metric]
    samples: dict[Any, int] = {}
    if "sample" in rows.columns:
        samples = (rows.groupby(list(METHOD), observed=True)["sample"].max() + 1).to_dict()
        rows = mean_over_samples(rows[[*needed, "sample"]])
    grouped = {}
    # Columns may be categories, of which only the combinations that occur make groups.
    for key, part in rows[needed].groupby(list(METHOD), sort=False, observed=True):
        seeds, images, identities, values = _aligned(part, metric)
        measured = ~np.isnan(values).all(axis=1)
        if measured.any() and not measured.all():
            seeds, values = tuple(np.array(seeds)[measured].tolist()), values[measured]
        # Only images that every training has, or the means of trainings would be over different images.
        known = np.flatnonzero(~np.isnan(values).any(axis=0))
        if len(known) < len(images):
            images, identities, values = images[known], identities.iloc[known], values[:, known]
        grouped[key] = Scores(
            label=str(part["label"].iloc[0]),
            model=str(part["model"].iloc[0]),
            train_mask=str(part["train_mask"].iloc[0]),
            seeds=seeds,
            values=values,
            images=images,
            identities=identities,
            capped=int(part["identical"].sum()),
            samples=int(samples.get(key, 1)),
        )
    return grouped  # type: ignore[return-value]


def _aligned(part: pd.DataFrame, metric: str) -> tuple[tuple[int, ...], pd.Index, pd.Series, Floats]:
    """Return seeds and images in ascending order, the images' identities, and ``(S, N)`` scores, NaN where missing."""
    trainings = [part] if part["seed"].nunique() == 1 else [of for _, of in part.groupby("seed")]
    images = pd.Index(trainings[0]["image_id"])
    ordered = images.is_unique and images.is_monotonic_increasing
    if ordered and all(images.equals(pd.Index(of["image_id"])) for of in trainings[1:]):
        # Runs store rows sorted, and a pivot of 20,000 images would be most of the work of a report.
        seeds = tuple(int(of["seed"].iloc[0]) for of in trainings)
        values = np.stack([of[metric].to_numpy(dtype=np.float64) for of in trainings])
        return seeds, images, trainings[0]["identity"].set_axis(images), values
    table = part.pivot(index="seed", columns="image_id", values=metric)
    about = part.drop_duplicates("image_id").set_index("image_id")
    seeds = tuple(int(s) for s in table.index)
    return seeds, table.columns, about.loc[table.columns, "identity"], table.to_numpy(dtype=np.float64)


def resample_together(methods: Sequence[Scores], resamples: int) -> dict[tuple[str, str], Floats]:
    """Resample the mean of each method over its trainings: ``(resamples, 1)`` by :attr:`Scores.key`.

    Methods with the same images share one set of draws, which costs little more than one of them alone;
    differences of their resampled means are then the resampled means of their differences. Methods without
    values are left out.
    """
    groups: list[list[Scores]] = []
    for method in methods:
        group = next((g for g in groups if g[0].images.equals(method.images)), None)
        if group is not None:
            group.append(method)
        elif method.values.size:
            groups.append([method])
    resampled = {}
    for group in groups:
        values = np.stack([method.values.mean(axis=0) for method in group])
        means = cluster_bootstrap_means(values, group[0].codes, resamples=resamples)
        resampled.update({method.key: means[:, [i]] for i, method in enumerate(group)})
    return resampled


def is_higher_better(metric: str, directions: Mapping[str, bool] | None = None) -> bool:
    """Return the direction of a metric: from ``directions`` (the manifest), else by its name.

    Examples:
        >>> is_higher_better("psnr_db"), is_higher_better("lpips_alex"), is_higher_better("hole_mae")
        (True, False, False)
        >>> is_higher_better("hole_mae", {"hole_mae": True})
        True
    """
    if directions and metric in directions:
        return directions[metric]
    return not (metric.startswith(_LOWER_PREFIXES) or metric.endswith(_LOWER_SUFFIXES))
