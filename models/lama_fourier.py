"""LaMa-Fourier: fast Fourier convolutions, whose receptive field is the whole image from the first block.

Paper: Suvorov, Logacheva, Mashikhin, Remizova, Ashukha, Silvestrov, Kong, Goka, Park, Lempitsky, "Resolution-robust
Large Mask Inpainting with Fourier Convolutions", WACV 2022, https://arxiv.org/abs/2109.07161
Code: https://github.com/advimman/lama (``configs/training/lama-fourier.yaml``, ``ffc.py``, ``pix2pixhd.py``).

The loss that its authors find most important, the distance of features of a segmentation network with a high receptive
field, is **missing here**: no package offers that network's weights (dilated ResNet-50, ADE20K). Every table says so.

======================  ===============================  ===============================  ====================
topic                   published                        here                             config field
======================  ===============================  ===============================  ====================
perceptual loss         weight 30                        none, and labeled as such        --
l1 weight in the hole   0: the perceptual loss guides    10, since nothing else would     missing_weight
                        the hole
l1 weight outside       10                               the same                         known_weight
adversarial loss        non-saturating, weight 10; fake  the same; 1 in presets smoke     adversarial_weight
                        only where the mask is           and quick
R1 penalty              0.001 on real images             the same                         r1_weight
feature matching        100                              the same; 10 in presets smoke    matching_weight
                                                         and quick
shown as fake           raw output                       the same                         --
global channels         three quarters                   the same                         global_share
blocks                  9 (18 in Big LaMa)               9                                blocks
order in a step         generator, then discriminator    discriminator first, as all      --
                                                         models here
optimizer               Adam 1e-3 (G), 1e-4 (D); batch   the same on the faithful track   (track)
                        30
======================  ===============================  ===============================  ====================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.base import (
    Ambiguity,
    Batch,
    Budget,
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
from models.layers.conv_block import LEAKY_SLOPE
from models.layers.fast_fourier_conv import FastFourierBlock
from models.losses import discriminator_score, generator_loss, weighted_l1
from models.registry import register

SIZE_MULTIPLE = 8
MIN_SIZE = 32
DISCRIMINATOR_CHANNELS = (1, 2, 4, 8, 8)


@dataclass(frozen=True, kw_only=True)
class LaMaFourierConfig:
    """Options of LaMa-Fourier; see the table at the head of this file.

    Attributes:
        width: channels of the first layer of both networks, 64 as published; a multiple of 2.
        blocks: fast Fourier residual blocks.
        global_share: of the channels in the blocks.
        known_weight: of the L1 error outside the hole.
        missing_weight: of the L1 error in the hole.
        adversarial_weight: of the generator's adversarial term.
        r1_weight: of the squared gradient of the discriminator's logits on real images.
        matching_weight: of the squared distance of the discriminator's features.
    """

    width: int = 64
    blocks: int = 9
    global_share: float = 0.75
    known_weight: float = 10.0
    missing_weight: float = 10.0
    adversarial_weight: float = 10.0
    r1_weight: float = 0.001
    matching_weight: float = 100.0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.width < 2 or self.width % 2:
            raise ValueError(f"width must be an even number from 2, not {self.width}")
        if self.blocks < 1:
            raise ValueError(f"blocks must be at least 1, not {self.blocks}")
        if not 0 < self.global_share < 1:
            raise ValueError(f"global_share must lie between 0 and 1, not {self.global_share}")
        for name in ("known", "missing", "adversarial", "r1", "matching"):
            if not 0 <= getattr(self, f"{name}_weight") < float("inf"):
                raise ValueError(f"{name}_weight must be a number from 0")


class Generator(nn.Module):
    """Three stride-2 convolutions, fast Fourier blocks at an eighth of the resolution, three transposed ones."""

    def __init__(self, config: LaMaFourierConfig) -> None:
        super().__init__()
        widths = [config.width * 2**level for level in range(4)]
        # Even, since the Fourier path works on half of them.
        self.global_channels = 2 * round(widths[-1] * config.global_share / 2)
        down: list[nn.Module] = [*_conv_norm_act(4, widths[0], 7, 1)]
        for inputs, outputs in pairwise(widths):
            down += _conv_norm_act(inputs, outputs, 3, 2)
        self.down = nn.Sequential(*down)
        local_channels = widths[-1] - self.global_channels
        self.blocks = nn.ModuleList(
            FastFourierBlock(local_channels, self.global_channels) for _ in range(config.blocks)
        )
        up: list[nn.Module] = []
        for inputs, outputs in pairwise(reversed(widths)):
            # With output_padding a stride-2 kernel of 3 doubles the side exactly.
            up.append(nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, output_padding=1))
            up += [nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        self.up = nn.Sequential(*up)
        self.output = nn.Conv2d(widths[0], 3, 7, padding=3, padding_mode="reflect")

    def forward(self, known: Tensor, mask: Tensor) -> Tensor:
        """Map ``(N, 3, S, S)`` in [0, 1], zero in the hole, and the mask to an image in [0, 1], float32."""
        x = self.down(torch.cat([known, mask], dim=1))
        # The last downsampling computes local and global features at once: its filters are those of both paths.
        local, whole = x[:, : -self.global_channels], x[:, -self.global_channels :]
        for block in self.blocks:
            local, whole = block(local, whole)
        logits = self.output(self.up(torch.cat([local, whole], dim=1)))
        return cast(Tensor, logits).float().sigmoid()


def _conv_norm_act(inputs: int, outputs: int, kernel: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False, padding_mode="reflect")
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


class PatchDiscriminator(nn.Module):
    """pix2pixHD's discriminator: 4 x 4 convolutions, four of stride 2 and two of stride 1; a logit for every patch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        channels = [3, *(width * multiple for multiple in DISCRIMINATOR_CHANNELS)]
        self.stages = nn.ModuleList()
        for number, (inputs, outputs) in enumerate(pairwise(channels), start=1):
            # pix2pixHD pads by ceil((4 - 1) / 2) = 2, so every map is a
            # pixel larger than half of the one before.
            layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, 4, 2 if number < 5 else 1, padding=2)]
            layers += [nn.BatchNorm2d(outputs)] if number > 1 else []
            self.stages.append(nn.Sequential(*layers, nn.LeakyReLU(LEAKY_SLOPE)))
        self.head = nn.Conv2d(channels[-1], 1, 4, padding=2)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Map ``(N, 3, S, S)`` to logits ``(N, 1, h, w)``, float32, and the features of every stage."""
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return self.head(x).float(), features


@register(
    "lama-fourier",
    label="LaMa-Fourier",
    summary="Fast Fourier convolutions, with a receptive field of the whole image; without its perceptual loss.",
    paper="Suvorov et al., WACV 2022, https://arxiv.org/abs/2109.07161",
    groups=("modern",),
)
class LaMaFourier(InpaintingModel):
    """Suvorov et al. 2022; see the head of this file."""

    Config = LaMaFourierConfig
    config: LaMaFourierConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"width": 8, "blocks": 2, "adversarial_weight": 1.0, "matching_weight": 10.0},
        "quick": {"adversarial_weight": 1.0, "matching_weight": 10.0},
    }
    published_batch_size = 30
    ambiguities = (
        Ambiguity(
            topic="high receptive field perceptual loss",
            published="weight 30, on a dilated ResNet-50 trained for segmentation of ADE20K",
            resolved="none: no package offers those weights, a classifier's are another loss; the label says so",
            deviation=True,
        ),
        Ambiguity(
            topic="L1 error in the hole",
            published="weight 0, since the perceptual loss guides the hole",
            resolved="weight 10 like outside, since without that loss nothing else would",
            field="missing_weight",
            deviation=True,
        ),
        Ambiguity(
            topic="weights of the adversarial and the matching term",
            published="10 and 100, beside the perceptual loss",
            resolved="the same; 1 and 10 in presets smoke and quick: 22.9, not 22.2 dB after 100 steps",
            field="adversarial_weight, matching_weight",
        ),
        Ambiguity(
            topic="what the discriminator sees as fake",
            published="the raw output, labelled real outside the hole",
            resolved="the same; the mask is resized to the map of logits by nearest neighbor",
        ),
        Ambiguity(
            topic="size of the network",
            published="9 blocks (LaMa-Fourier) or 18 (Big LaMa)",
            resolved="9: 27,048,835 parameters, the paper's 27 million",
            field="blocks",
        ),
        Ambiguity(
            topic="order within a step",
            published="generator, then discriminator",
            resolved="discriminator first (the shared trainer's order)",
            deviation=True,
        ),
        Ambiguity(
            topic="training images",
            published="256 px crops, wide and narrow masks mixed",
            resolved="the suite's images and masks, the same for all models",
            deviation=True,
        ),
    )

    def __init__(self, config: LaMaFourierConfig, task: Task) -> None:
        super().__init__(config, task)
        self.validate(config, task.size)
        self.networks["generator"] = Generator(config)
        self.networks["discriminator"] = PatchDiscriminator(config.width)

    @classmethod
    def validate(cls, config: LaMaFourierConfig, size: int) -> None:
        """Require a multiple of 8: three stride-2 layers down and up."""
        if size % SIZE_MULTIPLE or size < MIN_SIZE:
            raise UnsupportedSizeError(
                f"LaMa-Fourier takes multiples of {SIZE_MULTIPLE} from {MIN_SIZE} pixels, not {size}"
            )

    @classmethod
    def label_suffix(cls, config: LaMaFourierConfig, task: Task) -> str:
        """Return ``(no perceptual)``, always: the published perceptual loss is missing."""
        return "(no perceptual)"

    def phases(self, budget: Budget) -> list[Phase]:
        """Return one phase: discriminator and generator in turn."""
        generator = OptimizerSpec(name="adam", learning_rate=1e-3)
        discriminator = OptimizerSpec(name="adam", learning_rate=1e-4)
        return [
            Phase(
                name="joint",
                num_steps=budget.split({"joint": 1.0})["joint"],
                optimizers={
                    "discriminator": budget.optimizer(discriminator),
                    "generator": budget.optimizer(generator),
                },
            )
        ]

    def complete(self, batch: Batch) -> Completion:
        """Zero the hole and run the generator on image and mask."""
        known = batch.image.masked_fill(batch.mask > 0.5, 0.0)
        raw = self.networks["generator"](known, batch.mask)
        return Completion(raw, composite(batch.image, raw, batch.mask))

    def loss(self, network: str, batch: Batch, completion: Completion, phase: Phase) -> dict[str, Tensor]:
        """Return eq. 4 and R1 for the discriminator; L1, eq. 5 and feature matching for the generator."""
        discriminator, config = self.networks["discriminator"], self.config
        if network == "discriminator":
            # A view, since torch's operation counter cannot follow a gradient to a leaf.
            image = batch.image.detach().requires_grad_().view_as(batch.image)
            real, _ = discriminator(image)
            fake, _ = discriminator(completion.raw)
            # A patch of the raw output counts as fake only where it is hole.
            hole = F.interpolate(batch.mask, size=fake.shape[2:], mode="nearest")
            # softplus(-x) = -log sigmoid(x): eq. 4 on logits.
            adversarial = F.softplus(-real) + hole * F.softplus(fake) + (1 - hole) * F.softplus(-fake)
            # Images do not mix but for batch-norm, so the gradient of the sum holds each image's own
            # gradient. The graph is kept because R1 is itself differentiated.
            (slope,) = torch.autograd.grad(real.sum(), image, create_graph=True)
            r1 = slope.float().square().sum(dim=(1, 2, 3)).mean()
            return {
                "loss": adversarial.mean() + config.r1_weight * r1,
                "verdict": adversarial.mean(),
                "r1": r1,
                "real_score": discriminator_score(real, "bce"),
                "fake_score": discriminator_score(fake, "bce"),
            }
        weight = config.missing_weight * batch.mask + config.known_weight * (1 - batch.mask)
        l1 = weighted_l1(completion.raw, batch.image, weight)
        logits, features = discriminator(completion.raw)
        # The features of the truth are a target that the generator cannot move.
        with torch.no_grad():
            real_features = discriminator(batch.image)[1]
        matching = torch.stack(
            [
                F.mse_loss(ours.float(), truth.float())
                for ours, truth in zip(features, real_features, strict=True)
            ]
        ).mean()
        adversarial = generator_loss(logits, "bce")
        loss = l1 + config.adversarial_weight * adversarial + config.matching_weight * matching
        return {"loss": loss, "l1": l1, "adversarial": adversarial, "matching": matching}

    def layer_table(self) -> Mapping[str, list[Layer]]:
        """Return both networks' convolutions in order; the paths of a fast Fourier convolution one by one."""
        return {name: _layers(network) for name, network in self.networks.items()}


def _layers(network: nn.Module) -> list[Layer]:
    return [
        Layer(
            name=name,
            kind="deconv" if isinstance(module, nn.ConvTranspose2d) else "conv",
            kernel="x".join(map(str, module.kernel_size)),
            stride="x".join(map(str, module.stride)),
            in_channels=str(module.in_channels),
            out_channels=str(module.out_channels),
            note="on the spectrum" if name.endswith("fourier.conv") else "",
        )
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
    ]
