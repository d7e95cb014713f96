"""Child processes that run nothing of the caller's: neither its script again, nor files of the folder it is in."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

_SAFE_PATH = "PYTHONSAFEPATH"
#: Ours, to be told from a user's: Python takes any text but the empty one.
_SET_HERE = "inpaint-bench"


@contextlib.contextmanager
def isolated_start() -> Iterator[None]:
    """Start processes (``spawn``, ``forkserver``) that run neither the caller's script nor modules beside it.

    ``multiprocessing`` has a child import the parent's main module by its file or its name. A script without
    ``if __name__ == "__main__":`` would then start all over in every child; our workers need nothing of it. The file
    and the name are put back when the context ends, and so is what :func:`safe_path` sets.
    """
    main = sys.modules["__main__"]
    hidden: dict[str, Any] = {
        name: vars(main).pop(name) for name in ("__file__", "__spec__") if name in vars(main)
    }
    # multiprocessing looks at __spec__ even where __file__ is missing.
    main.__spec__ = None
    try:
        with safe_path():
            yield
    finally:
        vars(main).update(hidden)


@contextlib.contextmanager
def safe_path() -> Iterator[None]:
    """Start Python processes that find no modules in the working folder, as ``python -P`` does.

    ``multiprocessing`` and ``torch.compile`` start ``python -c``, which looks there first: a ``signal.py`` of somebody
    else would run in place of Python's own. The parent's own path, which ``multiprocessing`` hands over, is left as it
    is.
    """
    before = os.environ.get(_SAFE_PATH)
    if before:
        yield
        return
    os.environ[_SAFE_PATH] = _SET_HERE
    try:
        yield
    finally:
        forget_safe_path()
        # Empty counts as not set, and is put back all the same.
        if before is not None:
            os.environ[_SAFE_PATH] = before


def forget_safe_path() -> None:
    """Give the programs that a child process runs the user's own environment, without what :func:`safe_path` set."""
    if os.environ.get(_SAFE_PATH) == _SET_HERE:
        del os.environ[_SAFE_PATH]
