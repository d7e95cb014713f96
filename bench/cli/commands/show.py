"""``bench show``: a model's layers, sizes, phases and ambiguities."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bench.cli import options
from bench.cli.options import models_from_option, preset_option, size_option
from bench.cli.wrapping import echo_line, echo_wrapped
from bench.errors import UsageError
from masks.file_names import one_line


@click.command(epilog="\b\nExamples:\n  bench show mgs-iim\n  bench show pconv --preset paper")
@click.argument("model", shell_complete=options.complete_models)
@preset_option
@size_option()
@click.option("--all-masks", is_flag=True, help="As built for masks other than the center hole.")
@models_from_option
def show_command(
    model: str, size: int | None, preset: str, all_masks: bool, models_from: tuple[str, ...]
) -> None:
    """Show a model's layers, parameters, multiply-accumulates, phases, sources and ambiguities."""
    from bench.config import resolve_config
    from bench.profiling.flops import count_operations, shapes_only
    from models.base import Box, Budget, Task
    from models.discovery import load_model
    from models.errors import ModelError

    settings = resolve_config(preset)
    size = settings.size if size is None else size
    # As in a run on the center mask, whose hole is known to the model.
    box = None if all_masks else Box(size // 4, size // 4, size // 2, size // 2)
    task = Task(size=size, fixed_hole_box=box)
    try:
        entry = load_model(model, [Path(p) for p in models_from])
        config = entry.config(preset)
        entry.model.validate(config, size)
    except ModelError as error:
        raise UsageError(str(error)) from error
    batch_size = settings.batch_for(entry.model.published_batch_size)
    budget = Budget(num_steps=max(1, settings.images_seen // batch_size), track=settings.track)
    # Built without weights: a model of hundreds of megabytes is shown at once.
    built = shapes_only(entry.model, config, task)

    echo_line(f"{entry.card.label} ({entry.card.name})", bold=True)
    echo_wrapped(entry.card.summary)
    echo_line(entry.card.paper)
    echo_line("")
    for name, layers in built.layer_table().items():
        echo_line(f"{name} at {size} x {size}", bold=True)
        columns = ["name", "kind", "kernel", "stride", "in", "out", "note"]
        _table(
            columns,
            [[x.name, x.kind, x.kernel, x.stride, x.in_channels, x.out_channels, x.note] for x in layers],
        )
    for name, network in built.networks.items():
        parameters = sum(p.numel() for p in network.parameters())
        echo_line(f"{name}: {parameters:,} parameters, {parameters * 4 / 2**20:.1f} MiB of weights")
    if entry.model.trained:
        cost = count_operations(entry.model, config, task, budget)
        echo_wrapped(
            f"generator at {size} x {size}: {cost.multiply_accumulates / 1e9:.2f} G multiply-accumulates per image; "
            f"in training {cost.kept_bytes / 2**20:.1f} MiB per image kept for its gradient (float32)"
        )
        echo_line("")
        echo_line(f"phases (preset {preset}, {batch_size} images a step)", bold=True)
        rows = []
        for phase in built.phases(budget):
            for trained, spec in phase.optimizers.items():
                terms = _terms(cost.loss_terms[phase.name, trained], config)
                rows.append([phase.name, f"{phase.num_steps:,}", trained, spec.describe(), terms])
        _table(["phase", "steps", "network", "optimizer", "loss"], rows)
    echo_line("config", bold=True)
    _table(["field", "value"], [[k, str(v)] for k, v in entry.model.resolved_config(config, task).items()])
    if entry.model.ambiguities:
        echo_line("what the publication leaves open, and what departs from it (*)", bold=True)
        _table(
            ["topic", "published", "here", "field"],
            [
                [
                    f"{r.topic}{'*' if r.deviation else ''}",
                    r.published,
                    r.resolved,
                    r.field,
                ]
                for r in entry.model.ambiguities
            ],
        )


def _terms(names: tuple[str, ...], config: Any) -> str:
    """Format ``mse + 0.0004 adversarial``: each term with its config field ``TERM_weight``, if it has one."""
    parts = []
    for name in names:
        if name.endswith("_score"):  # logged, not minimised
            continue
        weight = getattr(config, f"{name}_weight", getattr(config, f"{name.split('_')[0]}_weight", None))
        parts.append(name if weight is None else f"{weight:g} {name}")
    return " + ".join(parts) or "adversarial"


def _table(columns: list[str], rows: list[list[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        # Names of fields are copied into commands: a narrow terminal breaks sentences instead.
        table.add_column(column, overflow="fold", no_wrap=column == "field")
    for row in rows:
        # Names of fields stand one to a line.
        cells = zip(columns, map(one_line, row), strict=True)
        table.add_row(*(cell.replace(", ", ",\n") if name == "field" else cell for name, cell in cells))
    Console(highlight=False, markup=False).print(table)
