"""The diffusion model: its noise, its samples, and its sampler against an exact denoiser."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.base import Batch, Budget, Task
from models.diffusion import Diffusion, DiffusionConfig, gaussian_noise, signal_and_noise
from models.discovery import load_model
from models.errors import InvalidModelError, UnsupportedSizeError

SIZE = 32


def build(seed: int = 0, **changes: Any) -> Diffusion:
    torch.manual_seed(0)
    config: dict[str, Any] = {"width": 8, "sampling_steps": 4, **changes}
    return Diffusion(DiffusionConfig(**config), Task(size=SIZE, seed=seed))


def make_batch(count: int = 16) -> Batch:
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(count, 3, SIZE, SIZE, generator=generator)
    mask = torch.zeros(count, 1, SIZE, SIZE)
    mask[:, :, 8:24, 8:24] = 1
    names = tuple(f"{number:03}.jpg" for number in range(count))
    return Batch(image, mask, torch.arange(count), 0, generator, image_ids=names)


def as_bytes(image: Tensor) -> Tensor:
    return (image.clamp(0, 1) * 255).round().byte()


def test_noise_is_standard_normal_and_depends_on_seed_sample_and_image() -> None:
    noise = torch.stack([gaussian_noise(64, 0, 0, f"{number}.jpg") for number in range(20)])
    assert noise.mean().abs().item() < 0.01
    assert noise.std().item() == pytest.approx(1.0, abs=0.01)
    assert (noise.abs() < 1).float().mean().item() == pytest.approx(0.6827, abs=0.005)
    assert noise.pow(4).mean().item() == pytest.approx(3.0, abs=0.1)
    first = gaussian_noise(64, 0, 0, "a")
    for other in ((1, 0, "a"), (0, 1, "a"), (0, 0, "b")):
        assert (
            abs(torch.corrcoef(torch.stack([first.ravel(), gaussian_noise(64, *other).ravel()]))[0, 1]) < 0.05
        )


def test_samples_are_the_same_bytes_in_batches_of_1_7_and_16() -> None:
    model, batch = build(), make_batch()
    model.networks.eval()
    with torch.inference_mode():
        whole = as_bytes(model.complete(batch).composite)
        for size in (1, 7):
            parts = [model.complete(part).composite for part in batch.split(size)]
            assert torch.equal(as_bytes(torch.cat(parts)), whole)
        order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
        shuffled = replace(
            batch, image=batch.image[order], image_ids=tuple(batch.image_ids[i] for i in order.tolist())
        )
        assert torch.equal(as_bytes(model.complete(shuffled).composite), whole[order])


def test_samples_differ_in_the_hole_and_agree_outside() -> None:
    model, batch = build(), make_batch(3)
    model.networks.eval()
    with torch.inference_mode():
        first, second = (model.sample(batch, number).composite for number in (0, 1))
        assert torch.equal(first, model.complete(batch).composite)
    hole = batch.mask.expand_as(first) > 0.5
    assert (first - second)[hole].abs().mean().item() > 0.01
    assert torch.equal(first[~hole], batch.image[~hole])
    other_seed = build(seed=1)
    other_seed.networks.eval()
    with torch.inference_mode():
        assert not torch.equal(other_seed.complete(batch).composite, first)


class _Exact(nn.Module):
    """A denoiser that knows the image: v = (a x_t - x) / s, from x = a x_t - s v."""

    def __init__(self, image: Tensor) -> None:
        super().__init__()
        self.image = image

    def forward(self, noisy: Tensor, known: Tensor, mask: Tensor, time: Tensor) -> Tensor:
        signal, spread = (x[:, None, None, None] for x in signal_and_noise(time))
        return (signal * noisy - self.image) / spread


@pytest.mark.parametrize("steps", [1, 4, 50])
def test_the_sampler_returns_what_an_exact_denoiser_knows(steps: int) -> None:
    model, batch = build(sampling_steps=steps), make_batch(1)
    model.networks["generator"] = _Exact(batch.image * 2 - 1).eval()
    raw = model.complete(batch).raw
    hole = batch.mask.expand_as(raw) > 0.5
    torch.testing.assert_close(raw[hole], batch.image[hole], atol=1e-5, rtol=0)


def test_training_predicts_the_image_from_v() -> None:
    """The raw output of a training forward is the image itself where v is exact."""
    model, batch = build(), make_batch(4)
    model.networks["generator"] = _Exact(batch.image * 2 - 1).train()
    completion = model.complete(batch)
    hole = batch.mask.expand_as(completion.raw) > 0.5
    torch.testing.assert_close(completion.raw[hole], batch.image[hole], atol=1e-4, rtol=0)
    (phase,) = model.phases(Budget(num_steps=9))
    assert model.loss("generator", batch, completion, phase)["loss"].item() == pytest.approx(0, abs=1e-6)


def test_micro_batches_draw_the_noise_of_the_whole_batch() -> None:
    model, batch = build(), make_batch(6)
    state = batch.generator.get_state()
    whole = model.complete(batch).extras["target"]
    batch.generator.set_state(state)
    parts = [model.complete(part).extras["target"] for part in batch.split(2)]
    assert torch.equal(torch.cat(parts), whole)


def test_a_deterministic_model_has_one_completion() -> None:
    entry = load_model("mean")
    model, batch = entry.model(entry.config(), Task(size=SIZE)), make_batch(2)
    assert not model.stochastic
    assert torch.equal(model.sample(batch, 3).raw, model.complete(batch).raw)


def test_it_is_small_enough_for_a_cpu() -> None:
    model = Diffusion(DiffusionConfig(), Task(size=64))
    assert sum(p.numel() for p in model.networks.parameters()) == 2_652_252


def test_refusals() -> None:
    entry = load_model("diffusion")
    for changes in ({"sampling_steps": 51}, {"sampling_steps": 0}, {"width": 12}, {"width": "a"}):
        with pytest.raises(InvalidModelError):
            entry.config(**changes)
    with pytest.raises(UnsupportedSizeError, match="multiples of 8"):
        entry.model.validate(entry.config(), 60)
