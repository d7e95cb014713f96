"""Find image files below a folder: one walker and one list of formats for the whole project.

Data, mask folders, ``bench inpaint`` and ``bench score`` all use it, and :mod:`masks.zip_members` for zips.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from masks.file_names import escape_name, folder_of, name_of, real_path

#: Suffix of every readable image format, and Pillow's name of the format. No format that runs another program (EPS).
FORMAT_OF_SUFFIX = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".png": "PNG",
    ".bmp": "BMP",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".gif": "GIF",
    ".ppm": "PPM",
}
IMAGE_SUFFIXES = frozenset(FORMAT_OF_SUFFIX)
#: What ``Image.open(formats=...)`` may try.
IMAGE_FORMATS = tuple(dict.fromkeys(FORMAT_OF_SUFFIX.values()))
#: Why a file or folder is left out that nobody is meant to see.
HIDDEN = "hidden"
#: Why the stand-in of a file is left out that is not on this disk.
EVICTED = "in iCloud, not on this disk"
#: Folders that operating systems and file servers make beside images: not hidden by a leading dot, and never somebody's
#: images, but thumbnails of them, deleted ones, and earlier states of the same folder.
_LITTER = frozenset(
    {
        *("__macosx", "network trash folder", "temporary items"),
        *("system volume information", "$recycle.bin", "recycler", "recycled", "lost+found"),
        *(
            "@eadir",
            "#recycle",
            "#snapshot",
            "@tmp",
            "@sharebin",
            "@recycle",
            "@recently-snapshot",
            "~snapshot",
        ),
    }
)
#: Files that operating systems keep in folders of images, in lower case: as little of the user's as a hidden file.
_SYSTEM_FILES = frozenset(
    {"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "picasa.ini", "icon\r"}
)
#: Texts and tables that lie beside pictures, and what file managers keep there: nobody takes these for pictures.
_DOCUMENTS = frozenset(
    {
        *(".txt", ".csv", ".tsv", ".md", ".rst", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml"),
        *(".html", ".pdf", ".log", ".py", ".ipynb", ".db", ".ini"),
    }
)


@dataclass(frozen=True)
class LeftOut:
    """A file or folder that is not used, and why."""

    path: str
    reason: str


@dataclass
class FoundFiles:
    """Files of a folder or zip, as POSIX paths below it.

    Attributes:
        images: in the order of their names.
        others: files with other suffixes, in the order of their names.
        left_out: hidden parts, links in a circle, broken links and unreadable folders.
        unsafe: images in a zip whose path would leave its folder; other files of that kind are left out.
        members: path -> name of the member, in a zip only.
    """

    images: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    unsafe: list[str] = field(default_factory=list)
    members: dict[str, str] = field(default_factory=dict)

    def left_out_sentence(self) -> str:
        """Return one sentence that names the first files left out, hidden ones last; empty if there are none."""
        if not self.left_out:
            return ""
        named = ", ".join(f"{escape_name(x.path)} ({x.reason})" for x in self.unreadable_first()[:3])
        more = f" and {len(self.left_out) - 3:,} more" if len(self.left_out) > 3 else ""
        return f"left out: {named}{more}"

    def unreadable_first(self) -> list[LeftOut]:
        """Return what was left out, what is hidden on purpose last: a Mac leaves a hidden file beside each picture."""
        return sorted(self.left_out, key=lambda x: x.reason == HIDDEN)

    def unused_sentences(self) -> list[str]:
        """Return what a reader of all images leaves aside, in up to two sentences: parts left out, other formats."""
        sentences = [sentence] if (sentence := self.left_out_sentence()) else []
        if self.others:
            named = ", ".join(escape_name(name) for name in self.others[:3])
            more = f" and {len(self.others) - 3:,} more" if len(self.others) > 3 else ""
            formats = ", ".join(dict.fromkeys(FORMAT_OF_SUFFIX.values()))
            sentences.append(f"not read, since they are none of {formats}: {named}{more}")
        return sentences


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of that name is hidden, or litter of an operating system.

    >>> [is_hidden(n) for n in (".thumbnails", "._001.png", "@eaDir", "__MACOSX", "Thumbs.db", "001.png")]
    [True, True, True, True, True, False]
    """
    return name.startswith(".") or name.lower() in _LITTER or name.lower() in _SYSTEM_FILES


def is_evicted(name: str) -> bool:
    """Return whether a file of that name stands for one that a Mac keeps in iCloud alone.

    >>> is_evicted(".001.png.icloud"), is_evicted("001.png")
    (True, False)
    """
    return name.startswith(".") and name.lower().endswith(".icloud")


def is_image(name: str) -> bool:
    """Return whether the suffix is that of a readable image format, also of a hidden file that is nothing else.

    >>> [is_image(n) for n in ("a/b.JPG", "b.tiff", "list.txt", "png", "a/.jpg")]
    [True, True, False, False, True]
    """
    # Not by pathlib: this is asked of every file of a data set.
    dot, suffix = name_of(name).rpartition(".")[1:]
    return dot + suffix.lower() in IMAGE_SUFFIXES


