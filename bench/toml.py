"""TOML as far as a config file of ``bench run`` needs it: the standard library reads it and does not write it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def toml_dumps(values: Mapping[str, Any]) -> str:
    """``values`` as TOML: plain values and lists first, then a table for each mapping, one level of nesting deep.

    A text that is not Unicode (a file name of odd bytes) becomes a comment, since TOML cannot
    hold it.
    """
    lines = [_line(key, value) for key, value in values.items() if not isinstance(value, Mapping)]
    for key, table in values.items():
        if isinstance(table, Mapping):
            for name, fields in table.items():
                lines += ["", f"[{key}.{_key(name)}]", *(_line(k, v) for k, v in fields.items())]
    return "\n".join(lines) + "\n"


def _line(key: str, value: Any) -> str:
    text = f"{_key(key)} = {toml_literal(value)}"
    try:
        text.encode()
    except UnicodeEncodeError:
        return f"# {_key(key)}: not Unicode, give it on the command line"
    return text


def _key(key: str) -> str:
    return key if key.replace("-", "").replace("_", "").isalnum() and key.isascii() else toml_literal(key)


def toml_literal(value: Any) -> str:
    """One value as TOML writes it.

    Raises:
        TypeError: a value that a config file cannot hold.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for DEL, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(toml_literal(v) for v in value) + "]"
    raise TypeError(f"{type(value).__name__} cannot be written to a config file")
