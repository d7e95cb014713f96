"""``bench list``: models, masks, data, protocols, presets, metrics.

Imports no torch: names are read from source files.
"""

from __future__ import annotations

import json
import shutil
import sys
import textwrap
from pathlib import Path

import click

from bench.cli.options import json_option, models_from_option
from bench.cli.wrapping import echo_line
from bench.errors import UsageError

KINDS = ("models", "masks", "data", "protocols", "presets", "metrics")


@click.command(
    name="list", epilog="\b\nExamples:\n  bench list\n  bench list masks\n  bench list models --check"
)
@click.argument("kind", required=False, type=click.Choice(KINDS))
@click.option("--check", is_flag=True, help="Import every model and show what fails.")
@json_option
@models_from_option
def list_command(kind: str | None, check: bool, as_json: bool, models_from: tuple[str, ...]) -> None:
    """List models, masks, data sources, protocols, presets and metrics."""
    sections = {
        "masks": _masks,
        "data": _data,
        "protocols": _protocols,
        "presets": _presets,
        "metrics": _metrics,
    }
    listed = {
        name: _models(models_from) if name == "models" else sections[name]()
        for name in ([kind] if kind else KINDS)
    }
    # The check's own lines go to standard error, so that JSON stays readable.
    if as_json:
        click.echo(json.dumps({name: dict(rows) for name, rows in listed.items()}, indent=1))
        sys.exit(1 if check and _check(models_from) else 0)
    failed = False
    for name, rows in listed.items():
        echo_line(name, bold=True)
        for line in _columns(rows, shutil.get_terminal_size().columns):
            echo_line(line)
        echo_line("")
    if check:
        failed = _check(models_from)
    sys.exit(1 if failed else 0)


def _columns(rows: list[tuple[str, str]], width: int) -> list[str]:
    """Format names and their lines side by side, wrapped to ``width`` characters."""
    indent = min(max(len(name) for name, _ in rows) + 4, width // 2)
    wrapped = (
        textwrap.wrap(
            line,
            max(width, indent + 20),
            initial_indent=f"  {name:<{indent - 2}}",
            subsequent_indent=" " * indent,
        )
        for name, line in rows
    )
    return [line for lines in wrapped for line in lines]


def _models(models_from: tuple[str, ...]) -> list[tuple[str, str]]:
    from models.discovery import find_models
    from models.errors import ModelError

    try:
        listings = find_models([Path(p) for p in models_from])
    except ModelError as error:
        raise UsageError(str(error)) from error
    # By the card's first group, so that the paper's four models come first.
    order = {"paper": 0, "untrained": 1, "classical": 2, "modern": 3, "ablations": 4}
    cards = sorted(
        (listing.card for listing in listings.values()),
        key=lambda c: order.get(c.groups[0] if c.groups else "", 5),
    )
    return [(c.name, f"{c.summary} [{', '.join(c.groups) or 'yours'}]") for c in cards]


def _masks() -> list[tuple[str, str]]:
    from masks.registry import mask_info, mask_names

    return [(name, mask_info(name).summary) for name in mask_names()]


def _data() -> list[tuple[str, str]]:
    from bench.data.sources import data_sources

    return [(s.name, f"{s.title}: {s.layout}. {s.homepage}".rstrip(" ")) for s in data_sources()]


def _protocols() -> list[tuple[str, str]]:
    from bench.protocols import PROTOCOLS

    return [
        (p.name, f"{p.title}. Known: {'; '.join(p.known)}. Not known: {'; '.join(p.unknown)}. [{p.source}]")
        for p in PROTOCOLS.values()
    ]


def _presets() -> list[tuple[str, str]]:
    from bench.config import PRESET_SUMMARIES

    return list(PRESET_SUMMARIES.items())


def _metrics() -> list[tuple[str, str]]:
    from bench.evaluation.metrics import list_metrics

    return [
        (name, f"{info.title}: {info.convention}; {info.summary}") for name, info in list_metrics().items()
    ]


def _check(models_from: tuple[str, ...]) -> bool:
    """Import every model; true if one fails."""
    from models.discovery import find_models, load_model
    from models.errors import BrokenModelError

    paths = [Path(p) for p in models_from]
    failed = False
    for name in find_models(paths):
        try:
            load_model(name, paths)
        except BrokenModelError as error:
            failed = True
            echo_line(f"{name}: {error}", fg="red", err=True)
    echo_line("some models fail to import" if failed else "every model imports", err=True)
    return failed
