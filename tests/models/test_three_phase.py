"""GLCIC and MGS-IIM: published tables, counts and training procedure."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from models.base import Batch, Budget, InpaintingModel, Task
from models.discovery import load_model
from models.errors import InvalidModelError, UnsupportedSizeError

NAMES = ("glcic", "mgs-iim")
VARIANTS = ("no-gate", "no-sn", "single-d", "no-skip", "gate-all")


def build(name: str, size: int = 64, *, preset: str = "smoke", **changes: Any) -> InpaintingModel:
    torch.manual_seed(0)
    entry = load_model(name)
    return entry.model(entry.config(preset, **changes), Task(size=size, mean_pixel=(0.5, 0.4, 0.3)))


def batch(size: int = 64, count: int = 2, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.zeros(count, 1, size, size)
    mask[:, :, size // 4 : 3 * size // 4, size // 4 : 3 * size // 4] = 1
    return Batch(
        torch.rand(count, 3, size, size, generator=generator), mask, torch.arange(count), 0, generator
    )


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("name", "changes", "parameters"),
    [
        ("glcic", {}, 6_072_131),
        ("mgs-iim", {}, 6_300_035),
        ("mgs-iim-no-gate", {}, 6_072_131),
        ("mgs-iim-no-skip", {}, 6_300_035),
        ("mgs-iim-gate-all", {}, 12_137_443),
        # Rows 14 and 16 read twice as many channels: 128 * 128 * 9 + 64 * 32 * 9 more.
        ("mgs-iim", {"skips": "concat"}, 6_300_035 + 165_888),
        # Row 13 too reads twice as many channels: 256 * 128 * 16 more.
        ("mgs-iim", {"skips": "concat", "skip_places": "every-size"}, 6_300_035 + 165_888 + 524_288),
        ("mgs-iim", {"skip_places": "sampling"}, 6_300_035),
        # Twice the filters in rows 1, 2, 4, 13 and 15: what section 3.3 gates.
        ("mgs-iim", {"gate": "sampling"}, 6_072_131 + 6_464 + 73_856 + 295_168 + 524_416 + 131_136),
        # Gated rows lose their batch-norm: scales and shifts of 64 + 128 + 128 channels.
        ("mgs-iim", {"activation_order": "act-gate"}, 6_300_035 - 640),
    ],
)
def test_generator_parameters(name: str, changes: dict[str, Any], parameters: int) -> None:
    entry = load_model(name)
    with torch.device("meta"):
        # No discriminator, whose spectral norms would be iterated on weights that are not there.
        model: Any = object.__new__(entry.model)
        model.config, model.task = entry.config("quick", **changes), Task(size=160)
        assert count(model.build_generator()) == parameters


@pytest.mark.parametrize("name", NAMES)
def test_layers_at_160_have_the_published_shapes(name: str) -> None:
    """Channels of Table 1 of either paper, sides 160, 80, 40, 80, 160 by its strides."""
    model = build(name, 160, preset="quick")
    generator, shapes = model.networks["generator"], []
    for block in [*generator.blocks, generator.output]:
        block.register_forward_hook(lambda _m, _i, out: shapes.append(tuple(out.shape[1:])))
    with torch.no_grad():
        raw = generator(batch(160, 1).image, batch(160, 1).mask)
    channels = [64, 128, 128, *[256] * 9, 128, 128, 64, 32, 3]
    sides = [160, 80, 80, *[40] * 9, 80, 80, 160, 160, 160]
    assert shapes == [(c, s, s) for c, s in zip(channels, sides, strict=True)]
    assert raw.dtype == torch.float32
    assert raw.min() > 0
    assert raw.max() < 1

    discriminator, maps = model.networks["discriminator"], []
    for branch in (discriminator.local_branch, discriminator.global_branch):
        for layer in [*branch.convs, branch.fc]:
            layer.register_forward_hook(lambda _m, _i, out: maps.append(tuple(out.shape[1:])))
    inputs = 4 if name == "mgs-iim" else 3
    with torch.no_grad():
        assert discriminator(torch.rand(2, inputs, 160, 160), torch.rand(2, inputs, 96, 96)).shape == (2, 1)
    local = [(64, 48, 48), (128, 24, 24), (256, 12, 12), (512, 6, 6), (512, 3, 3), (1024,)]
    whole = [(64, 80, 80), (128, 40, 40), (256, 20, 20), (512, 10, 10), (512, 5, 5)]
    assert maps == [*local, *whole, *([(512, 3, 3)] if name == "mgs-iim" else []), (1024,)]


def test_mgs_iim_layer_table_is_tables_1_to_3() -> None:
    model = build("mgs-iim", 64)
    entry = load_model("mgs-iim")
    table = entry.model(entry.config("quick"), Task(size=160)).layer_table()
    rows = [(r.kind, r.kernel, r.stride, r.in_channels, r.out_channels) for r in table["generator"]]
    assert rows[:4] == [
        ("Gateconv", "5x5", "1x1", "4", "64"),
        ("Gateconv", "3x3", "2x2", "64", "128"),
        ("Gateconv", "3x3", "1x1", "128", "128"),
        ("Conv", "3x3", "2x2", "128", "256"),
    ]
    assert [r[0] for r in rows[4:]] == [
        *["Conv"] * 2, *["Dilatedconv"] * 4, *["Conv"] * 2, "Deconv", "Conv", "Deconv", "Conv", "Output",
    ]  # fmt: skip
    assert rows[12] == ("Deconv", "4x4", "2x2", "256", "128")
    assert rows[16] == ("Output", "3x3", "1x1", "32", "3")
    for name, convolutions in (("local discriminator", 5), ("global discriminator", 6)):
        kinds = [r.kind for r in table[name]]
        assert kinds == [*["Spectralconv"] * convolutions, "FC"]
        assert (table[name][-1].in_channels, table[name][-1].out_channels) == ("512", "1024")
    assert set(model.layer_table()) == set(table)


@pytest.mark.parametrize("name", [*NAMES, *(f"mgs-iim-{v}" for v in VARIANTS)])
def test_gradients_reach_every_parameter_and_no_other_player(name: str) -> None:
    model = build(name)
    joint = model.phases(Budget(num_steps=100))[-1]
    assert joint.networks == ("discriminator", "generator")
    data = batch(count=3)
    completion = model.complete(data)
    others = {"discriminator": "generator", "generator": "discriminator"}
    for network in joint.networks:
        model.networks.zero_grad(set_to_none=True)
        seen = completion if network == "generator" else completion.detach()
        terms = model.loss(network, data, seen, joint)
        terms["loss"].backward(inputs=list(model.networks[network].parameters()))
        for key, parameter in model.networks[network].named_parameters():
            assert parameter.grad is not None, f"{network}.{key}"
            assert torch.isfinite(parameter.grad).all(), f"{network}.{key}"
            if parameter.dim() > 1:
                assert parameter.grad.abs().sum() > 0, f"{network}.{key}"
        assert all(p.grad is None for p in model.networks[others[network]].parameters())


@pytest.mark.parametrize("name", NAMES)
def test_the_hole_is_not_seen_and_the_rest_is_kept(name: str) -> None:
    model = build(name)
    first = batch()
    other = torch.where(first.mask > 0.5, torch.full_like(first.image, float("nan")), first.image)
    second = Batch(other, first.mask, first.ids, 0, first.generator)
    model.networks.eval()
    with torch.no_grad():
        a, b = model.complete(first), model.complete(second)
    assert torch.equal(a.raw, b.raw)
    known = (first.mask < 0.5).expand_as(first.image)
    assert torch.equal(a.composite[known], first.image[known])
    assert torch.equal(a.composite[~known], a.raw[~known])


@pytest.mark.parametrize("name", NAMES)
def test_phases(name: str) -> None:
    model = build(name)
    phases = model.phases(Budget(num_steps=500))
    assert [(p.name, p.num_steps) for p in phases] == [
        ("completion", 90),
        ("discriminator", 10),
        ("joint", 400),
    ]
    assert [p.networks for p in phases] == [
        ("generator",),
        ("discriminator",),
        ("discriminator", "generator"),
    ]
    optimizer = model.phases(Budget(num_steps=500, track="faithful"))[0].optimizers["generator"]
    expected = {"glcic": ("adadelta", 1.0, 0.0), "mgs-iim": ("sgd", 1e-3, 0.9)}[name]
    assert (optimizer.name, optimizer.learning_rate, optimizer.momentum) == expected
    assert model.published_batch_size == {"glcic": 96, "mgs-iim": 16}[name]
    data = batch()
    assert set(model.loss("generator", data, model.complete(data), phases[0])) == {"loss", "mse"}


@pytest.mark.parametrize("name", NAMES)
def test_generator_loss_is_the_weighted_sum(name: str) -> None:
    model = build(name, adversarial_weight=0.25, valid_weight=0.5)
    data = batch()
    terms = model.loss("generator", data, model.complete(data), model.phases(Budget(num_steps=9))[-1])
    torch.testing.assert_close(terms["loss"], terms["mse"] + 0.25 * terms["adversarial"])


@pytest.mark.parametrize("name", NAMES)
def test_reductions_of_the_squared_error_differ_by_their_denominators(name: str) -> None:
    """The center hole of 64 px has 32 * 32 * 3 values of 64 * 64 * 3; GLCIC's equation 2 divides by none of them."""
    values = {}
    for reduction in ("weights", "image", "sum"):
        model = build(name, mse_reduction=reduction)
        data = batch()
        phase = model.phases(Budget(num_steps=9))[0]
        model.networks.eval()
        values[reduction] = model.loss("generator", data, model.complete(data), phase)["mse"].item()
    hole, image = int(batch().mask[0].sum()) * 3, 64 * 64 * 3
    assert values["sum"] == pytest.approx(hole * values["weights"], rel=1e-5)
    assert values["sum"] == pytest.approx(image * values["image"], rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [64, 160])
