"""Mask images: a user's folder as a mask (``files:FOLDER``), and the suite's own masks as PNG with a manifest."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from masks import seeding

PREFIX = "files:"
MANIFEST = "manifest.json"
#: Raised when another image would get another mask of the folder; part of every seed and key.
VERSION = 2
_SUFFIXES = {".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".jpg", ".jpeg"}
Masks = NDArray[np.uint8]


class MaskFileError(ValueError):
    """A mask image or an exported folder cannot be used; the message names the file and what to do."""


class PolarityWarning(UserWarning):
    """Most masks of a folder are mostly hole: they may be inverted (here white = hole)."""


def canonical_name(name: str) -> str:
    return name


def folder_digest(name: str, size: int) -> str:
    """Hex SHA-256 over every mask of ``files:FOLDER[?resize=nearest]`` in the order of names."""
    return _digest(_pool(name, size))


def _pool(name: str, size: int) -> Masks:
    folder, _, query = name.removeprefix(PREFIX).partition("?")
    return load_folder(folder, size, query == "resize=nearest")


def draw_from_folder(name: str, ids: Sequence[str], size: int, base_seed: int, stream: str) -> Masks:
    """Masks of ``files:FOLDER[?resize=nearest]``, one for each id, chosen by a digest of the id.

    Raises:
        MaskFileError: no folder, no images, another size, grey values, an empty or full mask.
    """
    pool = _pool(name, size)
    # The size is no part of this key: an image keeps its mask file at every size.
    draws = seeding.raw_bits("files", ids, 1, version=VERSION, size=0, base_seed=base_seed, stream=stream)
    chosen: Masks = pool[seeding.random_integer(draws[:, 0], 0, len(pool))]
    return chosen


@lru_cache(maxsize=4)
def load_folder(folder: str, size: int, resize: bool = False) -> Masks:
    """Every mask image of a folder in the order of names, ``(N, size, size)`` uint8, white = hole = 1."""
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise MaskFileError(f"{PREFIX}{folder}: no such folder")
    found = sorted(p for p in path.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())
    if not found:
        raise MaskFileError(f"{PREFIX}{folder}: holds no images")
    masks = np.stack([read_mask(p, size, resize=resize) for p in found])
    if (masks.mean(axis=(1, 2)) > 0.5).mean() > 0.5:
        warnings.warn(
            f"{folder}: most masks are mostly hole; here white is hole, so they may be inverted",
            PolarityWarning,
            stacklevel=2,
        )
    return masks


def read_mask(path: Path, size: int | None = None, *, resize: bool = False) -> Masks:
    """One mask ``(H, W)`` uint8, 1 = hole (white).

    Raises:
        MaskFileError: unreadable, not binary, of another size, all hole or no hole.
    """
    try:
        with Image.open(path) as image:
            if image.format == "PNG":
                image.verify()  # its checksums, which loading passes over
        with Image.open(path) as image:
            grey = np.asarray(image.convert("L"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        raise MaskFileError(f"{path}: not readable as an image ({error})") from error
    values = np.unique(grey)
    if not np.isin(values, (0, 255)).all() and not np.isin(values, (0, 1)).all():
        raise MaskFileError(
            f"{path}: {len(values)} grey values; a mask must be binary (black = known, white = hole)"
        )
    mask = (grey > 0).astype(np.uint8)
    if size is not None and mask.shape != (size, size):
        if not resize:
            raise MaskFileError(
                f"{path}: {mask.shape[1]} x {mask.shape[0]} pixels, needs {size} x {size}; "
                "give --resize-masks nearest (or files:FOLDER?resize=nearest) to resize"
            )
        mask = np.asarray(Image.fromarray(mask).resize((size, size), Image.Resampling.NEAREST))
    if not mask.any() or mask.all():
        raise MaskFileError(f"{path}: {'all' if mask.any() else 'no'} hole")
    return mask


def export_masks(masks: Masks, ids: Sequence[str], folder: Path, facts: dict[str, object]) -> Path:
    """Write masks as PNG named after their image ids, and a manifest with a digest of each: all or nothing.

    Raises:
        MaskFileError: a folder that holds files, an id that would leave it, two ids with one file name, a full disk.
    """
    names = [mask_image_name(image_id) for image_id in ids]
    name, times = Counter(names).most_common(1)[0]
    if times > 1:
        raise MaskFileError(f"two images would have the mask file {name}")
    folder = folder.expanduser().resolve()
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise MaskFileError(f"{folder}: there are files already; give a new folder")
        for name, mask in zip(names, masks, strict=True):
            path = temporary / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask * np.uint8(255)).save(path)
        manifest = {**facts, "files": {n: _digest(m) for n, m in zip(names, masks, strict=True)}}
        manifest["digest"] = _manifest_digest(manifest)
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        if folder.exists():
            folder.rmdir()  # it is empty
        temporary.rename(folder)
    except OSError as error:
        raise MaskFileError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder / MANIFEST


def mask_image_name(image_id: str) -> str:
    """The PNG's path below the folder: the id with its suffix replaced.

    Raises:
        MaskFileError: an absolute id, or one with ``..``.
    """
    path = PurePosixPath(image_id.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise MaskFileError(f"image id {image_id!r} is no path below a folder")
    return str(path.with_suffix(".png"))


def verify_export(folder: Path) -> Iterator[str]:
    """What is wrong with an exported folder, one sentence a file; nothing if it is as it was written.

    Files that are missing, changed or not of the export are named, and a manifest of which any line was changed.

    Raises:
        MaskFileError: there is no readable manifest.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        listed, digest = dict(manifest["files"]), manifest.pop("digest")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MaskFileError(f"{folder / MANIFEST}: not readable as a manifest of masks ({error})") from error
    if digest != _manifest_digest(manifest):
        yield f"{MANIFEST}: is not what was written"
    for name, expected in listed.items():
        if mask_image_name(name) != name:
            raise MaskFileError(f"{folder / MANIFEST}: {name!r} is no mask file name")
        path = folder / name
        if not path.is_file():
            yield f"{name}: missing"
            continue
        try:
            if _digest(read_mask(path)) != expected:
                yield f"{name}: differs from the manifest"
        except MaskFileError as error:
            yield str(error)
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}
    for name in sorted(there - set(listed) - {MANIFEST}):
        yield f"{name}: not in the manifest"


def mask_sheet(rows: Sequence[tuple[str, Masks]], path: Path, *, gap: int = 4) -> None:
    """A preview as PNG: a row for each (name, masks), with the hole's share under each mask."""
    from PIL import ImageDraw

    size = rows[0][1].shape[1]
    columns, label = max(len(masks) for _, masks in rows), 150
    cell = size + gap
    picture = Image.new("L", (label + columns * cell, len(rows) * (cell + 14)), 255)
    pen = ImageDraw.Draw(picture)
    for i, (name, masks) in enumerate(rows):
        top = i * (cell + 14)
        pen.text((6, top + size // 2 - 5), name, fill=0)
        for j, mask in enumerate(masks):
            left = label + j * cell
            # Grey for known pixels, so that the white hole stands out on the white sheet.
            picture.paste(Image.fromarray(np.where(mask == 1, 255, 96).astype(np.uint8)), (left, top))
            pen.rectangle((left, top, left + size - 1, top + size - 1), outline=0)
            pen.text((left + 2, top + size + 1), f"{100 * mask.mean():.1f} %", fill=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, format="PNG")


def _digest(mask: Masks) -> str:
    header = repr(mask.shape).encode()
    return hashlib.sha256(header + np.packbits(mask.reshape(-1)).tobytes()).hexdigest()


def _manifest_digest(manifest: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
