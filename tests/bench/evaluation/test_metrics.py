"""Metrics against scikit-image and values worked out by hand."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from skimage.color import rgb2yuv
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from bench.evaluation import ssim as ssim_module
from bench.evaluation.image_batch import ImageBatch, NotFiniteError, to_uint8
from bench.evaluation.metrics import (
    ImageMetric,
    UnknownMetricError,
    expand_metrics,
    list_metrics,
    load_metric,
    prepare_metrics,
)
from bench.evaluation.pixel_errors import PSNR_CAP_DB, psnr_cap_db
from bench.evaluation.ssim import mean_ssim, ssim_map

Images = NDArray[np.uint8]
GAUSSIAN = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
CPU = torch.device("cpu")


def _pair(kind: str, size: int = 48) -> tuple[Images, Images]:
    """Four truths and their completions, ``(4, size, size, 3)`` uint8."""
    rng = np.random.default_rng(7)
    shape = (4, size, size, 3)
    if kind == "random":
        return rng.integers(0, 256, shape, dtype=np.uint8), rng.integers(0, 256, shape, dtype=np.uint8)
    if kind == "natural":
        slope = np.linspace(20, 230, size)
        truth = slope[None, :, None, None] * 0.6 + slope[None, None, :, None] * 0.4 + np.array([0, 9, -9.0])
        truth = np.broadcast_to(truth, shape)
        noisy = truth + rng.normal(0, 12, shape)
        return truth.clip(0, 255).astype(np.uint8), noisy.clip(0, 255).astype(np.uint8)
    if kind == "nearly constant":
        truth = np.full(shape, 200, dtype=np.uint8)
        return truth, truth + (rng.random(shape) < 0.05).astype(np.uint8)
    if kind == "saturated":
        return (rng.random(shape) < 0.5).astype(np.uint8) * 255, (rng.random(shape) < 0.9).astype(
            np.uint8
        ) * 255
    raise AssertionError(kind)


KINDS = ["random", "natural", "nearly constant", "saturated"]


def _pictures(truth: Images, made: Images, mask: NDArray[np.uint8] | None = None) -> ImageBatch:
    if mask is None:
        mask = np.ones(truth.shape[:3], dtype=np.uint8)
    planes = [torch.from_numpy(x.copy()).permute(0, 3, 1, 2) for x in (truth, made)]
    hole = torch.from_numpy(mask).unsqueeze(1).float()
    return ImageBatch(planes[0], planes[1], planes[1].float() / 255, hole)


def _value(name: str, pictures: ImageBatch) -> NDArray[np.float64]:
    metric = load_metric(name)
    assert isinstance(metric, ImageMetric)
    result = metric.compute(pictures)
    assert result.dtype == torch.float64
    assert result.shape == (len(pictures.truth),)
    return result.cpu().numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_equal_to_scikit_image(kind: str) -> None:
    """Oracle: scikit-image, to 1e-6 dB and 1e-6; (per image, in a batch)."""
    _check_against_scikit_image(*_pair(kind))


def test_equal_to_scikit_image_on_celeba(celeba_dir: Path) -> None:
    """The same on real faces against a blurred and shifted copy, 178 x 218 as published."""
    with zipfile.ZipFile(celeba_dir / "img_align_celeba.zip") as archive:
        names = sorted(n for n in archive.namelist() if n.endswith(".jpg"))[:4]
        truth = np.stack([np.asarray(Image.open(io.BytesIO(archive.read(n)))) for n in names])
    _check_against_scikit_image(truth, np.roll(truth, 1, axis=2))


def _check_against_scikit_image(truth: Images, made: Images) -> None:
    pictures = _pictures(truth, made)
    expected = {
        "psnr_db": [peak_signal_noise_ratio(t, m, data_range=255) for t, m in zip(truth, made, strict=True)],
        "ssim": [
            structural_similarity(t, m, channel_axis=-1, **GAUSSIAN) for t, m in zip(truth, made, strict=True)
        ],
        "ssim_uniform7": [
            structural_similarity(t, m, channel_axis=-1, data_range=255)
            for t, m in zip(truth, made, strict=True)
        ],
        "ssim_y": [
            structural_similarity(_luma(t), _luma(m), **GAUSSIAN) for t, m in zip(truth, made, strict=True)
        ],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(_value(name, pictures), values, rtol=0, atol=1e-6, err_msg=name)


def _luma(image: Images) -> NDArray[np.float64]:
    luma: NDArray[np.float64] = rgb2yuv(image.astype(np.float64))[..., 0]
    return luma


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_composites_that_differ_in_a_part_only_are_equal_to_scikit_image(data: st.DataObject) -> None:
    """Only the windows that see a differing pixel are computed; the map is scikit-image's everywhere."""
    size = 40
    truth, made = _pair("random", size)
    top, left = data.draw(st.integers(0, size)), data.draw(st.integers(0, size))
    bottom, right = data.draw(st.integers(top, size)), data.draw(st.integers(left, size))
    composite = truth.copy()
    composite[0, top:bottom, left:right] = made[0, top:bottom, left:right]
    planes = [torch.from_numpy(x[:1]).permute(0, 3, 1, 2) for x in (composite, truth)]
    _, full = structural_similarity(composite[0], truth[0], channel_axis=-1, full=True, **GAUSSIAN)
    ours = ssim_map(*planes)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(ours, full[5:-5, 5:-5], rtol=0, atol=1e-12)


