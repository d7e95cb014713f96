"""Images of masks: read as holes, whatever their values, size and transparency, and written as PNG.

Nothing is written here: masks become bytes that the caller writes.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, UnidentifiedImageError

from masks.file_names import escape_name
from masks.image_files import IMAGE_FORMATS

Masks = NDArray[np.uint8]


class MaskFileError(ValueError):
    """A mask image or an exported folder cannot be used; the message names the file and what to do."""


@dataclass(frozen=True)
class MaskReading:
    """How mask images are read: the parameters of ``files:FOLDER?...``.

    Attributes:
        resize: ``nearest`` resizes square masks, ``stretch`` any; empty refuses another size.
        invert: black is hole.
        threshold: values from here on are white (1 to 255); 0 accepts two-valued masks only.
        pair: ``auto``, ``name`` or ``digest``: how an image finds its mask.
    """

    resize: str = ""
    invert: bool = False
    threshold: int = 0
    pair: str = "auto"


def read_mask(path: Path, size: int | None = None, reading: MaskReading | None = None) -> Masks:
    """Read one mask ``(H, W)`` uint8, 1 = hole (white).

    Raises:
        MaskFileError: unreadable, not two-valued, of another size, all hole or no hole.
    """
    reading = reading or MaskReading()
    gray, alpha = _read_gray(path)
    # Painting programs may leave the hole in the alpha channel and the color below it as it was. Which of the
    # two is the mask cannot be told, so neither is taken.
    if alpha is not None and alpha.min() < 255:
        where = "only in its alpha channel" if gray.min() == gray.max() else "in its alpha channel too"
        raise MaskFileError(
            f"{path}: the mask lies {where}; save it without transparency (black = known, white = hole)"
        )
    if reading.threshold:
        mask = (gray >= reading.threshold).astype(np.uint8)
    else:
        in_folder = ", or give files:FOLDER?threshold=128 to read values from 128 on as hole" * (
            size is not None
        )
        mask = _two_valued(gray, path, in_folder)
    if reading.invert:
        mask = np.asarray(1 - mask, dtype=np.uint8)
    if size is not None:
        mask = fit_mask(mask, path, size, reading.resize)
    if not mask.any() or mask.all():
        raise MaskFileError(f"{path}: {'all' if mask.any() else 'no'} hole")
    return mask


def _read_gray(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Read an image as 8-bit gray and its alpha channel, if it has one."""
    # A pipe would be waited for.
    if path.exists() and not path.is_file():
        raise MaskFileError(f"{path}: not a regular file")
    try:
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            if image.format == "PNG":
                image.verify()  # its checksums, which loading does not look at
        # Opened again, because Pillow cannot load pixels after verify().
        with Image.open(path, formats=IMAGE_FORMATS) as image:
            # Converting these to "L" clips at 255 instead of scaling: nearly
            # every gray value would become white.
            if image.mode.startswith("I;16") or image.mode in ("I", "F"):
                raise MaskFileError(f"{path}: mode {image.mode}; save the mask with 8 bits (black and white)")
            alpha = np.asarray(image.convert("RGBA"))[..., 3] if image.has_transparency_data else None
            return np.asarray(image.convert("L")), alpha
    except MaskFileError:
        raise
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError) as error:
        raise MaskFileError(f"{path}: not readable as an image ({error})") from error


def _two_valued(gray: NDArray[np.uint8], path: Path, remedy: str) -> Masks:
    """Return black and white as 0 and 1, or say what was found instead and what to do."""
    values = np.unique(gray)
    # Masks saved as 0 and 1 look black in a viewer but are plainly meant. Two
    # other values need the user's threshold.
    if np.isin(values, (0, 255)).all() or np.isin(values, (0, 1)).all():
        return (gray > 0).astype(np.uint8)
    if len(values) == 1:
        found = f"one gray value, {values[0]}"
    elif len(values) == 2:
        found = f"the two gray values {values[0]} and {values[1]}"
    else:
        found = f"{len(values)} gray values, so its edges are smoothed"
    lossy = " (JPEG blurs edges)" if path.suffix.lower() in (".jpg", ".jpeg") else ""
    raise MaskFileError(
        f"{path}: {found}; a mask must be binary (black = known, white = hole): save it as PNG without "
        f"smoothing{lossy}{remedy}"
    )


def fit_mask(mask: Masks, path: Path, size: int, resize: str) -> Masks:
    """Bring a mask ``(H, W)`` to ``(size, size)``, where another size is allowed.

    Args:
        mask: uint8, 1 = hole.
        path: of its file, for the message.
        size: side in pixels.
        resize: ``nearest`` for square masks, ``stretch`` for any; empty refuses another size.

    Raises:
        MaskFileError: another size, and ``resize`` does not allow it.
    """
    if mask.shape == (size, size):
        return mask
    height, width = mask.shape
    found = f"{path}: {width} x {height} pixels, needs {size} x {size}"
    if not resize:
        raise MaskFileError(
            f"{found}; give --resize-masks nearest (or files:FOLDER?resize=nearest) to resize"
        )
    if height != width and resize != "stretch":
        raise MaskFileError(
            f"{found}; it is not square: crop it, or give --resize-masks stretch to distort it"
        )
    # Nearest neighbor only: every other filter would make gray values, which are neither hole nor known.
    return np.asarray(Image.fromarray(mask).resize((size, size), Image.Resampling.NEAREST))


def mask_png(mask: Masks, *, hole_is_white: bool = True) -> bytes:
    """Return a mask as an 8-bit PNG."""
    stream = io.BytesIO()
    shown = mask if hole_is_white else 1 - mask
    Image.fromarray(shown.astype(np.uint8) * np.uint8(255)).save(stream, "PNG")
    return stream.getvalue()


def mask_preview(rows: Sequence[tuple[str, Masks]], *, gap: int = 4) -> bytes:
    """Return a preview as PNG: a row for each (name, masks), with the hole's share under each mask."""
    size = rows[0][1].shape[1]
    columns, label = max(len(masks) for _, masks in rows), 150
    cell = size + gap
    grid = Image.new("L", (label + columns * cell, len(rows) * (cell + 14)), 255)
    pen = ImageDraw.Draw(grid)
    for i, (name, masks) in enumerate(rows):
        top = i * (cell + 14)
        pen.text((6, top + size // 2 - 5), escape_name(name), fill=0)
        for j, mask in enumerate(masks):
            left = label + j * cell
            # Gray for known pixels, so that the white hole stands out on the white background.
            grid.paste(Image.fromarray(np.where(mask == 1, 255, 96).astype(np.uint8)), (left, top))
            pen.rectangle((left, top, left + size - 1, top + size - 1), outline=0)
            pen.text((left + 2, top + size + 1), f"{100 * mask.mean():.1f} %", fill=0)
    stream = io.BytesIO()
    grid.save(stream, format="PNG")
    return stream.getvalue()


def digest_pixels(mask: Masks) -> str:
    """Return the hex SHA-256 over shape and bits of one mask, or of many."""
    header = repr(mask.shape).encode()
    return hashlib.sha256(header + np.packbits(mask.reshape(-1)).tobytes()).hexdigest()
