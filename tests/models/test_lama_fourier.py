"""LaMa-Fourier: the Fourier unit against NumPy, the published layers, and its losses by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from models.base import Batch, Budget, InpaintingModel, Task
from models.discovery import load_model
from models.errors import InvalidModelError, UnsupportedSizeError
from models.layers.fast_fourier_conv import FastFourierBlock, FourierUnit


def build(preset: str = "smoke", size: int = 64, **changes: float) -> InpaintingModel:
    torch.manual_seed(0)
    entry = load_model("lama-fourier")
    return entry.model(entry.config(preset, **changes), Task(size=size))


def make_batch(size: int = 64, count: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(2)
    mask = torch.zeros(count, 1, size, size)
    mask[..., size // 4 : 3 * size // 4, size // 4 : 3 * size // 4] = 1
    image = torch.rand(count, 3, size, size, generator=generator)
    return Batch(image, mask, torch.arange(count), 0, generator)


@pytest.mark.parametrize("side", [8, 9])
def test_the_fourier_unit_is_a_convolution_of_the_spectrum(side: int) -> None:
    """Oracle: NumPy's orthonormal FFT, one matrix on (real, imaginary) of all channels at each frequency, and back."""
    torch.manual_seed(0)
    unit = FourierUnit(3).eval()
    x = torch.randn(2, 3, side, side)
    spectrum = np.fft.rfft2(x.numpy(), norm="ortho")
    parts = np.stack([spectrum.real, spectrum.imag], axis=2).reshape(2, 6, side, side // 2 + 1)
    mixed = np.einsum("oi,nihw->nohw", unit.conv.weight.detach().numpy()[:, :, 0, 0], parts)
    mixed = np.maximum(mixed / np.sqrt(1 + unit.norm.eps), 0).reshape(2, 3, 2, side, side // 2 + 1)
    back = np.fft.irfft2(mixed[:, :, 0] + 1j * mixed[:, :, 1], s=(side, side), norm="ortho")
    np.testing.assert_allclose(unit(x).detach().numpy(), back, atol=1e-5)


def test_one_block_sees_the_whole_map() -> None:
    """A change of one corner of the global features reaches every position of both outputs."""
    torch.manual_seed(0)
    block = FastFourierBlock(4, 12).eval()
    local, whole = torch.randn(1, 4, 16, 16), torch.randn(1, 12, 16, 16)
    other = whole.clone()
    other[..., 0, 0] += 10
    before, after = block(local, whole), block(local, other)
    for a, b in zip(before, after, strict=True):
        assert ((a - b).abs().amax(dim=1) > 0).float().mean() > 0.95


def test_transforms_stay_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    unit = FourierUnit(4).eval()
    x = torch.randn(1, 4, 12, 12).bfloat16()
    plain = unit(x.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = unit(x)
    assert cast.dtype == torch.float32
    torch.testing.assert_close(cast, plain)


def test_layers_at_160_px_follow_the_code() -> None:
    """Three halvings to 20 x 20, nine blocks of 128 local and 384 global channels, three doublings."""
    model = build("quick", 160)
    generator, blocks = model.networks["generator"], []
    for block in generator.blocks:
        block.register_forward_hook(lambda _m, _i, out: blocks.append(tuple(x.shape[1:] for x in out)))
    with torch.no_grad():
        data = make_batch(160, 1)
        completion = model.complete(data)
        logits, features = model.networks["discriminator"](data.image)
    assert blocks == [((128, 20, 20), (384, 20, 20))] * 9
    assert completion.raw.shape == (1, 3, 160, 160)
    assert [tuple(f.shape[1:]) for f in features] == [
        (64, 81, 81), (128, 41, 41), (256, 21, 21), (512, 11, 11), (512, 12, 12),
    ]  # fmt: skip
    assert logits.shape == (1, 1, 13, 13)
    rows = model.layer_table()["generator"]
    assert sum(row.note == "on the spectrum" for row in rows) == 18


def test_generator_loss_by_hand() -> None:
    model, data = build(), make_batch()
    (phase,) = model.phases(Budget(num_steps=5))
    completion = model.complete(data)
    terms = model.loss("generator", data, completion, phase)
    torch.testing.assert_close(terms["l1"], 10 * (completion.raw - data.image).abs().mean())
    judge = model.networks["discriminator"]
    logits, made = judge(completion.raw)
    _, true = judge(data.image)
    torch.testing.assert_close(terms["adversarial"], F.softplus(-logits).mean())
    distances = [(a - b).square().mean() for a, b in zip(made, true, strict=True)]
    torch.testing.assert_close(terms["matching"], torch.stack(distances).mean())
    torch.testing.assert_close(terms["loss"], terms["l1"] + terms["adversarial"] + 10 * terms["matching"])


def test_the_published_l1_is_on_known_pixels_only() -> None:
    model, data = build(missing_weight=0.0), make_batch()
    (phase,) = model.phases(Budget(num_steps=5))
    completion = model.complete(data)
    error = ((completion.raw - data.image).abs() * (1 - data.mask)).mean()
    torch.testing.assert_close(model.loss("generator", data, completion, phase)["l1"], 10 * error)


def test_discriminator_loss_by_hand() -> None:
    """Patches of the raw picture are fake in the hole and real outside; R1 is the squared gradient on real ones."""
    model, data = build(r1_weight=2.0), make_batch()
    (phase,) = model.phases(Budget(num_steps=5))
    completion = model.complete(data).detach()
    terms = model.loss("discriminator", data, completion, phase)
    judge = model.networks["discriminator"]
    image = data.image.clone().requires_grad_()
    real, fake = judge(image)[0], judge(completion.raw)[0]
    hole = F.interpolate(data.mask, size=fake.shape[2:], mode="nearest")
    assert 0.1 < hole.mean() < 0.5
    wanted = F.softplus(-real).mean() + torch.where(hole > 0.5, F.softplus(fake), F.softplus(-fake)).mean()
    (slope,) = torch.autograd.grad(real.sum(), image)
    r1 = slope.square().sum() / len(data)
    torch.testing.assert_close(terms["r1"], r1)
    torch.testing.assert_close(terms["loss"], wanted + 2 * r1)
    terms["loss"].backward(inputs=list(judge.parameters()))
    assert data.image.grad is None


def test_label_weights_and_refusals() -> None:
    entry, task = load_model("lama-fourier"), Task(size=64)
    assert entry.model.label_suffix(entry.config(), task) == "(no perceptual)"
    published = entry.config("paper")
    assert (published.adversarial_weight, published.matching_weight, published.r1_weight) == (10, 100, 0.001)
    (phase,) = build().phases(Budget(num_steps=5, track="faithful"))
    assert {k: v.learning_rate for k, v in phase.optimizers.items()} == {
        "discriminator": 1e-4,
        "generator": 1e-3,
    }
    assert entry.model.published_batch_size == 30
    with pytest.raises(UnsupportedSizeError, match="multiples of 8"):
        entry.model.validate(entry.config(), 68)
    for changes in ({"width": 7}, {"blocks": 0}, {"global_share": 1.0}, {"r1_weight": -1.0}):
        with pytest.raises(InvalidModelError):
            entry.config(**changes)
