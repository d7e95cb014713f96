"""Sessions: ``nox`` runs lint, types and tests. With ``--no-venv`` they use the environment that nox runs in."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import nox
from nox.virtualenv import PassthroughEnv

nox.needs_version = ">=2024.10.9"
nox.options.sessions = ["lint", "types", "tests"]
nox.options.default_venv_backend = "uv|virtualenv"

#: What the session ``browser`` has npm install: the accessibility check and the check of the HTML.
NODE_PACKAGES = ("axe-core@4.14.1", "html-validate@9.7.1")

PYTHONS = ["3.11", "3.12", "3.13"]
OLD_WARNINGS = ["-W", "ignore::DeprecationWarning", "-W", "ignore::PendingDeprecationWarning"]


def install(session: nox.Session, *what: str) -> None:
    """Install into the session's own environment, if it has one."""
    if not isinstance(session.virtualenv, PassthroughEnv):
        session.install(*what)


@nox.session(venv_backend="none")
def dev(session: nox.Session) -> None:
    """Set up everything for working on this project: ``.venv`` with pinned requirements, and the commit hooks."""
    session.run("python", "-m", "venv", ".venv")
    python = str(Path(".venv") / ("Scripts" if sys.platform == "win32" else "bin") / "python")
    session.run(python, "-m", "pip", "install", "-q", "-c", "constraints.txt", "-e", ".[dev]", external=True)
    session.run(python, "-m", "pre_commit", "install", external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, the import contracts, and unsafe code."""
    install(session, "ruff>=0.8", "import-linter>=2.1", "bandit[toml]>=1.8")
    if not isinstance(session.virtualenv, PassthroughEnv):
        session.install("--no-deps", "-e", ".")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports")
    session.run("bandit", "-q", "-c", "pyproject.toml", "-r", "bench", "masks", "models", "reports")


@nox.session
def audit(session: nox.Session) -> None:
    """Look for known vulnerabilities in the dependencies; needs the network."""
    session.install("pip-audit>=2.7")
    session.run("pip-audit", "--progress-spinner", "off", "-r", "constraints.txt", "--no-deps")


@nox.session
def types(session: nox.Session) -> None:
    """Mypy, strict."""
    install(session, "-e", ".[dev]")
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests; arguments go to pytest."""
    install(session, "-e", ".[dev]")
    session.run("pytest", "-n", "auto", *session.posargs)


@nox.session(python=PYTHONS)
def pythons(session: nox.Session) -> None:
    """Run the tests on every supported Python."""
    install(session, "-e", ".[dev]")
    session.run("pytest", "-n", "auto", *session.posargs)


@nox.session(python=PYTHONS)
def masks(session: nox.Session) -> None:
    """Test the masks with NumPy and Pillow alone: the same golden digests on old and new Python and NumPy."""
    numpy = "numpy~=1.26.4" if session.python == "3.12" else "numpy"
    session.install(numpy, "pillow", "pytest", "pytest-timeout", "pytest-xdist", "hypothesis")
    session.run("python", "-c", "import numpy; print('NumPy', numpy.__version__)")
    session.run("python", "-m", "pytest", "tests/masks", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation site into ``site/``: strictly, and without the network."""
    install(session, "-e", ".[docs]")
    session.run("mkdocs", "build", "--strict", "--quiet", env={"NO_MKDOCS_2_WARNING": "true"})


@nox.session
def smoke(session: nox.Session) -> None:
    """Run the whole main job at preset ``smoke``, in a temporary folder."""
    install(session, "-e", ".")
    folder = session.create_tmp()
    session.chdir(folder)
    session.run("bench", "run", "--models", "all", "--mask", "center", "--preset", "smoke", "--name", "smoke")
    session.run("bench", "report", "smoke")


@nox.session
def release(session: nox.Session) -> None:
    """Build wheel and sdist into ``dist/``, check them, and run the main command from the wheel alone."""
    session.install("build", "twine", "hatchling")
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build", "--no-isolation")
    session.run("twine", "check", "--strict", *map(str, Path("dist").glob("*")))
    (wheel,) = Path("dist").resolve().glob("*.whl")
    folder = Path(session.create_tmp()).resolve()
    session.run("python", "-m", "venv", "--clear", str(folder / "empty"))
    python = folder / "empty" / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    session.run(str(python), "-m", "pip", "install", "-q", str(wheel), external=True)
    session.chdir(folder)
    command = ["run", "--models", "all", "--mask", "center", "--preset", "smoke", "--name", "release"]
    session.run(str(python), "-m", "bench", *command, external=True)


@nox.session(venv_backend="none")
def docker(session: nox.Session) -> None:
    """Build the CPU image and run the smoke test in it, where docker is installed."""
    if not shutil.which("docker"):
        session.skip("docker is not installed here")
    if subprocess.run(["docker", "version"], capture_output=True, check=False).returncode:
        session.skip("docker is installed here, and its daemon does not run")
    session.run("docker", "build", "-t", "inpaint-bench", ".", external=True)
    command = ["run", "--models", "all", "--mask", "center", "--preset", "smoke"]
    session.run("docker", "run", "--rm", "inpaint-bench", *command, external=True)


@nox.session(python="3.11", venv_backend="uv")
def minimums(session: nox.Session) -> None:
    """Run the tests on the lowest declared versions; those warn of their own age, which is no fault of ours."""
    session.install("--resolution=lowest-direct", "-e", ".[dev]")
    session.run("pytest", "-n", "auto", *OLD_WARNINGS, *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """``bench demo`` in headless Chromium: paint, run, and no request leaves loopback."""
    if not any(shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")):
        session.skip("Chromium is not installed (Debian: apt-get install chromium)")
    # Gradio pins an older Pillow than everybody else's, so that it has an environment of its own.
    install(session, "-e", ".[demo,browser]", "pytest>=8.2", "pytest-timeout>=2.3", "pytest-xdist>=3.6")
    if isinstance(session.virtualenv, PassthroughEnv):
        imported = subprocess.run(
            ["python", "-c", "import gradio, playwright"], capture_output=True, check=False
        )
        if imported.returncode:
            session.skip(
                "the extras demo and browser are not installed here: pip install -e '.[demo,browser]'"
            )
    session.run("pytest", "tests/bench/test_demo_browser.py", *session.posargs)


@nox.session
def browser(session: nox.Session) -> None:
    """Open the report in headless Chromium: it works, it overflows nowhere, axe and html-validate find nothing."""
    if not any(shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")):
        session.error("needs Chromium (Debian: apt-get install chromium)")
    install(session, "-e", ".[dev,browser]")
    folder = Path(session.create_tmp()).resolve()
    session.run("npm", "install", "--no-save", "--prefix", str(folder), *NODE_PACKAGES, external=True)
    session.env["INPAINT_BENCH_NODE_MODULES"] = str(folder / "node_modules")
    # Tests of files are ``long`` and draw PDF with the same Chromium.
    files = ["tests/reports/test_browser.py", "tests/reports/test_files.py"]
    session.run("pytest", "-m", "not slow", *files, *session.posargs)


@nox.session
def long(session: nox.Session) -> None:
    """Run the tests that start many processes or repeat others at the paper's size: apart, pytest stays quick."""
    install(session, "-e", ".[dev]")
    # Test by test, not file by file: few share a fixture, and one file of them would keep one core waiting.
    session.run("pytest", "-n", "auto", "--dist", "load", "-m", "long", *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """Proofs that take minutes: overfitting, fifty kills, statistics by simulation."""
    install(session, "-e", ".[dev]")
    session.run("pytest", "-m", "slow", "--timeout=3600", *session.posargs)


@nox.session
def stress(session: nox.Session) -> None:
    """Fifty SIGKILLs and power cuts at twenty moments: the run ends bit-identical each time."""
    install(session, "-e", ".[dev]")
    files = ["tests/bench/runner/test_stress.py", "tests/bench/runner/test_power_cut.py"]
    session.run("pytest", "-m", "slow", "-s", "--timeout=3600", *files, *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Kills in every stage, power cuts, full disk, read-only folders, vanished data, two processes, clock, memory."""
    install(session, "-e", ".[dev]")
    files = ["tests/bench/runner/test_faults.py", "tests/bench/runner/test_power_cut.py"]
    session.run("pytest", "-m", "slow", "-s", "--timeout=3600", *files, *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Damaged and hostile input for every reader, for five minutes; ``-- --inputs 100000`` tries so many."""
    install(session, "-e", ".[dev]")
    session.run("python", "-m", "tests.bench.fuzzing", *session.posargs)


@nox.session
def cluster(session: nox.Session) -> None:
    """Units of work on a real Slurm of two nodes on loopback (Debian: slurmctld slurmd slurm-client).

    CI runs the part without "slow": equal weights, a killed node, a killed head: nox -s cluster -- -m "cluster and not
    slow".
    """
    if not all(shutil.which(name) for name in ("slurmctld", "slurmd", "sbatch")):
        session.error(
            "needs Slurm (Debian: apt-get install slurmctld slurmd slurm-client slurm-wlm-basic-plugins)"
        )
    install(session, "-e", ".[dev]")
    arguments = session.posargs or ["-m", "cluster"]
    session.run("pytest", "-n", "0", "--timeout=3600", "tests/cluster", *arguments)


@nox.session
def gpu(session: nox.Session) -> None:
    """Prove training and metrics on a CUDA device, then print throughput, utilization and peak memory as JSON.

    On an H200 the tests took two minutes on 14 processes, and the figures 40 seconds. The JSON belongs into
    docs/measurements/.
    """
    install(session, "-e", ".[dev]")
    session.run("pytest", "-n", "0", "-m", "gpu", *session.posargs)
    session.run("bench", "perf", "--device", "cuda", "--size", "160", "--steps", "20", "--no-plain", "--json")
