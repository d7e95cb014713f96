"""How much a training's validation PSNR fluctuates: what "stabilises training" is taken to mean."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import special

from reports.findings import Finding, Leaning
from reports.paper_claims import Comparison
from reports.resampling import CONFIDENCE, Floats

_MIN_VALIDATIONS = 4


def fluctuation(curves: pd.DataFrame, model: str, train_mask: str | None = None) -> pd.Series:
    """Root mean square of the steps between successive validations in the second half of each training, in
    dB.

    A steady climb has small steps too; a training that swings has large ones. At least four validations are
    needed in that half (``--validate-every``); trainings with fewer are left out.

    Returns:
        Indexed by seed, as text.
    """
    logged = (curves["kind"] == "validation") & (curves["term"] == "psnr_db")
    chosen = curves[logged & (curves["model"] == model)]
    if train_mask is not None and (chosen["train_mask"] == train_mask).any():
        chosen = chosen[chosen["train_mask"] == train_mask]
    found: dict[str, float] = {}
    for seed, curve in chosen.sort_values("step").groupby("seed"):
        late = curve.loc[curve["step"] > curve["step"].max() / 2, "value"].to_numpy(dtype=np.float64)
        if len(late) >= _MIN_VALIDATIONS:
            found[str(seed)] = float(np.sqrt(np.mean(np.square(np.diff(late)))))
    return pd.Series(found, dtype="float64")


def compare_stability(
    curves: pd.DataFrame, comparison: Comparison, train_mask: str | None = None
) -> Finding | None:
    """Does ``better`` fluctuate less than ``worse``? Welch's t on the logarithms, one value a training.

    Returns:
        The ratio of the geometric means of :func:`fluctuation`, or ``None`` where a model has none.
    """
    a, b = (fluctuation(curves, name, train_mask) for name in (comparison.better, comparison.worse))
    if a.empty or b.empty or not (a > 0).all() or not (b > 0).all():
        return None
    ratio, low, high = welch_ratio(np.log(a.to_numpy()), np.log(b.to_numpy()))
    first, second = (
        str(curves.loc[curves["model"] == name, "label"].iloc[0])
        for name in (comparison.better, comparison.worse)
    )
    what = f"{first} fluctuates {ratio:.2f} times as much as {second} [{low:.2f}, {high:.2f}]"
    leaning: Leaning = "for" if high < 1 else "against" if low > 1 else "neither"
    if leaning == "neither":
        what += ": the interval includes 1"
    return Finding(comparison, first, second, ratio, low, high, leaning, what)


def welch_ratio(a: Floats, b: Floats, confidence: float = CONFIDENCE) -> tuple[float, float, float]:
    """Ratio of geometric means of ``exp(a)`` and ``exp(b)`` with Welch's interval; no interval below two
    values.
    """
    difference = float(a.mean() - b.mean())
    if min(len(a), len(b)) < 2:
        return float(np.exp(difference)), float("nan"), float("nan")
    parts = np.array([a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)])
    df = parts.sum() ** 2 / (parts**2 / [len(a) - 1, len(b) - 1]).sum() if parts.sum() > 0 else np.inf
    half = float(special.stdtrit(df, 0.5 + confidence / 2) * np.sqrt(parts.sum()))
    ratio, low, high = (float(np.exp(v)) for v in (difference, difference - half, difference + half))
    return ratio, low, high
