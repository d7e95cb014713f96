"""Names -> masks. A mask is a pure function of (suite version, name, base seed, image id, size).

Masks are uint8, 1 = hole. Training masks come from a seed space of their own (``stream="training"``).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from masks import folder, seeding, shapes, strokes
from masks.seeding import SUITE_VERSION

__all__ = [
    "SUITE_VERSION",
    "MaskInfo",
    "UnknownMaskError",
    "draw_masks",
    "fixed_hole_box",
    "mask_content_digest",
    "mask_info",
    "mask_names",
    "resolve_masks",
]

Masks = NDArray[np.uint8]
Stream = Literal["evaluation", "training"]
PAPER = ("center", "random-rect", "shapes")
#: Below this, published stroke widths are less than a pixel and area bins cannot be met.
MIN_SIZE = 32
_CHUNK = 256  # masks rasterised at once: bounds memory, changes no pixel


class UnknownMaskError(ValueError):
    """No mask of that name; the message carries suggestions."""


@dataclass(frozen=True, kw_only=True)
class MaskInfo:
    """What a mask is.

    Attributes:
        name: as given on the command line.
        summary: one line.
        source: where the definition comes from.
        parameters: the numbers, in the units they are published in.
    """

    name: str
    summary: str
    source: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Kind:
    card: MaskInfo
    draws: int
    make: Callable[[NDArray[np.uint64], int], Masks]


def _lama(name: str, kind: strokes.LamaParameters, summary: str) -> _Kind:
    parameters = {
        "strokes": f"{kind.strokes[0]}-{kind.strokes[1]}",
        "width at 256": f"{kind.width[0]}-{kind.width[1]} px",
        "length at 256": f"{kind.length[0]}-{kind.length[1]} px",
        "boxes": f"{100 * kind.box_share:.0f} % of masks" if kind.box_share else "none",
        "hole": "at most 50 %, or the smallest of five draws",
    }
    card = MaskInfo(
        name=name,
        summary=summary,
        source="LaMa (Suvorov et al., WACV 2022), configs/data_gen/random_*_256.yaml",
        parameters=parameters,
    )
    draws = strokes.lama_draws(kind) * strokes.LAMA_TRIES
    return _Kind(card, draws, partial(strokes.draw_lama, kind=kind))


def _irregular(low: int, high: int, border: bool) -> _Kind:
    where = "touching the border" if border else "away from the border"
    name = f"irregular-{low:02d}-{high}" + ("-border" if border else "")
    card = MaskInfo(
        name=name,
        summary=f"strokes, {max(low, 1)}-{high} % of the image, {where}",
        source="PConv (Liu et al., ECCV 2018), section 4: bins of the test masks",
        parameters={"hole": f"{max(low, 1)}-{high} %", "border": where},
    )
    make = partial(strokes.draw_irregular, low=max(low, 1) / 100, high=high / 100, border=border)
    return _Kind(card, strokes.IRREGULAR_DRAWS, make)


_KINDS: dict[str, _Kind] = {
    kind.card.name: kind
    for kind in (
        _Kind(
            MaskInfo(
                name="center",
                summary="the centre box of half the side: 25 % of the image",
                source="MGS-IIM section 4.1; size as in DeepFill and AOT-GAN",
                parameters={"side": "1/2"},
            ),
            0,
            shapes.draw_center,
        ),
        _Kind(
            MaskInfo(
                name="random-rect",
                summary="one rectangle anywhere, sides 30-60 % of the image",
                source="MGS-IIM section 4.1; sizes of GLCIC (U[48, 96] at 160)",
                parameters={"sides": "U[0.3, 0.6]"},
            ),
            4,
            shapes.draw_random_rect,
        ),
        _Kind(
            MaskInfo(
                name="shapes",
                summary="1-5 boxes, ellipses, triangles or thick lines",
                source='MGS-IIM section 4.1: "random number of different shape masks"; sizes are ours',
                parameters={"count": "1-5", "extent": "0.15-0.4 of the side"},
            ),
            41,
            shapes.draw_shapes,
        ),
        _Kind(
            MaskInfo(
                name="freeform",
                summary="1-3 brush strokes that turn to and fro",
                source="DeepFillv2 (Yu et al., ICCV 2019), inpaint_ops.py: brush_stroke_mask",
                parameters={"strokes": "1-3", "vertices": "4-11", "width at 256": "12-40 px"},
            ),
            strokes.FREEFORM_DRAWS,
            strokes.draw_freeform,
        ),
        _lama("lama-thin", strokes.THIN, "4-51 thin strokes"),
        _lama("lama-medium", strokes.MEDIUM, "4-6 middling strokes, or a few boxes"),
        _lama("lama-thick", strokes.THICK, "1-6 thick strokes, or 1-3 large boxes"),
        *(
            _irregular(low, high, border)
            for low, high in ((0, 10), (10, 20), (20, 30), (30, 40), (40, 50), (50, 60))
            for border in (False, True)
        ),
        _Kind(
            MaskInfo(
                name="half",
                summary="the left, right, upper or lower half",
                source="EdgeConnect (Nazeri et al., 2019), mask type 2",
            ),
            1,
            shapes.draw_half,
        ),
        _Kind(
            MaskInfo(
                name="outpaint",
                summary="everything but the centre box: 75 % of the image",
                source="the complement of center",
            ),
            0,
            shapes.draw_outpaint,
        ),
    )
}


def mask_names() -> list[str]:
    """Every named mask, in table order; ``files:FOLDER`` is accepted besides."""
    return list(_KINDS)


def resolve_masks(given: Iterable[str]) -> list[str]:
    """Names for what a user gave: names, ``paper`` (the paper's three), ``all``, ``files:FOLDER``.

    Raises:
        UnknownMaskError: with suggestions.
    """
    groups = {"paper": list(PAPER), "all": mask_names()}
    chosen: dict[str, None] = {}
    for name in given:
        if name in groups:
            chosen.update(dict.fromkeys(groups[name]))
        elif name in _KINDS or name.startswith(folder.PREFIX):
            chosen[name] = None
        else:
            known = [*_KINDS, *groups, "files:FOLDER"]
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            hint = (
                "did you mean " + " or ".join(map(repr, near)) + "?"
                if near
                else "there are: " + ", ".join(known)
            )
            raise UnknownMaskError(f"unknown mask {name!r}; {hint}")
    return list(chosen)


def mask_info(name: str) -> MaskInfo:
    """The card of a mask.

    Raises:
        UnknownMaskError: with suggestions.
    """
    (name,) = resolve_masks([name])
    if name.startswith(folder.PREFIX):
        return MaskInfo(name=name, summary="mask images of a folder, assigned by image id", source="yours")
    return _KINDS[name].card


def draw_masks(
    name: str, ids: Sequence[str], size: int, *, base_seed: int = 0, stream: Stream = "evaluation"
) -> Masks:
    """Masks ``(len(ids), size, size)`` uint8, 1 = hole; mask ``i`` depends on ``ids[i]``, not on the others.

    Args:
        name: a name of :func:`mask_names`, or ``files:FOLDER``.
        ids: image ids.
        size: side in pixels, at least :data:`MIN_SIZE`.
        base_seed: 0 for the suite's own masks.
        stream: ``training`` masks never equal ``evaluation`` masks of the same id by construction of the key.

    Raises:
        UnknownMaskError: with suggestions.
        ValueError: a size below :data:`MIN_SIZE`.
        masks.folder.MaskFileError: a mask image that cannot be used.
    """
    (name,) = resolve_masks([name])
    if size < MIN_SIZE:
        raise ValueError(f"masks need at least {MIN_SIZE} pixels, not {size}")
    if name.startswith(folder.PREFIX):
        return folder.draw_from_folder(name, ids, size, base_seed, stream)
    kind = _KINDS[name]
    out = np.empty((len(ids), size, size), dtype=np.uint8)
    for start in range(0, len(ids), _CHUNK):
        part = ids[start : start + _CHUNK]
        draws = seeding.raw_bits(name, part, size, base_seed, stream, kind.draws)
        out[start : start + _CHUNK] = kind.make(draws, size)
    return out


def mask_content_digest(name: str, size: int) -> str:
    """What decides a mask's pixels besides its name: a digest of the folder's masks for ``files:``, else nothing."""
    if not name.startswith(folder.PREFIX):
        return ""
    return folder.folder_digest(name, size)


def fixed_hole_box(name: str, size: int) -> tuple[int, int, int, int] | None:
    """(top, left, height, width) where every mask of that name is the same box, else ``None``."""
    return shapes.center_box(size) if name == "center" else None
