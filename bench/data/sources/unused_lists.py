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

from bench.data.name_lists import NameList, match_names
from bench.data.sources.base import COLUMN_NAMES, DataSource
from bench.data.sources.file_tree import (
    LIST_FOLDERS,
    FileTree,
    find_contradiction,
    is_called,
    is_called_alike,
    is_file,
    is_folder,
    open_tree,
    read_list,
    why_no_file,
)
from bench.data.sources.find_zips import find_zips
from bench.data.sources.zip_files import is_other_archive, is_packed
from bench.errors import DataError
from masks.file_names import escape_name, first_names, folder_of, name_of, real_path, stem_of
from masks.image_files import EVICTED, FoundFiles, is_evicted, is_hidden, is_image

#: Tables that are no text, in lower case.
_OTHER_TABLES = (
    ".xlsx", ".xls", ".xlsm", ".ods", ".numbers", ".parquet", ".feather", ".pkl", ".pickle", ".npy", ".npz", ".mat",
    ".json", ".jsonl", ".xml", ".html", ".pdf", ".docx", ".doc", ".rtf", ".db", ".sqlite", ".h5", ".hdf5",
)  # fmt: skip
#: What no list is, though its name may hold that of one, in lower case.
_NO_TABLES = (
    ".py", ".pyc", ".ipynb", ".r", ".m", ".jl", ".js", ".c", ".cpp", ".sh", ".bat", ".ps1", ".log", ".lock", ".md",
    ".rst", ".tex", ".bib", ".yaml", ".yml", ".toml", ".ini", ".cfg",
)  # fmt: skip
#: What people call folders of lists, with what Windows, browsers and Google Drive write behind it.
_FOLDER_OF_LISTS = re.compile(
    r"(celeba?[-_ ]?(hq)?[-_ ]?)?(eval\w*|anno\w*|lists?|labels?|meta(data)?|partitions?|splits?|identit(y|ies)|attr\w*"
    r"|te?xts?|csvs?)([-_ ]+(files?|lists?|celeba?|copy))*[-_ ]*(\(?[\d\-tz]+\)?)?|drive-download-.*",
    re.IGNORECASE,
)
_GIVE_BOTH = "give the folder around both as --data"
#: How many lists, or zips in one folder, are looked into and named: there may be thousands.
_MOST_NAMED, _MOST_ZIPS = 3, 100


def lists_not_used(
    kind: DataSource, tree: FileTree, paths: Mapping[str, str], given: Mapping[str, bool]
) -> list[str]:
    """Return sentences about the lists that are seen and not used, also about those that are read and give nothing.

    Args:
        kind: of the images.
        tree: where they are.
        paths: image id -> path.
        given: what for -> whether a list has given it.
    """
    if not kind.lists:
        return []
    around = _Surroundings(kind, tree)
    numbered = _are_numbered(paths)
    zips = list(_zips_of_lists(kind, tree, around, numbered))
    sentences = []
    lists_of_zips: dict[Path, list[str]] = {}
    for what, stem in kind.lists.items():
        wanted = _Wanted(kind, tree, around, what, paths, numbered)
        sentences += wanted.sentences(zips)
        for place, path in wanted.unread_in_zips:
            lists_of_zips.setdefault(place, []).append(path)
        lists = tree.empty_lists(stem, around.searched)
        if not lists and not given.get(what, True):
            lists = [tree.shown(*place) for place in tree.list_places(stem, around.searched)][:1]
        if given.get(what):
            lists += _of_other_pictures(kind, tree, what, paths, around)
        sentences += [f"{path} is not used: it says nothing of these pictures" for path in lists]
    for place, names in list(lists_of_zips.items())[:_MOST_NAMED]:
        sentences.append(
            f"{around.shown(place)} holds {first_names(names)}; it {around.way_to_unpack(place)}"
        )
    # A folder of lists, or what one is packed in, that is not looked into.
    if numbered and not all(given.get(what, True) for what in kind.lists):
        sentences += around.out_of_reach[:_MOST_NAMED]
    return sentences


def _of_other_pictures(
    kind: DataSource, tree: FileTree, what: str, paths: Mapping[str, str], around: _Surroundings
) -> list[str]:
    """Return the lists beside the one that is used that are read as well and name none of the pictures."""
    lists = tree.read_lists(kind.lists[what], around.searched)
    if len(lists) < 2:
        return []
    return [listed.place for listed in lists if listed.rows and not kind.concerns(what, listed, paths)]


