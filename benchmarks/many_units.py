"""What 500 units of work cost the head that plans and watches them: its time, and its memory at most.

    python benchmarks/many_units.py [UNITS]

The launcher, submitit and the files are the real ones. Only Slurm is not there: ``sbatch`` and ``squeue`` are two shell
scripts, and a process of its own plays the cluster, which runs 50 units at a time and leaves their outcomes.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.runner.prepare import PreparedRun

#: Units that run at a time, and seconds that each takes.
AT_ONCE, UNIT_SECONDS = 50, 2.0
POLL_SECONDS = 0.5

_SBATCH = """#!/bin/sh
# The array's last index: submitit writes --array=0-N%M into the script; a single job has none.
for script; do :; done
last=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\).*/\\1/p' "$script")
echo "${last:-none}" > "$FAKE_CLUSTER/submitted.new"
mv "$FAKE_CLUSTER/submitted.new" "$FAKE_CLUSTER/submitted"
echo "Submitted batch job 1"
"""
_SQUEUE = """#!/bin/sh
# Until the cluster has seen a submission, all of it is pending: nothing is missing from the queue.
cat "$FAKE_CLUSTER/queue"
"""


@contextmanager
def fake_slurm(folder: Path) -> Iterator[None]:
    """Put ``sbatch`` and ``squeue`` in front of the search path."""
    for name, text in (("sbatch", _SBATCH), ("squeue", _SQUEUE)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "queue").write_text("")
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"
    os.environ["FAKE_CLUSTER"] = str(folder)
    yield


def play_cluster(folder: Path) -> None:
    """Run what was submitted: ``units.json`` lists each unit's key and folder, in the order of the array."""
    from bench.runner.run_folder import write_checked_json

    units: list[tuple[str, str]] = json.loads((folder / "units.json").read_text())
    while not (folder / "submitted").exists():
        time.sleep(0.02)
    started: dict[int, float] = {}
    ended: set[int] = set()
    while len(ended) < len(units):
        now = time.monotonic()
        for index in [i for i, since in started.items() if now - since > UNIT_SECONDS]:
            del started[index]
            ended.add(index)
            key, place = units[index]
            outcome = {"state": "done", "failures": {}, "host": "n1", "seconds": UNIT_SECONDS, "what": key}
            Path(place).mkdir(parents=True, exist_ok=True)
            write_checked_json(Path(place) / "unit.json", outcome)
        waiting = [i for i in range(len(units)) if i not in ended and i not in started]
        started |= dict.fromkeys(waiting[: AT_ONCE - len(started)], now)
        lines = [
            f"1_{i}|{'RUNNING|None' if i in started else 'PENDING|Resources'}"
            for i in range(len(units))
            if i not in ended
        ]
        (folder / "queue.new").write_text("\n".join(lines))
        (folder / "queue.new").rename(folder / "queue")
        time.sleep(0.05)


def collect(prepared: PreparedRun) -> None:
    """Write every cell into the manifest as a run does that finds it stored; each looks like a real one."""
    from bench.runner import manifest_writer

    example = json.loads(
        (Path(__file__).parents[1] / "docs/measurements/table4-64-manifest.json").read_text()
    )
    (done, *_) = (cell for cell in example["cells"] if cell["training"])
    record = manifest_writer.open_or_create(prepared)
    record.add_planned(prepared.plan)
    for cell in prepared.plan.cells:
        name = {"model": cell.model, "mask": cell.mask, "train_mask": cell.train_mask, "seed": cell.seed}
        record.add({**done, **name}, stored=True)
    record.finish(prepared.plan)


def measure(num_units: int, folder: Path) -> None:
    """Plan and watch ``num_units`` trainings, and print a line for each stage."""
    from bench.config import Request, resolve_config
    from bench.runner.callbacks import RunCallbacks
    from bench.runner.prepare import prepare_run
    from bench.runner.slurm import SlurmLauncher
    from bench.runner.slurm_jobs import SlurmConfig
    from bench.runner.status import read_status
    from bench.runner.work import open_units, read_saved_cell

    stages: list[tuple[str, float, float]] = []

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        began, cpu = time.perf_counter(), time.process_time()
        yield
        stages.append((name, time.perf_counter() - began, time.process_time() - cpu))

    settings = resolve_config("smoke", {"seeds": tuple(range(num_units)), "test_images": 4})
    request = Request(models=("context-encoder",), masks=("center",), data="faces", settings=settings)
    with stage("open the data and plan one unit"):
        one = resolve_config("smoke", {"seeds": (0,), "test_images": 4})
        prepare_run(
            Request(models=request.models, masks=request.masks, data="faces", settings=one), RunCallbacks()
        )
    with stage(f"plan {num_units} units"):
        prepared = prepare_run(request, RunCallbacks(), folder)
        saved = {cell.key: read_saved_cell(prepared, cell) for cell in prepared.plan.cells}
        units = open_units(prepared, saved)
    assert len(units) == num_units
    listed = [(unit.key, str(unit.folder(prepared.context.store))) for unit in units]
    (folder / "units.json").write_text(json.dumps(listed))
    cluster = subprocess.Popen([sys.executable, __file__, "--cluster", str(folder)])
    launcher = SlurmLauncher(SlurmConfig({"partition": "main", "timeout_min": 60}, poll_seconds=POLL_SECONDS))
    with stage(f"submit and watch {num_units} units, a look each {POLL_SECONDS:g} s"):
        failures = launcher(prepared, units)
    cluster.wait()
    assert not failures
    with stage(f"record {num_units} finished cells"):
        collect(prepared)
    with stage("read them, as bench status does"):
        assert len(read_status(prepared.context.store.folder).cells) == num_units
    print(f"| {num_units} units, {AT_ONCE} at a time | wall (s) | CPU of the head (s) |\n|---|---:|---:|")
    for name, wall, cpu in stages:
        print(f"| {name} | {wall:.1f} | {cpu:.1f} |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in kibibytes
    print(f"| memory at most | {peak / 2**20:,.0f} MiB | |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--cluster"]:
        play_cluster(Path(sys.argv[2]))
    else:
        with tempfile.TemporaryDirectory() as place, fake_slurm(Path(place)):
            measure(int(sys.argv[1]) if len(sys.argv) > 1 else 500, Path(place))
