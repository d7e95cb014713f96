"""inpaint-bench: a reproducibility benchmark suite for image inpainting.

The names of :data:`__all__` are the Python API; they are imported when they are first used, so that ``import bench``
is quick. Everything else is internal and may change.

Example:
    >>> import bench
    >>> sorted(set(bench.__all__) - {"__version__"})[:4]
    ['BenchError', 'DataError', 'DiskError', 'Experiment']
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.sibling_packages import import_sibling_packages
from bench.version import __version__

if TYPE_CHECKING:
    from bench.api import (
        BenchError,
        DataError,
        DiskError,
        Experiment,
        Scores,
        UsageError,
        inpaint,
        load_experiment,
        masks,
        models,
        run,
        score,
    )

__all__ = [
    "BenchError",
    "DataError",
    "DiskError",
    "Experiment",
    "Scores",
    "UsageError",
    "__version__",
    "inpaint",
    "load_experiment",
    "masks",
    "models",
    "run",
    "score",
]

# Before anything else: the modules imported later use these packages by their plain names.
import_sibling_packages(Path(__file__).resolve().parents[1])


def __getattr__(name: str) -> Any:
    """Import a name of the API when it is first used."""
    if name in __all__:
        # Imported on first use, since the API brings pandas with it.
        from bench import api

        return getattr(api, name)
    raise AttributeError(f"module 'bench' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Offer the API to completion."""
    return sorted(__all__)
