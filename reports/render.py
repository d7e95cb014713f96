"""The report of an experiment: one HTML file that opens offline and requests nothing from the network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from reports import svg
from reports.context import ReportContext
from reports.page import render_page, write_page
from reports.results.experiment import load_experiment
from reports.sections import find_plots, find_sections
from reports.sections.headline import build_headline
from reports.worst_page import FILE_NAME as WORST_PAGE
from reports.worst_page import render_worst_page


def render_report(
    experiment_folder: Path, report_folder: Path, *, pictures: bool = True, title: str | None = None
) -> Path:
    """Write ``report_folder/index.html`` from ``runs/<experiment>/``, atomically.

    Beside it stands the page of the worst completions, where images are embedded.

    Args:
        experiment_folder: holds ``manifest.json``; only read.
        report_folder: created where it is missing.
        pictures: whether to embed images of the data set.
        title: heading of the page; by default the one kept with the experiment, or its name.

    Returns:
        The page's path.

    Raises:
        ExperimentError: the folder cannot be read as an experiment.
        OSError: the page cannot be written.
    """
    context = ReportContext(load_experiment(experiment_folder), title=title, embed_images=pictures)
    worst = render_worst_page(context, report_folder)
    values = build_page(context) | {"worst_page": WORST_PAGE if worst else None}
    return write_page(report_folder / "index.html", render_page("report.html.j2", values))


def build_page(context: ReportContext) -> dict[str, Any]:
    """Build what the report's template shows: the headline, then the sections in page order."""
    sections = []
    for section in find_sections():
        view = section.build(context)
        if view is not None:
            title = view.get("title", section.title)
            sections.append(
                {"name": section.name, "title": title, "template": section.template, "view": view}
            )
    return {"context": context, "headline": build_headline(context), "sections": sections}


def save_figures(experiment_folder: Path, folder: Path) -> list[Path]:
    """Write every figure of an experiment's report as SVG and PNG into ``folder``, for papers.

    Returns:
        The files, named after section, mask and metric or model.

    Raises:
        ExperimentError: the experiment cannot be read.
        OSError: the folder cannot be written.
    """
    context = ReportContext(load_experiment(experiment_folder), embed_images=False)
    written: list[Path] = []
    used: set[str] = set()
    for section in find_sections():
        for plot in find_plots(section.build(context)):
            name = stem = re.sub(r"[^a-z0-9]+", "-", plot.name.lower()).strip("-")[:100]
            # Different names may become one when they are reduced to what file names may hold.
            while name in used:
                name = f"{stem}-{len(used)}"
            used.add(name)
            written += svg.save_figure(plot.figure, folder, name)
    return written
