"""Any folder or zip of images."""

from __future__ import annotations

from collections.abc import Mapping

from bench.data.name_lists import NameList, match_names
from bench.data.sources.base import DataSource
from bench.data.sources.celeba_hq import CelebAHQ, maps_numbers
from bench.data.sources.file_tree import FileTree
from masks.file_names import escape_name
from masks.image_files import common_folder


class Folder(DataSource):
    """Any images below a folder or in a zip, under the folder's name."""

    name = "folder"
    title = "Folder"
    license = "Your own pictures: pass the page on only if you may."
    layout = "any folder or zip, searched with its sub-folders"
    order = 100
    center_side = 160
    # The mapping is never read here: CelebA-HQ in a folder of another name is told by it from the folder above.
    lists = {  # noqa: RUF012
        "split": "list_eval_partition",
        "identities": "identity_CelebA",
        "attributes": "list_attr_celeba",
        "mapping": CelebAHQ.lists["mapping"],
    }

    def select(self, tree: FileTree) -> dict[str, str] | None:
        """Take every image; ids are paths below the first folder that holds more than one other folder."""
        # A lone folder around everything comes from unpacking, and must not be part of the ids.
        start = len(common_folder([*tree.files.images, *tree.files.others]))
        return {path[start:]: path for path in tree.files.images} or None

    def attributes(self, tree: FileTree, paths: Mapping[str, str]) -> Mapping[str, Mapping[str, bool]]:
        """Read a list of attributes that names some of these images; one of other images is not used."""
        listed = tree.find_list(self.lists["attributes"], self.list_folders(tree))
        return super().attributes(tree, paths) if listed and match_names(paths, listed.rows) else {}

    def concerns(self, what: str, listed: NameList, paths: Mapping[str, str]) -> bool:
        """Return whether a list that lies beside the images names some of them."""
        return maps_numbers(listed, paths) if what == "mapping" else super().concerns(what, listed, paths)

    def called(self, tree: FileTree) -> tuple[str, str]:
        """Name the images after the folder or zip."""
        name = escape_name(tree.folder_names[-1]) or "pictures"
        return name, f"{self.title} {name}"
