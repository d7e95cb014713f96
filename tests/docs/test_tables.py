"""Tables in the pages are what the code says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
BLOCK = re.compile(r"<!-- table: (\w+) -->\n(.*?)<!-- end of table -->", re.DOTALL)
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if "<!-- table: " in page.read_text("utf-8")]


def tables() -> ModuleType:
    """The script that writes the tables."""
    spec = importlib.util.spec_from_file_location("docs_tables", DOCS / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blocks() -> list[tuple[str, str, str]]:
    return [(page.name, *found) for page in PAGES for found in BLOCK.findall(page.read_text("utf-8"))]


@pytest.mark.parametrize(("page", "name", "text"), blocks(), ids=[name for _, name, _ in blocks()])
def test_a_table_is_up_to_date(page: str, name: str, text: str, request: pytest.FixtureRequest) -> None:
    if name == "conventions":
        pytest.importorskip("torchmetrics")
        request.getfixturevalue("backbone_folder")
    assert tables().TABLES[name]() == text, f"{page}: run python docs/tables.py"


def test_every_metric_is_in_the_table_with_an_oracle() -> None:
    from bench.evaluation.metrics import list_metrics

    text = (DOCS / "metrics.md").read_text("utf-8")
    (table,) = (body for name, body in BLOCK.findall(text) if name == "metrics")
    metrics = list_metrics()
    for name, info in metrics.items():
        (line,) = (line for line in table.splitlines() if line.startswith(f"| `{name}` | "))
        assert info.oracle
        assert info.source
        assert [cell.strip() for cell in line.strip("|").split(" | ")][-2:] == [info.oracle, info.source]
    # What the field asks for beside PSNR, SSIM, LPIPS and FID.
    asked = {"kid", "fd_clip", "fd_dinov2", "p_ids", "u_ids", "dists", "seam", "raw_known_mae"}
    assert asked | {"identity_distance", "identity_verified"} <= set(metrics)
