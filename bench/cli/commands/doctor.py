"""``bench doctor``: is this machine ready?"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click

from bench.cli.options import data_option, json_option
from bench.cli.wrapping import echo_line
from bench.wording import format_count

_COLORS = {"ok": "green", "warning": "yellow", "failed": "red"}


@click.command(epilog="\b\nExamples:\n  bench doctor\n  bench doctor --data ~/celeba\n  bench doctor --json")
@data_option
@json_option
def doctor_command(data: str, as_json: bool) -> None:
    """Check versions, devices, precision, memory, disk, permissions, weights and data, with a remedy for each fault.

    A warning is something that is not to be had here while the rest works. Exit code: 0 ready (warnings or not),
    1 a run would fail.
    """
    from bench.runner.doctor import examine_system

    found = []
    topic = ""
    for check in examine_system(data):
        found.append(check)
        if as_json:
            continue
        if check.topic != topic:
            topic = check.topic
            echo_line(topic, bold=True)
        echo_line(f"  {check.state:<8}", fg=_COLORS[check.state], nl=False)
        echo_line(f"{check.name:<16} {check.found}")
        if check.remedy:
            echo_line(f"{'':<10}{'':<16} -> {check.remedy}")
    failed = sum(check.state == "failed" for check in found)
    warnings = sum(check.state == "warning" for check in found)
    if as_json:
        click.echo(json.dumps({"ready": not failed, "checks": [asdict(check) for check in found]}, indent=1))
    else:
        verdict = f"{failed} failed: a run would fail" if failed else "ready"
        noted = f", {format_count(warnings, 'warning')}" if warnings else ""
        echo_line(f"{verdict}{noted}", fg=_COLORS["failed" if failed else "ok"], bold=True)
    sys.exit(1 if failed else 0)
