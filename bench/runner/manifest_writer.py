"""``manifest.json``: what an experiment is and how far it has come. Written after every cell."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
from numpy.typing import NDArray

import masks.bank
import masks.folder
import masks.registry
from bench import provenance
from bench.config import RunConfig
from bench.data.dataset import unseen_identities
from bench.errors import UsageError
from bench.evaluation.metrics import list_metrics
from bench.protocols import find_protocol
from bench.runner.cell_entries import machines_of, refuse_shared_labels, replaces
from bench.runner.context import RunContext
from bench.runner.keys import as_json
from bench.runner.other_people import cells_of_other_people, describe_cells_of_other_people
from bench.runner.plan import Plan, train_mask_names
from bench.runner.prepare import PreparedRun
from bench.runner.run_folder import (
    DamagedManifestError,
    RunFolder,
    atomic_write,
    read_checked_json,
    utc_timestamp,
)
from reports.results.attributes import attribute_table, attributes_digest, read_attributes
from reports.results.manifest import CONFIG, PICTURES, digests_all
from reports.results.recorded_files import ATTRIBUTES_SHA256
from reports.results.schema import EXTERNAL

#: What ``cell.json`` holds besides the manifest's entry of the cell.
CELL_RECORD = ("key", "metrics", "setup")
#: Settings in which the cells of one experiment may differ; in all others they agree.
_MAY_DIFFER = {
    "seeds",
    "split",  # the fingerprint of the data says what it came to
    "train_mask",
    "metrics",
    "samples_per_image",  # each cell says how many it has
    "report_every",
    "validate_every",
    "checkpoint_every",
}


class Manifest:
    """The manifest in memory, and on disk after every change.

    Args:
        store: the experiment's folder.
        value: the manifest.
        where: where this run computes (:attr:`bench.runner.context.RunContext.where`); ``None`` where other machines
            compute its cells, or it computes none.
    """

    def __init__(
        self, store: RunFolder, value: dict[str, Any], where: Mapping[str, Any] | None = None
    ) -> None:
        self.store, self.value, self._where = store, value, where
        self._is_behind = False

    def elsewhere(self) -> list[str]:
        """Return the labels of finished cells that were computed with other software or hardware than this run's.

        Images of other programs are not among them: no run can compute them. A head computes nothing: its cells are
        compared with the first of them.
        """
        done = [c for c in self.value["cells"] if c["status"] == "done" and c["train_mask"] != EXTERNAL]
        first = next((place for cell in done for place in machines_of(cell)), None)
        here = first if self._where is None else self._where
        return sorted({c["label"] for c in done if any(w != here for w in machines_of(c))})

    def add(self, entry: dict[str, Any], *, stored: bool = False) -> None:
        """Add a cell; it replaces an earlier one of the same model, mask, training mask and seed.

        A model that does not import has no training mask: it replaces, and is replaced by, any.

        Args:
            entry: the cell.
            stored: its files were there before this run, which would find them again: it is written with the next one,
                or by :meth:`catch_up`. Writing the whole manifest for each of 500 such cells took minutes.
        """
        cells = [c for c in self.value["cells"] if not replaces(entry, c)]
        self.value["cells"] = [*cells, entry]
        if stored:
            self._is_behind = True
        else:
            # At once and not at the end: a killed run keeps every cell that it has announced as done.
            self._write()

    def catch_up(self) -> None:
        """Write what was added as ``stored``, before anything that takes long."""
        if self._is_behind:
            self._write()

    def _write(self) -> None:
        self.store.write_manifest(self.value)
        self._is_behind = False

    def add_planned(self, plan: Plan) -> None:
        """Record the cells that are to come, so that ``bench status`` knows what is missing."""
        planned = [
            {"model": c.model, "label": c.label, "mask": c.mask, "train_mask": c.train_mask, "seed": c.seed}
            for c in plan.cells
        ]
        # Kept from earlier commands: an experiment may grow by several, and each planned its own part.
        before = [c for c in self.value.get("planned", []) if c not in planned]
        self.value["planned"] = [*before, *planned]
        self._write()

    def add_mask(self, name: str, drawn: NDArray[np.uint8], pictures: str | None = None) -> None:
        """Describe the masks that were drawn for a name.

        Args:
            name: of the mask.
            drawn: ``(N, H, W)``, 1 = hole.
            pictures: digest of the images that were stored with it; by default, of those that were stored before.
        """
        pictures = pictures or self.value["masks"].get(name, {}).get(PICTURES)
        notes = masks.folder.folder_notes(name, drawn.shape[1])
        self.value["masks"][name] = {
            **({PICTURES: pictures} if pictures else {}),
            "digest": masks.bank.masks_digest(drawn),
            "mean_hole_ratio": float(drawn.mean()),
            "summary": masks.registry.mask_info(name).summary,
            **({"notes": notes} if notes else {}),
        }

    def finish(self, plan: Plan) -> None:
        """Put the cells into table order."""
        # Backwards, so that the first place of a model counts where it has several.
        order = {cell.model: i for i, cell in reversed(list(enumerate(plan.cells)))}
        self.value["cells"].sort(key=lambda c: (order.get(c["model"], len(order)), c["mask"], c["seed"]))
        self._tell_where_others_computed()
        self._write()

    def _tell_where_others_computed(self) -> None:
        """Of a run whose cells other machines computed, put what these agree on in the place of the head's own."""
        done = [c for c in self.value["cells"] if c["status"] == "done" and c["train_mask"] != EXTERNAL]
        places = [place for cell in done for place in machines_of(cell)]
        if self._where is not None or not places:
            return
        agreed = {k: v for k, v in places[0].items() if all(place.get(k) == v for place in places)}
        self.value["hardware"] = {"computed by": "jobs of a scheduler", **agreed}
        if self.value["settings"]["precision"] == "auto" and "precision" in agreed:
            self.value["settings"]["precision"] = agreed["precision"]


