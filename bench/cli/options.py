"""Option types and decorators that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class Names(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Names separated by commas; with ``multiple=True`` the option may be repeated as well."""

    name = "names"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Split one occurrence."""
        if isinstance(value, tuple):
            return value
        names = tuple(part.strip() for part in str(value).split(",") if part.strip())
        if not names:
            self.fail("give at least one name", param, ctx)
        return names


class OrWord(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A positive number, or one word instead of it."""

    def __init__(self, word: str) -> None:
        self.word = word
        self.name = f"number|{word}"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Parse."""
        if value == self.word:
            return self.word
        if isinstance(value, int):
            return value
        try:
            number = int(value)
        except ValueError:
            number = 0
        if number < 1:
            self.fail(f"{value!r} is neither a positive number nor {self.word!r}", param, ctx)
        return number


def flatten(values: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """One list of names, without repetition, in the order given."""
    return tuple(dict.fromkeys(name for group in values for name in group))


def data_option(function: F) -> F:
    """``--data``, the same for every command."""
    return click.option(
        "--data",
        default="faces",
        show_default="the embedded procedural faces",
        metavar="PATH",
        help="CelebA in its official layout (folder with img_align_celeba/ or its .zip), or any folder of pictures.",
    )(function)


def cut_options(function: F) -> F:
    """``--crop``, ``--split`` and ``--allow-unreadable`` of commands that look at data alone."""
    for option in (
        click.option("--allow-unreadable", is_flag=True, help="Go on although over 1 % cannot be read."),
        click.option(
            "--split",
            default="auto",
            show_default=True,
            help="auto, official, paper, identity or digest.",
        ),
        click.option("--crop", default="center", show_default=True, help="center, resize or face."),
    ):
        function = option(function)
    return function


def square_options(function: F) -> F:
    """Those, and ``--size``."""
    return click.option(
        "--size",
        default=64,
        show_default=True,
        type=click.IntRange(32, 512),
        help="Side of the squares in pixels.",
    )(cut_options(function))


def models_from_option(function: F) -> F:
    """``--models-from``, the same for every command."""
    return click.option(
        "--models-from",
        multiple=True,
        type=click.Path(exists=True),
        help="A Python file, or a folder of them, with models of your own. Repeatable.",
    )(function)
