"""``bench claims``: a verdict on each of the paper's claims."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from bench.cli import options
from bench.cli.options import json_option
from bench.cli.wrapping import echo_line, echo_notes, echo_wrapped

if TYPE_CHECKING:
    from reports.claims.claim_verdicts import Verdict

_STYLES = {"reproduced": "green", "not reproduced": "red", "indicative": "cyan", "inconclusive": "yellow"}


@click.command(epilog="\b\nExamples:\n  bench claims all-center-celeba-paper\n  bench claims my-run --json")
@click.argument("experiment", shell_complete=options.complete_experiments)
@json_option
def claims_command(experiment: str, as_json: bool) -> None:
    """Judge each claim of the paper by EXPERIMENT (a name in runs/, or a path).

    A verdict needs CelebA, the set-up of the preset "paper" and three seeds. Every departure from it is printed
    and makes a verdict indicative. For what is undecided, the number of seeds that would decide it is printed;
    for what is missing, the command.
    """
    from bench.experiments import open_experiment
    from reports.claims.claim_verdicts import evaluate_claims, shared_shortfalls
    from reports.results.recorded_files import describe_unlisted
    from reports.statistics.ranking import describe_ranking

    opened = open_experiment(experiment)
    echo_notes(describe_unlisted(place) for place in opened.unlisted_cells)
    verdicts = evaluate_claims(opened)
    if as_json:
        records = [_record(verdict) for verdict in verdicts]
        # allow_nan=False: a NaN that slipped through would make the output unreadable to strict parsers.
        click.echo(json.dumps(_without_nan(records), indent=1, allow_nan=False))
        return
    # What all verdicts have in common is said once, before them.
    shared = shared_shortfalls(verdicts)
    if shared:
        echo_line("departures from the paper's set-up, which every verdict carries:")
        for shortfall in shared:
            echo_wrapped(f"  {shortfall}")
    for verdict in verdicts:
        _print_verdict(verdict, shared)
    if not opened.manifest["data"]["procedural"]:
        for line in describe_ranking(opened.rows):
            echo_wrapped(line)


def _record(verdict: Verdict) -> dict[str, Any]:
    claim, parts = verdict.claim, ("outcome", "leaning", "reason", "shortfalls", "missing", "command")
    return {
        **{key: getattr(claim, key) for key in ("key", "statement", "source")},
        **{key: getattr(verdict, key) for key in parts},
        "margin": asdict(claim.margin) if claim.test == "size" else None,
        "findings": [asdict(finding) for finding in verdict.findings],
    }


def _print_verdict(verdict: Verdict, shared: list[str]) -> None:
    leaning = f" ({verdict.leaning} the claim)" if verdict.outcome == "indicative" else ""
    outcome = f"{verdict.outcome}{leaning}"
    echo_wrapped(
        f"{outcome}  {verdict.claim.key}: {verdict.claim.statement} [{verdict.claim.source}]",
        start=outcome,
        fg=_STYLES.get(verdict.outcome),
        bold=True,
    )
    echo_wrapped(f"    {verdict.summary or verdict.reason}")
    own = [s for s in verdict.shortfalls if s not in shared]
    if own:
        echo_wrapped(f"    departures of its own: {'; '.join(own)}")
    several = len({finding.metric for finding in verdict.findings}) > 1
    for finding in verdict.findings:
        if verdict.summary or finding.reason not in verdict.reason:
            metric = f"{finding.metric:<15}" if several else ""
            echo_wrapped(f"      {finding.relation:<18}{metric}{finding.reason}")
    if verdict.command:
        # Whole, to be copied: a shell would take each of several lines for a command.
        echo_line(f"    {verdict.command}")


def _without_nan(value: Any) -> Any:
    """Replace what JSON cannot express by ``None`` in nested lists and dicts."""
    if isinstance(value, dict):
        return {key: _without_nan(of) for key, of in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(of) for of in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
