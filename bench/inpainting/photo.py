"""A photo as its owner has it, and back as PNG with every known pixel unchanged."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from bench.errors import DataError
from masks.image_files import IMAGE_FORMATS as FORMATS
from masks.mask_images import MaskFileError, read_mask

MAX_PIXELS = 64_000_000
#: Luma of ITU-R 601, as Pillow converts color to gray.
_LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Photo:
    """Pixels as they are in the file, upright.

    Attributes:
        pixels: ``(H, W, C)``, uint8, or uint16 for 16-bit gray; 1 gray, 2 gray and alpha, 3 RGB, 4 RGB and alpha.
        extra: what the PNG keeps besides (color profile, resolution).
    """

    pixels: NDArray[Any]
    extra: dict[str, Any]

    @property
    def rgb(self) -> NDArray[np.float32]:
        """``(H, W, 3)`` float32 in [0, 1], without alpha: what a model is shown."""
        top = np.iinfo(self.pixels.dtype).max
        colors = self.pixels[..., : 3 if self.pixels.shape[2] > 2 else 1]
        return np.broadcast_to(colors / np.float32(top), (*self.pixels.shape[:2], 3)).astype(np.float32)

    def completed(self, filled: NDArray[np.float32], hole: NDArray[np.bool_]) -> Photo:
        """Return this photo with ``filled`` ``(H, W, 3)`` in the hole, which becomes opaque; the rest is unchanged."""
        pixels, top = self.pixels.copy(), np.iinfo(self.pixels.dtype).max
        # In float64: gray is a weighted sum, and 16 bits leave float32 little room.
        inside = filled[hole].astype(np.float64)
        if pixels.shape[2] < 3:
            inside = inside @ _LUMA[:, None]
        levels = np.rint(np.clip(inside, 0, 1) * top).astype(pixels.dtype)
        # Only where there is a hole: every other byte of the photo is the owner's.
        pixels[hole, : levels.shape[1]] = levels
        if pixels.shape[2] in (2, 4):
            pixels[hole, -1] = top
        return Photo(pixels, self.extra)

    def save(self, path: Path) -> None:
        """Write as PNG."""
        array = self.pixels[..., 0] if self.pixels.shape[2] == 1 else self.pixels
        Image.fromarray(array).save(path, format="PNG", **self.extra)


def read_photo(path: Path) -> Photo:
    """Read a photo, turned upright by its EXIF orientation.

    Palettes become RGB, CMYK and YCbCr as Pillow converts them, one bit gray.

    Raises:
        DataError: unreadable, cut short, animated, too large, or of a kind without exact levels.
    """
    try:
        with warnings.catch_warnings():
            # Warnings about odd metadata are none of the user's business; that of a bomb is an error.
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                if image.format == "PNG":
                    image.verify()  # its checksums, which loading ignores
            # Opened again: verify leaves the file unusable.
            with Image.open(path, formats=FORMATS) as image:
                # Read from the header, before memory for the pixels is taken.
                if image.width * image.height > MAX_PIXELS:
                    raise DataError(
                        f"{path}: {image.width} x {image.height} pixels, at most {MAX_PIXELS // 10**6} million"
                    )
                # A phone's JPEG may carry a depth map or a small copy behind the photo (MPO): the first is the photo.
                if image.format != "MPO" and (frames := getattr(image, "n_frames", 1)) > 1:
                    raise DataError(f"{path}: holds {frames} images; give one of them")
                image.load()
                upright = ImageOps.exif_transpose(image)
                # EXIF does not travel: its orientation was applied, and it may hold where the photo was
                # taken.
                extra = {k: v for k in ("icc_profile", "dpi") if (v := image.info.get(k))}
                if image.mode == "CMYK":
                    extra.pop("icc_profile", None)  # it describes inks
                return Photo(_levels(upright, path), extra)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such image") from None
    except UnidentifiedImageError:
        raise DataError(f"{path}: not an image ({', '.join(FORMATS)})") from None
    except Exception as error:  # a decoder of damaged bytes may raise anything
        raise DataError(f"{path}: not readable as an image ({error})") from error


def read_hole(path: Path, photo: Photo, *, threshold: int | None = None) -> NDArray[np.bool_]:
    """Read the mask at ``path`` for ``photo``, ``(H, W)``, white = hole.

    Args:
        path: the mask's file.
        photo: the image it belongs to.
        threshold: gray level (1 to 255) from which on a pixel is hole; without it, only black and white are taken.

    Raises:
        DataError: unreadable, smoothed without a threshold, of another size, no hole, or all hole.
    """
    try:
        # Without a threshold, anything but black and white is refused, since every threshold would be a
        # guess.
        hole = read_mask(path).astype(bool) if threshold is None else _read_gray(path) >= threshold
    except MaskFileError as error:
        advice = ""
        # The message of a smoothed mask alone asks for the advice.
        if "gr" in str(error) and "values" in str(error):
            advice = "; give --threshold 128, or save it as PNG without smoothing" + (
                " (JPEG blurs edges)" if path.suffix.lower() in (".jpg", ".jpeg") else ""
            )
        raise DataError(f"{error}{advice}") from error
    _check_hole(hole, photo, f"{path}: mask")
    return hole


def _read_gray(path: Path) -> NDArray[np.uint8]:
    """Read a mask's gray levels; transparent pixels are known."""
    if path.exists() and not path.is_file():
        raise DataError(f"{path}: not a regular file")
    try:
        with Image.open(path, formats=FORMATS) as image:
            if not image.has_transparency_data:
                return np.asarray(image.convert("L"))
            # On black: what is transparent was not painted over.
            black = Image.new("RGBA", image.size, "black")
            return np.asarray(Image.alpha_composite(black, image.convert("RGBA")).convert("L"))
    except Exception as error:  # a decoder of damaged bytes may raise anything
        raise DataError(f"{path}: not readable as an image ({error})") from error


