"""A command's options as a TOML file: read it, write the resolved one, write a commented one to begin with.

Keys are derived from the command's own options, so that an option added there can stand in a file at once.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import tomli_w
from click.core import ParameterSource

from bench.cli.paths import GivenPath
from bench.errors import UsageError
from models.discovery import PROGRAM_PREFIX
from models.registry import did_you_mean

#: Metavar of options that take ``MODEL.FIELD=VALUE``; in a file they are tables, one a model.
ASSIGNMENT = "MODEL.FIELD=VALUE"
#: Options that say what to do with a file, not what to compute.
_NOT_IN_FILES = {"help", "config", "dry-run", "plan-only", "allow-code"}
#: Parameters whose values are or name programs, with their options: a file that somebody else wrote must not have them
#: run unasked. ``--on`` is one, since a Slurm file has shell lines.
_CODE_OPTIONS = {
    "models": "--models",
    "models_from": "--models-from",
    "callback_names": "--callback",
    "on": "--on",
    "assignments": "--set",
}


def option_keys(command: click.Command) -> dict[str, click.Option]:
    """Map each key in a file to its option: the option's long name without dashes in front."""
    named = {}
    for option in command.params:
        if isinstance(option, click.Option):
            key = max(option.opts, key=len).removeprefix("--")
            if key not in _NOT_IN_FILES:
                named[key] = option
    return named


def config_option(function: Any) -> Any:
    """Add ``--config FILE``: the options in FILE become the defaults of the command's own."""
    return click.option(
        "--config",
        type=GivenPath(dir_okay=False, path_type=Path),
        is_eager=True,
        expose_value=False,
        callback=_use,
        help="Take options from a TOML file ('bench init' writes one); what is given here wins.",
    )(function)


def _use(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
    if path is not None:
        # As defaults of click, so that what is given on the command line wins, and click checks the values.
        ctx.default_map = {**(ctx.default_map or {}), **read_config_file(path, ctx)}


def allow_code_option(function: Any) -> Any:
    """Add ``--allow-code``: run the programs that a file names."""
    return click.option(
        "--allow-code",
        is_flag=True,
        help="Run the model files, programs and callbacks that the config file names; a model file is a program.",
    )(function)


def refuse_code_from_file(ctx: click.Context) -> None:
    """Refuse programs that only a config file names.

    Raises:
        UsageError: there are some, and ``--allow-code`` was not given.
    """
    if ctx.params.get("allow_code"):
        return
    # A value from the command line was typed by the user; one that only the file names was perhaps never
    # read.
    for name, option in _CODE_OPTIONS.items():
        if ctx.get_parameter_source(name) is ParameterSource.DEFAULT_MAP and (
            programs := _programs(option, ctx.params[name])
        ):
            # The list decides and not its text, which may be empty.
            values = ",".join(programs) or "''"
            raise UsageError(
                f"the config file names code to run ({values}): read it, then give {option} {values} on the command "
                "line, or --allow-code"
            )


def _programs(option: str, value: Any) -> list[str]:
    """List what is a program, or names one, of an option's value."""
    given = [value] if isinstance(value, str) else value or ()
    names = [name for part in given for name in ([part] if isinstance(part, str) else part)]
    # Models by name are known to this program; only those with the prefix run a program of somebody's, whose
    # command can be set like any field of a model.
    if option in ("--models", "--set"):
        return [name for name in names if name.startswith(PROGRAM_PREFIX)]
    if option == "--on":
        return [name for name in names if name != "local"]
    return names


def read_config_file(path: Path, ctx: click.Context) -> dict[str, Any]:
    """Read the options in a file, by parameter name, checked one by one.

    Raises:
        UsageError: no file, not TOML, an unknown key (with suggestions), a value that its option refuses.
    """
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"--config {path}: no such file; 'bench init {path}' writes one") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"--config {path}: not TOML: {str(error) or 'nested too deep'}") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"--config {path}: cannot be read ({reason})") from error
    return options_from_mapping(given, ctx, f"--config {path}")


def options_from_mapping(given: Mapping[str, Any], ctx: click.Context, where: str) -> dict[str, Any]:
    """Do what :func:`read_config_file` does with values already parsed; ``where`` begins every message."""
    known = option_keys(ctx.command)
    defaults: dict[str, Any] = {}
    for key, value in given.items():
        # Underscores are taken as well: both spellings are common in files.
        option = known.get(key.replace("_", "-"))
        if option is None or option.name is None:
            raise UsageError(f"{where}: unknown key {key!r}{did_you_mean(key, known)}")
        try:
            defaults[option.name] = _plain(value, option)
            # Checked here and not when the option is used, so that the message can name the file and the key.
            option.type_cast_value(ctx, defaults[option.name])
        except (click.BadParameter, ValueError, OverflowError) as error:
            message = error.message if isinstance(error, click.BadParameter) else str(error)
            raise UsageError(f"{where}: {key}: {message}") from error
    return defaults


