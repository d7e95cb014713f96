"""``bench perf``: speed, memory and arithmetic rate of every model and phase on this machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from bench.cli.options import (
    NameList,
    device_option,
    flatten_names,
    json_option,
    models_from_option,
    output_option,
    size_option,
)
from bench.config import PRESETS
from bench.errors import UsageError


@click.command(
    epilog="\b\nExamples:\n"
    "  bench perf\n"
    "  bench perf --models mgs-iim,glcic --size 160 --steps 3 --output perf.json\n"
    "  bench perf --models mgs-iim --size 160 --batch 64 --device cuda --profile"
)
@click.option(
    "--models",
    multiple=True,
    type=NameList(),
    default=("paper",),
    show_default="paper",
    help="Model names or groups (see 'bench list').",
)
@size_option(64)
@click.option("--batch", default=16, show_default=True, type=click.IntRange(1), help="Images per step.")
@click.option("--steps", default=5, show_default=True, type=click.IntRange(1), help="Measured, per phase.")
@click.option(
    "--preset",
    default="quick",
    show_default=True,
    type=click.Choice(list(PRESETS)),
    help="Whose settings are used.",
)
@device_option
@click.option(
    "--precision",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "bf16", "fp32"]),
    help="bf16 autocast or fp32.",
)
@click.option("--compile", is_flag=True, help="Networks through torch.compile, as in 'bench run --compile'.")
@click.option("--plain/--no-plain", default=True, help="Compare with the plain fp32 step.")
@click.option("--profile", is_flag=True, help="Which operators the time goes to, by phase.")
@models_from_option
@output_option("Write all numbers there, as JSON.")
@json_option
def perf_command(
    models: Any, models_from: tuple[str, ...], output: Path | None, as_json: bool, **options: Any
) -> None:
    """Measure training and inference of every model and phase.

    Prints images per second, the ratio to the plain step (float32, eager, channels-first, torch's own layers and
    optimizers), the share of the rate of matrix products measured in the same run, by the whole step and by its
    networks alone, the optimizer's time, and the share of time outside networks and optimizer.
    """
    from bench.perf.measure import PerfConfig, measure_models, perf_rows
    from bench.runner.run_folder import write_json
    from models.discovery import expand_models
    from models.errors import ModelError

    paths = [Path(p) for p in models_from]
    try:
        result = measure_models(
            expand_models(flatten_names(models), paths),
            PerfConfig(**options),
            paths,
            tell=lambda what: click.echo(f"measuring {what}", err=True),
        )
    except ModelError as error:
        raise UsageError(str(error)) from error
    result["command"] = ["bench", *sys.argv[1:]]
    if output is not None:
        write_json(output, result)
    if as_json:
        click.echo(json.dumps(result, indent=1))
        return
    rates = result["matrix_flops_per_second"]
    click.echo(
        f"{result['size']} px, {result['batch']} images a step, {result['hardware']['precision']}; matrix products: "
        + ", ".join(f"{rate / 1e9:,.0f} Gflop/s in {name}" for name, rate in rates.items())
    )
    lines = list(perf_rows(result))
    table = [list(lines[0]), *(list(line.values()) for line in lines)] if lines else []
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        names = [f"{cell:<{width}}" for cell, width in zip(line[:2], widths[:2], strict=True)]
        numbers = [f"{cell:>{width}}" for cell, width in zip(line[2:], widths[2:], strict=True)]
        click.echo("  ".join(names + numbers))
    for model in result["models"]:
        for phase in model["phases"]:
            for operator in phase.get("operators", []):
                click.echo(
                    f"{model['model']} {phase['phase']}: {operator['share']:6.1%}  {operator['operator']}"
                )
    if output is not None:
        click.echo(f"all numbers: {output}")
