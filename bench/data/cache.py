"""The image cache: images decoded once into a memory-mapped uint8 array in the user's cache folder.

An array is filled block by block by several processes. A sidecar file is written last and marks it as complete; an
interrupted array is continued at the block where it stopped.
"""

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
from platformdirs import user_cache_path

from bench.child_processes import isolated_start
from bench.data import procedural_faces
from bench.data.dataset import DataSpec, Skipped
from bench.data.sources import FoundImages, read_bytes
from bench.data.transforms import ImageError, decode_image, decoding
from bench.errors import BenchError, DataError
from masks.image_files import is_world_writable
from reports.results.atomic_io import atomic_write

#: Part of every file name: raised when the same files would be decoded to other pixels.
CACHE_VERSION = 1
#: Images that one checksum covers, and that a kill can lose.
BLOCK = 256

#: Called with (what, done, total).
ProgressCallback = Callable[[str, int, int], None]
Images = NDArray[np.uint8]
#: Makes the images of some rows, in order; a skipped one leaves its row black.
DecodeRows = Callable[[range], Iterable[Images | Skipped]]


@dataclass(frozen=True)
class ImageCache:
    """Decoded images.

    Attributes:
        images: ``(N, size, size, 3)`` uint8, memory-mapped.
        skipped: images that cannot be used; their rows are black.
        path: the ``.npy`` file.
        checksums: CRC-32 of each block of :data:`BLOCK` images, as they were decoded.
    """

    images: Images
    skipped: list[Skipped]
    path: Path
    checksums: list[int]


def cache_folder(spec: DataSpec) -> Path:
    """Return ``spec.cache``, or this program's folder in the user's cache folder; it is made if it is not there.

    Raises:
        BenchError: it cannot be made, or every user of the machine may write to it.
    """
    folder = spec.cache or default_cache_folder()
    try:
        # The mode counts only where the folder is made now; one that was there is tested below.
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        shared = is_world_writable(folder)
    except OSError as error:
        raise BenchError(
            f"cannot make the cache folder {folder}: {error.strerror}; set XDG_CACHE_HOME to a folder you may write"
        ) from error
    if shared:
        # Another user could replace decoded images, and with them every number computed from them.
        raise BenchError(
            f"every user may write to the cache folder {folder}, so its images cannot be trusted; "
            f"give 'chmod o-w {folder}', or set XDG_CACHE_HOME to a folder of your own"
        )
    return folder


def default_cache_folder() -> Path:
    """Return ``$XDG_CACHE_HOME/inpaint-bench``, else the folder that the operating system has for caches."""
    # The variable counts on every system, also where platformdirs would not look at it.
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "inpaint-bench"
    return user_cache_path("inpaint-bench", appauthor=False)


def cache_procedural_faces(
    spec: DataSpec, count: int, progress: ProgressCallback, *, verify: bool = False
) -> ImageCache:
    """Return procedural faces 0 to ``count - 1`` at the wanted size."""
    return _open_or_fill(cache_folder(spec), _faces_job(spec, count), progress, verify)


def _faces_job(spec: DataSpec, count: int) -> _Job:
    # The version of the drawing code stands for the pixels, which are known before any is drawn.
    names = repr(("faces", procedural_faces.VERSION, CACHE_VERSION, spec.size, count))
    key = f"faces-{spec.size}-{hashlib.sha256(names.encode()).hexdigest()[:20]}"
    return _Job(key, count, spec.size, "drawing faces", _DrawFaces(spec.size))


def has_procedural_faces(spec: DataSpec, count: int) -> bool:
    """Return whether procedural faces 0 to ``count - 1`` are cached."""
    return _is_complete(cache_folder(spec), _faces_job(spec, count))


def cache_source(
    spec: DataSpec, source: FoundImages, progress: ProgressCallback, *, verify: bool = False
) -> ImageCache:
    """Return all readable images of a source in the order of ids.

    Args:
        spec: size, crop and cache folder.
        source: the images.
        progress: called while images are decoded.
        verify: recompute the checksums of a cached file, whatever its file signature.

    Raises:
        BenchError: no space, or a process died.
        DataError: with ``verify``, the file is not what was written; it is made again at its next use.
    """
    return _open_or_fill(cache_folder(spec), _source_job(spec, source), progress, verify)


def has_source(spec: DataSpec, source: FoundImages) -> bool:
    """Return whether all images of a source are cached, or known to be unreadable."""
    return _is_complete(cache_folder(spec), _source_job(spec, source))


def _source_job(spec: DataSpec, source: FoundImages) -> _Job:
    # No pixels are read to find a cached file: names, sizes and times of the files stand for them.
    parts = (source.ids, source.file_signature(), CACHE_VERSION, spec.size, spec.crop)
    names = hashlib.sha256(repr(parts).encode("utf-8", "surrogateescape"))
    key = f"{plain_name(source.name)}-{spec.size}-{spec.crop}-{names.hexdigest()[:20]}"
    decode = _DecodeFiles(source.place, source.paths, spec.size, spec.crop, source.kind.center_side)
    return _Job(key, len(source.ids), spec.size, "packing pictures", decode)


