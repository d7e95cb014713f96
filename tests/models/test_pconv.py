"""PConv against the published layer table, phases and losses."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from models import losses
from models.base import Batch, Budget, Task
from models.errors import MissingWeightsError, UnsupportedSizeError
from models.layers.partial_conv import PartialConv2d
from models.losses import dilate_mask, total_variation, weighted_l1
from models.pconv import PConv, PConvConfig
from models.registry import get_model

OFF = PConvConfig(width=4, vgg_losses="off")


def make_batch(size: int, count: int = 2) -> Batch:
    """Noise with a centre hole in the first picture and a ragged one in the others."""
    generator = torch.Generator().manual_seed(5)
    mask = torch.zeros(count, 1, size, size)
    mask[0, :, size // 4 : 3 * size // 4, size // 4 : 3 * size // 4] = 1
    mask[1:] = (torch.rand(count - 1, 1, size, size, generator=generator) < 0.6).float()
    image = torch.rand(count, 3, size, size, generator=generator)
    return Batch(image=image, mask=mask, ids=torch.arange(count), step=0, generator=generator)


def test_layers_at_160_px_follow_the_published_table() -> None:
    model = PConv(PConvConfig(vgg_losses="off"), Task(size=160))
    seen: list[tuple[int, ...]] = []
    for module in model.networks["generator"].modules():
        if isinstance(module, PartialConv2d):
            module.register_forward_hook(
                lambda m, _i, out: seen.append((m.in_channels, m.kernel_size[0], *out.features.shape[1:]))
            )
    with torch.no_grad():
        model.complete(make_batch(160))
    assert seen == [
        (3, 7, 64, 80, 80), (64, 5, 128, 40, 40), (128, 5, 256, 20, 20), (256, 3, 512, 10, 10),
        (512, 3, 512, 5, 5),
        (1024, 3, 512, 10, 10), (768, 3, 256, 20, 20), (384, 3, 128, 40, 40), (192, 3, 64, 80, 80),
        (67, 3, 3, 160, 160),
    ]  # fmt: skip
    rows = model.layer_table()["generator"]
    assert [row.name for row in rows[4:6]] == ["encoder 5", "decoder 5"]
    assert rows[0].note == "ReLU"  # no batch-norm on the first
    assert rows[-1].note.startswith("bias")


@pytest.mark.parametrize("size", [64, 160])
def test_known_pixels_are_kept_and_hidden_pixels_do_not_matter(size: int) -> None:
    model, batch = PConv(OFF, Task(size=size)), make_batch(size)
    model.networks.eval()
    completion = model.complete(batch)
    known = (batch.mask == 0).expand_as(batch.image)
    assert torch.equal(completion.composite[known], batch.image[known])
    hidden = torch.where(batch.mask > 0.5, torch.full_like(batch.image, math.nan), batch.image)
    other = Batch(image=hidden, mask=batch.mask, ids=batch.ids, step=0, generator=batch.generator)
    assert torch.equal(model.complete(other).raw, completion.raw)


@pytest.mark.parametrize("bf16", [False, True])
def test_every_parameter_gets_a_gradient(bf16: bool) -> None:
    model, batch = PConv(OFF, Task(size=64)), make_batch(64, 4)
    train, _ = model.phases(Budget(num_steps=4))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        completion = model.complete(batch)
        terms = model.loss("generator", batch, completion, train)
    assert completion.raw.dtype == terms["loss"].dtype == torch.float32
    terms["loss"].backward()
    for name, parameter in model.networks.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_loss_is_the_published_weighted_sum() -> None:
    config = PConvConfig(width=4, vgg_losses="off", normalization="unit")
    model, batch = PConv(config, Task(size=64)), make_batch(64)
    train, _ = model.phases(Budget(num_steps=2))
    completion = model.complete(batch)
    terms = model.loss("generator", batch, completion, train)
    error = (completion.raw - batch.image).abs()
    torch.testing.assert_close(terms["valid"], (error * (1 - batch.mask)).mean())
    torch.testing.assert_close(terms["hole"], (error * batch.mask).mean())
    torch.testing.assert_close(terms["loss"], terms["valid"] + 6 * terms["hole"] + 0.1 * terms["tv"])
    # In ImageNet's normalisation the same error counts 1 / std in every channel.
    scaled = PConv(OFF, Task(size=64)).loss("generator", batch, completion, train)
    std = torch.tensor(losses.IMAGENET_STD).view(1, 3, 1, 1)
    torch.testing.assert_close(scaled["hole"], (error / std * batch.mask).mean())


def test_total_variation_counts_pairs_inside_the_region_only() -> None:
    image = torch.zeros(1, 1, 3, 4)
    image[0, 0, 1, 1] = 1.0
    # Down: 2 of 8 pairs differ, across: 2 of 9.
    assert total_variation(image).item() == pytest.approx(2 / 8 + 2 / 9)
    region = torch.zeros(1, 1, 3, 4)
    region[0, 0, :2, 1] = 1.0
    assert total_variation(image, region).item() == pytest.approx(1 / 8)
    assert dilate_mask(region).sum() == 9
    assert weighted_l1(image, torch.zeros_like(image), region).item() == pytest.approx(1 / 12)


def test_fine_tuning_freezes_the_encoders_batch_norm_at_a_lower_rate() -> None:
    model = PConv(OFF, Task(size=64))
    train, fine = model.phases(Budget(num_steps=100, track="faithful"))
    assert (train.num_steps, fine.num_steps) == (73, 27)
    assert [p.optimizers["generator"].learning_rate for p in (train, fine)] == [2e-4, 5e-5]
    assert (train.frozen_batch_norm, fine.frozen_batch_norm) == ((), ("generator.encoder",))
    frozen = model.networks.get_submodule("generator.encoder").modules()
    assert sum(isinstance(m, nn.BatchNorm2d) for m in frozen) == 4


@pytest.mark.parametrize(("levels", "size"), [(7, 160), (6, 160), (5, 100)])
def test_a_size_that_does_not_divide_is_refused_with_the_reason(levels: int, size: int) -> None:
    config = PConvConfig(levels=levels, vgg_losses="off")
    with pytest.raises(UnsupportedSizeError, match=f"multiple of {2**levels} px, not {size}"):
        PConv.validate(config, size)


def test_presets_say_whether_the_vgg_terms_are_on() -> None:
    entry, task = get_model("pconv"), Task(size=64)
    for preset in ("smoke", "quick"):
        assert PConv.label_suffix(entry.config(preset), task) == "(no perceptual/style)"
        PConv.requirements(entry.config(preset))  # nothing is needed
    assert PConv.label_suffix(entry.config("paper"), task) == ""


def test_missing_vgg_weights_are_an_error_that_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(MissingWeightsError, match=r"vgg16-397923af\.pth is missing.*vgg_losses = off"):
        PConv.requirements(get_model("pconv").config("paper"))
    file = losses.vgg16_file()
    file.write_bytes(b"not a checkpoint")
    with pytest.raises(MissingWeightsError, match="not a readable torch file"):
        losses.VGG16Features()


def test_gram_matrix_equals_the_sum_over_positions() -> None:
    features = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    expected = torch.einsum("nchw,ndhw->ncd", features, features) / (3 * 4 * 5)
    torch.testing.assert_close(losses.gram_matrix(features).double(), expected, rtol=1e-5, atol=1e-6)


def test_vgg_features_equal_torchvisions_and_draw_no_random_numbers(backbone_folder: Path) -> None:
    """Oracle: torchvision's own vgg16, features after layers 4, 9 and 16."""
    import torchvision

    if not losses.vgg16_file().is_file():
        pytest.skip("needs VGG16 in torchvision's cache")
    before = torch.get_rng_state()
    ours = losses.VGG16Features()
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(p.requires_grad for p in ours.parameters())
    with torch.device("meta"):
        theirs = torchvision.models.vgg16().features[:17]
    state = torch.load(losses.vgg16_file(), weights_only=True, mmap=True)
    kept = {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}
    theirs.load_state_dict({k: v for k, v in kept.items() if int(k.split(".")[0]) < 17}, assign=True)
    picture = torch.randn(1, 3, 64, 64)
    maps: list[Tensor] = []
    x = picture
    for index, layer in enumerate(theirs):
        x = layer(x)
        if index in (4, 9, 16):
            maps.append(x)
    for a, b in zip(ours(picture), maps, strict=True):
        torch.testing.assert_close(a, b)


