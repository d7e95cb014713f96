"""Several samples of every image: what is drawn, how samples differ, and whether the truth is among them."""

from __future__ import annotations

import contextlib
import dataclasses
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import masks.registry
from bench.data import ImageSet
from bench.data.procedural_faces import render_faces
from bench.evaluation import evaluator, stochastic_samples
from bench.evaluation.image_batch import to_uint8
from bench.evaluation.metrics import prepare_metrics
from bench.evaluation.stochastic_samples import evaluate_samples, expected_inside, share_inside
from bench.training.device import select_device
from models.base import Batch, Budget, Task
from models.diffusion import Diffusion, DiffusionConfig

SIZE, IMAGES = 32, 20
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def images() -> ImageSet:
    pixels = render_faces(list(range(IMAGES)), SIZE)
    return ImageSet([f"{number:03}.png" for number in range(IMAGES)], pixels)


@pytest.fixture(scope="module")
def trained(images: ImageSet) -> Diffusion:
    """A narrow network after sixty steps: a first one hardly looks at its input."""
    torch.manual_seed(0)
    model = Diffusion(DiffusionConfig(width=8, sampling_steps=4), Task(size=SIZE))
    (phase,) = model.phases(Budget(num_steps=60))
    optimizer = torch.optim.Adam(model.networks["generator"].parameters(), lr=4e-3)
    truth = torch.from_numpy(images.pixels).permute(0, 3, 1, 2).float() / 255
    mask = torch.zeros(IMAGES, 1, SIZE, SIZE)
    mask[:, :, 8:24, 8:24] = 1
    losses = []
    for step in range(60):
        batch = Batch(truth, mask, torch.arange(IMAGES), step, torch.Generator().manual_seed(step))
        loss = model.loss("generator", batch, model.complete(batch), phase)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < 0.8 * losses[0]
    return model


@pytest.fixture
def test_set(images: ImageSet) -> evaluator.TestSet:
    drawn = masks.registry.draw_masks("random-rect", images.ids, SIZE)
    return evaluator.TestSet(images, drawn, np.arange(IMAGES))


def evaluate(
    model: Diffusion, test: evaluator.TestSet, count: int
) -> tuple[evaluator.EvaluationResult, stochastic_samples.SampleSpread]:
    ready, _ = prepare_metrics(["psnr_db", "hole_mae"], CPU)
    return evaluate_samples(model, test, select_device("cpu", "fp32"), ready, count)


@pytest.mark.long
def test_the_first_sample_is_the_evaluation_of_today(trained: Diffusion, test_set: evaluator.TestSet) -> None:
    ready, _ = prepare_metrics(["psnr_db", "hole_mae"], CPU)
    today = evaluator.evaluate_model(trained, test_set, select_device("cpu", "fp32"), ready)
    several, spread = evaluate(trained, test_set, 3)
    first = several.rows[several.rows["sample"] == 0].drop(columns="sample").reset_index(drop=True)
    pd.testing.assert_frame_equal(first, today.rows)
    assert np.array_equal(several.pictures, today.pictures)
    assert len(several.rows) == 3 * IMAGES
    assert spread.inside.shape == (IMAGES,)


@pytest.mark.long
def test_the_first_samples_of_the_pool_are_kept(trained: Diffusion, test_set: evaluator.TestSet) -> None:
    some = dataclasses.replace(test_set, pool=np.array([2, 7]))
    batch, _ = evaluator.evaluation_batch(some.images, some.masks, 0, CPU)
    result, spread = evaluate(trained, some, 6)
    assert spread.pictures.shape == (2, stochastic_samples.KEPT_SAMPLES, SIZE, SIZE, 3)
    assert np.array_equal(spread.pictures[:, 0], result.pictures)
    with torch.inference_mode():
        for number in range(stochastic_samples.KEPT_SAMPLES):
            drawn = to_uint8(trained.sample(batch, number).composite)[[2, 7]]
            assert np.array_equal(spread.pictures[:, number], drawn.permute(0, 2, 3, 1).numpy())
    assert evaluate(trained, some, 2)[1].pictures.shape[1] == 2


