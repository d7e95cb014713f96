"""``bench check-model``: the contract, on anyone's model."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bench.cli import options
from bench.cli.options import models_from_option
from bench.errors import UsageError


@click.command(
    name="check-model",
    epilog="\b\nExamples:\n  bench check-model mgs-iim\n  bench check-model my-unet --models-from my_unet.py",
)
@click.argument("model", shell_complete=options.complete_models)
@click.option("--size", "sizes", multiple=True, type=int, help="Repeatable; 64 and 160 if not given.")
@models_from_option
def check_model_command(model: str, sizes: tuple[int, ...], models_from: tuple[str, ...]) -> None:
    """Check MODEL against the contract: shapes, known pixels, hole-independence, gradients, bf16, resume."""
    from bench.runner.check_model import check_model
    from models.discovery import load_model
    from models.errors import ModelError

    try:
        entry = load_model(model, [Path(p) for p in models_from])
    except ModelError as error:
        raise UsageError(str(error)) from error
    failed = False
    for size in sizes or (64, 160):
        for finding in check_model(entry, size):
            failed |= finding.problem is not None
            mark = (
                click.style("ok  ", fg="green") if finding.problem is None else click.style("FAIL", fg="red")
            )
            click.echo(
                f"{mark} {size:>4} px  {finding.check}{': ' + finding.problem if finding.problem else ''}"
            )
    sys.exit(1 if failed else 0)
