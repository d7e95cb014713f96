"""Set-up and provenance: all that is needed to doubt the numbers, or to make them again."""

from __future__ import annotations

import shlex
from typing import Any

from reports.context import MethodView, MetricView, ReportContext
from reports.sections import ReportSection
from reports.statistics.identity_leak import identity_leak

#: Facts of the data that are shown apart.
_LISTED = ("skipped", "duplicates", "unseen_identities")


#: What a page calls the fields of a manifest whose own names lack a unit, or say little to a stranger.
SETTING_NAMES = {
    "size": "size (px)",
    "batch": "batch (images)",
    "micro_batch": "micro-batch (images)",
    "cuda_graphs": "CUDA graphs",
    "train_images": "training images used",
    "train_mask": "training mask",
    "evaluate_on": "evaluated on",
    "mask_bank": "training masks drawn",
    "report_every": "losses read every (steps)",
    "validate_every": "validated every (steps)",
    "checkpoint_every": "checkpoint every (steps)",
    "pictures": "images kept",
}
DATA_NAMES = {
    "claims_dataset": "data of the paper’s claims",
    "train": "training images",
    "validation": "validation images",
    "test": "test images",
    "evaluated": "images evaluated",
    "fingerprint": "fingerprint (SHA-256)",
    "shared_identities": "test persons in training",
    "unnamed_images": "images of unknown persons",
}
HARDWARE_NAMES = {
    "cpu": "CPU",
    "gpu": "GPU",
    "memory_gib": "memory (GiB)",
    "gpu_memory_gib": "GPU memory (GiB)",
}


def build_setup(context: ReportContext) -> dict[str, Any]:
    """Build the view of ``sections/setup.html.j2``."""
    m = context.manifest
    data = m["data"]
    return {
        "commands": [
            # Older manifests hold the last command only.
            shlex.join(str(part) for part in c)
            for c in m.get("commands") or [m.get("command", [])]
        ],
        "numerics": _numerics(context),
        "protocol": m.get("protocol"),
        "protocol_applies": (m.get("protocol") or {}).get("data") == data.get("name"),
        "settings": [(SETTING_NAMES.get(k, k), plain_value(v)) for k, v in m["settings"].items()],
        "data": [(DATA_NAMES.get(k, k), plain_value(v)) for k, v in data.items() if k not in _LISTED],
        "duplicates": data.get("duplicates"),
        "leak": build_identity_leak(context),
        "masks": [_mask(context, name, about) for name, about in m["masks"].items()],
        "training_masks": sorted(m.get("training_masks", {}).items()),
        "software": sorted(m.get("software", {}).items()),
        "hardware": [
            (HARDWARE_NAMES.get(k, k), plain_value(v))
            for k, v in m.get("hardware", {}).items()
            # Versions stand among the software.
            if k not in m.get("software", {})
        ],
        "commit": plain_value(m.get("commit")),
        "created": m.get("created", ""),
        "updated": m.get("updated", ""),
        "configs": _configs(context),
        "configured": [x for x in context.methods if _config(x)],
        "deviations": _ambiguities(context, deviation=True),
        "gaps": _ambiguities(context, deviation=False),
        "models": [x for x in context.methods if x.cells[0].get("summary") or x.cells[0].get("paper")],
    }


def _mask(context: ReportContext, name: str, about: dict[str, Any]) -> dict[str, str]:
    ratio = context.hole_ratio(name)
    percent = "–" if ratio is None else f"{100 * ratio:.2f}"
    # As of the data, what was seen in a folder of masks and is not used stands beside what was.
    words = "; ".join([about.get("summary", ""), *about.get("notes", [])])
    return {"name": name, "summary": words, "percent": percent, "digest": about["digest"]}


def _numerics(context: ReportContext) -> list[tuple[str, list[tuple[str, str]]]]:
    """List where cells were computed: what can change their last digits, with the cells it holds for.

    One entry where all agree; else one for each set-up, naming its methods with their masks.
    """
    grouped: dict[str, tuple[dict[str, list[str]], dict[str, Any]]] = {}
    for method in context.methods:
        for cell in method.done:
            if numerics := cell.get("where", cell.get("numerics")):
                # A dictionary is no key; its sorted text is.
                held, _ = grouped.setdefault(repr(sorted(numerics.items())), ({}, numerics))
                held.setdefault(method.label, []).append(cell["mask"])
    alone = len(grouped) == 1
    return [
        (
            "Every cell"
            if alone
            else "; ".join(f"{k} on {', '.join(dict.fromkeys(v))}" for k, v in held.items()),
            [(k, plain_value(v)) for k, v in numerics.items()],
        )
        for held, numerics in grouped.values()
    ]


