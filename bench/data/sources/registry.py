"""The registry of data sources: every module of this package is imported, so a new source is a new file."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from bench.data.sources.base import DataSource


@lru_cache(maxsize=1)
def data_sources() -> tuple[DataSource, ...]:
    """Return every data source that is recognized by its files, in the order in which they are asked."""
    # All modules of the package, so that a new source is a new file and no entry in a list.
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        importlib.import_module(f"{__package__}.{module.name}")
    found = sorted(_concrete_sources(DataSource), key=lambda kind: (kind.order, kind.name))
    return tuple(kind() for kind in found)


def _concrete_sources(kind: Any) -> Iterator[type[DataSource]]:
    """Yield the classes below ``kind`` that can be made."""
    for child in kind.__subclasses__():
        if not child.__abstractmethods__:
            yield child
        yield from _concrete_sources(child)
