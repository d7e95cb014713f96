"""Score pictures that any other program completed on our exported masks, as our own models are scored.

A picture belongs to the test image whose id has the same path without its suffix (``000001.png`` to
``000001.jpg``), as ``bench masks export`` names its masks. Known pixels are taken from the truth, so that
every method is judged on its hole alone; pictures that change them are reported.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from bench.data import ImageSet
from bench.errors import UsageError
from bench.evaluation.evaluator import EVALUATION_BATCH, cluster_people, identities_of, image_sample
from bench.evaluation.feature_sets import FeatureCollector, SetScore
from bench.evaluation.image_batch import FaceBox, ImageBatch
from bench.evaluation.metrics import DistributionMetric, ImageFunction, list_metrics
from bench.scoring.export_test_set import flat_stem
from bench.wording import format_count
from masks.file_names import escape_name, path_of_id
from masks.image_files import IMAGE_FORMATS, IMAGE_SUFFIXES, find_files, is_document
from reports.results.schema import EXTERNAL

#: Mean difference outside the hole, in 8-bit levels, above which a picture is hardly of the same image and
#: crop (JPEG at quality 75 changes faces by about 2).
_ALIEN_LEVELS = 8.0
#: Characters of a label, which stands in every table; names of experiments end there too.
_LONGEST_LABEL = 100
#: Letters and marks that draw nothing alone, though their Unicode categories are those of visible ones: fillers, the
#: empty Braille cell, and selectors of variants.
_BLANKS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u2800\u3164\uffa0") | {
    chr(code) for code in range(0xFE00, 0xFE10)
}


@dataclass(frozen=True)
class ScoredImages:
    """The result of scoring.

    Attributes:
        rows: one per picture, without the columns that name the method.
        findings: problems and remarks.
        pictures: ``(P, H, W, 3)`` uint8, composites of those images of the picture pool that were scored.
        sets: metric of sets -> its number over the scored images.
    """

    rows: pd.DataFrame
    findings: MatchedImages
    pictures: NDArray[np.uint8]
    sets: dict[str, SetScore] = field(default_factory=dict)


def score_images(
    folder: Path,
    images: ImageSet,
    masks: NDArray[np.uint8],
    ready: Mapping[str, ImageFunction],
    device: torch.device,
    *,
    sets: Sequence[DistributionMetric] = (),
    face_box: FaceBox | None = None,
    suffix: str = "",
) -> ScoredImages:
    """Score the pictures of ``folder``.

    Args:
        folder: pictures of the size of ``images``, in 8 bits, searched with its sub-folders.
        images: the test images.
        masks: ``(N, H, W)`` uint8, 1 = hole, by image.
        ready: metric name -> function, from :func:`bench.evaluation.metrics.prepare_metrics`.
        device: where metrics are computed.
        sets: metrics of sets, from :func:`bench.evaluation.metrics.prepare_distribution_metrics`.
        face_box: where the images' faces lie (:attr:`bench.data.Dataset.face_box`).
        suffix: what the program adds to the images' names, as ``_out`` in ``000001_out.png``.

    Raises:
        UsageError: no such folder, or not one picture in it can be scored.
    """
    findings = MatchedImages()
    files = match_images(folder, images.ids, findings, suffix=suffix)
    # Truths are not shared here: their features are extracted for the images that were found only.
    collector = FeatureCollector(sets, device)
    count = len(images)
    positions: list[int] = []
    columns: dict[str, list[NDArray[np.float64]]] = {name: [] for name in (*ready, "identical")}
    pool, kept_pictures = set(image_sample(count).tolist()), []
    # In the batches of an evaluation, whatever is missing, so that metrics see the same shapes.
    for start in range(0, count, EVALUATION_BATCH):
        block = [i for i in range(start, min(start + EVALUATION_BATCH, count)) if images.ids[i] in files]
        read = {
            i: read_image(folder, files[images.ids[i]], images.pixels.shape[1:3], findings) for i in block
        }
        # What cannot be read has left a finding; the others are scored.
        kept = [i for i in block if read[i] is not None]
        if kept:
            given = np.stack([picture for i in kept if (picture := read[i]) is not None])
            truth, hole = np.asarray(images.pixels[kept]), masks[kept].astype(bool)
            # Before compositing, which would hide what the program did outside the hole.
            _compare_known(given, truth, hole, [files[images.ids[i]] for i in kept], findings)
            composite = np.where(hole[..., None], given, truth)
            pictures = ImageBatch(
                truth=_tensor(truth, device),
                composite=_tensor(composite, device),
                raw=_tensor(given, device).float() / 255,
                mask=torch.from_numpy(hole).to(device).unsqueeze(1).float(),
                face_box=face_box,
            )
            with torch.inference_mode():
                for name, function in ready.items():
                    columns[name].append(function(pictures).double().cpu().numpy())
                collector.add(start, pictures)
            columns["identical"].append((composite == truth).all(axis=(1, 2, 3)))
            kept_pictures += [composite[j] for j, i in enumerate(kept) if i in pool]
            # Positions and not ids: identities, masks and people are aligned with the test images.
            positions += kept
    if not positions:
        why = f"; {findings.rejected[0].file}: {findings.rejected[0].reason}" if findings.rejected else ""
        if findings.ambiguous:
            why += f"; not matched by file name alone, since several have one: {_first(findings.ambiguous)}"
        if findings.unread:
            why += f"; {_counted(findings.unread)} of a kind that is not read: {_first(findings.unread)}"
        if findings.left_out:
            why += f"; {len(findings.left_out):,} left out: {_first(findings.left_out)}"
        wanted = PurePosixPath(images.ids[0]).with_suffix("")
        raise UsageError(
            f"{folder}: no picture there can be scored ({findings.summary(count)}{why}). Give pictures named like the "
            f"test images ({wanted}{suffix}.png, ...), or what the program adds to their names by --suffix"
        )
    rows = pd.DataFrame(
        {
            "image_id": [images.ids[i] for i in positions],
            "identity": identities_of(images)[positions],
            "hole_ratio": masks[positions].reshape(len(positions), -1).mean(axis=1),
            **{name: np.concatenate(parts) for name, parts in columns.items()},
        }
    )
    shown = np.stack(kept_pictures) if kept_pictures else np.empty((0, *images.pixels.shape[1:]), np.uint8)
    people = cluster_people(images)
    scores = collector.scores(None if people is None else people[positions])
    return ScoredImages(rows, findings, shown, scores)


def method_label(label: str | None, own_name: str) -> str:
    """Return what rows and tables call a method: ``label``, or its own name as text that they can hold.

    Args:
        label: as the user gave it, if at all.
        own_name: of the folder or function.

    Raises:
        UsageError: a label that is not one line of UTF-8 without control characters, or too long.

    Examples:
        >>> method_label(None, "caf\\udce9\\n"), method_label("My method", "out")
        ('caf%E9%0A', 'My method')
    """
    plain = escape_name(label or own_name)
    # A name of a folder may be what it is; one that somebody chooses is refused before anything is computed.
    if label and label != plain:
        raise UsageError(f"--label {plain}: give one line of UTF-8 without control characters")
    if label and len(label) > _LONGEST_LABEL:
        raise UsageError(f"--label {label[:20]}...: {len(label):,} characters; give up to {_LONGEST_LABEL}")
    # Spaces, and characters of no width or no ink.
    if label and all(unicodedata.category(c)[0] in "ZC" or c in _BLANKS for c in label):
        raise UsageError(f"--label {label!r}: nothing of it can be seen; give a name")
    return plain


def as_result_rows(
    rows: pd.DataFrame, *, label: str, mask: str, size: int, model: str = EXTERNAL, seed: int = 0
) -> pd.DataFrame:
    """Turn rows of :func:`score_images` into a results table (``docs/results-schema.md``) of one external method."""
    named: dict[str, object] = {
        "model": model,
        "label": label,
        "track": EXTERNAL,
        "preset": EXTERNAL,
        "seed": seed,
        "sample": 0,
        "mask": mask,
        "train_mask": EXTERNAL,
        "size": size,
    }
    unavailable = {
        name: np.nan for name, info in list_metrics().items() if info.group == "primary" and name not in rows
    }
    return rows.assign(**named, **unavailable)  # type: ignore[arg-type]


def _compare_known(
    given: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    hole: NDArray[np.bool_],
    files: Sequence[str],
    findings: MatchedImages,
) -> None:
    # In 16 bits: differences of unsigned levels would wrap around.
    difference = np.abs(given.astype(np.int16) - truth).mean(axis=-1)
    levels = [d[~h].mean() if not h.all() else 0.0 for d, h in zip(difference, hole, strict=True)]
    findings.changed += [file for file, level in zip(files, levels, strict=True) if level > 0]
    findings.alien += [file for file, level in zip(files, levels, strict=True) if level > _ALIEN_LEVELS]


def _tensor(pictures: NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pictures)).to(device).permute(0, 3, 1, 2)


# Pictures of another program: found below a folder, matched with test images, read, and what is wrong with them.


#: GIF has a palette of its own, which changes every color.
_SUFFIXES = IMAGE_SUFFIXES - {".gif", ".ppm"}
_MASK_SUFFIX = re.compile(r"_mask\d*$")
_DEPTHS = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})


@dataclass(frozen=True)
class RejectedImage:
    """A picture that cannot be scored, and why."""

    file: str
    reason: str


@dataclass
class MatchedImages:
    """Problems and remarks about a folder of pictures.

    Attributes:
        found: images below the folder.
        by_file_name: test images matched by their file's name alone, in whatever folder it lies.
        ambiguous: files, or test images, that share a file name, so that none is matched by it alone.
        missing: ids of test images without a picture.
        extra: files of no test image, or second ones of the same.
        unread: files of kinds that are not read, as GIF, which has a palette of its own.
        left_out: hidden files and folders, links that lead nowhere or in a circle, and what cannot be read, each with
            the reason.
        rejected: unreadable, of another size or depth, or transparent in places.
        lossy: scored files in a lossy format, whose compression is scored with them.
        changed: scored files that differ from the truth outside the hole (before compositing).
        alien: scored files that differ there so much that they may show another image or crop.
    """

    found: list[str] = field(default_factory=list)
    by_file_name: list[str] = field(default_factory=list)
    ambiguous: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    rejected: list[RejectedImage] = field(default_factory=list)
    lossy: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    alien: list[str] = field(default_factory=list)

    @property
    def incomplete(self) -> bool:
        """Whether some test image has no number, so that means are over fewer images than other methods'."""
        return bool(self.missing or self.rejected)

    def summary(self, count: int) -> str:
        """Say how many files were found, name one, and how many of ``count`` test images have a file.

        Examples:
            >>> MatchedImages(found=["out/000001.png", "out/000002.png"], missing=["000003.jpg"]).summary(3)
            'found 2 pictures, such as out/000001.png; 2 of 3 test images have one'
        """
        example = f", such as {self.found[0]}" if self.found else ""
        return f"found {_counted(self.found)}{example}; {count - len(self.missing):,} of {count:,} test images have one"

    def sentences(self) -> list[str]:
        """Write one line for each kind of finding, with the first files named."""
        told = [
            (self.by_file_name, "matched by file name alone, whatever their folder"),
            (self.missing, "missing, so the means leave out these images"),
            ([f"{r.file} ({r.reason})" for r in self.rejected], "not scored"),
            (self.extra, "extra, belonging to no test image; ignored"),
            (self.unread, "of a kind that is not read; give PNG"),
            (self.left_out, "left out"),
            (self.lossy, "lossily compressed, which is scored too (JPEG costs tenths of a dB); give PNG"),
            (self.alien, "very different outside the hole: another image, crop or order of channels?"),
            (self.changed, "changed outside the hole; scored with the known pixels of the truth"),
        ]
        return [f"{_counted(files)} {what}: {_first(files)}" for files, what in told if files]