def test_hole_ssim_is_scikit_images_map_inside_the_hole() -> None:
    truth, made = _pair("natural")
    mask = np.zeros(truth.shape[:3], dtype=np.uint8)
    mask[:, 0:20, 10:30] = 1  # partly in the border that the window does not reach
    for i, value in enumerate(_value("hole_ssim", _pictures(truth, made, mask))):
        _, full = structural_similarity(truth[i], made[i], channel_axis=-1, full=True, **GAUSSIAN)
        reached = np.zeros(mask.shape[1:], dtype=bool)
        reached[5:-5, 5:-5] = True
        assert value == pytest.approx(full[reached & (mask[i] == 1)].mean(), abs=1e-9)


def test_a_hole_that_the_window_does_not_reach_has_no_hole_ssim() -> None:
    truth, made = _pair("random")
    mask = np.zeros(truth.shape[:3], dtype=np.uint8)
    mask[:, :4] = 1
    assert np.isnan(_value("hole_ssim", _pictures(truth, made, mask))).all()


def test_hole_metrics_by_hand() -> None:
    """One pixel of a hole of four is off by (51, 0, 102): MAE 153/12 levels, squared error 13005/12."""
    truth = np.full((1, 16, 16, 3), 100, dtype=np.uint8)
    made, mask = truth.copy(), np.zeros((1, 16, 16), dtype=np.uint8)
    mask[0, 4:6, 4:6] = 1
    made[0, 4, 4] = (151, 100, 202)
    pictures = _pictures(truth, made, mask)
    assert _value("hole_mae", pictures)[0] == pytest.approx(153 / 12 / 255, rel=1e-12)
    assert _value("hole_psnr_db", pictures)[0] == pytest.approx(10 * math.log10(255**2 * 12 / 13005))
    # The whole image has 64 times the area, so 10 log10(64) dB more.
    difference = _value("psnr_db", pictures)[0] - _value("hole_psnr_db", pictures)[0]
    assert difference == pytest.approx(10 * math.log10(64))


def test_centre_hole_of_half_the_side_is_worth_six_decibels() -> None:
    """reference: whole-image PSNR = hole PSNR + 6.02 dB when the known pixels are the truth's."""
    truth, made = _pair("random", 64)
    mask = np.zeros(truth.shape[:3], dtype=np.uint8)
    mask[:, 16:48, 16:48] = 1
    pictures = _pictures(truth, np.where(mask[..., None] == 1, made, truth), mask)
    gain = _value("psnr_db", pictures) - _value("hole_psnr_db", pictures)
    np.testing.assert_allclose(gain, 10 * math.log10(4), atol=1e-9)


def test_identical_images_are_capped_and_never_infinite() -> None:
    truth, _ = _pair("natural")
    pictures = _pictures(truth, truth)
    for name in ("psnr_db", "hole_psnr_db", "raw_psnr_db"):
        assert (_value(name, pictures) == PSNR_CAP_DB).all()
    assert (_value("ssim", pictures) == 1).all()
    assert (_value("hole_mae", pictures) == 0).all()


def test_the_smallest_difference_at_160_pixels_lies_below_the_cap() -> None:
    truth = np.zeros((1, 160, 160, 3), dtype=np.uint8)
    made = truth.copy()
    made[0, 80, 80, 1] = 1
    value = _value("psnr_db", _pictures(truth, made))[0]
    assert value == pytest.approx(10 * math.log10(255**2 * 160 * 160 * 3))
    assert 96.9 < value < PSNR_CAP_DB


