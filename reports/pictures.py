"""Which pictures a report shows, and how they are put into it.

Rows are chosen by rule from the stored pool, which was fixed by seed before any metric was known.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: WebP quality, fixed, and good enough that what differs between models is theirs. The numbers beneath the
#: pictures are those of the stored 8-bit pictures, not of these.
QUALITY = 90
NUM_RANDOM = 4
NUM_DISAGREEMENT = 2

Floats = NDArray[np.float64]


@dataclass
class Choice:
    """An image to show: its position in the pool, and what chose it.

    Attributes:
        place: position in the pool.
        rules: ``random``, ``median``, ``most disagreement``.
        best_of, worst_of: labels of the models whose best and worst it is.
    """

    place: int
    rules: list[str] = field(default_factory=list)
    best_of: list[str] = field(default_factory=list)
    worst_of: list[str] = field(default_factory=list)

    def reasons(self, models: int) -> list[str]:
        """All of it in words, where there are ``models`` in all."""
        found = list(self.rules)
        for what, labels in (("best", self.best_of), ("worst", self.worst_of)):
            if labels:
                everyone = len(labels) == models and models > 1
                found.append(f"{what} of " + ("every model" if everyone else ", ".join(labels)))
        return found


def choose(scores: Mapping[str, Floats], count: int, *, higher_is_better: bool = True) -> list[Choice]:
    """Images of the pool to show, each once, with what chose it.

    In order: :data:`NUM_RANDOM` spread over the pool (which was drawn at random by seed), the image of median
    mean score, those whose scores spread most over the models, then best and worst of every model.

    Args:
        scores: label -> ``(count,)`` score of each image of the pool; NaN where there is none.
        count: images in the pool.
        higher_is_better: direction of the score.
    """
    found: dict[int, Choice] = {}

    def at(place: np.integer[Any] | int) -> Choice:
        return found.setdefault(int(place), Choice(int(place)))

    # The pool lies in the order of the test split: spread over it, or the first names would be favoured.
    for place in np.linspace(0, count - 1, min(NUM_RANDOM, count)).round().astype(int):
        at(place).rules.append("random")
    table = np.array(list(scores.values()), dtype=np.float64).reshape(len(scores), count)
    known = np.isfinite(table).all(axis=0) if len(scores) else np.zeros(count, dtype=bool)
    if not known.any():
        return list(found.values())
    places = np.flatnonzero(known)
    means = table[:, places].mean(axis=0)
    at(places[np.argsort(means, kind="stable")[len(places) // 2]]).rules.append("median")
    if len(scores) > 1:
        spread = np.ptp(table[:, places], axis=0)
        for widest in np.argsort(-spread, kind="stable")[:NUM_DISAGREEMENT]:
            at(places[widest]).rules.append("most disagreement")
    signed = table if higher_is_better else -table
    for label, values in zip(scores, signed, strict=True):
        at(places[np.argmax(values[places])]).best_of.append(label)
    for label, values in zip(scores, signed, strict=True):
        at(places[np.argmin(values[places])]).worst_of.append(label)
    return list(found.values())


def masked_input(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture as a model gets it, the hole in flat light grey. ``(H, W, 3)`` and ``(H, W)``, 1 = hole."""
    return np.where(mask[..., None] > 0, np.uint8(218), image)


def data_uri(image: NDArray[np.uint8], quality: int = QUALITY) -> str:
    """The picture ``(H, W, 3)`` as a ``data:`` address of a WebP file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
