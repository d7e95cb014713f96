"""``bench demo``: draw a hole in the browser."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli import options
from bench.cli.options import device_option, models_from_option
from bench.cli.paths import GivenPath
from bench.cli.wrapping import echo_line


@click.command(
    epilog="\b\nExamples:\n"
    "  bench demo                           # baselines, on procedural faces\n"
    "  bench demo all-center-faces-quick\n"
    "  bench demo my-run --port 7861 --no-browser"
)
@click.argument("experiment", required=False, shell_complete=options.complete_experiments)
@click.option(
    "--data",
    type=GivenPath(),
    metavar="PATH",
    help="Where the images are.  [default: the experiment's, or faces]",
)
@click.option("--port", type=click.IntRange(1, 65535), help="Port on 127.0.0.1.  [default: a free one]")
@click.option("--browser/--no-browser", default=True, show_default=True, help="Open the page.")
@device_option
@models_from_option
def demo_command(
    experiment: str | None,
    data: str | None,
    port: int | None,
    browser: bool,
    device: str,
    models_from: tuple[str, ...],
) -> None:
    """Draw a hole, and see every model of EXPERIMENT and the baselines complete it side by side.

    The page is served on this machine alone (127.0.0.1) and loads nothing from elsewhere. Needs the extra "demo"
    (Gradio). Ctrl-C ends it.
    """
    from bench.demo import DemoSession, serve

    session = DemoSession(experiment, data=data, models_from=[Path(p) for p in models_from], device=device)
    for name, reason in session.unavailable.items():
        echo_line(f"note: {name} is not available: {reason}", fg="yellow", err=True)
    serve(session, port=port, open_browser=browser, on_start=lambda address: echo_line(f"demo: {address}"))
