"""``bench weights``: the published weights that metrics and losses stand on."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click

from bench.cli.options import json_option
from bench.cli.wrapping import echo_line
from bench.errors import BenchError


@click.group()
def weights_command() -> None:
    """Show and fetch the published weights that LPIPS, FID and PConv's losses need.

    They are in torch's own cache (TORCH_HOME); a file that is there is never fetched again.
    """


@weights_command.command("list", epilog="\b\nExample:\n  bench weights list")
@json_option
def list_weights(as_json: bool) -> None:
    """Show the known weights, what needs them, their license, and whether they are cached and intact."""
    from bench.backbones import select_backbones

    found = [(backbone, backbone.state()) for backbone in select_backbones(())]
    if as_json:
        listed = [{**asdict(b), "file": str(b.file), "state": state} for b, state in found]
        click.echo(json.dumps(listed, indent=1))
        return
    for backbone, state in found:
        echo_line(
            f"{backbone.name:<11} {state:<8} {backbone.megabytes:>4} MB  {backbone.needed_by} [{backbone.license}]"
        )
        echo_line(f"{'':<11} {backbone.file if state != 'missing' else backbone.url}")


@weights_command.command(epilog="\b\nExamples:\n  bench weights fetch\n  bench weights fetch alexnet vgg16")
@click.argument("names", nargs=-1)
def fetch(names: tuple[str, ...]) -> None:
    """Download the named weights (all without NAMES) into torchvision's cache; a damaged file is replaced.

    On a machine without a network, copy the files that "bench weights list" names. Exit code: 0 all are cached,
    1 some could not be fetched.
    """
    from bench import backbones

    failed = False
    # Each by itself: what can be fetched is, also where another server does not answer.
    for backbone in backbones.select_backbones(names):
        try:
            new = backbones.fetch_backbone(backbone, progress=sys.stderr.isatty())
            echo_line(f"{backbone.name}: {'fetched to' if new else 'is already cached:'} {backbone.file}")
        except BenchError as error:
            failed = True
            echo_line(f"failed: {error}", err=True)
    sys.exit(1 if failed else 0)
