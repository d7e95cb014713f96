"""The report: one HTML file of an experiment, which opens offline and asks nothing of the network."""

from __future__ import annotations

import html
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from reports import svg
from reports.context import ReportContext
from reports.results.experiment import ExperimentError, load_experiment
from reports.sections import cost, distributions, gallery, headline, setup, table4, training, verdicts
from reports.sections.headline import short_headline


def render_report(experiment_folder: Path, report_folder: Path, *, pictures: bool = True) -> Path:
    """Write ``report_folder/index.html`` from ``runs/<experiment>/``, whole or not at all.

    Args:
        experiment_folder: holds ``manifest.json``; only read.
        report_folder: made where it is missing.
        pictures: whether to embed pictures of the data.

    Returns:
        The page's path.

    Raises:
        ExperimentError: the folder cannot be read as an experiment.
    """
    page = ReportContext(load_experiment(experiment_folder))
    return write_page(
        report_folder / "index.html", render_page("report.html.j2", build_sections(page, pictures=pictures))
    )


def save_figures(experiment_folder: Path, folder: Path) -> list[Path]:
    """Write every figure of an experiment's report as SVG and PNG into ``folder``, for papers.

    Returns:
        The files, named after section, mask and metric or model.

    Raises:
        ExperimentError: the experiment cannot be read.
        OSError: the folder cannot be written.
    """
    page = ReportContext(load_experiment(experiment_folder))
    by_mask = [plot for panel in distributions.build_distributions(page)["masks"] for plot in panel["plots"]]
    trained = training.build_training(page)
    plots = [
        *by_mask,
        *trained["validation"],
        *trained["losses"],
        *trained["scores"],
        *cost.build_cost(page)["plots"],
    ]
    written: list[Path] = []
    taken: set[str] = set()
    for plot in plots:
        name = plain = re.sub(r"[^a-z0-9]+", "-", plot.name.lower()).strip("-")[:100]
        while name in taken:
            name = f"{plain}-{len(taken)}"
        taken.add(name)
        written += svg.save_figure(plot.figure, folder, name)
    return written


def build_sections(page: ReportContext, *, pictures: bool) -> dict[str, Any]:
    """What the templates show, by section."""
    return {
        "page": page,
        "headline": headline.build_headline(page),
        "verdicts": verdicts.build_verdicts(page),
        "table4": table4.build_table4(page),
        "gallery": gallery.build_gallery(page, embed=pictures),
        "distributions": distributions.build_distributions(page),
        "training": training.build_training(page),
        "cost": cost.build_cost(page),
        "setup": setup.build_setup(page),
    }


def render_page(template: str, context: dict[str, Any]) -> str:
    """A template with autoescape on and undefined names refused."""
    return _environment().get_template(template).render(**context)


def write_page(path: Path, text: str) -> Path:
    """Write by a temporary name and a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["asset"] = _asset
    environment.globals["marker"] = svg.marker_path
    return environment


def _asset(name: str) -> Markup:
    """A style sheet or script of our own, as it is."""
    loader = _environment().loader
    assert loader is not None
    return Markup(loader.get_source(_environment(), name)[0])  # nosec B704 (a file of this package)


# ``reports/index.html``: every experiment with its headline, newest first, and the comparisons.


@dataclass(frozen=True)
class IndexEntry:
    """A line of the list. ``problem`` says why an experiment could not be read; the rest is then empty."""

    name: str
    updated: str = ""
    data: str = ""
    size: str = ""
    masks: str = ""
    preset: str = ""
    seeds: str = ""
    cells: str = ""
    headline: str = ""
    has_page: bool = False
    problem: str = ""


def render_index(runs_folder: Path, reports_folder: Path) -> Path:
    """Write ``reports_folder/index.html`` from all of ``runs_folder/*/manifest.json``, whole or not at all.

    An experiment that cannot be read is listed with the reason. Links lead to ``<experiment>/index.html``
    where that page has been rendered, and to every page of ``compare/``.

    Returns:
        The page's path.
    """
    entries = [_entry(path.parent, reports_folder) for path in sorted(runs_folder.glob("*/manifest.json"))]
    entries.sort(key=lambda entry: entry.updated, reverse=True)
    context = {"entries": entries, "comparisons": _comparisons(reports_folder)}
    return write_page(reports_folder / "index.html", render_page("index.html.j2", context))


def _comparisons(reports_folder: Path) -> list[tuple[str, str]]:
    """Folder and title of every page that ``bench compare`` wrote, by title."""
    found = []
    for path in (reports_folder / "compare").glob("*/index.html"):
        title = re.search(
            "<title>(.*?) · ", path.read_text(encoding="utf-8", errors="replace")[:2000], re.DOTALL
        )
        found.append((path.parent.name, html.unescape(title[1]) if title else path.parent.name))
    return sorted(found, key=lambda pair: pair[1])


def _entry(folder: Path, reports_folder: Path) -> IndexEntry:
    try:
        page = ReportContext(load_experiment(folder))
        counts = {s: sum(c["status"] == s for c in page.experiment.cells) for s in ("done", "failed")}
        settings = page.settings
        return IndexEntry(
            name=folder.name,
            updated=str(page.manifest.get("updated", "")),
            data=page.data["title"],
            size=f"{settings['size']} px",
            masks=", ".join(settings["masks"]),
            preset=settings["preset"],
            seeds=", ".join(str(s) for s in settings["seeds"]),
            cells=f"{counts['done']} done" + (f", {counts['failed']} failed" if counts["failed"] else ""),
            headline=short_headline(page),
            has_page=(reports_folder / folder.name / "index.html").is_file(),
        )
    except ExperimentError as error:
        return IndexEntry(name=folder.name, problem=str(error))
    except (KeyError, TypeError) as error:
        return IndexEntry(
            name=folder.name, problem=f"the manifest is incomplete ({error}); run the command again"
        )
