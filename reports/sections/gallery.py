"""More images in the manner of the paper's Figure 5: masked input, every model, truth."""

from __future__ import annotations

from typing import Any

from reports.context import ReportContext
from reports.images import load_shown_images
from reports.sections import ReportSection


def build_gallery(context: ReportContext) -> dict[str, Any]:
    """Build the view of ``sections/gallery.html.j2``; the image shown large above is not repeated."""
    panels = []
    for mask in context.masks:
        sample = load_shown_images(context, mask)
        if sample is not None:
            choices = [c for c in sample.choose() if c.place != sample.median()]
            rows = [sample.row(c.place, c.reasons(len(sample.scores))) for c in choices]
            seeds = sorted({c["seed"] for m, _ in sample.methods if m.trained for c in m.done})
            panels.append({"mask": mask, "rows": rows, "columns": len(sample.methods) + 2, "seeds": seeds})
    return {
        # None is shown above where there is none here.
        "title": "More images" if panels else "Images",
        "panels": panels,
        "requested": context.embed_images,
        "gone": any(path.endswith(".npz") for path in context.experiment.missing_files),
        "by": context.measured[0].title if context.measured else "",
    }


SECTION = ReportSection("gallery", "More images", 50, build_gallery)
