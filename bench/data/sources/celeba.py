"""CelebA, in every layout in which people have it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import ClassVar

from bench.data.name_lists import match_names
from bench.data.sources.base import COLUMN_NAMES, DataSource, take_larger_folders
from bench.data.sources.file_tree import FileTree
from bench.data.sources.find_zips import readable_zips
from masks.file_names import escape_name, folder_of, name_of, stem_of

#: Folders of aligned images, the better one first.
_FOLDERS = ("img_align_celeba", "img_align_celeba_png")
#: The folder of the images before they were aligned: the same names, of any size.
_IN_THE_WILD = "img_celeba"
_COPIED = "copy|copie|kopie|kopia|copia|cópia|副本|コピー"
_SUFFIX_OF_A_COPY = (
    r"([ _-]*\(\d{1,3}\)|[ _-](?!(32|48|64|96)$)(0\d\d|\d{1,2})"
    rf"|[ _-]+\(?((another|\d+(st|nd|rd|th)) )?({_COPIED})\)?)"
)
#: Before and behind the name of a copy, as Windows, macOS, Linux and browsers write in several languages. Longer
#: numbers are the side of smaller pictures.
_COPY = re.compile(rf"^copy of |{_SUFFIX_OF_A_COPY}+$")
#: Of the images before they were aligned, in the folder to which their archive of many parts unpacks, too.
_IN_THE_WILD_COPY = re.compile(rf"(copy of )?img_celeba(\.7z)?{_SUFFIX_OF_A_COPY}*(-(desktop|laptop)-\w+)?")
#: Of copies that a tool made of the images before they were aligned, all of one size where the tool made them so.
_MADE_FROM_IN_THE_WILD = re.compile(
    r"img_celeba([ ._-]*(\d+(x\d+)?(px)?|png|jpe?g|webp|bmp|tiff?|resized?|scaled|small|low[_-]?res|thumb(nail)?s?"
    r"|square|(center[_-]?)?crop(s|ped)?))+",
    re.IGNORECASE,
)
_SIX_DIGITS = re.compile(r"\d{6}")
#: From how many images it is told whether they are aligned, where no name says so.
_SIZES_READ = 16
#: Folders of CelebA-HQ, which is a data set of its own.
HQ_FOLDER = re.compile(
    r"celeba-?hq-img|celeba[-_]?hq.*|(copy of )?data(128|256|512|1024)x\2([ _-].*)?", re.IGNORECASE
)


class CelebA(DataSource):
    """CelebA's aligned images (178 x 218), as a folder or straight from a zip.

    The official download keeps images under ``Img/`` and lists under ``Eval/`` and ``Anno/``; torchvision puts all in
    ``celeba/``; Kaggle nests ``img_align_celeba`` twice and has CSV lists; all of them exist zipped, and as PNG copies.
    """

    name = "celeba"
    title = "CelebA (aligned)"
    license = (
        "CelebA (Liu et al., ICCV 2015): for non-commercial research only, not for redistribution; "
        "do not pass on a page with these pictures"
    )
    homepage = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
    layout = "`img_align_celeba/` or its zip, at any depth, with `list_eval_partition.txt` or `.csv`"
    published_split = "162,770 / 19,867 / 19,962 images, no person on two sides"
    zip_names = ("img_align_celeba.zip",)
    center_side: ClassVar[int | None] = 160
    largest_side: ClassVar[int | None] = 178
    aligned_faces = True
    # The median over 145 images of what dlib's landmarks give.
    face_box: ClassVar[tuple[float, float, float] | None] = (0.5, 0.65, 0.683)
    claims_dataset = True
    lists = {  # noqa: RUF012 (a ClassVar of the base class)
        "split": "list_eval_partition",
        "identities": "identity_CelebA",
        "attributes": "list_attr_celeba",
    }

    def select(self, tree: FileTree) -> dict[str, str] | None:
        """Take the images below ``img_align_celeba``, or those that CelebA's own lists name."""
        # The whole one of two copies: outputs of a program may lie in a folder of either name. max() keeps the first.
        inside = max((_by_id(_images_below(tree, wanted)) for wanted in _FOLDERS), key=len)
        if inside and len(inside) >= _count_own(tree):
            return inside
        # CelebA before its alignment has the same names and lists, and is another data set.
        if not (images := _not_in_the_wild(tree)) or is_in_the_wild(tree):
            return None
        if is_aligned_celeba(tree):
            return _by_id(images)
        found = self.select_listed(tree)
        return found if found and not _look_unaligned(tree, list(found.values())) else None

    def select_listed(self, tree: FileTree) -> dict[str, str] | None:
        """Take the images of a folder of another name that CelebA's lists beside six-digit names leave no doubt of."""
        images = _not_in_the_wild(tree)
        # Of the same copies of both data sets only one is taken: the aligned one, unless it has fewer.
        copies = _made_from_in_the_wild(tree)
        made = [path for path in images if folder_of(path) in copies]
        images = made if 2 * len(made) > len(images) else [p for p in images if folder_of(p) not in copies]
        # Masks or results have the same names; the data set's own zip beside them leaves no doubt.
        if not images or any(CelebA().select(packed) for packed in readable_zips(tree, CelebA.zip_names)):
            return None
        if not is_listed_celeba(tree, self.list_folders(tree)):
            return None
        # Most of them may be somebody's own photos, which are not CelebA's for lying beside it.
        its = [path for path in images if _SIX_DIGITS.fullmatch(stem_of(path))]
        # Beside the images before their alignment a program's outputs for them may lie.
        if 2 * len(_images_below(tree, _IN_THE_WILD)) >= len(its):
            return None
        if 2 * len(its) <= len(images):
            return _by_id(its)
        # Beside them CelebA-HQ may lie, which is numbered otherwise.
        named = {f for f in tree.image_folders if any(map(HQ_FOLDER.fullmatch, tree.names_below(f)))}
        return _by_id([*its, *(p for p in images if folder_of(p) not in named)])

    def list_folders(self, tree: FileTree) -> list[Path]:
        """Look around the zip, or around the folder of images itself, and above ``Img``."""
        # Lists may lie beside or above, but a folder of another name says nothing about its surroundings.
        own = (*_FOLDERS, _IN_THE_WILD, "img")
        around = []
        # The place as given first: a link to images on another disk lies beside the lists.
        for place in tree.places:
            while place.is_file() or _own_name(place.name) in own:
                place = place.parent
                around.append(place)
        return list(dict.fromkeys(around))

    def remarks(self, tree: FileTree, paths: Mapping[str, str]) -> list[str]:
        """Name the folders where there are several: one of them may hold masks or results of the same names."""
        inside = Counter(folder_of(path) or "." for path in paths.values())
        if len(inside) < 2:
            return []
        named = ", ".join(f"{escape_name(folder)} ({count:,})" for folder, count in inside.most_common(3))
        more = f" and {len(inside) - 3:,} more" if len(inside) > 3 else ""
        return [f"the pictures lie in {len(inside):,} folders, and all of them are used: {named}{more}"]