def plain_name(name: str) -> str:
    """Return a data set's name as names of cache files begin with it: it may be that of a user's folder.

    >>> plain_name("my photos"), len(plain_name("x" * 255))
    ('my_photos', 100)
    """
    # Cut, because file systems allow 255 bytes, of which the rest of the name takes up to 120; in bytes, of which a
    # letter has up to four.
    plain = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
    return plain.encode()[:100].decode(errors="ignore")


@dataclass(frozen=True)
class _Job:
    """What fills a cache file: its name, number and side of images, what it is called, and what makes the rows."""

    key: str
    count: int
    size: int
    what: str
    decode: DecodeRows

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return (self.count, self.size, self.size, 3)


class _DrawFaces:
    """Draw one block; sent to worker processes."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, rows: range) -> Iterator[Images]:
        yield from procedural_faces.render_faces(list(rows), self.size)


class _DecodeFiles:
    """Decode one block; sent to worker processes."""

    def __init__(
        self, place: Path, paths: dict[str, str], size: int, crop: str, center_side: int | None
    ) -> None:
        # Lists and not the mapping: a block is a range of positions, and the whole is sent to every process
        # once.
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


def _is_complete(folder: Path, job: _Job) -> bool:
    return _read_sidecar(folder / f"{job.key}.npy", folder / f"{job.key}.json", job.shape, False) is not None


def _open_or_fill(folder: Path, job: _Job, progress: ProgressCallback, verify: bool) -> ImageCache:
    """Open the file of a job, after filling it if it is missing, incomplete or changed."""
    path, sidecar = folder / f"{job.key}.npy", folder / f"{job.key}.json"
    partial = folder / f"{job.key}.partial"
    try:
        # Held while filling: a second run waits and then finds the array, instead of decoding everything
        # again.
        with FileLock(folder / f"{job.key}.lock"):
            about = _read_sidecar(path, sidecar, job.shape, verify)
            if about is None:
                # First of all, so that a crash while the array is rewritten cannot leave a sidecar that
                # vouches for it.
                sidecar.unlink(missing_ok=True)
                sums, skipped = fill_blocks(path, partial, job, progress)
                about = {"skipped": [asdict(s) for s in skipped], "crc32": sums}
                # After the last write to the array, since each one changes the signature.
                about["stamp"] = _file_signature(path)
                # The sidecar appears last, and only then the record of finished blocks is dispensable.
                _write_sidecar(sidecar, about)
                partial.unlink(missing_ok=True)
        # Memory-mapped: a split is then a view, and several processes share the pages.
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except BrokenProcessPool as error:
        raise BenchError(
            f"a process that was {job.what} died (out of memory?); give the same command again to continue"
        ) from error
    except (OSError, ValueError) as error:
        raise BenchError(
            f"cannot use the image cache {path}: {error}; remove it, or free space on its disk"
        ) from error
    return ImageCache(images, [Skipped(**s) for s in about["skipped"]], path, about["crc32"])


def _read_sidecar(path: Path, sidecar: Path, shape: tuple[int, ...], verify: bool) -> dict[str, Any] | None:
    """Return what the sidecar says of a complete and unchanged file, else ``None``.

    Trust a file whose signature matches the sidecar; otherwise, or with ``verify``, recompute its checksums.
    """
    try:
        about: dict[str, Any] = json.loads(sidecar.read_text(encoding="utf-8"))
        # Earlier versions wrote no checksum; then those of the pixels are all that is known.
        if about.pop("sidecar_crc32", checksum := _sidecar_checksum(about)) != checksum:
            return None
        images = np.load(path, mmap_mode="r", allow_pickle=False)
        known, signature = about["crc32"], _file_signature(path)
        if images.shape != shape:
            return None
    except (OSError, ValueError, EOFError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    # Reading every pixel at each start would take longer than a small run, so the signature is asked first.
    if verify or about["stamp"] != signature:
        sums = block_checksums(images)
        if sums != known:
            if not verify:
                return None
            pairs = zip(block_ranges(shape[0]), sums, known, strict=True)
            first = next(rows.start for rows, now, then in pairs if now != then)
            # Without the sidecar, the next use decodes the images again.
            sidecar.unlink()
            raise DataError(
                f"the image cache {path} is not what was written, from picture {first + 1} of {shape[0]} on; it will "
                "be made again at its next use, and results computed from it since are in doubt"
            )
        # The pixels are as recorded under a new signature, so the next start need not sum them again.
        about["stamp"] = signature  # copied to another disk, say
        _write_sidecar(sidecar, about)
    return about


def _file_signature(path: Path) -> list[int]:
    """Return what changes on every write: even with the modification time restored, ctime is another."""
    state = path.stat()
    return [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino]


def _write_sidecar(sidecar: Path, about: dict[str, Any]) -> None:
    value = {"version": CACHE_VERSION, **about}
    text = json.dumps({**value, "sidecar_crc32": _sidecar_checksum(value)})
    atomic_write(sidecar, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _sidecar_checksum(about: dict[str, Any]) -> int:
    written = {key: value for key, value in about.items() if key != "sidecar_crc32"}
    return crc32(json.dumps(written, sort_keys=True).encode())


def block_ranges(count: int) -> list[range]:
    """Return the rows of each block.

    >>> block_ranges(600)
    [range(0, 256), range(256, 512), range(512, 600)]
    """
    return [range(i, min(i + BLOCK, count)) for i in range(0, count, BLOCK)]


def block_checksums(images: Images) -> list[int]:
    """Return the CRC-32 of each block."""
    return [crc32(images[rows.start : rows.stop].data) for rows in block_ranges(len(images))]


def fill_blocks(
    path: Path, partial: Path, job: _Job, progress: ProgressCallback
) -> tuple[list[int], list[Skipped]]:
    """Fill the ``.npy`` file ``path``, or continue filling it; ``partial`` records the finished blocks.

    Returns:
        The checksum of each block, and the skipped images. All pixels are on the disk by then.
    """
    shape = job.shape
    # Blocks are written in order of rows, so a count is all that a resume needs.
    done = _resume(path, partial, shape)
    if not done:
        partial.unlink(missing_ok=True)
        _create(path, shape)
    every = block_ranges(shape[0])
    todo = every[len(done) :]
    progress(job.what, sum(map(len, every[: len(done)])), shape[0])
    with partial.open("a", encoding="utf-8") as record, path.open("r+b") as file:
        # The pool yields in order, so the record never names a block before those ahead of it.
        for rows, (checksum, skipped) in zip(todo, _map(_Writer(job.decode, path, shape), todo), strict=True):
            os.fsync(file.fileno())  # while the other processes decode
            entry = {"crc32": checksum, "skipped": [asdict(s) for s in skipped]}
            record.write(json.dumps(entry) + "\n")
            record.flush()
            done.append(entry)
            progress(job.what, rows.stop, shape[0])
    return [entry["crc32"] for entry in done], [Skipped(**s) for entry in done for s in entry["skipped"]]


def num_processes() -> int:
    """Return how many processes decode: one per core that this process may use, at most 16."""
    # The affinity, since a container may grant fewer cores; 16, since a disk feeds no more.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 16)


def reserve_space(descriptor: int, num_bytes: int) -> None:
    """Allocate the space of a file at once: a full disk is an error here, not a bus error later."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, num_bytes)


