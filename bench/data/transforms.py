"""From the bytes of an image file to a square of uint8 RGB."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from masks.image_files import IMAGE_FORMATS

CROPS = ("center", "resize", "face")
#: Side of the center crop of CelebA's aligned 178 x 218 images.
CENTER_SIDE = 160
#: The reason that does not count as unreadable.
NO_FACE = "no face found"
_MAX_PIXELS = 64_000_000
#: Keys of Pillow's ``info`` that may hold an orientation (TIFF keeps it in its tags).
_ROTATION = {"exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"}


class ImageError(ValueError):
    """An image cannot be used; the message is the reason that the report shows."""


@contextmanager
def decoding() -> Iterator[None]:
    """Silence warnings about odd metadata around :func:`decode_image`."""
    with warnings.catch_warnings():  # around many pictures, since it costs as much as opening one
        warnings.simplefilter("ignore")
        yield


def decode_image(
    data: bytes, size: int, crop: str, center_side: int | None = CENTER_SIDE
) -> NDArray[np.uint8]:
    """Return ``(size, size, 3)`` uint8 from the bytes of an image file.

    Grayscale, palette, CMYK, 16-bit, float and transparent images become RGB (transparency on white); EXIF rotation
    is applied; shrinking is Pillow's bicubic, antialiased. Floats up to 1 are read as [0, 1], above as 8 or 16 bits.

    Args:
        data: contents of the file.
        size: side of the square in pixels.
        crop: one of :data:`CROPS`.
        center_side: side of the crop ``center``; ``None`` is the largest square.

    Raises:
        ImageError: empty, unreadable, truncated, too large, or smaller than the crop.
    """
    if not data:
        raise ImageError("empty file")
    try:
        # Only formats that file names promise: the content of a file must not choose another decoder.
        with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
            # From the header, before memory for the pixels is taken.
            if image.width * image.height > _MAX_PIXELS:
                raise ImageError(f"{image.width} x {image.height} pixels: too large")
            image.load()
            # Rotation before cropping: the middle of a turned picture is elsewhere.
            return crop_and_resize(_rgb(_upright(image)), size, crop, center_side)
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise ImageError("not a picture that Pillow knows") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("too large: a decompression bomb") from error
    except Exception as error:  # a decoder of damaged bytes may raise anything
        raise ImageError(f"unreadable: {error}") from error


def crop_and_resize(
    image: Image.Image, size: int, crop: str, center_side: int | None = CENTER_SIDE
) -> NDArray[np.uint8]:
    """Return the square of an RGB image. Only faces may be enlarged: in CelebA they are 110 to 170 pixels wide.

    >>> crop_and_resize(Image.new("RGB", (178, 218), "white"), 64, "center").shape
    (64, 64, 3)

    Raises:
        ImageError: smaller than the crop, or no face found.
    """
    if crop == "face":
        box = _face(image)
    else:
        # Where the source's usual square does not fit, the largest one that is not below the wanted size.
        side = min(*image.size, center_side) if crop == "center" and center_side else min(image.size)
        left, top = (image.width - side) // 2, (image.height - side) // 2
        box = (left, top, left + side, top + side)
    if box[2] - box[0] < size and crop != "face":
        raise ImageError(f"{image.width} x {image.height} pixels: smaller than {size} x {size}")
    square = image.crop(box)
    if square.size != (size, size):
        square = square.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(square, dtype=np.uint8)


def _upright(image: Image.Image) -> Image.Image:
    """Apply EXIF's rotation. Looking for it costs as much as a copy, so only look where it can be."""
    if _ROTATION.isdisjoint(image.info) and image.format != "TIFF":
        return image
    return ImageOps.exif_transpose(image)


def _rgb(image: Image.Image) -> Image.Image:
    # The common case costs no copy.
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values = np.asarray(image, dtype=np.float64)
        top = _range_of(values, image)
        # To the nearest, since a mere cast would darken every picture by half a step.
        image = Image.fromarray(np.floor(values / top * 255 + 0.5).astype(np.uint8))
    # On white, as viewers show it; hidden colors under full transparency may be anything.
    if image.has_transparency_data:
        clear = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", clear.size, (255, 255, 255, 255)), clear)
    return image.convert("RGB")


def _range_of(values: NDArray[np.float64], image: Image.Image) -> float:
    """Return the value that is white, for modes with more than 8 bits.

    Raises:
        ImageError: values that fit no usual range.
    """
    # Pillow opens 16-bit PNG files as 16-bit or as 32-bit integers, depending on its version.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):
        return 65535.0
    low, high = float(values.min()), float(values.max())
    if not (np.isfinite(values).all() and low >= 0 and high <= 65535):
        raise ImageError(
            f"mode {image.mode} with values from {low:g} to {high:g}: no usual range; save it with 8 or 16 bits"
        )
    # 32-bit integers and floats do not say their range: the smallest usual one that holds all values.
    if image.mode == "F" and high <= 1:
        return 1.0
    return 255.0 if high <= 255 else 65535.0


def _face(image: Image.Image) -> tuple[int, int, int, int]:
    """Return the box of the largest face of scikit-image's LBP cascade, widened by 0.4 as CelebA's crop is."""
    detected = _detector().detect_multi_scale(
        img=np.asarray(image),
        scale_factor=1.2,
        step_ratio=1,
        min_size=(40, 40),
        max_size=(min(image.size), min(image.size)),
    )
    if not detected:
        raise ImageError(NO_FACE)
    # The largest face is the one that the picture is of; the cascade finds spurious small ones.
    best = max(detected, key=lambda d: d["width"])
    side = min(int(best["width"] * 1.4), *image.size)
    # Moved inside where it would cross the border, so that nothing is filled in.
    left = min(max(0, int(best["c"] + best["width"] / 2 - side / 2)), image.width - side)
    top = min(max(0, int(best["r"] + best["height"] / 2 - side / 2)), image.height - side)
    return left, top, left + side, top + side


@lru_cache(maxsize=1)
def _detector() -> Any:
    # Imported here: scikit-image takes a second, and only this crop needs it.
    from skimage import data
    from skimage.feature import Cascade

    cascade_filename: Any = data.lbp_frontal_face_cascade_filename
    return Cascade(cascade_filename())