def is_document(name: str) -> bool:
    """Return whether the suffix is that of a text or table, which is not missed among pictures.

    >>> [is_document(n) for n in ("a/list.TXT", "Thumbs.db", "b.heic", "c.npy", "d")]
    [True, True, False, False, False]
    """
    return PurePosixPath(name).suffix.lower() in _DOCUMENTS


def find_files(root: Path) -> FoundFiles:
    """Walk a folder. Links are followed, each real folder is visited once, and hidden parts are left out.

    A folder that can be reached by a link and directly keeps its direct path, so that a link never changes the names
    of what was there before it.
    """
    found, links = FoundFiles(), [("", root)]
    visited: set[tuple[int, int]] = set()
    around = _folders_around(root)
    while links:
        # Links wait until every folder that lies here has been visited; then the first by name.
        links.sort(reverse=True)
        prefix, start = links.pop()
        if prefix and _file_key(start) in around:
            # Wine's z: leads to the whole machine, and nobody means it.
            found.left_out.append(LeftOut(prefix.rstrip("/"), "a link to a folder around this one"))
            continue
        _walk(prefix, start, found, links, visited)
    # The file system's order differs between machines, and order decides splits and pairings.
    found.images.sort()
    found.others.sort()
    found.left_out.sort(key=lambda x: x.path)
    return found


def _folders_around(root: Path) -> frozenset[tuple[int, int] | None]:
    """Return the keys of the folders that really hold ``root``, whatever links it is given by."""
    return frozenset(_file_key(folder) for folder in real_path(root).parents) - {None}


def _file_key(path: Path) -> tuple[int, int] | None:
    """Return device and inode, which identify a file or folder under any name; ``None`` where it cannot be asked."""
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino


def _walk(
    prefix: str, start: Path, found: FoundFiles, links: list[tuple[str, Path]], visited: set[tuple[int, int]]
) -> None:
    """Visit ``start`` and the folders in it, and collect links to folders in ``links``."""
    pending = [(prefix, start)]
    while pending:
        below, folder = pending.pop()
        try:
            state = folder.stat()
            # Device and inode identify a folder under any name, so a link to a
            # parent ends the walk instead of looping.
            if (state.st_dev, state.st_ino) in visited:
                found.left_out.append(LeftOut(below.rstrip("/"), "a link to a folder that is read already"))
                continue
            visited.add((state.st_dev, state.st_ino))
            with os.scandir(folder) as listing:
                # Whole before anything is taken: a folder that fails half-way is left out, not half used.
                entries = list(listing)
        except OSError as error:
            if not below:  # the folder that the user named
                raise
            found.left_out.append(LeftOut(below.rstrip("/"), error.strerror or str(error)))
            continue
        for entry in entries:
            try:
                _sort_in(entry, below, found, links, pending)
            except OSError as error:
                # A link to itself, say: one entry that cannot be asked what it is must not cost its neighbors.
                found.left_out.append(LeftOut(below + entry.name, error.strerror or str(error)))


def _sort_in(
    entry: os.DirEntry[str],
    below: str,
    found: FoundFiles,
    links: list[tuple[str, Path]],
    pending: list[tuple[str, Path]],
) -> None:
    """Put an entry of a folder where it belongs.

    Raises:
        OSError: its kind cannot be found out.
    """
    path = below + entry.name
    if is_evicted(entry.name):
        found.left_out.append(LeftOut(path, EVICTED))
    elif is_hidden(entry.name):
        if is_image(entry.name) or entry.is_dir():
            found.left_out.append(LeftOut(path, HIDDEN))
    elif entry.is_dir(follow_symlinks=False):
        pending.append((path + "/", Path(entry.path)))
    elif entry.is_symlink() and entry.is_dir():
        links.append((path + "/", Path(entry.path)))
    elif entry.is_file():
        (found.images if is_image(entry.name) else found.others).append(path)
    else:
        # Whatever the suffix: it may be a list that is missed.
        there = Path(entry.path).exists()
        found.left_out.append(LeftOut(path, "not a regular file" if there else "a broken link"))


def common_folder(paths: Sequence[str]) -> str:
    """Return the folder to descend into while each folder holds nothing but one other folder; with a slash, or empty.

    >>> common_folder(["a/b/1.png", "a/b/c/2.png"]), common_folder(["a/1.png", "notes.txt"]), common_folder(["1.png"])
    ('a/b/', '', '')
    """
    folders = sorted({folder_of(path) for path in paths})
    shared = os.path.commonpath(folders) if folders else ""
    return f"{shared}/" if shared else ""


def is_world_writable(path: Path) -> bool:
    """Return whether every user of the machine may change what is in a folder."""
    return os.name == "posix" and bool(path.stat().st_mode & stat.S_IWOTH)
