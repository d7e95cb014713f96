"""Data sets as people really have them: every layout is the same data, and what is seen and not used is said."""

from __future__ import annotations

import os
import random
import re
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.data import Dataset, DataSpec, open_data
from bench.data.dataset import UNKNOWN
from bench.data.name_lists import match_names, parse_list, parse_numbers
from bench.data.procedural_faces import render_faces
from bench.data.sources import DataSource, data_sources, find_source, read_bytes
from bench.data.sources.base import FoundImages, hold_out_validation
from bench.data.sources.file_tree import FileTree
from bench.data.sources.zip_files import zip_files
from bench.data.splits import assign_split
from bench.errors import DataError
from masks.image_files import find_files, find_zip_members, one_line

COUNT = 24
IDS = [f"{i + 1:06d}.jpg" for i in range(COUNT)]
FACES = render_faces(list(range(COUNT)), 40)
PART = {name: (0, 0, 0, 1, 2, 2)[i % 6] for i, name in enumerate(IDS)}
WHO = {name: 100 + i % 7 for i, name in enumerate(IDS)}

Opener = Callable[..., Dataset]


@pytest.fixture
def opened(tmp_path: Path) -> Opener:
    def opener(source: Path, **choice: object) -> Dataset:
        spec = {"size": 32, "cache": tmp_path / "cache", **choice}
        return open_data(DataSpec(source=str(source), **spec))  # type: ignore[arg-type]

    return opener


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
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
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


@pytest.mark.parametrize("make", LAYOUTS, ids=lambda make: make.__name__)
def test_every_layout_of_celeba_is_the_same_data(
    tmp_path: Path, opened: Opener, make: Callable[[Path], Path]
) -> None:
    (tmp_path / "there").mkdir()
    data = opened(make(tmp_path / "there"))
    assert (data.name, data.title, data.split_name) == ("celeba", "CelebA (aligned)", "official")
    assert "non-commercial" in data.license
    for images_of, part in ((data.train, 0), (data.validation, 1), (data.test, 2)):
        assert images_of.ids == [i for i in IDS if PART[i] == part]
        assert np.array_equal(images_of.identities, [WHO[i] for i in images_of.ids])
    images(tmp_path / "plain" / "img_align_celeba")
    text_lists(tmp_path / "plain")
    assert data.fingerprint == opened(tmp_path / "plain").fingerprint


def test_attributes_are_read_where_they_lie(tmp_path: Path, opened: Opener) -> None:
    data = opened(kaggle(tmp_path / "csv"))
    assert data.attributes["Male"] == {name: bool(i % 2) for i, name in enumerate(IDS)}
    assert not any(data.attributes["Smiling"].values())
    images(tmp_path / "txt" / "img_align_celeba")
    rows = [str(COUNT), "Male Smiling", *(f"{k}  {1 if i % 2 else -1} -1" for i, k in enumerate(IDS))]
    (tmp_path / "txt" / "list_attr_celeba.txt").write_text("\n".join(rows))
    assert opened(tmp_path / "txt").attributes == data.attributes


# --- Lists that name some images, or none -----------------------------------------------------------------------


@pytest.mark.parametrize("place", ["people/a", ""])
def test_an_identity_list_matches_copies_under_other_suffixes_and_folders(
    tmp_path: Path, opened: Opener, place: str
) -> None:
    folder = tmp_path / "mine"
    images(folder / place, ".png")
    for path in (folder / place).iterdir():
        path.rename(path.with_name(f"img-{path.name}"))
    (folder / "identity_CelebA.txt").write_text("".join(f"img-{k} {v}\n" for k, v in WHO.items()))
    data = opened(folder)
    assert data.name == "mine"
    assert data.unnamed_images == {"train": 0, "validation": 0, "test": 0}
    assert data.test.identities is not None
    assert UNKNOWN not in data.test.identities


@pytest.mark.parametrize("kept", [COUNT // 2, 1])
def test_a_list_of_some_images_counts_them_alone_and_says_so(
    tmp_path: Path, opened: Opener, kept: int
) -> None:
    root = kaggle(tmp_path / "half")
    rows = (root / "identity_CelebA.csv").read_text().splitlines()
    (root / "identity_CelebA.csv").write_text("\n".join(rows[: kept + 1]))
    data = opened(root)
    assert data.unnamed_images is not None
    assert sum(data.unnamed_images.values()) == COUNT - kept
    assert any(f"names no person for {COUNT - kept} of {COUNT}" in note for note in data.notes)
    named = {i: WHO[i] for i in IDS[:kept]}
    train, test = ({named[i] for i in s.ids if i in named} for s in (data.train, data.test))
    assert data.shared_identities == len(train & test)
    seeds = (
        seed
        for seed in range(99)
        if set(assign_split(IDS, "identity", partition={}, identities=named, seed=seed)[1]) >= {0, 2}
    )
    alone = opened(root, split="identity", split_seed=next(seeds))
    assert any("each counts as a person of its own" in note for note in alone.notes)


@pytest.mark.parametrize("name", ["identity_CelebA.txt", "list_eval_partition.txt"])
def test_a_list_that_names_no_image_is_an_error_with_a_name_of_each_side(
    tmp_path: Path, opened: Opener, name: str
) -> None:
    images(tmp_path / "mine")
    for path in (tmp_path / "mine").iterdir():
        path.rename(path.with_name(f"my-{path.name}"))
    (tmp_path / "mine" / name).write_text("".join(f"{k} 1\n" for k in IDS))
    with pytest.raises(
        DataError, match=rf"{name} names none of the 24 images: it has '000001.jpg'.* 'my-000001.jpg'"
    ):
        opened(tmp_path / "mine")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"000001.jpg 0\n000002.jpg\n", r":2: expected 'NAME NUMBER', found '000002.jpg'"),
        (b"000001.jpg 0\n\n000002.jpg 0 7\n", r":3: expected 'NAME NUMBER'"),
        (b"000001.jpg 0\n000002.jpg -1\n", r":2: expected 'NAME NUMBER', found '000002.jpg -1'"),
        (b"000001.jpg 0\n000002.jpg 99999999999999999999\n", r":2: expected 'NAME NUMBER'"),
        (b"000001.jpg 0\n000001.jpg 1\n", r":2: 000001.jpg is listed twice with different values"),
        (b"image_id,partition\n000001.jpg,0\n000002.jpg\n", r":3: expected 'NAME NUMBER'"),
        (b"\xff\xfe\x00", r"not readable as text"),
        (b"caf\xe9.jpg x\n", r":1: expected 'NAME NUMBER', found 'caf%E9.jpg x'"),
    ],
)
def test_wrong_lines_of_a_list_are_named(content: bytes, says: str) -> None:
    with pytest.raises(DataError, match=says):
        parse_numbers(parse_list(content, "list.txt"))


@pytest.mark.parametrize(
    "content",
    [
        b"a.jpg 1\nb.jpg 2\n", b"\xef\xbb\xbfa.jpg 1\r\nb.jpg 2\r\n", b"name;who\na.jpg;1\nb.jpg;2",
        b'image_id,identity\n"a.jpg", 1\n"b.jpg", 2\n', b"a.jpg\t1\n\nb.jpg\t2\n",
        "a.jpg 1\nb.jpg 2\n".encode("utf-16"),
    ],
)  # fmt: skip
def test_lists_in_every_form_are_the_same_list(content: bytes) -> None:
    assert parse_numbers(parse_list(content, "list.txt")) == {"a.jpg": 1, "b.jpg": 2}


def test_bare_names_match_only_where_they_are_unique() -> None:
    assert match_names(["a/1.png", "b/1.png"], {"1.jpg": 5}) == {}
    assert match_names(["1.png"], {"a/1.jpg": 5, "b/1.jpg": 6}) == {}
    assert match_names(["a/1.png"], {"x/1.jpg": 5}) == {"a/1.png": 5}


# --- Walking ----------------------------------------------------------------------------------------------------


def test_links_to_folders_are_followed_without_a_circle(tmp_path: Path, opened: Opener) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    images(root / "a")
    images(outside / "b")
    (root / "link").symlink_to(outside)
    (outside / "back").symlink_to(root)
    (root / "a" / "self").symlink_to(root / "a")
    (root / "again").symlink_to(outside)
    (root / "broken.png").symlink_to(tmp_path / "nowhere.png")
    found = find_files(root)
    assert found.images == sorted([f"a/{i}" for i in IDS] + [f"again/b/{i}" for i in IDS])
    left = {x.path: x.reason for x in found.left_out}
    assert set(left) == {"link", "again/back", "a/self", "broken.png"}
    assert left["broken.png"] == "a broken link"
    assert "read already" in left["link"]
    data = opened(root)
    assert len(data.train) + len(data.validation) + len(data.test) == 2 * COUNT
    assert any("left out: a/self" in note for note in data.notes)


@pytest.mark.parametrize(
    "hidden",
    [
        ".ipynb_checkpoints/1.png",
        ".thumbnails/deep/1.png",
        "@eaDir/1.png",
        "._000001.png",
        "a/__MACOSX/1.png",
        "#recycle/1.png",
    ],
)
@pytest.mark.parametrize("as_zip", [False, True])
def test_hidden_parts_are_left_out_and_named(
    tmp_path: Path, opened: Opener, hidden: str, as_zip: bool
) -> None:
    root = images(tmp_path / "root")
    (root / hidden).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(root / IDS[0], root / hidden)
    data = opened(zipped(root, tmp_path / "root.zip") if as_zip else root)
    assert sorted([*data.train.ids, *data.validation.ids, *data.test.ids]) == IDS
    assert any("left out" in note and hidden.split("/")[0] in note for note in data.notes)


def test_unreadable_folders_and_odd_files_are_named(tmp_path: Path) -> None:
    root = images(tmp_path / "root")
    os.mkfifo(root / "pipe.png")
    (root / "folder.jpg").mkdir()
    found = find_files(root)
    assert found.images == IDS
    assert [(x.path, x.reason) for x in found.left_out] == [("pipe.png", "not a regular file")]


