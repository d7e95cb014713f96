"""The paper's own numbers (``published.csv``): Table 4 of Jiao et al., section 4.3.

A reference, never a pass mark: the paper names neither the mask, the crop, the SSIM convention nor the number
of trainings behind them, and two of its baselines cannot be identified.
"""

from __future__ import annotations

from importlib import resources

import pandas as pd


def published() -> pd.DataFrame:
    """Columns ``model`` (registry name), ``paper_name``, ``metric``, ``value``, ``table``, ``section``,
    ``page``.

    ``page`` is text and empty where the edition at hand is not paginated; ``section`` always locates the
    number.
    """
    source = resources.files("reports").joinpath("published.csv")
    with source.open(encoding="utf-8") as file:
        return pd.read_csv(file, dtype={"section": str, "page": str}, keep_default_na=False)


def published_value(model: str, metric: str) -> float | None:
    """Table 4's number for a model's registry name, or ``None`` where the paper has none."""
    table = published()
    found = table.loc[(table["model"] == model) & (table["metric"] == metric), "value"]
    return float(found.iloc[0]) if len(found) else None
