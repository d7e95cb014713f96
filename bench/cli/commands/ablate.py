"""``bench ablate``: run what the paper's claims need."""

from __future__ import annotations

import click


@click.command(
    context_settings={"ignore_unknown_options": True},
    epilog="\b\nExamples:\n"
    "  bench ablate\n"
    "  bench ablate --data ~/celeba --preset paper --seeds 0,1,2 --name ablations",
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED, metavar="[OPTIONS OF BENCH RUN]")
def ablate_command(options: tuple[str, ...]) -> None:
    """Run MGS-IIM, its ablations and the paper's three baselines on the centre mask.

    These are the cells that "bench claims" needs. Takes every option of "bench run"; --models adds to the
    list.
    """
    from bench.cli.commands.run import run_command as run
    from reports.claims.paper import CLAIMS, MASK

    models = dict.fromkeys(model for claim in CLAIMS for model in claim.models)
    run.main(["--models", ",".join(models), "--mask", MASK, *options], "bench run", standalone_mode=False)
