"""A folder of mask images as a mask (``files:FOLDER``), and the manifest of an exported test set.

Nothing is written here: masks become bytes that the caller writes.
"""

from __future__ import annotations

import hashlib
import io
import json
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, UnidentifiedImageError

from masks import seeding
from masks.image_files import IMAGE_FORMATS, escape_name, find_files, path_of_id, resolve_path

PREFIX = "files:"
MANIFEST = "manifest.json"
#: Raised when another image would get another mask of the folder; part of every seed and key.
VERSION = 2
Masks = NDArray[np.uint8]


class MaskFileError(ValueError):
    """A mask image or an exported folder cannot be used; the message names the file and what to do."""


class PolarityWarning(UserWarning):
    """Most masks of a folder are mostly hole: they may be inverted (here white = hole)."""


class UnusedFilesWarning(UserWarning):
    """A folder of masks holds files that are not read: hidden, broken links, or of other formats."""


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


@dataclass(frozen=True)
class MaskFolder:
    """The masks of a folder, read.

    Attributes:
        masks: ``(N, size, size)`` uint8, 1 = hole, in the order of ``names``.
        names: file names below the folder.
        of_image: image id -> position, where the folder is an export with a manifest.
        notes: what was seen and is not used, in sentences.
    """

    masks: Masks
    names: list[str]
    of_image: Mapping[str, int]
    notes: list[str]


_PARAMETERS = "resize=nearest, resize=stretch, invert, threshold=1..255, pair=name, pair=digest"


def parse_name(name: str) -> tuple[str, MaskReading]:
    """Split ``files:FOLDER?resize=nearest&invert`` into the folder and how to read it.

    Raises:
        MaskFileError: no folder, or an unknown parameter or value.

    Examples:
        >>> parse_name("files:my-masks?invert&threshold=128")
        ('my-masks', MaskReading(resize='', invert=True, threshold=128, pair='auto'))
    """
    folder, _, query = name.removeprefix(PREFIX).partition("?")
    if not folder:
        # As a path, that would be the current folder, which nobody named.
        raise MaskFileError(f"{name}: names no folder; give '{PREFIX}.' for the current one")
    given: dict[str, Any] = {}
    for part in filter(None, query.split("&")):
        key, _, value = part.partition("=")
        if key == "invert" and value in ("", "true"):
            given["invert"] = True
        elif (key == "resize" and value in ("nearest", "stretch")) or (
            key == "pair" and value in ("auto", "name", "digest")
        ):
            given[key] = value
        elif (
            key == "threshold"
            and value.isascii()
            and value.isdigit()
            and len(value) <= 3
            and 1 <= int(value) <= 255
        ):
            given["threshold"] = int(value)
        else:
            raise MaskFileError(f"{name}: unknown parameter {part!r}; there are {_PARAMETERS}")
    return folder, MaskReading(**given)


def canonical_name(name: str) -> str:
    """Return the one spelling of a ``files:`` mask: a folder name that is not UTF-8 is percent-encoded.

    Raises:
        MaskFileError: an unknown parameter or value.
    """
    parse_name(name)
    return escape_name(name)


def folder_digest(name: str, size: int) -> str:
    """Return the hex SHA-256 over every mask of ``files:FOLDER`` in the order of names, and how images find theirs."""
    found = _load(name, size)
    digest = digest_pixels(found.masks)
    if parse_name(name)[1].pair == "digest":
        return digest
    # Renaming a file, or another manifest, changes who gets which mask.
    names = json.dumps([found.names, sorted(found.of_image.items())])
    return hashlib.sha256((digest + names).encode("utf-8", "backslashreplace")).hexdigest()


def draw_from_folder(name: str, ids: Sequence[str], size: int, base_seed: int, stream: str) -> Masks:
    """Return the masks of ``files:FOLDER``, one for each id.

    Raises:
        MaskFileError: no folder, no images, another size, gray values, an empty or full mask, or masks for some of
            the images only.
    """
    found = _load(name, size)
    # Training draws by digest whatever the names: the folder is for the images that are evaluated.
    positions = None if stream == "training" else _pair(name, found, ids)[0]
    if positions is None:
        # The size is no part of this key: an image keeps its mask file at every size.
        draws = seeding.raw_bits("files", ids, 1, version=VERSION, size=0, base_seed=base_seed, stream=stream)
        positions = seeding.random_integer(draws[:, 0], 0, len(found.masks)).tolist()
    chosen: Masks = found.masks[positions]
    return chosen


