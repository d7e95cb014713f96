"""Published data sets: whose they are, how they are recognized and divided, and at which sizes they are opened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.data.sources import DataSource, data_sources, find_source
from bench.data.sources.base import hold_out_validation
from bench.data.sources.file_tree import FileTree
from bench.errors import DataError
from tests.bench.data.celeba_replicas import (
    COUNT,
    HQ_MAPPING,
    IDS,
    PART,
    WHO,
    Opener,
    images,
    kaggle,
    some,
    text_lists,
)


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
