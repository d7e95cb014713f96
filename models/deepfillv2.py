"""DeepFillv2: coarse-to-fine gated convolution with contextual attention and SN-PatchGAN.

Paper: Yu, Lin, Yang, Shen, Lu, Huang, "Free-Form Image Inpainting with Gated Convolution", ICCV 2019,
https://arxiv.org/abs/1806.03589
Code: https://github.com/JiahuiYu/generative_inpainting (``inpaint_model.py``, ``inpaint_ops.py``,
``inpaint.yml``), whose license is non-commercial: nothing of it is copied.

======================  ===============================  ===============================  ====================
topic                   published                        here                             config field
======================  ===============================  ===============================  ====================
channels                48 in the code, features and     24 features, 24 gates            base_channels
                        gates together
input                   code: also a channel of ones     image and mask                   --
refinement's input      code: the composite alone        the same                         refinement_input
first weights           Glorot (code)                    2.5 times that if gated          initial_gain
l1 weight               1 for both stages, images in     the same                         l1_weight
                        [-1, 1]
adversarial weight      1.0 (code)                       1.0; 0.1 in presets smoke and    adversarial_weight
                                                         quick
adversarial loss        hinge                            the same                         adversarial_loss
attention               code: a batch shares one mask    each image's own mask            attention
optimizer               code: Adam 1e-4, (0.5, 0.999),   the same on the faithful track   (track)
                        batch 16, both networks
======================  ===============================  ===============================  ====================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Literal

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
from models.layers.contextual_attention import contextual_attention
from models.layers.conv_block import LEAKY_SLOPE, scale_channels
from models.layers.gated_conv import GatedConv2d, same_conv
from models.layers.spectral_norm import SpectralConv2d, call_layer
from models.losses import AdversarialLoss, discriminator_loss, discriminator_score, generator_loss
from models.registry import register

SIZE_MULTIPLE = 8
MIN_SIZE = 32
#: Rows: kernel, stride, dilation, channels out as a multiple of the base, upsampled first.
Rows = tuple[tuple[int, int, int, float, bool], ...]
_DILATED: Rows = tuple((3, 1, d, 4, False) for d in (2, 4, 8, 16))
_DOWN: Rows = ((5, 1, 1, 1, False), (3, 2, 1, 2, False), (3, 1, 1, 2, False), (3, 2, 1, 4, False))
_SAME: Rows = ((3, 1, 1, 4, False), (3, 1, 1, 4, False))
_UP: Rows = ((3, 1, 1, 2, True), (3, 1, 1, 2, False), (3, 1, 1, 1, True), (3, 1, 1, 0.5, False))
COARSE: Rows = (*_DOWN, *_SAME, *_DILATED, *_SAME, *_UP)
#: The refinement's branches widen more slowly than the coarse network.
REFINE_CONVOLUTION: Rows = (
    (5, 1, 1, 1, False),
    (3, 2, 1, 1, False),
    (3, 1, 1, 2, False),
    (3, 2, 1, 2, False),
    *_SAME,
    *_DILATED,
)
REFINE_BEFORE_ATTENTION: Rows = (
    (5, 1, 1, 1, False),
    (3, 2, 1, 1, False),
    (3, 1, 1, 2, False),
    (3, 2, 1, 4, False),
    *_SAME,
)
REFINE_AFTER_ATTENTION: Rows = _SAME
DECODER: Rows = (*_SAME, *_UP)
DISCRIMINATOR_CHANNELS = (64, 128, 256, 256, 256, 256)


@dataclass(frozen=True, kw_only=True)
class DeepFillV2Config:
    """Options of DeepFillv2.

    Attributes:
        width: multiple of the published channels; below 1 only for tests.
        base_channels: of the layers at full resolution, gates not counted. The published 48 counts them.
        attention: the contextual attention branch; without it the branch has no attention (an ablation).
        initial_gain: of the gated layers' first weights; 1 is Glorot's, with which the published code begins,
            and 2.5 keeps the size of what passes through a gated layer.
        refinement_input: input of the second network: the coarse stage's composite alone, or the mask as well.
        l1_weight: of the mean absolute error of both stages, over the whole image.
        adversarial_loss: ``hinge`` or ``bce``.
        adversarial_weight: of the generator's adversarial term.
    """

    width: float = 1.0
    base_channels: int = 24
    attention: bool = True
    initial_gain: float = 2.5
    refinement_input: Literal["image", "image+mask"] = "image"
    l1_weight: float = 1.0
    adversarial_loss: AdversarialLoss = "hinge"
    adversarial_weight: float = 1.0

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 < self.width <= 4:
            raise ValueError(f"width must lie in (0, 4], not {self.width}")
        if self.base_channels < 8:
            raise ValueError(f"base_channels must be at least 8, not {self.base_channels}")
        if self.initial_gain <= 0:
            raise ValueError(f"initial_gain must be above 0, not {self.initial_gain}")
        if min(self.l1_weight, self.adversarial_weight) < 0:
            raise ValueError("l1_weight and adversarial_weight must be numbers from 0")


class GatedStack(nn.Sequential):
    """Gated convolutions, one a row; ``out_channels`` is the width of the last row."""

    def __init__(self, in_channels: int, rows: Rows, base: int, last: nn.Module | None = None) -> None:
        layers: list[nn.Module] = []
        for number, (kernel, stride, dilation, multiple, upsample) in enumerate(rows, start=1):
            # At least 4, so that narrow test networks keep every layer.
            out_channels = max(4, round(base * multiple))
            if upsample:
                layers.append(nn.Upsample(scale_factor=2, mode="nearest"))
            # The row before attention ends in ReLU, as published: attention compares its features by cosine.
            act = F.relu if last is not None and number == len(rows) else F.elu
            layers.append(
                GatedConv2d(
                    in_channels, out_channels, kernel, stride=stride, dilation=dilation, activation=act
                )
            )
            in_channels = out_channels
        super().__init__(*layers)
        self.out_channels = in_channels


def _init_weights(generator: nn.Module, gain: float) -> None:
    """Draw Glorot's uniform weights, multiply those of gated layers by ``gain``, and zero the biases."""
    for module in generator.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    with torch.no_grad():
        for module in generator.modules():
            if isinstance(module, GatedConv2d):
                # Gates start near one half, and no norm follows: Glorot's weights would let
                # the signal fade from layer to layer.
                module.conv.weight.mul_(gain)


