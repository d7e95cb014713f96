"""Options that several commands share, so that they have the same name, type and help everywhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from bench.cli.config_file import option_keys
from bench.cli.paths import GivenPath
from bench.config import PRESETS, SIZES, RunConfig, resolve_config
from bench.errors import UsageError
from masks.file_names import escape_name, one_line, resolve_path

F = TypeVar("F", bound=Callable[..., Any])


class NameList(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """Names separated by commas; with ``multiple=True`` the option may be repeated as well."""

    name = "names"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Split one occurrence."""
        # A default is a tuple already, and click passes it through here as well.
        if isinstance(value, tuple):
            return value
        names = tuple(part.strip() for part in str(value).split(",") if part.strip())
        if not names:
            self.fail("give at least one name", param, ctx)
        return names


class OutputPath(GivenPath):
    """A file to write, which is replaced as a whole once it is complete; ``dir_okay=True``: or a folder.

    Through a link its target is written, and the link stays. Devices, pipes and sockets are refused, since replacing
    ``/dev/stdout`` would take it from the whole machine.
    """

    def __init__(self, *, dir_okay: bool = False) -> None:
        super().__init__(dir_okay=dir_okay, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Follow links, and refuse what is there and no file."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        try:
            there = path.stat()
        except OSError:  # nothing is there, or writing will say what is wrong
            there = None
        if there is not None and not (stat.S_ISREG(there.st_mode) or stat.S_ISDIR(there.st_mode)):
            self.fail(f"{one_line(str(path))} is no regular file; give the name of a file", param, ctx)
        if not path.is_symlink():
            return path
        # Not Path.resolve, which raises for a link to itself in some versions of Python.
        target = Path(os.path.realpath(path))
        if target.is_symlink():
            self.fail(f"{one_line(str(path))} is a link to itself", param, ctx)
        return target


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
    """Join names into one list, without repetition, in the order given."""
    return tuple(dict.fromkeys(name for group in values for name in group))


def data_option(function: F) -> F:
    """Add ``--data``, the same for every command."""
    return click.option(
        "--data",
        default="faces",
        type=GivenPath(),
        show_default="the embedded procedural faces",
        metavar="PATH",
        # A path may hold bytes that are no UTF-8; from here on it is text that every file and message can
        # hold.
        callback=lambda ctx, param, value: escape_name(value),
        help="CelebA (its folder or .zip), or any folder of images.",
    )(function)


def preset_option(function: F) -> F:
    """Add ``--preset``, whose values are the defaults of the other settings."""
    return click.option(
        "--preset",
        default="quick",
        show_default=True,
        help=f"Defaults of the settings: {', '.join(PRESETS)}.",
    )(function)


def size_option(kind: Any = None) -> Callable[[F], F]:
    """Add ``--size``; ``None`` where it is not given: :func:`with_preset` fills in the preset's.

    Args:
        kind: click's type; by default every size that a run takes.
    """
    return click.option(
        "--size",
        type=kind or click.IntRange(*SIZES),
        show_default=preset_default("size"),
        help="Side of the images in pixels.",
    )


def scored_images_option(function: F) -> F:
    """Add ``--test-images``; ``None`` where it is not given, as :func:`size_option`."""
    return click.option(
        "--test-images",
        type=NumberOrWord("all"),
        show_default=preset_default("test_images"),
        help="Number of evaluated images, chosen by seed.",
    )(function)


def with_preset(preset: str, **given: Any) -> dict[str, Any]:
    """Return settings, those that were not given as ``preset`` has them; ``"all"`` is ``None``.

    Raises:
        UsageError: there is no such preset.

    Examples:
        >>> with_preset("paper", size=None, crop="face", test_images=None)
        {'size': 160, 'crop': 'face', 'test_images': None}
        >>> with_preset("quick", size=None, test_images="all")
        {'size': 64, 'test_images': None}
    """
    settings = resolve_config(preset)
    filled = {name: getattr(settings, name) if value is None else value for name, value in given.items()}
    return {name: None if value == "all" else value for name, value in filled.items()}


def device_option(function: F) -> F:
    """Add ``--device``."""
    return click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1 ...")(function)


def json_option(function: F) -> F:
    """Add ``--json``: print JSON on standard output instead of a table."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(function)


def quiet_option(function: F) -> F:
    """Add ``--quiet``."""
    return click.option("--quiet", "-q", is_flag=True, help="Print only results, warnings and failures.")(
        function
    )


def output_option(help_text: str, **attributes: Any) -> Callable[[F], F]:
    """Add ``--output`` and ``-o``, a path."""
    attributes.setdefault("type", OutputPath())
    return click.option("--output", "-o", help=help_text, **attributes)


def preset_default(field: str, words: str | None = None) -> str:
    """Describe the default of a setting, with the presets that change it.

    Args:
        field: of :class:`bench.config.RunConfig`.
        words: what stands for the default ``None``.

    Examples:
        >>> preset_default("size"), preset_default("crop"), preset_default("flips")
        ('64; paper: 160', 'center', 'yes')
    """
    default = next(f.default for f in fields(RunConfig) if f.name == field)
    # The class default is the preset quick's, so only the other presets are named.
    shown = [words or _in_words(default)]
    shown += [
        f"{preset}: {_in_words(changed[field])}" for preset, changed in PRESETS.items() if field in changed
    ]
    return "; ".join(shown)


def _in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "all"
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def cut_options(function: F) -> F:
    """Add ``--crop`` and ``--split``; ``None`` where they are not given, as :func:`size_option`."""
    # Decorators apply from the inside out, so the last one here is shown first.
    for option in (
        click.option(
            "--split", show_default=preset_default("split"), help="auto, official, paper, identity or digest."
        ),
        click.option("--crop", show_default=preset_default("crop"), help="center, resize or face."),
    ):
        function = option(function)
    return function


def unreadable_option(function: F) -> F:
    """Add ``--allow-unreadable``."""
    return click.option(
        "--allow-unreadable", is_flag=True, help="Continue although over 1 % of the images cannot be read."
    )(function)


def square_options(function: F) -> F:
    """Add ``--preset``, ``--size`` and :func:`cut_options` with ``--allow-unreadable``, for data alone."""
    return preset_option(size_option()(cut_options(unreadable_option(function))))


class _UserFile(GivenPath):
    """A path that is there, given as it is or escaped; from here on it is text that every file can hold."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the path and escape it."""
        # As given first, since a path of no text would be that of the current folder.
        GivenPath().convert(value, param, ctx)
        super().convert(str(resolve_path(value)), param, ctx)
        return escape_name(value)


def models_from_option(function: F) -> F:
    """Add ``--models-from``, the same for every command."""
    # Stated in the help as well: whoever is given a command line should know that it runs a file.
    return click.option(
        "--models-from",
        multiple=True,
        type=_UserFile(exists=True),
        help="A Python file, or a folder of them, with models of your own. Repeatable. A model file is a program.",
    )(function)


# Names that other programs use for our options.


#: Option as people type it -> ours; it applies where the command has ours and not theirs.
ALIASES = {
    "--masks": "--mask",
    "--seed": "--seeds",
    "--seeds": "--seed",
    "--model": "--models",
    "--models": "--model",
    "--metric": "--metrics",
    "--lr": "--learning-rate",
    "--batch-size": "--batch",
    "--image-size": "--size",
    "--dataset": "--data",
    "--out": "--output",
}
#: Options that have no counterpart -> what to give instead, where the command has that.
_INSTEAD = {
    "--epochs": ("--images-seen", "an epoch is all training images, so give --images-seen EPOCHS x IMAGES"),
    "--steps": ("--steps-per-phase", "give --steps-per-phase, or the budget as --images-seen"),
    "--iterations": ("--steps-per-phase", "give --steps-per-phase, or the budget as --images-seen"),
    "--workers": ("--jobs", "data are decoded once and need no workers; --jobs trains in parallel"),
    "--num-workers": ("--jobs", "data are decoded once and need no workers; --jobs trains in parallel"),
}


def with_own_names(command: click.Command, arguments: Sequence[str]) -> list[str]:
    """Replace aliases of options in ``arguments`` by the names that ``command`` has.

    Raises:
        UsageError: an option that other programs have and this one has not; the message says what to give.
    """
    if isinstance(command, click.Group):
        # Options belong to the subcommand, which has a list of its own.
        sub = command.commands.get(arguments[0]) if arguments else None
        return list(arguments) if sub is None else [arguments[0], *with_own_names(sub, arguments[1:])]
    known = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
    translated: list[str] = []
    for position, word in enumerate(arguments):
        # What follows "--" are values, whatever they look like.
        if word == "--":
            return [*translated, *arguments[position:]]
        name, equals, value = word.partition("=")
        # An alias never hides an option that the command really has.
        if name not in known and ALIASES.get(name) in known:
            word = f"{ALIASES[name]}{equals}{value}"
        elif name not in known and name in _INSTEAD and _INSTEAD[name][0] in known:
            raise UsageError(f"{name}: {_INSTEAD[name][1]}")
        translated.append(word)
    return translated


# What the TAB key offers as values: names of models, masks and experiments. Imports no torch.


def complete_experiments(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer the experiments in ``runs/``."""
    from bench.experiments import list_experiments
    from bench.runner.run_folder import RUNS

    return _items((folder.name for folder in list_experiments(RUNS)), incomplete)


def complete_models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer models and their groups; after a comma, the next of a list."""
    from models.discovery import find_models

    listings = find_models([])
    groups = {group for listing in listings.values() for group in listing.card.groups}
    return _items([*listings, "all", "everything", *sorted(groups)], incomplete)


def complete_masks(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Offer mask names and groups; after a comma, the next of a list."""
    from masks.registry import mask_names

    return _items([*mask_names(), "paper", "all"], incomplete)


def _items(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    # Only the name after the last comma is being typed; the shell replaces the whole word.
    before, comma, last = incomplete.rpartition(",")
    # The shell reads a line of UTF-8 for each; what is none would end the key's answer, or be two names.
    fitting = (name for name in dict.fromkeys(names) if name.startswith(last) and one_line(name) == name)
    return [CompletionItem(before + comma + name) for name in fitting]


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
        """Write the options under their headings."""
        names = {max(option.opts, key=len).removeprefix("--"): option for option in self.get_params(ctx)}
        groups = {h: [k for k in members if k in names] for h, members in self._groups.items()}
        placed = {key for members in groups.values() for key in members}
        groups[OTHER] = [key for key in names if key not in placed]
        for heading, members in groups.items():
            records = [record for key in members if (record := names[key].get_help_record(ctx))]
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)
