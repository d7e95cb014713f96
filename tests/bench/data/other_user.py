"""Checks as a user who is not root, to whom folders may be closed."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

needs_root = pytest.mark.skipif(
    not hasattr(os, "fork") or os.getuid() != 0, reason="needs root, to become somebody else"
)


def holds_for_nobody(check: Callable[[], bool]) -> bool:
    """Return what a check says in a process of the user nobody; false where it raises."""
    child = os.fork()
    if not child:
        code = 1
        try:
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            code = int(not check())
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
