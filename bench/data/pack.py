"""Packs: pictures decoded once into a memory-mapped uint8 array, by several processes, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from zlib import crc32

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from bench.data import faces
from bench.data.crop import PictureError, decode
from bench.data.dataset import DataSpec, Skipped
from bench.data.sources import Source, read
from bench.errors import BenchError

PACK_VERSION = 1
_IN_MEMORY = 2**30  # bytes of a split that is copied into memory
_BLOCK = 256  # pictures decoded between two marks of progress: what a kill can lose

ProgressCallback = Callable[[str, int, int], None]
Images = NDArray[np.uint8]
Work = Callable[[list[int]], tuple[Images, list[Skipped]]]


def cache_folder(spec: DataSpec) -> Path:
    """``spec.cache``, or ``inpaint-bench`` in the user's cache folder; only the user may read it."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = spec.cache or Path(base) / "inpaint-bench"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise BenchError(
            f"cannot make the cache folder {folder}: {error.strerror}; set XDG_CACHE_HOME to a folder you may write"
        ) from error
    return folder


def pack_faces(spec: DataSpec, count: int, progress: ProgressCallback) -> Images:
    """Procedural faces 0 to ``count - 1`` at the wanted size."""
    key = hashlib.sha256(repr(("faces", faces.VERSION, PACK_VERSION, spec.size, count)).encode()).hexdigest()[
        :20
    ]
    blocks = [list(range(i, min(i + _BLOCK, count))) for i in range(0, count, _BLOCK)]
    images, _ = _pack(
        spec, f"faces-{spec.size}-{key}", count, "drawing faces", _Faces(spec.size), blocks, progress
    )
    return images


def pack_source(spec: DataSpec, source: Source, progress: ProgressCallback) -> tuple[Images, list[Skipped]]:
    """All readable pictures of a source in the order of ids, and those that are not (their rows are left black)."""
    names = hashlib.sha256(repr((source.ids, source.stamp(), PACK_VERSION, spec.size, spec.crop)).encode())
    blocks = [list(range(i, min(i + _BLOCK, len(source.ids)))) for i in range(0, len(source.ids), _BLOCK)]
    key = f"{source.name}-{spec.size}-{spec.crop}-{names.hexdigest()[:20]}"
    key = "".join(c if c.isalnum() or c in "-_" else "_" for c in key)
    work = _Pictures(source.place, source.ids, spec.size, spec.crop)
    return _pack(spec, key, len(source.ids), "packing pictures", work, blocks, progress)


class _Faces:
    """Draws one block; sent to worker processes."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, block: list[int]) -> tuple[Images, list[Skipped]]:
        return faces.render(block, self.size), []


class _Pictures:
    """Decodes one block; sent to worker processes."""

    def __init__(self, place: Path, ids: list[str], size: int, crop: str) -> None:
        self.place, self.ids, self.size, self.crop = place, ids, size, crop

    def __call__(self, block: list[int]) -> tuple[Images, list[Skipped]]:
        images, skipped = np.zeros((len(block), self.size, self.size, 3), dtype=np.uint8), []
        for row, index in enumerate(block):
            try:
                images[row] = decode(read(self.place, self.ids[index]), self.size, self.crop)
            except PictureError as error:
                skipped.append(Skipped(self.ids[index], str(error)))
            except Exception as error:  # a broken zip member, a vanished file: named, not fatal
                skipped.append(Skipped(self.ids[index], f"unreadable: {error}"))
        return images, skipped


class _Writer:
    """Does a block of work and writes it into its place in the array; returns its checksum, not its pixels."""

    def __init__(self, work: Work, path: Path, count: int) -> None:
        self.work, self.path, self.count = work, path, count

    def __call__(self, block: list[int]) -> tuple[int, list[Skipped]]:
        images, skipped = self.work(block)
        with self.path.open("r+b") as file:  # written, not mapped: a mapped page costs a fault each
            file.seek(-(self.count - block[0]) * images[0].nbytes, os.SEEK_END)
            file.write(images.data)
        return crc32(images.data), skipped


_writer: _Writer


def _set_writer(writer: _Writer) -> None:
    global _writer
    _writer = writer


def _write(block: list[int]) -> tuple[int, list[Skipped]]:
    return _writer(block)


def _pack(
    spec: DataSpec,
    key: str,
    count: int,
    what: str,
    work: Work,
    blocks: list[list[int]],
    progress: ProgressCallback,
) -> tuple[Images, list[Skipped]]:
    """Fill ``key.npy`` block by block; ``key.json`` is written last and marks it as whole. Resumes at a block."""
    folder = cache_folder(spec)
    path, mark, partial = folder / f"{key}.npy", folder / f"{key}.json", folder / f"{key}.partial"
    try:
        with FileLock(folder / f"{key}.lock"):
            shape = (count, spec.size, spec.size, 3)
            if mark.exists() and not _whole(path, shape):
                mark.unlink()
            if not mark.exists():
                _fill(path, mark, partial, shape, what, work, blocks, progress)
        facts = json.loads(mark.read_text(encoding="utf-8"))
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except BrokenProcessPool as error:
        raise BenchError(
            f"a process that was {what} died (out of memory, or a script that does not guard its calls with "
            "if __name__ == '__main__'?); give the same command again: it goes on"
        ) from error
    except (OSError, ValueError) as error:
        raise BenchError(
            f"cannot use the pack {path}: {error}; remove it, or free space on its disk"
        ) from error
    return images, [Skipped(**s) for s in facts["skipped"]]


def _fill(
    path: Path,
    mark: Path,
    partial: Path,
    shape: tuple[int, int, int, int],
    what: str,
    work: Work,
    blocks: list[list[int]],
    progress: ProgressCallback,
) -> None:
    done: list[dict[str, object]] = []
    if partial.exists() and path.exists():
        try:
            images = np.lib.format.open_memmap(path, mode="r+")
            if images.shape == shape:
                done = _recorded(partial, images, blocks)
        except (OSError, ValueError, EOFError, LookupError, TypeError):
            done = []
    if not done:
        partial.unlink(missing_ok=True)
        images = _create(path, shape)
    todo = blocks[len(done) :]
    progress(what, sum(map(len, blocks[: len(done)])), shape[0])
    with partial.open("a", encoding="utf-8") as record:
        for block, (checksum, skipped) in zip(todo, _map(_Writer(work, path, shape[0]), todo), strict=True):
            entry: dict[str, object] = {"crc32": checksum, "skipped": [asdict(s) for s in skipped]}
            record.write(json.dumps(entry) + "\n")
            record.flush()
            done.append(entry)
            progress(what, block[-1] + 1, shape[0])
    images.flush()  # on the disk before the mark says so
    every = [s for entry in done for s in entry["skipped"]]  # type: ignore[attr-defined]
    temporary = mark.with_suffix(".tmp")
    temporary.write_text(json.dumps({"version": PACK_VERSION, "skipped": every}), encoding="utf-8")
    temporary.replace(mark)
    partial.unlink(missing_ok=True)


def num_processes() -> int:
    """Processes that pack: as many as cores that this process may use, at most 16."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 16)


