"""Paths on the command line."""

from __future__ import annotations

from typing import Any

import click


class GivenPath(click.Path):
    """A path as click has it, but no empty one: to Python that would be the current folder, which nobody named."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse an empty path."""
        # A default may be a Path, whose text is never empty.
        if value in ("", b""):
            self.fail("an empty path; give '.' for the current folder", param, ctx)
        return super().convert(value, param, ctx)
