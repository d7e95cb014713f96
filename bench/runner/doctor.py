"""``bench doctor``: is this machine ready? Each check is a line with what was found and, where it fails, the remedy."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from filelock import FileLock
from packaging.requirements import Requirement

from bench.backbones import list_backbones
from bench.data import DataSpec
from bench.data.cache import cache_folder, default_cache_folder, plain_name
from bench.data.dataset import FACES
from bench.data.sources import find_source, read_bytes
from bench.data.transforms import ImageError, decode_image, decoding
from bench.errors import BenchError
from bench.provenance import hardware_info
from bench.runner.batch_size import free_bytes
from bench.runner.run_folder import REPORTS, RUNS
from bench.training.device import Compute, select_device, supports_bf16

#: ``warning``: something is not to be had, the rest works. ``failed``: a run would fail.
State = Literal["ok", "warning", "failed"]

_MIB, _GIB = 2**20, 2**30
#: Less free memory or disk than this and a run of the default size fails, or may fail.
_MEMORY = (1 * _GIB, 3 * _GIB)
_DISK = (200 * _MIB, 2 * _GIB)
#: Largest difference of a product of two 256 x 256 matrices of normal numbers from float64's.
_PRODUCT_ERROR = {torch.float32: 1e-3, torch.bfloat16: 1.0}


@dataclass(frozen=True)
class SystemCheck:
    """One line: what was looked at, what was found, and what to do about it (empty where nothing)."""

    topic: str
    name: str
    state: State
    found: str
    remedy: str = ""


def examine_system(data: str = FACES) -> Iterator[SystemCheck]:
    """Yield every check in the order shown; ``data`` is what a run would take as ``--data``."""
    yield from _versions()
    yield from _devices()
    yield from _folders()
    yield from _weights()
    yield from _data(data)


def _versions() -> Iterator[SystemCheck]:
    yield SystemCheck("versions", "python", "ok", f"{platform.python_version()} ({sys.executable})")
    extras: dict[str, list[Requirement]] = {}
    # Read from the installed metadata and not from pyproject.toml, which a wheel does not have.
    for text in importlib.metadata.requires("inpaint-bench") or ():
        requirement = Requirement(text)
        extra = _extra(requirement)
        if extra is None:
            yield _package(requirement)
        elif extra != "dev":
            extras.setdefault(extra, []).append(requirement)
    # An extra counts only as a whole: a part of one is usually there for the sake of another package.
    for extra, needed in extras.items():
        missing = [r.name for r in needed if _version(r.name) is None]
        if missing:
            remedy = f"where you want it: pip install 'inpaint-bench[{extra}]'"
            yield SystemCheck(
                "versions", f"extra {extra}", "ok", f"not installed ({', '.join(missing)})", remedy
            )
        for requirement in needed:
            if not missing:
                yield _package(requirement)


def _package(requirement: Requirement) -> SystemCheck:
    version = _version(requirement.name)
    # A development version of torch satisfies a bound as well, although specifiers leave pre-releases out by
    # default.
    if version is not None and requirement.specifier.contains(version, prereleases=True):
        return SystemCheck("versions", requirement.name, "ok", version)
    found = "not installed" if version is None else f"{version}, needed is {requirement.specifier}"
    remedy = f"pip install '{requirement.name}{requirement.specifier}'"
    return SystemCheck("versions", requirement.name, "failed", found, remedy)


def _extra(requirement: Requirement) -> str | None:
    """Return the extra that a requirement belongs to; ``None`` for one that is always needed."""
    if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
        return None
    names = importlib.metadata.metadata("inpaint-bench").get_all("Provides-Extra") or []
    return next((name for name in names if requirement.marker.evaluate({"extra": name})), None)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> Iterator[SystemCheck]:
    machine = hardware_info()
    threads = f"{machine['cores']} cores, {torch.get_num_threads()} threads"
    yield SystemCheck("devices", "cpu", "ok", f"{machine['cpu']}, {threads}")
    memory = {"cpu": float(str(machine["memory_gib"])) * _GIB}
    if not torch.cuda.is_available():
        # The commonest mistake: a wheel of torch without CUDA on a machine that has a GPU.
        if shutil.which("nvidia-smi") or Path("/proc/driver/nvidia").exists():
            remedy = "install torch for your driver's CUDA: https://pytorch.org/get-started/locally"
            why = f"a driver is here, and torch {torch.__version__} finds no device"
            yield SystemCheck("devices", "cuda", "warning", why, remedy)
        else:
            yield SystemCheck("devices", "cuda", "ok", "none; runs use the CPU")
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        yield SystemCheck("devices", f"cuda:{index}", "ok", f"{properties.name}, CUDA {torch.version.cuda}")
        memory[f"cuda:{index}"] = properties.total_memory
    chosen = {device: select_device(device) for device in memory}
    for compute in chosen.values():
        yield from _precision(compute)
    for device, compute in chosen.items():
        free = free_bytes(compute)
        found = f"{free / _GIB:.1f} GiB free of {memory[device] / _GIB:.1f} GiB"
        remedy = "end other programs, or give a smaller --batch or --micro-batch"
        yield _enough(SystemCheck("memory", device, "ok", found), free, _MEMORY, remedy)


def _precision(compute: Compute) -> Iterator[SystemCheck]:
    """List the precisions that the device computes in."""
    in_hardware = supports_bf16(compute.device)
    for dtype, name in ((torch.float32, "fp32"), (torch.bfloat16, "bf16")):
        where = f"{name} on {compute.device}"
        if dtype is torch.bfloat16 and not in_hardware:
            yield SystemCheck("precision", where, "ok", "not in hardware; --precision auto is fp32")
            continue
        # Drawn on the CPU, so that every device multiplies the same numbers, and compared with float64.
        generator = torch.Generator().manual_seed(0)
        a, b = (torch.randn(256, 256, generator=generator) for _ in range(2))
        try:
            product = (a.to(compute.device, dtype) @ b.to(compute.device, dtype)).double().cpu()
        except RuntimeError as problem:
            remedy = "give --device cpu, and look whether torch fits the driver"
            yield SystemCheck("precision", where, "failed", str(problem).splitlines()[0], remedy)
            continue
        error = float((product - a.double() @ b.double()).abs().max())
        sound = error < _PRODUCT_ERROR[dtype]
        remedy = "" if sound else "the device miscalculates: do not trust numbers from it"
        found = f"in hardware, a product of matrices is exact to {error:.1g}"
        yield SystemCheck("precision", where, "ok" if sound else "failed", found, remedy)


def _enough(check: SystemCheck, free: float, limits: tuple[int, int], remedy: str) -> SystemCheck:
    """Return the check, its state chosen by how much is free."""
    failing, warning = limits
    if free >= warning:
        return check
    return SystemCheck(
        check.topic, check.name, "failed" if free < failing else "warning", check.found, remedy
    )


def _folders() -> Iterator[SystemCheck]:
    """Check permission to write, lock and rename, and free space, wherever a run writes."""
    here = Path.cwd()
    move = "work in a folder of your own"
    yield from _folder("results", here / RUNS, move, "free space, or work in a folder on another disk")
    yield from _folder("reports", here / REPORTS, move, "")
    elsewhere = "set XDG_CACHE_HOME to a folder of your own"
    yield from _folder("packs", default_cache_folder(), elsewhere, "bench clean --packs")
    torch_cache = Path(torch.hub.get_dir()) / "checkpoints"
    yield from _folder("weights", torch_cache, "set TORCH_HOME to a folder of your own", "")


def _folder(name: str, folder: Path, remedy: str, space: str) -> Iterator[SystemCheck]:
    # The folder may not exist yet: its nearest parent decides whether it can be made.
    place = next(p for p in (folder, *folder.parents) if p.exists())
    try:
        # The very steps of a run (create, lock, rename), since permission bits tell little on network file
        # systems.
        with tempfile.TemporaryDirectory(dir=place, prefix=".inpaint-bench-doctor-") as trial:
            path = Path(trial) / "trial"
            with FileLock(Path(trial) / ".lock", timeout=0):
                path.with_suffix(".tmp").write_bytes(b"trial")
                path.with_suffix(".tmp").replace(path)
    except (OSError, NotImplementedError) as error:
        said = getattr(error, "strerror", None) or str(error)
        yield SystemCheck("folders", name, "failed", f"{folder}: {said}", remedy)
        return
    free = shutil.disk_usage(place).free
    check = SystemCheck("folders", name, "ok", f"{folder} can be written, {free / _GIB:.1f} GiB free")
    yield _enough(check, free, _DISK, space) if space else check


def _weights() -> Iterator[SystemCheck]:
    for backbone in list_backbones().values():
        state = backbone.state()
        remedy = f"bench weights fetch {backbone.name}"
        if state == "cached":
            yield SystemCheck("weights", backbone.name, "ok", f"cached, for {backbone.needed_by}")
        elif state == "missing":
            found = f"not cached; without it there is no {backbone.needed_by}"
            yield SystemCheck("weights", backbone.name, "warning", found, remedy)
        elif state == "altered":
            found = f"cached, though not the published file ({backbone.file})"
            yield SystemCheck("weights", backbone.name, "warning", found, remedy)
        else:
            yield SystemCheck("weights", backbone.name, "failed", f"{backbone.file} is damaged", remedy)


def _data(data: str) -> Iterator[SystemCheck]:
    if data == FACES:
        remedy = "bench doctor --data PATH looks at your own"
        yield SystemCheck("data", FACES, "ok", "procedural faces are embedded", remedy)
        return
    try:
        source = find_source(Path(data))
    except BenchError as error:
        yield SystemCheck("data", data, "failed", str(error), "docs/data.md shows the layouts that are read")
        return
    found = f"{len(source.ids):,} images in {source.place}"
    yield SystemCheck("data", source.name, "ok", found)
    for what, known in (("official split", source.partition), ("identities", source.identities)):
        stem = source.kind.lists.get(what.removeprefix("official "))
        # Only where a published split is usual: a folder of photos is not warned that it lacks CelebA's
        # lists.
        if stem and not known and source.kind.published_split:
            name = f"{stem}.txt"
            remedy = f"put {name} beside the images"
            yield SystemCheck("data", what, "warning", f"no {name}", remedy)
        elif known:
            yield SystemCheck("data", what, "ok", f"known of {len(known):,} images")
    try:
        # One image stands for all: decoding every file here would take as long as packing them.
        with decoding():
            decode_image(
                read_bytes(source.place, source.paths[source.ids[0]]), DataSpec().size, DataSpec().crop
            )
    except (ImageError, OSError) as error:
        remedy = "remove it, or give --allow-unreadable"
        yield SystemCheck("data", source.ids[0], "warning", f"cannot be used: {error}", remedy)
    packs = list(cache_folder(DataSpec()).glob(f"{plain_name(source.name)}-*.npy"))
    if packs:
        yield SystemCheck("data", "packs", "ok", f"{len(packs)} decoded already")
