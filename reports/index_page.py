"""``reports/index.html``: a table of all experiments, newest first, and the comparisons of them."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from pathlib import Path

from reports.context import ReportContext
from reports.render import render_page, write_page
from reports.results.experiment import ExperimentError, load_experiment
from reports.sections.headline import short_headline


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
    """Write ``reports_folder/index.html`` from all of ``runs_folder/*/manifest.json``, atomically.

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
    """Return folder and title of every page that ``bench compare`` wrote, by title."""
    found = []
    for path in (reports_folder / "compare").glob("*/index.html"):
        head = path.read_text(encoding="utf-8", errors="replace")[:2000]
        title = re.search("<title>(.*?) · ", head, re.DOTALL)
        found.append((path.parent.name, html.unescape(title[1]) if title else path.parent.name))
    return sorted(found, key=lambda pair: pair[1])


def _entry(folder: Path, reports_folder: Path) -> IndexEntry:
    try:
        context = ReportContext(load_experiment(folder))
        counts = {s: sum(c["status"] == s for c in context.experiment.cells) for s in ("done", "failed")}
        settings = context.settings
        return IndexEntry(
            name=folder.name,
            updated=str(context.manifest.get("updated", "")),
            data=context.data["title"],
            size=f"{settings['size']} px",
            masks=", ".join(settings["masks"]),
            preset=settings["preset"],
            seeds=", ".join(str(s) for s in settings["seeds"]),
            cells=f"{counts['done']} done" + (f", {counts['failed']} failed" if counts["failed"] else ""),
            headline=short_headline(context),
            has_page=(reports_folder / folder.name / "index.html").is_file(),
        )
    except ExperimentError as error:
        return IndexEntry(name=folder.name, problem=str(error))
    except (KeyError, TypeError) as error:
        problem = f"the manifest is incomplete ({error}); run the command again"
        return IndexEntry(name=folder.name, problem=problem)
