"""Context Encoder against the published layer table and losses."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from models.base import Batch, Box, Budget, Task
from models.context_encoder import ContextEncoder, ContextEncoderConfig, center_box
from models.errors import UnsupportedSizeError
from models.layers.cpu_kernels import MatrixConv2d, MatrixConvTranspose2d
from models.losses import band_weight

NARROW = ContextEncoderConfig(width=4, bottleneck=12)


def make_batch(size: int, box: Box | None, count: int = 2) -> Batch:
    """Noise with the given hole, or with a ragged one."""
    generator = torch.Generator().manual_seed(3)
    mask = torch.zeros(count, 1, size, size)
    if box is None:
        mask[0, :, 5:20, 7 : size // 2] = 1
        mask[1:, :, size // 2 :, 3:9] = 1
    else:
        mask[:, :, box.top : box.top + box.height, box.left : box.left + box.width] = 1
    image = torch.rand(count, 3, size, size, generator=generator)
    return Batch(image=image, mask=mask, ids=torch.arange(count), step=0, generator=generator)


def output_shapes(network: nn.Module, picture: torch.Tensor) -> list[tuple[int, ...]]:
    """(channels, height, width) after every convolution, in order."""
    shapes: list[tuple[int, ...]] = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(lambda _m, _i, out: shapes.append(tuple(out.shape[1:])))
    network(picture)
    return shapes


def test_layers_at_160_px_follow_the_published_table() -> None:
    model = ContextEncoder(
        ContextEncoderConfig(bottleneck=40), Task(size=160, fixed_hole_box=center_box(160))
    )
    assert output_shapes(model.networks["generator"], torch.rand(2, 3, 160, 160)) == [
        (64, 80, 80), (64, 40, 40), (128, 20, 20), (256, 10, 10), (512, 5, 5),
        (40, 2, 2),
        (512, 5, 5), (256, 10, 10), (128, 20, 20), (64, 40, 40), (3, 80, 80),
    ]  # fmt: skip
    assert output_shapes(model.networks["discriminator"], torch.rand(2, 3, 80, 80)) == [
        (64, 40, 40), (128, 20, 20), (256, 10, 10), (512, 5, 5), (1, 2, 2),
    ]  # fmt: skip
    rows = model.layer_table()["generator"]
    assert [(r.kind, r.in_channels, r.out_channels) for r in rows[5:7]] == [
        ("conv", "512", "40"),
        ("deconv", "40", "512"),
    ]
    assert rows[0].note == "LeakyReLU"  # no batch-norm on the first
    assert rows[-1].note == "Tanh"


@pytest.mark.parametrize("size", [64, 128, 160])
@pytest.mark.parametrize("centre", [True, False])
def test_raw_is_a_whole_picture_and_known_pixels_are_kept_bit_for_bit(size: int, centre: bool) -> None:
    box = center_box(size) if centre else None
    model, batch = ContextEncoder(NARROW, Task(size=size, fixed_hole_box=box)), make_batch(size, box)
    completion = model.complete(batch)
    assert completion.raw.shape == batch.image.shape
    assert completion.raw.dtype == torch.float32
    known = (batch.mask == 0).expand_as(batch.image)
    assert torch.equal(completion.composite[known], batch.image[known])
    assert not torch.equal(completion.composite[~known], batch.image[~known])


@pytest.mark.parametrize("centre", [True, False])
def test_output_does_not_depend_on_what_lies_under_the_hole(centre: bool) -> None:
    box = center_box(64) if centre else None
    model, batch = ContextEncoder(NARROW, Task(size=64, fixed_hole_box=box)), make_batch(64, box)
    model.networks.eval()
    hidden = torch.where(batch.mask > 0.5, torch.full_like(batch.image, math.nan), batch.image)
    other = Batch(image=hidden, mask=batch.mask, ids=batch.ids, step=0, generator=torch.Generator())
    assert torch.equal(model.complete(batch).raw, model.complete(other).raw)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("centre", [True, False])
def test_every_parameter_gets_a_gradient_and_only_its_players(centre: bool, bf16: bool) -> None:
    box = center_box(64) if centre else None
    model, batch = ContextEncoder(NARROW, Task(size=64, fixed_hole_box=box)), make_batch(64, box, 4)
    (phase,) = model.phases(Budget(num_steps=3))
    assert phase.networks == ("discriminator", "generator")
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        completion = model.complete(batch)
        model.loss("discriminator", batch, completion.detach(), phase)["loss"].backward()
    assert all(p.grad is None for p in model.networks["generator"].parameters())
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0 for p in model.networks["discriminator"].parameters()
    )
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        terms = model.loss("generator", batch, completion, phase)
    assert terms["loss"].dtype == torch.float32
    terms["loss"].backward(inputs=list(model.networks["generator"].parameters()))
    assert all(
        p.grad is not None and p.grad.abs().sum() > 0 for p in model.networks["generator"].parameters()
    )


def test_generator_loss_is_the_published_weighted_sum_with_a_tenfold_band() -> None:
    model, batch = (
        ContextEncoder(NARROW, Task(size=64, fixed_hole_box=center_box(64))),
        make_batch(64, center_box(64)),
    )
    (phase,) = model.phases(Budget(num_steps=1))
    completion = model.complete(batch)
    terms = model.loss("generator", batch, completion, phase)
    error = ((completion.raw - batch.image)[:, :, 16:48, 16:48] * 2).square()
    total = 10 * error.sum() - 9 * error[:, :, 4:-4, 4:-4].sum()
    torch.testing.assert_close(terms["reconstruction"], total / error.numel())
    torch.testing.assert_close(terms["loss"], 0.999 * terms["reconstruction"] + 0.001 * terms["adversarial"])
    assert band_weight(8, 8, 4, 10.0).unique().tolist() == [10.0]  # a patch that is all band


def test_the_random_region_network_is_trained_on_the_whole_picture() -> None:
    model, batch = ContextEncoder(NARROW, Task(size=64)), make_batch(64, None)
    (phase,) = model.phases(Budget(num_steps=1))
    completion = model.complete(batch)
    terms = model.loss("generator", batch, completion, phase)
    error = ((completion.raw - batch.image) * 2).square().mean()
    torch.testing.assert_close(terms["reconstruction"], error)


@pytest.mark.parametrize("centre", [True, False])
def test_the_network_sees_no_mask_and_the_published_pixel_in_the_hole(centre: bool) -> None:
    box = center_box(64) if centre else None
    model, batch = ContextEncoder(NARROW, Task(size=64, fixed_hole_box=box)), make_batch(64, box)
    seen: list[torch.Tensor] = []
    model.networks["generator"].register_forward_pre_hook(lambda _m, inputs: seen.extend(inputs))
    model.complete(batch)
    pixel = torch.tensor([117.0, 104.0, 123.0]).view(1, 3, 1, 1) / 255
    expected = torch.where(batch.mask > 0.5, pixel, batch.image) * 2 - 1
    torch.testing.assert_close(seen[0], expected)


@pytest.mark.parametrize("centre", [True, False])
def test_the_discriminator_sees_patch_or_picture_and_gives_one_logit_each(centre: bool) -> None:
    """At 160 px it ends in 2 x 2 logits of a picture, which are averaged, not counted as pictures."""
    box = center_box(160) if centre else None
    model, batch = ContextEncoder(NARROW, Task(size=160, fixed_hole_box=box)), make_batch(160, box)
    seen: list[torch.Tensor] = []
    judge = model.networks["discriminator"]
    judge.register_forward_pre_hook(lambda _m, inputs: seen.extend(inputs))
    (phase,) = model.phases(Budget(num_steps=1))
    completion = model.complete(batch)
    model.loss("discriminator", batch, completion.detach(), phase)
    inside = slice(40, 120) if centre else slice(None)
    for given, picture in zip(seen, (batch.image, completion.raw), strict=True):
        torch.testing.assert_close(given, picture[:, :, inside, inside] * 2 - 1)
    with torch.no_grad():
        maps = judge.head(judge.layers(seen[0]))
        assert maps.shape[2:] == (2, 2)
        assert judge(seen[0]).shape == (2,)


def test_the_faithful_track_uses_the_published_learning_rates() -> None:
    model = ContextEncoder(NARROW, Task(size=64))
    (phase,) = model.phases(Budget(num_steps=5, track="faithful"))
    rates = {network: spec.learning_rate for network, spec in phase.optimizers.items()}
    assert rates == {"discriminator": 2e-4, "generator": 2e-3}
    assert all(spec.betas == (0.5, 0.999) for spec in phase.optimizers.values())
    assert ContextEncoder.published_batch_size == 64


def test_the_patch_head_refuses_other_holes_and_the_full_head_is_labelled() -> None:
    centre, free = Task(size=64, fixed_hole_box=center_box(64)), Task(size=64)
    elsewhere = Box(0, 0, 32, 32)
    assert ContextEncoder.not_applicable(NARROW, centre, center_box(64)) is None
    assert "center" in str(ContextEncoder.not_applicable(NARROW, centre, elsewhere))
    assert "center" in str(ContextEncoder.not_applicable(NARROW, centre, None))
    assert ContextEncoder.not_applicable(NARROW, free, None) is None
    assert ContextEncoder.not_applicable(NARROW, free, elsewhere) is None
    assert ContextEncoder.label_suffix(NARROW, centre) == ""
    assert ContextEncoder.label_suffix(NARROW, free) == "(random region)"
    assert ContextEncoder.label_suffix(NARROW, Task(size=64, fixed_hole_box=elsewhere)) == "(random region)"


@pytest.mark.parametrize("size", [32, 96, 256])
def test_other_sizes_are_refused_with_those_that_fit(size: int) -> None:
    with pytest.raises(UnsupportedSizeError, match="64, 128 and 160"):
        ContextEncoder.validate(NARROW, size)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("side", [4, 5])
def test_matrix_layers_equal_torch_convolutions(side: int, layout: torch.memory_format) -> None:
    """Oracle: torch's conv2d and conv_transpose2d in float64, values and weight gradients to 1e-12."""
    torch.manual_seed(0)
    down, up = MatrixConv2d(3, 5, 4).double(), MatrixConvTranspose2d(5, 3, 4).double()
    down.to(memory_format=layout), up.to(memory_format=layout)
    picture = torch.randn(2, 3, side, side, dtype=torch.float64).contiguous(memory_format=layout)
    code = torch.randn(2, 5, side - 3, side - 3, dtype=torch.float64)
    for ours, theirs, weight in (
        (down(picture), nn.functional.conv2d(picture, down.weight), down.weight),
        (up(code), nn.functional.conv_transpose2d(code, up.weight), up.weight),
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
        towards = torch.randn(ours.shape, dtype=torch.float64)
        (a,) = torch.autograd.grad(ours, weight, towards, retain_graph=True)
        (b,) = torch.autograd.grad(theirs, weight, towards)
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
