"""Packs: pictures decoded once into a memory-mapped uint8 array in the cache folder, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from bench.child_processes import hidden_main_module
from bench.data import procedural_faces
from bench.data.dataset import DataSpec, Skipped
from bench.data.sources import Source, read_bytes
from bench.data.transforms import ImageError, decode_image, decoding
from bench.errors import BenchError, DataError

PACK_VERSION = 1


@dataclass(frozen=True)
class ImageCache:
    """Decoded pictures.

    Attributes:
        images: ``(N, size, size, 3)`` uint8, memory-mapped.
        skipped: pictures that cannot be used; their rows are black.
        path: the ``.npy`` file.
        checksums: CRC-32 of each block of :data:`bench.data.cache.BLOCK` pictures, as they were decoded.
    """

    images: Images
    skipped: list[Skipped]
    path: Path
    checksums: list[int]


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


def cache_procedural_faces(
    spec: DataSpec, count: int, progress: ProgressCallback, *, verify: bool = False
) -> ImageCache:
    """Procedural faces 0 to ``count - 1`` at the wanted size."""
    names = repr(("faces", procedural_faces.VERSION, PACK_VERSION, spec.size, count))
    key = f"faces-{spec.size}-{hashlib.sha256(names.encode()).hexdigest()[:20]}"
    return _pack(spec, key, count, "drawing faces", _Faces(spec.size), progress, verify)


def cache_source(
    spec: DataSpec, source: Source, progress: ProgressCallback, *, verify: bool = False
) -> ImageCache:
    """All readable pictures of a source in the order of ids.

    Args:
        spec: size, crop and cache folder.
        source: where they lie.
        progress: told (what, done, of) while a pack is made.
        verify: sum every pixel of a pack that is there, whatever the file's stamp says.

    Raises:
        BenchError: no room, or a process died.
        DataError: with ``verify``, the pack is not what was written; it is made again at its next use.
    """
    names = hashlib.sha256(
        repr((source.ids, source.file_signature(), PACK_VERSION, spec.size, spec.crop)).encode()
    )
    key = f"{source.name}-{spec.size}-{spec.crop}-{names.hexdigest()[:20]}"
    key = "".join(c if c.isalnum() or c in "-_" else "_" for c in key)
    work = _Pictures(source.place, source.paths, spec.size, spec.crop, source.kind.center_side)
    return _pack(spec, key, len(source.ids), "packing pictures", work, progress, verify)


class _Faces:
    """Draws one block; sent to worker processes."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, rows: range) -> Iterator[Images]:
        yield from procedural_faces.render_faces(list(rows), self.size)


class _Pictures:
    """Decodes one block; sent to worker processes."""

    def __init__(
        self, place: Path, paths: dict[str, str], size: int, crop: str, center_side: int | None
    ) -> None:
        self.place, self.ids, self.paths = place, list(paths), list(paths.values())
        self.size, self.crop, self.center_side = size, crop, center_side

    def __call__(self, rows: range) -> Iterator[Images | Skipped]:
        with decoding():
            for index in rows:
                try:
                    data = read_bytes(self.place, self.paths[index])
                    picture = decode_image(data, self.size, self.crop, self.center_side)
                except ImageError as error:
                    yield Skipped(self.ids[index], str(error))
                except Exception as error:  # a broken zip member, a vanished file: named, not fatal
                    yield Skipped(self.ids[index], f"unreadable: {error}")
                else:
                    yield picture


