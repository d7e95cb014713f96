"""The training-free baselines against their libraries and by hand."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
import torch
from skimage.restoration import inpaint_biharmonic
from torch import Tensor

from models.base import Batch, Budget, InpaintingModel, Task
from models.classical import (
    Biharmonic,
    MeanImage,
    MeanPixel,
    NavierStokes,
    NoConfig,
    OpenCVConfig,
    Telea,
)
from models.errors import MissingPackageError, ModelError
from models.patchmatch import PatchMatch, PatchMatchConfig

SIZE = 24
MEAN = (0.25, 0.5, 0.75)


def make_batch() -> Batch:
    """Five pictures: three share a box, one has a ragged hole, one a box that touches the border."""
    generator = torch.Generator().manual_seed(7)
    image = torch.rand(5, 3, SIZE, SIZE, generator=generator)
    mask = torch.zeros(5, 1, SIZE, SIZE)
    mask[[0, 2, 4], :, 6:18, 6:18] = 1
    mask[1] = (torch.rand(1, SIZE, SIZE, generator=generator) < 0.3).float()
    mask[3, :, :7, 10:] = 1
    return Batch(image=image, mask=mask, ids=torch.arange(5), step=0, generator=generator)


CONFIGS: dict[type[InpaintingModel], object] = {
    Telea: OpenCVConfig(),
    NavierStokes: OpenCVConfig(),
    PatchMatch: PatchMatchConfig(),
}


def make_fill(model: type[InpaintingModel]) -> InpaintingModel:
    task = Task(
        size=SIZE, mean_pixel=MEAN, mean_image=torch.linspace(0, 1, 3 * SIZE * SIZE).view(3, SIZE, SIZE)
    )
    return model(CONFIGS.get(model, NoConfig()), task)


FILLS = [
    MeanPixel,
    MeanImage,
    Biharmonic,
    *(
        pytest.param(
            m,
            marks=pytest.mark.skipif(
                importlib.util.find_spec(package) is None, reason=f"needs the package {package}"
            ),
        )
        for m, package in ((Telea, "cv2"), (NavierStokes, "cv2"), (PatchMatch, "patchmatch"))
    ),
]


@pytest.mark.parametrize("model", FILLS)
def test_fills_keep_known_pixels_and_never_look_under_the_hole(model: type[InpaintingModel]) -> None:
    fill, batch = make_fill(model), make_batch()
    completion = fill.complete(batch)
    known = (batch.mask == 0).expand_as(batch.image)
    assert torch.equal(completion.composite[known], batch.image[known])
    other = Batch(
        image=torch.where(batch.mask > 0.5, 0.123, batch.image),
        mask=batch.mask,
        ids=batch.ids,
        step=0,
        generator=batch.generator,
    )
    assert torch.equal(fill.complete(other).composite, completion.composite)
    assert completion.raw.dtype == torch.float32
    assert completion.raw.min() >= 0
    assert completion.raw.max() <= 1
    assert fill.phases(Budget(num_steps=10)) == []
    assert len(fill.networks) == 0


def test_mean_pixel_and_mean_image_are_the_tasks() -> None:
    batch = make_batch()
    pixel, picture = (make_fill(model).complete(batch).composite for model in (MeanPixel, MeanImage))
    holes = batch.mask[:, 0] > 0.5
    assert torch.equal(pixel.permute(0, 2, 3, 1)[holes].unique(dim=0), torch.tensor([MEAN]))
    mean_image = make_fill(MeanImage).task.mean_image
    assert isinstance(mean_image, Tensor)
    assert torch.equal(picture[3][:, holes[3]], mean_image[:, holes[3]])


def test_mean_image_needs_a_mean_picture() -> None:
    with pytest.raises(ModelError, match=r"Task\.mean_image"):
        MeanImage(NoConfig(), Task(size=SIZE))


def test_pictures_solved_together_equal_scikit_image_picture_by_picture() -> None:
    """Oracle: skimage.restoration.inpaint_biharmonic, one call per picture; equal to the last bit."""
    batch = make_batch()
    ours = make_fill(Biharmonic).complete(batch).raw
    for position in range(len(batch)):
        picture = batch.image[position].permute(1, 2, 0).double().numpy()
        alone = inpaint_biharmonic(picture, batch.mask[position, 0].numpy() > 0.5, channel_axis=-1)
        assert np.array_equal(ours[position].permute(1, 2, 0).numpy(), alone.astype(np.float32)), position


def test_biharmonic_continues_a_ramp_exactly() -> None:
    """A linear ramp is biharmonic, so the fill is the truth."""
    ramp = torch.linspace(0.1, 0.9, SIZE).view(1, 1, 1, SIZE).expand(1, 3, SIZE, SIZE)
    mask = torch.zeros(1, 1, SIZE, SIZE)
    mask[:, :, 8:16, 8:16] = 1
    batch = Batch(image=ramp, mask=mask, ids=torch.arange(1), step=0, generator=torch.Generator())
    torch.testing.assert_close(make_fill(Biharmonic).complete(batch).raw, ramp, rtol=0, atol=1e-6)


def test_biharmonic_of_no_hole_is_the_picture_and_of_all_hole_an_error() -> None:
    batch = make_batch()
    fill = make_fill(Biharmonic)
    assert isinstance(fill, Biharmonic)
    assert torch.equal(fill.fill(batch.image, torch.zeros_like(batch.mask)), batch.image)
    with pytest.raises(ModelError, match="at least one known pixel"):
        fill.fill(batch.image, torch.ones_like(batch.mask))


def test_missing_opencv_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"pip install 'inpaint-bench\[opencv\]'"):
        Telea.requirements(OpenCVConfig())
    with pytest.raises(MissingPackageError, match=r"pip install 'inpaint-bench\[patchmatch\]'"):
        PatchMatch.requirements(PatchMatchConfig())


def test_patchmatch_continues_a_pattern_and_refuses_a_picture_without_any() -> None:
    """Vertical stripes are their own exemplar: the fill is the truth but for 8 bits."""
    pytest.importorskip("patchmatch")
    columns = ((torch.arange(64) // 4) % 2).float() * 0.8 + 0.1
    image = columns.expand(1, 3, 64, 64).contiguous()
    mask = torch.zeros(1, 1, 64, 64)
    mask[:, :, 26:38, 26:38] = 1
    fill = PatchMatch(PatchMatchConfig(), Task(size=64))
    wrong = (fill.fill(image, mask) - image).abs()[mask.expand_as(image) > 0.5]
    assert wrong.mean() < 0.01
    with pytest.raises(ModelError, match="known pixels"):
        fill.fill(image, torch.ones_like(mask))
