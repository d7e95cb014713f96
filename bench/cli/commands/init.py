"""``bench init``: a commented config file to begin with."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.options import OutputPath, preset_option
from bench.cli.wrapping import echo_line
from bench.errors import UsageError

#: Shown for options that have no default.
_EXAMPLES = {
    "name": "my-experiment",
    "batch": 16,
    "micro-batch": 8,
    "steps-per-phase": 100,
    "train-images": 1000,
    "checkpoint-every": 500,
    "samples": 500,
    "on": "slurm.toml",
    "models-from": ["my_unet.py"],
    "callback": ["tensorboard"],
}


@click.command(
    epilog="\b\nExamples:\n  bench init\n  bench init paper.toml --preset paper\n  bench run --config paper.toml"
)
@click.argument("file", required=False, default="experiment.toml", type=OutputPath())
@preset_option
def init_command(file: Path, preset: str) -> None:
    """Write FILE (experiment.toml), a commented config file with every option of "bench run"."""
    from bench.cli.commands.run import run_command as run
    from bench.cli.config_file import config_template
    from bench.config import resolve_config
    from bench.runner.run_folder import atomic_write

    if file.exists():
        raise UsageError(f"{file} exists already; give another name, or remove it")
    settings = {k.replace("_", "-"): v for k, v in resolve_config(preset).as_dict().items() if v is not None}
    defaults = {"models": ["all"], "mask": ["center"], "data": "faces", "preset": preset}
    text = config_template(run, run.groups, defaults, {"device": "auto", "jobs": 1, **settings, **_EXAMPLES})
    atomic_write(file, lambda path: path.write_text(text, encoding="utf-8"))
    echo_line(f"wrote {file}; run it with: bench run --config {file}")
