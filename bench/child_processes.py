"""Child processes that never import the program that started them, so that a script needs no ``__main__`` guard."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def hidden_main_module() -> Iterator[None]:
    """Start processes (``spawn``, ``forkserver``) that do not run the caller's script again.

    ``multiprocessing`` has a child import the parent's main module by its file or its name. A script without
    ``if __name__ == "__main__":`` would then start all over in every child; our workers need nothing of it. The file
    and the name are put back when the context ends.
    """
    main = sys.modules["__main__"]
    hidden: dict[str, Any] = {
        name: vars(main).pop(name) for name in ("__file__", "__spec__") if name in vars(main)
    }
    # multiprocessing looks at __spec__ even where __file__ is missing.
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(hidden)