def _create(path: Path, shape: tuple[int, int, int, int]) -> None:
    path.unlink(missing_ok=True)  # readers of the old one keep theirs
    # Opened once for its header; the pixels are written as plain bytes below.
    np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    # A memory map of a sparse file on a full disk kills the process at a write, with no error to catch.
    with path.open("r+b") as file:
        reserve_space(file.fileno(), path.stat().st_size)


def _resume(path: Path, partial: Path, shape: tuple[int, int, int, int]) -> list[dict[str, Any]]:
    """Return the finished blocks, up to a line cut short by a kill, or pixels that never reached the disk."""
    done: list[dict[str, Any]] = []
    if not (partial.exists() and path.exists()):
        return done
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
        if images.shape != shape:
            return done
        lines = partial.read_text(encoding="utf-8").splitlines(keepends=True)
        # Not strict: there are fewer lines than blocks, which is why there is anything to resume.
        for line, rows in zip(lines, block_ranges(shape[0]), strict=False):
            if not line.endswith("\n"):
                break
            entry = json.loads(line)
            # The line may have reached the disk before the pixels did.
            if entry["crc32"] != crc32(images[rows.start : rows.stop].data):
                break
            done.append(entry)
        # What follows the last good line is cut off, so that new lines stand behind their own blocks.
        partial.write_text("".join(lines[: len(done)]), encoding="utf-8")
    except (OSError, ValueError, EOFError, LookupError, TypeError, RecursionError):
        return []
    return done


class _Writer:
    """Decode a block and write it into its place in the array; return its checksum, not its pixels."""

    def __init__(self, decode: DecodeRows, path: Path, shape: tuple[int, int, int, int]) -> None:
        self.decode, self.path, self.shape = decode, path, shape

    def __call__(self, rows: range) -> tuple[int, list[Skipped]]:
        checksum, skipped = 0, []
        count, *square = self.shape
        black = np.zeros(square, dtype=np.uint8)
        # Checksum and write each image while it is in the processor's cache. Written, not mapped: every mapped page
        # costs a page fault.
        with self.path.open("r+b") as file:
            # From the end, since the length of the header in front is a matter of NumPy's.
            file.seek(-(count - rows.start) * black.nbytes, os.SEEK_END)
            for picture in self.decode(rows):
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
    """Yield the blocks in order, by processes where there is enough to do to start them."""
    # Starting processes that import everything takes longer than a few blocks.
    processes = num_processes()
    if processes < 2 or len(todo) < 4:
        yield from map(writer, todo)
        return
    # 'fork' would copy a process that may hold locks of torch's threads.
    with (
        isolated_start(),
        # Each process gets the writer once, as it starts; blocks are then sent as ranges.
        ProcessPoolExecutor(processes, get_context("forkserver"), _set_writer, (writer,)) as pool,
    ):
        yield from pool.map(_write, todo)
