"""Make sure that ``models``, ``masks`` and ``reports`` are this project's, whatever the current directory holds.

The four packages have plain names, and Python looks in the current directory first (``python -m bench``, a notebook, a
script). A folder ``models/`` of the user's own would be imported in the place of ours.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from pathlib import Path

NAMES = ("models", "masks", "reports")


def import_sibling_packages(root: Path) -> None:
    """Import the packages of :data:`NAMES` from ``root`` where a foreign one would be found before them.

    Does nothing (and imports nothing) in the usual case that the import path leads to ours.

    Raises:
        ImportError: the program has imported a foreign package of that name already; the message names it.
    """
    for name in NAMES:
        loaded = sys.modules.get(name)
        # A package that is loaded is asked where it came from, since the path may have changed since.
        spec = loaded.__spec__ if loaded else importlib.util.find_spec(name)
        if spec is None or _lies_in(root, name, spec.origin):
            # A missing package is left to the import that needs it, whose message is Python's own.
            continue
        # A namespace package has no origin, but locations.
        foreign = _describe(spec.origin, list(spec.submodule_search_locations or []))
        if loaded:
            raise ImportError(
                f"inpaint-bench has a package named {name!r}, but {foreign} was imported first: "
                "rename it, or start Python in another directory"
            )
        _import_from(root, name)
        # In the command no code but ours imports, so nobody is surprised.
        if not _is_command():
            warnings.warn(
                f"'import {name}' means inpaint-bench's package now, not {foreign}; rename that to use both",
                stacklevel=3,
            )


def _lies_in(root: Path, name: str, origin: str | None) -> bool:
    return origin is not None and Path(origin).resolve() == root / name / "__init__.py"


def _describe(origin: str | None, locations: list[str]) -> str:
    """Name the folder of a foreign package, or the file of a foreign module."""
    return str(Path(locations[0])) if locations else str(origin)


def _import_from(root: Path, name: str) -> None:
    """Import ``name`` with ``root`` first on the path, and leave the path as it was."""
    before = sys.path[:]
    # First on the path only for this import: everything else is found as the user has it.
    sys.path.insert(0, str(root))
    try:
        importlib.import_module(name)
    finally:
        sys.path[:] = before


def _is_command() -> bool:
    """Return whether this process is the ``bench`` command, in which no code but ours imports by these names."""
    program = sys.argv[0] if sys.argv else ""
    return program == "-m" or Path(program).parent.name == "bench" or Path(program).stem == "bench"
