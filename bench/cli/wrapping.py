"""Lines for people: broken between words on a terminal, whole everywhere else."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import Any

import click


def echo_wrapped(text: str, *, start: str = "", err: bool = False, **style: Any) -> None:
    """Print a line; on a terminal that is narrower, break it between words under its own indentation.

    In a file or a pipe it stays one line, which other programs search.

    Args:
        text: the line.
        start: its beginning, which is styled.
        err: print on standard error.
        style: of :func:`click.style`.
    """
    if (sys.stderr if err else sys.stdout).isatty():
        indentation = " " * (len(text) - len(text.lstrip()) + 2)
        # Neither paths nor names with hyphens are broken: they are copied.
        text = textwrap.fill(
            text,
            shutil.get_terminal_size().columns,
            subsequent_indent=indentation,
            break_long_words=False,
            break_on_hyphens=False,
            drop_whitespace=True,
        )
    if start and text.startswith(start):
        text = click.style(start, **style) + text[len(start) :]
    click.echo(text, err=err)