def pairing_rule(name: str, ids: Sequence[str], size: int, *, among: Sequence[str] = ()) -> str:
    """Say in a sentence how the images find their masks.

    Args:
        name: of the folder, ``files:FOLDER``.
        ids: of the images that are evaluated.
        size: side in pixels.
        among: ids of all images of the data, of which one may have the file name of an evaluated one.

    Raises:
        MaskFileError: as :func:`draw_from_folder`, and for a file name that several images of the data have.
    """
    found = _load(name, size)
    positions, rule = _pair(name, found, ids)
    if positions is not None and not found.of_image:
        images = Counter(_last(stem) for stem in {_stem(image_id) for image_id in among})
        for image_id, position in zip(ids, positions, strict=True):
            mask, count = found.names[position], images[_last(_stem(image_id))]
            if _stem(mask) != _stem(image_id) and count > 1:
                raise _ambiguous(name, mask, image_id, count)
    return f"{name}: {rule}"


def pairs_all(name: str, ids: Sequence[str], size: int) -> bool:
    """Return whether ``files:FOLDER`` has masks for all of the images, or draws for all by digest."""
    try:
        _pair(name, _load(name, size), ids)
    except MaskFileError:
        return False
    return True


def folder_notes(name: str, size: int) -> list[str]:
    """Return what ``files:FOLDER`` holds and does not use, in sentences; nothing for any other mask."""
    return list(_load(name, size).notes) if name.startswith(PREFIX) else []


def _pair(name: str, found: MaskFolder, ids: Sequence[str]) -> tuple[list[int] | None, str]:
    """Return the position of each id's mask, or ``None`` for a draw by digest; and the rule in words."""
    pair = parse_name(name)[1].pair
    drawn = f"each image gets one of the {len(found.masks):,} masks, chosen by a digest of its id"
    if pair == "digest":
        return None, drawn
    rule = "each image gets the mask that the folder's manifest names for it"
    places = [found.of_image.get(image_id) for image_id in ids]
    # A manifest that knows none of them is of other data; its masks are files with names like any others.
    if all(place is None for place in places):
        rule = "each image gets the mask of its name"
        places = _positions_by_name(name, found, ids)
    missing = [i for i, place in zip(ids, places, strict=True) if place is None]
    if not missing:
        return [place for place in places if place is not None], rule
    # Some names match, so the folder was meant to be paired by name. Drawing by digest now would
    # hand images the masks of other images.
    if pair == "name" or len(missing) < len(ids):
        remedy = "add it" if pair == "name" else f"add it, or give {_with_parameter(name, 'pair=digest')}"
        raise MaskFileError(
            f"{name}: has masks of the name of {len(ids) - len(missing):,} of {len(ids):,} images, and none for "
            f"{missing[0]}; {remedy}"
        )
    return None, drawn


def _positions_by_name(name: str, found: MaskFolder, ids: Sequence[str]) -> list[int | None]:
    """Return the position of the mask of each id's name, or ``None``.

    An id has the mask of its path without suffix, or else that of its file name alone, where no other mask and no
    other image has that file name and the folders, as far as both paths name any, agree: between ``a/1.png`` and
    ``b/1.png`` a guess would pair wrongly in silence.

    Raises:
        MaskFileError: two different masks have the name, or a file name fits several images or one in another folder.
    """
    of_stem: dict[str, list[int]] = {}
    for position, mask in enumerate(found.names):
        of_stem.setdefault(_stem(mask), []).append(position)
    stems = [_stem(image_id) for image_id in ids]
    of_bare = Counter(_last(stem) for stem in of_stem)
    bare = {_last(stem): stem for stem in of_stem if of_bare[_last(stem)] == 1}
    images_of_bare = Counter(_last(stem) for stem in set(stems))
    places: list[int | None] = []
    for image_id, stem in zip(ids, stems, strict=True):
        mask_stem = stem if stem in of_stem else bare.get(_last(stem))
        positions = of_stem.get(mask_stem, []) if mask_stem is not None else []
        if positions and mask_stem is not None and mask_stem != stem:
            mask, count = found.names[positions[0]], images_of_bare[_last(stem)]
            if count > 1:
                raise _ambiguous(name, mask, image_id, count)
            if not f"/{stem}".endswith(f"/{mask_stem}") and not f"/{mask_stem}".endswith(f"/{stem}"):
                raise MaskFileError(
                    f"{name}: {mask} has the file name of {image_id}, which lies in another folder: give masks in "
                    f"folders as the images are, or {_with_parameter(name, 'pair=digest')}"
                )
        if any((found.masks[other] != found.masks[positions[0]]).any() for other in positions[1:]):
            both = " and ".join(found.names[position] for position in positions[:2])
            raise MaskFileError(f"{name}: {both} are different masks of one name, {image_id}; keep one")
        places.append(positions[0] if positions else None)
    return places


