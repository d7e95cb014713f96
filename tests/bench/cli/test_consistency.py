"""The same option has the same name, short form, type and meaning in every command."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bench.cli import COMMANDS, cli
from bench.cli.options import NameList, preset_default
from bench.config import PRESETS, RunConfig, resolve_config


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


#: Commands whose size is of no test set: a sheet of masks, and a check at the size of every preset.
_SIZES_OF_THEIR_OWN = {"masks preview", "check-model"}


@pytest.mark.parametrize("name", ["size", "crop", "split", "test_images"])
def test_settings_come_from_the_preset_in_every_command(name: str) -> None:
    """The default is the preset's, so that the masks, images and scores of several commands belong together."""
    found = {
        words: o for words, o in options() if o.name == name and words not in _SIZES_OF_THEIR_OWN | {"demo"}
    }
    assert len(found) > 2
    assert {words for words, o in found.items() if o.show_default != preset_default(name)} == set()
    unset = click.Option(["--unset"]).default
    assert {words for words, o in found.items() if o.default is not unset} == set()
    with_preset = {words for words, o in options() if "--preset" in o.opts}
    assert set(found) <= with_preset
    assert len({o.help for o in found.values()}) == 1


def test_the_preset_is_the_same_option_everywhere() -> None:
    found = [(o.default, o.help, o.type.name) for _, o in options() if "--preset" in o.opts]
    assert len(found) > 5
    assert len(set(found)) == 1
    assert found[0][0] == RunConfig().preset


def test_the_sizes_of_other_commands_are_those_of_presets() -> None:
    sizes = {words: o for words, o in options() if "--size" in o.opts and words in _SIZES_OF_THEIR_OWN}
    assert sizes["masks preview"].default == RunConfig().size
    presets = " and ".join(str(s) for s in sorted({resolve_config(p).size for p in PRESETS}))
    assert f"[default: {presets}]" in (sizes["check-model"].help or "")


def test_an_export_has_the_presets_size_and_number_of_images(
    pictures_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS["smoke"], "size", 48)
    monkeypatch.setitem(PRESETS["smoke"], "test_images", 2)
    same = ["--data", str(pictures_dir), "--preset", "smoke"]
    folder = tmp_path / "exported"
    done = CliRunner().invoke(cli, ["masks", "export", *same, "--mask", "center", str(folder)])
    assert done.exit_code == 0, done.output
    assert json.loads((folder / "manifest.json").read_text())["size"] == 48
    assert len(list(folder.rglob("*.png"))) == 2


@pytest.mark.parametrize("long", ["--models", "--metrics", "--seeds", "--callback"])
def test_plural_options_take_names_with_commas_and_repetition(long: str) -> None:
    found = [(words, o) for words, o in options() if long in o.opts]
    assert found
    assert {words for words, o in found if not (isinstance(o.type, NameList) and o.multiple)} == set()


def test_json_has_one_help() -> None:
    said = {words: o.help for words, o in options() if "--json" in o.opts}
    assert {words for words, text in said.items() if not (text or "").startswith("Print JSON")} == set()


def test_outputs_are_paths() -> None:
    found = {words: o for words, o in options() if "--output" in o.opts}
    assert len(found) > 5
    assert {words for words, o in found.items() if not isinstance(o.type, click.Path)} == set()
