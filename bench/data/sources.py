"""Where pictures lie: CelebA's official layout (folder or zip), or any folder of pictures."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from bench.errors import DataError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm"}
_FOLDER, _ZIP = "img_align_celeba", "img_align_celeba.zip"
_PARTITION, _IDENTITY = "list_eval_partition.txt", "identity_CelebA.txt"
CELEBA_LICENCE = (
    "CelebA (Liu et al., ICCV 2015): for non-commercial research only, not for redistribution; "
    "do not pass on a page with these pictures"
)


@dataclass(frozen=True)
class Source:
    """Pictures by id, in the order of ids.

    Attributes:
        name: ``celeba`` or the folder's name.
        ids: file names (CelebA) or paths below the folder.
        place: the folder, or the zip.
        partition: id -> 0 train, 1 validation, 2 test, where an official split is known.
        identities: id -> who is shown, where known.
    """

    name: str
    ids: list[str]
    place: Path
    partition: dict[str, int]
    identities: dict[str, int]

    @property
    def is_celeba(self) -> bool:
        """Whether the licence of CelebA applies."""
        return self.name == "celeba"

    def stamp(self) -> str:
        """Changes when files do: part of the pack's name."""
        if self.place.suffix == ".zip":
            state = self.place.stat()
            return f"{self.place.resolve()} {state.st_size} {state.st_mtime_ns} {len(self.ids)}"
        states = ((self.place / i).stat() for i in self.ids)
        return f"{self.place.resolve()} {[(s.st_size, s.st_mtime_ns) for s in states]}"


def find(path: Path) -> Source:
    """The source at ``path``.

    Raises:
        DataError: nothing there, or no pictures.
    """
    path = path.expanduser()
    if not path.exists():
        raise DataError(f"--data {path}: no such file or folder")
    if path.is_file():
        if not zipfile.is_zipfile(path):
            raise DataError(f"--data {path}: neither a folder nor a zip of pictures")
        return _source("celeba" if path.name == _ZIP else path.stem, path, path.parent)
    if (path / _FOLDER).is_dir():
        return _source("celeba", path / _FOLDER, path)
    if (path / _ZIP).is_file():
        if not zipfile.is_zipfile(path / _ZIP):
            raise DataError(f"--data {path / _ZIP}: not a readable zip; download it again")
        return _source("celeba", path / _ZIP, path)
    return _source(path.resolve().name or "pictures", path, path)


def read(place: Path, image_id: str) -> bytes:
    """The bytes of one picture."""
    if place.suffix == ".zip":
        archive = _archive(place)
        return archive.read(_members(place)[image_id])
    return (place / image_id).read_bytes()


def _source(name: str, place: Path, lists: Path) -> Source:
    if place.suffix == ".zip":
        ids = sorted(_members(place))
    else:
        ids = sorted(
            p.relative_to(place).as_posix()
            for p in place.rglob("*")
            if p.suffix.lower() in SUFFIXES and p.is_file()
        )
    if not ids:
        raise DataError(f"--data {place}: holds no pictures ({', '.join(sorted(SUFFIXES))})")
    return Source(name, ids, place, _table(lists / _PARTITION), _table(lists / _IDENTITY))


@lru_cache(maxsize=2)
def _archive(place: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(place)


@lru_cache(maxsize=2)
def _members(place: Path) -> dict[str, str]:
    """Id -> member; an entry that would leave the folder is not a picture of ours. Nothing is ever extracted."""
    members = {}
    for member in _archive(place).namelist():
        path = PurePosixPath(member.replace("\\", "/"))
        if path.suffix.lower() in SUFFIXES and not path.is_absolute() and ".." not in path.parts:
            if path.parts[0] != "__MACOSX":
                members[path.relative_to(_FOLDER).as_posix() if path.parts[0] == _FOLDER else str(path)] = (
                    member
                )
    return members


def _table(path: Path) -> dict[str, int]:
    """``name number`` lines; an empty table where there is no file.

    Raises:
        DataError: a line that is not of that form.
    """
    if not path.is_file():
        return {}
    table = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            try:
                name, value = line.split()
                table[name] = int(value)
            except ValueError:
                raise DataError(f"{path}:{number}: expected 'NAME NUMBER', found {line[:60]!r}") from None
    return table