def _ambiguous(name: str, mask: str, image_id: str, count: int) -> MaskFileError:
    return MaskFileError(
        f"{name}: {mask} has the file name of {count:,} images, {image_id} among them: give masks in folders as the "
        f"images are, or {_with_parameter(name, 'pair=digest')}"
    )


def _with_parameter(name: str, parameter: str) -> str:
    return f"{name}{'&' if '?' in name else '?'}{parameter}"


def _stem(name: str) -> str:
    return str(path_of_id(name).with_suffix("")) if name else name


def _last(stem: str) -> str:
    return PurePosixPath(stem).name


def _load(name: str, size: int) -> MaskFolder:
    folder, reading = parse_name(name)
    return load_folder(folder, size, reading)


@lru_cache(maxsize=4)
def load_folder(folder: str, size: int, reading: MaskReading | None = None) -> MaskFolder:
    """Read every mask image of a folder in the order of names, or those that the manifest of an export lists.

    Warns of files that are not used (:class:`UnusedFilesWarning`), and of masks that may be inverted.

    Raises:
        MaskFileError: no folder, no images, or one that is no mask.
    """
    reading = reading or MaskReading()
    path = resolve_path(folder)
    if not path.is_dir():
        raise MaskFileError(f"{PREFIX}{folder}: no such folder")
    if (exported := _read_export(path, size, reading)) is not None:
        _warn_of_unused(folder, exported.notes)
        return exported
    found = find_files(path)
    notes = found.unused_sentences()
    if not found.images:
        raise MaskFileError("; ".join([f"{PREFIX}{folder}: holds no images", *notes]))
    names = sorted(found.images, key=lambda name: PurePosixPath(name).parts)
    masks = np.stack([read_mask(path / name, size, reading) for name in names])
    # Collections with black holes read as white would be scored without an error. Most published holes cover
    # less than half of the image, so the usual mistake shows here.
    if (masks.mean(axis=(1, 2)) > 0.5).mean() > 0.5:
        warnings.warn(
            f"{escape_name(folder)}: most masks are mostly hole; here white is hole, so they may be inverted "
            "(files:FOLDER?invert reads black as hole)",
            PolarityWarning,
            stacklevel=2,
        )
    _warn_of_unused(folder, notes)
    return MaskFolder(masks, [escape_name(name) for name in names], {}, notes)


def _warn_of_unused(folder: str, notes: Sequence[str]) -> None:
    for note in notes:
        warnings.warn(f"{escape_name(folder)}: {note}", UnusedFilesWarning, stacklevel=3)


