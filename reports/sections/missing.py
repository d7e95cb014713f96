"""What has no results: cells that failed or do not apply, files that are gone, and images that were skipped."""

from __future__ import annotations

from typing import Any

from reports.context import ReportContext
from reports.sections import ReportSection


def build_missing(context: ReportContext) -> dict[str, Any]:
    """Build the view of ``sections/missing.html.j2``."""
    cells = context.experiment.cells
    return {
        "failed": [c for c in cells if c["status"] == "failed"],
        "not_applicable": _once_a_mask([c for c in cells if c["status"] == "not-applicable"]),
        "gone": context.experiment.missing_files,
        "unlisted": context.experiment.unlisted_cells,
        "skipped": context.data.get("skipped", []),
    }


def _once_a_mask(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Drop cells that differ from another in their seed alone: what does not apply does so with every seed."""
    return list({(c["label"], c["mask"], c.get("reason")): c for c in cells}.values())


SECTION = ReportSection("missing", "Failed and skipped", 100, build_missing)
