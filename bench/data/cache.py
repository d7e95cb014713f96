"""Packs: pictures decoded once into a memory-mapped uint8 array in the cache folder, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from multiprocessing import current_process
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from bench.data import procedural_faces
from bench.data.transforms import PictureError, decode, decoding
from bench.data.dataset import DataSpec, Skipped
from bench.data.cache import Images, ProgressCallback, Work, blocks, checksums, fill
from bench.data.sources import Source, read
from bench.errors import BenchError, DataError

PACK_VERSION = 1


@dataclass(frozen=True)
class Pack:
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


def pack_faces(spec: DataSpec, count: int, progress: ProgressCallback, *, verify: bool = False) -> Pack:
    """Procedural faces 0 to ``count - 1`` at the wanted size."""
    names = repr(("faces", procedural_faces.VERSION, PACK_VERSION, spec.size, count))
    key = f"faces-{spec.size}-{hashlib.sha256(names.encode()).hexdigest()[:20]}"
    return _pack(spec, key, count, "drawing faces", _Faces(spec.size), progress, verify)


def pack_source(spec: DataSpec, source: Source, progress: ProgressCallback, *, verify: bool = False) -> Pack:
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
    names = hashlib.sha256(repr((source.ids, source.stamp(), PACK_VERSION, spec.size, spec.crop)).encode())
    key = f"{source.name}-{spec.size}-{spec.crop}-{names.hexdigest()[:20]}"
    key = "".join(c if c.isalnum() or c in "-_" else "_" for c in key)
    work = _Pictures(source.place, source.ids, spec.size, spec.crop)
    return _pack(spec, key, len(source.ids), "packing pictures", work, progress, verify)


class _Faces:
    """Draws one block; sent to worker processes."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, rows: range) -> Iterator[Images]:
        yield from procedural_faces.render(list(rows), self.size)


class _Pictures:
    """Decodes one block; sent to worker processes."""

    def __init__(self, place: Path, ids: list[str], size: int, crop: str) -> None:
        self.place, self.ids, self.size, self.crop = place, ids, size, crop

    def __call__(self, rows: range) -> Iterator[Images | Skipped]:
        with decoding():
            for index in rows:
                try:
                    picture = decode(read(self.place, self.ids[index]), self.size, self.crop)
                except PictureError as error:
                    yield Skipped(self.ids[index], str(error))
                except Exception as error:  # a broken zip member, a vanished file: named, not fatal
                    yield Skipped(self.ids[index], f"unreadable: {error}")
                else:
                    yield picture


def _pack(
    spec: DataSpec, key: str, count: int, what: str, work: Work, progress: ProgressCallback, verify: bool
) -> Pack:
    """Fill ``key.npy``; ``key.json`` is written last and marks it as whole."""
    if getattr(current_process(), "_inheriting", False):
        # A worker that runs the caller's whole script again would wait for its parent's lock for ever.
        raise BenchError("a script that opens data must guard its calls with if __name__ == '__main__'")
    folder = cache_folder(spec)
    path, mark, partial = folder / f"{key}.npy", folder / f"{key}.json", folder / f"{key}.partial"
    shape = (count, spec.size, spec.size, 3)
    try:
        with FileLock(folder / f"{key}.lock"):
            facts = _whole(path, mark, shape, verify)
            if facts is None:
                mark.unlink(missing_ok=True)
                sums, skipped = fill(path, partial, shape, what, work, progress)
                facts = {"skipped": [asdict(s) for s in skipped], "crc32": sums, "stamp": _stamp(path)}
                _write_mark(mark, facts)
                partial.unlink(missing_ok=True)
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
    return Pack(images, [Skipped(**s) for s in facts["skipped"]], path, facts["crc32"])


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
        sums = checksums(images)
        if sums != known:
            if not verify:
                return None
            pairs = zip(blocks(shape[0]), sums, known, strict=True)
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
