"""Checking the fields of a config that take one of a few words."""

from __future__ import annotations

import typing
from typing import Any, Literal


def check_choices(config: Any) -> None:
    """Raise ``ValueError`` for a field annotated ``Literal[...]`` whose value is none of its words."""
    for name, hint in typing.get_type_hints(type(config)).items():
        words = typing.get_args(hint)
        if typing.get_origin(hint) is Literal and getattr(config, name) not in words:
            raise ValueError(
                f"{name} must be one of {', '.join(map(repr, words))}, not {getattr(config, name)!r}"
            )
