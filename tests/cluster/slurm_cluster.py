"""A real Slurm of one controller and two nodes on loopback, without privileges, accounting or munge.

Debian's packages ``slurmctld slurmd slurm-client`` are all it takes. Each node is a ``slurmd`` of its own with one CPU,
so that two single-thread trainings run side by side, and a node can be killed alone.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "scontrol")

_CONFIGURATION = """\
ClusterName=scratch
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/none
CredType=cred/none
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={controller_port}
StateSaveLocation={base}/state
SlurmdSpoolDir={base}/spool-%n
SlurmctldPidFile={base}/run/slurmctld.pid
SlurmdPidFile={base}/run/slurmd-%n.pid
SlurmctldLogFile={base}/log/slurmctld.log
SlurmdLogFile={base}/log/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=10
KillWait=5
MinJobAge=30
SchedulerParameters=sched_interval=1,sched_min_interval=0
NodeName=n[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first_port}-{last_port}] CPUs=1 RealMemory=4000
PartitionName=main Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP
"""


def missing_programs() -> list[str]:
    """Return the Slurm programs that are not installed."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


@dataclass
class SlurmCluster:
    """A running cluster.

    Attributes:
        base: its state, logs and configuration.
        environment: what the clients need: ``SLURM_CONF``.
    """

    base: Path
    environment: dict[str, str]
    _daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def run(self, *command: str) -> str:
        """Run a Slurm client and return what it printed."""
        environment = {**os.environ, **self.environment}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}; logs are in {self.base / 'log'}")
        return done.stdout

    def start_node(self, name: str) -> None:
        """Start (again) the daemon of one node."""
        self._start(name, "slurmd", "-D", "-N", name)

    def kill_node(self, name: str) -> None:
        """Kill a node as a power cut does: its daemon and every process of its jobs, at once.

        Start it again only after its job runs elsewhere: where slurmctld 22.05 gives a requeued job the node that it
        was lost on, its next job step ends the controller with a segmentation fault.
        """
        daemon = self._daemons.pop(name)
        processes = [daemon.pid, *_descendants(daemon.pid), *self._steps_of(name)]
        # Stopped first, Slurm's own before the jobs': a step that outlives its job for a moment reports its end, and a
        # job that has ended is not requeued.
        for signum in (signal.SIGSTOP, signal.SIGKILL):
            for process in sorted(set(processes), key=lambda p: "slurm" not in _command(p)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signum)
        daemon.wait()

    def processes_of_jobs(self) -> list[int]:
        """Processes of running jobs, without Slurm's own."""
        found = []
        for place in Path("/proc").iterdir():
            if place.name.isdigit():
                with contextlib.suppress(OSError):
                    in_job = b"SLURM_JOB_ID=" in (place / "environ").read_bytes()
                    if in_job and "slurm" not in (place / "comm").read_text():
                        found.append(int(place.name))
        return found

    def processes(self) -> list[int]:
        """Processes that were told of this cluster: heads, daemons, jobs; also those whose parent has died."""
        setting = f"SLURM_CONF={self.environment['SLURM_CONF']}".encode()
        found = []
        for place in Path("/proc").iterdir():
            if place.name.isdigit() and int(place.name) != os.getpid():
                with contextlib.suppress(OSError):
                    if setting in (place / "environ").read_bytes().split(b"\0"):
                        found.append(int(place.name))
        return found

    def wait_until(self, condition: str, *, seconds: float = 60.0) -> None:
        """Wait until both nodes are idle (``condition="idle"``) or no job is left (``"empty"``)."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if condition == "idle":
                states = self.run("sinfo", "-h", "-N", "-o", "%t").split()
                if states == ["idle", "idle"]:
                    return
            elif not self.run("squeue", "-h").strip():
                return
            time.sleep(0.3)
        raise TimeoutError(
            f"the cluster is not {condition} after {seconds:g} s; logs are in {self.base / 'log'}"
        )

    def cancel_jobs(self) -> None:
        """Cancel every job and wait until none is left."""
        self.run("scancel", "--full", "-u", _user())
        self.wait_until("empty")

    def release_jobs(self) -> None:
        """Let requeued jobs start at once: Slurm holds them for two minutes."""
        for job in self.run("squeue", "-h", "-r", "-t", "PENDING", "-o", "%i").split():
            self.run("scontrol", "update", f"jobid={job}", "starttime=now")

    def stop(self) -> None:
        """End every daemon, job and head, and leave no process behind."""
        for name in [n for n in self._daemons if n != "slurmctld"]:
            self.kill_node(name)
        for daemon in self._daemons.values():
            daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(10)
            daemon.kill()
            daemon.wait()
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def start(self) -> None:
        """Start the controller and both nodes."""
        self._start("slurmctld", "slurmctld", "-D")
        for name in ("n1", "n2"):
            self.start_node(name)

    def _start(self, name: str, *command: str) -> None:
        log = (self.base / "log" / f"{name}.out").open("ab")
        with log:
            self._daemons[name] = subprocess.Popen(
                command,
                cwd=self.base,
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def _steps_of(self, node: str) -> list[int]:
        """Processes of a node's jobs; ``slurmstepd`` leaves its daemon, so it is found by its tasks' environment."""
        found = []
        for place in Path("/proc").iterdir():
            if place.name.isdigit():
                with contextlib.suppress(OSError):
                    if f"SLURMD_NODENAME={node}".encode() in (place / "environ").read_bytes().split(b"\0"):
                        found += [int(place.name), *_ancestor_step(int(place.name))]
        return found


@contextlib.contextmanager
def slurm_cluster(base: Path) -> Iterator[SlurmCluster]:
    """Bring up a cluster below ``base`` and take it down again."""
    for folder in ("state", "run", "log", "spool-n1", "spool-n2"):
        (base / folder).mkdir(parents=True)
    controller, first = _free_ports()
    configuration = base / "slurm.conf"
    configuration.write_text(
        _CONFIGURATION.format(
            host=socket.gethostname(),
            user=_user(),
            base=base,
            controller_port=controller,
            first_port=first,
            last_port=first + 1,
        )
    )
    cluster = SlurmCluster(base, {"SLURM_CONF": str(configuration)})
    try:
        cluster.start()
        cluster.wait_until("idle")
        yield cluster
    finally:
        cluster.stop()


def _user() -> str:
    import getpass

    return getpass.getuser()


def _free_ports() -> tuple[int, int]:
    """A free port for the controller, and the first of two neighboring free ones for the nodes."""
    for _ in range(100):
        with socket.socket() as one, socket.socket() as two, socket.socket() as three:
            one.bind(("127.0.0.1", 0))
            first = one.getsockname()[1]
            try:
                two.bind(("127.0.0.1", first + 1))
                three.bind(("127.0.0.1", 0))
            except OSError:
                continue
            return three.getsockname()[1], first
    raise OSError("found no free ports")


def _command(process: int) -> str:
    try:
        return Path(f"/proc/{process}/comm").read_text()
    except OSError:
        return ""


def _children() -> dict[int, list[int]]:
    children: dict[int, list[int]] = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (place / "stat").read_text().rsplit(")", 1)[1].split()
                children.setdefault(int(fields[1]), []).append(int(place.name))
    return children


def _descendants(process: int) -> list[int]:
    children, found, waiting = _children(), [], [process]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def _ancestor_step(process: int) -> list[int]:
    """The ``slurmstepd`` above a task, if there is one."""
    while process > 1:
        try:
            text = Path(f"/proc/{process}/stat").read_text()
        except OSError:
            return []
        if "(slurmstepd)" in text:
            return [process]
        process = int(text.rsplit(")", 1)[1].split()[1])
    return []
