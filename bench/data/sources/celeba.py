"""CelebA, in every layout in which people have it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from bench.data.name_lists import match_names
from bench.data.sources.base import DataSource, FileTree

#: Folders of aligned images, the better one first.
_FOLDERS = ("img_align_celeba", "img_align_celeba_png")
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
    center_side = 160
    largest_side = 178
    aligned_faces = True
    face_box = (0.5, 0.65, 0.683)  # the median over 145 images of what dlib's landmarks give
    claims_dataset = True
    lists = {  # noqa: RUF012 (a ClassVar of the base class)
        "split": "list_eval_partition",
        "identities": "identity_CelebA",
        "attributes": "list_attr_celeba",
    }

    def select(self, tree: FileTree) -> dict[str, str] | None:
        """Take the images below ``img_align_celeba``, or those that CelebA's own lists name."""
        images = tree.files.images
        folders = [PurePosixPath(path).parts[:-1] for path in images]
        for wanted in _FOLDERS:
            inside = [p for p, parts in zip(images, folders, strict=True) if wanted in parts]
            if inside:
                return _by_id(inside)
        if not images:
            return None
        if any(name in _FOLDERS for name in tree.folder_names):
            return _by_id(images)
        # A folder of another name: CelebA's lists beside six-digit names leave no doubt.
        numbered = [p for p in images if _SIX_DIGITS.fullmatch(PurePosixPath(p).stem)]
        listed = [
            tree.find_list(self.lists[what], self.list_folders(tree)) for what in ("split", "identities")
        ]
        ids = _by_id(numbered)
        return _by_id(images) if any(x and match_names(ids, x.rows) for x in listed) else None

    def list_folders(self, tree: FileTree) -> list[Path]:
        """Look around the zip, or around the folder of images itself, and above ``Img``."""
        place = tree.place.resolve()
        # Lists may lie beside or above, but a folder of another name says nothing about its surroundings.
        own = (*_FOLDERS, "Img")
        if tree.place.is_dir() and place.name not in own:
            return []
        around = []
        while place.is_file() or place.name in own:
            place = place.parent
            around.append(place)
        return around

    def attributes(self, tree: FileTree, paths: Mapping[str, str]) -> dict[str, dict[str, bool]]:
        """Read the 40 attributes of ``list_attr_celeba``, where it lies beside the other lists."""
        listed = tree.find_list(self.lists["attributes"], self.list_folders(tree))
        if listed is None:
            return {}
        found = match_names(paths, listed.rows)
        return {
            attribute: {image_id: values[column] == "1" for image_id, values in found.items()}
            for column, attribute in enumerate(listed.columns)
        }


def _by_id(paths: list[str]) -> dict[str, str]:
    """Map ids to paths: ``000001.jpg`` whatever the folder and the format of the copy, JPEG first."""
    found: dict[str, str] = {}
    # Sorted, so that where both formats are there, every machine takes the same file.
    for path in sorted(paths, key=lambda p: (PurePosixPath(p).suffix.lower() != ".jpg", p)):
        name = PurePosixPath(path)
        image_id = f"{name.stem}.jpg" if _SIX_DIGITS.fullmatch(name.stem) else name.name
        found.setdefault(image_id, path)
    return found
