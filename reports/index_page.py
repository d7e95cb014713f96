"""``reports/index.html``: a table of all experiments, newest first, and the comparisons of them.

Hundreds of experiments are listed in well under a second: a line is made from the manifest alone where that decides
it, and kept beside the page until the manifest changes. What is kept is a copy: a line counts for the manifest of whose
bytes it was made, and all of them only while they are what was written.
"""

from __future__ import annotations

import hashlib
import html
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from reports.claims.paper import MASK as PAPER_MASK
from reports.context import ReportContext, list_methods, unique_labels
from reports.page import render_page, write_page
from reports.results.experiment import ExperimentError, load_experiment
from reports.results.manifest import SEAL, ManifestError, manifest_checksum, read_manifest, trained_seeds
from reports.results.metric_info import MetricInfo
from reports.results.regular_file import open_regular, read_bytes, read_text
from reports.results.title import read_title
from reports.sections.headline import baseline_above, short_headline
from reports.statistics.intervals import MIN_SEEDS

#: Lines kept between calls; beside the page, and safe to delete.
CACHE = ".index-cache.json"
#: Increased whenever lines are made or kept differently, so that none of an older version is shown.
_CACHE_VERSION = 5


@dataclass(frozen=True)
class IndexEntry:
    """A line of the table. ``problem`` says why an experiment could not be read; the rest is then empty.

    Attributes:
        name: the experiment's folder.
        updated: when its results last changed, ISO 8601.
        data: title of the data set.
        size: side of the images in pixels.
        masks: evaluated on.
        preset: of the settings.
        images_seen: training budget.
        seeds: of the trainings.
        models: trained models with results.
        done, failed: numbers of cells.
        best: mean of the best trained model (else baseline) in the headline's metric.
        headline: in one line.
        problem: why it could not be read.
        title: heading of its page where it has one of its own.
    """

    name: str
    updated: str = ""
    data: str = ""
    size: int = 0
    masks: list[str] = field(default_factory=list)
    preset: str = ""
    images_seen: int = 0
    seeds: list[int] = field(default_factory=list)
    models: list[str] = field(default_factory=list)
    done: int = 0
    failed: int = 0
    best: float | None = None
    headline: str = ""
    problem: str = ""
    title: str = ""


def render_index(folders: Iterable[Path], reports_folder: Path) -> Path:
    """Write ``reports_folder/index.html`` from the manifests of the experiments in ``folders``, atomically.

    An experiment that cannot be read is listed with the reason. Links lead to ``<experiment>/index.html``
    where that page has been rendered, and to every page of ``compare/``.

    Returns:
        The page's path.
    """
    cached, kept, entries = _read_cache(reports_folder), {}, []
    for folder in folders:
        try:
            signature = hashlib.sha256(read_bytes(folder / "manifest.json")).hexdigest()
        except FileNotFoundError:  # removed in the meantime
            continue
        except OSError:
            signature = ""  # of no line that is kept: making one says why
        entry = cached.get(folder.name, {}).get(signature)
        if entry is None:
            entry = make_entry(folder)
        # Not kept with the line: a title changes without the manifest.
        entries.append(replace(entry, title=read_title(folder)))
        # A problem may be one of other files, and be gone while the manifest is the same.
        if not entry.problem:
            kept[entry.name] = {"signature": signature, "entry": asdict(entry)}
    # ISO 8601 times in one time zone sort as texts.
    entries.sort(key=lambda entry: entry.updated, reverse=True)
    pages = {path.parent.name for path in reports_folder.glob("*/index.html")}
    context = {"entries": entries, "pages": pages, "comparisons": _comparisons(reports_folder)}
    lines = {"version": _CACHE_VERSION, "entries": kept}
    write_page(reports_folder / CACHE, json.dumps({**lines, SEAL: manifest_checksum(lines)}))
    return write_page(reports_folder / "index.html", render_page("index.html.j2", context))


