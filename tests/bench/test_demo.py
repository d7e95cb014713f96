"""The demo without its page: holes from strokes, completions as in evaluation, and known pixels kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import Ridge

import bench
from bench.data import DataSpec, open_data
from bench.demo import DemoSession, painted_hole
from bench.errors import DataError


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, pictures_dir: Path) -> DemoSession:
    """Baselines on a folder of images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return DemoSession(data=str(pictures_dir))


def test_strokes_become_holes_of_whole_pixels() -> None:
    layer = np.zeros((256, 320, 4), np.uint8)
    layer[9, 9] = (255, 255, 255, 1)  # one faint dot on the canvas, which shows each pixel as 4 x 4
    layer[100:104, 200:208, 3] = 255
    hole = painted_hole([None, Image.fromarray(layer)], (64, 80))
    assert sorted(zip(*np.nonzero(hole), strict=True)) == [(2, 2), (25, 50), (25, 51)]


def test_known_pixels_are_kept_and_scores_are_those_of_the_suite(session: DemoSession) -> None:
    image = np.asarray(session.images.pixels[0])
    hole = session.draw_mask("center", session.images.ids[0], (64, 64))
    results = session.complete(image, hole, truth_known=True)
    assert [r.method for r in results] == ["mean of known pixels", "biharmonic"]
    for result in results:
        assert np.array_equal(result.image[~hole], image[~hole])
        error = np.mean((result.image.astype(float) - image) ** 2)
        assert result.scores["psnr_db"] == pytest.approx(10 * np.log10(255**2 / error), abs=1e-4)
    expected = image[~hole].mean(axis=0)
    assert np.abs(results[0].image[hole] - expected).max() <= 1
    assert session.complete(image, hole, truth_known=False)[0].scores == {}


def test_what_lies_under_the_hole_is_not_seen(session: DemoSession) -> None:
    image = np.asarray(session.images.pixels[1])
    hole = np.zeros((64, 64), bool)
    hole[5:30, 20:50] = True
    other = np.where(hole[..., None], np.uint8(255) - image, image)
    first, second = (session.complete(each, hole, truth_known=False) for each in (image, other))
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(("value", "says"), [(False, "paint a hole first"), (True, "all is hole")])
def test_no_hole_is_one_sentence(session: DemoSession, value: bool, says: str) -> None:
    with pytest.raises(DataError, match=says):
        session.complete(np.zeros((64, 64, 3), np.uint8), np.full((64, 64), value), truth_known=False)


def test_an_image_that_is_not_square_gets_its_mask_in_the_middle(session: DemoSession) -> None:
    hole = session.draw_mask("center", "x", (96, 128))
    assert hole.shape == (96, 128)
    assert hole.mean() == pytest.approx(0.25 * 96 / 128)
    assert hole[24:72, 40:88].all()


@pytest.mark.long
def test_trained_models_complete_as_they_were_evaluated(workplace: Path, pictures_dir: Path) -> None:
    """Oracle: the pictures that the experiment kept."""
    models = "glcic,mean-image,linear,biharmonic"
    done = bench.run(models, "center", pictures_dir, "smoke", name="shown", progress=False, precision="fp32")
    session = DemoSession("shown")
    baselines = ["Mean image", "Linear (ridge)", "mean of known pixels", "biharmonic"]
    assert list(session.methods) == ["GLCIC", *baselines]
    pool = done._stored.pictures("center")
    assert pool is not None
    labels = {cell["cell"]: cell["label"] for cell in done._stored.done()}
    kept = {labels[cell]: images for cell, images in pool.composites.items()}
    for number, (name, image, mask) in enumerate(zip(pool.ids, pool.image, pool.mask, strict=True)):
        hole = session.draw_mask("center", name, (64, 64))
        assert np.array_equal(hole, mask > 0)
        made = {r.method: r.image.astype(int) for r in session.complete(image, hole, truth_known=True)}
        for label in ("GLCIC", "Mean image"):
            assert np.abs(made[label] - kept[label][number]).max() <= 1  # alone, not in its batch


def test_fitted_baselines_complete_holes_that_nobody_evaluated(workplace: Path, pictures_dir: Path) -> None:
    """Oracle: scikit-learn's ridge regression from the known pixels of the training images."""
    done = bench.run("linear", "center", pictures_dir, "smoke", name="shown", progress=False)
    session = DemoSession("shown")
    image = np.asarray(session.images.pixels[0])
    hole = np.zeros((64, 64), bool)
    hole[4:20, 30:50] = True
    (made,) = (r.image for r in session.complete(image, hole, truth_known=False) if "Linear" in r.method)
    count = done._stored.manifest["settings"]["train_images"]
    train = np.asarray(open_data(DataSpec(source=str(pictures_dir))).train.pixels[:count], float) / 255
    known, lost = train[:, ~hole].reshape(len(train), -1), train[:, hole].reshape(len(train), -1)
    errors = []
    for ridge in (30, 100, 300, 1000, 3000):
        fitted = Ridge(alpha=ridge, solver="cholesky").fit(known, lost)
        expected = fitted.predict(image[~hole].reshape(1, -1) / 255).reshape(-1, 3)
        errors.append(np.abs(made[hole] - 255 * np.clip(expected, 0, 1)).max())
    # One of the grid was chosen.
    assert min(errors) <= 1
