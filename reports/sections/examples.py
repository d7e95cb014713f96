"""One image large, high on the page: the typical one, so that numbers get a face before they are read."""

from __future__ import annotations

from typing import Any

from reports.context import ReportContext
from reports.images import load_shown_images
from reports.sections import ReportSection


def build_examples(context: ReportContext) -> dict[str, Any] | None:
    """Build the view of ``sections/examples.html.j2``: for each mask the image of median score.

    ``None`` where no images were stored or none may be embedded.
    """
    panels = []
    for mask in context.masks:
        sample = load_shown_images(context, mask)
        if sample is not None:
            place = sample.median()
            # Why an image stands here is said by the same words as in the gallery.
            reasons = next((c.reasons(len(sample.scores)) for c in sample.choose() if c.place == place), [])
            panels.append({"mask": mask, "row": sample.row(place, reasons)})
    if not panels:
        return None
    return {
        "panels": panels,
        "data": context.data,
        "by": context.measured[0].heading if context.measured else "",
    }


SECTION = ReportSection("examples", "A typical image", 10, build_examples)
