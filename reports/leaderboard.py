"""A leaderboard: one static, sortable page of what many experiments measured, each row with who computed it on what."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports.claims.paper import MASK, published_value
from reports.context import method_places
from reports.page import render_page, write_page
from reports.results.experiment import Experiment, cell_title
from reports.results.manifest import SEAL, digests_all, is_claims_dataset, manifest_checksum
from reports.results.metric_info import MetricInfo
from reports.results.regular_file import read_text
from reports.results.schema import cell_numbers, read_rows
from reports.statistics.summary import method_name, summarize, summarize_distribution_metrics


@dataclass(frozen=True)
class LeaderboardRow:
    """One method of one experiment on one mask.

    The same model computed in two places is two rows: nothing is averaged over machines.

    Attributes:
        model: the method as tables show it.
        experiment: what it is from.
        protocol: data, size, crop, split, number of images and budget, in words.
        mask: evaluated on.
        seeds: number of trainings.
        values: metric -> mean, low, high; limits are NaN where there is no interval.
        reported: metric -> the paper's own number, where it is of these images and this mask.
        computed_on: device, versions, commit, precision and threads; of each part that the row's trainings are from.
        computed_by: who says to have computed it; empty where nobody does.
        date: when it was computed.
        reproduced: what came of ``bench reproduce``, of which of the row's cells.
    """

    model: str
    experiment: str
    protocol: str
    mask: str
    seeds: int
    values: dict[str, tuple[float, float, float]]
    reported: dict[str, float]
    computed_on: str
    computed_by: str
    date: str
    reproduced: str


def leaderboard_rows(experiment: Experiment) -> list[LeaderboardRow]:
    """Make the rows of one experiment, a method and mask each."""
    manifest = experiment.manifest
    metrics = [name for name, info in experiment.metrics.items() if info.group == "primary"]
    summary = summarize(experiment.rows, metrics)
    sets = summarize_distribution_metrics(experiment.cells)
    protocol, places = _protocol(manifest), method_places(experiment)
    date, verdicts = str(manifest.get("updated", manifest["created"]))[:10], _verdicts(experiment)
    found = []
    # As asked for; masks of cells that were merged or imported follow.
    asked = [mask for mask in manifest["settings"].get("masks", []) if mask in experiment.masks]
    for mask in dict.fromkeys([*asked, *experiment.masks]):
        part = summary[summary["mask"] == mask]
        methods = part.groupby(["label", "train_mask"], sort=False, observed=True)
        # Rows stand in the order in which they were computed or merged.
        for (label, train_mask), lines in sorted(methods, key=lambda method: places[method[0]]):
            own_sets = sets
            if len(sets):
                own = (sets["mask"] == mask) & (sets["label"] == label) & (sets["train_mask"] == train_mask)
                own_sets = sets[own]
            values = {
                str(line["metric"]): (float(line["mean"]), float(line["low"]), float(line["high"]))
                for table in (lines, own_sets)
                for line in table.to_dict("records")
                if not math.isnan(line["mean"])
            }
            model = str(lines["model"].iloc[0])
            cells = [c for c in experiment.done(mask) if _is_of(c, label, train_mask)]
            parts = _parts(manifest, cells)
            # Published numbers are of CelebA and the center mask, and stand beside nothing else.
            reported = {}
            if mask == MASK and is_claims_dataset(manifest["data"]):
                numbers = {metric: published_value(model, metric) for metric in metrics}
                reported = {metric: number for metric, number in numbers.items() if number is not None}
            found.append(
                LeaderboardRow(
                    model=method_name(part, label, train_mask),
                    mask=mask,
                    seeds=int(lines["n_seeds"].max()),
                    values=values,
                    reported=reported,
                    experiment=experiment.name,
                    protocol=protocol,
                    computed_on="; ".join(dict.fromkeys(_computed_on(*part) for part in parts)),
                    computed_by="; ".join(
                        dict.fromkeys(about["computed_by"] for about, _ in parts if about.get("computed_by"))
                    ),
                    date=date,
                    reproduced=_reproduced([verdicts[cell["folder"]] for cell in cells]),
                )
            )
    return found


def render_leaderboard(
    experiments: Sequence[Experiment], problems: Sequence[tuple[str, str]], path: Path
) -> Path:
    """Write the page; entries that failed their checks are listed with the reason, not shown as rows.

    Args:
        experiments: whose rows are shown.
        problems: (entry, reason) of those that failed.
        path: of the page.
    """
    rows = [row for experiment in experiments for row in leaderboard_rows(experiment)]
    infos: dict[str, MetricInfo] = {}
    for experiment in experiments:
        # Where several experiments describe a metric, the first one's words stand.
        infos |= {name: info for name, info in experiment.metrics.items() if name not in infos}
    shown = [info for name, info in infos.items() if any(name in row.values for row in rows)]
    values = {"rows": rows, "metrics": shown, "problems": problems}
    return write_page(path, render_page("leaderboard.html.j2", values))


def _protocol(manifest: dict[str, Any]) -> str:
    data, settings = manifest["data"], manifest["settings"]
    evaluated = f"{data['evaluated']:,} {settings.get('evaluate_on', 'test')} images"
    parts = [data["title"], f"{settings['size']} px", f"crop {settings.get('crop', 'center')}"]
    parts += [f"split {data.get('split', 'unknown')}", evaluated, f"track {settings.get('track', 'unknown')}"]
    named = f"{manifest['protocol']['name']}: " if manifest.get("protocol") else ""
    return named + ", ".join([*parts, f"{settings['images_seen']:,} images seen"])


def _is_of(cell: Mapping[str, Any], label: object, train_mask: object) -> bool:
    return bool(cell["label"] == label and cell["train_mask"] == train_mask)


def _parts(
    manifest: dict[str, Any], cells: Sequence[Mapping[str, Any]]
) -> list[tuple[Mapping[str, Any], list[Mapping[str, Any]]]]:
    """Pair what describes where cells were computed, the manifest or parts that it was merged from, with its cells."""
    merged = manifest.get("merged", [])
    numbers = dict.fromkeys(cell.get("part") for cell in cells)
    # Earlier versions merged without saying which cell is from where: all that is known is the first's.
    if not merged or not all(n is not None and 0 <= n < len(merged) for n in numbers):
        return [(manifest, list(cells))]
    return [(merged[n], [c for c in cells if c["part"] == n]) for n in numbers if n is not None]


#: What of a cell's own record of its machine is shown beside the device and the versions.
_SHOWN = ("precision", "threads", "instruction_set", "processes")


def _computed_on(manifest: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> str:
    hardware, software = manifest.get("hardware", {}), manifest.get("software", {})
    device = hardware.get("gpu") or hardware.get("cpu") or hardware.get("device") or "unknown hardware"
    parts = [str(device), f"torch {software.get('torch', 'unknown')}"]
    parts += [f"commit {manifest['commit']}"] if manifest.get("commit") else []
    places = [place for cell in cells if isinstance(place := cell.get("where"), dict)]
    for name in _SHOWN:
        values = dict.fromkeys(str(place[name]) for place in places if name in place)
        parts += [f"{name.replace('_', ' ')} {' and '.join(values)}"] if values else []
    return ", ".join(parts)


def _verdicts(experiment: Experiment) -> dict[str, set[str]]:
    """Return the verdicts of ``bench reproduce --json`` on each cell's own numbers, by its folder, where they are kept.

    None on any cell where the outcome has a number that no cell has.
    """
    # Experiments whose rows have a digest were made by versions whose outcomes have a checksum.
    outcome = _sealed_outcome(experiment.folder, older=not digests_all(experiment.cells))
    recorded = {cell["folder"]: _recorded(experiment, cell) for cell in experiment.done()}
    verdicts: dict[tuple[Any, ...], str] = {}
    # Kept by whoever reproduced it, so anything may stand in it.
    with contextlib.suppress(KeyError, TypeError, AttributeError):
        verdicts = {_number(number): str(number["verdict"]) for number in outcome.get("numbers", [])}
    if not verdicts.keys() <= set().union(*recorded.values()):
        return {folder: set() for folder in recorded}
    return {folder: {verdicts[n] for n in numbers & verdicts.keys()} for folder, numbers in recorded.items()}


def _reproduced(verdicts: Sequence[set[str]]) -> str:
    """Say what came of computing the cells of a row again: one verdict on each number of each cell."""
    # A metric that could not be measured there says nothing.
    tried = [of_cell for cell in verdicts if (of_cell := cell - {"not measured"})]
    if not tried:
        return "not tried"
    if not set().union(*tried) <= {"equal", "within"}:
        return "no: numbers differ"
    how = ", within a tolerance" if any("within" in of_cell for of_cell in tried) else ""
    return f"yes{how}" if len(tried) == len(verdicts) else f"{len(tried)} of {len(verdicts)} trainings{how}"


def _sealed_outcome(folder: Path, *, older: bool) -> dict[str, Any]:
    """Read ``reproduction.json`` as it was printed; empty where it is missing, damaged or edited.

    With ``older`` one of earlier versions is read too, which printed no checksum and nothing but what stands below.
    """
    try:
        outcome = json.loads(read_text(folder / "reproduction.json"))
        is_older = older and outcome.keys() <= {"reproduced", "folder", "numbers"}
        return outcome if is_older or outcome.get(SEAL) == manifest_checksum(outcome) else {}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}


def _number(number: Mapping[str, Any]) -> tuple[Any, ...]:
    return number["cell"], number["metric"], number["recorded"]


def _recorded(experiment: Experiment, cell: Mapping[str, Any]) -> set[tuple[Any, ...]]:
    """Return the means of a finished cell, under the name that ``bench reproduce`` gives it."""
    title, evaluation = cell_title(cell), cell["evaluation"]
    numbers = evaluation.get("numbers")
    if numbers is None:  # manifests of earlier versions keep them beside it
        numbers = cell_numbers(read_rows(experiment.folder / cell["folder"] / "results.parquet"))
    found = {(title, name, number["mean"]) for name, number in numbers.items()}
    return found | {(title, name, score["value"]) for name, score in (evaluation.get("sets") or {}).items()}
