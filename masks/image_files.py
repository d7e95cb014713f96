"""Find image files below a folder or in a zip: one walker and one list of formats for the whole project.

Data, mask folders, ``bench inpaint`` and ``bench score`` all use it. It stands in this package because ``masks`` is
the lowest package that reads images; it imports nothing of the project.
"""

from __future__ import annotations

import heapq
import itertools
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote_to_bytes

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

#: Flag of a member of a zip whose name is UTF-8, and the systems whose names are bytes: Unix and macOS.
_ZIP_UTF8 = 0x800
_ZIP_UNIX = (3, 19)
#: Why one of two members of a zip is left out that unpacking would write to one place.
TWICE_IN_ZIP = "another member of the zip has this name"
#: Why a file or folder is left out that nobody is meant to see.
HIDDEN = "hidden"
#: Links to follow from one path, as many as Linux does.
_MAX_LINKS = 40
#: Control characters, ends of lines, what turns the direction of writing, and bytes of names that are not UTF-8.
_CONTROLS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
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


def is_image(name: str) -> bool:
    """Return whether the suffix is that of a readable image format, also of a hidden file that is nothing else.

    >>> [is_image(n) for n in ("a/b.JPG", "b.tiff", "list.txt", "png", "a/.jpg")]
    [True, True, False, False, True]
    """
    return PurePosixPath("_" + PurePosixPath(name).name).suffix.lower() in IMAGE_SUFFIXES


def is_document(name: str) -> bool:
    """Return whether the suffix is that of a text or table, which is not missed among pictures.

    >>> [is_document(n) for n in ("a/list.TXT", "Thumbs.db", "b.heic", "c.npy", "d")]
    [True, True, False, False, False]
    """
    return PurePosixPath(name).suffix.lower() in _DOCUMENTS


def escape_name(name: str) -> str:
    """Return a file name that a line of UTF-8 can show: other encodings and control characters are percent-encoded.

    Of names in another encoding the bytes are, of line ends, terminal sequences and marks that turn the direction of
    writing those of UTF-8, and ``%`` with them; every other name is unchanged. So ids stay apart in every table, page
    and terminal, and :func:`resolve_path` finds the file.

    >>> escape_name("caf\\udce9 100%.png"), escape_name("a\\nb\\u202e.png"), escape_name("café 100%.png")
    ('caf%E9 100%25.png', 'a%0Ab%E2%80%AE.png', 'café 100%.png')
    """
    if not _CONTROLS.search(name):
        return name
    return _CONTROLS.sub(lambda found: _percent(found[0]), name.replace("%", "%25"))


def _percent(character: str) -> str:
    # Surrogates stand for bytes that are not UTF-8 (PEP 383); lone ones of another origin are kept apart as \uXXXX.
    if "\ud800" <= character <= "\udfff" and not "\udc80" <= character <= "\udcff":
        return character.encode("utf-8", "backslashreplace").decode("ascii")
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogateescape"))


def path_of_id(image_id: str) -> PurePosixPath:
    """Return the path that an image id names.

    Ids have slashes on every system. A backslash is a letter of a name, the last byte of some of Shift-JIS, and only
    where Windows would take it for a slash it is one.

    >>> path_of_id("a/000001.jpg").name
    '000001.jpg'
    """
    return PurePosixPath(image_id.replace("\\", "/") if os.name == "nt" else image_id)


def one_line(text: str) -> str:
    """Return text as one line that a terminal shows as it is: control characters are written as escapes.

    Names of files and labels may hold line ends, which would look like messages of this program, and sequences that
    clear a terminal or turn the direction of writing. For showing only: ids and paths stay as they are.

    >>> one_line("a\\nb\\x1b[2J.png"), one_line("caf\\udce9"), one_line("über 漢字.png")
    ('a\\\\nb\\\\x1b[2J.png', 'caf\\\\udce9', 'über 漢字.png')
    """
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def resolve_path(name: str) -> Path:
    """Return the path of a user's file or folder, given as it is or as :func:`escape_name` writes it."""
    path = _without_tilde(Path(name))
    # A name that exists as given wins: files may have a real percent sign. lexists, so
    # that a broken link counts as a name.
    if "%" in name and not os.path.lexists(path):
        raw = os.fsdecode(unquote_to_bytes(name))
        # Other percent signs are a name's own: nothing but what a line cannot show is written so.
        if escape_name(raw) != raw and os.path.lexists(_without_tilde(Path(raw))):
            return _without_tilde(Path(raw))
    return path


