"""``bench perf``: speed, memory and arithmetic rate of every model and phase on this machine."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click

from bench.cli.options import (
    NameList,
    device_option,
    flatten_names,
    json_option,
    models_from_option,
    output_option,
    preset_default,
    preset_option,
    size_option,
    with_preset,
)
from bench.cli.wrapping import echo_line
from bench.config import Precision
from bench.errors import UsageError


@click.command(
    epilog="\b\nExamples:\n"
    "  bench perf\n"
    "  bench perf --models mgs-iim,glcic --size 160 --steps 3 --output perf.json\n"
    "  bench perf --models mgs-iim --size 160 --batch 64 --device cuda --profile\n"
    "  bench perf --device cuda --model-only --preset paper"
)
@click.option(
    "--models",
    multiple=True,
    type=NameList(),
    default=("paper",),
    show_default="paper",
    help="Model names or groups (see 'bench list').",
)
@preset_option
@size_option()
@click.option(
    "--batch",
    type=click.IntRange(1),
    show_default=preset_default("batch", "16; with --model-only on the faithful track the paper's own"),
    help="Images per step.",
)
@click.option("--steps", default=5, show_default=True, type=click.IntRange(1), help="Measured, per phase.")
@device_option
@click.option(
    "--precision",
    default="auto",
    show_default=True,
    type=click.Choice(get_args(Precision)),
    help="Number format of matrix products and convolutions.",
)
@click.option("--compile", is_flag=True, help="Networks through torch.compile, as in 'bench run --compile'.")
@click.option(
    "--model-only",
    is_flag=True,
    help="With --device cuda: count a step's operators and model its time on known GPUs; needs no GPU.",
)
@click.option("--plain/--no-plain", default=True, help="Compare with the plain fp32 step.")
@click.option("--profile", is_flag=True, help="Which operators the time goes to, by phase.")
@models_from_option
@output_option("Write all numbers there, as JSON.")
@json_option
def perf_command(
    models: Any,
    models_from: tuple[str, ...],
    output: Path | None,
    as_json: bool,
    model_only: bool,
    **options: Any,
) -> None:
    """Measure training and inference of every model and phase.

    Prints images per second, the ratio to the plain step (float32, eager, channels-first, torch's own layers and
    optimizers), the share of the rate of matrix products measured in the same run, by the whole step and by its
    networks alone, the optimizer's time, and the share of time outside networks and optimizer.
    """
    from bench.runner.run_folder import write_json
    from models.discovery import expand_models
    from models.errors import ModelError

    paths = [Path(p) for p in models_from]
    try:
        names = expand_models(flatten_names(models), paths)
        result = _count(names, paths, options) if model_only else _measure(names, paths, options)
    except ModelError as error:
        raise UsageError(str(error)) from error
    result["command"] = ["bench", *sys.argv[1:]]
    if output is not None:
        write_json(output, result)
    if as_json:
        click.echo(json.dumps(result, indent=1))
    elif model_only:
        _show_modelled(result)
    else:
        _show_measured(result)
    if output is not None and not as_json:
        echo_line(f"all numbers: {output}")


def _measure(names: list[str], paths: list[Path], options: dict[str, Any]) -> dict[str, Any]:
    from bench.perf.measure import PerfConfig, measure_models

    chosen = with_preset(options["preset"], size=options["size"], batch=options["batch"])
    # What has no default in the preset is left to the config's own.
    given = {name: value for name, value in {**options, **chosen}.items() if value is not None}
    return measure_models(names, PerfConfig(**given), paths, on_progress=_say("measuring"))


def _count(names: list[str], paths: list[Path], options: dict[str, Any]) -> dict[str, Any]:
    from bench.perf.gpu_estimates import ModelOnlyConfig, model_performance

    if options["device"] != "cuda":
        raise UsageError("--model-only: models GPUs; give --device cuda")
    config = ModelOnlyConfig(**{name: options[name] for name in ("size", "batch", "preset", "precision")})
    return model_performance(names, config, paths, on_progress=_say("counting"))


def _say(verb: str) -> Callable[[str], None]:
    return lambda what: echo_line(f"{verb} {what}", err=True)


def _show_modelled(result: dict[str, Any]) -> None:
    from bench.perf.gpu_estimates import modelled_rows

    echo_line(
        f"Modelled, not measured: preset {result['preset']}, {result['size']} px, {result['precision']}. A step on "
        "each GPU, limited by (a)rithmetic, (m)emory or (l)aunches."
    )
    _print_table(list(modelled_rows(result)), 2)
    echo_line("")
    echo_line("Modelled hours of one training:")
    rows = [
        {"model": model["model"], **{gpu: f"{h:.1f}" for gpu, h in model["modelled_training_hours"].items()}}
        for model in result["models"]
    ]
    _print_table(rows, 1)


def _show_measured(result: dict[str, Any]) -> None:
    from bench.perf.measure import perf_rows

    rates = result["matrix_flops_per_second"]
    echo_line(
        f"{result['size']} px, {result['batch']} images a step, {result['hardware']['precision']}; matrix products: "
        + ", ".join(f"{rate / 1e9:,.0f} Gflop/s in {name}" for name, rate in rates.items())
    )
    _print_table(list(perf_rows(result)), 2)
    for model in result["models"]:
        for phase in model["phases"]:
            for operator in phase.get("operators", []):
                echo_line(
                    f"{model['model']} {phase['phase']}: {operator['share']:6.1%}  {operator['operator']}"
                )


def _print_table(rows: list[dict[str, str]], names: int) -> None:
    """Print rows with equal columns, the first ``names`` of them aligned left."""
    table = [list(rows[0]), *(list(row.values()) for row in rows)] if rows else []
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for line in table:
        cells = [
            f"{c:<{w}}" if i < names else f"{c:>{w}}"
            for i, (c, w) in enumerate(zip(line, widths, strict=True))
        ]
        echo_line("  ".join(cells).rstrip())
