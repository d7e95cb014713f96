"""How far the time that ``bench run`` announces is from what the command takes, start-up and report included.

python benchmarks/estimate.py [OPTIONS OF BENCH RUN]

Run it on an idle machine: what other programs take is foreseen only as it is at the start.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

#: Seconds of the units in which the command line writes a duration.
UNITS = {"s": 1, "min": 60, "h": 3600, "days": 86400}
ROOT = Path(__file__).resolve().parent.parent


def announced_seconds(line: str) -> float:
    """Read the duration out of a line of the plan.

    >>> announced_seconds("8 cells; 4 trainings to run: about 6 min on this machine.")
    360.0
    """
    found = re.search(r"about ([\d.]+) (\w+) on this machine", line)
    if found is None:
        raise SystemExit(f"no duration in {line!r}")
    return float(found[1]) * UNITS[found[2]]


def compare(options: list[str]) -> tuple[float, float]:
    """Run the command in an empty folder; return the seconds that it announced and those that it took."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        run = [sys.executable, "-P", "-m", "bench", "run", *options]
        done = subprocess.run(
            run,
            cwd=folder,
            env=_environment(),
            check=True,
            text=True,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        took = time.perf_counter() - began
    (plan,) = (line for line in done.stderr.splitlines() if "on this machine" in line)
    return announced_seconds(plan), took


def _environment() -> dict[str, str]:
    # The folder is empty, so an uninstalled package would not be found there.
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}


if __name__ == "__main__":
    options = sys.argv[1:] or ["--preset", "smoke", "--models", "all"]
    announced, took = compare(options)
    print("| bench run | announced (s) | took (s) | ratio |\n|---|---:|---:|---:|")
    print(f"| {' '.join(options)} | {announced:.0f} | {took:.0f} | {announced / took:.2f} |")
