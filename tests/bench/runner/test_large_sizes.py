"""256 and 512 px, on procedural faces and on photographs larger than that; CelebA's aligned crop ends at 178."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image

from bench.config import Request, resolve_config
from bench.data import open_dataset
from bench.data.procedural_faces import render_faces
from bench.data.splits import TEST, TRAIN, VALIDATION, assign_split
from bench.data.transforms import _face as find_face
from bench.data.transforms import decode_image
from bench.errors import UsageError
from bench.runner.callbacks import RunCallbacks
from bench.runner.run import run_experiment
from reports.results.experiment import load_experiment

#: Photographs that scikit-image brings, as large as they are.
PHOTOGRAPHS = (
    "astronaut.png",
    "coffee.png",
    "chelsea.png",
    "rocket.jpg",
    "retina.jpg",
    "hubble_deep_field.jpg",
)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photographs of 600 pixels and more: those of scikit-image, enlarged, mirrored and turned."""
    folder = tmp_path_factory.mktemp("photographs")
    for number, name in enumerate(PHOTOGRAPHS):
        with Image.open(Path(skimage.data.__file__).parent / name) as opened:
            photo = opened.convert("RGB")
        scale = 600 / min(photo.size)
        photo = photo.resize((round(photo.width * scale), round(photo.height * scale)))
        mirrored = photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        for turn, image in enumerate((photo, mirrored, photo.rotate(180), mirrored.rotate(180))):
            image.save(folder / f"photo-{number}-{turn}.jpg", quality=95)
    return folder


def run(data: str, size: int, models: tuple[str, ...], crop: str) -> dict[str, dict[str, Any]]:
    changes = {"images_seen": 2, "batch": 2, "size": size, "crop": crop, "test_images": 2, "train_images": 4}
    settings = resolve_config("smoke", {**changes, "mask_bank": 4, "metrics": ["hole_mae"]})
    asked = Request(models=models, masks=("lama-thick",), data=data, settings=settings, name="large")
    outcome = run_experiment(asked, RunCallbacks())
    assert outcome.failed == 0
    experiment = load_experiment(outcome.store.folder)
    images = experiment.pictures("lama-thick")
    assert images is not None
    assert images.image.shape[1:] == (size, size, 3)
    assert len(np.unique(images.image)) > 50, "photographs and faces, not flat images"
    return {cell["model"]: cell for cell in experiment.cells}


@pytest.mark.long
@pytest.mark.parametrize("size", [256, 512])
@pytest.mark.parametrize("kind", ["faces", "photographs"])
def test_a_model_that_cannot_take_a_size_is_a_cell_that_does_not_apply(
    workplace: Path, photographs: Path, monkeypatch: pytest.MonkeyPatch, size: int, kind: str
) -> None:
    monkeypatch.setattr(open_dataset, "FACES_COUNTS", (4, 2, 3))
    data, crop = ("faces", "center") if kind == "faces" else (str(photographs), "resize")
    cells = run(data, size, ("context-encoder", "diffusion", "mean-image"), crop)
    refused = cells["context-encoder"]
    assert refused["status"] == "not-applicable"
    assert refused["reason"].startswith(f"{size} x {size} pixels: ")
    for name in ("diffusion", "mean-image"):
        assert cells[name]["status"] == "done"
        assert cells[name]["evaluation"]["numbers"]["psnr_db"]["mean"] > 3


def portrait(number: int, size: int, *, right: bool) -> Image.Image:
    """A large procedural photograph: a face before a wall, at the left or at the right of it.

    The face crop of these faces has two thirds and more of the side that they are drawn at, so that none is enlarged.
    """
    side = size * 8 // 5
    height, width = side + side // 8, 3 * side // 2
    wall = np.linspace(70, 180, width)[None, :, None] + np.random.default_rng(number).normal(
        0, 8, (height, width, 3)
    )
    pixels = wall.clip(0, 255).astype(np.uint8)
    left = width - side if right else 0
    pixels[height - side :, left : left + side] = render_faces([number], side)[0]
    return Image.fromarray(pixels)


@pytest.mark.long
@pytest.mark.parametrize("size", [256, 512])
def test_the_face_crop_follows_the_face(size: int) -> None:
    side = size * 8 // 5
    for right in (False, True):
        photograph = portrait(1, size, right=right)
        file = io.BytesIO()
        photograph.save(file, "PNG")
        square = decode_image(file.getvalue(), size, "face")
        left, top, end, bottom = find_face(photograph)
        assert end - left == bottom - top >= size, "not enlarged"
        # The middle of the face, as drawn: that of its own square, below the middle of the photograph.
        face = np.array([photograph.width - side / 2 if right else side / 2, photograph.height - side / 2])
        assert np.abs(np.array([left + end, top + bottom]) / 2 - face).max() < 0.15 * side
        expected = photograph.crop((left, top, end, bottom)).resize((size, size), Image.Resampling.BICUBIC)
        assert np.array_equal(square, np.asarray(expected))
        # The largest square in the middle of the photograph is another.
        assert abs(photograph.width / 2 - face[0]) > 0.2 * side


@pytest.mark.long
@pytest.mark.parametrize("size", [256, 512])
def test_a_run_on_face_crops_of_large_photographs(workplace: Path, size: int) -> None:
    folder = workplace / "portraits"
    folder.mkdir()
    # Names that the split by digest deals to two training images, one of validation, and one of test.
    wanted = {TRAIN: 2, VALIDATION: 1, TEST: 1}
    for number in range(1000):
        name = f"{number:03d}.jpg"
        (split,) = assign_split([name], "digest", partition={}, identities={})[1]
        if wanted[split]:
            wanted[split] -= 1
            portrait(number % 6, size, right=bool(number % 2)).save(folder / name, quality=95)
    assert not any(wanted.values())
    cells = run(str(folder), size, ("context-encoder", "mean-image"), "face")
    assert cells["context-encoder"]["reason"].startswith(f"{size} x {size} pixels: ")
    assert cells["mean-image"]["status"] == "done"
    assert cells["mean-image"]["evaluation"]["numbers"]["psnr_db"]["mean"] > 10


def test_a_size_that_no_model_takes_is_refused_at_once(workplace: Path, photographs: Path) -> None:
    settings = resolve_config("smoke", {"size": 256, "crop": "resize"})
    asked = Request(models=("context-encoder",), masks=("center",), data=str(photographs), settings=settings)
    with pytest.raises(UsageError, match="--size 256: context-encoder: "):
        run_experiment(asked, RunCallbacks())


def test_published_models_take_256_and_512() -> None:
    """Every registered model but Context Encoder, by its own rule; nothing is computed."""
    from models.discovery import find_models, load_model
    from models.errors import UnsupportedSizeError

    refusing = set()
    for name in find_models():
        entry = load_model(name)
        for size in (256, 512):
            try:
                entry.model.validate(entry.config("paper"), size)
            except UnsupportedSizeError:
                refusing.add(name)
    assert refusing == {"context-encoder"}
