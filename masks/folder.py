"""A folder of mask images as a mask (``files:FOLDER``), and the manifest of an exported test set.

Nothing is written here: masks become bytes that the caller writes.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from masks import seeding
from masks.file_names import escape_name, path_of_id, resolve_path
from masks.image_files import HIDDEN, find_files
from masks.mask_images import MaskFileError, MaskReading, Masks, digest_pixels, fit_mask, read_mask

PREFIX = "files:"
MANIFEST = "manifest.json"
#: Raised when another image would get another mask of the folder; part of every seed and key.
VERSION = 2


class PolarityWarning(UserWarning):
    """Most masks of a folder are mostly hole: they may be inverted (here white = hole)."""


class UnusedFilesWarning(UserWarning):
    """A folder of masks holds files that are not read: hidden, broken links, or of other formats."""


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
        masks.append(fit_mask(mask, path / name, size, reading.resize))
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
    foreign = dict.fromkeys({*files.images, *files.others} - set(listed) - {MANIFEST}, "")
    # Of a listed file that is a broken link, the first loop has said that it is missing.
    foreign |= {
        x.path: f" ({x.reason})" for x in files.left_out if x.reason != HIDDEN and x.path not in listed
    }
    for name, why in sorted(foreign.items()):
        yield f"{escape_name(name)}: not in the manifest{why}"


def _check_inside(folder: Path, name: str) -> None:
    """Refuse a manifest whose files lie elsewhere."""
    if _leaves_folder(name):
        raise MaskFileError(f"{folder / MANIFEST}: {name!r} is no mask file name")


def _leaves_folder(name: str) -> bool:
    """Return whether a name is no path below a folder, here or where the folder may be copied to."""
    paths = (PurePosixPath(name), PureWindowsPath(name))
    return any(path.is_absolute() or ".." in path.parts or not path.name for path in paths)


def manifest_digest(manifest: Mapping[str, object]) -> str:
    """Return the hex SHA-256 over a manifest without its own digest."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
