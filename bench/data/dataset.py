"""Images as the rest of the program sees them: three splits of uint8 pixels, and where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.data.sources.base import DataSource
from bench.wording import format_count
from masks.file_names import one_line

FACES = "faces"
#: Identity of an image of which it is not known who is shown.
UNKNOWN = -1


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Say which images, and how they are cropped.

    Attributes:
        source: ``faces`` (procedural) or a path: CelebA's folder or zip, or any folder of pictures.
        size: side of the squares in pixels.
        crop: ``center`` (160 x 160 from the middle), ``resize`` (the largest centered square) or ``face`` (detected).
        split: ``auto``, ``official``, ``paper``, ``identity`` or ``digest``.
        split_seed: names the digest of the seeded splits.
        cache: folder of decoded images; ``None`` is the user's cache folder.
        allow_unreadable: continue although more than 1 % of the pictures cannot be read.
    """

    source: str = FACES
    size: int = 64
    crop: str = "center"
    split: str = "auto"
    split_seed: int = 0
    cache: Path | None = None
    allow_unreadable: bool = False


@dataclass(frozen=True)
class Skipped:
    """An image that is not used, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class ImageSet:
    """Hold the images of one split.

    Attributes:
        ids: unique names, in a fixed order.
        pixels: ``(N, H, W, 3)`` uint8 RGB, possibly a memory map.
        identities: ``(N,)`` int64 who is shown, :data:`UNKNOWN` where it is not known; ``None`` where it never is.
    """

    ids: list[str]
    pixels: NDArray[np.uint8]
    identities: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.ids)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Hold a source, cropped and split.

    Attributes:
        kind: the data source; title, license and what is published are its own.
        name: the source's name, or the folder's.
        title: as the report calls it.
        fingerprint: digest over ids, pixels, crop, size and split.
        skipped: images that are not used.
        shared_identities: test identities that are in the training split too (``None``: unknown).
        duplicates: pairs of exactly equal images across splits.
        attributes: attribute -> image id -> whether the image has it, where it is published.
        notes: what was seen and is not used, in sentences.
    """

    kind: DataSource
    name: str
    title: str
    size: int
    crop: str
    split_name: str
    train: ImageSet
    validation: ImageSet
    test: ImageSet
    fingerprint: str
    skipped: list[Skipped] = field(default_factory=list)
    shared_identities: int | None = None
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    attributes: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    mean_pixel: NDArray[np.float64]
    mean_image: NDArray[np.float32]

    @property
    def license(self) -> str:
        """Whose images these are and on what terms, in one line."""
        return self.kind.license

    @property
    def procedural(self) -> bool:
        """Whether this is the embedded test bed, not real data."""
        return self.kind.procedural

    @property
    def aligned_faces(self) -> bool:
        """Whether eyes, nose and mouth lie at the same place in every square."""
        # A detected crop is centered on the face, but not turned or scaled by its landmarks.
        return self.kind.aligned_faces and self.crop != "face"

    @property
    def face_box(self) -> tuple[float, float, float] | None:
        """Where the faces lie in every image, for metrics of faces; ``None`` where that is not known."""
        return self.kind.face_box if self.crop == "center" else None

    @property
    def warnings(self) -> list[str]:
        """What was seen with the images and is not used, and which of them cannot be: a sentence each.

        Whoever trains or is scored on these images must be told.
        """
        if not self.skipped:
            return self.notes
        named = "; ".join(f"{one_line(s.id)}: {s.reason}" for s in self.skipped[:3])
        more = f"; and {len(self.skipped) - 3:,} more" if len(self.skipped) > 3 else ""
        return [*self.notes, f"{format_count(len(self.skipped), 'picture')} cannot be used ({named}{more})"]

    @property
    def unnamed_images(self) -> dict[str, int] | None:
        """Split -> number of images whose person is not known (``None``: of no image)."""
        sets = {"train": self.train, "validation": self.validation, "test": self.test}
        # One split without a list means that the source has none; partly named splits have UNKNOWN entries.
        if any(images.identities is None for images in sets.values()):
            return None
        return {name: len(images) - len(known_identities(images)) for name, images in sets.items()}

    @property
    def shared_images(self) -> int | None:
        """Test images whose person is in the training split too (``None``: unknown)."""
        if self.test.identities is None or self.train.identities is None:
            return None
        return int(np.isin(known_identities(self.test), known_identities(self.train)).sum())


def known_identities(images: ImageSet) -> NDArray[np.int64]:
    """Return the identities of those images whose person is known."""
    if images.identities is None:
        return np.empty(0, np.int64)
    found: NDArray[np.int64] = images.identities[images.identities != UNKNOWN]
    return found


def unseen_identities(images: ImageSet, train: ImageSet, limit: int | None = None) -> list[int] | None:
    """Return the people of ``images`` who are not among the first ``limit`` training images, in ascending order.

    ``None`` where it is not known who is shown.
    """
    if images.identities is None or train.identities is None:
        return None
    return [int(i) for i in np.setdiff1d(known_identities(images), train.identities[:limit])]