def _read_export(path: Path, size: int, reading: MaskReading) -> MaskFolder | None:
    """Read the masks of an exported test set as its manifest lists them; ``None`` where there is no such manifest.

    Raises:
        MaskFileError: the manifest or a mask is not what was written.
    """
    try:
        manifest = _read_manifest(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        # Without it, nothing says which image a mask is for, nor whether its holes are white.
        raise MaskFileError(
            f"{path / MANIFEST}: not readable ({error}); export the masks again, or remove it to read the folder "
            "as masks of your own"
        ) from error
    # Other programs write files of that name too. One field may be damaged, hardly two of these.
    if (
        not isinstance(manifest, dict)
        or len({"images", "files", "hole", "layout", "digest"} & set(manifest)) < 2
    ):
        return None
    if manifest.pop("digest", None) != manifest_digest(manifest):
        raise MaskFileError(f"{path / MANIFEST}: is not what was written; export the masks again")
    try:
        images = {str(image_id): str(entry["mask"]) for image_id, entry in manifest["images"].items()}
        digests = {str(name): digest for name, digest in manifest["files"].items()}
        inverted = manifest.get("hole") == "black"
    except (KeyError, TypeError, AttributeError) as error:  # sealed by somebody else
        raise MaskFileError(f"{path / MANIFEST}: not a manifest of masks ({error})") from error
    names = list(dict.fromkeys(images.values()))
    masks = []
    for name in names:
        _check_inside(path, name)
        # Digests were taken at the size of the export, so the check comes before any resizing.
        mask = read_mask(path / name, None, MaskReading(invert=inverted))
        if digest_pixels(mask) != digests.get(name):
            raise MaskFileError(f"{path / name}: differs from the manifest beside it; export the masks again")
        masks.append(_fit(mask, path / name, size, reading.resize))
    if not masks:
        return None
    place = {name: position for position, name in enumerate(names)}
    of_image = {i: place[name] for i, name in images.items()}
    return MaskFolder(np.stack(masks), names, of_image, _unlisted_sentences(path, digests))


def _read_manifest(folder: Path) -> Any:
    """Parse a folder's manifest.

    Raises:
        OSError: it is missing, not readable, or no regular file, whose reading may never end.
        ValueError: it is no JSON.
    """
    path = folder / MANIFEST
    if path.exists() and not path.is_file():
        raise OSError("not a regular file")
    return json.loads(path.read_text(encoding="utf-8"))


def _unlisted_sentences(path: Path, listed: Collection[str]) -> list[str]:
    """Return what an exported folder holds besides what its manifest lists, in up to two sentences."""
    found = find_files(path)
    unlisted = sorted({*found.images, *found.others} - {*listed, MANIFEST})
    sentences = [sentence] if (sentence := found.left_out_sentence()) else []
    if unlisted:
        named = ", ".join(escape_name(name) for name in unlisted[:3])
        more = f" and {len(unlisted) - 3:,} more" if len(unlisted) > 3 else ""
        sentences.append(f"not read, since its manifest does not list it: {named}{more}")
    return sentences


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
        mask = _fit(mask, path, size, reading.resize)
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


def _fit(mask: Masks, path: Path, size: int, resize: str) -> Masks:
    """Bring a mask to the size that is needed, if that was asked for."""
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


def mask_image_name(image_id: str) -> str:
    """Return the PNG's path below a folder: the id with its suffix replaced.

    Raises:
        MaskFileError: an absolute id, or one with ``..``.

    Examples:
        >>> mask_image_name("a/000001.jpg")
        'a/000001.png'
    """
    path = path_of_id(image_id)
    if _leaves_folder(image_id):
        raise MaskFileError(f"image id {image_id!r} is no path below a folder")
    return str(path.with_suffix(".png"))


def verify_export(folder: Path) -> Iterator[str]:
    """Yield what is wrong with an exported folder, one sentence per file; nothing if it is as it was written.

    Missing, changed and foreign files are named, and a manifest of which any line was changed.

    Raises:
        MaskFileError: there is no readable manifest.
    """
    try:
        manifest = _read_manifest(folder)
        listed, digest = dict(manifest["files"]), manifest.pop("digest")
        inverted = manifest.get("hole") == "black"
        masks = {str(entry["mask"]) for entry in dict(manifest["images"]).values()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise MaskFileError(f"{folder / MANIFEST}: not readable as a manifest of masks ({error})") from error
    if digest != manifest_digest(manifest):
        yield f"{MANIFEST}: is not what was written"
    for name, expected in listed.items():
        _check_inside(folder, name)
        path = folder / name
        if not path.is_file():
            yield f"{name}: missing"
            continue
        try:
            # Over pixels, not bytes: a mask that was saved again by
            # another PNG encoder is still the same mask.
            if name in masks:
                found = digest_pixels(read_mask(path, None, MaskReading(invert=inverted)))
            else:
                found = hashlib.sha256(path.read_bytes()).hexdigest()
            if found != expected:
                yield f"{name}: differs from the manifest"
        except MaskFileError as error:
            yield str(error)
    # By the one walker: what a file manager or a server leaves there is hidden, and nobody's mask.
    files = find_files(folder)
    there = {*files.images, *files.others}
    for name in sorted(there - set(listed) - {MANIFEST}):
        yield f"{escape_name(name)}: not in the manifest"


def _check_inside(folder: Path, name: str) -> None:
    """Refuse a manifest whose files lie elsewhere."""
    if _leaves_folder(name):
        raise MaskFileError(f"{folder / MANIFEST}: {name!r} is no mask file name")


def _leaves_folder(name: str) -> bool:
    """Return whether a name is no path below a folder, here or where the folder may be copied to."""
    paths = (PurePosixPath(name), PureWindowsPath(name))
    return any(path.is_absolute() or ".." in path.parts or not path.name for path in paths)


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


def manifest_digest(manifest: Mapping[str, object]) -> str:
    """Return the hex SHA-256 over a manifest without its own digest."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
