"""``bench claims``: a verdict on each of the paper's claims."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

import click

from bench.cli import options

_SIGNS = {"for": "as claimed", "against": "other way", "neither": "undecided"}
_STYLES = {"reproduced": "green", "not reproduced": "red", "indicative": "cyan", "inconclusive": "yellow"}


@click.command(epilog="\b\nExamples:\n  bench claims all-center-celeba-paper\n  bench claims my-run --json")
@click.argument("experiment", shell_complete=options.complete_experiments)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def claims_command(experiment: str, as_json: bool) -> None:
    """Say what EXPERIMENT (a name in runs/, or a path) shows of each claim of the paper.

    A verdict needs CelebA at 160 px, the budget of the preset "paper" and three seeds; the command that is
    missing is printed.
    """
    from bench.experiments import open_experiment
    from reports.claims.verdicts import evaluate_claims

    verdicts = evaluate_claims(open_experiment(experiment))
    if as_json:
        told = [
            {
                **{key: getattr(verdict.claim, key) for key in ("key", "statement", "source")},
                **{
                    key: getattr(verdict, key)
                    for key in ("outcome", "leaning", "reason", "missing", "command")
                },
                "findings": [asdict(finding) for finding in verdict.findings],
            }
            for verdict in verdicts
        ]
        click.echo(json.dumps(_without_nan(told), indent=1, allow_nan=False))
        return
    for verdict in verdicts:
        leaning = f" ({verdict.leaning} the claim)" if verdict.outcome == "indicative" else ""
        click.secho(f"{verdict.outcome}{leaning}", fg=_STYLES.get(verdict.outcome), bold=True, nl=False)
        click.echo(f"  {verdict.claim.key}: {verdict.claim.statement} [{verdict.claim.source}]")
        click.echo(f"    {verdict.summary or verdict.reason}")
        for finding in verdict.findings:
            if verdict.summary or finding.reason not in verdict.reason:
                click.echo(f"      {_SIGNS[finding.leaning]:<12}{finding.reason}")
        if verdict.command:
            click.echo(f"    {verdict.command}")


def _without_nan(value: Any) -> Any:
    """Nested lists and dicts with ``None`` for what JSON cannot say."""
    if isinstance(value, dict):
        return {key: _without_nan(of) for key, of in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(of) for of in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
