"""Lists that are seen with the images of a data source and not used, in sentences.

A list of the split that nobody reads would divide the images otherwise than published. So what is called like a list is
looked for in a wider circle than it is read from: under names that browsers and spreadsheets give it, packed, linked to
nowhere or left in iCloud; among the images, beside and above them, and in folders for lists there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath

from bench.data.name_lists import NameList
from bench.data.sources.base import COLUMN_NAMES, DataSource
from bench.data.sources.file_tree import (
    LIST_FOLDERS,
    FileTree,
    find_contradiction,
    is_called,
    is_called_alike,
    is_folder,
    open_tree,
    read_list,
    why_no_file,
)
from bench.data.sources.zip_files import is_packed, zips_in
from bench.errors import DataError
from masks.file_names import escape_name, real_path
from masks.image_files import EVICTED, FoundFiles, is_evicted, is_hidden

#: Tables that are no text, in lower case.
_OTHER_TABLES = frozenset(
    {
        *(
            ".xlsx",
            ".xls",
            ".xlsm",
            ".ods",
            ".numbers",
            ".parquet",
            ".feather",
            ".pkl",
            ".pickle",
            ".npy",
            ".npz",
        ),
        *(
            ".mat",
            ".json",
            ".jsonl",
            ".xml",
            ".html",
            ".pdf",
            ".docx",
            ".doc",
            ".rtf",
            ".db",
            ".sqlite",
            ".h5",
        ),
        ".hdf5",
    }
)
#: What people call folders of lists, with the number of a second copy.
_FOLDER_OF_LISTS = re.compile(
    r"(celeba?[-_ ]?(hq)?[-_ ]?)?(eval\w*|anno\w*|lists?|labels?|meta(data)?|partitions?|splits?|identit(y|ies)|attr\w*"
    r"|te?xts?|csvs?)([-_ ]?(files?|lists?|celeba?|copy))*[-_ ]*(\(?\d+\)?)?",
    re.IGNORECASE,
)


def lists_not_used(
    kind: DataSource, tree: FileTree, paths: Mapping[str, str], given: Mapping[str, bool]
) -> list[str]:
    """Return a sentence for each list that is seen and not used, also for one that is read and gives nothing.

    Args:
        kind: of the images.
        tree: where they are.
        paths: image id -> path.
        given: what for -> whether a list has given it.
    """
    around = _Surroundings(kind, tree)
    sentences = []
    for what, stem in kind.lists.items():
        sentences += _lists_not_read(kind, tree, around, what, paths)
        lists = tree.empty_lists(stem, around.searched)
        if not lists and not given.get(what, True):
            lists = [escape_name(path) for path in tree.files.others if is_called(path, stem)][:1]
        sentences += [f"{path} is not used: it says nothing of these pictures" for path in lists]
    if kind.lists and _are_numbered(paths):
        sentences += _zipped_lists_around(kind, tree, around, paths)
    return sentences


class _Surroundings:
    """The folders around the images, and folders for lists in them, each listed once.

    Attributes:
        named: what the user named: the images' own place, or the folder in which their zip was found.
        searched: the folders in which the lists of these images are read.
    """

    def __init__(self, kind: DataSource, tree: FileTree) -> None:
        self.named = tree.outer or tree
        self.searched = kind.list_folders(tree)
        self._stems = tuple(kind.lists.values())
        # Of a link to the images the lists may lie beside it, or where it leads.
        linked = [FileTree(folder, FoundFiles()) for folder in self.named.linked_folders]
        self._beside_links = [
            x for there in linked for x in (*there.folders_around, *kind.list_folders(there))
        ]
        self._inside = {self.named.place.absolute(), self.named.place.resolve()}
        self._names: dict[Path, list[str] | None] = {}

    @cached_property
    def folders(self) -> list[Path]:
        """The folders around, then the folders for lists in them, without what lies in the place itself."""
        around = dict.fromkeys((*self.searched, *self.named.folders_around, *self._beside_links))
        # A list that Windows or a browser unpacked lies in a folder of its name, often in a second one.
        inner = [sub for folder in around for sub in self._folders_of_lists(folder)]
        deeper = [sub for folder in inner for sub in self._folders_of_lists(folder)]
        return list(dict.fromkeys((*around, *inner, *deeper)))

    def lists(self, stem: str) -> list[Path]:
        """Return what is called like a list of that stem, whatever it is, outside the place."""
        # Two folders above only what lies there itself: the folders beside it are other data.
        above = {folder.parent for folder in self.named.folders_around} - set(self.folders)
        found: dict[Path, None] = {}
        for folder in (*self.folders, *sorted(above)):
            for name in self._listed(folder, (f"{stem}.txt", f"{stem}.csv")):
                path = folder / name
                if is_called_alike(name, stem) and not self._is_inside(path):
                    found[path] = None
        # A folder of a list's name is not one where the list lies in it.
        return [path for path in found if not any(path in other.parents for other in found)]

    def zips(self) -> list[Path]:
        """Return the zips outside the place."""
        return [path for folder in self.folders for path in zips_in(folder) if not self._is_inside(path)]

    def is_searched(self, file: Path, stem: str) -> bool:
        """Return whether a list is read where a file lies."""
        folder = file.parent
        if folder in self.searched:
            return True
        return folder.parent in self.searched and (
            folder.name.lower() in LIST_FOLDERS or is_called(folder.name, stem)
        )

    def _folders_of_lists(self, folder: Path) -> Iterator[Path]:
        own = {path.stem.lower() for path in self._inside if self.named.place.is_file()}
        for name in self._listed(folder, ("Eval", "Anno")):
            # A zip may have been unpacked in part, beside it.
            meant = _FOLDER_OF_LISTS.fullmatch(name) or name.lower() in own
            if meant or any(is_called_alike(name, stem) for stem in self._stems):
                path = folder / name
                if is_folder(path) and not self._is_inside(path):
                    yield path

    def _is_inside(self, path: Path) -> bool:
        return any(place == path or place in path.parents for place in self._inside)

    def _listed(self, folder: Path, usual: Iterable[str]) -> list[str]:
        if folder not in self._names:
            try:
                names = sorted(path.name for path in folder.iterdir())
                self._names[folder] = [name for name in names if not is_hidden(name) or is_evicted(name)]
            except OSError:  # it may be entered and not listed: the usual spelling is all that can be asked
                self._names[folder] = None
        listed = self._names[folder]
        return list(usual) if listed is None else listed


def _lists_not_read(
    kind: DataSource, tree: FileTree, around: _Surroundings, what: str, paths: Mapping[str, str]
) -> list[str]:
    """Return sentences about the lists of one kind that are not read, of those that say the same the first."""
    stem = kind.lists[what]
    read = tree.list_places(stem, around.searched)
    here = tree.find_list(stem, around.searched, COLUMN_NAMES.get(what, ())) if read else None
    files = {real_path(place / path) for place, path in read}
    sentences: list[str] = []
    if not read:
        # Among the images, or in the folder in which their zip was found.
        others = [*tree.files.others, *(tree.outer.files.others if tree.outer else ())]
        sentences += [_way_to_use(path, stem) for path in others if is_called_alike(path, stem)][:1]
    told = bool(sentences)
    for file in around.lists(stem):
        if real_path(file) in files:
            continue
        if around.is_searched(file, stem):
            # A second copy is no news; what cannot be read under the list's own name has been told with the images.
            sentence = "" if read or told else _why_not_read(file, stem)
        else:
            sentence = _not_read_outside(kind, what, file, here, paths)
        told = told or bool(sentence)
        if sentence and not (sentences and here is None):
            sentences.append(sentence)
    return sentences


def _why_not_read(file: Path, stem: str) -> str:
    """Return a sentence about what is called like a list and lies where lists are read."""
    if why := _why_out_of_reach(file):
        return f"{escape_name(str(file))} is not read: {why}"
    return _way_to_use(str(file), stem)


def _not_read_outside(
    kind: DataSource, what: str, file: Path, here: NameList | None, paths: Mapping[str, str]
) -> str:
    """Return a sentence about what is called like a list and lies where none is read; empty if it is of no interest.

    Whose list it is nobody can say before it is read: what cannot be is named where no list is, and where the images
    are called by numbers, as those that come with such lists are.
    """
    stem, shown = kind.lists[what], escape_name(str(file))
    why = _why_out_of_reach(file)
    is_other = is_packed(file.name) or file.suffix.lower() in _OTHER_TABLES
    name = "" if is_called(file.name, stem) else f", and call the list {stem}.txt or .csv"
    way = "give the folder around both as --data"
    if not why and not is_other:
        try:
            listed = read_list(file.parent, file.name)
            if not kind.concerns(what, listed, paths):
                return ""
            if here is None:
                return f"{shown} lies beside this folder and is not read; {way}{name}"
            says = find_contradiction(here, listed, COLUMN_NAMES.get(what, ()), paths)
            return f"beside this folder, {says}; only the list with the pictures is read" if says else ""
        except DataError as error:
            why = str(error)
    if here is not None or not _are_numbered(paths):
        return ""
    if why:
        return f"{shown} lies beside this folder and is not read: {why}"
    save = f"{_way_to_list(file.name)} it, as {stem}.txt or .csv"
    return f"{shown} lies beside this folder and is not read; {save}, and {way}"


def _why_out_of_reach(file: Path) -> str:
    """Return why what is called like a list cannot be read as a file; empty if it can."""
    return EVICTED if is_evicted(file.name) else why_no_file(file)


def _zipped_lists_around(
    kind: DataSource, tree: FileTree, around: _Surroundings, paths: Iterable[str]
) -> list[str]:
    """Return a sentence for each zip of lists alone that lies outside the place, but for those told of elsewhere.

    Those are called like a list, or lie beside the images of a folder, where lists are read.
    """
    sentences = []
    for place in around.zips():
        packed_list = any(is_called_alike(place.name, stem) for stem in kind.lists.values())
        if packed_list or (tree.place.is_dir() and place.parent in around.searched):
            continue
        try:
            packed = open_tree(place)
        except DataError:  # whatever it is, nobody knows of a list in it
            continue
        if packed.files.images:
            continue
        shown = escape_name(str(place))
        for what, stem in kind.lists.items():
            called = COLUMN_NAMES.get(what, ())
            if not packed.holds_list(stem):
                continue
            name = next(escape_name(path) for path in packed.files.others if is_called(path, stem))
            try:
                here = tree.find_list(stem, around.searched, called)
                if here is None:
                    way = "unpack it, and give the folder around both as --data"
                    sentences.append(f"{name} in {shown} lies beside this folder and is not read; {way}")
                    break
                if (listed := packed.find_list(stem, (), called)) is not None:
                    says = find_contradiction(here, listed, called, paths)
                    sentences += [f"{shown} is not used: {says}"] if says else []
            except DataError as error:
                sentences.append(f"{shown} is not used: {error}")
    return sentences


def is_list_of(kind: DataSource, path: str) -> bool:
    """Return whether a file has the name of a list of a data source."""
    return any(is_called(path, stem) for stem in kind.lists.values())


def has_list(tree: FileTree, path: str) -> bool:
    """Return whether a folder has a list that is called like the one at ``path`` in a zip."""
    stem = PurePosixPath(path.lower()).stem
    return any(PurePosixPath(other.lower()).stem == stem for other in tree.files.others)


def _are_numbered(image_ids: Iterable[str]) -> bool:
    """Return whether most images are called by numbers, as those are that come with lists."""
    numbered = [PurePosixPath(image_id).stem.isdigit() for image_id in image_ids]
    return 2 * sum(numbered) >= len(numbered)


def _way_to_use(path: str, stem: str) -> str:
    return f"{escape_name(path)} is not read: to use it, {_way_to_list(path)} it, as {stem}.txt or .csv"


def _way_to_list(path: str) -> str:
    """Return what makes a list of a file that is called like one."""
    if is_packed(path):
        return "unpack"
    # Renaming a workbook would make a list that is not readable.
    return "save" if PurePosixPath(path).suffix.lower() in _OTHER_TABLES else "rename"
