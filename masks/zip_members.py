"""Find image files among the members of a zip, by the rules by which those of a folder are found."""

from __future__ import annotations

import heapq
import itertools
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import PurePosixPath

from masks.image_files import EVICTED, HIDDEN, FoundFiles, LeftOut, is_evicted, is_hidden, is_image

#: Flag of a member of a zip whose name is UTF-8, and the systems whose names are bytes: Unix and macOS.
_ZIP_UTF8 = 0x800
_ZIP_UNIX = (3, 19)
#: Why one of two members of a zip is left out that unpacking would write to one place.
TWICE_IN_ZIP = "another member of the zip has this name"
_DRIVE = re.compile("[A-Za-z]:")
#: Links to follow from one path, as many as Linux does.
_MAX_LINKS = 40


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
        if first_hidden == path.as_posix() and is_evicted(path.name):
            found.left_out.append(LeftOut(first_hidden, EVICTED))
        elif first_hidden and (first_hidden != path.as_posix() or is_image(path.name)):
            found.left_out.append(LeftOut(first_hidden, HIDDEN))
        # A letter and a colon are a drive of Windows, which PurePosixPath takes for a relative name.
        if path.is_absolute() or ".." in path.parts or _DRIVE.fullmatch(path.parts[0]):
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
