"""A picture as its owner has it, and back as PNG with every known pixel as it was."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from bench.errors import DataError
from masks import folder
from masks.image_files import IMAGE_FORMATS as FORMATS

MAX_PIXELS = 64_000_000
#: Luma of ITU-R 601, as Pillow turns colour into grey.
_LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Photo:
    """Pixels as they lie in the file, upright.

    Attributes:
        pixels: ``(H, W, C)``, uint8, or uint16 for 16-bit grey; 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
        extra: what the PNG keeps besides (colour profile, resolution).
    """

    pixels: NDArray[Any]
    extra: dict[str, Any]

    @property
    def rgb(self) -> NDArray[np.float32]:
        """``(H, W, 3)`` float32 in [0, 1], without alpha: what a model is shown."""
        top = np.iinfo(self.pixels.dtype).max
        colours = self.pixels[..., : 3 if self.pixels.shape[2] > 2 else 1]
        return np.broadcast_to(colours / np.float32(top), (*self.pixels.shape[:2], 3)).astype(np.float32)

    def completed(self, filled: NDArray[np.float32], hole: NDArray[np.bool_]) -> Photo:
        """This picture with ``filled`` ``(H, W, 3)`` in the hole, which becomes opaque; the rest is not touched."""
        pixels, top = self.pixels.copy(), np.iinfo(self.pixels.dtype).max
        inside = filled[hole].astype(np.float64)
        if pixels.shape[2] < 3:
            inside = inside @ _LUMA[:, None]
        levels = np.rint(np.clip(inside, 0, 1) * top).astype(pixels.dtype)
        pixels[hole, : levels.shape[1]] = levels
        if pixels.shape[2] in (2, 4):
            pixels[hole, -1] = top
        return Photo(pixels, self.extra)

    def save(self, path: Path) -> None:
        """Write as PNG."""
        array = self.pixels[..., 0] if self.pixels.shape[2] == 1 else self.pixels
        Image.fromarray(array).save(path, format="PNG", **self.extra)


def read_photo(path: Path) -> Photo:
    """A picture, turned upright by its EXIF orientation.

    Palettes become RGB, CMYK and YCbCr as Pillow converts them, one bit grey.

    Raises:
        DataError: unreadable, cut short, animated, too large, or of a kind without exact levels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                if image.format == "PNG":
                    image.verify()  # its checksums, which loading passes over
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise DataError(
                        f"{path}: {image.width} x {image.height} pixels, at most {MAX_PIXELS // 10**6} million"
                    )
                if (frames := getattr(image, "n_frames", 1)) > 1:
                    raise DataError(f"{path}: holds {frames} pictures; give one of them")
                image.load()
                upright = ImageOps.exif_transpose(image)
                extra = {k: v for k in ("icc_profile", "dpi") if (v := image.info.get(k))}
                if image.mode == "CMYK":
                    extra.pop("icc_profile", None)  # it describes inks
                return Photo(_levels(upright, path), extra)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such picture") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: not a picture ({', '.join(FORMATS)})") from None
    except Exception as error:  # a decoder of damaged bytes may raise anything
        raise DataError(f"{path}: not readable as a picture ({error})") from error


def read_hole(path: Path, photo: Photo) -> NDArray[np.bool_]:
    """The mask at ``path`` for ``photo``, ``(H, W)``, white = hole.

    Raises:
        DataError: unreadable, grey values, of another size, no hole, or all hole.
    """
    height, width = photo.pixels.shape[:2]
    try:
        hole = folder.read_mask(path)
    except folder.MaskFileError as error:
        raise DataError(str(error)) from error
    if hole.shape != (height, width):
        turned = " (after the picture's EXIF rotation)" if hole.shape == (width, height) else ""
        raise DataError(
            f"{path}: {hole.shape[1]} x {hole.shape[0]} pixels, the picture has {width} x {height}{turned}; "
            "a mask must have the picture's size"
        )
    return hole.astype(bool)


def _levels(image: Image.Image, path: Path) -> NDArray[Any]:
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)[..., None]
    if image.mode in ("I", "F"):
        raise DataError(
            f"{path}: mode {image.mode} has no fixed levels; save it with 8 bits (or 16-bit grey)"
        )
    has_alpha = "A" in image.mode or "transparency" in image.info
    if image.mode in ("1", "L", "LA"):
        image = image.convert("LA" if has_alpha else "L")
    else:
        image = image.convert("RGBA" if has_alpha else "RGB")
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array