class _Wanted:
    """One of the lists that are published with images: the one that is read, and what is seen of it besides."""

    def __init__(
        self,
        kind: DataSource,
        tree: FileTree,
        around: _Surroundings,
        what: str,
        paths: Mapping[str, str],
        numbered: bool,
    ) -> None:
        self.stem = kind.lists[what]
        self._kind, self._tree, self._around, self._what = kind, tree, around, what
        self._paths, self._numbered = paths, numbered
        self._called = COLUMN_NAMES.get(what, ())
        self._read = {real_path(place / path) for place, path in tree.list_places(self.stem, around.searched)}
        self.here = read_of(kind, tree, what)
        #: Lists of these images in zips around them, where none is read.
        self.unread_in_zips: list[tuple[Path, str]] = []
        self._broken_zips: list[str] = []
        self._better: list[str] = []
        self._unread: list[str] = []
        self._unreadable: list[str] = []

    def sentences(self, zips: Iterable[FileTree]) -> list[str]:
        """Return what is to be said: what contradicts the list that is read or says more, else what could be."""
        for tree, path in self._others_inside():
            self._judge(tree.place, path, escape_name(path), outside=False)
        for file in self._around.lists(self.stem):
            # The whole path of what lies elsewhere.
            outside = not self._around.is_searched(file, self.stem)
            self._judge(file.parent, file.name, escape_name(str(file)), outside=outside)
        for packed in zips:
            self._judge_zip(packed)
        told = [*self._better, *self._broken_zips]
        if self.here is None:
            # A broken one is no news where a whole one lies beside it.
            told = [*(self._unread or self._unreadable[:1]), *self._broken_zips]
        more = len(told) - _MOST_NAMED
        return [*told[:_MOST_NAMED], *([f"{more:,} more of {self.stem} like these"] if more > 0 else [])]

    def _others_inside(self) -> Iterator[tuple[FileTree, str]]:
        """Return what is called like the list, among the images or in the folder in which their zip was found."""
        for tree in (self._tree, *([self._tree.outer] if self._tree.outer else [])):
            for path in tree.files.others:
                # Programs that write tables in parts make a folder of a list.
                if _may_be_list(path, self.stem) or is_called(folder_of(path), self.stem):
                    yield tree, path

    def _judge(self, place: Path, path: str, shown: str, *, outside: bool) -> None:
        """Keep what is to be said of one file that is called like the list."""
        file = place / path
        if real_path(file) in self._read:
            return
        self._read.add(real_path(file))
        is_other = is_packed(path) or PurePosixPath(path).suffix.lower() in _OTHER_TABLES
        way = f"{_way_to_list(path)} it, as {self.stem}.txt or .csv"
        use = f"{shown} is not read: to use it, {way}"
        if outside:
            name = "" if is_called(path, self.stem) else f", and call the list {self.stem}.txt or .csv"
            use = f"{shown} lies beside this folder and is not read; " + (
                f"{way}, and {_GIVE_BOTH}" if is_other else f"{_GIVE_BOTH}{name}"
            )
        why = "" if place.is_file() else _why_out_of_reach(file)
        broken = f"{shown} {'lies beside this folder and ' if outside else ''}is not read: "
        # Whose it is nobody can say of what is not read: those with such lists are called by numbers.
        is_named = self._numbered or not outside
        if why:
            self._unreadable += [broken + why] if is_named else []
            return
        try:
            listed = self._listed_in_zip(file) if is_other else read_list(place, path)
        except DataError as error:
            self._unreadable += [use if is_other else f"{broken}{error}"] if is_named else []
            return
        if listed is None:
            self._unreadable += [use] if is_named else []
        elif listed.rows and self._concerns(listed):
            self._unread.append(use)
            self._compare(listed, use, "beside this folder, " if outside else "")
        elif not listed.rows:
            self._unreadable += [f"{broken}it says nothing"] if is_named else []
        elif not outside:
            # Of other names: renamed, it would be refused with what is wrong.
            self._unreadable.append(use)
        elif is_named:
            self._unreadable.append(f"{broken}it names none of these pictures")

    def _judge_zip(self, packed: FileTree) -> None:
        """Keep what is to be said of a zip that holds a list of these images."""
        # Those of the very name first: another is not read even where the zip is given.
        lists = sorted(_lists_alike(packed, self.stem), key=lambda path: not is_called(path, self.stem))
        if not lists:
            return
        place = packed.place
        is_read = is_called(lists[0], self.stem)
        # Of lists alone nobody can say whose they are but by where they lie; they are not read where none is.
        if self.here is None and not (packed.files.images and is_read):
            self.unread_in_zips.append((place, lists[0]))
            return
        try:
            listed = packed.find_list(self.stem, (), self._called)
        except DataError as error:
            self._broken_zips.append(f"{self._around.shown(place)} is not used: {error}")
            return
        if listed and listed.rows and self._concerns(listed):
            if self.here is None:
                self.unread_in_zips.append((place, lists[0]))
            way = self._around.way_to_unpack(place)
            use = f"{listed.place} {way}"
            self._compare(listed, use, f"{self._around.shown(place)} is not used: ", in_zip=True)

    def _listed_in_zip(self, file: Path) -> NameList | None:
        """Return the list in a zip that is called like it; ``None`` for archives of another kind, and without one."""
        if not file.is_file() or file.suffix.lower() != ".zip":
            return None
        return open_tree(file).find_list(self.stem, (), self._called)

    def _concerns(self, listed: NameList) -> bool:
        try:
            return self._kind.concerns(self._what, listed, self._paths)
        except DataError:
            return False

    def _compare(self, listed: NameList, use: str, before: str, *, in_zip: bool = False) -> None:
        """Keep what a list that is not read says otherwise than the one that is, or says more."""
        if self.here is None:
            return
        try:
            both = (listed, self.here) if in_zip else (self.here, listed)
            says = find_contradiction(*both, self._called, self._paths)
        except DataError:  # without the column that is meant it is another table
            return
        if says:
            self._better.append(f"{before}{says}; only the list with the pictures is read")
            return
        more, here = (len(match_names(self._paths, x.rows)) for x in (listed, self.here))
        if more > here:
            self._better.append(f"{use}; it names {more:,} of the pictures, {self.here.place} {here:,}")


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
        self._out_of_reach: list[str] = []

    @cached_property
    def folders(self) -> list[Path]:
        """The folders around, then the folders for lists in them, without what lies in the place itself."""
        around = dict.fromkeys((*self.searched, *self.named.folders_around, *self._beside_links))
        # A list that Windows or a browser unpacked lies in a folder of its name, often in a second one.
        inner = [sub for folder in around for sub in self._folders_of_lists(folder)]
        deeper = [sub for folder in inner for sub in self._folders_of_lists(folder)]
        # Two folders above, as the official Eval lies from a folder of images in Img.
        first = (*self.named.folders_around, *self._beside_links)
        above = dict.fromkeys(folder.parent for folder in first if folder.parent != folder)
        inner_above = [sub for folder in above for sub in self._folders_of_lists(folder)]
        return list(dict.fromkeys((*around, *inner, *deeper, *above, *inner_above)))

    @property
    def out_of_reach(self) -> list[str]:
        """Sentences about folders of lists that are not there, and about what they are packed in."""
        _ = self.folders
        return list(dict.fromkeys(self._out_of_reach))

    def lists(self, stem: str) -> list[Path]:
        """Return what is called like a list of that stem, whatever it is, outside the place."""
        found: dict[Path, None] = {}
        for folder in self.folders:
            for name in self._listed(folder, (f"{stem}.txt", f"{stem}.csv")):
                path = folder / name
                if _may_be_list(name, stem) and not self.is_inside(path):
                    found[path] = None
        # A folder is a list only where Windows would have unpacked one to it, and it does not lie there.
        return [
            path
            for path in found
            if not is_folder(path)
            or (is_called(path.name, stem) and not any(path in other.parents for other in found))
        ]

    def zips(self) -> list[Path]:
        """Return the zips outside the place, of each folder the likely ones first."""
        found = []
        for folder in self.folders:
            names = [name for name in self._listed(folder, ()) if name.lower().endswith(".zip")]
            names.sort(key=lambda name: not _FOLDER_OF_LISTS.fullmatch(stem_of(name)))
            found += [folder / name for name in names[:_MOST_ZIPS] if not self.is_inside(folder / name)]
        return [path for path in found if is_file(path)]

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
                if is_folder(path) and not self.is_inside(path):
                    yield path
                elif name.lower() in LIST_FOLDERS and _is_broken_link(path):
                    self._out_of_reach.append(
                        f"{escape_name(str(path))} lies beside this folder and is not read: a broken link"
                    )
            elif is_other_archive(name) and _FOLDER_OF_LISTS.fullmatch(name.partition(".")[0]):
                shown = escape_name(str(folder / name))
                self._out_of_reach.append(
                    f"{shown} lies beside this folder and is not read; unpack it, and {_GIVE_BOTH}"
                )

    def shown(self, place: Path) -> str:
        """Return how a zip is named: below the place by its path there, elsewhere by the whole one."""
        if not self.is_inside(place):
            return escape_name(str(place))
        return escape_name(place.absolute().relative_to(self.named.place.absolute()).as_posix())

    def way_to_unpack(self, place: Path) -> str:
        """Return what to say of a list in a zip that is not read, and what would make it one that is."""
        if self.is_inside(place) or (self.named.place.is_dir() and place.parent in self.searched):
            return "is not read: to use it, unpack it beside the pictures"
        return f"lies beside this folder and is not read; unpack it, and {_GIVE_BOTH}"

    def is_inside(self, path: Path) -> bool:
        """Return whether a path lies in the place that the user named."""
        path = path.absolute()
        return any(place == path or place in path.parents for place in self._inside)

    def _listed(self, folder: Path, usual: Iterable[str]) -> list[str]:
        if folder not in self._names:
            try:
                names = sorted(path.name for path in folder.iterdir())
                self._names[folder] = [name for name in names if not is_hidden(name) or is_evicted(name)]
            except OSError:
                self._names[folder] = None
        listed = self._names[folder]
        # It may be entered and not listed: whether there is what is usual is all that can be asked.
        return [name for name in usual if _may_be_there(folder / name)] if listed is None else listed


