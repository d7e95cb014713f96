"""Places2 (Places365-Standard): 1.8 million training and 36,500 validation images of scenes."""

from __future__ import annotations

from collections.abc import Mapping

from bench.data.sources.base import DataSource, hold_out_validation
from bench.data.sources.file_tree import FileTree
from masks.file_names import folder_of, name_of

_TRAINING = ("data_large", "data_256", "data_large_standard", "data_256_standard", "train")
_NAME = "Places365_val_"


class Places2(DataSource):
    """Places365-Standard, known by the names of its validation images."""

    name = "places2"
    title = "Places2 (Places365-Standard)"
    license = (
        "Places2 (Zhou et al., TPAMI 2018): the images keep their owners' copyright, for non-commercial research and "
        "education only; do not pass on a page with these pictures"
    )
    homepage = "https://places2.csail.mit.edu"
    layout = (
        "`data_large/` or `data_256/` beside `val_large/` or `val_256/` with `Places365_val_00000001.jpg`"
    )
    published_split = (
        "training images train, validation images test, as everybody does; 2 % of the training images are held out "
        "to validate"
    )
    order = 5

    def select(self, tree: FileTree) -> dict[str, str] | None:
        """Take training and validation images; the published test images are left out, as in the papers."""
        images = tree.files.images
        validation = [p for p in images if name_of(p).startswith(_NAME)]
        if not validation:
            return None
        folders = {f for f in tree.image_folders if not set(_TRAINING).isdisjoint(f.split("/"))}
        training = [p for p in images if folder_of(p) in folders]
        # The validation images are found by their names, since their folder is called otherwise in every
        # copy.
        found = {name_of(p): p for p in reversed(validation)}
        for path in training:
            parts = path.split("/")
            # Ids begin below the folder of the training images, so they are the same in every layout.
            start = next(k for k, part in enumerate(parts) if part in _TRAINING)
            found.setdefault("/".join(parts[start + 1 :]), path)
        return found

    def partition(self, tree: FileTree, paths: Mapping[str, str]) -> dict[str, int]:
        """Divide by the names of the validation images."""
        published = {i: 2 if i.startswith(_NAME) else 0 for i in paths}
        return hold_out_validation(published, self.name) if 0 in published.values() else {}
