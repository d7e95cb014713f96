"""Pictures in the manner of Figure 5: masked input, every model, truth."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from reports.sections import gallery
from reports.results.experiment import Pictures
from reports.context import Method, Page
from reports.results.schema import PRIMARY_METRICS


def build(page: Page, *, embed: bool) -> dict[str, Any]:
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


def _mask(page: Page, mask: str, pool: Pictures) -> dict[str, Any]:
    shown = [(m, c["cell"]) for m in page.methods if (c := _cell(m, mask, pool))]
    metrics = [m for m in page.measured if m.name in PRIMARY_METRICS] or page.measured[:1]
    values = {m.label: _values(page, mask, m, pool, [k.name for k in metrics]) for m, _ in shown}
    scores = {label: v[:, 0] for label, v in values.items()} if metrics else {}
    up = metrics[0].higher_is_better if metrics else True
    rows = []
    for choice in gallery.choose(scores, len(pool.ids), higher_is_better=up):
        place = choice.place
        outputs = [
            {
                "method": method,
                "src": gallery.data_uri(pool.composites[cell][place]),
                "values": [(k, k.show(v)) for k, v in zip(metrics, values[method.label][place], strict=True)],
            }
            for method, cell in shown
        ]
        rows.append(
            {
                "id": pool.ids[place],
                "rules": choice.reasons(len(scores)),
                "input": gallery.data_uri(gallery.masked_input(pool.image[place], pool.mask[place])),
                "truth": gallery.data_uri(pool.image[place]),
                "outputs": outputs,
            }
        )
    seeds = sorted({c["seed"] for m, _ in shown if m.trained for c in m.done})
    return {"mask": mask, "rows": rows, "pool": len(pool.ids), "columns": len(shown) + 2, "seeds": seeds}


def _cell(method: Method, mask: str, pool: Pictures) -> dict[str, Any] | None:
    """The method's cell with pictures: of its lowest seed."""
    cells = [c for c in method.done if c["mask"] == mask and c["cell"] in pool.composites]
    return min(cells, key=lambda c: c["seed"], default=None)


def _values(page: Page, mask: str, method: Method, pool: Pictures, metrics: list[str]) -> NDArray[np.float64]:
    """``(P, metrics)`` scores of the pool's images under the method's lowest seed, NaN where none."""
    rows = page.rows[(page.rows["mask"] == mask) & (page.rows["label"] == method.label)]
    rows = rows[rows["seed"] == rows["seed"].min()].set_index("image_id")
    return np.asarray(rows.reindex(pool.ids)[metrics], dtype=np.float64)