class Generator(nn.Module):
    """A coarse network on the hole, then two branches that refine its composite."""

    def __init__(self, config: DeepFillV2Config) -> None:
        super().__init__()
        base = scale_channels(config.base_channels, config.width)
        self.attention = config.attention
        self.sees_mask = config.refinement_input == "image+mask"
        refined = 4 if self.sees_mask else 3
        self.coarse = GatedStack(4, COARSE, base)
        self.coarse_output = same_conv(self.coarse.out_channels, 3, 3)
        # Both branches end at a quarter of the resolution, where their maps are concatenated.
        self.convolution_branch = GatedStack(refined, REFINE_CONVOLUTION, base)
        self.before_attention = GatedStack(refined, REFINE_BEFORE_ATTENTION, base, last=nn.ReLU())
        self.after_attention = GatedStack(self.before_attention.out_channels, REFINE_AFTER_ATTENTION, base)
        joined = self.convolution_branch.out_channels + self.after_attention.out_channels
        self.decoder = GatedStack(joined, DECODER, base)
        self.output = same_conv(self.decoder.out_channels, 3, 3)
        _init_weights(self, config.initial_gain)

    def forward(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return refined and coarse images ``(N, 3, H, W)``, float32 in [0, 1]; inside, images are in [-1, 1]."""
        hole = mask > 0.5
        # Selected, not multiplied, so that nothing under the hole passes, not even NaN.
        known = torch.where(hole, 0.0, image * 2 - 1)
        # float32 before the tanh: bfloat16 has too few levels near -1 and 1.
        coarse = torch.tanh(self.coarse_output(self.coarse(torch.cat([known, mask], dim=1))).float())
        # The second network starts from the first one's composite: it refines the hole only.
        x = torch.where(hole, coarse, known)
        if self.sees_mask:
            x = torch.cat([x, mask], dim=1)
        attended = self.before_attention(x)
        if self.attention:
            # Nearest neighbor, as published: a position counts as hole where its top left pixel is.
            small_mask = mask[:, :, ::4, ::4]
            attended = contextual_attention(attended, small_mask).to(attended.dtype)
        branches = torch.cat([self.convolution_branch(x), self.after_attention(attended)], dim=1)
        refined = torch.tanh(self.output(self.decoder(branches)).float())
        return (refined + 1) / 2, (coarse + 1) / 2


class PatchDiscriminator(nn.Sequential):
    """SN-PatchGAN: six spectrally normalized convolutions; every value of the last map is a logit of a patch."""

    def __init__(self, width: float) -> None:
        channels = [4, *(scale_channels(c, width) for c in DISCRIMINATOR_CHANNELS)]
        layers: list[nn.Module] = []
        for before, after in pairwise(channels):
            # The last convolution has its leaky ReLU too, as in the published dis_conv.
            layers += [SpectralConv2d(before, after, 5, stride=2, padding=2), nn.LeakyReLU(LEAKY_SLOPE)]
        super().__init__(*layers)

    def forward(self, x: Tensor, advance: bool = True) -> Tensor:
        """Map ``(N, 4, H, W)`` to a map of logits.

        Args:
            x: image and mask.
            advance: take the power iteration of spectral normalization; false for all micro-batches of a step but
                the first.
        """
        for layer in self:
            x = call_layer(layer, x, advance)
        return x


@register(
    "deepfillv2",
    label="DeepFillv2",
    summary="Coarse-to-fine gated convolutions with contextual attention and SN-PatchGAN.",
    paper="Yu et al., ICCV 2019, https://arxiv.org/abs/1806.03589",
    groups=("modern",),
)
class DeepFillV2(InpaintingModel):
    """Yu et al. 2019; see the head of this file."""

    Config = DeepFillV2Config
    config: DeepFillV2Config
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {"width": 0.34, "adversarial_weight": 0.1},
        "quick": {"adversarial_weight": 0.1},
    }
    published_batch_size = 16
    published_optimizer = OptimizerSpec(name="adam", learning_rate=1e-4, betas=(0.5, 0.999))
    ambiguities = (
        Ambiguity(
            topic="channels",
            published="base 48 in the code, where it counts features and gates together",
            resolved="24 features and 24 gates; 4.1 million parameters, as the paper says",
            field="base_channels",
        ),
        Ambiguity(
            topic="input channels",
            published="the code adds a fifth channel of ones, to mark the border of zero padding",
            resolved="image and mask: 4 channels, as the paper says",
            deviation=True,
        ),
        Ambiguity(
            topic="input of the refinement",
            published="the coarse stage's composite alone (code; a line that adds the mask is commented out)",
            resolved="the same",
            field="refinement_input",
        ),
        Ambiguity(
            topic="first weights",
            published="Glorot's in the code; they shrink the signal at each of 17 layers without norm",
            resolved="2.5 times that in gated layers: 21.4, not 19.6 dB after 100 steps of batch 16",
            field="initial_gain",
            deviation=True,
        ),
        Ambiguity(
            topic="weight of the adversarial term",
            published="1.0 (code)",
            resolved="1.0; 0.1 in presets smoke and quick, whose few steps the published weight mostly spoils",
            field="adversarial_weight",
        ),
        Ambiguity(
            topic="mask of the attention",
            published="the code draws one mask for the whole batch",
            resolved="each image's own, since the masks of a batch differ here",
            deviation=True,
        ),
        Ambiguity(
            topic="sketch channel",
            published="optional user guidance",
            resolved="left out",
            deviation=True,
        ),
    )

    def __init__(self, config: DeepFillV2Config, task: Task) -> None:
        super().__init__(config, task)
        self.validate(config, task.size)
        self.networks["generator"] = Generator(config)
        self.networks["discriminator"] = PatchDiscriminator(config.width)

    @classmethod
    def validate(cls, config: DeepFillV2Config, size: int) -> None:
        """Require a multiple of 8: two stride-2 layers, and attention at half their resolution."""
        if size % SIZE_MULTIPLE or size < MIN_SIZE:
            raise UnsupportedSizeError(
                f"DeepFillv2 takes multiples of {SIZE_MULTIPLE} from {MIN_SIZE} pixels, not {size}"
            )

    def phases(self, budget: Budget) -> list[Phase]:
        """Return one phase: discriminator and generator in turn."""
        spec = budget.optimizer(self.published_optimizer)
        return [
            Phase(
                name="joint",
                num_steps=budget.split({"joint": 1.0})["joint"],
                optimizers={"discriminator": spec, "generator": spec},
            )
        ]

    def complete(self, batch: Batch) -> Completion:
        """Run both stages; the coarse image is an extra, for its loss."""
        raw, coarse = self.networks["generator"](batch.image, batch.mask)
        return Completion(raw, composite(batch.image, raw, batch.mask), {"coarse": coarse})

    def loss(self, network: str, batch: Batch, completion: Completion, phase: Phase) -> dict[str, Tensor]:
        """Return hinge for the discriminator; L1 of both stages and the adversarial term for the generator."""
        kind = self.config.adversarial_loss
        fake = torch.cat([completion.composite, batch.mask], dim=1)
        discriminator = self.networks["discriminator"]
        if network == "discriminator":
            # One forward for both kinds; without batch-norm it equals two.
            both = torch.cat([torch.cat([batch.image, batch.mask], dim=1), fake])
            real_logits, fake_logits = discriminator(both, batch.is_first_piece).chunk(2)
            return {
                "loss": discriminator_loss(real_logits, fake_logits, kind),
                "real_score": discriminator_score(real_logits, kind),
                "fake_score": discriminator_score(fake_logits, kind),
            }
        # Images are in [0, 1] here and in [-1, 1] in the paper, where errors are twice as large.
        refined = 2 * (completion.raw - batch.image).abs().mean()
        coarse = 2 * (completion.extras["coarse"] - batch.image).abs().mean()
        adversarial = generator_loss(discriminator(fake, batch.is_first_piece), kind)
        return {
            "loss": self.config.l1_weight * (refined + coarse) + self.config.adversarial_weight * adversarial,
            "l1_refined": refined,
            "l1_coarse": coarse,
            "adversarial": adversarial,
        }

    def layer_table(self) -> Mapping[str, list[Layer]]:
        """Return the coarse network, the parts of the refinement, and the discriminator."""
        generator, discriminator = self.networks["generator"], self.networks["discriminator"]
        assert isinstance(generator, Generator)
        parts = {
            "coarse": (generator.coarse, generator.coarse_output),
            "refinement, convolution branch": (generator.convolution_branch, None),
            "refinement, attention branch": (generator.before_attention, None),
            "refinement, after attention": (generator.after_attention, None),
            "refinement, decoder": (generator.decoder, generator.output),
        }
        tables = {name: _layers(*part) for name, part in parts.items()}
        return {**tables, "discriminator": _layers(discriminator, None)}


def _layers(stack: nn.Module, output: nn.Module | None) -> list[Layer]:
    rows: list[Layer] = []
    note = ""
    for module in [*stack.children(), *([output] if output is not None else [])]:
        if isinstance(module, nn.Upsample):
            note = "after nearest x2"
        conv = module.conv if isinstance(module, GatedConv2d) else module
        if not isinstance(conv, nn.Conv2d):
            continue
        gated = isinstance(module, GatedConv2d)
        dilation = conv.dilation[0]
        kind = "Gateconv" if gated else "Output" if module is output else "Spectralconv"
        rows.append(
            Layer(
                name=str(len(rows) + 1),
                kind=kind,
                kernel="x".join(map(str, conv.kernel_size)),
                stride="x".join(map(str, conv.stride)),
                in_channels=str(conv.in_channels),
                out_channels=str(conv.out_channels // (2 if gated else 1)),
                note=f"dilation {dilation}" if dilation > 1 else "tanh" if module is output else note,
            )
        )
        note = ""
    return rows
