"""Means by attribute of the images: how a method does on faces with and without glasses, say."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from reports.statistics.bootstrap import FEW_CLUSTERS, cluster_codes
from reports.statistics.intervals import seed_interval
from reports.statistics.scores import group_scores

COLUMNS = [
    "attribute", "has", "mask", "model", "label", "train_mask", "metric", "mean", "low", "high", "n_images",
    "n_identities", "n_seeds", "small",
]  # fmt: skip


def summarize_by_attribute(
    rows: pd.DataFrame, attributes: pd.DataFrame, metrics: Sequence[str], names: Sequence[str]
) -> pd.DataFrame:
    """Average metrics over the images with an attribute, and over those without.

    Intervals are 95 %, over trainings and images as in :func:`reports.statistics.intervals.seed_interval`, and over the
    images of one training where there is one. Groups are of other images: their difference is not paired, and says
    nothing of what causes it. No correction is made for the number of groups.

    Args:
        rows: results.
        attributes: a boolean column an attribute, indexed by ``image_id``; other images are left out.
        metrics: metric columns.
        names: attributes, columns of ``attributes``.

    Returns:
        Columns :data:`COLUMNS`. ``has`` is whether the images have the attribute; ``small`` marks a group of fewer than
        twenty people, whose mean says little of others; one of a single person has no interval.
    """
    records = []
    for metric in (m for m in metrics if m in rows.columns):
        for (mask, label, train_mask), scores in group_scores(rows, metric).items():
            known = scores.images.isin(attributes.index)
            about = {"mask": mask, "model": scores.model, "label": label, "train_mask": train_mask}
            for name in names:
                # The fill value is never used: images without attributes are left out by ``known``.
                flags = attributes[name].reindex(scores.images, fill_value=False).to_numpy(dtype=bool)
                for has in (True, False):
                    chosen = scores.images[known & (flags == has)]
                    if not len(chosen) or not scores.values.size:
                        continue
                    group = scores.on(chosen)
                    # Numbered anew, since clusters count from 0 within each group.
                    codes, people = cluster_codes(group.identities)
                    estimate = seed_interval(group.values, codes)
                    records.append(
                        {
                            "attribute": name, "has": has, **about, "metric": metric, "mean": estimate.value,
                            "low": estimate.low, "high": estimate.high, "n_images": len(chosen),
                            "n_identities": people, "n_seeds": len(scores.seeds), "small": people < FEW_CLUSTERS,
                        }
                    )  # fmt: skip
    return pd.DataFrame(records, columns=COLUMNS)