def test_bfloat16_autocast(name: str, size: int) -> None:
    model = build(name, size)
    model.networks.to(memory_format=torch.channels_last)
    phase, data = model.phases(Budget(num_steps=9))[-1], batch(size)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        completion = model.complete(data)
        for network in phase.networks:
            loss = model.loss(network, data, completion, phase)["loss"]
            assert loss.dtype == torch.float32
            assert torch.isfinite(loss)
    assert completion.raw.dtype == completion.composite.dtype == torch.float32


def test_at_64_px_the_outermost_dilation_has_one_live_tap() -> None:
    """On the 16 x 16 map taps 16 pixels apart meet padding only, as docs/models.md says; at 96 px they do not."""
    for name in NAMES:
        for size, live in ((64, 1), (96, 9)):
            model = build(name, size)
            completion = model.complete(batch(size))
            completion.raw.square().sum().backward()
            row_10 = model.networks["generator"].blocks[9].conv
            assert row_10.dilation == (16, 16)
            assert int((row_10.weight.grad != 0).any(dim=(0, 1)).sum()) == live


@pytest.mark.parametrize("places", ["last", "sampling", "every-size"])
@pytest.mark.parametrize("skips", ["add", "concat"])
def test_skips_join_maps_of_one_size(places: str, skips: str) -> None:
    """Each skip changes the output: with the source row's output doubled, the picture is another."""
    model = build("mgs-iim", skips=skips, skip_places=places)
    model.networks.eval()
    data = batch()
    with torch.no_grad():
        plain = model.complete(data).raw
        for source in model.config.joins.values():
            generator = model.networks["generator"]
            kept: dict[str, torch.Tensor] = {}
            block = generator.blocks[source - 1]
            hook = block.register_forward_hook(lambda _m, _i, out, kept=kept: kept.setdefault("out", out) * 2)
            assert not torch.equal(model.complete(data).raw, plain)
            hook.remove()