def open_or_create(prepared: PreparedRun) -> Manifest:
    """Return the experiment's manifest with this run's set-up, written to disk.

    A manifest that is damaged or missing is rebuilt from the cells.

    Raises:
        UsageError: the folder holds results of another set-up, or two models have one label.
    """
    context = prepared.context
    store, request = context.store, context.request
    old = _read_or_rebuild(prepared)
    settings = {
        **request.settings.as_dict(),
        "masks": list(request.masks),
        "models": list(request.models),
        "precision": context.precision,
        "pictures": request.pictures,
    }
    methods = [(cell.model, cell.label) for cell in prepared.plan.cells]
    if old is not None:
        if differing := _differing(old, context):
            raise UsageError(
                f"{store.folder} holds results of another set-up ({', '.join(differing)} differ); "
                "give another --name"
            )
        methods += [(cell["model"], cell["label"]) for cell in old["cells"]]
        # Settings of the last command alone would hide models and masks that earlier ones have added.
        for kind in ("models", "masks"):  # what the cells hold, whichever command added them
            held = [cell[kind[:-1]] for cell in old["cells"] if cell["train_mask"] != EXTERNAL]
            settings[kind] = list(dict.fromkeys([*held, *settings[kind]]))
        _warn_of_other_people(prepared, old)
    refuse_shared_labels(methods)
    options = {**request.options, "name": store.name} if request.options else {}
    before = old or {}
    command = list(request.command)
    value = {
        # Creation, commands and earlier cells are carried over; the rest describes the run of now.
        "experiment": store.name,
        "created": before.get("created", utc_timestamp()),
        "command": command,
        "settings": settings,
        "data": _describe_data(prepared, before),
        "software": provenance.software_versions(),
        "hardware": {**provenance.hardware_info(), **context.compute.numerics()},
        # Each command once, in the order of its last use.
        "commands": [*(c for c in before.get("commands", []) if c != command), command],
        "options": [*(o for o in before.get("options", []) if o != options), options],
        "commit": provenance.git_commit(),
        "masks": before.get("masks", {}),
        "planned": before.get("planned", []),
        "metrics": _describe_metrics(prepared.unavailable),
        "cells": before.get("cells", []),
    }
    # A later command that adds models need not repeat the protocol: its settings are the same, or it is refused.
    protocol = find_protocol(request.protocol).as_record() if request.protocol else before.get("protocol")
    if protocol:
        value["protocol"] = protocol
    if notes := {**before.get("training_masks", {}), **_training_mask_notes(prepared.plan, settings["size"])}:
        value["training_masks"] = notes
    # Only now, when the set-up has been found to be the same: nothing of another experiment is overwritten.
    store.write_manifest(value)
    if options:
        title = f"bench run --config {store.folder / CONFIG}: the options as resolved"
        text = options_as_toml(options, title)
        atomic_write(store.folder / CONFIG, lambda path: path.write_text(text, encoding="utf-8"))
    return Manifest(store, value, None if context.elsewhere else context.where)


