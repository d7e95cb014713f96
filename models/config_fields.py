"""Check the values of a config dataclass against the types of its fields.

One validator for the configs of all models, for ``--set MODEL.FIELD=VALUE`` and for Python callers alike. It imports no
torch. Only plain types are checked: ``int``, ``float``, ``bool``, ``str``, ``None``, ``Literal``, unions and tuples of
these; a value of any other type is accepted.
"""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

_TYPE_NAMES: dict[Any, str] = {
    int: "an integer",
    float: "a number",
    bool: "True or False",
    str: "a string",
    NoneType: "None",
}


def check_fields(config: Any) -> None:
    """Raise ``ValueError`` for the first field of ``config`` whose value does not have the annotated type.

    Call it first in ``__post_init__``, so that range checks may rely on the types.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Config:
    ...     width: int = 64
    ...
    ...     def __post_init__(self):
    ...         check_fields(self)
    >>> Config(width=6.5)
    Traceback (most recent call last):
        ...
    ValueError: width must be an integer, not 6.5
    """
    for name, hint in type_hints(type(config)).items():
        value = getattr(config, name)
        if not fits_type(value, hint):
            raise ValueError(f"{name} must be {describe_type(hint)}, not {value!r}")


def type_hints(config: type) -> dict[str, Any]:
    """Map field names to types; empty where the annotations cannot be resolved."""
    try:
        return get_type_hints(config)
    except (NameError, TypeError, AttributeError):
        # A user's file may name types that exist only for the type checker.
        return {}


def fits_type(value: Any, hint: Any) -> bool:
    """Return whether ``value`` has the type ``hint``; unknown types fit everything.

    >>> fits_type(3, float), fits_type(3.5, int), fits_type(True, int)
    (True, False, False)
    >>> fits_type((2, 4), tuple[int, ...]), fits_type("both", Literal["both", "none"])
    (True, True)
    >>> fits_type(5, Literal[5, 6]), fits_type(5.0, Literal[5, 6])
    (True, False)
    """
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        # 5.0 equals 5, and True equals 1, but neither is what was asked for.
        return any(value == part and type(value) is type(part) for part in parts)
    if origin in (Union, UnionType):
        return any(fits_type(value, part) for part in parts)
    if origin is tuple:
        if not isinstance(value, (tuple, list)):
            return False
        # TOML and JSON know lists only, so a list passes for a tuple.
        each = [parts[0]] * len(value) if parts[-1:] == (...,) else list(parts)
        return len(each) == len(value) and all(map(fits_type, value, each))
    if hint in (int, float):
        # bool is a subclass of int, but "width=True" is a mistake.
        return isinstance(value, int if hint is int else (int, float)) and not isinstance(value, bool)
    return isinstance(value, hint) if hint in (bool, str, NoneType) else True


def describe_type(hint: Any) -> str:
    """Spell a type out for an error message.

    >>> describe_type(int | None), describe_type(Literal["required", "off"])
    ('an integer or None', "one of 'required', 'off'")
    """
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(repr, get_args(hint)))
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(map(describe_type, get_args(hint)))
    if get_origin(hint) is tuple:
        parts = get_args(hint)
        if parts[-1:] == (...,):
            return f"a tuple, each entry {describe_type(parts[0])}"
        return f"a tuple of {len(parts)} entries, each {describe_type(parts[0])}"
    return _TYPE_NAMES.get(hint, str(hint))
