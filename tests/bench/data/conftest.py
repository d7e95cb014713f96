"""Opening a replica of a data set."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.data import Dataset, DataSpec, open_data
from tests.bench.data.celeba_replicas import (
    Opener,
)


@pytest.fixture
def opened(tmp_path: Path) -> Opener:
    def opener(source: Path, **choice: object) -> Dataset:
        spec = {"size": 32, "cache": tmp_path / "cache", **choice}
        return open_data(DataSpec(source=str(source), **spec))  # type: ignore[arg-type]

    return opener
