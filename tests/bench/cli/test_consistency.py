"""The same option has the same name, short form, type and meaning in every command."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest

from bench.cli import COMMANDS, cli


def options() -> Iterator[tuple[str, click.Option]]:
    """Every option of every command and subcommand, with the command's words."""
    for name in COMMANDS:
        command = cli.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None
        leaves = {name: command}
        if isinstance(command, click.Group):
            leaves = {f"{name} {sub}": each for sub, each in command.commands.items()}
        for words, leaf in leaves.items():
            yield from ((words, p) for p in leaf.params if isinstance(p, click.Option))


@pytest.mark.parametrize(
    ("long", "short"), [("--output", "-o"), ("--quiet", "-q"), ("--yes", "-y"), ("--verbose", "-v")]
)
def test_short_forms(long: str, short: str) -> None:
    found = {words: o.opts for words, o in options() if long in o.opts}
    assert found
    assert {words for words, opts in found.items() if short not in opts} == set()
    assert {words for words, o in options() if short in o.opts and long not in o.opts} == set()


def test_json_is_a_flag_everywhere() -> None:
    found = [o for _, o in options() if "--json" in o.opts]
    assert len(found) > 5
    assert all(o.is_flag for o in found)


@pytest.mark.parametrize("name", ["--data", "--device", "--models-from", "--quiet"])
def test_shared_options_have_one_help_and_one_default(name: str) -> None:
    found = [
        (o.help, str(o.default), o.multiple)
        for words, o in options()
        if name in o.opts and words not in ("reproduce", "demo")
    ]
    assert len(found) > 1
    assert len(set(found)) == 1, found


def test_every_option_has_a_help_text() -> None:
    assert [(words, o.opts) for words, o in options() if not o.help] == []
