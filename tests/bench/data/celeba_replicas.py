"""Small replicas of CelebA in every layout that people have: as Kaggle, torchvision and its authors ship it."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from bench.data import Dataset
from bench.data.procedural_faces import render_faces

COUNT = 24


IDS = [f"{i + 1:06d}.jpg" for i in range(COUNT)]


FACES = render_faces(list(range(COUNT)), 40)


PART = {name: (0, 0, 0, 1, 2, 2)[i % 6] for i, name in enumerate(IDS)}


WHO = {name: 100 + i % 7 for i, name in enumerate(IDS)}


Opener = Callable[..., Dataset]


def images(folder: Path, suffix: str = ".jpg") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, face in zip(IDS, FACES, strict=True):
        # Lossless under either suffix, so that every layout has the same pixels: the contents decide, not the suffix.
        Image.fromarray(face).save(folder / Path(name).with_suffix(suffix), "PNG")
    return folder


def text_lists(folder: Path, *, bom: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    start = "\ufeff" if bom else ""
    for name, table in (("list_eval_partition.txt", PART), ("identity_CelebA.txt", WHO)):
        (folder / name).write_text(start + "".join(f"{k} {v}\n" for k, v in table.items()), encoding="utf-8")


def csv_lists(folder: Path, newline: str = "\n") -> None:
    rows = ["image_id,partition", *(f"{k},{v}" for k, v in PART.items())]
    (folder / "list_eval_partition.csv").write_bytes(newline.join(rows).encode())
    rows = ["image_id,identity", *(f"{k},{v}" for k, v in WHO.items())]
    (folder / "identity_CelebA.csv").write_bytes(newline.join(rows).encode())
    attributes = ["image_id,Male,Smiling", *(f"{k},{1 if i % 2 else -1},-1" for i, k in enumerate(IDS))]
    (folder / "list_attr_celeba.csv").write_bytes(newline.join(attributes).encode())


def zipped(folder: Path, path: Path, prefix: str = "") -> Path:
    # Listed before there is a zip, which may lie in the folder and would be packed into itself without an end.
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    with zipfile.ZipFile(path, "w") as archive:
        for file in files:
            archive.write(file, prefix + file.relative_to(folder).as_posix())
    return path


def kaggle(root: Path) -> Path:
    images(root / "img_align_celeba" / "img_align_celeba")
    csv_lists(root, "\r\n")
    return root


def kaggle_archive(root: Path) -> Path:
    kaggle(root / "made")
    path = zipped(root / "made", root / "archive.zip")
    shutil.rmtree(root / "made")
    return path


def kaggle_archive_in_a_folder(root: Path) -> Path:
    return kaggle_archive(root).parent


def kaggle_pictures(root: Path) -> Path:
    return kaggle(root) / "img_align_celeba" / "img_align_celeba"


def torchvision(root: Path) -> Path:
    images(root / "celeba" / "img_align_celeba")
    text_lists(root / "celeba")
    return root


def torchvision_zip(root: Path) -> Path:
    torchvision(root / "made")
    path = zipped(root / "made", root / "everything.zip")
    shutil.rmtree(root / "made")
    return path


def official(root: Path) -> Path:
    images(root / "made")
    (root / "Img").mkdir()
    zipped(root / "made", root / "Img" / "img_align_celeba.zip", "img_align_celeba/")
    shutil.rmtree(root / "made")
    text_lists(root / "lists")
    for name, folder in (("list_eval_partition.txt", "Eval"), ("identity_CelebA.txt", "Anno")):
        (root / folder).mkdir()
        (root / "lists" / name).rename(root / folder / name)
    (root / "lists").rmdir()
    return root


def official_zip(root: Path) -> Path:
    return official(root) / "Img" / "img_align_celeba.zip"


def twice_in_the_zip(root: Path) -> Path:
    images(root / "made")
    zipped(root / "made", root / "img_align_celeba.zip", "img_align_celeba/img_align_celeba/")
    shutil.rmtree(root / "made")
    text_lists(root, bom=True)
    return root


def below_celeba_in_the_zip(root: Path) -> Path:
    images(root / "made")
    path = zipped(root / "made", root / "celeba.zip", "celeba/img_align_celeba/")
    shutil.rmtree(root / "made")
    text_lists(root)
    return path


def empty_folder_beside_the_zip(root: Path) -> Path:
    twice_in_the_zip(root)
    (root / "img_align_celeba").mkdir()
    return root


def png_copies(root: Path) -> Path:
    images(root / "img_align_celeba_png", ".png")
    text_lists(root)
    return root


def png_copies_in_a_folder_of_my_own(root: Path) -> Path:
    images(root / "my faces", ".png")
    text_lists(root)
    return root


def lists_among_the_pictures(root: Path) -> Path:
    images(root)
    text_lists(root, bom=True)
    return root


def samples_beside_the_pictures(root: Path) -> Path:
    """Some outputs of a program, under the names of its inputs, in a folder that sorts before them."""
    images(root / "pictures")
    text_lists(root)
    for name in IDS[:5]:
        (root / "a-few").mkdir(exist_ok=True)
        Image.new("RGB", (40, 40), "red").save(root / "a-few" / name, "PNG")
    return root


def linked(root: Path) -> Path:
    images(root / "elsewhere")
    text_lists(root / "data")
    (root / "data" / "img_align_celeba").symlink_to(root / "elsewhere")
    return root / "data"


LAYOUTS = [
    kaggle, kaggle_archive, kaggle_archive_in_a_folder, kaggle_pictures, torchvision, torchvision_zip, official,
    official_zip, twice_in_the_zip, below_celeba_in_the_zip, empty_folder_beside_the_zip, png_copies,
    png_copies_in_a_folder_of_my_own, lists_among_the_pictures,
    samples_beside_the_pictures, linked,
]  # fmt: skip


def some(root: Path, names: list[str]) -> Path:
    for k, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(FACES[k % COUNT]).save(root / name, "PNG")
    return root


HQ_MAPPING = "idx orig_idx orig_file\n" + "".join(f"{k} {100 + k} {i}\n" for k, i in enumerate(IDS))


def linked_zip(folder: Path, path: Path) -> Path:
    """Zip a folder as ``zip -y`` does: links are members that hold where they lead."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            name = file.relative_to(folder).as_posix()
            if file.is_symlink():
                link = zipfile.ZipInfo(name)
                link.create_system, link.external_attr = 3, 0o120777 << 16
                archive.writestr(link, str(file.readlink()))
            elif file.is_file():
                archive.write(file, name)
    return path


