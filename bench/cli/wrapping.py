"""Lines for people. Names in them, of files or models, are shown as what they are and never act on a terminal.

Commands print by these functions alone, besides JSON and tables of rich, whose cells are made by ``one_line``.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable
from typing import Any

import click

from masks.file_names import one_line


def echo_line(text: str, *, start: str = "", err: bool = False, nl: bool = True, **style: Any) -> None:
    """Print a line, whatever it names: control characters are written as escapes.

    Args:
        text: the line.
        start: its beginning, which alone is styled; without it the whole line is.
        err: print on standard error.
        nl: end the line.
        style: of :func:`click.style`.
    """
    text = one_line(text)
    if style:
        start = start or text
        text = click.style(start, **style) + text.removeprefix(start)
    click.echo(text, err=err, nl=nl)


def echo_notes(notes: Iterable[str]) -> None:
    """Print what somebody must know and need not do anything about, a line each, on standard error."""
    for note in notes:
        echo_line(f"note: {note}", fg="yellow", err=True)


def echo_wrapped(text: str, *, start: str = "", err: bool = False, **style: Any) -> None:
    """Print a line; on a terminal that is narrower, break it between words under its own indentation.

    In a file or a pipe it stays one line, which other programs search.

    Args:
        text: the line.
        start: its beginning, which is styled.
        err: print on standard error.
        style: of :func:`click.style`.
    """
    text = one_line(text)
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