def _bare(name: str) -> str:
    return str(path_of_id(name).with_suffix(""))


def _bare_name(name: str) -> str:
    return path_of_id(name).stem


def match_images(
    folder: Path, ids: Sequence[str], findings: MatchedImages, *, suffix: str = ""
) -> dict[str, str]:
    """Match test images with files below ``folder``: image id -> file.

    A file belongs to the image whose path without extension it has (with ``suffix`` added), or else, where no two
    test images and no two files share a file name, to the one with its file name. PNG comes before other formats where
    there are several.

    Raises:
        UsageError: no such folder, or test images that differ in their extension only.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder of pictures")
    # Two ids that differ in their suffix would claim one picture.
    if len({_bare(image_id) for image_id in ids}) < len(ids):
        raise UsageError(
            f"{folder}: some test images differ in their suffix only, so pictures cannot be matched"
        )
    found = find_files(folder)
    there = [file for file in found.images if PurePosixPath(file).suffix.lower() in _SUFFIXES]
    taken = set(there)
    findings.unread = sorted(
        file for file in (*found.images, *found.others) if file not in taken and not is_document(file)
    )
    findings.left_out = [f"{left_out.path} ({left_out.reason})" for left_out in found.unreadable_first()]
    findings.found = sorted(there)
    # PNG first: where a program wrote both, the lossless one is what it made.
    ordered = sorted(there, key=lambda f: (not f.lower().endswith(".png"), f))
    named = [file for file in ordered if _bare(file).endswith(suffix)]
    # Layouts without folders join the parts of an id by underscores.
    files = _match_names(named, suffix, ids, (_bare, flat_stem))
    # Only if nothing matched by path: mixing both would pair images of different folders.
    if not files:
        findings.ambiguous = _doubled_names(named, ids)
    if not files and not findings.ambiguous:
        files = _match_names(named, suffix, ids, (_bare_name,), of_file=_bare_name)
        findings.by_file_name = list(files.values())
    findings.missing = [image_id for image_id in ids if image_id not in files]
    used = set(files.values())
    findings.extra = [file for file in there if file not in used]
    return files


def _match_names(
    files: Sequence[str],
    suffix: str,
    ids: Sequence[str],
    of_id: Sequence[Callable[[str], str]],
    *,
    of_file: Callable[[str], str] = _bare,
) -> dict[str, str]:
    """Give each image the first file of its name: image id -> file.

    Exact names come before those of LaMa, which calls its result ``x_mask001.png``, and within each the names of
    ``of_id`` in their order. A file is one image's: the one whose name it has more exactly, or nobody's where two
    images claim it alike.
    """
    matched: dict[str, str] = {}
    free = list(files)
    for as_named in (of_file, lambda file: _MASK_SUFFIX.sub("", of_file(file))):
        for name_of in of_id:
            by_name: dict[str, str] = {}
            for file in free:
                # Both ways: programs write the name that a picture has on disk, or that its export has.
                name = as_named(file).removesuffix(suffix)
                by_name.setdefault(name, file)
                by_name.setdefault(escape_name(name), file)
            claims: dict[str, list[str]] = {}
            for image_id in ids:
                if image_id not in matched and (file := by_name.get(name_of(image_id), "")):
                    claims.setdefault(file, []).append(image_id)
            matched |= {claiming[0]: file for file, claiming in claims.items() if len(claiming) == 1}
            free = [file for file in free if file not in claims]
    return matched


def _doubled_names(files: Sequence[str], ids: Sequence[str]) -> list[str]:
    """Return the files, or test images, that share a file name with another, but for another format."""
    # Of two files with one name nobody could say which one belongs to the image.
    for names in (sorted({_bare(file): file for file in files}.values()), ids):
        count = Counter(map(_bare_name, names))
        if doubled := [name for name in names if count[_bare_name(name)] > 1]:
            return doubled
    return []


def read_image(
    folder: Path, file: str, size: tuple[int, ...], findings: MatchedImages
) -> NDArray[np.uint8] | None:
    """Read ``(H, W, 3)`` uint8, or return ``None`` and note a finding."""
    height, width = size
    try:
        # Only formats that file names promise: a file of another one may have Pillow call another program (EPS).
        with Image.open(folder / file, formats=IMAGE_FORMATS) as stored:
            lossy = _is_lossy(stored, folder / file)
            # Some programs write rotated pictures with a tag, and others look at the tag.
            image = ImageOps.exif_transpose(stored)
            if image.size != (width, height):
                raise ValueError(f"{image.width} x {image.height} pixels instead of {width} x {height}")
            if image.mode not in _DEPTHS:
                raise ValueError(f"mode {image.mode} instead of 8 bits")
            # An alpha channel that is opaque everywhere says nothing and is dropped.
            if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
                raise ValueError("transparent in places: give it without alpha")
            pixels = np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError) as error:
        reason = "not readable as a picture" if isinstance(error, UnidentifiedImageError) else str(error)
        findings.rejected.append(RejectedImage(file, reason))
        return None
    except ValueError as error:
        findings.rejected.append(RejectedImage(file, str(error)))
        return None
    except Exception as error:  # a decoder of damaged bytes may raise anything, and other pictures are sound
        findings.rejected.append(RejectedImage(file, f"unreadable: {error}"))
        return None
    if lossy:
        findings.lossy.append(file)
    return pixels


def _is_lossy(image: Image.Image, path: Path) -> bool:
    if image.format == "WEBP":
        return not _is_lossless_webp(path)
    return image.format == "JPEG" or image.info.get("compression") in ("jpeg", "tiff_jpeg", "webp")


def _is_lossless_webp(path: Path) -> bool:
    """Return whether the picture is in a chunk ``VP8L``; profiles may stand before it."""
    with path.open("rb") as stream:
        stream.seek(12)  # "RIFF", size, "WEBP"
        # Chunks are padded to an even length.
        while len(head := stream.read(8)) == 8:
            name, length = head[:4], int.from_bytes(head[4:], "little")
            if name in (b"VP8 ", b"VP8L"):
                return name == b"VP8L"
            stream.seek(length + length % 2, os.SEEK_CUR)
    return False


def _counted(files: Sequence[str]) -> str:
    return format_count(len(files), "picture")


def _first(files: Sequence[str], count: int = 3) -> str:
    return ", ".join(files[:count]) + (", ..." if len(files) > count else "")
