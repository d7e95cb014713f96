"""Inpainting models: one architecture a file, registered by name.

Importing this package imports no torch; :mod:`models.discovery` reads names from the source of the model
files, and only :func:`models.discovery.load_model` and :func:`load_pretrained` import a model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.pretrained import load_pretrained

__all__ = ["load_pretrained"]


def __getattr__(name: str) -> Any:
    """``load_pretrained``, imported (and torch with it) when it is first asked for."""
    if name == "load_pretrained":
        from models.pretrained import load_pretrained

        return load_pretrained
    raise AttributeError(f"module 'models' has no attribute {name!r}")
