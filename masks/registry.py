"""From names to masks. A mask is a pure function of (family version, name, base seed, stream, image id, size).

Masks are uint8, 1 = hole. Training masks come from a seed space of their own (``stream="training"``). Every module of
:mod:`masks.kinds` is imported here, so a new kind takes one file there.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import numpy as np

from masks import folder, kinds, seeding
from masks.kinds import KINDS, HoleBox, MaskInfo, Masks

__all__ = [
    "MaskInfo",
    "UnknownMaskError",
    "draw_masks",
    "fixed_hole_box",
    "markdown_table",
    "mask_content_digest",
    "mask_function",
    "mask_info",
    "mask_names",
    "resolve_masks",
]

Stream = Literal["evaluation", "training"]
PAPER = ("center", "random-rect", "shapes")
#: Below this, published stroke widths are less than a pixel and area bins cannot be met.
MIN_SIZE = 32
_CHUNK = 256  # masks rasterized at once: bounds memory, changes no pixel
#: Families in the order of the tables; any other module of the folder follows.
_FAMILIES = ("shapes", "freeform", "lama", "irregular", "mat", "face_parts")


class UnknownMaskError(ValueError):
    """No mask has that name.

    Attributes:
        name: what was given.
        known: every name and group that there is.
    """

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"unknown mask {name!r}; there are: {', '.join(known)}")
        self.name, self.known = name, tuple(known)


def _import_families() -> None:
    """Import every module of :mod:`masks.kinds`, which registers its kinds."""
    found = [module.name for module in pkgutil.iter_modules(kinds.__path__)]
    # Importing registers, and KINDS keeps the order of registration: that of lists and tables.
    for name in dict.fromkeys([*(f for f in _FAMILIES if f in found), *found]):
        importlib.import_module(f"{kinds.__name__}.{name}")


_import_families()


def mask_names() -> list[str]:
    """Return the name of every mask, in table order; ``files:FOLDER`` is accepted besides.

    Examples:
        >>> mask_names()[:3]
        ['center', 'random-rect', 'shapes']
    """
    return list(KINDS)


def resolve_masks(given: Iterable[str]) -> list[str]:
    """Return the names for what a user gave: names, ``paper`` (the paper's three), ``all``, ``files:FOLDER``.

    Raises:
        UnknownMaskError: no such mask.

    Examples:
        >>> resolve_masks(["half", "paper"])
        ['half', 'center', 'random-rect', 'shapes']
    """
    groups = {"paper": list(PAPER), "all": mask_names()}
    chosen: dict[str, None] = {}
    for name in given:
        if name in groups:
            chosen.update(dict.fromkeys(groups[name]))
        elif name in KINDS:
            chosen[name] = None
        elif name.startswith(folder.PREFIX):
            chosen[folder.canonical_name(name)] = None
        else:
            raise UnknownMaskError(name, [*KINDS, *groups, f"{folder.PREFIX}FOLDER"])
    return list(chosen)


def mask_info(name: str) -> MaskInfo:
    """Return what a mask is.

    Raises:
        UnknownMaskError: no such mask.

    Examples:
        >>> mask_info("half").source
        'EdgeConnect (Nazeri et al., 2019), mask type 2'
    """
    (name,) = resolve_masks([name])
    if name.startswith(folder.PREFIX):
        summary = "mask images of a folder, paired by name or assigned by image id"
        return MaskInfo(name=name, summary=summary, source="yours", version=folder.VERSION)
    return KINDS[name].info


def draw_validation_masks(name: str, ids: Sequence[str], size: int) -> Masks:
    """Return the masks on which a training is watched and a baseline's parameters are chosen, as :func:`draw_masks`.

    They are those of an evaluation. Of a folder that holds masks for the evaluated images, and not for these, they are
    drawn by digest.

    Examples:
        >>> (draw_validation_masks("shapes", ["a"], 64) == draw_masks("shapes", ["a"], 64)).all()
        np.True_
    """
    if name.startswith(folder.PREFIX) and not folder.pairs_all(name, ids, size):
        return draw_masks(name, ids, size, stream="training")
    return draw_masks(name, ids, size)


def draw_masks(
    name: str, ids: Sequence[str], size: int, *, base_seed: int = 0, stream: Stream = "evaluation"
) -> Masks:
    """Return masks ``(len(ids), size, size)`` uint8, 1 = hole; mask ``i`` depends on ``ids[i]``, not on the others.

    Args:
        name: a name of :func:`mask_names`, or ``files:FOLDER``.
        ids: image ids.
        size: side in pixels, at least :data:`MIN_SIZE`.
        base_seed: 0 for the masks that everybody evaluates on.
        stream: ``training`` or ``evaluation``; the key keeps the two apart for the same id.

    Raises:
        UnknownMaskError: no such mask.
        ValueError: a size below :data:`MIN_SIZE`.
        masks.mask_images.MaskFileError: a mask image that cannot be used.

    Examples:
        >>> masks = draw_masks("center", ["000001.jpg", "000002.jpg"], 64)
        >>> masks.shape, float(masks.mean())
        ((2, 64, 64), 0.25)
    """
    (name,) = resolve_masks([name])
    if size < MIN_SIZE:
        raise ValueError(f"masks need at least {MIN_SIZE} pixels, not {size}")
    if name.startswith(folder.PREFIX):
        return folder.draw_from_folder(name, ids, size, base_seed, stream)
    kind = KINDS[name]
    out = np.empty((len(ids), size, size), dtype=np.uint8)
    for start in range(0, len(ids), _CHUNK):
        draws = seeding.raw_bits(
            name, ids[start : start + _CHUNK], kind.num_draws,
            version=kind.info.version, size=size, base_seed=base_seed, stream=stream,
        )  # fmt: skip
        out[start : start + _CHUNK] = kind.draw(draws, size)
    return out


def mask_function(name: str) -> Callable[..., Masks]:
    """Return the function that draws the masks of a name, for digests of its code.

    Raises:
        UnknownMaskError: no such mask.
    """
    (name,) = resolve_masks([name])
    return folder.draw_from_folder if name.startswith(folder.PREFIX) else KINDS[name].draw


def mask_content_digest(name: str, size: int) -> str:
    """Return what decides a mask's pixels besides its name: a digest of the folder for ``files:``, else nothing."""
    if not name.startswith(folder.PREFIX):
        return ""
    return folder.folder_digest(name, size)


def fixed_hole_box(name: str, size: int) -> HoleBox | None:
    """Return (top, left, height, width) where every mask of that name is the same box, else ``None``.

    Examples:
        >>> fixed_hole_box("center", 160), fixed_hole_box("shapes", 160)
        ((40, 40, 80, 80), None)
    """
    kind = KINDS.get(name)
    return kind.fixed_box(size) if kind and kind.fixed_box else None


def markdown_table() -> str:
    """Return the table of all masks for the documentation."""
    rows = ["| name | what | parameters | source |", "|---|---|---|---|"]
    for kind in KINDS.values():
        info = kind.info
        numbers = "; ".join(f"{what}: {value}" for what, value in info.parameters.items())
        rows.append(f"| `{info.name}` | {info.summary} | {numbers} | {info.source} |")
    return "\n".join(rows)
