"""From a :class:`DataSpec` to a :class:`Dataset`: find, pack, divide, fingerprint."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from bench.data import splits
from bench.data.cache import (
    ImageCache,
    ProgressCallback,
    cache_procedural_faces,
    cache_source,
    has_procedural_faces,
    has_source,
)
from bench.data.dataset import FACES, UNKNOWN, Dataset, DataSpec, ImageSet, Skipped, known_identities
from bench.data.fingerprint import dataset_statistics, split_images
from bench.data.sources import DataSource, FoundImages, find_source
from bench.data.sources.procedural import ProceduralFaces
from bench.data.transforms import CROPS, NO_FACE
from bench.errors import DataError
from bench.wording import format_count
from masks.file_names import one_line
from models.registry import did_you_mean

#: Procedural faces of the three splits.
FACES_COUNTS = (2000, 128, 272)
_UNREADABLE_LIMIT = 0.01


def open_data(spec: DataSpec, *, progress: ProgressCallback | None = None, verify: bool = False) -> Dataset:
    """Open a source; pictures are decoded once into the cache folder.

    Args:
        spec: what is wanted.
        progress: called with (what, done, total).
        verify: recompute the checksums of a cached file, whatever its signature.

    Raises:
        DataError: nothing readable, too much unreadable, an unknown crop or split, or an empty split; with
            ``verify``, a cached file that is not what was written.
    """
    progress = progress or (lambda what, done, of: None)
    # Before the files are listed, which takes minutes on a network file system.
    if spec.crop not in CROPS:
        raise DataError(f"--crop {spec.crop}: unknown{did_you_mean(spec.crop, CROPS)}")
    if spec.split not in splits.SPLITS:
        raise DataError(f"--split {spec.split}: unknown{did_you_mean(spec.split, splits.SPLITS)}")
    if spec.source == FACES:
        return _faces(spec, progress, verify)
    return _pictures(spec, find_source(Path(spec.source)), progress, verify)


def is_prepared(spec: DataSpec) -> bool:
    """Return whether :func:`open_data` would find every image decoded.

    Raises:
        DataError: there is no such source.
    """
    if spec.source == FACES:
        return has_procedural_faces(spec, sum(FACES_COUNTS))
    return has_source(spec, find_source(Path(spec.source)))


def _faces(spec: DataSpec, progress: ProgressCallback, verify: bool) -> Dataset:
    pack = cache_procedural_faces(spec, sum(FACES_COUNTS), progress, verify=verify)
    ids = [f"face-{i:05d}" for i in range(sum(FACES_COUNTS))]
    first, second = FACES_COUNTS[0], FACES_COUNTS[0] + FACES_COUNTS[1]
    # Views of one array: splits of drawn faces are ranges, whatever --split says.
    cuts = [slice(0, first), slice(first, second), slice(second, None)]
    sets = [ImageSet(ids[c], pack.images[c]) for c in cuts]
    kind = ProceduralFaces()
    return _dataset(spec, sets, pack, kind, name=kind.name, title=kind.title, split="by index")


def _pictures(spec: DataSpec, source: FoundImages, progress: ProgressCallback, verify: bool) -> Dataset:
    # Refused here, where one line says why, and not image by image after hours of decoding.
    _check_size(spec, source.kind)
    pack = cache_source(spec, source, progress, verify=verify)
    bad = {s.id for s in pack.skipped}
    skipped = [Skipped(i, "its path in the zip leaves the folder") for i in source.unsafe] + pack.skipped
    if len(bad) == len(source.ids):
        raise DataError(f"--data {source.place}: no picture can be used; the first: {_told(skipped[:1])}")
    total = len(source.ids) + len(source.unsafe)
    # An image without a face is sound: it is left out, and does not count against the limit.
    unreadable = [s for s in skipped if s.reason != NO_FACE]
    if len(unreadable) > _UNREADABLE_LIMIT * total and not spec.allow_unreadable:
        raise DataError(
            f"--data {source.place}: {len(unreadable)} of {total} pictures cannot be used ({_told(unreadable[:5])}"
            f"{'; ...' if len(unreadable) > 5 else ''}); remove them, or give --allow-unreadable"
        )
    # All ids, the skipped ones too: parts are aligned with the rows of the pack.
    stem = source.kind.lists.get("split")
    needed = source.kind.lists.get("identities") if spec.split == "identity" else stem
    try:
        name, parts = splits.assign_split(
            source.ids,
            spec.split,
            partition=source.partition,
            identities=source.identities,
            seed=spec.split_seed,
        )
    except DataError as error:
        # A whole list may lie beside the one that is read.
        raise DataError(
            "; ".join([str(error), *(x for x in source.notes if needed and needed in x)])
        ) from error
    sets = []
    for wanted in (splits.TRAIN, splits.VALIDATION, splits.TEST):
        # Skipped images keep their black rows in the pack, so they are left out here.
        rows = [i for i, part in enumerate(parts) if part == wanted and source.ids[i] not in bad]
        ids = [source.ids[i] for i in rows]
        who = (
            np.array([source.identities.get(i, UNKNOWN) for i in ids], np.int64)
            if source.identities
            else None
        )
        sets.append(ImageSet(ids, split_images(pack.images, rows), who))
    # Only validation may be empty: nothing but the choice of settings rests on it.
    for images_of, what in zip(sets, ("training", "validation", "test"), strict=True):
        if not images_of.ids and what != "validation":
            reason = f"--data {source.place}: the {what} split is empty ({len(source.ids)} pictures)"
            raise DataError("; ".join([reason, *source.notes]))
    notes = list(source.notes)
    if spec.split == "auto" and stem and source.kind.published_split and not source.partition:
        notes.append(
            f"no {stem}.txt or .csv that names these pictures was read, so they are not divided as published but by a "
            "digest of their names"
        )
    unnamed = len(source.ids) - len(source.identities)
    if name == "identity" and unnamed:
        count = format_count(len(source.ids), "picture")
        notes.append(
            f"--split identity: {unnamed:,} of {count} without a name in the list; each counts as a person of its own"
        )
    dataset = _dataset(spec, sets, pack, source.kind, name=source.name, title=source.title, split=name)
    # They quote lists and file names, which may hold anything, and go into manifests and onto pages.
    notes = list(map(one_line, notes))
    return dataclasses.replace(dataset, skipped=skipped, attributes=source.attributes, notes=notes)


def _check_size(spec: DataSpec, kind: DataSource) -> None:
    """Refuse a size that no image of the source can have, before anything is decoded.

    Raises:
        DataError: with the crop that can, or the largest size.
    """
    if spec.crop == "center" and kind.center_side is not None and spec.size > kind.center_side:
        side = kind.center_side
        raise DataError(
            f"--size {spec.size}: the center crop has {side} x {side} pixels; give --crop resize"
            + (f" (up to {kind.largest_side})" if kind.largest_side else "")
        )
    if spec.crop == "resize" and kind.largest_side is not None and spec.size > kind.largest_side:
        raise DataError(
            f"--size {spec.size}: the images of {kind.title} hold no square above {kind.largest_side} pixels"
        )


def _dataset(
    spec: DataSpec,
    sets: list[ImageSet],
    pack: ImageCache,
    kind: DataSource,
    *,
    name: str,
    title: str,
    split: str,
) -> Dataset:
    """Put together what every data set has; what only files on disk have, the caller adds."""
    statistics = dataset_statistics(spec, split, sets, pack)
    shared = None
    # Where nobody is named, it is not known whether anybody is on two sides.
    if sets[0].identities is not None and sets[2].identities is not None:
        shared = len(np.intersect1d(known_identities(sets[0]), known_identities(sets[2])))
    return Dataset(
        kind=kind,
        name=name,
        title=title,
        size=spec.size,
        crop=spec.crop,
        split_name=split,
        train=sets[0],
        validation=sets[1],
        test=sets[2],
        fingerprint=statistics.fingerprint,
        shared_identities=shared,
        duplicates=statistics.duplicates,
        mean_pixel=statistics.mean.mean(axis=(0, 1)),
        mean_image=statistics.mean.astype(np.float32),
    )


def _told(skipped: list[Skipped]) -> str:
    return "; ".join(f"{s.id}: {s.reason}" for s in skipped)
