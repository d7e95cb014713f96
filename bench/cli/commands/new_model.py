"""``bench new-model``: write a working example to start from."""

from __future__ import annotations

import re
from pathlib import Path

import click

from bench.cli.options import output_option
from bench.cli.wrapping import echo_line
from bench.errors import UsageError


@click.command(
    name="new-model",
    epilog="\b\nExample:\n  bench new-model my-unet\n  bench check-model my-unet --models-from my_unet.py\n"
    "  bench run --models my-unet,mgs-iim,linear --models-from my_unet.py",
)
@click.argument("name")
@output_option("File to write.  [default: NAME.py here]")
def new_model_command(name: str, output: Path | None) -> None:
    """Write a small working model called NAME, with comments, ready to be trained and changed."""
    from models.discovery import find_models
    from models.template import template_source
    from reports.results.atomic_io import atomic_write

    # The name becomes a class, a file and part of folders, so it is held to what all of them can be.
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise UsageError(f"{name!r}: give lower-case words joined by dashes, for example my-unet")
    # A model of the user's own under a known name would be refused by every later command.
    if name in find_models():
        raise UsageError(f"{name!r} is taken by a model of this package; give another name")
    path = Path(output or f"{name.replace('-', '_')}.py")
    if path.exists():
        raise UsageError(f"{path} exists; remove it or give --output")
    atomic_write(path, lambda temporary: temporary.write_text(template_source(name), encoding="utf-8"))
    echo_line(f"wrote {path}")
    echo_line(f"next: bench check-model {name} --models-from {path}")
