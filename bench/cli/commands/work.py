"""``bench work``: compute one unit of a run."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from bench.cli.options import models_from_option
from bench.cli.paths import GivenPath
from bench.cli.wrapping import echo_line


@click.command(
    name="work",
    epilog="\b\nExamples:\n"
    "  bench run --models all --mask center --plan-only --json\n"
    "  bench work --request runs/NAME/request.json --what 3f2a91c0",
)
@click.option(
    "--request",
    "request_file",
    type=GivenPath(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="The run, as 'bench run --plan-only' or '--on' writes it.",
)
@click.option("--what", required=True, metavar="KEY", help="Key of the unit, or the start of one.")
@click.option(
    "--root",
    type=GivenPath(file_okay=False, path_type=Path),
    default=Path(),
    help="Folder that holds runs/ (default: the current one).",
)
@click.option("--mixed", is_flag=True, help="Resume a training that was begun on another kind of machine.")
@models_from_option
@click.option("--allow-code", is_flag=True, help="Run the programs that the request names (exec:FILE).")
def work_command(
    request_file: Path, what: str, root: Path, mixed: bool, models_from: tuple[str, ...], allow_code: bool
) -> None:
    """Compute one unit of a run: a training and its cells.

    For schedulers of any kind: the run is planned elsewhere, and this machine computes one part of it. Results go to
    the run's folder, which the machines share; 'bench run' collects them. Exit code: 0 done (or nothing left to do),
    1 failed, 143 stopped after a checkpoint.
    """
    import dataclasses
    import json

    from bench.errors import UsageError
    from bench.progress import ConsoleCallbacks
    from bench.runner.ownership import HEARTBEAT_SECONDS, LOST_SECONDS
    from bench.runner.prepare import prepare_run
    from bench.runner.work import find_unit, request_from_json, run_unit
    from models.discovery import PROGRAM_PREFIX

    try:
        value = json.loads(request_file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{request_file}: not readable: {error}") from error
    request = request_from_json(value)
    # A model file is a program: the request says that it needs one, the command line says that it may run.
    missing = [f"--models-from {path}" for path in request.models_from if path not in models_from]
    programs = [name for name in request.models if name.startswith(PROGRAM_PREFIX)]
    if missing:
        raise UsageError(f"{request_file} names model files; give them too: {' '.join(missing)}")
    if programs and not allow_code:
        raise UsageError(
            f"{request_file} names programs to run ({', '.join(programs)}): read it, then give --allow-code"
        )
    with ConsoleCallbacks(verbose=True) as callbacks:
        # One unit is one job, whatever the run was planned with.
        prepared = prepare_run(dataclasses.replace(request, jobs=1), callbacks, root)
        unit = find_unit(prepared, what)
        if unit is None:
            callbacks.note("nothing is left to compute")
            return
        # A killed job may start again elsewhere before its last heartbeat is old.
        outcome = run_unit(prepared, unit, mixed=mixed, wait_seconds=LOST_SECONDS + HEARTBEAT_SECONDS)
    # Cells of one training usually fail for one reason, which is said once.
    for failure in {failure.reason: failure for failure in outcome.failures.values()}.values():
        echo_line(f"error: {failure.reason}", err=True)
    sys.exit(0 if outcome.state == "done" else 1)
