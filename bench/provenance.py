"""Where numbers come from: versions, machine, commit, and a digest of the code that makes them."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import bench
import masks
import models
from bench.version import __version__

_PACKAGES = ("torch", "torchvision", "numpy", "pandas", "scikit-image", "lpips", "pillow")


def software_versions() -> dict[str, str]:
    """Versions of Python, of this package, and of what the numbers depend on."""
    versions = {"inpaint-bench": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def hardware_info() -> dict[str, object]:
    """Processor, cores, memory (GiB) and operating system."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count() or 1,
        "memory_gib": round(_memory_bytes() / 2**30, 1),
        "platform": platform.platform(),
    }


def git_commit() -> str | None:
    """Git commit of the checkout this package runs from, with ``+`` if files differ from it; ``None`` outside git."""
    folder = Path(bench.__file__).parent

    def git(*args: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *args], capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        if not (folder.parent / ".git").exists():
            return None
        return git("rev-parse", "--short=12", "HEAD") + (
            "+" if git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.SubprocessError):
        return None


@cache
def training_code_digest(model_file: Path) -> str:
    """Digest of the source that decides a training: the model and what it imports, the trainer and the masks."""
    package = Path(bench.__file__).parent
    roots = [package / "training", Path(masks.__file__).parent]
    files = [*sorted(imported_files(model_file)), package / "runner" / "train.py"]
    return _digest([*files, *(path for root in roots for path in sorted(root.rglob("*.py")))])


def imported_files(model_file: Path) -> set[Path]:
    """The file and, transitively, the files it imports from the package ``models`` or from its own folder."""
    homes = (Path(models.__file__).parent.resolve(), model_file.resolve().parent)
    found: set[Path] = set()
    waiting = [model_file.resolve()]
    while waiting:
        path = waiting.pop()
        if path in found or not path.is_file() or not any(path.is_relative_to(home) for home in homes):
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            waiting += _targets(node, path)
    return found


def _targets(node: ast.AST, importer: Path) -> list[Path]:
    """Files that an import statement may name; a package's ``__init__`` and its submodules alike."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
        level = 0
    elif isinstance(node, ast.ImportFrom):
        stem = node.module or ""
        names = [stem, *(f"{stem}.{alias.name}".lstrip(".") for alias in node.names)]
        level = node.level
    else:
        return []
    bases = (
        [importer.parents[level - 1]]
        if level
        else [Path(models.__file__).resolve().parents[1], importer.parent]
    )
    paths = [base / Path(*name.split(".")) for base in bases for name in names if name]
    return [p for path in paths for p in (path.with_suffix(".py"), path / "__init__.py")]


def numeric_library_versions() -> dict[str, str]:
    """Versions of the libraries besides torch whose arithmetic reaches the numbers: part of every key."""
    names = ("numpy", "scipy", "scikit-image", "torchvision", "lpips")
    return {name: importlib.metadata.version(name) for name in names}


@cache
def evaluation_code_digest() -> str:
    """Digest of the source that decides an evaluation beyond the trained weights: metrics and masks."""
    roots = [Path(bench.__file__).parent / "evaluation", Path(masks.__file__).parent]
    return _digest(path for root in roots for path in sorted(root.rglob("*.py")))


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_bytes() -> int:
    if sys.platform == "win32" or not hasattr(os, "sysconf"):
        return 0
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return 0