def test_a_zip_is_sorted_out_by_the_same_rules(tmp_path: Path) -> None:
    root = images(tmp_path / "root" / "a" / "b")
    (root / "notes.txt").write_text("x")
    (root / ".hidden.png").write_bytes(b"x")
    zipped(tmp_path / "root", tmp_path / "x.zip")
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        in_zip = find_zip_members(archive.namelist())
    in_folder = find_files(tmp_path / "root")
    assert (in_zip.images, in_zip.others) == (in_folder.images, in_folder.others)
    assert [x.path for x in in_zip.left_out] == [x.path for x in in_folder.left_out]


@pytest.mark.parametrize("depth", ["only", "only/one/folder"])
def test_ids_begin_where_there_is_more_than_one_folder(tmp_path: Path, opened: Opener, depth: str) -> None:
    images(tmp_path / "root" / depth / "x")
    images(tmp_path / "root" / depth / "y")
    data = opened(tmp_path / "root")
    assert {i.split("/")[0] for i in data.train.ids} == {"x", "y"}
    assert data.name == "root"


# --- Names that are not UTF-8 -----------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
@pytest.mark.parametrize(
    "raw", [b"caf\xe9.png", b"\x83\x65\x83\x58\x83\x67.png", b"100%\xff.png", b"\xe9/deep.png"]
)
def test_names_that_are_not_utf8_become_names_that_every_file_can_hold(
    tmp_path: Path, opened: Opener, raw: bytes
) -> None:
    root = images(tmp_path / "root")
    path = Path(os.fsdecode(bytes(root) + b"/" + raw))
    path.parent.mkdir(exist_ok=True)
    shutil.copy(root / IDS[0], path)
    data = opened(root)
    ids = [*data.train.ids, *data.validation.ids, *data.test.ids]
    assert len(ids) == COUNT + 1
    (odd,) = set(ids) - set(IDS)
    odd.encode("utf-8")
    assert "%" in odd
    assert any("not UTF-8" in note and odd in note for note in data.notes)


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
def test_a_folder_whose_name_is_not_utf8(tmp_path: Path, opened: Opener) -> None:
    root = images(Path(os.fsdecode(bytes(tmp_path) + b"/bilder-\xfc")))
    data = opened(root)
    assert (data.name, data.title) == ("bilder-%FC", "Folder bilder-%FC")
    assert opened(tmp_path / "bilder-%FC").fingerprint == data.fingerprint  # as it is called in files


# --- A source is one class ----------------------------------------------------------------------------------------


