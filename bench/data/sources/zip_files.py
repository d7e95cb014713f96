"""Zip archives as people have them: read in place and never extracted."""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from masks.image_files import FoundFiles, LeftOut
from masks.zip_members import TWICE_IN_ZIP, find_zip_members, zip_member_name

#: The longest path that Linux takes.
_MAX_LINK_BYTES = 4096
#: Endings of archives that are not looked into, in lower case.
_OTHER_ARCHIVES = (
    ".7z", ".rar", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".001", ".z01", ".part", ".crdownload",
)  # fmt: skip
#: What reading a member of a damaged, encrypted or oddly compressed zip raises, beside OSError.
ZIP_ERRORS = (
    zipfile.BadZipFile,
    RuntimeError,
    NotImplementedError,
    ValueError,
    EOFError,
    zlib.error,
    LookupError,
)


def is_other_archive(name: str) -> bool:
    """Return whether a file's name is that of an archive that is not looked into.

    >>> is_other_archive("img_align_celeba_png.7z.001"), is_other_archive("faces.tar.gz"), is_other_archive("a.zip")
    (True, True, False)
    """
    return name.lower().endswith(_OTHER_ARCHIVES)


def is_packed(name: str) -> bool:
    """Return whether a file's name is that of an archive of any kind."""
    return is_other_archive(name) or name.lower().endswith(".zip")


def zips_in(folder: Path) -> list[Path]:
    """List the zips in a folder; one that may not be listed, or entered, has none to offer."""
    return files_in(folder, lambda name: Path(name).suffix.lower() == ".zip")


def files_in(folder: Path, is_wanted: Callable[[str], bool]) -> list[Path]:
    """List the files in a folder whose names are wanted; one that may not be listed, or entered, has none to offer."""
    try:
        # By name first, since a folder may hold very many files.
        return sorted(path for path in folder.iterdir() if is_wanted(path.name) and path.is_file())
    except OSError:
        return []


def folders_in(folder: Path) -> list[Path]:
    """List the folders in a folder; one that may not be listed, or entered, has none to offer."""
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError:
        return []


def zip_files(place: Path) -> FoundFiles:
    """List the members of a zip.

    Raises:
        OSError: unreadable; or one of :data:`ZIP_ERRORS`.
    """
    return _open_zip(place)[1]


def read_zip_member(place: Path, path: str, limit: int) -> bytes:
    """Return the bytes of one member of a zip.

    Raises:
        OSError: unreadable, or larger than ``limit`` bytes.
    """
    archive, found, infos = _open_zip(place)
    member = infos[found.members[path]]
    # The size in the directory is checked before anything is decompressed.
    if member.file_size > limit:
        raise OSError(f"larger than {limit >> 20} MiB")
    try:
        return archive.read(member)
    except ZIP_ERRORS as error:
        raise OSError(str(error)) from error


def forget_open_zip() -> None:
    """Close the zip that is kept open: it may have been replaced by another one."""
    _open_zip.cache_clear()


@lru_cache(maxsize=1)
def _open_zip(place: Path) -> tuple[zipfile.ZipFile, FoundFiles, dict[str, zipfile.ZipInfo]]:
    """Open a zip and keep it open for this process: reading its directory once is enough. Nothing is extracted."""
    archive = zipfile.ZipFile(place)
    infos: dict[str, zipfile.ZipInfo] = {}
    replaced: list[str] = []
    for info in archive.infolist():
        name = zip_member_name(info)
        # Of two members of one name the last one is what unpacking leaves.
        if name in infos and (infos[name].CRC, infos[name].file_size) != (info.CRC, info.file_size):
            replaced.append(name)
        infos[name] = info
    links = {name: _link_target(archive, info) for name, info in infos.items() if _is_link(info)}
    found = find_zip_members(infos, links)
    taken = set(found.members.values())
    # First, since only the first ones are named.
    found.left_out[:0] = [LeftOut(name, TWICE_IN_ZIP) for name in replaced if name in taken]
    return archive, found, infos


def _is_link(info: zipfile.ZipInfo) -> bool:
    """Return whether a member of a zip is a symbolic link (``zip -y``): its content is where it leads."""
    return stat.S_ISLNK(info.external_attr >> 16)


def _link_target(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> str:
    """Return where a link in a zip leads; the root, where there is nothing, if that cannot be read."""
    try:
        return os.fsdecode(archive.read(info)) if info.file_size <= _MAX_LINK_BYTES else "/"
    except ZIP_ERRORS:
        return "/"
