"""Pictures in the manner of Figure 5: masked input, every model, truth."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reports.context import MethodView, ReportContext
from reports.results.experiment import StoredImages
from reports.results.schema import PRIMARY_METRICS


def build_gallery(page: ReportContext, *, embed: bool) -> dict[str, Any]:
    """Context of ``sections/gallery.html.j2``. ``embed`` is false for ``--no-pictures``."""
    masks = []
    if embed:
        for mask in page.masks:
            pool = page.experiment.pictures(mask)
            if pool is not None and len(pool.ids) and pool.composites:
                masks.append(_mask(page, mask, pool))
    return {
        "masks": masks,
        "asked": embed,
        "title": page.data["title"],
        "licence": page.data["licence"],
        "procedural": page.data["procedural"],
        "by": page.measured[0].title if page.measured else "",
    }


def _mask(page: ReportContext, mask: str, pool: StoredImages) -> dict[str, Any]:
    shown = [(m, c["cell"]) for m in page.methods if (c := _cell(m, mask, pool))]
    metrics = [m for m in page.measured if m.name in PRIMARY_METRICS] or page.measured[:1]
    values = {m.label: _values(page, mask, m, pool, [k.name for k in metrics]) for m, _ in shown}
    scores = {label: v[:, 0] for label, v in values.items()} if metrics else {}
    up = metrics[0].higher_is_better if metrics else True
    rows = []
    for choice in choose_images(scores, len(pool.ids), higher_is_better=up):
        place = choice.place
        outputs = [
            {
                "method": method,
                "src": data_uri(pool.composites[cell][place]),
                "values": [(k, k.show(v)) for k, v in zip(metrics, values[method.label][place], strict=True)],
            }
            for method, cell in shown
        ]
        rows.append(
            {
                "id": pool.ids[place],
                "rules": choice.reasons(len(scores)),
                "input": data_uri(masked_input(pool.image[place], pool.mask[place])),
                "truth": data_uri(pool.image[place]),
                "outputs": outputs,
            }
        )
    seeds = sorted({c["seed"] for m, _ in shown if m.trained for c in m.done})
    return {"mask": mask, "rows": rows, "pool": len(pool.ids), "columns": len(shown) + 2, "seeds": seeds}


def _cell(method: MethodView, mask: str, pool: StoredImages) -> dict[str, Any] | None:
    """The method's cell with pictures: of its lowest seed."""
    cells = [c for c in method.done if c["mask"] == mask and c["cell"] in pool.composites]
    return min(cells, key=lambda c: c["seed"], default=None)


def _values(
    page: ReportContext, mask: str, method: MethodView, pool: StoredImages, metrics: list[str]
) -> NDArray[np.float64]:
    """``(P, metrics)`` scores of the pool's images under the method's lowest seed, NaN where none."""
    rows = page.rows[(page.rows["mask"] == mask) & (page.rows["label"] == method.label)]
    rows = rows[rows["seed"] == rows["seed"].min()].set_index("image_id")
    return np.asarray(rows.reindex(pool.ids)[metrics], dtype=np.float64)


# Which pictures a report shows, and how they are put into it.
#
# Rows are chosen by rule from the stored pool, which was fixed by seed before any metric was known.


#: WebP quality, fixed, and good enough that what differs between models is theirs. The numbers beneath the
#: pictures are those of the stored 8-bit pictures, not of these.
QUALITY = 90
NUM_RANDOM = 4
NUM_DISAGREEMENT = 2

Floats = NDArray[np.float64]


@dataclass
class ImageChoice:
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


def choose_images(
    scores: Mapping[str, Floats], count: int, *, higher_is_better: bool = True
) -> list[ImageChoice]:
    """Images of the pool to show, each once, with what chose it.

    In order: :data:`NUM_RANDOM` spread over the pool (which was drawn at random by seed), the image of median
    mean score, those whose scores spread most over the models, then best and worst of every model.

    Args:
        scores: label -> ``(count,)`` score of each image of the pool; NaN where there is none.
        count: images in the pool.
        higher_is_better: direction of the score.
    """
    found: dict[int, ImageChoice] = {}

    def at(place: np.integer[Any] | int) -> ImageChoice:
        return found.setdefault(int(place), ImageChoice(int(place)))

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
