"""``bench ablate``: ``bench run`` on what the paper's claims need."""

from __future__ import annotations

import click


@click.command(
    context_settings={"ignore_unknown_options": True},
    epilog="\b\nExamples:\n"
    "  bench ablate\n"
    "  bench ablate --data ~/celeba --preset paper --seeds 0,1,2 --name ablations",
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[OPTIONS OF BENCH RUN]")
@click.pass_obj
def ablate_command(started: dict[str, object], options: tuple[str, ...]) -> None:
    """Run MGS-IIM, its ablations and the paper's three baselines on the center mask.

    The same as "bench run --models claims --mask center". Takes every option of "bench run"; --models adds models.
    """
    from bench.cli.commands.run import run_command as run
    from bench.cli.options import with_own_names
    from reports.claims.paper import MASK

    # Aliases are replaced here: the group does so only for the command that was typed.
    words = ["--models", "claims", "--mask", MASK, *with_own_names(run, options)]
    run.main(words, "bench run", standalone_mode=False, obj=started)
