"""Any folder or zip of images."""

from __future__ import annotations

from bench.data.sources.base import DataSource
from bench.data.sources.file_tree import FileTree
from masks.image_files import common_folder, escape_name


class Folder(DataSource):
    """Any images below a folder or in a zip, under the folder's name."""

    name = "folder"
    title = "Folder"
    license = "Your own pictures: pass the page on only if you may."
    layout = "any folder or zip, searched with its sub-folders"
    order = 100
    center_side = 160
    lists = {"split": "list_eval_partition", "identities": "identity_CelebA"}  # noqa: RUF012

    def select(self, tree: FileTree) -> dict[str, str] | None:
        """Take every image; ids are paths below the first folder that holds more than one other folder."""
        # A lone folder around everything comes from unpacking, and must not be part of the ids.
        start = len(common_folder([*tree.files.images, *tree.files.others]))
        return {path[start:]: path for path in tree.files.images} or None

    def called(self, tree: FileTree) -> tuple[str, str]:
        """Name the images after the folder or zip."""
        name = escape_name(tree.folder_names[-1]) or "pictures"
        return name, f"{self.title} {name}"
