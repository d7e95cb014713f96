"""``bench completion``: the words that the TAB key offers."""

from __future__ import annotations

import click


@click.command(
    epilog="\b\nExamples:\n"
    '  eval "$(bench completion bash)"     # in ~/.bashrc\n'
    '  eval "$(bench completion zsh)"      # in ~/.zshrc\n'
    "  bench completion fish > ~/.config/fish/completions/bench.fish"
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print the script that makes SHELL complete commands, options, models, masks and experiments."""
    from click.shell_completion import get_completion_class

    from bench.cli import cli

    kind = get_completion_class(shell)
    assert kind is not None
    complete = kind(cli, {}, "bench", "_BENCH_COMPLETE")
    click.echo(complete.source_template % complete.source_vars())