def _plain(value: Any, option: click.Option) -> Any:
    """Convert a TOML value to what the option would be given it on the command line."""
    if isinstance(value, Mapping):
        if option.metavar != ASSIGNMENT:
            raise ValueError("give a value, not a table")
        if not all(isinstance(fields, Mapping) for fields in value.values()):
            raise ValueError(f"give a table for each model, for example [{option.opts[0][2:]}.pconv]")
        flat = {f"{model}.{field}": v for model, fields in value.items() for field, v in fields.items()}
        if wrong := [name for name, v in flat.items() if not isinstance(v, (str, int, float, list))]:
            raise ValueError(f"{wrong[0]} is neither a text, a number, true, false nor a list")
        # As the text that the command line takes, so that one parser reads both.
        return [f"{name}={v!r}" for name, v in flat.items()]
    if option.is_flag:
        if not isinstance(value, bool):
            raise ValueError(f"{value!r} is neither true nor false")
        return value
    if isinstance(value, list):
        if not option.multiple:
            raise ValueError("give one value, not a list")
        return [_scalar(v) for v in value]
    return [_scalar(value)] if option.multiple else _scalar(value)


def _scalar(value: Any) -> str:
    # A bool is an int to Python, and "1" is not what true means.
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"{value!r} is neither a text nor a number")
    return str(value)


def resolved_options(
    command: click.Command, params: Mapping[str, Any], replace: Mapping[str, Any]
) -> dict[str, Any]:
    """Collect the options of a run as a file can repeat them: every option that is on or has a value.

    Args:
        command: whose options they are.
        params: parameter name -> value, as click parsed them.
        replace: parameter name -> resolved value (names expanded, presets filled in); a mapping becomes a table.
    """
    values: dict[str, Any] = {}
    for key, option in option_keys(command).items():
        value = replace.get(str(option.name), params.get(str(option.name)))
        if option.multiple and isinstance(value, (list, tuple)):
            value = [v for part in value for v in (part if isinstance(part, (list, tuple)) else (part,))]
        # A flag without an opposite is off where it is not written; one with an opposite may be on by
        # default.
        off = value is False and not option.secondary_opts
        if value is not None and not off and value not in ([], {}):
            values[key] = value
    return values


def config_template(
    command: click.Command,
    groups: Mapping[str, tuple[str, ...]],
    defaults: Mapping[str, Any],
    examples: Mapping[str, Any],
) -> str:
    """Write a commented file: every option under its group with its help; those with ``defaults`` on, the others off.

    Args:
        command: whose options they are.
        groups: heading -> keys.
        defaults: key -> value of the lines that are on.
        examples: key -> value shown, for options that have no default.
    """
    known = option_keys(command)
    lines = [
        f"# Options of 'bench {command.name}': give this file as --config. Every option may stand here under its",
        "# name; what is left out has its default, and what is given on the command line wins.",
        "# Lines that begin with '#' are off. Paths are relative to the folder in which the command runs.",
    ]
    tables = [key for key, option in known.items() if option.metavar == ASSIGNMENT]
    for heading, members in groups.items():
        plain = [key for key in members if key not in tables]
        lines += ["", f"# --- {heading} ---"] if plain else []
        for key in plain:
            option = known[key]
            lines += ["", f"# {option.help}"]
            if key in defaults:
                lines.append(_line(key, defaults[key]))
            else:
                lines.append("#" + _line(key, _example(option, examples.get(key))))
    for key in tables:  # at the end, where TOML wants them
        lines += ["", f"# {known[key].help} 'bench show pconv' lists those of pconv."]
        lines += [f"#[{key}.pconv]", "#hole_weight = 6.0"]
    return "\n".join(lines) + "\n"


def _line(key: str, value: Any) -> str:
    """Write a key and its value on one line, lists among them."""
    # tomli-w spreads lists over several lines; a template reads better with one.
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    literals = [tomli_w.dumps({"x": item}).removeprefix("x = ").rstrip("\n") for item in items]
    return (
        f"{key} = [{', '.join(literals)}]" if isinstance(value, (list, tuple)) else f"{key} = {literals[0]}"
    )


def _example(option: click.Option, example: Any) -> Any:
    if example is not None:
        return list(example) if isinstance(example, tuple) else example
    if option.is_flag:
        return bool(option.secondary_opts)
    if isinstance(option.type, click.Choice):
        return option.type.choices[0]
    is_number = isinstance(option.type, click.types.IntParamType | click.types.FloatParamType)
    return 1 if is_number else ""
