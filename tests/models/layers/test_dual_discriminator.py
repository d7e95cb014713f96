"""The local and global discriminators of GLCIC and MGS-IIM: what they see, and what they are made of."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from models.base import Batch, Budget, InpaintingModel, Task
from models.discovery import load_model
from models.layers.dual_discriminator import DualDiscriminator, LayerOptions
from models.layers.local_crop import hole_corners
from models.layers.spectral_norm import SpectralConv2d, SpectralLinear

SIZE, LOCAL, COUNT = 64, 40, 4


def build(name: str, **changes: Any) -> InpaintingModel:
    torch.manual_seed(0)
    entry = load_model(name)
    return entry.model(entry.config("smoke", **changes), Task(size=SIZE))


def make_batch() -> Batch:
    """Build four images with holes at four positions."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.zeros(COUNT, 1, SIZE, SIZE)
    for number, (top, left) in enumerate([(16, 16), (0, 0), (40, 30), (20, 44)]):
        mask[number, :, top : top + 20, left : left + 20] = 1
    image = torch.rand(COUNT, 3, SIZE, SIZE, generator=generator)
    return Batch(image, mask, torch.arange(COUNT), 0, generator)


def seen(model: InpaintingModel, network: str) -> tuple[Batch, Tensor, Tensor, Tensor]:
    """Return the batch, the composite, and the images and crops that the discriminator got for ``network``'s loss."""
    data, got = make_batch(), []
    model.networks["discriminator"].register_forward_pre_hook(lambda _m, inputs: got.append(inputs))
    completion = model.complete(data)
    model.loss(network, data, completion, model.phases(Budget(num_steps=9))[-1])
    (picture, crops, *_), *others = got
    assert not others, "one forward for real and completed pictures together"
    return data, completion.composite, picture, crops


def place(crop: Tensor, picture: Tensor) -> tuple[int, int]:
    """Find the position in ``picture`` at which the crop was taken."""
    windows = picture.unfold(1, LOCAL, 1).unfold(2, LOCAL, 1)
    ((top, left),) = (windows == crop[:, None, None]).all(dim=(0, 3, 4)).nonzero().tolist()
    return top, left


@pytest.mark.parametrize("name", ["glcic", "mgs-iim"])
def test_completed_images_are_composites_with_the_crop_around_the_hole(name: str) -> None:
    for network in ("discriminator", "generator"):
        data, composite, picture, crops = seen(build(name), network)
        fake, fake_crops = picture[-COUNT:], crops[-COUNT:]
        assert torch.equal(fake[:, :3], composite)
        corners = [place(c, p) for c, p in zip(fake_crops[:, :3], fake[:, :3], strict=True)]
        assert corners == [tuple(c) for c in hole_corners(data.mask, LOCAL).tolist()]
        # The hole lies in the crop, whole.
        for (top, left), mask in zip(corners, data.mask, strict=True):
            assert mask[:, top : top + LOCAL, left : left + LOCAL].sum() == 20 * 20


def test_glcic_crops_each_real_image_at_a_position_of_its_own() -> None:
    """A random place for every picture apart (the port: one for a batch); the picture alone, without its mask."""
    data, _, picture, crops = seen(build("glcic"), "discriminator")
    assert picture.shape == (2 * COUNT, 3, SIZE, SIZE)
    assert torch.equal(picture[:COUNT], data.image)
    places = [place(c, p) for c, p in zip(crops[:COUNT], data.image, strict=True)]
    assert len(set(places)) > 1
    assert places != [tuple(c) for c in hole_corners(data.mask, LOCAL).tolist()]


def test_mgs_iim_shows_the_same_mask_and_place_for_real_and_completed() -> None:
    data, _, picture, crops = seen(build("mgs-iim"), "discriminator")
    assert picture.shape == (2 * COUNT, 4, SIZE, SIZE)
    assert torch.equal(picture[:COUNT, :3], data.image)
    assert torch.equal(picture[:COUNT, 3:], data.mask)
    assert torch.equal(picture[COUNT:, 3:], data.mask)
    assert torch.equal(crops[:COUNT, 3:], crops[COUNT:, 3:])


def test_the_fields_that_change_what_is_seen() -> None:
    data, _, picture, crops = seen(
        build("glcic", real_crop="hole", discriminator_fake="raw"), "discriminator"
    )
    places = [place(c, p) for c, p in zip(crops[:COUNT], data.image, strict=True)]
    assert places == [tuple(c) for c in hole_corners(data.mask, LOCAL).tolist()]
    known = (data.mask < 0.5).expand_as(data.image)
    assert not torch.equal(picture[COUNT:][known], data.image[known])


def test_the_discriminators_loss_is_not_scaled_by_alpha() -> None:
    """The port multiplies it by alpha / 2; at logits of zero it is log 4 here, and alpha is the generator's alone."""
    model, data = build("glcic", adversarial_weight=0.5), make_batch()
    nn.init.zeros_(model.networks["discriminator"].verdict.weight)
    nn.init.zeros_(model.networks["discriminator"].verdict.bias)
    phase = model.phases(Budget(num_steps=9))[-1]
    loss = model.loss("discriminator", data, model.complete(data), phase)["loss"]
    torch.testing.assert_close(loss, torch.tensor(4.0).log())


