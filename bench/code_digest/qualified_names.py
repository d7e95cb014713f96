"""Where functions and classes are defined, and what partial applications fix of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

#: Module and qualified name of a definition (``("models.glcic", "GLCIC.loss")``); of a module's own statements, ``""``.
QualifiedName = tuple[str, str]


def qualified_name(function: Callable[..., Any] | type) -> QualifiedName:
    """Return where a function or class is defined; look through wrappers and partial applications.

    >>> import json
    >>> qualified_name(json.JSONDecoder.decode)
    ('json.decoder', 'JSONDecoder.decode')
    """
    function = _unwrap(function)
    # A function made inside another counts by that one, which holds its text; a lambda has no name to find,
    # so all of its module counts.
    name = function.__qualname__.split(".<locals>")[0]
    return function.__module__, "" if "<lambda>" in name else name


def _unwrap(function: Any) -> Any:
    while True:
        if isinstance(function, functools.partial):
            function = function.func
        # functools.wraps leaves a trace of the function below; a class may have that attribute without being
        # a wrapper.
        elif hasattr(function, "__wrapped__") and not isinstance(function, type):
            function = function.__wrapped__
        else:
            return function


def bound_arguments(function: Any) -> list[str]:
    """List what partial applications have fixed of a function, as text: it decides numbers as code does.

    >>> bound_arguments(functools.partial(round, ndigits=2))
    ['ndigits=2']
    """
    found = []
    while True:
        if isinstance(function, functools.partial):
            # A callable that is bound is code: its place is followed, and its repr holds an address that
            # changes with every run.
            found += [repr(a) for a in function.args if not callable(a)]
            found += [f"{k}={v!r}" for k, v in sorted(function.keywords.items()) if not callable(v)]
            function = function.func
        elif hasattr(function, "__wrapped__") and not isinstance(function, type):
            function = function.__wrapped__
        else:
            return found