def test_samples_differ_and_more_of_them_change_none(trained: Diffusion, test_set: evaluator.TestSet) -> None:
    two, three = (evaluate(trained, test_set, count)[0].rows for count in (2, 3))
    pd.testing.assert_frame_equal(three[three["sample"] < 2], two)
    by_sample = three.pivot(index="image_id", columns="sample", values="hole_mae")
    assert (by_sample.nunique(axis=1) == 3).all()


def test_batches_of_1_7_and_16_give_the_same_bytes(
    trained: Diffusion, test_set: evaluator.TestSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for size in (16, 1, 7):
        for module in (evaluator, stochastic_samples):
            monkeypatch.setattr(module, "EVALUATION_BATCH", size)
        results.append(evaluate(trained, test_set, 2))
    first, spread = results[0]
    for other, other_spread in results[1:]:
        assert np.array_equal(other.pictures, first.pictures)
        pd.testing.assert_frame_equal(other.rows, first.rows, check_exact=True)
        assert np.array_equal(other_spread.inside, spread.inside)


@pytest.mark.parametrize("levels", [256, 6, 2])
@pytest.mark.parametrize("count", [2, 5])
def test_a_truth_that_is_one_more_sample_is_inside_as_often_as_expected(levels: int, count: int) -> None:
    """Also with few levels, where most values are equal: the order of equal values is random."""
    drawn = torch.from_numpy(
        np.random.default_rng(1).integers(0, levels, (count + 1, 8, 3, 64, 64)).astype(np.uint8)
    )
    inside = share_inside(drawn[0], drawn[1:], torch.ones(8, 1, 64, 64))
    assert inside.mean().item() == pytest.approx(expected_inside(count), abs=0.01)


def test_only_the_hole_counts_and_a_truth_beside_all_samples_is_outside() -> None:
    truth = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    truth[..., 2:] = 100
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., 2:] = 1
    low, high = (torch.where(mask.bool(), level, 0).to(torch.uint8).expand_as(truth) for level in (50, 150))
    assert share_inside(truth, torch.stack([low, high]), mask).item() == 1.0
    assert share_inside(truth, torch.stack([low, low]), mask).item() == 0.0


def test_diversity_is_the_packages_spatial_lpips_over_the_hole(test_set: evaluator.TestSet) -> None:
    try:
        stochastic_samples.lpips_map(CPU)
    except stochastic_samples.MetricUnavailableError as error:
        pytest.skip(str(error))
    rng = np.random.default_rng(0)
    drawn = [torch.from_numpy(rng.integers(0, 256, (2, 3, 64, 64)).astype(np.uint8)) for _ in range(3)]
    mask = torch.zeros(2, 1, 64, 64)
    mask[0, :, 10:40, 20:50] = 1
    mask[1, :, :, :7] = 1
    found = stochastic_samples.lpips_between_samples(drawn, mask)
    with warnings.catch_warnings(), contextlib.redirect_stdout(None):
        warnings.simplefilter("ignore")
        import lpips

        oracle = lpips.LPIPS(net="alex", spatial=True, verbose=False)
    wanted = []
    with torch.inference_mode():
        for a, b in ((0, 1), (0, 2), (1, 2)):
            distance = oracle(drawn[a] / 127.5 - 1, drawn[b] / 127.5 - 1)
            wanted.append((distance * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3)))
    torch.testing.assert_close(found, torch.stack(wanted).mean(0).double(), atol=1e-5, rtol=1e-4)


def test_without_weights_there_is_no_diversity_but_the_reason(
    trained: Diffusion, test_set: evaluator.TestSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(device: torch.device) -> stochastic_samples.LpipsMap:
        raise stochastic_samples.MetricUnavailableError("no weights")

    monkeypatch.setattr(stochastic_samples, "lpips_map", missing)
    _, spread = evaluate(trained, test_set, 2)
    assert spread.diversity == "no weights"
    assert np.isfinite(spread.inside).all()