@pytest.mark.parametrize(
    ("changes", "parameters"),
    [
        # The convolutions of Tables 2 and 3 with the mean of the last map, 512 to 1,024, then 2,048 to 1.
        ({"options": LayerOptions(head="gap")}, (10_862_272 + 525_312) + (17_416_384 + 525_312) + 2_049),
        ({"branches": "local", "options": LayerOptions()}, (10_862_272 + 4_719_616) + 1_025),
    ],
)
def test_parameters_of_variants(changes: dict[str, Any], parameters: int) -> None:
    with torch.device("meta"):
        network = DualDiscriminator(4, 160, 96, global_depth=6, **changes)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize(
    ("size", "local", "depth"), [(160, 80, 5), (160, 96, 6), (100, 52, 5), (256, 128, 6)]
)
def test_sizes_that_halve_unevenly(size: int, local: int, depth: int) -> None:
    """The port sizes its fully connected layer by ``h // 32`` and fails at 80 and, with six convolutions, at 160."""
    network = DualDiscriminator(
        3, size, local, global_depth=depth, options=LayerOptions(width=1 / 16, batch_norm=True)
    )
    logits = network(torch.rand(2, 3, size, size), torch.rand(2, 3, local, local))
    assert logits.shape == (2, 1)


@pytest.mark.parametrize(
    ("choice", "convolutions", "linear"),
    [("convs", True, False), ("all", True, True), ("none", False, False)],
)
def test_where_spectral_norm_is(choice: str, convolutions: bool, linear: bool) -> None:
    network = build("mgs-iim", spectral_norm=choice).networks["discriminator"]
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            assert isinstance(module, SpectralConv2d) is convolutions
        elif isinstance(module, nn.Linear):
            assert isinstance(module, SpectralLinear) is linear
        assert not isinstance(module, nn.BatchNorm2d)


def test_batch_norm_of_real_and_fake_in_one_forward_is_that_of_two() -> None:
    torch.manual_seed(0)
    options = LayerOptions(width=0.0625, batch_norm=True)
    one, two = DualDiscriminator(3, 64, 40, options=options), DualDiscriminator(3, 64, 40, options=options)
    two.load_state_dict(one.state_dict())
    picture, local = torch.rand(6, 3, 64, 64), torch.rand(6, 3, 40, 40)
    together = one(picture, local, populations=2)
    apart = torch.cat([two(picture[:3], local[:3]), two(picture[3:], local[3:])])
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-5)
    for (key, a), b in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=key)


@pytest.mark.parametrize("name", ["mgs-iim", "deepfillv2"])
@pytest.mark.parametrize("network", ["discriminator", "generator"])
def test_a_step_in_micro_batches_is_that_of_the_whole_batch(name: str, network: str) -> None:
    """Power iterations move once a step: gradients average to the whole's, and the state after it is the same."""
    whole, pieces = build(name), build(name)
    pieces.networks.load_state_dict(whole.networks.state_dict())
    data = make_batch()
    whole.networks["generator"].eval()
    pieces.networks["generator"].eval()  # batch statistics of parts differ, and are not what is tested
    phase = whole.phases(Budget(num_steps=9))[-1]

    def gradients(model: InpaintingModel, parts: list[Batch]) -> list[Tensor]:
        weights = list(model.networks["discriminator"].parameters())
        total = [torch.zeros_like(w) for w in weights]
        for part in parts:
            completion = model.complete(part)
            seen = completion if network == "generator" else completion.detach()
            loss = model.loss(network, part, seen, phase)["loss"]
            found = torch.autograd.grad(loss, weights)
            total = [t + g * len(part) / COUNT for t, g in zip(total, found, strict=True)]
        return total

    expected = gradients(whole, [data])
    for found, gradient in zip(gradients(pieces, data.split(1)), expected, strict=True):
        torch.testing.assert_close(found, gradient, rtol=1e-3, atol=1e-6)
    after = pieces.networks["discriminator"].state_dict()
    for key, value in whole.networks["discriminator"].state_dict().items():
        assert torch.equal(after[key], value), key


def test_glcics_order_of_activation_reaches_its_discriminators() -> None:
    """ReLU first: what batch-norm returns then has negative values, which reach the next convolution."""
    for order, lowest in (("norm-act", 0.0), ("act-norm", -0.1)):
        model = build("glcic", activation_order=order)
        branch = model.networks["discriminator"].global_branch
        got: list[Tensor] = []
        branch.convs[1].register_forward_pre_hook(lambda _m, inputs, got=got: got.append(inputs[0]))
        data = make_batch()
        phase = model.phases(Budget(num_steps=9))[-1]
        model.loss("discriminator", data, model.complete(data), phase)
        assert (got[0].min().item() >= 0) is (lowest == 0.0)
