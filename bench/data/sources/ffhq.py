"""FFHQ: 70,000 aligned faces at 1024 pixels."""

from __future__ import annotations

import re
from collections.abc import Mapping

from bench.data.sources.base import DataSource, hold_out_validation
from bench.data.sources.file_tree import FileTree
from masks.file_names import folder_of, stem_of

#: Folders of aligned images, the largest first.
_FOLDERS = (r"images1024x1024", r"ffhq[-_]?1024\w*", r"ffhq[-_]?\w*", r"thumbnails128x128")
_NUMBER = re.compile(r"\d{5}")
_NUM_TRAINING = 60_000


class FFHQ(DataSource):
    """Flickr-Faces-HQ, known by ``images1024x1024/`` or a folder named ``ffhq...``."""

    name = "ffhq"
    title = "FFHQ"
    license = (
        "FFHQ (Karras et al., CVPR 2019): CC BY-NC-SA 4.0 by NVIDIA; each photo under its own license, given in "
        "ffhq-dataset-v2.json"
    )
    homepage = "https://github.com/NVlabs/ffhq-dataset"
    layout = (
        "`images1024x1024/` (with or without sub-folders of a thousand), `thumbnails128x128/`, or `ffhq*/`"
    )
    published_split = (
        "images 0-59,999 train, 60,000-69,999 test; 2 % of the training images are held out to validate"
    )
    order = 5
    aligned_faces = True

    def select(self, tree: FileTree) -> dict[str, str] | None:
        """Take images numbered with five digits below a folder of FFHQ's."""
        for wanted in _FOLDERS:
            pattern = re.compile(wanted, re.IGNORECASE)
            # The user may have named the folder itself; the names above it count too.
            whole = any(map(pattern.fullmatch, tree.names_above))
            folders = {f for f in tree.image_folders if whole or any(map(pattern.fullmatch, f.split("/")))}
            images = tree.files.images if folders else ()
            inside = [p for p in images if folder_of(p) in folders and _NUMBER.fullmatch(stem_of(p))]
            if inside:
                # Reversed, so that of two files with one number the first in order is kept.
                return {f"{stem_of(path)}.png": path for path in reversed(inside)}
        return None

    def partition(self, tree: FileTree, paths: Mapping[str, str]) -> dict[str, int]:
        """Divide by number, as ``ffhq-dataset-v2.json`` does."""
        published = {i: 0 if int(i[:5]) < _NUM_TRAINING else 2 for i in paths}
        # A copy that holds training images only has no published split to follow.
        return hold_out_validation(published, self.name) if 2 in published.values() else {}