@pytest.mark.parametrize("side", [16, 160, 226, 227, 256, 512, 1024])
def test_pictures_that_differ_never_count_as_identical_whatever_their_size(side: int) -> None:
    """Oracle: scikit-image for one level in one channel of one pixel; the cap lies above it."""
    truth = np.zeros((2, side, side, 3), dtype=np.uint8)
    made, mask = truth.copy(), np.zeros((2, side, side), dtype=np.uint8)
    made[0, 9, 9, 2] = 1
    mask[:, 9, 9] = 1
    expected = peak_signal_noise_ratio(truth[0], made[0], data_range=255)
    pictures = _pictures(truth, made, mask)
    different, identical = _value("psnr_db", pictures)
    assert different == pytest.approx(expected, abs=1e-9)
    assert different < identical == psnr_cap_db(side * side)
    assert (_value("hole_psnr_db", pictures)[1], _value("raw_psnr_db", pictures)[1]) == (identical, identical)
    assert (identical == PSNR_CAP_DB) == (side <= 226)
    assert psnr_cap_db(256 * 256) == 102


def test_ssim_and_hole_ssim_share_one_map(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[torch.Tensor] = []

    def counted(*images: torch.Tensor) -> torch.Tensor:
        made.append(ssim_map(*images[:2]))
        return made[-1]

    monkeypatch.setattr(ssim_module, "ssim_map", counted)
    pictures = _pictures(*_pair("natural"))
    _value("ssim", pictures)
    _value("hole_ssim", pictures)
    assert len(made) == 1
    _value("ssim", _pictures(*_pair("random")))
    assert len(made) == 2


def test_raw_psnr_looks_at_the_raw_output_only() -> None:
    truth, made = _pair("random")
    pictures = _pictures(truth, made)
    pasted = ImageBatch(pictures.truth, pictures.truth, pictures.raw, pictures.mask)
    np.testing.assert_array_equal(_value("raw_psnr_db", pasted), _value("psnr_db", pictures))


def test_no_hole_has_no_hole_metrics() -> None:
    truth, made = _pair("random")
    pictures = _pictures(truth, made, np.zeros(truth.shape[:3], dtype=np.uint8))
    for name in ("hole_psnr_db", "hole_mae", "hole_ssim"):
        assert np.isnan(_value(name, pictures)).all()


def test_the_seam_is_the_step_pair_by_pair() -> None:
    """Oracle: every pair of neighbors looked at in turn; two holes, one of them at the image's edge."""
    truth, made = _pair("natural", 24)
    mask = np.zeros(truth.shape[:3], dtype=np.uint8)
    mask[:, 6:14, 9:11] = mask[:, 18:, 20:] = 1
    composite = np.where(mask[..., None].astype(bool), made, truth)

    def mean_step(image: Images, hole: NDArray[np.uint8]) -> float:
        steps = []
        for i in range(24):
            for j in range(24):
                for k, m in ((i + 1, j), (i, j + 1)):
                    if k < 24 and m < 24 and hole[i, j] != hole[k, m]:
                        steps += np.abs(image[i, j].astype(int) - image[k, m]).tolist()
        return float(np.mean(steps))

    expected = [
        abs(mean_step(c, m) - mean_step(t, m)) / 255 for c, t, m in zip(composite, truth, mask, strict=True)
    ]
    np.testing.assert_allclose(
        _value("seam", _pictures(truth, composite, mask)), expected, rtol=0, atol=1e-12
    )
    assert (_value("seam", _pictures(truth, truth, mask)) == 0).all()


def test_known_pixels_of_the_raw_output_by_hand() -> None:
    """Two of twelve known values are off by 30 levels; what the hole holds does not matter."""
    truth = np.full((1, 2, 3, 3), 100, dtype=np.uint8)
    raw, mask = truth.copy(), np.zeros((1, 2, 3), dtype=np.uint8)
    mask[0, 0, :2] = 1
    raw[0, 0, :2] = 255
    raw[0, 1, 1, :2] = 130
    assert _value("raw_known_mae", _pictures(truth, raw, mask))[0] == pytest.approx(60 / 12 / 255, rel=1e-6)
    everything = np.ones_like(mask)
    assert np.isnan(_value("raw_known_mae", _pictures(truth, raw, everything))).all()
    assert np.isnan(_value("seam", _pictures(truth, raw, everything))).all()


def test_rounding_is_to_the_nearest_level_and_clamps() -> None:
    levels = torch.tensor([-0.2, 0.0, 0.49 / 255, 0.51 / 255, 100.6 / 255, 1.0, 3.0])
    assert to_uint8(levels).tolist() == [0, 0, 0, 1, 101, 255, 255]


def test_every_level_survives_the_way_there_and_back() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(levels.float() / 255), levels)


