"""Identity leak of a random split: the gain from training on other images of the people in the test images.

Test images are divided into those whose person is in training too ("known") and those whose person is not ("new"). The
two groups show different people, so a plain difference of their means mixes the leak with how hard the images are. A
training-free baseline has seen nobody: its difference between the groups is difficulty alone, and is subtracted.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from reports.results.schema import EXTERNAL
from reports.statistics.bootstrap import (
    RESAMPLES,
    Floats,
    cluster_bootstrap_means,
    cluster_codes,
    percentile_interval,
)
from reports.statistics.scores import Scores, group_scores

#: Baselines that measure how hard an image is; the first that was evaluated is used.
REFERENCES = ("mean-image", "mean", "biharmonic")

_COLUMNS = [
    "mask", "label", "train_mask", "metric", "known", "new", "difference", "low", "high",
    "reference", "net", "net_low", "net_high", "n_known", "n_new", "people_known", "people_new",
]  # fmt: skip


def identity_leak(
    rows: pd.DataFrame, metrics: Sequence[str], new: Collection[int], *, resamples: int = RESAMPLES
) -> pd.DataFrame:
    """Measure the leak for each mask, trained method and metric, one row each.

    Columns: ``mask``, ``label``, ``train_mask``, ``metric``; the means ``known`` and ``new``; ``difference``, known
    minus new, with its 95 % limits ``low`` and ``high``; ``reference``, the baseline, with ``net``, the difference
    minus the baseline's own on the same images, and its limits (missing without a baseline); numbers of images and
    people on either side. People are resampled within each group. Scores are averaged over seeds first, so the
    intervals are about these trainings.

    Args:
        rows: as stored; images without a known person are left out.
        metrics: metric columns.
        new: people of the test images that are not in training.
        resamples: of the people.
    """
    records = []
    for metric in metrics:
        grouped = list(group_scores(rows, metric).items())
        for mask in dict.fromkeys(key[0] for key, _ in grouped):
            methods = [scores for key, scores in grouped if key[0] == mask and scores.values.size]
            fills = {s.model: s for s in methods if not s.trained}
            fill = next((fills[name] for name in REFERENCES if name in fills), None)
            for scores in methods:
                if (
                    scores.trained
                    # What an external program was trained on is not known.
                    and scores.train_mask != EXTERNAL
                    and (line := _line(scores, fill, new, resamples))
                ):
                    about = {"label": scores.label, "train_mask": scores.train_mask, "metric": metric}
                    records.append({"mask": mask, **about, **line})
    return pd.DataFrame(records, columns=_COLUMNS)


def _line(
    scores: Scores, fill: Scores | None, new: Collection[int], resamples: int
) -> dict[str, object] | None:
    people = scores.identities.astype("Int64")
    is_new = people.isin(list(new)).to_numpy(dtype=bool)
    groups = [(people.notna().to_numpy() & ~is_new), is_new]
    if not all(group.any() for group in groups):
        return None
    values = scores.values.mean(axis=0)[None]
    if fill is not None and scores.images.isin(fill.images).all():
        # The second row is what is left of each image's score without its difficulty.
        values = np.vstack([values, values[0] - fill.on(scores.images).values.mean(axis=0)])
    codes = [cluster_codes(people[group])[0] for group in groups]
    counts = [int(c.max()) + 1 for c in codes]
    means = [values[:, group].mean(axis=1) for group in groups]
    # The groups share no person, so they are independent samples.
    drawn: list[Floats] = [
        # A seed for each group, or equal numbers of people would be drawn alike.
        cluster_bootstrap_means(values[:, group], code, resamples=resamples, seed=seed)
        for seed, (group, code) in enumerate(zip(groups, codes, strict=True))
    ]
    difference = means[0] - means[1]
    # The smaller group limits what is known: its number of people gives the
    # degrees of freedom, on the safe side.
    low, high = percentile_interval(drawn[0] - drawn[1], min(counts))
    has_net = len(values) > 1 and fill is not None
    return {
        "known": float(means[0][0]),
        "new": float(means[1][0]),
        "difference": float(difference[0]),
        "low": float(low[0]),
        "high": float(high[0]),
        "reference": fill.label if has_net and fill is not None else None,
        "net": float(difference[1]) if has_net else np.nan,
        "net_low": float(low[1]) if has_net else np.nan,
        "net_high": float(high[1]) if has_net else np.nan,
        "n_known": int(groups[0].sum()),
        "n_new": int(groups[1].sum()),
        "people_known": counts[0],
        "people_new": counts[1],
    }