def _warn_of_other_people(prepared: PreparedRun, old: Mapping[str, Any]) -> None:
    """Say which finished cells of earlier commands rest on another list of people, and are not measured again now."""
    planned = {(c.model, c.label, c.mask, c.train_mask, c.seed) for c in prepared.plan.cells}
    kept = [
        cell
        for cell in old["cells"]
        if tuple(cell[k] for k in ("model", "label", "mask", "train_mask", "seed")) not in planned
    ]
    others = cells_of_other_people(prepared.context.store.folder, kept, prepared.test_images)
    if others:
        prepared.context.callbacks.warn(describe_cells_of_other_people(others))


def _training_mask_notes(plan: Plan, size: int) -> dict[str, list[str]]:
    """Return what folders of training masks hold and do not use, where there is any."""
    names = {name for cell in plan.cells if cell.trained for name in train_mask_names(cell.train_mask)}
    notes = {name: masks.folder.folder_notes(name, size) for name in sorted(names)}
    return {name: of for name, of in notes.items() if of}


def cell_setup(context: RunContext) -> dict[str, Any]:
    """Return what all cells of an experiment share; each records it, so that the manifest can be rebuilt from them."""
    settings = {**context.request.settings.as_dict(), "precision": context.precision}
    shared = {name: value for name, value in settings.items() if name not in _MAY_DIFFER}
    return {"settings": shared, "data": context.data.fingerprint}


def _differing(old: Mapping[str, Any], context: RunContext) -> list[str]:
    """Name what a recorded set-up has otherwise than this run."""
    defaults = RunConfig().as_dict()  # of settings that the older program did not have
    setup = cell_setup(context)
    recorded = old["settings"]
    found = [
        name
        for name, value in setup["settings"].items()
        if not _agrees(name, recorded.get(name, defaults[name]), value)
    ]
    return [*found, "data"] if old["data"]["fingerprint"] != setup["data"] else found


def _agrees(name: str, recorded: Any, value: Any) -> bool:
    """Return whether a recorded setting is this run's; a head's precision may be ``auto``, which any answers."""
    return bool(recorded == value) or (name == "precision" and "auto" in (recorded, value))


def _read_or_rebuild(prepared: PreparedRun) -> dict[str, Any] | None:
    """Return the manifest on disk, or one rebuilt from the cells; ``None`` for a new experiment."""
    context = prepared.context
    store, warn = context.store, context.callbacks.warn
    try:
        manifest = store.read_manifest()
    except DamagedManifestError as error:
        kept = _free_name(store.manifest_path.with_name("manifest.damaged.json"))
        # Kept for whoever wants to know what happened, under a name that no reader looks for.
        store.manifest_path.replace(kept)
        warn(f"{error.args[0].split(';')[0]}; it is kept as {kept.name}, and is rebuilt from the cells")
        manifest = None
    if manifest is None and (bare := _cells_without_record(store)):
        warn(
            f"{store.folder}: {len(bare)} folders hold results without their record, such as {bare[0]}, and are left "
            "out; those of an import have none: import it again under another --name"
        )
    if manifest is None and (cells := _rebuilt_cells(context)):
        warn(f"{store.folder}: its manifest was rebuilt from {len(cells)} finished cells")
        setup = cell_setup(context)
        # Last those that know the images of their mask: a cell measured without pictures does not.
        ordered = sorted(cells, key=lambda cell: "pictures" in cell[1])
        setups = {entry["mask"]: held for entry, held in ordered if held.get("masks")}
        return {
            "settings": setup["settings"],
            "data": {"fingerprint": setup["data"]},
            "masks": {
                name: {
                    "digest": held["masks"],
                    "summary": masks.registry.mask_info(name).summary,
                    **({PICTURES: held["pictures"]} if "pictures" in held else {}),
                }
                for name, held in setups.items()
            },
            "cells": [entry for entry, _ in cells],
        }
    return manifest


def _free_name(path: Path) -> Path:
    """Return ``path``, or the first of ``NAME-2.SUFFIX``, ``NAME-3.SUFFIX`` ... that is not taken.

    >>> _free_name(Path("manifest.damaged.json")).name
    'manifest.damaged.json'
    """
    numbered = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in itertools.count(2))
    return next(name for name in itertools.chain([path], numbered) if not os.path.lexists(name))


def _cells_without_record(store: RunFolder) -> list[str]:
    """Name the folders of results from which no manifest can be rebuilt, below the experiment's."""
    paths = sorted(store.folder.glob("cells/*/results.parquet"))
    return [f"cells/{p.parent.name}" for p in paths if not (p.parent / "cell.json").exists()]


