"""Make an experiment's folder from kept files, so that reports, claims and comparisons read it as any other."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from bench.errors import UsageError
from bench.ledger.kept_files import KeptFiles, manifest_text, read_kept_files
from bench.runner.run_folder import RUNS, check_name, file_signature, write_checked_json
from bench.runner.unpublished import unpublished_experiment
from reports.results.attributes import write_attributes
from reports.results.manifest import IMPORTED_CELL, IMPORTED_LOG, SEAL, manifest_checksum
from reports.results.schema import write_rows


def import_experiment(paths: Sequence[Path], *, name: str | None = None, runs: Path = RUNS) -> Path:
    """Import one experiment and return its folder.

    The manifest is kept as it is, unless the experiment gets another name. Checkpoints and pictures do not travel:
    a page made from the folder has tables, curves and verdicts, and no gallery.

    Args:
        paths: a bundle, or the manifest with tables of rows and curves.
        name: of the experiment; its own by default.
        runs: folder that experiments lie in.

    Raises:
        UsageError: the files cannot be read (:func:`read_kept_files`), or there is an experiment of that name.
    """
    kept = read_kept_files(paths)
    # The name is checked although it is in the manifest, which may come from anybody: it becomes a folder's.
    name = check_name(name or kept.manifest["experiment"])
    target = runs / name
    if os.path.lexists(target):
        raise UsageError(f"{target} exists; give another --name")
    # Folders are the manifest's words too, and must not lead outside of the experiment.
    _check_folders(kept.manifest)
    # A folder that is cut off half-way must never look like an experiment.
    with unpublished_experiment(target, "import") as folder:
        _write(kept, name, folder)
    return target


def _check_folders(manifest: dict[str, Any]) -> None:
    """Refuse folders that would meet each other or the manifest."""
    cells = [c["folder"] for c in manifest["cells"] if c["status"] == "done"]
    trainings = [c["training"]["folder"] for c in manifest["cells"] if c["training"]]
    for kind, folders in (("cells", cells), ("trainings", trainings)):
        for folder in folders:
            parts = PurePosixPath(folder).parts
            if len(parts) != 2 or parts[0] != kind:
                raise UsageError(f"the manifest names {folder!r}, which is no folder of {kind}")
    # A training's folder may repeat, since several cells rest on one; a cell's own may not.
    if len(set(cells)) != len(cells):
        raise UsageError("the manifest names one folder for two cells")


def _write(kept: KeptFiles, name: str, folder: Path) -> None:
    done = [c for c in kept.manifest["cells"] if c["status"] == "done"]
    for cell, rows in zip(done, kept.cells, strict=True):
        (folder / cell["folder"]).mkdir(parents=True)
        write_rows(rows, folder / cell["folder"] / "results.parquet")
        # Stays with the cell where it is merged, or where others are added beside it.
        made = {"experiment": kept.manifest["experiment"]}
        write_checked_json(folder / cell["folder"] / IMPORTED_CELL, made)
    # By key and not by folder: keys tell trainings apart whatever their folders are called.
    if kept.curves is not None:
        by_key = dict(iter(kept.curves.groupby("training", sort=False)))
        for training in {c["training"]["key"]: c["training"] for c in done if c["training"]}.values():
            if training["key"] in by_key:
                (folder / training["folder"]).mkdir(parents=True, exist_ok=True)
                text = "".join(json.dumps(line) + "\n" for line in _log_lines(by_key[training["key"]]))
                log = folder / training["folder"] / "train.jsonl"
                log.write_text(text, encoding="utf-8")
                # The manifest records the lines that the training wrote, and is kept as it is.
                signature = file_signature(log)
                made = {
                    "lines": signature["lines"],
                    "digest": signature["sha256"],
                    "training": training["key"],
                }
                write_checked_json(log.with_name(IMPORTED_LOG), made)
    if kept.attributes is not None:
        write_attributes(kept.attributes, folder)
    manifest = kept.manifest
    # Sealed anew only where something was changed: otherwise the checksum is still the one that was
    # published.
    if name != manifest["experiment"]:
        manifest = {**manifest, "experiment": name}
        manifest[SEAL] = manifest_checksum(manifest)
    (folder / "manifest.json").write_text(manifest_text(manifest), encoding="utf-8")


def _log_lines(curves: pd.DataFrame) -> list[dict[str, Any]]:
    """Turn the curves of one training back into the lines of its log."""
    lines = []
    # Sorted by step and kind, so that a step's losses come before its validation, as they were logged.
    for _, part in curves.groupby(["step", "kind"], sort=True):
        first = part.iloc[0]
        kind = first["kind"]
        # JSON has no NaN; readers of logs take null for a number that was not finite.
        values = {t: None if math.isnan(v) else v for t, v in zip(part["term"], part["value"], strict=True)}
        line = {
            "step": int(first["step"]),
            "images_seen": int(first["images_seen"]),
            "seconds": float(first["seconds"]),
            "terms" if kind == "term" else "validation": values,
        }
        lines.append(line | ({"phase": str(first["phase"])} if kind == "term" else {}))
    return lines
