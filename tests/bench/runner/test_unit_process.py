"""What a Slurm job runs: a signal in the middle of it ends the command after its checkpoint."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("submitit")

#: A unit that ends on SIGTERM only, after it has written its checkpoint.
_UNIT = """
import signal, sys, time
from pathlib import Path

def end(*_):
    time.sleep(0.5)
    Path("checkpoint").write_text("written")
    sys.exit(143)

signal.signal(signal.SIGTERM, end)
Path("begun").write_text("")
time.sleep(60)
"""
#: A job as submitit runs it: the signal goes to every process of the job, as Slurm's does.
_JOB = """
import json, os, signal, sys, threading, time
from pathlib import Path
from bench.runner.slurm_jobs import UnitProcess

unit = UnitProcess([sys.executable, "-c", Path("unit.py").read_text()])

def warned(*_):
    again = unit.checkpoint()
    print(json.dumps([Path("checkpoint").exists(), again.function.command == unit.command]), flush=True)

def warn():
    while not Path("begun").exists():
        time.sleep(0.05)
    os.killpg(0, signal.SIGUSR2)

signal.signal(signal.SIGUSR2, warned)
threading.Thread(target=warn).start()
print(unit(), flush=True)
"""


def test_a_warning_waits_for_the_checkpoint_and_hands_the_command_back(tmp_path: Path) -> None:
    (tmp_path / "unit.py").write_text(_UNIT)
    done = subprocess.run(
        [sys.executable, "-c", _JOB],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        timeout=120,
        start_new_session=True,
        check=False,
    )
    warned, code = done.stdout.splitlines()
    assert json.loads(warned) == [True, True], done.stderr
    assert code == "143"  # ended by SIGTERM after its checkpoint, not by the warning


def test_the_exit_code_is_that_of_the_command() -> None:
    from bench.runner.slurm_jobs import UnitProcess

    assert UnitProcess([sys.executable, "-c", "raise SystemExit(3)"])() == 3
