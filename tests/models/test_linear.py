"""The linear baseline against scikit-learn, in all three of its solves, and against itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge

from models import discovery
from models.base import Batch, Box, FitData, Task
from models.errors import InvalidModelError, ModelError
from models.linear import Linear, LinearConfig, plan_solve

SIZE = 16
BOX = Box(4, 6, 8, 5)
#: In float32 against scikit-learn's float64, in units of [0, 1].
TOLERANCE = 5e-5
RIDGE = 2.0
#: ``ridge`` is written for 64 px and scaled by the number of pixels.
SCALED = LinearConfig(ridge=(RIDGE * (64 / SIZE) ** 2,))


def smooth_images(count: int, seed: int, noise: int = 20) -> NDArray[np.uint8]:
    """Random images with four coarse pixels a side, so that the hole can be predicted from its surroundings."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3))
    fine = np.random.default_rng(seed + 1).integers(-noise, noise, (count, SIZE, SIZE, 3))
    return np.clip(np.kron(coarse, np.ones((1, 4, 4, 1))) + fine, 0, 255).astype(np.uint8)


def box_masks(count: int) -> NDArray[np.uint8]:
    mask = np.zeros((count, SIZE, SIZE), np.uint8)
    mask[:, BOX.top : BOX.top + BOX.height, BOX.left : BOX.left + BOX.width] = 1
    return mask


def ragged_masks(count: int, seed: int = 5) -> NDArray[np.uint8]:
    return (np.random.default_rng(seed).random((count, SIZE, SIZE)) < 0.4).astype(np.uint8)


def make_batch(images: NDArray[np.uint8], masks: NDArray[np.uint8]) -> Batch:
    image = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return Batch(
        image, torch.from_numpy(masks).float()[:, None], torch.arange(len(images)), 0, torch.Generator()
    )


def fitted(
    count: int, box: Box | None, config: LinearConfig = SCALED, noise: int = 20
) -> tuple[Linear, NDArray[np.uint8], dict[str, object]]:
    train = smooth_images(count, 0, noise)
    train.flags.writeable = False  # as a memory-mapped pack is
    model = Linear(config, Task(size=SIZE, fixed_hole_box=box))
    validation = smooth_images(9, 7, noise)
    masks = box_masks(9) if box else ragged_masks(9)
    record = model.fit(FitData(images=train, validation=validation, validation_masks=masks))
    return model, train, record


