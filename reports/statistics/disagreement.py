"""Metrics that disagree on the order of two methods, beyond what the images alone explain."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports.statistics.paired_differences import paired_differences


@dataclass(frozen=True)
class OrderDisagreement:
    """Two metrics of which each prefers another of two methods.

    Attributes:
        mask: evaluated on.
        better: the method that ``metric`` prefers.
        worse: the method that ``other`` prefers.
        metric, other: names of the metrics, in the order that was asked for.
        difference, low, high: ``better`` minus ``worse`` in ``metric``, with its 95 % interval.
        other_difference, other_low, other_high: the same in ``other``.
        is_decided: whether the comparison in ``metric`` has a verdict, which takes three trainings of every trained
            method.
        other_is_decided: the same in ``other``.
    """

    mask: str
    better: str
    worse: str
    metric: str
    other: str
    difference: float
    low: float
    high: float
    other_difference: float
    other_low: float
    other_high: float
    is_decided: bool
    other_is_decided: bool

    @property
    def decided(self) -> bool:
        """Whether both comparisons have a verdict."""
        return self.is_decided and self.other_is_decided


def find_order_disagreements(
    rows: pd.DataFrame, directions: Mapping[str, bool], *, resamples: int = 2_000
) -> list[OrderDisagreement]:
    """Find every pair of methods that two metrics put in opposite orders.

    Only where both differences are clear: each 95 % interval, taken by itself, leaves out zero. Decided pairs come
    first, then those in the order of masks and metrics.

    Args:
        rows: results.
        directions: metric -> whether higher is better; only these are looked at, in this order.
        resamples: of the bootstrap.

    Examples:
        >>> images = [f"{i}.png" for i in range(8)]
        >>> def rows_of(label, psnr, mae):
        ...     return pd.DataFrame({
        ...         "mask": "center", "label": label, "model": label, "train_mask": "-", "seed": 0, "image_id": images,
        ...         "identity": pd.array(range(8), dtype="Int64"), "identical": False,
        ...         "psnr_db": [psnr + i for i in range(8)], "distance": [mae + i / 100 for i in range(8)]})
        >>> rows = pd.concat([rows_of("mean color", 18, 0.5), rows_of("mean image", 20, 0.6)])
        >>> (found,) = find_order_disagreements(rows, {"psnr_db": True, "distance": False})
        >>> found.better, found.metric, found.worse, found.other
        ('mean image', 'psnr_db', 'mean color', 'distance')
    """
    table = paired_differences(rows, list(directions), higher_is_better=directions, resamples=resamples)
    # Not corrected for the number of pairs: this finds where to look, and ``decided`` says what holds.
    clear = table[(table["low"] > 0) | (table["high"] < 0)]
    found = []
    for _, pair in clear.groupby(["mask", "a", "b"], sort=False, observed=True):
        lines = pair.to_dict("records")
        for line, other in itertools.combinations(lines, 2):
            # A positive difference prefers a only where higher is better.
            prefers_a, other_prefers_a = (
                (one["difference"] > 0) == directions[str(one["metric"])] for one in (line, other)
            )
            if prefers_a != other_prefers_a:
                # Told from the side of the first metric: its favorite comes first, whichever method was a.
                found.append(_disagreement(line, other, swap=not prefers_a))
    return sorted(found, key=lambda item: not item.decided)


def _disagreement(line: Mapping[Any, Any], other: Mapping[Any, Any], *, swap: bool) -> OrderDisagreement:
    """Describe a pair of lines of :func:`paired_differences`, with the first metric's favorite first."""
    a, b = str(line["a"]), str(line["b"])
    return OrderDisagreement(
        str(line["mask"]),
        *((b, a) if swap else (a, b)),
        str(line["metric"]),
        str(other["metric"]),
        *_turned(line, swap=swap),
        *_turned(other, swap=swap),
        is_decided=line["verdict"] != "inconclusive",
        other_is_decided=other["verdict"] != "inconclusive",
    )


def _turned(line: Mapping[Any, Any], *, swap: bool) -> tuple[float, float, float]:
    difference, low, high = (float(line[name]) for name in ("difference", "low", "high"))
    return (-difference, -high, -low) if swap else (difference, low, high)
