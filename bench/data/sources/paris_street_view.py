"""Paris StreetView: 14,900 training and 100 test images of facades."""

from __future__ import annotations

from collections.abc import Mapping

from bench.data.sources.base import DataSource, hold_out_validation
from bench.data.sources.file_tree import FileTree
from masks.file_names import name_of

_TRAINING, _TEST = "paris_train_original", ("paris_eval", "paris_eval_gt")


class ParisStreetView(DataSource):
    """Paris StreetView as the authors of Context Encoders pass it on, known by its folders."""

    name = "paris-street-view"
    title = "Paris StreetView"
    license = (
        "Paris StreetView (Doersch et al., SIGGRAPH 2012; Pathak et al., CVPR 2016): from the authors on request, for "
        "research only; do not pass on a page with these pictures"
    )
    homepage = "https://github.com/pathak22/context-encoder"
    layout = "`paris_train_original/` beside `paris_eval/paris_eval_gt/`"
    published_split = "14,900 train, 100 test; 2 % of the training images are held out to validate"
    order = 5

    def select(self, tree: FileTree) -> dict[str, str] | None:
        """Take the images of both folders; the corrupted copies of the test images are left out."""
        found: dict[str, str] = {}
        for folder, paths in tree.image_folders.items():
            above = folder.split("/")
            if _TRAINING in above or _TEST[1] in above:
                # The two folders use the same file names, so the part is in the id.
                part = "train" if _TRAINING in above else "test"
                found |= {f"{part}/{name_of(path)}": path for path in paths}
        # The evaluation folder alone is a folder of images like any other.
        return found if any(i.startswith("train/") for i in found) else None

    def partition(self, tree: FileTree, paths: Mapping[str, str]) -> dict[str, int]:
        """Divide by folder."""
        published = {i: 2 if i.startswith("test/") else 0 for i in paths}
        return hold_out_validation(published, self.name) if 2 in published.values() else {}