def _rebuilt_cells(context: RunContext) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Read the finished cells of this set-up in the folder, newest last, with what each records of it."""
    found: list[tuple[dict[str, Any], dict[str, Any]]] = []
    setup = cell_setup(context)
    # Empty files are what a power cut leaves on some file systems.
    paths = [p for p in context.store.folder.glob("cells/*/cell.json") if p.stat().st_size]
    # By time, so that of two cells of one name the newer replaces the older, as it did when they were
    # written.
    for path in sorted(paths, key=lambda p: p.stat().st_mtime):
        try:
            record = read_checked_json(path)
            held = record.get("setup")
            # Older cells do not say; their rows are checked when they are read.
            if held is not None and not _is_setup(held, as_json(setup)):
                context.callbacks.warn(f"{path.parent}: left out, since it is of another set-up")
                continue
            entry = {k: v for k, v in record.items() if k not in CELL_RECORD}
            earlier = [(e, s) for e, s in found if not replaces(entry, e)]
        # One damaged cell must not keep the others from being found.
        except (OSError, ValueError, KeyError, TypeError) as error:
            context.callbacks.warn(f"{path.parent}: left out, since it is damaged ({error})")
            continue
        found = [*earlier, (entry, held or {})]
    return found


def _is_setup(held: Mapping[str, Any], setup: Mapping[str, Any]) -> bool:
    """Return whether a cell's record of its set-up is ``setup``, as JSON holds it."""
    settings = held["settings"]
    return (
        held["data"] == setup["data"]
        and settings.keys() == setup["settings"].keys()
        and all(_agrees(name, settings[name], value) for name, value in setup["settings"].items())
    )


def _describe_data(prepared: PreparedRun, before: Mapping[str, Any]) -> dict[str, Any]:
    context, images = prepared.context, prepared.test_images
    data = context.data
    # Where the list of attributes has gone meanwhile, those of the earlier command stay beside the manifest.
    attributes = _recorded_attributes(context.store, before)
    if data.attributes:
        attributes = attributes_digest(attribute_table(images.ids, data.attributes))
    return {
        **({ATTRIBUTES_SHA256: attributes} if attributes else {}),
        "name": data.name,
        "title": data.title,
        "licence": data.license,
        "procedural": data.procedural,
        "claims_dataset": data.kind.claims_dataset,
        "aligned_faces": data.aligned_faces,
        "source": context.request.data,
        "train": len(data.train.ids),
        "validation": len(data.validation.ids),
        "test": len(data.test.ids),
        "evaluated": len(images.ids),
        "fingerprint": data.fingerprint,
        "split": data.split_name,
        "crop": data.crop,
        "skipped": [dataclasses.asdict(s) for s in data.skipped],
        "shared_identities": data.shared_identities,
        "unseen_identities": unseen_identities(images, data.train, context.request.settings.train_images),
        "unnamed_images": data.unnamed_images,
        "duplicates": [list(pair) for pair in data.duplicates],
        "notes": data.notes,
    }


def _recorded_attributes(store: RunFolder, before: Mapping[str, Any]) -> str | None:
    """Return the digest of the attributes that are kept beside a manifest; ``None`` where it has none."""
    recorded: str | None = before.get("data", {}).get(ATTRIBUTES_SHA256)
    if recorded is not None or digests_all(before.get("cells", [])):
        return recorded
    # Those of an earlier version, whose cells, which tell so, may be replaced.
    try:
        table = read_attributes(store.folder).reset_index()
    except ValueError:
        return None
    return attributes_digest(table) if len(table.columns) > 1 else None


def _describe_metrics(unavailable: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: {**info.as_record(), "unavailable": unavailable.get(name)}
        for name, info in list_metrics().items()
    }


def options_as_toml(options: Mapping[str, Any], title: str) -> str:
    """Return options as a TOML file under a comment; one whose value is not Unicode, which TOML cannot hold, left out.

    >>> print(options_as_toml({"size": 64, "set": {"pconv": {"hole_weight": 3.5}}}, "as resolved"))
    # as resolved
    size = 64
    <BLANKLINE>
    [set.pconv]
    hole_weight = 3.5
    <BLANKLINE>
    """
    lines, writable = [f"# {title}"], {}
    for name, value in options.items():
        # One at a time, so that an option that cannot be written costs that option alone.
        try:
            tomli_w.dumps({name: value}).encode()
            writable[name] = value
        except UnicodeEncodeError:
            lines.append(f"# {name}: not Unicode, give it on the command line")
    return "\n".join([*lines, tomli_w.dumps(writable)])
