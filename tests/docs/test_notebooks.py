"""Notebooks run from top to bottom, and what they show is what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import bench

ROOT = Path(bench.__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


@pytest.fixture
def kernel_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel in a process of its own that finds this checkout, not an installed one."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")


def outputs(cell: Any, kind: str) -> str:
    """All outputs of a cell of one type, joined."""
    return "\n".join(o["data"][kind] for o in cell["outputs"] if kind in o.get("data", {}))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.long
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs(path: Path, workplace: Path, kernel_sockets: None) -> None:
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(workplace)}}).execute()
    shown = [cell for cell in notebook.cells if cell["cell_type"] == "code"]
    tables = [outputs(cell, "text/html") for cell in shown]
    assert any("mean_of_known" in table and "<table" in table for table in tables)
    assert any("Experiment &#x27;notebook&#x27;" in table and "GLCIC" in table for table in tables)
    assert any(outputs(cell, "image/png") for cell in shown)
    assert outputs(shown[-1], "text/plain") == "True"
    assert (workplace / "reports" / "notebook" / "index.html").is_file()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    """Outputs would show images and age."""
    nbformat = pytest.importorskip("nbformat")
    cells = [c for c in nbformat.read(path, as_version=4).cells if c["cell_type"] == "code"]
    assert cells
    assert [c for c in cells if c["outputs"] or c["execution_count"]] == []