def _without_tilde(path: Path) -> Path:
    """Replace a leading ``~``; a name stays what it is where there is no such user, since a folder may be called so."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def real_path(path: Path | str, *, home: bool = False) -> Path:
    """Return an absolute path whose links are followed as far as they lead.

    Unlike ``Path.resolve`` and ``Path.expanduser`` it raises nothing: a link to itself and a home that nobody has keep
    their names, and whoever opens them says what is wrong.

    Args:
        path: of a user's file or folder.
        home: replace a leading ``~``, which shells leave where it is quoted.
    """
    return Path(os.path.realpath(_without_tilde(Path(path)) if home else path))


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
    if is_hidden(entry.name):
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


def find_zip_members(names: Iterable[str], links: Mapping[str, str] | None = None) -> FoundFiles:
    """Sort out the member names of a zip by the rules of :func:`find_files`. Nothing is extracted.

    Args:
        names: of the members, as :func:`zip_member_name` returns them.
        links: name of each member that is a symbolic link -> where it leads.

    >>> found = find_zip_members(["b/2.png", "b/list.txt", "__MACOSX/b/._2.png", "../out.png"])
    >>> found.images, found.others, found.unsafe, [x.path for x in found.left_out]
    (['b/2.png'], ['b/list.txt'], ['../out.png'], ['__MACOSX'])
    """
    found = FoundFiles()
    # Hidden ones too: links may lead to them, as those of git-annex do.
    files: dict[str, str] = {}
    leads_to: dict[str, str] = {}
    for member in names:
        path = PurePosixPath(member)
        if member.endswith("/") or not path.parts:
            continue
        first_hidden = _first_hidden(path)
        if first_hidden and (first_hidden != path.as_posix() or is_image(path.name)):
            found.left_out.append(LeftOut(first_hidden, HIDDEN))
        # A first part that ends in a colon is a drive of Windows, which PurePosixPath takes for a relative name.
        if path.is_absolute() or ".." in path.parts or path.parts[0].endswith(":"):
            if not first_hidden and is_image(path.name):
                found.unsafe.append(member)
            elif not first_hidden:
                found.left_out.append(LeftOut(member, "its path leaves the zip"))
        elif links and member in links:
            leads_to.setdefault(path.as_posix(), links[member])
        else:
            files.setdefault(path.as_posix(), member)
            if not first_hidden:
                _take_member(path.as_posix(), member, found)
    # Links wait until all that they may lead to is known.
    if leads_to:
        _follow_links(leads_to, files, found)
    found.images.sort()
    found.others.sort()
    # A hidden folder once, and not for each file in it.
    found.left_out = sorted(dict.fromkeys(found.left_out), key=lambda x: x.path)
    return found


def _first_hidden(path: PurePosixPath) -> str:
    """Return the path down to its first hidden part; empty if there is none."""
    for end, part in enumerate(path.parts, start=1):
        if part not in (".", "..") and is_hidden(part):
            return PurePosixPath(*path.parts[:end]).as_posix()
    return ""


def _take_member(path: str, member: str, found: FoundFiles) -> None:
    if path in found.members:
        found.left_out.append(LeftOut(path, TWICE_IN_ZIP))
        return
    found.members[path] = member
    (found.images if is_image(path) else found.others).append(path)


def _follow_links(leads_to: Mapping[str, str], files: Mapping[str, str], found: FoundFiles) -> None:
    """Take what the links of a zip lead to, as :func:`find_files` does: files, and folders that nobody read before."""
    inside = _folders_of(itertools.chain(files, leads_to))
    read = {folder for folder in inside if not _first_hidden(PurePosixPath(folder))}
    # As it is called here, and which link it is: in a folder that is read by a link the two differ.
    waiting = sorted((name, name) for name in leads_to if not _first_hidden(PurePosixPath(name)))
    for name in leads_to:
        # A hidden link to a folder is named as the hidden folder would be; those to images have been.
        if _first_hidden(PurePosixPath(name)) == name and _resolve_in_zip(name, leads_to, inside) in inside:
            found.left_out.append(LeftOut(name, HIDDEN))
    while waiting:
        shown, link = heapq.heappop(waiting)
        target = _resolve_in_zip(link, leads_to, inside)
        if target in files:
            _take_member(shown, files[target], found)
        elif target not in inside:
            found.left_out.append(LeftOut(shown, "a broken link, or one that leads out of the zip"))
        pending = [(shown, target)] if target in inside else []
        while pending:
            shown, folder = pending.pop()
            if folder in read:
                found.left_out.append(LeftOut(shown, "a link to a folder that is read already"))
                continue
            read.add(folder)
            for path in inside[folder]:
                name = PurePosixPath(path).name
                if is_hidden(name):
                    if path in inside or is_image(name):
                        found.left_out.append(LeftOut(f"{shown}/{name}", HIDDEN))
                elif path in inside:
                    pending.append((f"{shown}/{name}", path))
                elif path in files:
                    _take_member(f"{shown}/{name}", files[path], found)
                else:
                    heapq.heappush(waiting, (f"{shown}/{name}", path))


def _folders_of(paths: Iterable[str]) -> dict[str, list[str]]:
    """Return each folder around some paths -> what lies in it, folders too; the outermost is called ``.``."""
    inside: dict[str, list[str]] = {".": []}
    for path in paths:
        while path != ".":
            folder = PurePosixPath(path).parent.as_posix()
            known = folder in inside
            inside.setdefault(folder, []).append(path)
            if known:
                break
            path = folder  # seen for the first time, so that the folder around it has to learn of it
    return inside


def _resolve_in_zip(path: str, leads_to: Mapping[str, str], folders: Collection[str]) -> str:
    """Return the file or folder that a path leads to through links; empty out of the zip, or if it leads nowhere."""
    done: list[str] = []
    parts, followed = path.split("/")[::-1], 0
    while parts:
        part = parts.pop()
        if done and "/".join(done) not in folders:
            return ""  # through a file, or through nothing
        if part == "..":
            if not done:
                return ""
            done.pop()
        elif part not in ("", "."):
            target = leads_to.get("/".join([*done, part]))
            if target is None:
                done.append(part)
                continue
            followed += 1
            if not target or target.startswith("/") or followed > _MAX_LINKS:
                return ""
            parts += target.split("/")[::-1]
    return "/".join(done) or "."


def zip_member_name(info: zipfile.ZipInfo) -> str:
    """Return the name that a member of a zip has once it is unpacked: with surrogates where it is not UTF-8.

    Many programs store the bytes of names as they are, without saying that they are UTF-8 or anything else, and
    ``zipfile`` reads them as those of a PC of 1981: the same images would have other ids in a zip than in its folder.

    >>> zip_member_name(zipfile.ZipInfo("café.png".encode().decode("cp437")))
    'café.png'
    """
    name = _member_name(info)
    # On Unix a backslash is a letter; elsewhere a separator, which some programs of Windows write as it is.
    if info.create_system in _ZIP_UNIX:
        return name
    if info.flag_bits & _ZIP_UTF8 or name != info.filename:
        return name.replace("\\", "/")
    # Bytes of an unknown encoding: in Shift-JIS, GBK and Big5 the second half of a letter may be a backslash. Taken for
    # a separator, it would cut names in two and hide those that then begin with a dot; as a letter it loses nothing.
    return re.sub(r"(?<![^\x00-\x7f])\\", "/", name)


def _member_name(info: zipfile.ZipInfo) -> str:
    if info.flag_bits & _ZIP_UTF8 or info.filename.isascii():
        return info.filename
    try:
        raw = info.filename.encode("cp437")
    except UnicodeEncodeError:  # newer versions of zipfile have looked into the extra fields
        return info.filename
    try:
        # Hardly any text of another encoding is valid UTF-8 by chance.
        return _unicode_path(info.extra, raw) or raw.decode("utf-8")
    except UnicodeDecodeError:
        return os.fsdecode(raw) if info.create_system in _ZIP_UNIX else info.filename


def _unicode_path(extra: bytes, replaced: bytes) -> str:
    """Return the name in the extra field that Info-ZIP and WinZip write for other encodings; empty without one.

    Args:
        extra: all extra fields of a member.
        replaced: its name as it stands, whose checksum the field holds: a program that renamed the member and knew
            nothing of the field has left an old name there (APPNOTE 4.6.9).
    """
    while len(extra) >= 4:
        kind, length = struct.unpack("<HH", extra[:4])
        if kind == 0x7075 and length > 5 and extra[4:9] == struct.pack("<BI", 1, zlib.crc32(replaced)):
            return extra[9 : 4 + length].decode("utf-8")
        extra = extra[4 + length :]
    return ""


def common_folder(paths: Sequence[str]) -> str:
    """Return the folder to descend into while each folder holds nothing but one other folder; with a slash, or empty.

    >>> common_folder(["a/b/1.png", "a/b/c/2.png"]), common_folder(["a/1.png", "notes.txt"]), common_folder(["1.png"])
    ('a/b/', '', '')
    """
    folders = [str(PurePosixPath(path).parent) for path in paths]
    shared = os.path.commonpath(folders) if folders else ""
    return f"{shared}/" if shared not in ("", ".") else ""


def is_world_writable(path: Path) -> bool:
    """Return whether every user of the machine may change what is in a folder."""
    return os.name == "posix" and bool(path.stat().st_mode & stat.S_IWOTH)