def _read_cache(reports_folder: Path) -> dict[str, dict[str, IndexEntry]]:
    """Return the kept lines by name and signature; a cache that is missing, damaged or edited is empty."""
    try:
        content = json.loads(read_text(reports_folder / CACHE))
        if content["version"] != _CACHE_VERSION or content[SEAL] != manifest_checksum(content):
            return {}
        return {
            name: {kept["signature"]: IndexEntry(**kept["entry"])}
            for name, kept in content["entries"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _comparisons(reports_folder: Path) -> list[tuple[str, str]]:
    """Return folder and title of every page that ``bench compare`` wrote, by title."""
    found = []
    for path in (reports_folder / "compare").glob("*/index.html"):
        # The title is near the top; pages of megabytes are not read whole.
        try:
            with open_regular(path) as file:
                head = file.read(2000).decode("utf-8", "replace")
        except OSError:  # removed in the meantime, or no file
            continue
        title = re.search("<title>(.*?) · ", head, re.DOTALL)
        found.append((path.parent.name, html.unescape(title[1]) if title else path.parent.name))
    return sorted(found, key=lambda pair: pair[1])


def make_entry(folder: Path) -> IndexEntry:
    """Make the line of one experiment; whatever is wrong with it becomes the line's ``problem``."""
    try:
        manifest = read_manifest(folder / "manifest.json")
        cells, settings = manifest["cells"], manifest["settings"]
        quick = _from_numbers(manifest)
        if quick is None:
            context = ReportContext(load_experiment(folder))
            best, headline = None, short_headline(context)
        else:
            best, headline = quick
        done = [c for c in cells if c["status"] == "done"]
        return IndexEntry(
            name=folder.name,
            updated=str(manifest.get("updated", "")),
            data=str(manifest["data"]["title"]),
            size=int(settings["size"]),
            masks=[str(mask) for mask in settings["masks"]],
            preset=str(settings["preset"]),
            images_seen=int(settings["images_seen"]),
            seeds=trained_seeds(manifest),
            models=_trained_labels(cells),
            done=len(done),
            failed=sum(c["status"] == "failed" for c in cells),
            best=best,
            headline=headline,
        )
    except (ExperimentError, ManifestError) as error:
        return IndexEntry(name=folder.name, problem=str(error))
    except (KeyError, TypeError, ValueError) as error:
        problem = f"the manifest is incomplete ({error}); run the command again"
        return IndexEntry(name=folder.name, problem=problem)
    except Exception as error:  # one experiment never breaks the page of all others
        problem = f"cannot be shown ({type(error).__name__}: {error})"
        return IndexEntry(name=folder.name, problem=problem)


def _trained_labels(cells: list[dict[str, Any]]) -> list[str]:
    """List the trained models with results, in the order of every table."""
    methods = list_methods(cells, unique_labels(cells))
    return list(dict.fromkeys(str(m.done[0]["label"]) for m in methods if m.trained and m.done))


def _from_numbers(manifest: Mapping[str, Any]) -> tuple[float | None, str] | None:
    """Return best mean and headline from the means in the manifest, without a look at the rows.

    ``None`` where the headline depends on the rows: where at least two models have the three trainings without which no
    pair is decided, or an older manifest keeps no means.
    """
    done = [c for c in manifest["cells"] if c["status"] == "done"]
    mask = next(
        (m for m in (PAPER_MASK, *manifest["settings"]["masks"]) if any(c["mask"] == m for c in done)), None
    )
    if mask is None:
        return None, "No results yet."
    labels = unique_labels(manifest["cells"])
    means: dict[tuple[bool, str], list[float]] = defaultdict(list)
    for cell in done:
        if cell["mask"] == mask:
            number = (cell["evaluation"].get("numbers") or {}).get("psnr_db") or {}
            if not isinstance(number.get("mean"), float) or math.isnan(number["mean"]):
                return None
            key = (bool(cell["trained"]), labels[cell["model"], cell["label"], cell["train_mask"]])
            means[key].append(number["mean"])
    trained = {label: values for (is_trained, label), values in means.items() if is_trained}
    # With two models of three trainings a pair may be decided, which takes the rows.
    if sum(len(values) >= MIN_SEEDS for values in trained.values()) > 1:
        return None
    averages = {label: sum(values) / len(values) for (_, label), values in means.items()}
    # PSNR, of which higher is better.
    first = max(averages, key=lambda label: averages[label])
    best = max(trained or averages, key=lambda label: averages[label])
    metric = MetricInfo.from_record("psnr_db", manifest["metrics"].get("psnr_db", {}))
    score, bar = (f"{metric.format_value(averages[label])} {metric.unit}" for label in (best, first))
    if not trained:
        return averages[best], f"{best} is the best baseline with {score}."
    above = "" if first == best else baseline_above(first, bar)
    if len(trained) == 1:
        return averages[best], f"{best} has {score}.{above}"
    return averages[best], f"{best} is highest with {score}; the ranking is noise.{above}"
