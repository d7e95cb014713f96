"""A manifest that holds only what it must hold: every page is made from it all the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reports.claims.claim_verdicts import evaluate_claims
from reports.export import TABLES, export_tables
from reports.index_page import make_entry
from reports.leaderboard import leaderboard_rows
from reports.render import render_report
from reports.results import manifest_shape
from reports.results.experiment import load_experiment
from reports.results.manifest import SEAL
from tests.reports.synthetic import make_experiment


def _bare(value: Any, kind: Any) -> Any:
    """Drop every declared field that older manifests may lack; fields that nobody declares stay as they are."""
    match kind:
        case manifest_shape._Table(required, optional):
            kept = {name: part for name, part in value.items() if name not in optional}
            return kept | {name: _bare(kept[name], part) for name, part in required.items() if name in kept}
        case manifest_shape._ListOf(item):
            return [_bare(part, item) for part in value]
        case manifest_shape._MapOf(item):
            return {name: _bare(part, item) for name, part in value.items()}
        case _:
            return value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = make_experiment(
        tmp_path / "runs",
        models=("mgs-iim", "glcic", "pconv", "context-encoder", "mean"),
        masks=("center", "shapes"),
        failed=("pconv",),
        seeds=(0, 1, 2),
        images=12,
        pictures=0,
        procedural=False,
    )
    path = folder / "manifest.json"
    manifest = _bare(json.loads(path.read_text(encoding="utf-8")), manifest_shape._MANIFEST)
    for number, cell in enumerate(manifest["cells"]):
        bare = _bare(cell, manifest_shape._CELL)
        if bare["training"]:
            bare["training"] = _bare(bare["training"], manifest_shape._TRAINING)
        if bare["evaluation"]:
            bare["evaluation"] = _bare(bare["evaluation"], manifest_shape._EVALUATION)
        manifest["cells"][number] = bare
    # Of other images the paper's claims are not judged at all.
    manifest["data"]["claims_dataset"] = True
    manifest.pop(SEAL, None)
    assert manifest_shape.find_problem(manifest) is None
    path.write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def test_the_report_is_made(folder: Path, tmp_path: Path) -> None:
    text = render_report(folder, tmp_path / "page").read_text(encoding="utf-8")
    assert "The holes cover 25.0\u00a0% of the image on average" in text, (
        "from the rows, where the manifest lacks it"
    )
    assert "pconv" in text.lower(), "what failed is named, without a reason"


def test_claims_exports_index_and_leaderboard_are_made(folder: Path) -> None:
    experiment = load_experiment(folder)
    commands = [v.command for v in evaluate_claims(experiment) if v.command]
    assert any(command.startswith("bench run --models pconv") for command in commands)
    for table in TABLES:
        assert export_tables(experiment, table, "json")
    assert make_entry(folder).problem == ""
    assert leaderboard_rows(experiment)