def unmarked_zip(path: Path, members: dict[bytes, bytes], *, system: int = 3, extra: bytes = b"") -> Path:
    """Zip contents under names that are bytes, without the mark of UTF-8."""
    # Stand-ins of the same length, since zipfile itself writes names as UTF-8 and says so.
    stand_ins = {name: f"Z{number:02d}".ljust(len(name), "Z") for number, name in enumerate(members)}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(stand_ins[name])
            info.create_system, info.extra = system, extra
            archive.writestr(info, content)
    raw = path.read_bytes()
    for name, stand_in in stand_ins.items():
        raw = raw.replace(stand_in.encode(), name)
    path.write_bytes(raw)
    return path


def write_list(path: Path, table: dict[str, int], newline: str = "\n") -> Path:
    """Write a list as text or as CSV, as its suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_csv = path.suffix == ".csv"
    rows = ["image_id,value"] if is_csv else []
    path.write_text(newline.join([*rows, *(f"{k}{',' if is_csv else ' '}{v}" for k, v in table.items())]))
    return path


def zip_by(path: Path, names: list[str], system: int) -> Path:
    """Zip pictures under names that are marked as UTF-8, as a program on that system does."""
    with zipfile.ZipFile(path, "w") as archive:
        for k, name in enumerate(names):
            with tempfile.NamedTemporaryFile(suffix=".png") as file:
                Image.fromarray(FACES[k % COUNT]).save(file.name)
                info = zipfile.ZipInfo(name)
                info.create_system = system
                archive.writestr(info, Path(file.name).read_bytes())
    return path