def _whole(path: Path, shape: tuple[int, int, int, int]) -> bool:
    """Whether the array of a finished pack has not been removed or cut since."""
    try:
        whole: bool = np.load(path, mmap_mode="r", allow_pickle=False).shape == shape
    except (OSError, ValueError, EOFError):
        return False
    return whole


def _create(path: Path, shape: tuple[int, int, int, int]) -> np.memmap[Any, np.dtype[np.uint8]]:
    """An array on the disk whose space is taken at once: a full disk is an error here, not a signal later."""
    path.unlink(missing_ok=True)  # readers of the old one keep theirs
    images: np.memmap[Any, np.dtype[np.uint8]]
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    with path.open("r+b") as file:
        _reserve(file.fileno(), path.stat().st_size)
    return images


def _reserve(descriptor: int, num_bytes: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, num_bytes)


def _recorded(partial: Path, images: Images, blocks: list[list[int]]) -> list[dict[str, object]]:
    """The finished blocks, up to a line cut short by a kill, or pixels that never reached the disk."""
    done = []
    lines = partial.read_text(encoding="utf-8").splitlines(keepends=True)
    for line, block in zip(lines, blocks, strict=False):
        if not line.endswith("\n"):
            break
        entry = json.loads(line)
        if entry["crc32"] != crc32(images[block[0] : block[-1] + 1].data):
            break
        done.append(entry)
    partial.write_text("".join(lines[: len(done)]), encoding="utf-8")
    return done


def arrange(images: Images, rows: list[int]) -> Images:
    """The rows: a view of the memory map where they are neighbours, else a copy.

    A large copy lies in an unnamed file, so that a split of all of CelebA at 160 px (15 GB) needs no such memory.
    """
    if rows and rows[-1] - rows[0] + 1 == len(rows):
        return images[rows[0] : rows[-1] + 1]
    shape = (len(rows), *images.shape[1:])
    num_bytes = len(rows) * images[:1].nbytes
    if num_bytes <= _IN_MEMORY or not isinstance(images, np.memmap):
        return np.asarray(images)[rows]
    with TemporaryFile(dir=Path(str(images.filename)).parent) as file:
        _reserve(file.fileno(), num_bytes)
        copy: Images = np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)
    for start in range(0, len(rows), _BLOCK):
        copy[start : start + _BLOCK] = images[rows[start : start + _BLOCK]]
    return copy


def _map(writer: _Writer, todo: list[list[int]]) -> Iterator[tuple[int, list[Skipped]]]:
    """Blocks in order, by processes where there is enough to do for them to start."""
    processes = num_processes()
    main = getattr(sys.modules["__main__"], "__file__", None)
    # A program read from standard input cannot be imported again by the processes.
    if processes < 2 or len(todo) < 4 or (main is not None and not Path(main).exists()):
        yield from map(writer, todo)
        return
    # 'fork' would copy a process that may hold locks of torch's threads.
    with ProcessPoolExecutor(processes, get_context("forkserver"), _set_writer, (writer,)) as pool:
        yield from pool.map(_write, todo)