def test_perceptual_and_style_terms_are_the_published_sums(backbone_folder: Path) -> None:
    if not losses.vgg16_file().is_file():
        pytest.skip("needs VGG16 in torchvision's cache")
    model, batch = PConv(PConvConfig(width=4), Task(size=64)), make_batch(64)
    train, _ = model.phases(Budget(num_steps=2))
    completion = model.complete(batch)
    terms = model.loss("generator", batch, completion, train)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (losses.IMAGENET_MEAN, losses.IMAGENET_STD))
    raw, comp, truth = (
        model.frozen["vgg16"]((x - mean) / std) for x in (completion.raw, completion.composite, batch.image)
    )
    close, styled = torch.zeros(()), torch.zeros(())
    for r, c, t in zip(raw, comp, truth, strict=True):
        close = close + (r - t).abs().mean() + (c - t).abs().mean()
        for made in (r, c):
            _, channels, height, width = made.shape
            difference = torch.einsum("nchw,ndhw->ncd", made, made) - torch.einsum("nchw,ndhw->ncd", t, t)
            styled = styled + (difference / (channels * height * width)).abs().mean()
    torch.testing.assert_close(terms["perceptual"], close)
    torch.testing.assert_close(terms["style"], styled, rtol=1e-4, atol=1e-6)
    base = terms["valid"] + 6 * terms["hole"] + 0.1 * terms["tv"]
    torch.testing.assert_close(terms["loss"], base + 0.05 * terms["perceptual"] + 120 * terms["style"])
    terms["loss"].backward()
    assert all(p.grad is not None for p in model.networks.parameters())