def as_photo(image: Photo | NDArray[Any] | Image.Image | str | Path) -> Photo:
    """Turn a file, a PIL image or an array uint8 ``(H, W, 3)`` into a photo.

    Raises:
        DataError: it cannot be used.
    """
    if isinstance(image, Photo):
        return image
    if isinstance(image, str | Path):
        return read_photo(Path(image))
    if isinstance(image, Image.Image):
        return Photo(_levels(ImageOps.exif_transpose(image), Path("image")), {})
    array = np.asarray(image)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
        raise DataError(f"the image is {array.dtype} of shape {array.shape}; give uint8 (H, W, 3)")
    return Photo(array, {})


def as_hole(mask: NDArray[Any] | Image.Image | str | Path, photo: Photo) -> NDArray[np.bool_]:
    """Turn a file, a PIL image or an array ``(H, W)`` into the hole of ``photo``: nonzero is hole.

    Raises:
        DataError: it cannot be used, or has another size.
    """
    if isinstance(mask, str | Path):
        return read_hole(Path(mask), photo)
    array = np.asarray(mask)
    # Any channel: a mask that was drawn in color is a mask.
    hole: NDArray[np.bool_] = np.asarray(np.atleast_3d(array).astype(bool).any(axis=-1))
    _check_hole(hole, photo, "mask")
    return hole


def _check_hole(hole: NDArray[np.bool_], photo: Photo, what: str) -> None:
    """Refuse a mask of another size, without a hole, or all hole."""
    height, width = photo.pixels.shape[:2]
    if hole.shape != (height, width):
        turned = " (after its EXIF rotation)" if hole.shape == (width, height) else ""
        raise DataError(
            f"{what} is {hole.shape[1]} x {hole.shape[0]}, image {width} x {height}{turned}: "
            "a mask must have the image's size"
        )
    if not hole.any() or hole.all():
        raise DataError(f"{what}: {'all hole' if hole.any() else 'no hole (white is hole)'}")


def _levels(image: Image.Image, path: Path) -> NDArray[Any]:
    if image.mode.startswith("I;16"):
        # 16-bit gray is the only deep mode whose range is certain.
        return np.asarray(image).astype(np.uint16)[..., None]
    if image.mode in ("I", "F"):
        raise DataError(
            f"{path}: mode {image.mode} has no fixed levels; save it with 8 bits (or 16-bit gray)"
        )
    # A palette may name one color as transparent without having an alpha channel.
    has_alpha = "A" in image.mode or "transparency" in image.info
    if image.mode in ("1", "L", "LA"):
        image = image.convert("LA" if has_alpha else "L")
    else:
        image = image.convert("RGBA" if has_alpha else "RGB")
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array
