"""``bench check-model``: the contract, on anyone's model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench.cli import options
from bench.cli.options import models_from_option
from bench.cli.wrapping import echo_line
from bench.errors import UsageError

if TYPE_CHECKING:
    from models.contract_checks import CheckResult


@click.command(
    name="check-model",
    epilog="\b\nExamples:\n  bench check-model mgs-iim\n  bench check-model my-unet --models-from my_unet.py",
)
@click.argument("model", shell_complete=options.complete_models)
@click.option(
    "--size",
    "sizes",
    multiple=True,
    type=int,
    help="Side of the images in pixels; repeatable.  [default: 64 and 160]",
)
@models_from_option
def check_model_command(model: str, sizes: tuple[int, ...], models_from: tuple[str, ...]) -> None:
    """Check MODEL against the contract: types, shapes, known pixels, hole-independence, gradients, bf16, resume.

    Each problem is one line with the file and line of the model's code that it is about.
    """
    from bench.runner.check_model import check_model
    from models.discovery import load_model
    from models.errors import ModelError

    try:
        entry = load_model(model, [Path(p) for p in models_from])
    except ModelError as error:
        raise UsageError(str(error)) from error
    results = []
    for size in sizes or (64, 160):
        for result in check_model(entry, size):
            results.append(result)
            # A skipped check has no result to show; how many there were is said at the end.
            if not result.skipped:
                word = "ok  " if result.problem is None else "FAIL"
                echo_line(
                    f"{word}{_line(result, size)}",
                    start=word,
                    fg="green" if result.problem is None else "red",
                )
    passed = sum(result.passed for result in results)
    skipped = sum(result.skipped for result in results)
    text = f"{passed} of {len(results)} checks passed"
    if skipped:
        were, they = ("was", "it") if skipped == 1 else ("were", "they")
        text += f"; {skipped} {were} not run, since {they} would meet the same problem"
    echo_line(text)
    sys.exit(0 if passed == len(results) else 1)


def _line(result: CheckResult, size: int) -> str:
    """Say what was checked at which size, and the place of a problem in the author's file."""
    if result.problem is None:
        return f" {size:>4} px  {result.check}"
    where = f"{result.where}: " if result.where else ""
    return f" {size:>4} px  {result.check}: {where}{result.problem}"