def _config(method: MethodView) -> dict[str, Any]:
    config: dict[str, Any] = method.cells[0]["config"]
    return config


def _configs(context: ReportContext) -> list[dict[str, Any]]:
    """List the fields of the models' configs, those that differ first.

    Each has a ``name``, one value per model (``None`` where it has no such field), and whether they differ.
    """
    methods = [m for m in context.methods if _config(m)]
    names = list(dict.fromkeys(name for m in methods for name in _config(m)))
    rows = []
    for name in names:
        values = [plain_value(_config(m)[name]) if name in _config(m) else None for m in methods]
        known = {v for v in values if v is not None}
        rows.append({"name": name, "values": values, "differs": len(known) > 1 or None in values})
    # False sorts before True, and stable sorting keeps the order of the fields.
    return sorted(rows, key=lambda row: not row["differs"])


def _ambiguities(context: ReportContext, *, deviation: bool) -> list[tuple[str, list[dict[str, Any]]]]:
    """Map labels to their ambiguities of one kind; variants of a model that share all of them are named together."""
    grouped: dict[str, tuple[list[str], list[dict[str, Any]]]] = {}
    for method in context.methods:
        # All cells of a method have the same ambiguities.
        cell = method.cells[0]
        # Experiments of earlier versions call them "resolutions".
        found = cell.get("ambiguities", cell.get("resolutions", []))
        own = [a for a in found if bool(a.get("deviation", False)) is deviation]
        if own:
            labels, _ = grouped.setdefault(repr(own), ([], own))
            labels.append(method.label)
    return [(", ".join(labels), own) for labels, own in grouped.values()]


def plain_value(value: Any) -> str:
    """Write a value of a manifest as a reader expects it.

    >>> [plain_value(v) for v in (None, True, 162770, 0.0004, ["center", "shapes"], {"a": 1})]
    ['–', 'yes', '162,770', '0.0004', 'center, shapes', 'a = 1']
    """
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(plain_value(v) for v in value) or "none"
    if isinstance(value, dict):
        return ", ".join(f"{k} = {plain_value(v)}" for k, v in value.items()) or "none"
    if isinstance(value, int) and abs(value) >= 10_000:
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else str(value)


# What the split leaks: people of the test images who are in training too, and what that is worth.


def build_identity_leak(context: ReportContext) -> dict[str, Any] | None:
    """Build the view of ``sections/leak.html.j2``; ``None`` where no person is in training, or persons are unknown.

    ``lines`` is empty where everybody is known, so that there is nothing to compare.
    """
    new = context.data.get("unseen_identities")
    if new is None or not len(context.rows):
        return None
    known = int(context.rows.drop_duplicates("image_id")["identity"].notna().sum())
    if not known:
        return None  # a list of identities that names no test image says nothing of them
    if not new:
        images = context.rows["image_id"].nunique()
        return {"lines": [], "known": known, "unnamed": images - known}
    metrics = {m.name: m for m in context.measured if m.group == "primary"}
    table = identity_leak(context.rows, list(metrics), new)
    if table.empty:
        return None
    lines = []
    for line in table.to_dict("records"):
        metric = metrics[line["metric"]]
        lines.append(
            {
                "mask": line["mask"],
                "method": context.by_label[line["label"]],
                "metric": f"{metric.title} {metric.arrow}",
                "known": metric.show(line["known"]),
                "new": metric.show(line["new"]),
                "difference": _interval(metric, line["difference"], line["low"], line["high"]),
                "net": _interval(metric, line["net"], line["net_low"], line["net_high"]),
            }
        )
    return {"counts": table.iloc[0].to_dict(), "reference": table["reference"].iloc[0], "lines": lines}


def _interval(metric: MetricView, value: float, low: float, high: float) -> str:
    limits = ", ".join(metric.show(limit, sign=True) for limit in (low, high))
    return f"{metric.show(value, sign=True)} [{limits}]"


SECTION = ReportSection("setup", "Set-up", 90, build_setup)