def test_a_data_source_is_one_class(tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a new file of bench/data/sources does, and what then follows without another edit."""

    class Moons(DataSource):
        name = "moons"
        title = "Moons of a test"
        license = "Free."
        published_split = "every third image"
        order = 1
        aligned_faces = True

        def select(self, tree: FileTree) -> dict[str, str] | None:
            """Take folders named moons."""
            return {Path(p).name: p for p in tree.files.images} if "moons" in tree.folder_names else None

        def partition(self, tree: FileTree, paths: object) -> dict[str, int]:
            """Split by number."""
            return {i: (0, 1, 2)[k % 3] for k, i in enumerate(paths)}  # type: ignore[arg-type, var-annotated]

    data_sources.cache_clear()
    try:
        data = opened(images(tmp_path / "moons"))
        assert (data.name, data.title, data.license, data.split_name) == (
            "moons",
            "Moons of a test",
            "Free.",
            "official",
        )
        assert data.aligned_faces
        assert [len(s) for s in (data.train, data.validation, data.test)] == [8, 8, 8]
        assert not data.kind.claims_dataset
    finally:
        Moons.__abstractmethods__ = frozenset({"select"})  # out of the registry
        data_sources.cache_clear()
    assert find_source(tmp_path / "moons").kind.name == "folder"


def test_every_source_says_whose_it_is_and_how_it_is_recognized() -> None:
    kinds = data_sources()
    assert len({k.name for k in kinds}) == len(kinds)
    assert kinds[-1].name == "folder"
    for kind in kinds:
        assert kind.title
        assert kind.license
        assert kind.layout
        if kind.name not in ("faces", "folder"):
            assert kind.homepage.startswith("https://")
    assert [k.name for k in kinds if k.claims_dataset] == ["celeba"]


# --- The data sets that protocols name, on small replicas of their layouts ------------------------------------------


def some(root: Path, names: list[str]) -> Path:
    for k, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(FACES[k % COUNT]).save(root / name, "PNG")
    return root


HQ_MAPPING = "idx orig_idx orig_file\n" + "".join(f"{k} {100 + k} {i}\n" for k, i in enumerate(IDS))


@pytest.mark.parametrize(
    "folder",
    ["CelebAMask-HQ/CelebA-HQ-img/{}.jpg", "celeba_hq_256/{:05d}.jpg", "data256x256/{:05d}.png", "{}.jpg"],
)
def test_celeba_hq_is_divided_as_celeba_through_its_mapping(
    tmp_path: Path, opened: Opener, folder: str
) -> None:
    first = int(folder.startswith("data256"))  # that copy counts from 1
    root = some(tmp_path / "data", [folder.format(k + first) for k in range(COUNT)])
    (root / "CelebA-HQ-to-CelebA-mapping.txt").write_text(HQ_MAPPING)
    text_lists(root)
    data = opened(root)
    assert (data.name, data.split_name, data.aligned_faces) == ("celeba-hq", "official", True)
    expected = [f"{k:05d}.jpg" for k, i in enumerate(IDS) if PART[i] == 2]
    assert data.test.ids == expected
    assert data.test.identities is not None
    assert data.test.identities.tolist() == [WHO[IDS[int(i[:5])]] for i in expected]


def test_celeba_hq_as_lamas_script_divides_it(tmp_path: Path, opened: Opener) -> None:
    parts = ["train_source_256"] * 16 + ["val_source_256"] * 4 + ["visual_test_source_256"] * 4
    root = some(tmp_path / "celeba-hq-dataset", [f"{part}/{k}.jpg" for k, part in enumerate(parts)])
    data = opened(root)
    assert (data.name, data.split_name) == ("celeba-hq", "official")
    assert [len(s) for s in (data.train, data.validation, data.test)] == [16, 4, 4]


@pytest.mark.parametrize(
    "layout", ["images1024x1024/{0:02d}000/{1}.png", "images1024x1024/{1}.png", "{1}.png"]
)
def test_ffhq_is_divided_by_number(tmp_path: Path, opened: Opener, layout: str) -> None:
    numbers = [*range(0, 400), *range(60_000, 60_010)]
    root = some(tmp_path / "ffhq", [layout.format(k // 1000, f"{k:05d}") for k in numbers])
    some(root, ["thumbnails128x128/00000.png"])
    data = opened(root)
    assert (data.name, data.split_name, data.aligned_faces) == ("ffhq", "official", True)
    assert data.test.ids == [f"{k:05d}.png" for k in range(60_000, 60_010)]
    share = hold_out_validation({f"{k:05d}.png": 0 for k in range(10_000)}, "ffhq").values()
    assert abs(sum(share) / 10_000 - 0.02) < 4 * np.sqrt(0.02 * 0.98 / 10_000)
    assert 1 <= len(data.validation) <= 16
    assert len(data.train) + len(data.validation) == 400
    assert not data.license.startswith("Your own")


def test_places2_tests_on_the_published_validation_images(tmp_path: Path, opened: Opener) -> None:
    training = [f"data_256/a/abbey/{k:08d}.jpg" for k in range(300)]
    validation = [f"val_256/Places365_val_{k:08d}.jpg" for k in range(1, 13)]
    root = some(tmp_path / "places", [*training, *validation, "test_256/Places365_test_00000001.jpg"])
    data = opened(root)
    assert (data.name, data.split_name, data.aligned_faces) == ("places2", "official", False)
    assert data.test.ids == [Path(v).name for v in validation]
    assert 1 <= len(data.validation) <= 14
    assert all(i.startswith("a/abbey/") for i in data.train.ids)


def test_paris_street_view_leaves_out_the_corrupted_copies(tmp_path: Path, opened: Opener) -> None:
    training = [f"paris_train_original/{k}.JPG" for k in range(200)]
    truth = [f"paris_eval/paris_eval_gt/{k:03d}_im.png" for k in range(10)]
    root = some(tmp_path / "paris", [*training, *truth, "paris_eval/paris_eval_corrupted/000_im.png"])
    data = opened(root)
    assert (data.name, data.split_name) == ("paris-street-view", "official")
    assert data.test.ids == [f"test/{k:03d}_im.png" for k in range(10)]


@pytest.mark.parametrize(("size", "crop"), [(256, "center"), (256, "resize"), (512, "resize")])
def test_large_images_are_opened_at_256_and_512(tmp_path: Path, opened: Opener, size: int, crop: str) -> None:
    root = tmp_path / "ffhq" / "images1024x1024"
    root.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 255, (8, 600, 600, 3), dtype=np.uint8)
    for k, number in enumerate((0, 1, 2, 3, 4, 5, 60_000, 60_001)):
        Image.fromarray(noise[k]).save(root / f"{number:05d}.png")
    data = opened(tmp_path / "ffhq", size=size, crop=crop)
    assert data.test.pixels.shape == (2, size, size, 3)
    expected = Image.fromarray(noise[6]).resize((size, size), Image.Resampling.BICUBIC)
    assert np.array_equal(
        data.test.pixels[0], np.asarray(expected)
    )  # the whole square: it is aligned already


def test_celeba_ends_at_178_pixels(tmp_path: Path, opened: Opener) -> None:
    root = kaggle(tmp_path / "c")
    with pytest.raises(
        DataError, match=r"--size 170: the center crop has 160 x 160.*--crop resize \(up to 178\)"
    ):
        opened(root, size=170)
    with pytest.raises(DataError, match="hold no square above 178 pixels"):
        opened(root, size=256, crop="resize")


def test_two_lists_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    """As where a list was changed and its other form was not."""
    root = images(tmp_path / "celeba" / "img_align_celeba").parent
    text_lists(root)
    csv_lists(root)
    assert find_source(root).partition == PART
    path = root / "list_eval_partition.txt"
    path.write_text(path.read_text().replace("000005.jpg 2", "000005.jpg 0"))
    with pytest.raises(
        DataError, match=r"partition\.txt:5: says 0 of 000005\.jpg, and .*\.csv says 2; remove one"
    ):
        find_source(root)


def test_pictures_that_are_seen_and_not_used_are_said(tmp_path: Path, opened: Opener) -> None:
    root = images(tmp_path / "celeba" / "img_align_celeba").parent
    images(root / "img_align_celeba_png", ".png")
    text_lists(root)
    (note,) = opened(root).notes
    assert note == f"{COUNT} pictures are not used: img_align_celeba_png/000001.png and so on"


def test_celeba_without_its_published_split_says_so(tmp_path: Path, opened: Opener) -> None:
    root = images(tmp_path / "celeba" / "img_align_celeba").parent
    data = opened(root)
    assert (data.name, data.split_name) == ("celeba", "digest")
    (note,) = data.notes
    assert "no list_eval_partition.txt or .csv was found" in note
    assert opened(root, split="digest").notes == []  # asked for
    assert opened(images(tmp_path / "mine")).notes == []  # no data set with a published split


@pytest.mark.parametrize(
    "inner", ["", "Img", "Img/img_align_celeba", "packed", "Img packed", "Img/img_align_celeba.zip"]
)
def test_the_official_download_is_whole_from_any_of_its_folders(
    tmp_path: Path, opened: Opener, inner: str
) -> None:
    root = tmp_path / "CelebA"
    folder = images(root / "Img" / "img_align_celeba")
    if "packed" in inner or inner.endswith(".zip"):
        zipped(folder, root / "Img" / "img_align_celeba.zip", "img_align_celeba/")
        shutil.rmtree(folder)
        inner = inner.removesuffix("packed").strip()
    text_lists(root / "lists")
    for part, name in (("Eval", "list_eval_partition.txt"), ("Anno", "identity_CelebA.txt")):
        (root / part).mkdir()
        (root / "lists" / name).rename(root / part / name)
    data = opened(root / inner)
    assert data.split_name == "official"
    assert data.shared_identities is not None
    assert data.test.ids == [i for i in IDS if PART[i] == 2]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_byte_order_mark_more_loses_no_name(encoding: str) -> None:
    """Programs that write one before another's."""
    text = "\ufeff" + "".join(f"{k} {v}\n" for k, v in PART.items())
    assert parse_numbers(parse_list(text.encode(encoding), "list.txt")) == PART


def test_lines_are_those_of_an_editor() -> None:
    """Characters that end a line for Python alone may stand in names."""
    names = ["a\x0bb.png", "c\u2028d.png", "e\x85f.png", "g\x1ch.png"]
    listed = parse_list("".join(f"{name},1\r\n" for name in names).encode(), "list.csv")
    assert list(listed.rows) == names
    with pytest.raises(DataError, match=r"list\.csv:5: expected"):
        parse_list("".join(f"{name},1\n" for name in [*names, "x,y"]).encode(), "list.csv")


def test_several_zips_in_a_folder_are_named(tmp_path: Path) -> None:
    images(tmp_path / "some" / "pictures")
    (tmp_path / "zips").mkdir()
    for name in ("a.zip", "b.zip"):
        zipped(tmp_path / "some", tmp_path / "zips" / name)
    with pytest.raises(DataError, match=r"it holds zips, of which --data takes one: a\.zip, b\.zip"):
        find_source(tmp_path / "zips")


# --- Attempts of a reviewer: links, cases, neighbors, archives, lists that mislead ----------------------------------


def celeba_of_every_case(root: Path) -> Path:
    images(root / "Img_Align_CelebA", ".JPG")
    text_lists(root)
    for path in root.glob("*.txt"):
        path.rename(path.with_name(path.name.upper()))
    return root


def lists_of_another_case_around(root: Path) -> Path:
    images(root / "IMG" / "img_align_celeba")
    text_lists(root / "ANNO")
    for path in (root / "ANNO").iterdir():
        path.rename(path.with_name(path.name.lower()))
    return root / "IMG" / "img_align_celeba"


def a_link_to_the_images(root: Path) -> Path:
    images(root / "disk" / "abc")
    text_lists(root / "data")
    (root / "data" / "img_align_celeba").symlink_to(root / "disk" / "abc")
    return root / "data" / "img_align_celeba"


def a_link_to_a_zip(root: Path) -> Path:
    images(root / "made")
    (root / "store").mkdir()
    zipped(root / "made", root / "store" / "blob-17")
    text_lists(root / "data")
    (root / "data" / "img_align_celeba.zip").symlink_to(root / "store" / "blob-17")
    return root / "data" / "img_align_celeba.zip"


def below_a_project_called_after_celeba_hq(root: Path) -> Path:
    return kaggle(root / "celeba-hq-and-celeba")


def pictures_below_a_project_called_after_celeba_hq(root: Path) -> Path:
    images(root / "celebahq_project" / "img_align_celeba")
    text_lists(root / "celebahq_project")
    return root / "celebahq_project" / "img_align_celeba"


def beside_the_images_in_the_wild(root: Path) -> Path:
    images(root / "img_celeba")
    return torchvision(root)


def whole_beside_a_broken_zip(root: Path) -> Path:
    (root / "img_align_celeba.zip").write_bytes(b"PK\x03\x04 cut short")
    return torchvision(root)


def around_a_list_folder_that_is_a_circle(root: Path) -> Path:
    images(root / "img_align_celeba")
    text_lists(root)
    (root / "Eval").symlink_to(root)
    return root / "img_align_celeba"


@pytest.mark.parametrize(
    "make",
    [
        celeba_of_every_case, lists_of_another_case_around, a_link_to_the_images, a_link_to_a_zip,
        below_a_project_called_after_celeba_hq, pictures_below_a_project_called_after_celeba_hq,
        beside_the_images_in_the_wild, whole_beside_a_broken_zip, around_a_list_folder_that_is_a_circle,
    ],
    ids=lambda make: make.__name__,
)  # fmt: skip
def test_neighbors_links_and_cases_do_not_hide_celeba(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    (tmp_path / "there").mkdir()
    source = find_source(make(tmp_path / "there"))
    assert (source.name, source.ids) == ("celeba", IDS)
    assert source.partition == PART
    assert source.identities == WHO


@pytest.mark.parametrize("inner", ["", "img_celeba"])
def test_celeba_before_its_alignment_is_another_data_set(tmp_path: Path, inner: str) -> None:
    images(tmp_path / "Img" / "img_celeba")
    text_lists(tmp_path / "Img")
    source = find_source(tmp_path / "Img" / inner)
    assert (source.name, source.kind.claims_dataset, source.kind.aligned_faces) == (
        "celeba-in-the-wild",
        False,
        False,
    )
    assert "non-commercial" in source.kind.license
    assert source.partition == PART


@pytest.mark.parametrize(("kept", "lacks"), [(COUNT, 0), (COUNT - 4, 4), (1, COUNT - 1)])
def test_a_folder_unpacked_in_part_names_the_whole_zip_beside_it(
    tmp_path: Path, kept: int, lacks: int
) -> None:
    folder = images(tmp_path / "img_align_celeba")
    zipped(folder, tmp_path / "img_align_celeba.zip", "img_align_celeba/")
    for name in IDS[kept:]:
        (folder / name).unlink()
    source = find_source(tmp_path)
    assert source.ids == IDS[:kept]
    assert [f"holds {lacks} pictures that the folder beside it lacks" in note for note in source.notes] == [
        True
    ] * bool(lacks)


@pytest.mark.parametrize("name", ["archive.zip", "faces.tar.gz", "img_align_celeba_png.7z.001", "x.RAR"])
@pytest.mark.parametrize("as_folder", [True, False])
def test_archives_that_are_not_looked_into_are_named_with_what_to_do(
    tmp_path: Path, name: str, as_folder: bool
) -> None:
    images(tmp_path / "made")
    (tmp_path / "there").mkdir()
    path = tmp_path / "there" / name
    if name.endswith(".zip"):  # a zip in a zip
        (tmp_path / "outer").mkdir()
        zipped(tmp_path / "made", tmp_path / "outer" / "inner.zip")
        zipped(tmp_path / "outer", path)
    else:
        path.write_bytes(b"7z or tar")
    with pytest.raises(DataError, match="unpack") as raised:
        find_source(path.parent if as_folder else path)
    assert "get it again" not in str(raised.value)
    assert ("inner.zip" if name.endswith(".zip") else name) in str(raised.value)


def _flag(path: Path, member: bytes, *, encrypted: bool) -> None:
    """Mark a member as encrypted, or as compressed by a method that nothing here reads, in both of its headers."""
    content = bytearray(path.read_bytes())
    local, central = content.find(member), content.rfind(member)
    for position, length in ((local, 30), (central, 46)):
        flags, method = (
            position - length + (6 if length == 30 else 8),
            position - length + (8 if length == 30 else 10),
        )
        if encrypted:
            content[flags] |= 1
        else:
            content[method] = 9
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["list_eval_partition.csv", "identity_CelebA.csv", "list_attr_celeba.csv"])
@pytest.mark.parametrize("damage", ["checksum", "encrypted", "method", "large"])
def test_a_list_that_cannot_be_read_is_one_line(tmp_path: Path, name: str, damage: str) -> None:
    root = kaggle(tmp_path / "there")
    path = root / name
    if damage == "large":
        os.truncate(path, 65 << 20)
    else:
        path = zipped(root, tmp_path / "archive.zip")
        if damage == "checksum":
            content = path.read_bytes()
            path.write_bytes(content.replace((root / name).read_bytes(), (root / name).read_bytes().upper()))
        else:
            _flag(path, name.encode(), encrypted=damage == "encrypted")
        root = path
    with pytest.raises(DataError, match=rf"{name}: not readable \(.*\); get it again, or remove it"):
        find_source(root)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ("image_id,Male\n{0},True\n{1},False", ":2: an attribute is 1, or -1 or 0; found 'True'"),
        ("image_id,Male\n{0},1\n{1},1.0", ":3: an attribute is 1, or -1 or 0; found '1.0'"),
        ("{0},1\n{1},-1", "no line of column names"),
        ("image_id,Male,Male\n{0},1,-1", "two columns are called Male"),
        ("image_id,Male,image_id\n{0},1,-1", "a column of values is called image_id"),
        ("image_id,Male\nx{0},1\nx{1},1", "names none of the 24 images"),
    ],
)
def test_a_list_of_attributes_that_would_be_misread_is_refused(tmp_path: Path, lines: str, says: str) -> None:
    root = kaggle(tmp_path / "there")
    (root / "list_attr_celeba.csv").write_text(lines.format(*IDS))
    with pytest.raises(DataError, match="list_attr_celeba") as raised:
        find_source(root)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("x.png", "x.png"), ("x", "x"), (".x", ".x"), ("x.png", "y.png"), ("x.png", "n" * 300),
        ("x.png", f"{IDS[0]}/inside"), ("list_eval_partition.txt", "nowhere.txt"), ("x.png", "/dev/zero"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("below", ["", "sub"])
def test_one_entry_that_is_no_file_costs_none_of_its_neighbors(
    tmp_path: Path, name: str, target: str, below: str
) -> None:
    """Links to themselves, in a circle, through a file, of names too long, to devices."""
    root = images(tmp_path / "root")
    folder = root / below
    folder.mkdir(exist_ok=True)
    (folder / name).symlink_to(target)
    if target == "y.png":
        (folder / target).symlink_to(name)
    shutil.copy(root / IDS[0], folder / "zz.png")
    found = find_files(root)
    assert set(found.images) == {*IDS, f"{below}/zz.png".lstrip("/")}
    assert f"{below}/{name}".lstrip("/") in {x.path for x in found.left_out}
    if target == "/dev/zero":
        assert found.left_out[0].reason == "not a regular file"


@pytest.mark.parametrize("name", ["x" * 251, "é" * 125, "漢" * 83, "a [b] (c)*"])
def test_a_folder_may_have_any_name_that_a_file_system_allows(
    tmp_path: Path, opened: Opener, name: str
) -> None:
    data = opened(images(tmp_path / name))
    assert data.name == name
    assert opened(tmp_path / name).fingerprint == data.fingerprint


@pytest.mark.parametrize("how", ["vanished", "locked"])
def test_a_picture_that_cannot_be_asked_for_its_size_is_skipped(
    tmp_path: Path, opened: Opener, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between listing and reading, or in a folder that may be listed and not entered."""
    root = images(tmp_path / "root")
    before, stat = find_source(root).file_signature(), Path.stat

    def fail(path: Path, **words: bool) -> os.stat_result:
        if path.name == IDS[3]:
            raise FileNotFoundError if how == "vanished" else PermissionError
        return stat(path, **words)

    monkeypatch.setattr(Path, "stat", fail)
    assert find_source(root).file_signature() != before
    data = opened(root, allow_unreadable=True)
    assert [s.id for s in data.skipped] == [IDS[3]]


@pytest.mark.skipif(not hasattr(os, "fork") or os.getuid() != 0, reason="needs root, to become somebody else")
def test_folders_that_may_not_be_entered_cost_nothing_else(tmp_path: Path) -> None:
    """As a user who is not root: links into a locked folder, lists beside locked ones."""
    place = Path(tempfile.mkdtemp())  # tmp_path itself lies in a folder of root's alone
    images(place / "img_align_celeba")
    (place / "Anno").mkdir()
    (place / "locked").mkdir()
    shutil.copy(place / "img_align_celeba" / IDS[0], place / "locked" / "x.png")
    text_lists(place / "Eval")
    (place / "img_align_celeba" / "x.png").symlink_to(place / "locked" / "x.png")
    for name, mode in (("", 0o755), ("img_align_celeba", 0o755), ("locked", 0o700), ("Anno", 0o744)):
        (place / name).chmod(mode)
    (place / "Anno" / "identity_CelebA.txt").write_text("in a folder that may be listed and not entered")
    child = os.fork()
    if not child:
        _leave_as_nobody(place / "img_align_celeba")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    shutil.rmtree(place)


def _leave_as_nobody(place: Path) -> None:
    code = 1
    try:
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        source = find_source(place)
        left = [(x.path, x.reason) for x in find_files(place).left_out]
        code = int(source.partition != PART or source.ids != IDS or left != [("x.png", "Permission denied")])
    finally:
        os._exit(code)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("list_eval_partition (1).txt", "rename it, as list_eval_partition.txt"),
        ("list_eval_partition.txt.txt", "rename it, as list_eval_partition.txt"),
        ("List_Eval_Partition.csv.zip", "unpack it, as list_eval_partition.txt"),
        ("list_eval_partition.tar.gz", "unpack it, as list_eval_partition.txt"),
    ],
)
@pytest.mark.parametrize("zip_too", [False, True])
def test_a_list_of_another_name_is_seen_and_said(tmp_path: Path, name: str, says: str, zip_too: bool) -> None:
    folder = images(tmp_path / "img_align_celeba")
    if zip_too:
        zipped(folder, tmp_path / "img_align_celeba.zip")
        shutil.rmtree(folder)
    (tmp_path / name).write_text("".join(f"{k} {v}\n" for k, v in PART.items()))
    source = find_source(tmp_path)
    assert source.partition == {}
    (note,) = source.notes
    assert note.startswith(f"{name} is not read: to use it, {says}")
    text_lists(tmp_path)
    assert find_source(tmp_path).notes == []


# --- What a third reviewer tried --------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("link", "target", "reason"),
    [
        ("copy.jpg", IDS[0], None),
        ("sub/copy.jpg", f"../{IDS[0]}", None),
        ("chain.jpg", "sub/copy.jpg", None),
        ("more", "sub", "read already"),
        ("gone.jpg", "nothing.jpg", "broken link"),
        ("out.jpg", "../../etc/out.jpg", "leads out of the zip"),
        ("root.jpg", "/etc/root.jpg", "leads out of the zip"),
        ("circle.jpg", "circle.jpg", "broken link"),
        ("identity_CelebA.txt", "lists/who.txt", None),
    ],
)
def test_links_in_a_zip_are_followed_or_named_as_in_a_folder(
    tmp_path: Path, opened: Opener, link: str, target: str, reason: str | None
) -> None:
    root = images(tmp_path / "root")
    shutil.copytree(root, root / "sub")
    (root / "lists").mkdir()
    (root / "lists" / "who.txt").write_text("".join(f"{k} {v}\n" for k, v in WHO.items()))
    (root / "sub" / "copy.jpg").symlink_to(f"../{IDS[0]}")
    if not (root / link).is_symlink():
        (root / link).symlink_to(target)
    archive = linked_zip(root, tmp_path / "root.zip")
    data, from_zip = find_source(root), find_source(archive)
    assert from_zip.ids == data.ids
    assert from_zip.identities == data.identities
    named = [note for note in from_zip.notes if "left out" in note and f"{link} (" in note]
    assert bool(named) == (reason is not None)
    assert reason is None or reason in named[0]
    assert opened(archive).fingerprint == opened(root).fingerprint


#: Names as programs write them into a zip without saying what their bytes are.
RAW_NAMES = {
    "UTF-8": "été.png".encode(),
    "Latin-1": b"caf\xe9.png",
    "Shift-JIS": "写真.png".encode("shift_jis"),
    # Its second byte is a backslash.
    "Shift-JIS with a backslash": "表.png".encode("shift_jis"),
    "a folder": "写真".encode("shift_jis") + b"/1.png",
}


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


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX only")
@pytest.mark.parametrize("kind", RAW_NAMES)
def test_a_zip_that_does_not_say_what_its_names_are_has_the_ids_of_its_folder(
    tmp_path: Path, kind: str
) -> None:
    root, name = images(tmp_path / "root"), RAW_NAMES[kind]
    path = Path(os.fsdecode(bytes(root) + b"/" + name))
    path.parent.mkdir(exist_ok=True)
    shutil.copy(root / IDS[0], path)
    who = b"".join(b"%s %d\n" % (n, i) for i, n in enumerate([name, *(i.encode() for i in IDS)]))
    (root / "identity_CelebA.txt").write_bytes(who)
    files = {os.fsencode(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    folder, archive = find_source(root), find_source(unmarked_zip(tmp_path / "root.zip", files))
    assert archive.ids == folder.ids
    assert archive.identities == folder.identities
    assert len(archive.identities) == COUNT + 1
    assert [n for n in archive.notes if "UTF-8" in n] == [n for n in folder.notes if "UTF-8" in n]


def test_a_zip_of_windows_keeps_the_names_that_unpacking_it_gives(tmp_path: Path) -> None:
    """DOS names are in the PC's own encoding, unless Info-ZIP's extra field or their being UTF-8 says otherwise."""
    content = images(tmp_path / "root").joinpath(IDS[0]).read_bytes()
    dos = unmarked_zip(tmp_path / "dos.zip", {"é.png".encode("cp437"): content}, system=0)
    assert find_source(dos).ids == ["é.png"]
    field = struct.pack("<HHBI", 0x7075, 5 + len("日.png".encode()), 1, 0) + "日.png".encode()
    told = unmarked_zip(tmp_path / "told.zip", {b"\xfa.png": content}, system=0, extra=field)
    assert find_source(told).ids == ["日.png"]


@pytest.mark.parametrize(
    "litter",
    ["@Recycle", "@Recently-Snapshot", "@tmp", "~snapshot", "RECYCLER", "lost+found", "Temporary Items"],
)
@pytest.mark.parametrize("as_zip", [False, True])
def test_what_file_servers_keep_beside_images_is_left_out(tmp_path: Path, litter: str, as_zip: bool) -> None:
    root = images(tmp_path / "root" / "images").parent
    (root / litter / "images").mkdir(parents=True)
    shutil.copy(root / "images" / IDS[0], root / litter / "images" / "deleted.jpg")
    found = find_source(zipped(root, tmp_path / "root.zip") if as_zip else root)
    assert [Path(i).name for i in found.ids] == IDS
    assert any("left out" in note and litter in note for note in found.notes)


@pytest.mark.parametrize(
    "name", ["archive.zip", "img_align_celeba (1).zip", "CelebA-20240101T000000Z-001.zip"]
)
@pytest.mark.parametrize("there", ["half of the images", "a stray picture"])
def test_a_download_under_any_name_is_not_hidden_by_what_lies_beside_it(
    tmp_path: Path, name: str, there: str
) -> None:
    whole = kaggle(tmp_path / "whole")
    root = tmp_path / "root"
    root.mkdir()
    zipped(whole, root / name)
    if there == "a stray picture":
        shutil.copy(whole / "img_align_celeba" / "img_align_celeba" / IDS[0], root / "sample.jpg")
    else:
        images(root / "img_align_celeba")
        for image in IDS[::2]:
            (root / "img_align_celeba" / image).unlink()
    notes = find_source(root).notes
    lacks = COUNT if there == "a stray picture" else COUNT // 2
    assert any(f"{name} is not used, and holds {lacks} pictures" in note for note in notes), notes


def test_a_zip_of_what_is_there_already_is_passed_over(tmp_path: Path) -> None:
    root = images(tmp_path / "root")
    zipped(root, tmp_path / "copy.zip", "root/")
    shutil.move(tmp_path / "copy.zip", root / "copy.zip")
    assert find_source(root).notes == []


#: Pictures and archives that are not read.
OTHER_FORMATS = ["b.jfif", "b.heic", "b.avif", "b.JXL", "b.npy", "b", "sub/b.tga", "more.zip", "more.7z"]


@pytest.mark.parametrize("other", OTHER_FORMATS)
@pytest.mark.parametrize("place", ["folder", "zip", "lone zip", "celeba's folder", "celeba's zip"])
def test_pictures_of_other_formats_are_named_and_change_no_id(tmp_path: Path, other: str, place: str) -> None:
    """``more.zip`` holds another picture, so that beside a folder it is named for that."""
    root = tmp_path / "root" / ("img_align_celeba" if "celeba" in place else "faces")
    images(root)

    def placed(name: str) -> FoundImages:
        where = root
        if "zip" in place:
            where = tmp_path / name / {"celeba's zip": "img_align_celeba.zip"}.get(place, "faces.zip")
            where.parent.mkdir()
            zipped(root, where)
        return find_source(where.parent if place in ("lone zip", "celeba's zip") else where)

    before = placed("before")
    assert not [note for note in before.notes if "not read" in note]
    (root / other).parent.mkdir(exist_ok=True)
    if other == "more.zip":
        some(tmp_path / "other", ["other.jpg"])
        zipped(tmp_path / "other", root / other)
    else:
        shutil.copy(root / IDS[0], root / other)
    for document in ("README.md", "Thumbs.db", "labels.json"):
        (root / document).write_text("x")
    after = placed("after")
    assert (after.ids, after.partition) == (before.ids, before.partition)
    (note,) = [note for note in after.notes if other in note]
    beside = other == "more.zip" and "zip" not in place
    assert ("not used, and holds 1 pictures" if beside else "not read, since they are none of JPEG") in note
    assert not [note for note in after.notes if "README" in note or "Thumbs" in note or "labels" in note]


@pytest.mark.parametrize("other", ["b.heic", "._b.png", "b.png", "b.zip"])
def test_what_lies_beside_a_zip_that_is_taken_is_named(tmp_path: Path, other: str) -> None:
    folder = images(tmp_path / "img_align_celeba")
    zipped(folder, tmp_path / "root.zip")
    (tmp_path / "root").mkdir()
    shutil.move(tmp_path / "root.zip", tmp_path / "root" / "img_align_celeba.zip")
    assert not [note for note in find_source(tmp_path / "root").notes if "beside" in note]
    shutil.copy(folder / IDS[0], tmp_path / "root" / other)
    found = find_source(tmp_path / "root")
    assert found.ids == IDS
    (note,) = [note for note in found.notes if "beside img_align_celeba.zip" in note]
    assert other in note


@pytest.mark.parametrize("as_zip", [False, True])
def test_a_place_without_pictures_names_what_it_holds(tmp_path: Path, as_zip: bool) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for name in ("a.heic", "b.jfif", "._c.png", "list.txt"):
        (root / name).write_bytes(b"x")
    place = zipped(root, tmp_path / "root.zip") if as_zip else root
    with pytest.raises(DataError, match=r"left out: \._c\.png \(hidden\); not read, .*: a\.heic, b\.jfif$"):
        find_source(place)


def test_too_few_pictures_are_refused_with_what_was_not_read(tmp_path: Path, opened: Opener) -> None:
    root = some(tmp_path / "few", ["a.jpg"])
    shutil.copy(root / "a.jpg", root / "b.heic")
    with pytest.raises(DataError, match=r"split is empty \(1 pictures\); not read, .*b\.heic"):
        opened(root)


@pytest.mark.parametrize("project", ["celebahq", "celeba-hq", "CelebA_HQ_256"])
@pytest.mark.parametrize("inner", ["", "images"])
def test_celeba_in_a_project_called_after_celeba_hq_is_known_by_its_own_list(
    tmp_path: Path, opened: Opener, project: str, inner: str
) -> None:
    root = tmp_path / project / "celeba"
    images(root / inner)
    text_lists(root)
    assert find_source(root).kind.name == "celeba"
    assert opened(root).split_name == "official"
    # With the mapping beside it, or under its own name, it stays what it is.
    assert find_source(some(tmp_path / project / "copy", ["00001.jpg", "00002.jpg"])).kind.name == "celeba-hq"


@pytest.mark.parametrize(
    ("header", "row", "says"),
    [
        ("image_id,partition,identity", "{0},{1},{2}", None),
        ("image_id,identity,partition", "{0},{2},{1}", None),
        ("image_id,split,person", "{0},{1},{2}", None),
        ("image_id,a,b", "{0},{1},{2}", ":1: has the columns a, b, of which none is 'partition' or 'split'"),
        ("image_id,split,partition", "{0},{1},{1}", "several is 'partition' or 'split'"),
    ],
)
def test_of_several_columns_the_one_that_is_meant_is_read(
    tmp_path: Path, header: str, row: str, says: str | None
) -> None:
    images(tmp_path / "root" / "img_align_celeba")
    text = "\n".join([header, *(row.format(i, PART[i], WHO[i]) for i in IDS)])
    for name in ("list_eval_partition.csv", "identity_CelebA.csv"):
        (tmp_path / "root" / name).write_text(text)
    if says is None:
        found = find_source(tmp_path / "root")
        assert (found.partition, found.identities) == (PART, WHO)
    else:
        with pytest.raises(DataError, match=says):
            find_source(tmp_path / "root")


@pytest.mark.parametrize("named", ["img_align_celeba", "celeba"])
@pytest.mark.parametrize("parts", [("train", "val", "test"), ("Training", "Testing")])
def test_folders_that_look_like_a_split_are_said_not_to_be_one(
    tmp_path: Path, named: str, parts: tuple[str, ...]
) -> None:
    for number, part in enumerate(parts):
        folder = images(tmp_path / "root" / named / part)
        for image in IDS[: 8 * number] + IDS[8 * number + 8 :]:
            (folder / image).unlink()
    notes = find_source(tmp_path / "root").notes
    assert any("are not taken as a split" in note and all(p in note for p in parts) for note in notes)
    images(tmp_path / "other" / "train")
    assert not any("not taken as a split" in note for note in find_source(tmp_path / "other").notes)


@pytest.mark.parametrize("where", ["", "Eval"])
def test_a_list_beside_a_folder_of_another_name_is_said(tmp_path: Path, where: str) -> None:
    images(tmp_path / "celeba" / "pictures")
    text_lists(tmp_path / "celeba" / where)
    notes = find_source(tmp_path / "celeba" / "pictures").notes
    assert any("list_eval_partition.txt lies beside this folder and is not read" in note for note in notes)
    # A list of other images is nobody's here.
    some(tmp_path / "celeba" / "others", ["a.jpg", "b.jpg"])
    assert not any("lies beside" in note for note in find_source(tmp_path / "celeba" / "others").notes)


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        ((), "identity_CelebA.csv"),
        (("list_eval_partition.csv",), "identity_CelebA.csv"),
        (("identity_CelebA.csv",), "list_eval_partition.csv"),
        (("identity_CelebA.csv", "list_eval_partition.csv"), None),
    ],
)
def test_a_list_that_lies_only_in_a_zip_beside_the_images_is_said(
    tmp_path: Path, beside: tuple[str, ...], said: str | None
) -> None:
    """Images moved out of a download, and the download kept: its lists are seen and not used."""
    whole = kaggle(tmp_path / "whole")
    csv_lists(whole)
    (whole / "list_attr_celeba.csv").unlink()
    root = images(tmp_path / "root" / "img_align_celeba").parent
    zipped(whole, root / "archive.zip")
    for name in beside:
        shutil.copy(whole / name, root / name)
    notes = [note for note in find_source(root).notes if "archive.zip is not read" in note]
    assert [note.split(" in archive.zip")[0] for note in notes] == ([said] if said else [])


# --- What a sixth reviewer tried ----------------------------------------------------------------------------------


def write_list(path: Path, table: dict[str, int], newline: str = "\n") -> Path:
    """Write a list as text or as CSV, as its suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    is_csv = path.suffix == ".csv"
    rows = ["image_id,value"] if is_csv else []
    path.write_text(newline.join([*rows, *(f"{k}{',' if is_csv else ' '}{v}" for k, v in table.items())]))
    return path


#: The published split turned around, and everybody another person.
OTHERWISE = {
    "list_eval_partition": {name: 2 - part for name, part in PART.items()},
    "identity_CelebA": {name: 1000 + i for i, name in enumerate(IDS)},
}


@pytest.mark.parametrize("stem", OTHERWISE)
@pytest.mark.parametrize("given", ["", "Img", "Img/img_align_celeba", "archive.zip"])
@pytest.mark.parametrize(
    "second", ["{stem}.txt", "Eval/{stem}.csv", "Img/{stem}.csv", "Img/img_align_celeba/{stem}.txt"]
)
def test_lists_that_contradict_each_other_are_refused_wherever_they_lie(
    tmp_path: Path, stem: str, given: str, second: str
) -> None:
    """The one in ``Anno`` is right; the other lies among, beside or above the images, or beside or in the zip."""
    root = tmp_path / "CelebA"
    images(root / "Img" / "img_align_celeba")
    first = {"list_eval_partition": PART, "identity_CelebA": WHO}[stem]
    write_list(root / "Anno" / f"{stem}.txt", first)
    other = write_list(root / second.format(stem=stem), OTHERWISE[stem])
    if given == "archive.zip":
        # The images and the lists in them are packed, those beside them stay.
        inside = root / "Img"
        zipped(inside, tmp_path / given, "Img/")
        shutil.rmtree(inside)
        shutil.move(tmp_path / given, root / given)
    says = rf"says \d+ of 000001\.jpg, and .*{stem}\.\w+ says \d+; remove one of the two lists"
    for place in [root / given, root] if given == "archive.zip" else [root / given]:
        with pytest.raises(DataError, match=says) as raised:
            find_source(place)
        assert str(raised.value).count(f"{stem}.") == 2
        assert other.name in str(raised.value)
    # Agreeing, they are one list; so is one that is seen from two folders.
    if given != "archive.zip":
        write_list(other, first)
        source = find_source(root / given)
        assert {"list_eval_partition": source.partition, "identity_CelebA": source.identities}[stem] == first


@pytest.mark.parametrize("swapped", [False, True])
def test_lists_of_several_columns_are_compared_by_the_column_that_is_meant(
    tmp_path: Path, swapped: bool
) -> None:
    root = images(tmp_path / "celeba" / "img_align_celeba").parent
    text_lists(root)
    header = "image_id,identity,partition" if swapped else "image_id,partition,identity"
    for parts, same in ((PART, True), (OTHERWISE["list_eval_partition"], False)):
        rows = [f"{i},{WHO[i]},{parts[i]}" if swapped else f"{i},{parts[i]},{WHO[i]}" for i in IDS]
        (root / "list_eval_partition.csv").write_text("\n".join([header, *rows]))
        if same:
            assert find_source(root).partition == PART
        else:
            with pytest.raises(DataError, match=r"txt:1: says 0 of 000001\.jpg, and .*csv says 2"):
                find_source(root)


def test_tables_of_attributes_are_compared_by_the_names_of_their_columns(tmp_path: Path) -> None:
    root = kaggle(tmp_path / "celeba")
    rows = [str(COUNT), "Smiling Male", *(f"{k}  -1 {1 if i % 2 else -1}" for i, k in enumerate(IDS))]
    (root / "list_attr_celeba.txt").write_text("\n".join(rows))
    assert find_source(root).attributes["Male"] == {name: bool(i % 2) for i, name in enumerate(IDS)}
    (root / "list_attr_celeba.txt").write_text(
        "\n".join([*rows[:2], rows[2].replace("-1 -1", "-1 1"), *rows[3:]])
    )
    with pytest.raises(DataError, match=r"says -?1 -?1 of 000001\.jpg, and .* remove one"):
        find_source(root)


def test_a_zip_whose_list_contradicts_the_one_that_is_used_is_said(tmp_path: Path) -> None:
    """Unpacked, and then edited: what is used is clear, and that the download says otherwise is worth knowing."""
    root = kaggle(tmp_path / "celeba")
    zipped(root, tmp_path / "archive.zip")
    shutil.move(tmp_path / "archive.zip", root / "archive.zip")
    assert find_source(root).notes == []
    write_list(root / "list_eval_partition.csv", OTHERWISE["list_eval_partition"])
    source = find_source(root)
    assert source.partition == OTHERWISE["list_eval_partition"]
    (note,) = source.notes
    assert note.startswith("archive.zip is not used: ")
    assert "says 2 of 000001.jpg" in note
    assert "says 0" in note


@pytest.mark.parametrize("index", ["²", "٣", "9" * 5000, "-1", "1_0", "x"])
def test_an_index_of_the_mapping_that_is_no_number_is_named(tmp_path: Path, index: str) -> None:
    root = some(tmp_path / "data", [f"CelebA-HQ-img/{k}.jpg" for k in range(COUNT)])
    text_lists(root)
    mapping = root / "CelebA-HQ-to-CelebA-mapping.txt"
    mapping.write_text(HQ_MAPPING + f"{index} 4 000004.jpg\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"mapping\.txt:26: expected the number of an image, found"):
        find_source(root)


@pytest.mark.parametrize("index", ["0", "00000", "000"])
def test_two_lines_of_the_mapping_for_one_image_must_agree(tmp_path: Path, index: str) -> None:
    root = some(tmp_path / "data", [f"CelebA-HQ-img/{k}.jpg" for k in range(COUNT)])
    text_lists(root)
    mapping = root / "CelebA-HQ-to-CelebA-mapping.txt"
    mapping.write_text(HQ_MAPPING + f"{index} 100 {IDS[0]}\n")
    assert find_source(root).partition["00000.jpg"] == PART[IDS[0]]
    mapping.write_text(HQ_MAPPING + f"{index} 9 {IDS[9]}\n")
    with pytest.raises(DataError, match=r"mapping\.txt:26: 0+ is listed twice with different values"):
        find_source(root)


@pytest.mark.parametrize(
    "name", ["identity_CelebA.txt", "Anno/identity_CelebA.csv", "identity_CelebA (1).txt"]
)
def test_a_list_of_identities_beside_a_folder_of_another_name_is_said(tmp_path: Path, name: str) -> None:
    root = some(tmp_path / "X", [f"images/p{k}.jpg" for k in range(COUNT)])
    who = {f"p{k}.jpg": k // 3 for k in range(COUNT)}
    write_list(root / name, who)
    source = find_source(root / "images")
    assert source.identities == {}
    (note,) = source.notes
    assert f"{name} lies beside this folder and is not read; give the folder around both as --data" in note
    assert ("call the list identity_CelebA.txt" in note) == ("(1)" in name)
    # In the folder too, and saying the same, it is no news; saying something else, it is.
    write_list(root / "images" / "identity_CelebA.txt", who)
    assert find_source(root / "images").notes == []
    write_list(root / name, {k: v + 1 for k, v in who.items()})
    (note,) = find_source(root / "images").notes
    assert re.search(r"says 1 of p0\.jpg, and .* says 0; only the list with the pictures is read", note)
    # A list of other images is nobody's here.
    write_list(root / name, {"a.jpg": 1})
    assert find_source(root / "images").notes == []


def test_a_mapping_beside_a_folder_of_celeba_hq_is_said(tmp_path: Path) -> None:
    root = some(tmp_path / "data", [f"CelebA-HQ-img/{k}.jpg" for k in range(COUNT)])
    (root / "CelebA-HQ-to-CelebA-mapping.txt").write_text(HQ_MAPPING)
    text_lists(root)
    (note,) = find_source(root / "CelebA-HQ-img").notes
    assert "CelebA-HQ-to-CelebA-mapping.txt lies beside this folder and is not read" in note
    assert find_source(root).notes == []


@pytest.mark.parametrize("stem", OTHERWISE)
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("{} (1).txt", "to use it, rename it, as {}.txt"),
        ("{}.csv.zip", "to use it, unpack it, as {}.txt"),
        ("Anno/{}.txt.txt", "to use it, rename it, as {}.txt"),
        ("{}.txt", "a broken link"),
        ("{}.csv", "not a regular file"),
        ("Eval/{}.csv", "a folder"),
    ],
)
@pytest.mark.parametrize("zip_too", [False, True])
def test_what_is_no_list_beside_celebas_own_folder_is_said(
    tmp_path: Path, stem: str, name: str, says: str, zip_too: bool
) -> None:
    root = tmp_path / "celeba"
    place = images(root / "img_align_celeba")
    path = root / name.format(stem)
    path.parent.mkdir(exist_ok=True)
    if "link" in says:
        path.symlink_to("nowhere.txt")
    elif "folder" in says:
        path.mkdir()
    elif "regular" in says:
        os.mkfifo(path)
    else:
        path.write_text("".join(f"{k} {v}\n" for k, v in PART.items()))
    if zip_too:
        place = zipped(place, root / "img_align_celeba.zip", "img_align_celeba/")
    (note,) = find_source(place).notes
    assert name.format(stem) in note
    assert f"is not read: {says.format(stem)}" in note


@pytest.mark.parametrize("around", ["img_align_celeba", "IMG_ALIGN_CELEBA_PNG", "img_celeba"])
@pytest.mark.parametrize("below", ["exp/photos", "photos", ""])
@pytest.mark.parametrize("given", ["above", "named so", "photos"])
def test_own_photos_below_a_folder_of_celebas_name_are_not_celeba(
    tmp_path: Path, around: str, below: str, given: str
) -> None:
    names = [f"{folder}/{k:03d}.jpg" for folder in "xy" for k in range(COUNT)]
    photos = some(tmp_path / "data" / around / below, names)
    place = {"above": tmp_path / "data", "named so": tmp_path / "data" / around, "photos": photos}[given]
    source = find_source(place)
    assert (source.kind.name, source.ids) == ("folder", sorted(names))
    assert not source.kind.claims_dataset
    # With names of CelebA's, in whatever folders, they are.
    for folder, half in (("x", IDS[::2]), ("y", IDS[1::2])):
        shutil.rmtree(photos / folder)
        some(photos / folder, half)
    if (around, below, given) != ("img_celeba", "exp/photos", "photos"):  # nobody looks so far up for those
        assert find_source(place).name == ("celeba-in-the-wild" if around == "img_celeba" else "celeba")
        assert find_source(place).ids == IDS


def test_a_few_pictures_of_other_names_do_not_hide_celeba(tmp_path: Path) -> None:
    root = images(tmp_path / "img_align_celeba")
    before = find_source(root).ids
    some(root, ["notes/a.jpg", "notes/b.jpg"])
    assert find_source(root).name == "celeba"
    assert set(find_source(root).ids) == {*before, "a.jpg", "b.jpg"}


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


@pytest.mark.skipif(os.name != "posix", reason="a backslash is a letter on POSIX only")
@pytest.mark.parametrize("name", ["a\\b.png", "é\\日.png", "sub/c\\d.png", "a\\..\\b.png", "\\e.png", "x\\"])
def test_a_backslash_is_a_letter_in_a_zip_of_unix_and_a_separator_in_one_of_windows(
    tmp_path: Path, name: str
) -> None:
    names = ["1.png", "2.png", name]
    root = some(tmp_path / "root", names)
    for system in (3, 19):
        archive = zip_by(tmp_path / "unix.zip", names, system)
        assert find_source(archive).ids == find_source(root).ids
    windows = find_source(zip_by(tmp_path / "windows.zip", ["p\\1.png", "q\\r\\2.png", "3.png"], 0))
    assert windows.ids == ["3.png", "p/1.png", "q/r/2.png"]


def annex(root: Path) -> None:
    """As git-annex keeps files: links into a hidden folder, to names without a suffix."""
    for name in IDS:
        (root / ".git" / "annex" / name[:4]).mkdir(parents=True, exist_ok=True)
        key = root / ".git" / "annex" / name[:4] / f"SHA-{name[:-4]}"
        (root / name).rename(key)
        (root / name).symlink_to(key.relative_to(root))


def through_a_linked_folder(root: Path) -> None:
    (root / "way").symlink_to("real")
    (root / "real").mkdir()
    (root / IDS[0]).rename(root / "real" / IDS[0])
    (root / IDS[0]).symlink_to(f"way/{IDS[0]}")
    (root / "chain.jpg").symlink_to(f"way/../way/./{IDS[0]}")


def a_hidden_folder_by_a_link(root: Path) -> None:
    (root / ".store" / "deep" / ".thumbs").mkdir(parents=True)
    for name in IDS[:6]:
        (root / name).rename(root / ".store" / "deep" / name)
    shutil.copy(root / IDS[9], root / ".store" / "deep" / ".thumbs" / "x.jpg")
    (root / ".store" / "copy.jpg").symlink_to(f"../{IDS[9]}")
    (root / ".store" / "circle").symlink_to("..")
    (root / "more").symlink_to(".store")
    (root / "zagain").symlink_to(".store/deep")


def a_list_in_a_hidden_folder_by_a_link(root: Path) -> None:
    write_list(root / ".lists" / "who", WHO)
    (root / "identity_CelebA.txt").symlink_to(".lists/who")


@pytest.mark.parametrize(
    "change",
    [annex, through_a_linked_folder, a_hidden_folder_by_a_link, a_list_in_a_hidden_folder_by_a_link],
    ids=lambda change: change.__name__,
)
def test_links_of_a_zip_lead_where_those_of_its_folder_do(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    root = images(tmp_path / "root")
    change(root)
    archive = linked_zip(root, tmp_path / "root.zip")
    folder, packed = find_source(root), find_source(archive)
    assert packed.ids == folder.ids
    assert len(folder.ids) >= COUNT
    assert packed.identities == folder.identities
    left = {(x.path, x.reason) for x in find_files(root).left_out}
    assert {(x.path, x.reason) for x in zip_files(archive).left_out} == left
    for image_id in folder.ids:
        there = read_bytes(archive, packed.paths[image_id])
        assert there == (root / folder.paths[image_id]).read_bytes()


@pytest.mark.parametrize(
    "name",
    ["../identity_CelebA.txt", "/identity_CelebA.txt", "a/../identity_CelebA.csv", "C:/identity_CelebA.txt"],
)
def test_a_list_whose_path_leaves_the_zip_is_named(tmp_path: Path, opened: Opener, name: str) -> None:
    archive = zipped(images(tmp_path / "mine"), tmp_path / "mine.zip")
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(name, "".join(f"{k} {v}\n" for k, v in WHO.items()))
    data = opened(archive)
    assert data.shared_identities is None
    (note,) = data.notes
    assert note == f"left out: {name} (its path leaves the zip)"


@pytest.mark.parametrize("hidden", ["__MACOSX", ".lists", "a/@eaDir"])
def test_a_hidden_folder_of_a_zip_is_named_for_a_list_too_and_once(tmp_path: Path, hidden: str) -> None:
    root = images(tmp_path / "mine")
    write_list(root / hidden / "identity_CelebA.txt", WHO)
    write_list(root / hidden / "deep" / "list_eval_partition.txt", PART)
    notes = find_source(root).notes
    assert notes == [f"left out: {hidden} (hidden)"]
    assert find_source(zipped(root, tmp_path / "mine.zip")).notes == notes


@pytest.mark.parametrize("prefix", ["../", "/", "x/../", "C:/"])
@pytest.mark.parametrize("as_folder", [False, True])
def test_a_zip_of_nothing_but_paths_that_leave_it_names_them(
    tmp_path: Path, prefix: str, as_folder: bool
) -> None:
    (tmp_path / "there").mkdir()
    # Not by ZipFile.write, which would mend the names.
    zip_by(tmp_path / "there" / "mine.zip", [prefix + name for name in IDS], 3)
    says = rf"holds no pictures .*the path of 24 pictures leaves the zip: {re.escape(prefix)}000001\.jpg, "
    with pytest.raises(DataError, match=says):
        find_source(tmp_path / "there" / ("" if as_folder else "mine.zip"))


@pytest.mark.parametrize(
    "name", ["Thumbs.db", "desktop.ini", "Desktop.ini", "ehthumbs.db", "Icon\r", ".DS_Store"]
)
@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize("depth", ["pics", "a/pics"])
def test_files_of_the_system_beside_a_lone_folder_change_no_id(
    tmp_path: Path, name: str, as_zip: bool, depth: str
) -> None:
    root = images(tmp_path / "root" / depth).parents[depth.count("/")]
    (root / name).write_text("x")
    (root / depth / name).write_text("x")
    source = find_source(zipped(root, tmp_path / "root.zip") if as_zip else root)
    assert (source.ids, source.notes) == (IDS, [])
    # A file of the user's does, as it always did.
    (root / "notes.txt").write_text("x")
    assert find_source(root).ids == [f"{depth}/{i}" for i in IDS]


@pytest.mark.parametrize("number", range(60))
def test_any_tree_of_folders_and_links_is_the_same_in_a_zip(tmp_path: Path, number: int) -> None:
    """Hidden folders, and links to files, folders, links and nothing, some of them through other links."""
    draw = random.Random(number)
    root = tmp_path / "root"
    folders = [root]
    for _ in range(4):
        folders.append(draw.choice(folders) / draw.choice(["a", "b", ".h", "@eaDir"]))
        folders[-1].mkdir(parents=True, exist_ok=True)
        (folders[-1] / "z.png").write_text("z")
    places = [*folders]
    for _ in range(6):
        places.append(draw.choice(folders) / draw.choice(["x.png", "y.png", "l.txt", ".k.png", "Thumbs.db"]))
        places[-1].write_text("x")
    links = ["k.png", "m", "n", "o.txt", ".q.png", "q"]
    for _ in range(6):
        link = draw.choice(folders) / draw.choice(links)
        if not os.path.lexists(link):
            target = draw.choice([*places, *(root / name for name in links)])
            way = draw.choice(["", "", "", "m/", "m/../"])
            link.symlink_to(way + os.path.relpath(target, draw.choice([link.parent, link.parent, root])))
    folder, packed = find_files(root), zip_files(linked_zip(root, tmp_path / "root.zip"))
    assert (packed.images, packed.others) == (folder.images, folder.others)
    assert {x.path for x in packed.left_out} == {x.path for x in folder.left_out}


# --- What a ninth reviewer tried ----------------------------------------------------------------------------------


def numbered(root: Path, folder: str = "CelebA-HQ-img") -> Path:
    """Write pictures of CelebA-HQ's numbers, with CelebA's lists and without the mapping."""
    some(root, [f"{folder}/{k}.jpg" for k in range(COUNT)])
    text_lists(root)
    return root


@pytest.mark.parametrize(
    ("header", "row", "says"),
    [
        ("idx,orig_idx,orig_file", "{k},7,{i}", None),
        ("idx,orig_file,file", "{k},{i},{other}", None),
        ("idx,Orig_File,orig_idx,md5", "{k},{i},7,{other}", None),
        ("idx,celeba", "{k},{i}", None),
        (
            "idx,file,other",
            "{k},{i},{other}",
            ":1: has the columns file, other, of which none is 'orig_file'",
        ),
        ("idx,orig_file,orig_file", "{k},{i},{other}", "several is 'orig_file'"),
        ("image_id,idx,orig_file", "{k},7,{i}", ":1: idx is not the first column"),
    ],
)
def test_the_column_of_the_mapping_is_found_by_its_name(
    tmp_path: Path, header: str, row: str, says: str | None
) -> None:
    root = numbered(tmp_path / "data")
    rows = [row.format(k=k, i=i, other=IDS[-1 - k]) for k, i in enumerate(IDS)]
    (root / "CelebA-HQ-to-CelebA-mapping.csv").write_text("\n".join([header, *rows]))
    if says is None:
        assert find_source(root).partition == {f"{k:05d}.jpg": PART[i] for k, i in enumerate(IDS)}
    else:
        with pytest.raises(DataError, match=says):
            find_source(root)


@pytest.mark.parametrize(
    ("header", "row", "says"),
    [
        ("idx orig_idx orig_file\n", "{k} 7 {other}", "says 000024.jpg of 0, and .*csv says 000001.jpg"),
        ("idx orig_idx celeba\n", "{k} 7 {other}", "has the columns orig_idx, celeba, of which none is"),
        ("", "{k:05d} {other}", "says 000024.jpg of 00000, and .*csv says 000001.jpg"),
        ("idx celeba\n", "{k:03d} {other}", "says 000024.jpg of 000, and .*csv says 000001.jpg"),
    ],
)
def test_two_mappings_that_contradict_each_other_are_refused_however_they_are_written(
    tmp_path: Path, header: str, row: str, says: str
) -> None:
    root = numbered(tmp_path / "data")
    rows = [f"{k},{i}" for k, i in enumerate(IDS)]
    (root / "CelebA-HQ-to-CelebA-mapping.csv").write_text("\n".join(["idx,orig_file", *rows]))
    rows = [row.format(k=k, other=IDS[-1 - k]) for k in range(COUNT)]
    (root / "CelebA-HQ-to-CelebA-mapping.txt").write_text(header + "\n".join(rows))
    with pytest.raises(DataError, match=says):
        find_source(root)
    # Agreeing, they are one.
    (root / "CelebA-HQ-to-CelebA-mapping.txt").write_text(
        "\n".join(f"{k:05d} {i}" for k, i in enumerate(IDS))
    )
    assert find_source(root).partition["00003.jpg"] == PART[IDS[3]]


@pytest.mark.parametrize("stem", OTHERWISE)
@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("img_align_celeba\\{}", r"says \d+ of img_align_celeba\\000001\.jpg, and"),
        ("C:\\data\\{}", r"says \d+ of C:\\data\\000001\.jpg, and"),
        ("a/{0} b/{0}", "have no name in common"),
        ("a/{0} /b/{0} {0}.png", "have no name in common"),
        ("000{}", r"says \d+ of 000000001\.jpg, and"),
    ],
)
def test_a_second_list_is_compared_however_it_writes_the_names(
    tmp_path: Path, stem: str, written: str, says: str
) -> None:
    root = images(tmp_path / "celeba" / "img_align_celeba").parent
    text_lists(root)
    table = {n: v for i, v in OTHERWISE[stem].items() for n in written.format(i).split()}
    write_list(root / "sub" / f"{stem}.txt", table)
    with pytest.raises(DataError, match=rf"{says}.*remove one of the two lists"):
        find_source(root)
    # A list of other images is nobody's here.
    write_list(root / "sub" / f"{stem}.txt", {f"x{name}": value for name, value in OTHERWISE[stem].items()})
    assert (find_source(root).partition, find_source(root).identities) == (PART, WHO)


@pytest.mark.parametrize(
    ("columns", "refused"),
    [(["Young"], True), (["Male", "Young"], True), (["Male"], False), (["Smiling", "Male"], False)],
)
def test_a_second_table_of_attributes_has_no_columns_of_its_own(
    tmp_path: Path, columns: list[str], refused: bool
) -> None:
    root = kaggle(tmp_path / "celeba")
    values = {"Male": lambda k: 1 if k % 2 else -1, "Smiling": lambda k: -1, "Young": lambda k: 1}
    rows = [" ".join([i, *(str(values[c](k)) for c in columns)]) for k, i in enumerate(IDS)]
    (root / "Anno").mkdir()
    (root / "Anno" / "list_attr_celeba.txt").write_text("\n".join([str(COUNT), " ".join(columns), *rows]))
    if refused:
        with pytest.raises(
            DataError, match=r"list_attr_celeba\.txt has other columns than .*celeba\.csv; remove"
        ):
            find_source(root)
    else:
        assert list(find_source(root).attributes) == ["Male", "Smiling"]


@pytest.mark.parametrize("stem", OTHERWISE)
@pytest.mark.parametrize("given", ["", "img_align_celeba"])
def test_a_zip_of_lists_that_contradicts_the_ones_that_are_used_is_said(
    tmp_path: Path, stem: str, given: str
) -> None:
    root = tmp_path / "celeba"
    images(root / "img_align_celeba")
    text_lists(root)
    first = {"list_eval_partition": PART, "identity_CelebA": WHO}[stem]
    for table, count in ((first, 0), (OTHERWISE[stem], 1)):
        write_list(tmp_path / "lists" / "Eval" / f"{stem}.txt", table)
        zipped(tmp_path / "lists", root / given / "lists.zip")
        source = find_source(root / given)
        assert {"list_eval_partition": source.partition, "identity_CelebA": source.identities}[stem] == first
        notes = [note for note in source.notes if note.startswith("lists.zip is not used: ")]
        assert len(notes) == count
        assert all("of 000001.jpg, and" in note for note in notes)


@pytest.mark.parametrize("name", ["{}", "{:05d}", "imgHQ{:05d}"])
@pytest.mark.parametrize("mapping", ["CelebA-HQ-to-CelebA-mapping.csv", "celeba-hq-to-celeba-mapping.txt"])
def test_a_mapping_beside_celeba_hq_under_another_name_is_said(
    tmp_path: Path, name: str, mapping: str
) -> None:
    root = some(tmp_path / "data", [f"faces/{name.format(k)}.jpg" for k in range(COUNT)])
    (root / mapping).write_text(HQ_MAPPING)
    text_lists(root)
    (note,) = find_source(root / "faces").notes
    assert f"{mapping} lies beside this folder and is not read; give the folder around both as --data" in note
    assert find_source(root).name == "celeba-hq"
    # Of pictures without numbers it says nothing.
    assert find_source(some(root / "others", ["a.jpg", "b.jpg"])).notes == []


@pytest.mark.parametrize(("photos", "taken"), [(6, "with them"), (60, "alone")])
@pytest.mark.parametrize("folder", ["img_align_celeba/mine", "pictures/mine", ""])
def test_own_photos_that_outnumber_celebas_are_not_celeba(
    tmp_path: Path, opened: Opener, photos: int, taken: str, folder: str
) -> None:
    root = tmp_path / "data"
    place = images(root / folder.partition("/")[0])
    text_lists(root)
    own = [f"h{k}.jpg" for k in range(photos)]
    some(root / folder, own)
    source = find_source(root)
    assert (source.name, source.ids) == ("celeba", IDS if taken == "alone" else [*IDS, *sorted(own)])
    if taken == "alone":
        assert any(note.startswith("60 pictures are not used: ") for note in source.notes)
        assert opened(root).test.ids == [i for i in IDS if PART[i] == 2]
        assert opened(root, split="digest").title == "CelebA (aligned)"
    assert place.is_dir()


@pytest.mark.filterwarnings("ignore:Duplicate name")  # zipfile's own, when it is written
@pytest.mark.parametrize("name", ["list_eval_partition.txt", "img_align_celeba/000003.jpg"])
@pytest.mark.parametrize("second", ["{}", "./{}"])
def test_two_members_of_one_name_are_said(tmp_path: Path, name: str, second: str) -> None:
    root = images(tmp_path / "made" / "img_align_celeba").parent
    text_lists(root)
    path = zipped(root, tmp_path / "celeba.zip")
    assert find_source(path).notes == []
    other = (root / name).read_bytes()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(second.format(name), other + other)
    (note,) = find_source(path).notes
    assert note == f"left out: {name} (another member of the zip has this name)"


@pytest.mark.parametrize("byte", [b"\xe9", b"\xe9\xff", b"%\xe9"])
def test_what_is_not_utf8_in_a_list_becomes_text_that_every_file_can_hold(
    tmp_path: Path, opened: Opener, byte: bytes
) -> None:
    root = images(tmp_path / "img_align_celeba")
    shown = byte.replace(b"%", b"%25").replace(b"\xe9", b"%E9").replace(b"\xff", b"%FF").decode()
    rows = [b"image_id,M" + byte, *(f"{i},{1 if k % 2 else -1}".encode() for k, i in enumerate(IDS))]
    (root / "list_attr_celeba.csv").write_bytes(b"\n".join(rows))
    text_lists(root)
    assert list(opened(root).attributes) == [f"M{shown}"]
    # As text with its number of lines, and of two tables the message.
    rows = [b"24", b"M" + byte, *(f"{i} 1".encode() for i in IDS)]
    (tmp_path / "list_attr_celeba.txt").write_bytes(b"\n".join(rows))
    with pytest.raises(DataError, match=r"says 1 of 000001\.jpg"):
        find_source(root)
    (root / "list_attr_celeba.csv").unlink()
    assert list(opened(root).attributes) == [f"M{shown}"]


@pytest.mark.parametrize(
    "value", [b"\xe9\xff", b"\x1b[2J\x1b[31mRED", "\u202e\u2028".encode(), b"\x07\x7f", "\x9b2J".encode()]
)
@pytest.mark.parametrize("what", ["value", "name", "file", "zip", "attribute"])
def test_notes_and_attributes_are_lines_that_a_page_can_hold(
    tmp_path: Path, opened: Opener, value: bytes, what: str
) -> None:
    root = tmp_path / "data"
    folder = images(root / ("img_align_celeba" if what in ("zip", "attribute") else "faces"))
    text_lists(folder)
    text = value.decode("utf-8", "surrogateescape")
    if what in ("value", "name"):
        line = b"000001.jpg " + value if what == "value" else b"x" + value + b".jpg,1\n000001.jpg 2"
        (root / "list_eval_partition.txt").write_bytes(line)
        if what == "name":
            with (folder / "list_eval_partition.txt").open("ab") as lines:
                lines.write(b"x" + value + b".jpg,2\n")
    elif what == "file":
        (folder / "identity_CelebA.txt").unlink()
        (folder / f"identity_CelebA{text}.txt").write_text("000001.jpg 1\n")
    elif what == "zip":
        with zipfile.ZipFile(root / f"l{text}.zip", "w") as archive:
            archive.writestr("list_eval_partition.txt", b"000001.jpg " + value)
    else:
        rows = [b"image_id,M" + value, *(f"{i},1".encode() for i in IDS)]
        (root / "list_attr_celeba.csv").write_bytes(b"\n".join(rows))
    data = opened(root if what in ("zip", "attribute") else folder)
    said = [*data.notes, *data.attributes]
    assert said
    assert [one_line(line) for line in said] == said
