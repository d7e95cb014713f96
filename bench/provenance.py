"""Where numbers come from: versions, machine and commit."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.version import __version__

_PACKAGES = ("torch", "torchvision", "numpy", "pandas", "scikit-image", "lpips", "pillow")
#: Besides torch, whose version the device's part names.
_NUMERIC_LIBRARIES = ("numpy", "scipy", "scikit-image", "torchvision", "lpips")


def software_versions() -> dict[str, str]:
    """Return the versions of Python, of this package, and of what the numbers depend on."""
    versions = {"inpaint-bench": __version__, "python": platform.python_version()}
    # From the installed metadata, since importing the packages takes seconds.
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def hardware_info() -> dict[str, object]:
    """Describe processor, cores, memory (GiB) and operating system."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count() or 1,
        "memory_gib": round(_memory_bytes() / 2**30, 1),
        "platform": platform.platform(),
    }


def git_commit() -> str | None:
    """Return the commit this package runs from, with ``+`` if files differ from it; ``None`` outside git."""
    folder = Path(__file__).parent

    # A time limit, because git may wait for a lock or a network file system.
    def git(*args: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *args], capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        # A package that was installed from a wheel may lie in somebody else's checkout, whose commit says
        # nothing.
        if not (folder.parent / ".git").exists():
            return None
        # Untracked files are left out: runs/ and notes beside the code change no number.
        return git("rev-parse", "--short=12", "HEAD") + (
            "+" if git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.SubprocessError):
        return None


def numerics(compute: Mapping[str, Any]) -> dict[str, Any]:
    """Return where numbers are computed: a device's own part, and the libraries whose arithmetic reaches the numbers.

    Args:
        compute: from :meth:`bench.training.device.Compute.numerics`, which names torch's version.
    """
    return {**compute, **{name: importlib.metadata.version(name) for name in _NUMERIC_LIBRARIES}}


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_bytes() -> int:
    # Windows has no sysconf.
    if sys.platform == "win32" or not hasattr(os, "sysconf"):
        return 0
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0