class CelebAInTheWild(CelebA):
    """CelebA's images before they were aligned: any size, the face anywhere."""

    name = "celeba-in-the-wild"
    title = "CelebA (in the wild)"
    layout = "`img_celeba/` or its zip, with `list_eval_partition.txt` or `.csv`"
    order = 11
    zip_names = ("img_celeba.zip",)
    center_side = None
    largest_side = None
    aligned_faces = False
    face_box = None
    claims_dataset = False

    def select(self, tree: FileTree) -> dict[str, str] | None:
        """Take the images below ``img_celeba``, or those of any size that CelebA's own lists name."""
        if any(_images_below(tree, name) for name in _FOLDERS):
            return None
        if is_in_the_wild(tree):
            return _by_id(tree.files.images) or None
        if below := _images_below(tree, _IN_THE_WILD):
            return _by_id(below)
        if is_aligned_celeba(tree):
            return None
        found = self.select_listed(tree)
        return found if found and _look_unaligned(tree, list(found.values())) else None


def _look_unaligned(tree: FileTree, images: Sequence[str]) -> bool:
    """Return whether images are those before the alignment by their folder, or since most have a size of their own."""
    if {folder_of(path) for path in images} <= _made_from_in_the_wild(tree):
        return True
    chosen = sorted(images)[:: max(1, len(images) // _SIZES_READ)][:_SIZES_READ]
    sizes = [size for path in chosen if (size := tree.image_size(path))]
    return len(sizes) > 1 and 2 * len(set(sizes)) > len(sizes)


def _made_from_in_the_wild(tree: FileTree) -> frozenset[str]:
    """Return the folders that are called after ``img_celeba``, with its size or format, and those below them."""
    return frozenset(
        folder
        for folder in tree.image_folders
        if any(map(_MADE_FROM_IN_THE_WILD.fullmatch, (*tree.own_names, *tree.names_below(folder))))
    )


def is_in_the_wild(tree: FileTree) -> bool:
    """Return whether the images of a place are CelebA's before their alignment, by the innermost name of the two."""
    return _known_name(tree.own_names) not in _FOLDERS and _lies_in(tree, _IN_THE_WILD, tree.names_above)


def _not_in_the_wild(tree: FileTree) -> list[str]:
    folders = {
        folder
        for folder in tree.image_folders
        if not any(_known_name(tree.names_of(x)) == _IN_THE_WILD for x in _with_parents(folder))
    }
    return [path for path in tree.files.images if folder_of(path) in folders]


def _with_parents(folder: str) -> list[str]:
    """Return a folder below a place and those above it there, from the inside out."""
    return [folder, *(parent.as_posix() for parent in PurePosixPath(folder).parents)]


def is_celeba(tree: FileTree) -> bool:
    """Return whether the images of a place are CelebA's, aligned or not, by the name of a folder around them."""
    return is_aligned_celeba(tree) or is_in_the_wild(tree) or bool(_images_below(tree, _IN_THE_WILD))


def is_aligned_celeba(tree: FileTree) -> bool:
    """Return whether the images of a place are CelebA's aligned ones, by the name of a folder around them."""
    above = (*tree.names_above, *tree.folder_names)
    return any(_lies_in(tree, name, above) or _images_below(tree, name) for name in _FOLDERS)


def _count_own(tree: FileTree) -> int:
    """Return how many images a place that is itself called like CelebA's aligned ones holds, but in no folder of it."""
    return len(tree.image_folders.get("", ())) if _known_name(tree.own_names) in _FOLDERS else 0


def _lies_in(tree: FileTree, wanted: str, above: Iterable[str]) -> bool:
    """Return whether a place, or one of the folders above it, bears a name of CelebA's and holds its images."""
    if _known_name(tree.own_names) == wanted:
        return _are_its_images(tree.files.images)
    # Below an inner folder, so that none of them lies in the folder of that name.
    return wanted in _lower(above) and _are_its_images([f"inner/{path}" for path in tree.files.images])


def _images_below(tree: FileTree, wanted: str) -> list[str]:
    """Return the images below folders of a name of CelebA's, of each folder that holds CelebA's images."""
    inside: dict[str, list[str]] = {}
    for own, paths in tree.image_folders.items():
        around = {x: name for x in _with_parents(own) if (name := _known_name(tree.names_of(x)))}
        innermost = next(iter(around.values()), "")
        # It says whether they are aligned; of the two names for aligned ones the outer one counts as well.
        if wanted == innermost or (
            innermost in _FOLDERS and wanted in _FOLDERS and wanted in around.values()
        ):
            inside.setdefault(next(x for x in around if around[x] == wanted), []).extend(paths)
    found = []
    for folder, paths in inside.items():
        if _are_its_images([path.removeprefix(f"{folder}/") for path in paths]):
            found += paths
    return found


def _are_its_images(paths: Sequence[str]) -> bool:
    """Return whether most images below a folder of CelebA's lie in that folder itself, or are called by six digits.

    Somebody's own photos may lie in folders of theirs below it.
    """
    its = ["/" not in path or bool(_SIX_DIGITS.fullmatch(stem_of(path))) for path in paths]
    return 2 * sum(its) > len(its)


def is_listed_celeba(tree: FileTree, beside: Sequence[Path] = ()) -> bool:
    """Return whether a list of CelebA's, here or in ``beside``, names images that are called by six digits."""
    ids = _by_id([path for path in _not_in_the_wild(tree) if _SIX_DIGITS.fullmatch(stem_of(path))])
    listed = (
        tree.find_list(stem, beside, COLUMN_NAMES.get(what, ())) for what, stem in CelebA.lists.items() if ids
    )
    return any(x is not None and bool(match_names(ids, x.rows)) for x in listed)


def _own_name(name: str) -> str:
    """Return the name of a folder in lower case, without what a second copy of it has before or behind it.

    >>> _own_name("img_celeba_2"), _own_name("Img_Align_CelebA - Copy (2)"), _own_name("img_align_celeba_64")
    ('img_celeba', 'img_align_celeba', 'img_align_celeba_64')
    """
    name = name.lower()
    if _IN_THE_WILD_COPY.fullmatch(name):
        return _IN_THE_WILD
    return _COPY.sub("", name)


def _known_name(names: Sequence[str]) -> str:
    """Return which name of CelebA's a folder bears, by where links lead at last; empty for none of them."""
    known = [name for name in map(_own_name, names) if name in (*_FOLDERS, _IN_THE_WILD)]
    return known[-1] if known else ""


def _lower(names: Iterable[str]) -> frozenset[str]:
    return frozenset(map(_own_name, names))


def _by_id(paths: list[str]) -> dict[str, str]:
    """Map ids to paths: ``000001.jpg`` whatever the folder and the format of the copy."""
    folders: dict[str, dict[str, str]] = {}
    # By name, so that of two copies in one folder every machine takes the same; a JPEG first.
    for path in sorted(paths, key=lambda path: (not path.lower().endswith(".jpg"), path)):
        stem = stem_of(path)
        image_id = f"{stem}.jpg" if _SIX_DIGITS.fullmatch(stem) else name_of(path)
        folders.setdefault(folder_of(path), {}).setdefault(image_id, path)
    return take_larger_folders(folders)
