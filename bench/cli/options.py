"""Option types and decorators that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from bench.cli.config_file import option_keys

F = TypeVar("F", bound=Callable[..., Any])


class NameList(click.ParamType):  # type: ignore[type-arg,unused-ignore]
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


class NumberOrWord(click.ParamType):  # type: ignore[type-arg,unused-ignore]
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


def flatten_names(values: Sequence[Sequence[str]]) -> tuple[str, ...]:
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


# What the TAB key offers as values: names of models, masks and experiments. Imports no torch.


def complete_experiments(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Experiments in ``runs/``."""
    from bench.runner.run_folder import RUNS

    return _items((p.parent.name for p in sorted(RUNS.glob("*/manifest.json"))), incomplete)


def complete_models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Models and their groups; after a comma, the next of a list."""
    from models.discovery import find_models

    listings = find_models([])
    groups = {group for listing in listings.values() for group in listing.card.groups}
    return _items([*listings, "all", "everything", *sorted(groups)], incomplete)


def complete_masks(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Mask names and groups; after a comma, the next of a list."""
    from masks.registry import mask_names

    return _items([*mask_names(), "paper", "all"], incomplete)


def _items(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    before, comma, last = incomplete.rpartition(",")
    return [CompletionItem(before + comma + name) for name in dict.fromkeys(names) if name.startswith(last)]


# A command whose ``--help`` shows its options under headings.


OTHER = "Other options"


class GroupedCommand(click.Command):
    """A command with headings over its options.

    Args:
        groups: heading -> long names of options without dashes, in the order shown; what is in none comes last, under
            :data:`OTHER`.
    """

    def __init__(self, *args: Any, groups: Mapping[str, tuple[str, ...]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._groups = groups

    @property
    def groups(self) -> dict[str, tuple[str, ...]]:
        """Heading -> keys of every option that can stand in a file."""
        known = option_keys(self)
        placed = {key for members in self._groups.values() for key in members}
        groups = {h: tuple(k for k in members if k in known) for h, members in self._groups.items()}
        return {**groups, OTHER: tuple(key for key in known if key not in placed)}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options, under their headings."""
        names = {max(option.opts, key=len).removeprefix("--"): option for option in self.get_params(ctx)}
        groups = {h: [k for k in members if k in names] for h, members in self._groups.items()}
        placed = {key for members in groups.values() for key in members}
        groups[OTHER] = [key for key in names if key not in placed]
        for heading, members in groups.items():
            records = [record for key in members if (record := names[key].get_help_record(ctx))]
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)
