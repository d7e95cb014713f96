"""Add pictures of another program to an experiment as a row of its own: on the same images and masks only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import masks.bank
from bench.config import json_digest
from bench.data import Dataset, DataSpec, ImageSet
from bench.errors import BenchError, UsageError
from bench.evaluation.evaluator import image_sample
from bench.evaluation.metrics import list_metrics
from bench.runner.cell_entries import set_entry
from bench.runner.cell_files import write_cell
from bench.runner.manifest_writer import Manifest
from bench.runner.other_people import cells_of_other_people, describe_cells_of_other_people
from bench.runner.run_folder import RunFolder, remove_folder
from bench.scoring.external_images import ScoredImages, as_result_rows
from masks.file_names import real_path
from models.registry import did_you_mean
from reports.results.recorded_files import mask_file_name, pictures_path
from reports.results.schema import (
    EXTERNAL,
    SchemaError,
    cell_numbers,
    metric_columns,
    read_rows,
    rows_digest,
    validate_rows,
)


@dataclass(frozen=True)
class ScoringTarget:
    """An experiment that pictures are to be added to, on one of its masks.

    Attributes:
        store: its folder.
        manifest: as read.
        mask: one that it has results on.
        ids: images of its results there.
        metrics: what they were measured by.
    """

    store: RunFolder
    manifest: dict[str, Any]
    mask: str
    ids: list[str]
    metrics: list[str]

    @property
    def spec(self) -> DataSpec:
        """The experiment's data."""
        settings = self.manifest["settings"]
        return DataSpec(
            source=self.manifest["data"]["source"],
            size=settings["size"],
            crop=settings["crop"],
            split=settings["split"],
            allow_unreadable=True,  # the fingerprint is what counts
        )

    def check(self, data: Dataset, images: ImageSet, drawn: NDArray[np.uint8]) -> None:
        """Refuse other data, images, people or masks than the experiment's.

        Raises:
            UsageError: with the reason.
        """
        where, recorded = f"--into {self.store.name}", self.manifest["data"]
        if data.fingerprint != recorded["fingerprint"]:
            raise UsageError(
                f"{where}: its data are others ({recorded['title']}, fingerprint {recorded['fingerprint'][:12]}; "
                f"here {data.title}, {data.fingerprint[:12]}): leave out --size, --crop and --split, and give "
                "--data PATH where the data have moved"
            )
        # The order too, which is that of the experiment's rows.
        if list(images.ids) != self.ids:
            raise UsageError(
                f"{where}: it evaluated {len(self.ids):,} images, these are {len(images):,} (or others): "
                "leave out --test-images"
            )
        own = [cell for cell in self.manifest["cells"] if _is_own_result(cell, self.mask)]
        # With rows of the same people the new one can be compared; the rest may be brought up one by one.
        if len(cells_of_other_people(self.store.folder, own, images)) == len(own):
            raise UsageError(
                f"{where}: the list of people is another than when it was run, and intervals are over people; run the "
                "experiment again, which measures its images anew with this list and trains nothing"
            )
        if masks.bank.masks_digest(drawn) != self.manifest["masks"][self.mask]["digest"]:
            raise UsageError(
                f"{where}: mask {self.mask} is drawn otherwise here; run the experiment again with this version"
            )


def open_target(folder: Path, mask: str) -> ScoringTarget:
    """Open the experiment in ``folder`` to add pictures completed on ``mask``.

    Raises:
        UsageError: it has no results on that mask (with those that it has).
        BenchError: its manifest or results are not readable.
    """
    folder = real_path(folder)
    # The folder's own place decides, since the command may be given a path from anywhere.
    store = RunFolder(folder.name, folder.parent.parent)
    if store.folder != folder:
        raise UsageError(f"--into {folder}: not an experiment in a folder runs/")
    manifest = store.read_manifest()
    assert manifest is not None, "the caller found it"
    cell = next((c for c in manifest["cells"] if _is_own_result(c, mask)), None)
    if cell is None:
        there = list(dict.fromkeys(c["mask"] for c in manifest["cells"] if _is_own_result(c, c["mask"])))
        raise UsageError(
            f"--into {store.name}: it has no results on mask {mask!r}{did_you_mean(mask, there)}; "
            "add them by bench run, or score without --into"
        )
    try:
        rows = read_rows(store.folder / cell["folder"] / "results.parquet")
    except SchemaError as error:
        raise BenchError(str(error)) from error
    measured = {*metric_columns(rows), *(cell["evaluation"].get("sets") or {})}
    # The metrics that the experiment has, so that the new row has no gaps in its table.
    metrics = [name for name in list_metrics() if name in measured]
    return ScoringTarget(store, manifest, mask, rows["image_id"].tolist(), metrics)


