"""Config files: what a file can hold, what wins, what is refused, and that a resolved one can be given again."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from bench.cli import cli
from bench.cli.commands.run import run_command as run
from bench.cli.config_file import ASSIGNMENT, option_keys, options_from_mapping, resolved_options
from bench.errors import BenchError, UsageError
from bench.runner.manifest_writer import options_as_toml
from tests.bench.cli.test_cli import bench, error_of


def test_every_option_of_run_can_stand_in_a_file() -> None:
    """Keys are the options themselves: one that is added needs nothing more."""
    named = {max(o.opts, key=len)[2:] for o in run.params}
    assert set(option_keys(run)) == named - {"config", "dry-run", "plan-only", "allow-code"}


@pytest.mark.parametrize("key", option_keys(run))
def test_a_file_says_what_the_command_line_says(key: str) -> None:
    option = option_keys(run)[key]
    value: Any = "1"
    if isinstance(option.type, click.Choice):
        value = option.type.choices[-1]
    words = [f"--{key}", str(value)]
    in_file: Any = {key: [value] if option.multiple else value}
    if option.is_flag:
        words, in_file = [f"--{key}"], {key: True}
    elif option.metavar == ASSIGNMENT:
        words, in_file = [f"--{key}", "pconv.hole_weight=3"], {key: {"pconv": {"hole_weight": 3}}}
    elif isinstance(option.type, click.Path):
        path = str(Path(__file__))
        words, in_file = [f"--{key}", path], {key: [path] if option.multiple else path}
    elif isinstance(option.type, click.types.IntParamType | click.types.FloatParamType):
        in_file = {key: 1}
    name = str(option.name)
    from_line = run.make_context("run", words).params[name]
    ctx = click.Context(run)
    again = run.make_context("run", [], default_map=options_from_mapping(in_file, ctx, "here")).params[name]
    assert again == from_line


def test_the_commented_file_is_a_file_of_defaults_and_each_line_can_be_turned_on(workplace: Path) -> None:
    assert bench("init").exit_code == 0
    text = Path("experiment.toml").read_text(encoding="utf-8")
    for option in option_keys(run).values():
        if option.metavar != ASSIGNMENT:
            assert option.help in text
    on = re.sub(r"^#(?! )", "", text, flags=re.MULTILINE)
    assert set(tomllib.loads(on)) == set(option_keys(run))
    Path("unet.py").touch()
    Path("my_unet.py").touch()
    for version in (text, on):
        options_from_mapping(tomllib.loads(version), click.Context(run), "here")
    assert "exists already" in error_of("init")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("modles = ['mean']", "--config a.toml: unknown key 'modles'; did you mean 'models'"),
        ("images_sen = 3", "unknown key 'images_sen'; did you mean 'images-seen'"),
        ("size = 'big'", "--config a.toml: size: 'big' is not a valid integer"),
        ("size = 64.5", "--config a.toml: size: '64.5' is not a valid integer"),
        ("size = true", "--config a.toml: size: True is neither a text nor a number"),
        ("size = [64]", "--config a.toml: size: give one value, not a list"),
        ("flips = 'no'", "--config a.toml: flips: 'no' is neither true nor false"),
        ("track = 'fiathful'", "--config a.toml: track: 'fiathful' is not one of"),
        ("[size]\na = 1", "--config a.toml: size: give a value, not a table"),
        ("[set]\npconv = 3", "--config a.toml: set: give a table for each model"),
        ("[set.pconv]\nhole_weight = 1979-05-27", "set: pconv.hole_weight is neither a text, a number"),
        ("models = [", "--config a.toml: not TOML: "),
        ("models = ['glcci']", "unknown model 'glcci'; did you mean 'glcic'"),
        ("preset = 'papr'", "--preset papr: unknown; did you mean 'paper'"),
        ("x = " + "[" * 5000, "--config a.toml: not TOML: "),
    ],
)
def test_what_a_file_may_not_say(workplace: Path, text: str, says: str) -> None:
    Path("a.toml").write_text(text)
    assert says in error_of("run", "--config", "a.toml")
    assert not (workplace / "runs").exists()


def test_bytes_that_are_no_text_and_no_file(workplace: Path) -> None:
    Path("a.toml").write_bytes(b"models = '\xff'")
    assert "--config a.toml: not TOML" in error_of("run", "--config", "a.toml")
    assert "'bench init b.toml' writes one" in error_of("run", "--config", "b.toml")


def test_the_command_line_wins_and_the_resolved_file_runs_again(workplace: Path, pictures_dir: Path) -> None:
    Path("mine.toml").write_text(
        f"models = ['mean', 'mean-image']\ndata = {json.dumps(str(pictures_dir))}\npreset = 'smoke'\n"
        "size = 48\nquiet = true\nname = 'from-a-file'\ntest-images = 4\n"
    )
    assert bench("run", "--config", "mine.toml", "--models", "mean", "--size", "32").exit_code == 0
    manifest = json.loads(Path("runs/from-a-file/manifest.json").read_text())
    assert manifest["settings"]["size"] == 32
    assert manifest["settings"]["models"] == ["mean"]
    written = Path("runs/from-a-file/config.toml")
    before = written.read_text()
    assert tomllib.loads(before)["test-images"] == 4
    rows = next(Path("runs/from-a-file/cells").glob("*/results.parquet"))
    age = rows.stat().st_mtime_ns
    assert bench("run", "--config", str(written)).exit_code == 0
    assert written.read_text() == before
    assert rows.stat().st_mtime_ns == age  # taken from the run folder: the same keys
    assert json.loads(Path("runs/from-a-file/manifest.json").read_text())["options"] == manifest["options"]


def test_a_resolved_file_holds_model_options_and_odd_names(workplace: Path) -> None:
    params = {"assignments": ("x",), "data": "a\udcff", "pictures": True, "quiet": False}
    options = resolved_options(run, params, {"assignments": {"pconv": {"hole_weight": 3.5}}})
    text = options_as_toml(options, "as resolved")
    assert tomllib.loads(text) == {"pictures": True, "set": {"pconv": {"hole_weight": 3.5}}}
    assert "# data: not Unicode, give it on the command line" in text


def test_help_shows_options_under_headings() -> None:
    output = bench("run", "--help").output
    headings = ["What is compared:", "Training:", "Machine:"]
    assert [h for h in headings if h in output] == headings
    for option in run.params:
        assert max(option.opts, key=len) in output


def test_ablate_takes_a_file_too(workplace: Path) -> None:
    Path("a.toml").write_text("sise = 64")
    result = CliRunner().invoke(cli, ["ablate", "--config", "a.toml"])
    assert isinstance(result.exception, BenchError | UsageError)
    assert "did you mean 'size'" in str(result.exception)
