"""A command whose ``--help`` shows its options under headings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from bench.cli.config_file import keys

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
        known = keys(self)
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