def _is_own_result(cell: Mapping[str, Any], mask: str) -> bool:
    """Return whether a cell is a finished one of the experiment's on a mask.

    Rows of other programs do not say which images the experiment evaluates.
    """
    return bool(cell["status"] == "done" and cell["mask"] == mask and cell["train_mask"] != EXTERNAL)


def add_external_row(
    target: ScoringTarget,
    scored: ScoredImages,
    images: ImageSet,
    *,
    name: str,
    source: str,
    command: tuple[str, ...],
    seed: int = 0,
) -> str:
    """Add scored pictures to the experiment's table as a method of its own, replacing one of the same name and seed.

    Each seed counts as one training of which nothing is known: with fewer than three, no comparison with a trained
    model is decided.

    Args:
        target: the experiment; :meth:`ScoringTarget.check` has passed.
        scored: of every image.
        images: the experiment's.
        name: of the method.
        source: name of the folder of pictures.
        command: to record.
        seed: which training of the program, or which of its random seeds, made the pictures.

    Returns:
        What the experiment's table then rests on that somebody must know, in a sentence; empty where nothing.

    Raises:
        UsageError: images without a score, over which other rows' means go.
        BenchError: another process works in the experiment, or it cannot be written.
    """
    absent = len(images) - len(scored.rows)
    if absent:
        raise UsageError(
            f"--into {target.store.name}: {absent:,} of its {len(images):,} images have no score, and the means of one "
            "table are over the same images; complete the pictures, or score without --into"
        )
    settings = target.manifest["settings"]
    label, model = f"{name} (scored from a folder)", f"{EXTERNAL}:{name}"
    table = validate_rows(
        as_result_rows(
            scored.rows, model=model, label=label, mask=target.mask, size=settings["size"], seed=seed
        )
    )
    measured = cell_numbers(table)
    slug = f"{EXTERNAL}-{mask_file_name(name)}-{mask_file_name(target.mask)}" + (
        f"-seed{seed}" if seed else ""
    )
    # By content, since there is no key: scoring the same pictures again gives the same folder.
    folder = target.store.cell(slug, json_digest(measured))
    entry = {
        "cell": folder.name,
        "folder": f"cells/{folder.name}",
        "model": model,
        "label": label,
        "summary": f"Pictures of another program (folder {source}), scored by bench score.",
        "paper": "",
        "trained": True,
        "mask": target.mask,
        "train_mask": EXTERNAL,
        "seed": seed,
        "track": EXTERNAL,
        "status": "done",
        "reason": None,
        "error": None,
        "config": {},
        "ambiguities": [],
        "training": None,
        "evaluation": {
            "seconds": None,
            "images_per_second": None,
            "numbers": measured,
            "rows_sha256": rows_digest(table),
            "sets": {metric: set_entry(score, len(images)) for metric, score in scored.sets.items()},
        },
    }
    with target.store:
        value = target.store.read_manifest()  # again: now nobody else writes
        assert value is not None
        # The same images as the experiment's own cells keep, so that galleries stand side by side.
        ids = np.array(images.ids)[image_sample(len(images))]
        # Where the experiment keeps no pictures, the new row does not either.
        kept = pictures_path(target.store.folder, target.mask).is_file()
        entry |= write_cell(folder, table, entry, ids, scored.pictures if kept else None)
        told = list(command)
        value["commands"] = [*(c for c in value.get("commands", []) if c != told), told]
        # Read before the manifest changes; their folders go after it no longer names them.
        place = (model, target.mask, seed)
        before = [c for c in value["cells"] if (c["model"], c["mask"], c["seed"]) == place]
        Manifest(target.store, value).add(entry)
        for old in before:
            if old["folder"] != entry["folder"]:
                remove_folder(target.store.folder / old["folder"])
        return describe_cells_of_other_people(
            cells_of_other_people(target.store.folder, value["cells"], images)
        )
