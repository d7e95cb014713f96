"""Where pictures lie: CelebA's official layout (folder or zip), or any folder of pictures."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
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
_MAX_BYTES = 256 * 2**20  # one compressed picture; more is an accident or an attack


@dataclass(frozen=True)
class Source:
    """Pictures by id, in the order of ids.

    Attributes:
        name: ``celeba`` or the folder's name.
        ids: file names (CelebA) or paths below the folder.
        place: the folder, or the zip.
        partition: id -> 0 train, 1 validation, 2 test, where an official split is known.
        identities: id -> who is shown, where known.
        refused: entries of a zip whose path would leave its folder.
    """

    name: str
    ids: list[str]
    place: Path
    partition: dict[str, int]
    identities: dict[str, int]
    refused: list[str] = field(default_factory=list)

    @property
    def is_celeba(self) -> bool:
        """Whether the licence of CelebA applies."""
        return self.name == "celeba"

    def stamp(self) -> str:
        """Changes when files do: part of the pack's name."""
        if self.place.is_file():
            state = self.place.stat()
            return f"{self.place.resolve()} {state.st_size} {state.st_mtime_ns} {len(self.ids)}"
        states = ((self.place / i).stat() for i in self.ids)
        return f"{self.place.resolve()} {[(s.st_size, s.st_mtime_ns) for s in states]}"


def find_images(path: Path) -> Source:
    """The source at ``path``.

    Raises:
        DataError: nothing there, or no pictures.
    """
    _open.cache_clear()  # the zip may be another one since it was last looked into
    path = path.expanduser()
    if not path.exists():
        raise DataError(f"--data {path}: no such file or folder")
    if path.is_file():
        return _source("celeba" if path.name == _ZIP else path.stem, path, path.parent)
    if path.resolve().name == _FOLDER:
        return _source("celeba", path, path.resolve().parent)
    # Beside each other, under the names of the official download, or as torchvision lays them.
    for root in (path, path / "celeba"):
        for place in (root / _FOLDER, root / "Img" / _FOLDER, root / _ZIP, root / "Img" / _ZIP):
            if place.exists():
                return _source("celeba", place, root)
    return _source(path.resolve().name or "pictures", path, path)


def open_image_file(place: Path, image_id: str) -> bytes:
    """The bytes of one picture."""
    if place.is_dir():
        path = place / image_id
        if path.stat().st_size > _MAX_BYTES:
            raise OSError(f"larger than {_MAX_BYTES >> 20} MiB")
        return path.read_bytes()
    archive, members, _ = _open(place)
    if archive.getinfo(members[image_id]).file_size > _MAX_BYTES:
        raise OSError(f"larger than {_MAX_BYTES >> 20} MiB")
    return archive.read(members[image_id])


def _source(name: str, place: Path, lists: Path) -> Source:
    refused: list[str] = []
    if place.is_file():
        try:
            _, members, refused = _open(place)
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(
                f"--data {place}: not a readable zip of pictures ({error}); get it again"
            ) from error
        ids = sorted(members)
    else:
        ids = sorted(
            p.relative_to(place).as_posix()
            for p in place.rglob("*")
            if p.suffix.lower() in SUFFIXES and not p.name.startswith("._") and p.is_file()
        )
    if not ids:
        raise DataError(f"--data {place}: holds no pictures ({', '.join(sorted(SUFFIXES))})")
    partition = _table(lists, "Eval", _PARTITION)
    if wrong := [i for i, part in partition.items() if part not in (0, 1, 2)]:
        raise DataError(f"{_PARTITION}: {wrong[0]} is in part {partition[wrong[0]]}; there are 0, 1 and 2")
    return Source(name, ids, place, partition, _table(lists, "Anno", _IDENTITY), refused)


@lru_cache(maxsize=1)
def _open(place: Path) -> tuple[zipfile.ZipFile, dict[str, str], list[str]]:
    """The zip, id -> member, and entries whose path would leave a folder. Nothing is ever extracted."""
    archive = zipfile.ZipFile(place)
    members, refused = {}, []
    for member in archive.namelist():
        path = PurePosixPath(member.replace("\\", "/"))
        if path.suffix.lower() not in SUFFIXES or path.parts[0] == "__MACOSX" or path.name.startswith("._"):
            continue
        if path.is_absolute() or ".." in path.parts or path.parts[0].endswith(":"):
            refused.append(member)
        else:
            image_id = path.relative_to(_FOLDER) if path.parts[0] == _FOLDER else path
            members[image_id.as_posix()] = member
    return archive, members, refused


def _table(root: Path, folder: str, name: str) -> dict[str, int]:
    """``name number`` lines of ``root/name`` or ``root/folder/name``; an empty table where there is no file.

    Raises:
        DataError: a line that is not of that form.
    """
    path = next((p for p in (root / name, root / folder / name) if p.is_file()), None)
    if path is None:
        return {}
    table = {}
    lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                image_id, value = line.split()
                table[image_id] = int(value)
            except ValueError:
                raise DataError(f"{path}:{number}: expected 'NAME NUMBER', found {line[:60]!r}") from None
    return table
