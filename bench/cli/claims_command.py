"""``bench claims``: a verdict on each of the paper's claims."""

from __future__ import annotations

import click

_STYLES = {"reproduced": "green", "not reproduced": "red", "indicative": "cyan", "inconclusive": "yellow"}


@click.command(epilog="\b\nExample:\n  bench claims all-center-celeba-paper")
@click.argument("experiment")
def command(experiment: str) -> None:
    """Say what EXPERIMENT (a name in runs/, or a path) shows of each claim of the paper.

    A verdict needs CelebA at 160 px, the budget of the preset "paper" and three seeds; the command that is
    missing is printed.
    """
    from bench.cli.experiments import open_experiment
    from reports.claims import evaluate_claims

    verdicts = evaluate_claims(open_experiment(experiment))
    for verdict in verdicts:
        leaning = f" ({verdict.leaning} the claim)" if verdict.outcome == "indicative" else ""
        click.secho(f"{verdict.outcome}{leaning}", fg=_STYLES.get(verdict.outcome), bold=True, nl=False)
        click.echo(f"  {verdict.claim.key}: {verdict.claim.statement} [{verdict.claim.source}]")
        click.echo(f"    {verdict.reason}")
        for finding in verdict.findings:
            if finding.reason not in verdict.reason:
                click.echo(f"    {finding.reason}")
        if verdict.command:
            click.echo(f"    {verdict.command}")