def test_every_constant_that_is_a_choice_is_shown_with_its_value() -> None:
    entry = load_model("mgs-iim")
    config, task = entry.config("paper"), Task(size=160)
    shown = entry.model.resolved_config(config, task)
    assert shown["local_size"] == 96
    assert entry.model.resolved_config(config, Task(size=64))["local_size"] == 40
    fields = {f for a in entry.model.ambiguities for f in a.field.split(", ")}
    assert {"gate", "skips", "skip_places", "leaky_slope", "momentum", "adversarial_loss"} <= fields
    model = build("mgs-iim", leaky_slope=0.1, momentum=0.5)
    faithful = model.phases(Budget(num_steps=9, track="faithful"))[0].optimizers["generator"]
    assert faithful.describe() == "sgd, rate 0.001, momentum 0.5, constant"
    slopes = {block.activation.slope for block in model.networks["generator"].blocks}
    assert slopes == {0.1}
    assert model.networks["discriminator"].local_branch.options.activation.slope == 0.1


def test_refusals() -> None:
    entry = load_model("mgs-iim")
    with pytest.raises(UnsupportedSizeError, match="multiples of 4"):
        entry.model.validate(entry.config(), 66)
    with pytest.raises(UnsupportedSizeError, match="local_size 96"):
        entry.model.validate(entry.config(local_size=96), 64)
    for changes in (
        {"gate": "some"},
        {"dilations": (2, 4)},
        {"width": 0},
        {"completion_fraction": 0.99},
        {"real_crop": "random"},
        {"adversarial_weight": -1.0},
        {"skip_places": "first"},
        {"leaky_slope": 1.5},
        {"momentum": -0.1},
        {"mse_reduction": "median"},
    ):
        with pytest.raises(InvalidModelError):
            entry.config(**changes)
