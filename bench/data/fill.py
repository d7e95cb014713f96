"""An array on the disk, filled block by block by several processes; what a kill leaves is gone on from."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from bench.data.dataset import Skipped

#: Pictures between two marks of progress: what a kill can lose, and what one checksum covers.
BLOCK = 256

#: Told (what, done, of).
ProgressCallback = Callable[[str, int, int], None]
Images = NDArray[np.uint8]
#: The pictures of some rows, in order; a skipped one leaves its row black.
Work = Callable[[range], Iterable[Images | Skipped]]


def blocks(count: int) -> list[range]:
    """The rows of each block."""
    return [range(i, min(i + BLOCK, count)) for i in range(0, count, BLOCK)]


def checksums(images: Images) -> list[int]:
    """CRC-32 of each block."""
    return [crc32(images[rows.start : rows.stop].data) for rows in blocks(len(images))]


def fill(
    path: Path,
    partial: Path,
    shape: tuple[int, int, int, int],
    what: str,
    work: Work,
    progress: ProgressCallback,
) -> tuple[list[int], list[Skipped]]:
    """Fill the ``.npy`` file ``path`` of uint8, or go on filling it; ``partial`` records the finished blocks.

    Returns:
        The checksum of each block, and the skipped pictures. All pixels are on the disk by then.
    """
    done = _resume(path, partial, shape)
    if not done:
        partial.unlink(missing_ok=True)
        _create(path, shape)
    every = blocks(shape[0])
    todo = every[len(done) :]
    progress(what, sum(map(len, every[: len(done)])), shape[0])
    with partial.open("a", encoding="utf-8") as record, path.open("r+b") as file:
        for rows, (checksum, skipped) in zip(todo, _map(_Writer(work, path, shape), todo), strict=True):
            os.fsync(file.fileno())  # while the other processes decode
            entry = {"crc32": checksum, "skipped": [asdict(s) for s in skipped]}
            record.write(json.dumps(entry) + "\n")
            record.flush()
            done.append(entry)
            progress(what, rows.stop, shape[0])
    return [entry["crc32"] for entry in done], [Skipped(**s) for entry in done for s in entry["skipped"]]


def num_processes() -> int:
    """Processes that fill: as many as cores that this process may use, at most 16."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 16)


def reserve(descriptor: int, num_bytes: int) -> None:
    """Take the space of a file at once: a full disk is an error here, not a signal later."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, num_bytes)


def _create(path: Path, shape: tuple[int, int, int, int]) -> None:
    path.unlink(missing_ok=True)  # readers of the old one keep theirs
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    with path.open("r+b") as file:
        reserve(file.fileno(), path.stat().st_size)


def _resume(path: Path, partial: Path, shape: tuple[int, int, int, int]) -> list[dict[str, Any]]:
    """The finished blocks, up to a line cut short by a kill, or pixels that never reached the disk."""
    done: list[dict[str, Any]] = []
    if not (partial.exists() and path.exists()):
        return done
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
        if images.shape != shape:
            return done
        lines = partial.read_text(encoding="utf-8").splitlines(keepends=True)
        for line, rows in zip(lines, blocks(shape[0]), strict=False):
            if not line.endswith("\n"):
                break
            entry = json.loads(line)
            if entry["crc32"] != crc32(images[rows.start : rows.stop].data):
                break
            done.append(entry)
        partial.write_text("".join(lines[: len(done)]), encoding="utf-8")
    except (OSError, ValueError, EOFError, LookupError, TypeError):
        return []
    return done


class _Writer:
    """Does a block of work and writes it into its place in the array; returns its checksum, not its pixels."""

    def __init__(self, work: Work, path: Path, shape: tuple[int, int, int, int]) -> None:
        self.work, self.path, self.shape = work, path, shape

    def __call__(self, rows: range) -> tuple[int, list[Skipped]]:
        checksum, skipped = 0, []
        count, *square = self.shape
        black = np.zeros(square, dtype=np.uint8)
        # Each picture is summed and written while it is in the processor's cache. Written, not mapped: a mapped page
        # costs a fault each.
        with self.path.open("r+b") as file:
            file.seek(-(count - rows.start) * black.nbytes, os.SEEK_END)
            for picture in self.work(rows):
                if isinstance(picture, Skipped):
                    skipped.append(picture)
                    picture = black
                checksum = crc32(picture.data, checksum)
                file.write(picture.data)
        return checksum, skipped


_writer: _Writer


def _set_writer(writer: _Writer) -> None:
    global _writer
    _writer = writer


def _write(rows: range) -> tuple[int, list[Skipped]]:
    return _writer(rows)


def _map(writer: _Writer, todo: list[range]) -> Iterator[tuple[int, list[Skipped]]]:
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