@pytest.mark.parametrize(
    ("value", "says"), [("nan", "NaN"), ("inf", "infinite numbers"), ("-inf", "infinite numbers")]
)
def test_what_is_not_finite_is_refused_instead_of_scored_as_black_or_white(value: str, says: str) -> None:
    with pytest.raises(NotFiniteError, match=f"the model's output holds {says}, so it cannot be scored"):
        to_uint8(torch.tensor([0.5, float(value)]))
    pictures = _pictures(*_pair("random"))
    pictures.raw[1, 2, 3, 4] = float(value)
    _value("psnr_db", pictures)
    with pytest.raises(NotFiniteError, match=rf"outside the hole \(raw_psnr_db\) holds {says}"):
        _value("raw_psnr_db", pictures)


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 5),
    height=st.integers(11, 40),
    width=st.integers(11, 40),
)
def test_a_value_depends_on_its_own_image_only_and_the_order_of_the_two_does_not_matter(
    seed: int, count: int, height: int, width: int
) -> None:
    rng = np.random.default_rng(seed)
    shape = (count, height, width, 3)
    truth, made = (rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(2))
    for name in ("psnr_db", "ssim", "ssim_uniform7", "ssim_y"):
        together = _value(name, _pictures(truth, made))
        alone = [_value(name, _pictures(truth[i : i + 1], made[i : i + 1]))[0] for i in range(count)]
        np.testing.assert_allclose(together, alone, rtol=0, atol=1e-12)
        np.testing.assert_allclose(together, _value(name, _pictures(made, truth)), rtol=0, atol=1e-12)


def test_images_below_the_window_are_refused_with_its_size() -> None:
    small = torch.zeros(1, 3, 10, 40)
    with pytest.raises(ValueError, match="window of 11 needs larger images than 10 x 40"):
        ssim_map(small, small)
    with pytest.raises(ValueError, match="different shapes"):
        ssim_map(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 17))


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_the_gpu_gives_the_same_numbers(kind: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    truth, made = (torch.from_numpy(x).permute(0, 3, 1, 2) for x in _pair(kind))
    there = mean_ssim(truth.cuda(), made.cuda()).cpu()
    np.testing.assert_allclose(there, mean_ssim(truth, made), rtol=0, atol=1e-6)
    here = _pictures(*_pair(kind))
    moved = ImageBatch(here.truth.cuda(), here.composite.cuda(), here.raw.cuda(), here.mask.cuda())
    for name in ("psnr_db", "ssim", "hole_psnr_db", "hole_mae", "hole_ssim", "ssim_uniform7", "ssim_y"):
        np.testing.assert_allclose(_value(name, moved), _value(name, here), rtol=0, atol=1e-6, err_msg=name)


def test_what_is_read_from_the_source_is_what_the_functions_carry() -> None:
    for name, info in list_metrics().items():
        metric = load_metric(name)
        assert metric.info == info
        assert metric.function.__name__ == name
        assert isinstance(metric, ImageMetric) == (info.of == "image")
        assert info.heading
        assert info.convention
        assert info.source
        assert info.oracle


def test_values_lie_in_the_declared_range() -> None:
    truth, made = _pair("saturated")
    mask = np.zeros(truth.shape[:3], dtype=np.uint8)
    mask[:, 10:30, 10:30] = 1
    for name, info in list_metrics().items():
        metric = load_metric(name)
        if isinstance(metric, ImageMetric) and not metric.load:
            low, high = info.value_range
            values = _value(name, _pictures(truth, made, mask))
            assert np.all(low is None or values >= low), name
            assert np.all(high is None or values <= high), name


def test_groups_expand_and_unknown_names_get_a_suggestion() -> None:
    assert expand_metrics(["primary"]) == ["psnr_db", "ssim", "lpips_alex"]
    assert expand_metrics(["hole_mae", "psnr_db", "hole_mae"]) == ["psnr_db", "hole_mae"]
    assert expand_metrics(["all"]) == list(list_metrics())
    with pytest.raises(UnknownMetricError, match="no metric 'psnr'; did you mean 'psnr_db'"):
        prepare_metrics(["psnr"], CPU)
