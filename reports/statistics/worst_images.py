"""What a method's worst images have in common: their mean traits beside those of all other images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.statistics.bootstrap import RESAMPLES, Floats, cluster_bootstrap_means, percentile_interval

#: Share of the images that count as a method's worst.
WORST_SHARE = 0.1


@dataclass(frozen=True)
class TraitContrast:
    """The mean of a trait over the worst images, over the others, and the difference with its interval.

    Attributes:
        trait: name of the trait.
        worst, others: means.
        difference: worst minus others.
        low, high: 95 % limits, by resampling persons; NaN where there are none.
    """

    trait: str
    worst: float
    others: float
    difference: float
    low: float
    high: float


def worst_images(scores: Floats, *, higher_is_better: bool, share: float = WORST_SHARE) -> NDArray[np.bool_]:
    """Mark the worst images of a method: the given share of them, at least one.

    Args:
        scores: ``(N,)`` one score per image.
        higher_is_better: direction of the score.
        share: of the images, in (0, 1).

    >>> worst_images(np.array([30.0, 21.0, 25.0]), higher_is_better=True).tolist()
    [False, True, False]
    """
    # Stable, so that ties are broken by the order of the images and the choice is always the same.
    order = np.argsort(scores if higher_is_better else -scores, kind="stable")
    worst = np.zeros(len(scores), dtype=bool)
    worst[order[: max(1, round(share * len(scores)))]] = True
    return worst


def contrast_traits(
    traits: pd.DataFrame, worst: NDArray[np.bool_], codes: NDArray[np.int64], *, resamples: int = RESAMPLES
) -> list[TraitContrast]:
    """Compare every trait of the worst images with that of all others.

    Persons are resampled, and with them whichever of their images are among the worst; what is worst stays what it was
    in the data. So the limits speak of these trainings and this cut.

    Args:
        traits: ``N`` rows, one numeric column per trait, without gaps.
        worst: ``(N,)``, from :func:`worst_images`.
        codes: ``(N,)`` person of each image, from 0.
        resamples: number of resamples.

    >>> contrasts = contrast_traits(
    ...     pd.DataFrame({"hole": [0.4, 0.2, 0.2]}), np.array([True, False, False]), np.arange(3), resamples=200
    ... )
    >>> contrasts[0].worst, contrasts[0].others
    (0.4, 0.2)
    """
    inside = worst.astype(np.float64)
    found = []
    for name in traits.columns:
        values = traits[name].to_numpy(dtype=np.float64)
        means = float(values[worst].mean()), float(values[~worst].mean()) if (~worst).any() else float("nan")
        drawn = cluster_bootstrap_means(
            np.stack([inside * values, inside, (1 - inside) * values, 1 - inside]), codes, resamples=resamples
        )
        # A resample may hold no image of one group; it says nothing about the difference.
        drawn = drawn[(drawn[:, 1] > 0) & (drawn[:, 3] > 0)]
        low = high = float("nan")
        # Percentiles of a minority of resamples would describe only those that happened to hold both groups.
        if len(drawn) > resamples // 2:
            # The quotient of two resampled means is the mean over the group's images in that resample.
            gaps = (drawn[:, 0] / drawn[:, 1] - drawn[:, 2] / drawn[:, 3])[:, None]
            # The group with fewer people decides how far the interval must be expanded.
            clusters = min(len(np.unique(codes[group])) for group in (worst, ~worst))
            limits = percentile_interval(gaps, clusters)
            low, high = float(limits[0][0]), float(limits[1][0])
        found.append(TraitContrast(str(name), *means, means[0] - means[1], low, high))
    return found
