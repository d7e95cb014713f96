"""Import matplotlib as it comes, without a ``matplotlibrc``: that of the working folder would be read before any other.

One could start LaTeX with a preamble of its own, change every figure, or end each command that draws. Modules that draw
import this one first.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from pathlib import Path


def import_matplotlib() -> None:
    """Import matplotlib with its defaults; does nothing where it is loaded, as in a notebook."""
    spec = None if "matplotlib" in sys.modules else importlib.util.find_spec("matplotlib")
    if spec is None or spec.origin is None:
        # A missing package is left to the import that needs it.
        return
    # No setting overrides the working folder, so that the file of the defaults has to lie there meanwhile.
    with contextlib.ExitStack() as stack:
        # The working folder may be gone, and then holds no file either.
        with contextlib.suppress(OSError):
            stack.enter_context(contextlib.chdir(Path(spec.origin).parent / "mpl-data"))
        importlib.import_module("matplotlib")


import_matplotlib()
