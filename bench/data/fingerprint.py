"""Statistics over all pixels of a data set: fingerprint, mean image, duplicates. Computed once and stored."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from bench.data.cache import BLOCK, ImageCache, Images, reserve_space
from bench.data.dataset import DataSpec, ImageSet
from reports.results.atomic_io import atomic_write

_IN_MEMORY = 2**30  # bytes of a split that is copied into memory


@dataclass(frozen=True)
class DatasetStatistics:
    """Hold what takes a pass over all pixels.

    Attributes:
        fingerprint: SHA-256 over size, crop, split, ids and pixels.
        duplicates: pairs of exactly equal images in different splits.
        mean: mean training image ``(H, W, 3)`` in [0, 1].
    """

    fingerprint: str
    duplicates: list[tuple[str, str]]
    mean: NDArray[np.float64]


def dataset_statistics(
    spec: DataSpec, split: str, sets: list[ImageSet], cache: ImageCache
) -> DatasetStatistics:
    """Compute the statistics of three splits, or read them from beside the cached images.

    They are functions of the checksums and the splits' ids, which the file is named after.
    """
    # The checksums stand for the pixels, so that the file is found without reading them.
    names = repr((spec.size, spec.crop, split, cache.checksums, [images.ids for images in sets]))
    digest = hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()
    path = cache.path.with_suffix(f".statistics-{digest[:20]}.json")
    if (known := _read(path, sets[0])) is not None:
        return known
    total = _total(sets[0].pixels)
    statistics = DatasetStatistics(_fingerprint(spec, split, sets), _duplicates(sets), _mean(total, sets[0]))
    _write(path, statistics, total)
    return statistics


def _fingerprint(spec: DataSpec, split: str, sets: list[ImageSet]) -> str:
    digest = hashlib.sha256(repr((spec.size, spec.crop, split)).encode())
    for images in sets:
        # The list as a whole, whose text separates the names; surrogates stand for bytes that are no UTF-8.
        digest.update(repr(images.ids).encode("utf-8", "surrogateescape"))
        for start in range(0, len(images), BLOCK):
            # Block by block: the array is larger than the memory, and may be no contiguous part of the map.
            digest.update(np.ascontiguousarray(images.pixels[start : start + BLOCK]).data)
    return digest.hexdigest()


def _duplicates(sets: list[ImageSet]) -> list[tuple[str, str]]:
    """Return pairs (first, other) of exactly equal squares in different splits."""
    seen: dict[int, list[tuple[int, str, Images]]] = {}
    pairs = []
    for number, images in enumerate(sets):
        for image_id, pixels in zip(images.ids, images.pixels, strict=True):
            # The checksum finds candidates only; equal pixels are what counts.
            alike = seen.setdefault(crc32(np.ascontiguousarray(pixels).data), [])
            first = next((other for other in alike if np.array_equal(other[2], pixels)), None)
            if first is None:
                alike.append((number, image_id, pixels))
            # Within a split, a duplicate gives nothing away; it is not noted, and the first one stays.
            elif first[0] != number:
                pairs.append((first[1], image_id))
    return pairs


def _total(pixels: Images) -> NDArray[np.int64]:
    """Return the sum of the images ``(H, W, 3)``: integers, so the order of addition does not matter."""
    total = np.zeros(pixels.shape[1:], dtype=np.int64)
    for start in range(0, len(pixels), 256):  # 256 * 255 fits 16 bits, which add up several times as fast
        total += pixels[start : start + 256].sum(axis=0, dtype=np.uint16)
    return total


def _mean(total: NDArray[np.int64], images: ImageSet) -> NDArray[np.float64]:
    # Guarded for an empty split, whose sum is zero.
    mean: NDArray[np.float64] = total / (255.0 * max(1, len(images)))
    return mean


def _read(path: Path, train: ImageSet) -> DatasetStatistics | None:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        if known.pop("crc32", None) != _checksum(known):
            return None  # damaged, or of a version that wrote no checksum: computed again
        total = np.array(known["total"], dtype=np.int64)
        # A statistics file of another size would broadcast into a wrong mean without an error.
        if total.shape != train.pixels.shape[1:]:
            return None
        return DatasetStatistics(
            known["fingerprint"], [(a, b) for a, b in known["duplicates"]], _mean(total, train)
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _checksum(value: Mapping[str, object]) -> int:
    return crc32(json.dumps(value, sort_keys=True).encode())


def _write(path: Path, statistics: DatasetStatistics, total: NDArray[np.int64]) -> None:
    value = {
        "fingerprint": statistics.fingerprint,
        "duplicates": statistics.duplicates,
        "total": total.tolist(),
    }
    # Without space it is computed again next time.
    with contextlib.suppress(OSError):
        text = json.dumps({**value, "crc32": _checksum(value)})
        atomic_write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def split_images(images: Images, rows: list[int]) -> Images:
    """Return the rows: a view of the memory map where they are contiguous, else a copy.

    A large copy is a memory map of an unnamed file, so that a split of all of CelebA at 160 px (15 GB) does not have
    to fit into memory.
    """
    if rows and rows[-1] - rows[0] + 1 == len(rows):
        return images[rows[0] : rows[-1] + 1]
    shape = (len(rows), *images.shape[1:])
    num_bytes = len(rows) * images[:1].nbytes
    if num_bytes <= _IN_MEMORY or not isinstance(images, np.memmap):
        return np.asarray(images)[rows]
    with TemporaryFile(dir=Path(str(images.filename)).parent) as file:
        reserve_space(file.fileno(), num_bytes)
        copy: Images = np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)
    for start in range(0, len(rows), BLOCK):
        copy[start : start + BLOCK] = images[rows[start : start + BLOCK]]
    return copy
