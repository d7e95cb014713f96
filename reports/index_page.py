"""``reports/index.html``: every experiment with its headline, newest first, and the comparisons."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from pathlib import Path

from reports.results.experiment import ExperimentError, load_experiment
from reports.render import render, write_page
from reports.context import Page
from reports.sections.headline import short


@dataclass(frozen=True)
class Entry:
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
    return write_page(reports_folder / "index.html", render("index.html.j2", context))


def _comparisons(reports_folder: Path) -> list[tuple[str, str]]:
    """Folder and title of every page that ``bench compare`` wrote, by title."""
    found = []
    for path in (reports_folder / "compare").glob("*/index.html"):
        title = re.search(
            "<title>(.*?) · ", path.read_text(encoding="utf-8", errors="replace")[:2000], re.DOTALL
        )
        found.append((path.parent.name, html.unescape(title[1]) if title else path.parent.name))
    return sorted(found, key=lambda pair: pair[1])


def _entry(folder: Path, reports_folder: Path) -> Entry:
    try:
        page = Page(load_experiment(folder))
        counts = {s: sum(c["status"] == s for c in page.experiment.cells) for s in ("done", "failed")}
        settings = page.settings
        return Entry(
            name=folder.name,
            updated=str(page.manifest.get("updated", "")),
            data=page.data["title"],
            size=f"{settings['size']} px",
            masks=", ".join(settings["masks"]),
            preset=settings["preset"],
            seeds=", ".join(str(s) for s in settings["seeds"]),
            cells=f"{counts['done']} done" + (f", {counts['failed']} failed" if counts["failed"] else ""),
            headline=short(page),
            has_page=(reports_folder / folder.name / "index.html").is_file(),
        )
    except ExperimentError as error:
        return Entry(name=folder.name, problem=str(error))
    except (KeyError, TypeError) as error:
        return Entry(name=folder.name, problem=f"the manifest is incomplete ({error}); run the command again")
