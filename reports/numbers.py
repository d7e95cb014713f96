"""The numbers of a finished cell as its manifest keeps them: enough to compare with to the last bit, without rows."""

from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np
import pandas as pd

from reports.results.schema import metric_columns


def numbers(rows: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Metric -> ``mean`` over the images (``None`` where it is not a number) and ``digest`` of all values.

    The mean is the exact sum, rounded once: the same on every machine. The digest is SHA-256 over the images' ids and
    their float64 values, in order.
    """
    ids = "\0".join(rows["image_id"]).encode("utf-8", "surrogateescape")
    found: dict[str, dict[str, Any]] = {}
    for name in metric_columns(rows):
        values = rows[name].to_numpy(dtype="<f8")
        mean = math.fsum(values) / len(values) if np.isfinite(values).all() else math.nan
        digest = hashlib.sha256(ids + b"\0" + values.tobytes()).hexdigest()
        found[name] = {"mean": None if math.isnan(mean) else mean, "digest": digest}
    return found


def agrees(rows: pd.DataFrame, recorded: Any) -> bool:
    """Whether rows are those of which ``recorded`` (by :func:`numbers`) was made; ``None`` says nothing.

    Metrics of the rows that are not recorded, and recorded ones without rows, count as another table.
    """
    return recorded is None or numbers(rows) == recorded
