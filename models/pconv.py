"""PConv: "Image Inpainting for Irregular Holes Using Partial Convolutions", Liu et al., ECCV 2018.

Paper: https://arxiv.org/abs/1804.07723. Repository: https://github.com/NVIDIA/partialconv (layer and VGG loss
only); training code of record is the community's, naoto0804/pytorch-inpainting-with-partial-conv.

| what | published or ambiguous | here | field |
|---|---|---|---|
| levels | 8 at 512 px; ports 7 at 256 | 5: sizes divisible by 2^levels | ``levels`` |
| masks | as many channels as features | one channel per source, same numbers | |
| epsilon in the ratio | 1e-8 (1e-6 for mixed precision) | none: counts are exact | |
| averages in L1 terms | ports differ | over the whole image (NVIDIA/partialconv#9) | |
| value range | not given | ImageNet's normalization, as the ports | ``normalization`` |
| total variation | on the hole grown by 1 px; ports: everywhere | the paper's | ``tv_region`` |
| perceptual, style | VGG16 pool1-3, 0.05 and 120 | same, or off and labeled as such | ``vgg_losses`` |
| weights | 1, 6, 0.05, 120, 0.1 | same | ``valid_weight`` ... ``tv_weight`` |
| phases | shares not given | 73 %, then 27 % fine-tuning | ``fine_tune_fraction`` |
| batch-norm when fine-tuning | frozen in the encoder | same | |
| optimizer | Adam 2e-4, then 5e-5; batch 6 | same; batch 16, as the ports | |
| Adam's betas | not given | 0.9, 0.999: the defaults of Adam's paper and of the ports | ``betas`` |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from models.base import (
    Ambiguity,
    Batch,
    Budget,
    ChannelConstant,
    Completion,
    InpaintingModel,
    Layer,
    OptimizerSpec,
    Phase,
    Task,
    composite,
)
from models.config_fields import check_fields
from models.errors import UnsupportedSizeError
from models.layers.partial_conv import MaskedTensor, PartialConv2d, UpsampledPartialConv2d
from models.losses import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    VGG16Features,
    dilate_mask,
    perceptual_and_style,
    require_vgg16,
    total_variation,
    weighted_l1,
)
from models.registry import register

_REMEDY = "set vgg_losses = off (the row is then labeled as such)"


@dataclass(frozen=True, kw_only=True)
class PConvConfig:
    """PConv's options; see the table in the module's docstring.

    Attributes:
        levels: of the U-Net, at least 4.
        width: channels of the first layer, 64 as published.
        normalization: of network input and losses: ``imagenet`` or ``unit`` ([0, 1] as it is).
        vgg_losses: ``required`` or ``off``; never decided by what is cached.
        valid_weight, hole_weight, perceptual_weight, style_weight, tv_weight: eq. 7 of the paper.
        tv_region: ``hole`` (dilated by one pixel) or ``image``.
        fine_tune_fraction: of the steps, with the encoder's batch-norm frozen.
        betas: of Adam on the faithful track.
    """

    levels: int = 5
    width: int = 64
    normalization: Literal["imagenet", "unit"] = "imagenet"
    vgg_losses: Literal["required", "off"] = "required"
    valid_weight: float = 1.0
    hole_weight: float = 6.0
    perceptual_weight: float = 0.05
    style_weight: float = 120.0
    tv_weight: float = 0.1
    tv_region: Literal["hole", "image"] = "hole"
    fine_tune_fraction: float = 0.27
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        check_fields(self)
        if self.levels < 4:
            raise ValueError(f"levels must be at least 4, not {self.levels}")
        if self.width < 1:
            raise ValueError(f"width must be at least 1, not {self.width}")
        if not 0.0 < self.fine_tune_fraction < 1.0:
            raise ValueError(f"fine_tune_fraction must lie between 0 and 1, not {self.fine_tune_fraction}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must lie in [0, 1), not {self.betas}")


class Level(nn.Module):
    """Partial convolution, batch-norm where published, activation; zeroed again in what remains of the hole."""

    def __init__(self, conv: PartialConv2d, norm: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm, self.activation = conv, norm, activation

    def forward(self, *sources: MaskedTensor) -> MaskedTensor:
        """Apply the level to a map, in the decoder together with the skip."""
        features, valid = self.conv(*sources)
        # Batch-norm moves the zeros in the hole, and the next level takes the product X * M for granted.
        return MaskedTensor.of(self.activation(self.norm(features)), valid)


class Generator(nn.Module):
    """The paper's U-Net (supplement, table 1) with ``levels`` levels.

    Args:
        levels: encoder layers; the image's side must be a multiple of ``2 ** levels``.
        width: channels of the first layer; the deepest have ``8 * width``.
    """

    def __init__(self, levels: int, width: int) -> None:
        super().__init__()
        # Doubled from level to level up to 512, as published.
        widths = [3] + [width * min(2**level, 8) for level in range(levels)]
        kernels = [7, 5, 5] + [3] * (levels - 3)
        self.encoder = nn.ModuleList(
            Level(
                PartialConv2d(widths[i], widths[i + 1], kernels[i], stride=2),
                # The first layer has no batch-norm (supplement, table 1).
                nn.BatchNorm2d(widths[i + 1]) if i else nn.Identity(),
                nn.ReLU(inplace=True),
            )
            for i in range(levels)
        )
        # From the deepest: each decoder layer takes its input, upsampled, and the encoder map of that size.
        self.decoder = nn.ModuleList(
            Level(
                # The skip of the last layer is the image itself, with its three channels.
                UpsampledPartialConv2d(widths[i + 1], widths[i], widths[i] if i else 3, bias=i == 0),
                nn.BatchNorm2d(widths[i]) if i else nn.Identity(),
                nn.LeakyReLU(0.2, inplace=True) if i else nn.Identity(),
            )
            for i in reversed(range(levels))
        )
        for module in self.modules():
            if isinstance(module, PartialConv2d):
                # As in naoto0804's port.
                nn.init.kaiming_normal_(module.weight, a=0.0, mode="fan_in")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, image: Tensor, valid: Tensor) -> Tensor:
        """Map ``(N, 3, S, S)``, zero in the hole, and ``valid`` ``(N, 1, S, S)`` to an image, float32."""
        maps = [MaskedTensor(image, valid)]
        for level in self.encoder:
            maps.append(level(maps[-1]))
        # Each skip is dropped as soon as it is used, the deepest first.
        x = maps.pop()
        for level in self.decoder:
            x = level(x, maps.pop())
        return x.features.float()


@register(
    "pconv",
    label="PConv",
    summary="U-Net of partial convolutions, which fill the hole from its border; L1, VGG16 and smoothness",
    paper="Liu et al., ECCV 2018, https://arxiv.org/abs/1804.07723",
    groups=("paper",),
)
class PConv(InpaintingModel):
    """PConv; see the module's docstring."""

    Config: ClassVar[type] = PConvConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"width": 8, "vgg_losses": "off"},
        "quick": {"vgg_losses": "off"},
        "paper": {"vgg_losses": "required"},
    }
    published_batch_size = 16
    ambiguities: ClassVar[tuple[Ambiguity, ...]] = (
        Ambiguity(
            topic="levels of the U-Net",
            published="8 at 512 px (public ports: 7 at 256)",
            resolved="5: deeper ones do not divide 160",
            field="levels",
            deviation=True,
        ),
        Ambiguity(
            topic="mask channels",
            published="one per feature channel, concatenated with the features",
            resolved="one per concatenated source, window counts combined: the same numbers",
        ),
        Ambiguity(
            topic="epsilon in sum(1)/sum(M)",
            published="1e-8, or 1e-6 in mixed precision",
            resolved="none: counts are exact float32 integers, all-hole windows are set to 0",
        ),
        Ambiguity(
            topic="averaging of the L1 terms",
            published="by the number of elements; ports differ by the hole's share",
            resolved="over the whole image for every term (the author in NVIDIA/partialconv#9)",
        ),
        Ambiguity(
            topic="value range",
            published="not given; ports: ImageNet's normalization, or [-1, 1]",
            resolved="ImageNet's normalization for network and losses",
            field="normalization",
        ),
        Ambiguity(
            topic="region of total variation",
            published="the hole dilated by one pixel; ports: the whole composite, or the hole",
            resolved="the hole dilated by one pixel, averaged over the whole image",
            field="tv_region",
        ),
        Ambiguity(
            topic="perceptual and style terms",
            published="VGG16 pool1-3, weights 0.05 and 120",
            resolved="same where required (preset paper); off in smoke and quick, and labeled as such",
            field="vgg_losses",
        ),
        Ambiguity(
            topic="length of the phases",
            published="not given as a share; mmagic 800k + 300k, naoto0804 500k + 500k",
            resolved="73 % training, 27 % fine-tuning with the encoder's batch-norm frozen",
            field="fine_tune_fraction",
        ),
        Ambiguity(
            topic="Adam's betas",
            published="not given; the ports keep the defaults",
            resolved="0.9 and 0.999",
            field="betas",
        ),
        Ambiguity(
            topic="batch size",
            published="6 on one 16 GB GPU",
            resolved="16, as the public ports",
            deviation=True,
        ),
    )

    def __init__(self, config: PConvConfig, task: Task) -> None:
        super().__init__(config, task)
        self.validate(config, task.size)
        self.networks["generator"] = Generator(config.levels, config.width)
        # In ``frozen``, so that no checkpoint holds VGG16's 15 million weights.
        self.frozen.update({"mean": ChannelConstant(IMAGENET_MEAN), "std": ChannelConstant(IMAGENET_STD)})
        if config.vgg_losses == "required":
            self.frozen["vgg16"] = VGG16Features(_REMEDY)

    @classmethod
    def validate(cls, config: PConvConfig, size: int) -> None:
        """Raise :class:`models.errors.UnsupportedSizeError` unless ``2 ** levels`` divides it."""
        if size < 1 or size % 2**config.levels:
            raise UnsupportedSizeError(
                f"PConv with {config.levels} levels needs a multiple of {2**config.levels} px, not {size}: "
                "upsampled maps would not match the skips; choose another size or fewer levels (at least 4)"
            )

    @classmethod
    def requirements(cls, config: PConvConfig) -> None:
        """Raise :class:`models.errors.MissingWeightsError` if VGG16 is required and not available."""
        if config.vgg_losses == "required":
            require_vgg16(_REMEDY)

    @classmethod
    def completion_config(cls, config: PConvConfig) -> PConvConfig:
        """Return the config without VGG16, which only the losses use."""
        return replace(config, vgg_losses="off")

    @classmethod
    def label_suffix(cls, config: PConvConfig, task: Task) -> str:
        """Return ``(no perceptual/style)`` where the VGG16 terms are off."""
        return "" if config.vgg_losses == "required" else "(no perceptual/style)"

    def phases(self, budget: Budget) -> list[Phase]:
        """Return training, then fine-tuning with the encoder's batch-norm frozen."""
        part = self.config.fine_tune_fraction
        steps = budget.split({"train": 1.0 - part, "fine-tune": part})
        first = OptimizerSpec(name="adam", learning_rate=2e-4, betas=self.config.betas)
        # The same kind of optimizer as before, so that Adam's moments are kept and only the rate changes.
        second = OptimizerSpec(name="adam", learning_rate=5e-5, betas=self.config.betas)
        return [
            Phase(name="train", num_steps=steps["train"], optimizers={"generator": budget.optimizer(first)}),
            Phase(
                name="fine-tune",
                num_steps=steps["fine-tune"],
                optimizers={"generator": budget.optimizer(second)},
                # The zeros of holes enter batch-norm's statistics; for that reason the
                # paper freezes the encoder's at the end.
                frozen_batch_norm=("generator.encoder",),
            ),
        ]

    def complete(self, batch: Batch) -> Completion:
        """Zero the hole after normalization, mark it invalid, and run the generator."""
        # Zero after normalization, not before: the hole is then the mean of the range, as for padding.
        known = self._normalize(batch.image).masked_fill(batch.mask > 0.5, 0.0)
        # The layers keep the paper's polarity: 1 = valid.
        output = self.networks["generator"](known, 1.0 - batch.mask)
        mean, std = self._statistics(output)
        raw = output * std + mean
        return Completion(raw, composite(batch.image, raw, batch.mask))

    def loss(self, network: str, batch: Batch, completion: Completion, phase: Phase) -> dict[str, Tensor]:
        """Return eq. 7: ``valid + 6 hole + 0.05 perceptual + 120 style + 0.1 tv``."""
        config: PConvConfig = self.config
        # Errors are taken in the network's range, as in the ports: the weights
        # of eq. 7 are for errors of that size.
        image, raw, comp = (self._normalize(x) for x in (batch.image, completion.raw, completion.composite))
        valid = weighted_l1(raw, image, 1.0 - batch.mask)
        hole = weighted_l1(raw, image, batch.mask)
        tv = total_variation(comp, dilate_mask(batch.mask) if config.tv_region == "hole" else None)
        loss = config.valid_weight * valid + config.hole_weight * hole + config.tv_weight * tv
        terms = {"valid": valid, "hole": hole, "tv": tv}
        if config.vgg_losses == "required":
            perceptual, style = perceptual_and_style(self.frozen["vgg16"], *self._for_vgg(raw, comp, image))
            loss = loss + config.perceptual_weight * perceptual + config.style_weight * style
            terms |= {"perceptual": perceptual, "style": style}
        return {"loss": loss, **terms}

    def _statistics(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of the network's value range, ``(1, 3, 1, 1)`` or scalars."""
        if self.config.normalization == "unit":
            return torch.zeros((), device=like.device), torch.ones((), device=like.device)
        return self.frozen["mean"](), self.frozen["std"]()

    def _normalize(self, image: Tensor) -> Tensor:
        """Convert from [0, 1] to the network's value range."""
        mean, std = self._statistics(image)
        return (image - mean) / std

    def _for_vgg(self, *images: Tensor) -> tuple[Tensor, ...]:
        """Convert to ImageNet's normalization, which VGG16 takes whatever the network's own range."""
        if self.config.normalization == "imagenet":
            return images
        mean, std = self.frozen["mean"](), self.frozen["std"]()
        return tuple((image - mean) / std for image in images)

    def layer_table(self) -> Mapping[str, list[Layer]]:
        """Return the rows of the U-Net, encoder then decoder."""
        generator = self.networks["generator"]
        rows = []
        for side in ("encoder", "decoder"):
            levels = list(getattr(generator, side))
            for position, level in enumerate(levels):
                number = position + 1 if side == "encoder" else len(levels) - position
                parts = [level.norm, level.activation]
                notes = [type(p).__name__.replace("2d", "") for p in parts if not isinstance(p, nn.Identity)]
                notes += ["bias"] if level.conv.bias is not None else []
                notes += ["nearest x2, concatenated with the skip"] if side == "decoder" else []
                rows.append(
                    Layer(
                        name=f"{side} {number}",
                        kind="partial conv",
                        kernel=f"{level.conv.kernel_size[0]} x {level.conv.kernel_size[0]}",
                        stride=str(level.conv.stride[0]),
                        in_channels=str(level.conv.in_channels),
                        out_channels=str(level.conv.out_channels),
                        note=", ".join(notes),
                    )
                )
        return {"generator": rows}