def expected_hole(
    train: NDArray[np.uint8], image: NDArray[np.uint8], mask: NDArray[np.uint8]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the hole as scikit-learn's Ridge and, on centered values, its KernelRidge predict it."""
    rows, row = train.reshape(len(train), -1) / 255, image.reshape(-1) / 255
    hole = np.repeat(mask.ravel() > 0, 3)
    known, wanted = rows[:, ~hole], rows[:, hole]
    primal = Ridge(alpha=RIDGE, solver="cholesky").fit(known, wanted).predict(row[None, ~hole])[0]
    centered = KernelRidge(alpha=RIDGE).fit(known - known.mean(0), wanted - wanted.mean(0))
    dual = centered.predict(row[None, ~hole] - known.mean(0))[0] + wanted.mean(0)
    return primal, dual


@pytest.mark.parametrize(
    ("count", "box", "solve"),
    [(60, BOX, "kernel"), (900, BOX, "primal"), (60, None, "kernel per image")],
    ids=["kernel", "primal", "a hole of its own for each image"],
)
def test_predictions_are_those_of_scikit_learn(count: int, box: Box | None, solve: str) -> None:
    model, train, record = fitted(count, box)
    assert record["solve"] == solve
    images = smooth_images(3, 11)
    masks = box_masks(3) if box else ragged_masks(3, seed=6)
    done = model.complete(make_batch(images, masks)).raw.permute(0, 2, 3, 1).numpy()
    for output, image, mask in zip(done, images, masks, strict=True):
        found = output[mask > 0].ravel()
        for expected in expected_hole(train, image, mask):
            np.testing.assert_allclose(found, expected, atol=TOLERANCE)


def test_a_fixed_hole_and_the_same_hole_image_by_image_agree() -> None:
    fixed, _, _ = fitted(60, BOX)
    changing, _, _ = fitted(60, None)
    batch = make_batch(smooth_images(4, 3), box_masks(4))
    torch.testing.assert_close(fixed.complete(batch).raw, changing.complete(batch).raw, atol=1e-4, rtol=0)


def test_lambda_is_the_best_of_the_grid_on_validation_images_and_chosen_once() -> None:
    grid = tuple(value * (64 / SIZE) ** 2 for value in (0.01, 1.0, 30.0, 1e5))
    for box in (BOX, None):
        model, train, record = fitted(
            60, box, LinearConfig(ridge=grid, validation_images_per_mask=9), noise=150
        )
        scores = record["validation_psnr_db"]
        assert isinstance(scores, dict)
        assert len(scores) == 4
        assert f"{record['ridge']:g}" == max(scores, key=lambda ridge: scores[ridge])
        assert record["ridge"] not in (0.01, 1e5), "neither no regularization nor the mean image is best here"
        again = Linear(LinearConfig(ridge=grid), Task(size=SIZE, fixed_hole_box=box))
        empty = np.zeros((0, SIZE, SIZE), np.uint8)
        stored = again.fit(FitData(images=train, validation=empty, validation_masks=empty), record)
        assert stored == record
        batch = make_batch(smooth_images(2, 3), box_masks(2))
        assert torch.equal(again.complete(batch).raw, model.complete(batch).raw)


def test_a_huge_lambda_gives_the_mean_image() -> None:
    model, train, _ = fitted(60, BOX, LinearConfig(ridge=(1e9,)))
    done = model.complete(make_batch(smooth_images(1, 3), box_masks(1))).raw[0].permute(1, 2, 0).numpy()
    hole = box_masks(1)[0] > 0
    np.testing.assert_allclose(done[hole], (train / 255).mean(0)[hole], atol=1e-4)


@pytest.mark.parametrize("box", [BOX, None], ids=["fixed", "changing"])
def test_a_completion_depends_on_the_known_pixels_of_its_own_image_alone(box: Box | None) -> None:
    model, _, _ = fitted(60, box)
    masks = box_masks(5) if box else ragged_masks(5)
    batch = make_batch(smooth_images(5, 3), masks)
    hidden = torch.where(batch.mask > 0.5, float("nan"), batch.image)
    whole = model.complete(replace(batch, image=hidden)).composite
    assert torch.isfinite(whole).all()
    single = torch.cat([model.complete(part).composite for part in batch.split(1)])
    torch.testing.assert_close(whole, single, atol=1e-6, rtol=0)


def test_an_image_without_a_hole_is_returned() -> None:
    model, _, _ = fitted(60, None)
    batch = make_batch(smooth_images(2, 3), np.zeros((2, SIZE, SIZE), np.uint8))
    assert torch.equal(model.complete(batch).composite, batch.image)


def test_memory_and_time_are_bounded_and_known_before() -> None:
    center = Task(size=64, fixed_hole_box=Box(16, 16, 32, 32))
    full = plan_solve(LinearConfig(), center, 162_770)
    assert (full.images, full.kind) == (12_000, "primal")
    assert plan_solve(LinearConfig(), Task(size=160), 162_770).images == 1_600
    large = Task(size=512, fixed_hole_box=Box(128, 128, 256, 256))
    bounded = plan_solve(LinearConfig(), large, 162_770)
    assert bounded.images < 12_000
    assert bounded.memory_bytes <= 4 * 2**30
    tight = plan_solve(LinearConfig(memory_gib=1.0), center, 162_770)
    assert tight.memory_bytes <= 2**30
    cost = Linear.fit_cost(LinearConfig(), center, 162_770)
    assert cost.note == "12,000 training images, primal solve of 9,216 equations, about 1.1 GiB of memory"
    assert Linear.fit_cost(LinearConfig(images=2_000), center, 162_770).flops < cost.flops / 10


def test_it_says_what_is_missing() -> None:
    batch = make_batch(smooth_images(2, 3), box_masks(2))
    with pytest.raises(ModelError, match="must be fitted"):
        Linear(SCALED, Task(size=SIZE, fixed_hole_box=BOX)).complete(batch)
    model, _, _ = fitted(60, BOX)
    with pytest.raises(ModelError, match="fitted to one fixed hole"):
        model.complete(make_batch(smooth_images(2, 3), ragged_masks(2)))
    with pytest.raises(ModelError, match="at least two training images"):
        model.fit(
            FitData(images=smooth_images(1, 0), validation=smooth_images(1, 0), validation_masks=box_masks(1))
        )
    with pytest.raises(InvalidModelError, match="positive numbers"):
        discovery.load_model("linear").config(ridge=(300.0, -1.0))


def test_the_record_has_a_learning_curve_that_rises_with_the_images() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(6, 32, 32, 3))
    weights = rng.normal(size=(640, 6))
    images = np.clip(128 + 20 * np.einsum("nk,kijc->nijc", weights, base), 0, 255).astype(np.uint8)
    hole = np.zeros((40, 32, 32), np.uint8)
    hole[:, 8:24, 8:24] = 1
    model = Linear(LinearConfig(), Task(size=32, fixed_hole_box=Box(8, 8, 16, 16)))
    record = model.fit(FitData(images=images[:600], validation=images[600:], validation_masks=hole))
    curve = record["validation_psnr_db_by_images"]
    assert list(curve) == ["37", "150", "600"]
    assert curve["37"] < curve["150"] < curve["600"]
    # The record of the grid is rounded for people, the curve is not.
    assert round(curve["600"], 4) == max(record["validation_psnr_db"].values())
