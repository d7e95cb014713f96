"""CelebA, in every layout in which people have it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import ClassVar

from bench.data.name_lists import NameList, match_names, require_match
from bench.data.sources.base import DataSource
from bench.data.sources.file_tree import FileTree
from bench.errors import DataError
from masks.image_files import escape_name

#: Folders of aligned images, the better one first.
_FOLDERS = ("img_align_celeba", "img_align_celeba_png")
#: The folder of the images before they were aligned: the same names, of any size.
_IN_THE_WILD = "img_celeba"
#: What an attribute may be in ``list_attr_celeba``; some copies have 0 for -1.
_ATTRIBUTE_VALUES = ("1", "-1", "0")
_SIX_DIGITS = re.compile(r"\d{6}")


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
        for wanted in _FOLDERS:
            if inside := [path for path in tree.files.images if wanted in _folders_of(path)]:
                return _by_id(inside)
        # CelebA before its alignment has the same names and lists, and is another data set.
        images = [path for path in tree.files.images if _IN_THE_WILD not in _folders_of(path)]
        if not images or _IN_THE_WILD in _lower(tree.names_above):
            return None
        if is_aligned_celeba(tree):
            return _by_id(images)
        # A folder of another name: CelebA's lists beside six-digit names leave no doubt.
        return _by_id(images) if is_listed_celeba(tree, self.list_folders(tree)) else None

    def list_folders(self, tree: FileTree) -> list[Path]:
        """Look around the zip, or around the folder of images itself, and above ``Img``."""
        # Lists may lie beside or above, but a folder of another name says nothing about its surroundings.
        own = (*_FOLDERS, _IN_THE_WILD, "img")
        around = []
        # The place as given first: a link to images on another disk lies beside the lists.
        for place in (tree.place.absolute(), tree.place.resolve()):
            while place.is_file() or place.name.lower() in own:
                place = place.parent
                around.append(place)
        return list(dict.fromkeys(around))

    def attributes(self, tree: FileTree, paths: Mapping[str, str]) -> dict[str, dict[str, bool]]:
        """Read the 40 attributes of ``list_attr_celeba``, where it lies beside the other lists.

        Raises:
            DataError: the list has no header, names none of the images, or a value is none of an attribute.
        """
        listed = tree.find_list(self.lists["attributes"], self.list_folders(tree))
        if listed is None:
            return {}
        found = match_names(paths, listed.rows)
        _check_attributes(listed)
        require_match(found, list(paths), listed)
        return {
            attribute: {image_id: values[column] == "1" for image_id, values in found.items()}
            for column, attribute in enumerate(listed.columns)
        }


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
        """Take the images below ``img_celeba``."""
        whole = _IN_THE_WILD in _lower(tree.names_above)
        return _by_id([p for p in tree.files.images if whole or _IN_THE_WILD in _folders_of(p)]) or None


def is_aligned_celeba(tree: FileTree) -> bool:
    """Return whether a place, a folder above it or one in it bears the name of CelebA's aligned images."""
    above = _lower((*tree.names_above, *tree.folder_names))
    return any(
        name in above or any(name in _folders_of(path) for path in tree.files.images) for name in _FOLDERS
    )


def is_listed_celeba(tree: FileTree, beside: Sequence[Path] = ()) -> bool:
    """Return whether a list of CelebA's, here or in ``beside``, names images that are called by six digits."""
    images = [path for path in tree.files.images if _IN_THE_WILD not in _folders_of(path)]
    ids = _by_id([p for p in images if _SIX_DIGITS.fullmatch(PurePosixPath(p).stem)])
    listed = [tree.find_list(CelebA.lists[what], beside) for what in ("split", "identities")]
    return any(x is not None and bool(match_names(ids, x.rows)) for x in listed)


def _folders_of(path: str) -> tuple[str, ...]:
    return PurePosixPath(path.lower()).parts[:-1]


def _lower(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name.lower() for name in names)


def _check_attributes(listed: NameList) -> None:
    """Refuse a list whose values would be taken for something else.

    Raises:
        DataError: with the line.
    """
    if listed.rows and not listed.columns:
        raise DataError(f"{listed.place}: no line of column names, so its attributes are not known")
    if twice := [name for name, count in Counter(listed.columns).items() if count > 1]:
        raise DataError(f"{listed.place}: two columns are called {escape_name(twice[0])}")
    for name, values in listed.rows.items():
        if wrong := next((value for value in values if value not in _ATTRIBUTE_VALUES), None):
            raise DataError(
                f"{listed.place}:{listed.line_numbers[name]}: an attribute is 1, or -1 or 0; found "
                f"{escape_name(wrong[:60])!r}"
            )


def _by_id(paths: list[str]) -> dict[str, str]:
    """Map ids to paths: ``000001.jpg`` whatever the folder and the format of the copy.

    Of several files with one name, a JPEG is taken, and the one in the folder with the most of them: a few samples, or
    a program's outputs, may lie beside the whole data set.
    """
    in_folder = Counter(PurePosixPath(path).parent for path in paths)
    found: dict[str, str] = {}

    def rank(path: str) -> tuple[bool, int, str]:
        # The name last, so that every machine takes the same file.
        name = PurePosixPath(path)
        return name.suffix.lower() != ".jpg", -in_folder[name.parent], path

    for path in sorted(paths, key=rank):
        name = PurePosixPath(path)
        image_id = f"{name.stem}.jpg" if _SIX_DIGITS.fullmatch(name.stem) else name.name
        found.setdefault(image_id, path)
    return found
