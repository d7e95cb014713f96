"""SSIM's map: sizes that no block divides, pictures that strain the arithmetic, threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from bench.evaluation.ssim import (
    GAUSSIAN_11,
    UNIFORM_7,
    Window,
    _by_shifts,
    mean_ssim,
    ssim_map,
    weighted_means,
)

Image = NDArray[np.uint8]
GAUSSIAN = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
SIZES = [(11, 11), (12, 17), (18, 19), (17, 40), (61, 83), (100, 101), (178, 218)]


def _levels(values: NDArray[np.float64]) -> Image:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def _pairs(height: int, width: int) -> dict[str, tuple[Image, Image]]:
    """Pairs of pictures by what is hard about them."""
    rng = np.random.default_rng(0)
    shape = (height, width, 3)
    flat = np.full(shape, 200, np.uint8)
    step = np.zeros(shape)
    step[:, width // 2 :] = 255
    on_a_step, opposed = np.where(step > 0, 244, 11), rng.integers(-11, 12, shape)
    part = _levels(np.linspace(20, 230, width)[None, :, None] + np.zeros(shape))
    changed = part.copy()
    changed[height // 3 : height // 2, width // 4 :] ^= 37
    return {
        "random": (rng.integers(0, 256, shape, np.uint8), rng.integers(0, 256, shape, np.uint8)),
        "nearly constant": (flat, flat + (rng.random(shape) < 0.05).astype(np.uint8)),
        "saturated": (_levels(255.0 * (rng.random(shape) < 0.5)), _levels(255.0 * (rng.random(shape) < 0.9))),
        "one level apart": (np.full(shape, 255, np.uint8), np.full(shape, 254, np.uint8)),
        "black and white": (np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8)),
        "noise on a step": (_levels(step), _levels(step + rng.normal(0, 10, shape))),
        "opposed noise on a step": (_levels(on_a_step + opposed), _levels(on_a_step - opposed)),
        "a part": (part, changed),
        "the same": (flat, flat),
    }


def _planes(image: Image) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None]


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_hard_pictures_of_odd_sizes_are_equal_to_scikit_image(height: int, width: int) -> None:
    """Oracle: scikit-image, to 1e-9; the contract is 1e-6."""
    for name, (one, other) in _pairs(height, width).items():
        for window, options in ((GAUSSIAN_11, GAUSSIAN), (UNIFORM_7, {})):
            expected = structural_similarity(one, other, channel_axis=-1, data_range=255, **options)
            found = mean_ssim(_planes(one), _planes(other), window).item()
            assert found == pytest.approx(expected, abs=1e-9), (name, options)


@pytest.mark.parametrize("window", [GAUSSIAN_11, UNIFORM_7], ids=["gaussian", "uniform"])
@pytest.mark.parametrize(("height", "width"), [(11, 11), (19, 26), (27, 50)])
def test_means_are_the_sum_under_the_window(window: Window, height: int, width: int) -> None:
    """Oracle: every window by hand, on leading axes of any number."""
    planes = torch.rand(2, 3, height, width, dtype=torch.float64)
    taps = torch.tensor(window.taps, dtype=torch.float64)
    windows = planes.unfold(-2, len(taps), 1).unfold(-2, len(taps), 1)
    expected = (windows * taps[:, None] * taps).sum(dim=(-1, -2))
    torch.testing.assert_close(weighted_means(planes, window), expected, rtol=0, atol=1e-14)
    on_a_gpu = _by_shifts(_by_shifts(planes, window.taps, -2), window.taps, -1)
    torch.testing.assert_close(on_a_gpu, expected, rtol=0, atol=1e-14)


def test_where_both_pictures_are_equal_the_map_is_one_to_the_last_bit() -> None:
    one, other = _pairs(61, 83)["a part"]
    found = ssim_map(_planes(one), _planes(other))[0]
    assert (found[:, : 61 // 3 - 10] == 1).all()
    assert (found[:, 61 // 3 :, 83 // 4 :] < 1).any()


def test_a_value_is_the_same_to_the_last_bit_alone_in_a_batch_and_from_many_threads() -> None:
    """Nothing is shared between calls but weights that cannot be written."""
    rng = np.random.default_rng(1)
    truth, made = (torch.from_numpy(rng.integers(0, 256, (12, 3, 97, 61), np.uint8)) for _ in range(2))
    together = mean_ssim(truth, made)
    with ThreadPoolExecutor(4) as pool:
        alone = list(pool.map(lambda i: mean_ssim(truth[i : i + 1], made[i : i + 1]), [*range(12)] * 5))
    assert torch.equal(torch.cat(alone), together.repeat(5))
