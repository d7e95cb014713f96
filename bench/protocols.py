"""Named test protocols of the field: size, crop, split, masks, images and metrics under one name.

A protocol says what is known of the original and what is not: numbers under it are comparable with each other, and
with published ones only as far as that goes. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.errors import UsageError
from models.registry import did_you_mean


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A test protocol.

    Attributes:
        name: as given on the command line.
        title: what it is, in one line.
        data: name of the data source that it is defined on.
        size: side of the images in pixels.
        crop: as ``--crop``.
        split: as ``--split``.
        masks: evaluation masks.
        test_images: how many; ``None`` is all.
        metrics: besides the primary ones.
        source: paper and code.
        known: what is taken from the original.
        unknown: what the original does not say, or what differs here.
    """

    name: str
    title: str
    data: str
    size: int
    crop: str
    split: str
    masks: tuple[str, ...]
    test_images: int | None = None
    metrics: tuple[str, ...] = ()
    source: str
    known: tuple[str, ...]
    unknown: tuple[str, ...]

    def as_record(self) -> dict[str, Any]:
        """Return what a manifest keeps of it, so that a report can say what the numbers compare with."""
        return {
            "name": self.name,
            "title": self.title,
            "data": self.data,
            "source": self.source,
            "known": list(self.known),
            "unknown": list(self.unknown),
        }

    def options(self) -> dict[str, Any]:
        """Return the options of ``bench run`` that the protocol fixes."""
        return {
            "size": self.size,
            "crop": self.crop,
            "split": self.split,
            "mask_names": self.masks,
            "test_images": self.test_images or "all",
        }


_ALL = (
    Protocol(
        name="mgs-iim-celeba-160",
        title="CelebA at 160 px with the three masks of the MGS-IIM paper",
        data="celeba",
        size=160,
        crop="center",
        split="paper",
        masks=("center", "random-rect", "shapes"),
        metrics=("hole_psnr_db", "hole_mae"),
        source="MGS-IIM, section 4.1 and Table 4",
        known=(
            "160 x 160 pixels",
            "90 % training and 10 % test images",
            "three kinds of masks",
            "PSNR, SSIM and LPIPS",
        ),
        unknown=(
            "which images are on which side (split at random without a seed)",
            "sizes of the random rectangles and shapes (ours: GLCIC's, and our own)",
            "length of training and training masks",
        ),
    ),
    Protocol(
        name="lama-celebahq-256-thick",
        title="CelebA-HQ at 256 px with LaMa's thick masks",
        data="celeba-hq",
        size=256,
        crop="resize",
        split="auto",
        masks=("lama-thick",),
        metrics=("fid",),
        source="LaMa (Suvorov et al., WACV 2022); configs/data_gen/random_thick_256.yaml, fetch_data/celebahq_*.sh",
        known=(
            "256 x 256 pixels",
            "the generator of the masks and its numbers",
            "tested on the images of visual_test_source_256",
            "FID and LPIPS",
        ),
        unknown=(
            "the masks themselves: the authors fix no seed (their README)",
            "the division of training and validation images, which their script shuffles without a seed",
        ),
    ),
    Protocol(
        name="mat-celebahq-512-large",
        title="CelebA-HQ at 512 px with MAT's large masks",
        data="celeba-hq",
        size=512,
        crop="resize",
        split="auto",
        masks=("mat-large",),
        metrics=("fid", "p_ids", "u_ids"),
        source="MAT (Li et al., CVPR 2022); datasets/mask_generator_512.py",
        known=("512 x 512 pixels", "the generator of the masks and its numbers", "FID, P-IDS and U-IDS"),
        unknown=(
            "which masks: the authors pass on their own, ours have the same distribution",
            "the list of validation images; ours is CelebA's own division through the mapping",
        ),
    ),
    Protocol(
        name="pconv-places2-512",
        title="Places2 at 512 px with irregular masks by area",
        data="places2",
        size=512,
        crop="resize",
        split="auto",
        masks=tuple(
            f"irregular-{low:02d}-{low + 10}{b}" for low in range(0, 60, 10) for b in ("", "-border")
        ),
        test_images=1000,
        source="PConv (Liu et al., ECCV 2018), section 4",
        known=(
            "512 x 512 pixels",
            "six bins of the hole's share, with and without holes at the border",
            "PSNR and SSIM",
        ),
        unknown=(
            "its masks are from occlusions in video; ours are strokes of the same share",
            "which test images belong to which mask",
            "1,000 images here",
        ),
    ),
)
PROTOCOLS: Mapping[str, Protocol] = {protocol.name: protocol for protocol in _ALL}


def find_protocol(name: str) -> Protocol:
    """Return the protocol of that name.

    Raises:
        UsageError: no such protocol, with suggestions.

    >>> find_protocol("lama-celebahq-256-thick").size
    256
    """
    if name not in PROTOCOLS:
        raise UsageError(f"--protocol {name}: unknown{did_you_mean(name, PROTOCOLS)}")
    return PROTOCOLS[name]


def apply_protocol(protocol: Protocol, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that a protocol fixes.

    Args:
        protocol: the protocol.
        given: options that the user gave, by the same names.

    Raises:
        UsageError: an option that contradicts the protocol.

    >>> apply_protocol(find_protocol("mat-celebahq-512-large"), {"size": 512})["crop"]
    'resize'
    """
    fixed = protocol.options()
    for name, value in given.items():
        # Only options that the protocol fixes: everything else is the user's to choose.
        if name in fixed and value != fixed[name]:
            shown = ",".join(value) if isinstance(value, tuple) else value
            wanted = ",".join(fixed[name]) if isinstance(fixed[name], tuple) else fixed[name]
            option = {"mask_names": "mask"}.get(name, name.replace("_", "-"))
            raise UsageError(
                f"--{option} {shown}: the protocol {protocol.name} has {wanted}; leave one of them out"
            )
    return fixed