def _may_be_there(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # in a folder that may not even be entered nobody can say what there is
        return True
    return True


def _is_broken_link(path: Path) -> bool:
    try:
        return path.is_symlink() and not path.exists()
    except OSError:  # in a folder that may not be entered
        return False


def _may_be_list(path: str, stem: str) -> bool:
    """Return whether a file is called like a list, and not as a program or picture of it is."""
    name = name_of(path)
    return (
        is_called_alike(name, stem)
        and PurePosixPath(name).suffix.lower() not in _NO_TABLES
        and not is_image(name)
    )


def _lists_alike(packed: FileTree, stem: str) -> list[str]:
    """Return the files of a zip that are called like a list."""
    return [path for path in packed.files.others if _may_be_list(path, stem)]


def _why_out_of_reach(file: Path) -> str:
    """Return why what is called like a list cannot be read as a file; empty if it can."""
    return EVICTED if is_evicted(file.name) else why_no_file(file)


def _zips_of_lists(
    kind: DataSource, tree: FileTree, around: _Surroundings, numbered: bool
) -> Iterator[FileTree]:
    """Open the zips that hold lists, in the place that the user named and around it; not those called like a list."""
    inside = [around.named.place / path for path in find_zips(around.named)[:_MOST_ZIPS]]
    # Images that are not called by numbers have no business with what lies around them.
    for place in (*inside, *(around.zips() if numbered else ())):
        if place == tree.place or any(is_called_alike(place.name, stem) for stem in kind.lists.values()):
            continue
        try:
            packed = open_tree(place)
        except DataError:  # whatever it is, nobody knows of a list in it
            continue
        if any(_lists_alike(packed, stem) for stem in kind.lists.values()):
            yield packed


def read_of(kind: DataSource, tree: FileTree, what: str) -> NameList | None:
    """Return the list that is read of images, for what it is; ``None`` for none, or one that says nothing."""
    try:
        listed = tree.find_list(kind.lists[what], kind.list_folders(tree), COLUMN_NAMES.get(what, ()))
    except DataError:  # one that this data source does not need, which it would have refused else
        return None
    return listed if listed and listed.rows else None


def _are_numbered(image_ids: Iterable[str]) -> bool:
    """Return whether most images are called by numbers, as those are that come with lists."""
    numbered = [_is_numbered(stem_of(image_id)) for image_id in image_ids]
    return 2 * sum(numbered) >= len(numbered)


def _is_numbered(stem: str) -> bool:
    """Return whether a name is a number, or holds one of CelebA's among what programs write before and behind it.

    >>> [_is_numbered(name) for name in ("1", "imgHQ00001", "000001_crop", "celeba_128_000001", "000001_1.2")]
    [True, True, True, True, True]
    >>> [_is_numbered(name) for name in ("IMG_20251127_194942", "DSC01234", "me")]
    [False, False, False]
    """
    if stem.isdigit() or stem.lower().startswith("imghq"):
        return True
    lengths = [len(number) for number in re.findall(r"\d+", stem)]
    return sum(length in (6, 7) for length in lengths) == 1 and max(lengths) < 8


def _way_to_list(path: str) -> str:
    """Return what makes a list of a file that is called like one."""
    if path.lower().endswith((".part", ".crdownload")):
        return "get"
    if is_packed(path):
        return "unpack"
    # Renaming a workbook would make a list that is not readable.
    return "save" if PurePosixPath(path).suffix.lower() in _OTHER_TABLES else "rename"
