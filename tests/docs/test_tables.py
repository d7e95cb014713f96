"""Tables in the pages are what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if "<!-- table: " in page.read_text("utf-8")]


def tables() -> ModuleType:
    """The script that writes the tables."""
    spec = importlib.util.spec_from_file_location("docs_tables", DOCS / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tables_of_a_page_are_up_to_date(page: Path) -> None:
    text = page.read_text("utf-8")
    assert tables().with_tables(text) == text, "run: python docs/tables.py"


def test_every_metric_is_in_the_table_with_an_oracle() -> None:
    from bench.evaluation.metrics import list_metrics

    text = (DOCS / "metrics.md").read_text("utf-8")
    for name, info in list_metrics().items():
        assert f"| `{name}` | " in text
        assert info.oracle
        assert info.source