def _pack(
    spec: DataSpec, key: str, count: int, what: str, work: Work, progress: ProgressCallback, verify: bool
) -> ImageCache:
    """Fill ``key.npy``; ``key.json`` is written last and marks it as whole."""
    folder = cache_folder(spec)
    path, mark, partial = folder / f"{key}.npy", folder / f"{key}.json", folder / f"{key}.partial"
    shape = (count, spec.size, spec.size, 3)
    try:
        with FileLock(folder / f"{key}.lock"):
            facts = _whole(path, mark, shape, verify)
            if facts is None:
                mark.unlink(missing_ok=True)
                sums, skipped = fill_blocks(path, partial, shape, what, work, progress)
                facts = {"skipped": [asdict(s) for s in skipped], "crc32": sums, "stamp": _stamp(path)}
                _write_mark(mark, facts)
                partial.unlink(missing_ok=True)
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except BrokenProcessPool as error:
        raise BenchError(
            f"a process that was {what} died (out of memory?); give the same command again to continue"
        ) from error
    except (OSError, ValueError) as error:
        raise BenchError(
            f"cannot use the pack {path}: {error}; remove it, or free space on its disk"
        ) from error
    return ImageCache(images, [Skipped(**s) for s in facts["skipped"]], path, facts["crc32"])


def _whole(path: Path, mark: Path, shape: tuple[int, ...], verify: bool) -> dict[str, Any] | None:
    """The mark of a pack that is as it was written, else ``None``.

    A file with the stamp that its mark gives is taken at its word; any other, and any with ``verify``, is summed.
    """
    try:
        facts: dict[str, Any] = json.loads(mark.read_text(encoding="utf-8"))
        images = np.load(path, mmap_mode="r", allow_pickle=False)
        known, stamp = facts["crc32"], _stamp(path)
        if images.shape != shape:
            return None
    except (OSError, ValueError, EOFError, LookupError, TypeError):
        return None
    if verify or facts["stamp"] != stamp:
        sums = block_checksums(images)
        if sums != known:
            if not verify:
                return None
            pairs = zip(block_ranges(shape[0]), sums, known, strict=True)
            first = next(rows.start for rows, now, then in pairs if now != then)
            mark.unlink()
            raise DataError(
                f"the pack {path} is not what was written, from picture {first + 1} of {shape[0]} on; it will be made "
                "again at its next use, and results that came of it since are in doubt"
            )
        facts["stamp"] = stamp  # copied to another disk, say
        _write_mark(mark, facts)
    return facts


def _stamp(path: Path) -> list[int]:
    """Changes whenever the file is written to: even a restored time of change leaves its own time (ctime)."""
    state = path.stat()
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]


def _write_mark(mark: Path, facts: dict[str, Any]) -> None:
    temporary = mark.with_suffix(".tmp")
    temporary.write_text(json.dumps({"version": PACK_VERSION, **facts}), encoding="utf-8")
    temporary.replace(mark)


# An array on the disk, filled block by block by several processes; what a kill leaves is gone on from.


#: Pictures between two marks of progress: what a kill can lose, and what one checksum covers.
BLOCK = 256

#: Told (what, done, of).
ProgressCallback = Callable[[str, int, int], None]
Images = NDArray[np.uint8]
#: The pictures of some rows, in order; a skipped one leaves its row black.
Work = Callable[[range], Iterable[Images | Skipped]]


def block_ranges(count: int) -> list[range]:
    """The rows of each block."""
    return [range(i, min(i + BLOCK, count)) for i in range(0, count, BLOCK)]


def block_checksums(images: Images) -> list[int]:
    """CRC-32 of each block."""
    return [crc32(images[rows.start : rows.stop].data) for rows in block_ranges(len(images))]


def fill_blocks(
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
    every = block_ranges(shape[0])
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


def reserve_space(descriptor: int, num_bytes: int) -> None:
    """Take the space of a file at once: a full disk is an error here, not a signal later."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, num_bytes)


def _create(path: Path, shape: tuple[int, int, int, int]) -> None:
    path.unlink(missing_ok=True)  # readers of the old one keep theirs
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    with path.open("r+b") as file:
        reserve_space(file.fileno(), path.stat().st_size)


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
        for line, rows in zip(lines, block_ranges(shape[0]), strict=False):
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
    if processes < 2 or len(todo) < 4:
        yield from map(writer, todo)
        return
    # 'fork' would copy a process that may hold locks of torch's threads.
    with (
        hidden_main_module(),
        ProcessPoolExecutor(processes, get_context("forkserver"), _set_writer, (writer,)) as pool,
    ):
        yield from pool.map(_write, todo)
