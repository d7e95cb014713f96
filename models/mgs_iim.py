"""MGS-IIM: GLCIC with gated convolutions, skip connections and spectral normalization.

Paper: Jiao, Xiao, Zhang, Huang, Lu, Lu, "Image Inpainting based on Gated Convolution and Spectral
Normalization".
Code: none published. Layers are those of Tables 1 to 3; text and tables disagree in places:

======================  ===============================  ===============================  ======================
topic                   published                        here                             config field
======================  ===============================  ===============================  ======================
gated layers            abstract: all; 3.3: sampling     Table 1                          gate
                        layers (64, 128, 256); Table 1:
                        rows 1-3
skips                   3.2: added; 3.3: concatenated;   added                            skips
                        Table 1: inputs not widened
places of the skips     layers of corresponding size     row 3 to row 13, row 1 to row    skip_places
                                                         15
norm and activation     BN, LeakyReLU                    BN(f * sigmoid(g)), LeakyReLU    activation_order
slope of LeakyReLU      not given                        0.2                              leaky_slope
dilations               rates not given                  2, 4, 8, 16 (GLCIC)              dilations
output                  sigmoid                          images in [0, 1]                 --
fill                    not given                        mean pixel (GLCIC)               fill
squared error           'weighted', no weights           1 in the hole, 0 outside         valid_weight
                                                         (GLCIC)
its reduction           'mean'; GLCIC's eq. 2: a sum     divided by the weights           mse_reduction
adversarial term        probability in 0-1, no weight    BCE on logits, 4e-4 (GLCIC)      adversarial_loss,
                                                                                          adversarial_weight
discriminators' input   4 channels                       image and mask, same mask on     discriminator_input,
                                                         real                             real_crop
shown as fake           not given                        composite                        discriminator_fake
spectral norm           'each convolution layer'         convolutions; no batch-norm      spectral_norm
FC 512 to 1024          map before it is 3 x 3           flattened: 4,608 to 1,024        discriminator_head
local crop              not given                        96 at 160 (GLCIC, CelebA), 40    local_size
                                                         at 64
discriminators          two                              two                              discriminators
phases                  Tc, Td undefined                 18 / 2 / 80 % (GLCIC)            completion_fraction,
                                                                                          discriminator_fraction
optimizer               SGD 1e-3                         faithful track: momentum 0.9,    momentum
                                                         batch 16
======================  ===============================  ===============================  ======================

At 64 pixels the innermost map is 16 x 16, so that with dilation 16 only the center tap is ever inside it: row 10
is then a 1 x 1 convolution, and its other weights get no gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from models.base import Ambiguity, Layer, OptimizerSpec
from models.layers.conv_block import (
    LEAKY_SLOPE,
    Activation,
    ConvBlock,
    LayerRow,
    describe_layers,
    scale_channels,
)
from models.layers.dual_discriminator import Branches, DualDiscriminator, Head, LayerOptions, SpectralNorm
from models.layers.gated_conv import same_conv
from models.registry import register
from models.three_phase import LARGE_HOLES, ThreePhaseConfig, ThreePhaseModel, fill_pixel, masked_input

#: Table 1: kind, kernel, stride, channels in and out.
TABLE_1 = tuple(
    LayerRow(kind=kind, kernel=kernel, stride=stride, inputs=inputs, outputs=outputs)  # type: ignore[arg-type]
    for kind, kernel, stride, inputs, outputs in (
        ("gated", 5, 1, 4, 64),
        ("gated", 3, 2, 64, 128),
        ("gated", 3, 1, 128, 128),
        ("conv", 3, 2, 128, 256),
        ("conv", 3, 1, 256, 256),
        ("conv", 3, 1, 256, 256),
        ("dilated", 3, 1, 256, 256),
        ("dilated", 3, 1, 256, 256),
        ("dilated", 3, 1, 256, 256),
        ("dilated", 3, 1, 256, 256),
        ("conv", 3, 1, 256, 256),
        ("conv", 3, 1, 256, 256),
        ("deconv", 4, 2, 256, 128),
        ("conv", 3, 1, 128, 128),
        ("deconv", 4, 2, 128, 64),
        ("conv", 3, 1, 64, 32),
        ("output", 3, 1, 32, 3),
    )
)
#: Rows that section 3.3 gates: kernels 5, 3, 3 with 64, 128, 256 channels on the way down, the deconvolutions up.
SAMPLING_ROWS = (1, 2, 4, 13, 15)
#: ``skip_places`` -> row whose output is joined -> row whose output joins it: same size, same channels.
SKIPS: dict[str, dict[int, int]] = {
    "last": {13: 3, 15: 1},
    "sampling": {13: 2, 15: 1},
    "every-size": {12: 6, 13: 3, 15: 1},
}


@dataclass(frozen=True, kw_only=True)
class MGSIIMConfig(ThreePhaseConfig):
    """Options of MGS-IIM, besides :class:`~models.three_phase.ThreePhaseConfig`.

    Attributes:
        gate: the gated layers: those of Table 1 (rows 1 to 3), the ``sampling`` layers of section 3.3 (rows 1, 2, 4,
            13, 15), ``all`` but the output, or ``none``.
        skips: ``add`` (Table 1's widths), ``concat`` (section 3.3; the rows after a skip are widened), or ``none``.
        skip_places: from the ``last`` encoder row of each size (3 to 13, 1 to 15), from the ``sampling`` row (2 to 13,
            1 to 15), or at ``every-size``, the innermost too (6 to 12).
        dilations: of rows 7 to 10.
        activation_order: ``norm-act`` is batch-norm of ``f * sigmoid(g)``, then LeakyReLU; ``act-gate`` is
            ``LeakyReLU(f) * sigmoid(g)`` without norm in the gated layers (DeepFillv2).
        leaky_slope: slope of every LeakyReLU below zero.
        momentum: of SGD on the faithful track.
        discriminators: ``both``, or ``global`` or ``local`` alone.
        discriminator_head: ``flatten`` the last map, or its mean (``gap``, the 512 inputs in the tables).
        spectral_norm: on the discriminators' ``convs``, on ``all`` their layers, or ``none``.
    """

    discriminator_input: Literal["image", "image+mask"] = "image+mask"
    real_crop: Literal["random", "hole"] = "hole"
    gate: Literal["table", "sampling", "all", "none"] = "table"
    skips: Literal["add", "concat", "none"] = "add"
    skip_places: Literal["last", "sampling", "every-size"] = "last"
    dilations: tuple[int, int, int, int] = (2, 4, 8, 16)
    activation_order: Literal["norm-act", "act-gate"] = "norm-act"
    leaky_slope: float = LEAKY_SLOPE
    momentum: float = 0.9
    discriminators: Branches = "both"
    discriminator_head: Head = "flatten"
    spectral_norm: SpectralNorm = "convs"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.dilations) != 4 or min(self.dilations) < 1:
            raise ValueError(f"dilations must be four numbers from 1, not {self.dilations}")
        if not 0 <= self.leaky_slope < 1:
            raise ValueError(f"leaky_slope must lie in [0, 1), not {self.leaky_slope}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), not {self.momentum}")

    @property
    def joins(self) -> dict[int, int]:
        """Row whose output is joined -> row whose output joins it."""
        return {} if self.skips == "none" else SKIPS[self.skip_places]

    def is_gated(self, number: int) -> bool:
        """Return whether row ``number`` (from 1) of Table 1 is gated; the output row never is."""
        if self.gate == "all":
            return number < len(TABLE_1)
        if self.gate == "sampling":
            return number in SAMPLING_ROWS
        return self.gate == "table" and TABLE_1[number - 1].kind == "gated"

    def rows(self) -> tuple[LayerRow, ...]:
        """Return Table 1 as these options change it."""
        rows = []
        for number, row in enumerate(TABLE_1, start=1):
            kind, inputs = row.kind, row.inputs
            # Dilated and transposed rows keep their kind; the layer table notes where they are gated.
            if kind in ("conv", "gated"):
                kind = "gated" if self.is_gated(number) else "conv"
            # The row after a join reads both maps.
            if self.skips == "concat" and number - 1 in self.joins:
                inputs *= 2
            rows.append(
                LayerRow(kind=kind, kernel=row.kernel, stride=row.stride, inputs=inputs, outputs=row.outputs)
            )
        return tuple(rows)


class InpaintingNetwork(nn.Module):
    """Rows 1 to 17 of Table 1: image and mask in, image out."""

    fill: Tensor

    def __init__(self, config: MGSIIMConfig, fill: Tensor) -> None:
        super().__init__()
        # Not saved: it is the training split's mean pixel, which the task carries.
        self.register_buffer("fill", fill, persistent=False)
        self.joins, self.concatenates = config.joins, config.skips == "concat"
        dilations = iter(config.dilations)
        *rows, output = config.rows()
        self.blocks = nn.ModuleList(
            ConvBlock(
                # RGB and mask are four channels at any width.
                4 if number == 1 else scale_channels(row.inputs, config.width),
                scale_channels(row.outputs, config.width),
                row,
                dilation=next(dilations) if row.kind == "dilated" else 1,
                gated=config.is_gated(number),
                activation=Activation(config.leaky_slope),
                order=config.activation_order,
            )
            for number, row in enumerate(rows, start=1)
        )
        self.output = same_conv(scale_channels(output.inputs, config.width), 3, output.kernel)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Map ``(N, 3, H, W)`` in [0, 1] and ``(N, 1, H, W)`` to an image in [0, 1], float32."""
        x = masked_input(image, mask, self.fill)
        kept: dict[int, Tensor] = {}
        for number, block in enumerate(self.blocks, start=1):
            x = block(x)
            if number in self.joins:
                # Popped: the largest maps of the network should not outlive their use.
                earlier = kept.pop(self.joins[number])
                x = torch.cat([x, earlier], dim=1) if self.concatenates else x + earlier
            elif number in self.joins.values():
                kept[number] = x
        logits: Tensor = self.output(x)
        # float32 first: a sigmoid in bfloat16 has 128 levels between 0.5 and 1.
        return logits.float().sigmoid()


@register(
    "mgs-iim",
    label="MGS-IIM",
    summary="Gated encoder-decoder with additive skips and two spectrally normalized discriminators.",
    paper="Jiao et al., Image Inpainting based on Gated Convolution and Spectral Normalization",
    groups=("paper",),
)
@register(
    "mgs-iim-no-gate",
    label="MGS-IIM, no gates",
    summary="MGS-IIM with plain convolutions in rows 1 to 3.",
    paper="Jiao et al., Image Inpainting based on Gated Convolution and Spectral Normalization",
    groups=("ablations",),
    overrides={"gate": "none"},
)
@register(
    "mgs-iim-no-sn",
    label="MGS-IIM, no spectral norm",
    summary="MGS-IIM without spectral normalization.",
    paper="Jiao et al., Image Inpainting based on Gated Convolution and Spectral Normalization",
    groups=("ablations",),
    overrides={"spectral_norm": "none"},
)
@register(
    "mgs-iim-single-d",
    label="MGS-IIM, global D only",
    summary="MGS-IIM with the global discriminator alone.",
    paper="Jiao et al., Image Inpainting based on Gated Convolution and Spectral Normalization",
    groups=("ablations",),
    overrides={"discriminators": "global"},
)
@register(
    "mgs-iim-no-skip",
    label="MGS-IIM, no skips",
    summary="MGS-IIM without skip connections.",
    paper="Jiao et al., Image Inpainting based on Gated Convolution and Spectral Normalization",
    groups=("ablations",),
    overrides={"skips": "none"},
)
@register(
    "mgs-iim-gate-all",
    label="MGS-IIM, all gated",
    summary="MGS-IIM with every layer gated but the output, as the paper's text may be read.",
    paper="Jiao et al., Image Inpainting based on Gated Convolution and Spectral Normalization",
    groups=("ablations",),
    overrides={"gate": "all"},
)
class MGSIIM(ThreePhaseModel):
    """Jiao et al.; see the head of this file."""

    Config = MGSIIMConfig
    config: MGSIIMConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"smoke": {"width": 0.125}}
    published_batch_size = 16
    published_optimizer = OptimizerSpec(name="sgd", learning_rate=1e-3)
    ambiguities = (
        Ambiguity(
            topic="which layers are gated",
            published="abstract: all layers; section 3.3: the sampling layers, 64, 128, 256; Table 1: rows 1 to 3",
            resolved="Table 1",
            field="gate",
        ),
        Ambiguity(
            topic="skip connections",
            published="section 3.2: added; section 3.3: concatenated; Table 1: inputs not widened",
            resolved="added: the only form that fits Table 1",
            field="skips",
        ),
        Ambiguity(
            topic="places of the skips",
            published="'layers of the corresponding size'",
            resolved="row 3 to row 13, row 1 to row 15; 2 to 13 and 6 to 12 fit as well",
            field="skip_places",
        ),
        Ambiguity(
            topic="norm and activation",
            published="batch-norm and LeakyReLU after gated convolution; no slope",
            resolved="batch-norm of f * sigmoid(g), then LeakyReLU; none on the output",
            field="activation_order",
        ),
        Ambiguity(
            topic="slope of LeakyReLU",
            published="not given",
            resolved="0.2 in all networks, as in DCGAN and DeepFillv2's code",
            field="leaky_slope",
        ),
        Ambiguity(
            topic="dilations", published="not said", resolved="2, 4, 8, 16 as in GLCIC", field="dilations"
        ),
        Ambiguity(
            topic="what the network sees in the hole",
            published="not said",
            resolved="the training split's mean pixel, as in GLCIC",
            field="fill",
        ),
        Ambiguity(
            topic="weights of the squared error",
            published="'weighted mean square error', no weights",
            resolved="1 in the hole, 0 outside, as in GLCIC; the raw output outside is then unconstrained",
            field="valid_weight",
        ),
        Ambiguity(
            topic="reduction of the squared error",
            published="'weighted mean square error'; GLCIC's equation 2 is a squared norm, a sum",
            resolved="a weighted mean: divided by the sum of the weights; under SGD 1e-3 at 64 px it trains slowly "
            "(20.1 dB after 3,200 images), and the sum saturates the output with momentum 0.9 and has 23.4 dB, "
            "unsteadily, without; at 160 px, where a sum is six times as large, it saturates without too (12.9 dB)",
            field="mse_reduction",
        ),
        Ambiguity(
            topic="adversarial term",
            published="a probability in 0-1, no weight",
            resolved="binary cross-entropy on logits, weight 4e-4 as in GLCIC",
            field="adversarial_loss, adversarial_weight",
        ),
        Ambiguity(
            topic="fourth input channel of the discriminators",
            published="not said what it is",
            resolved="the mask, the same for the real image, whose crop is taken at the same place",
            field="discriminator_input, real_crop",
        ),
        Ambiguity(
            topic="what the discriminators see as fake",
            published="not said",
            resolved="the composite",
            field="discriminator_fake",
        ),
        Ambiguity(
            topic="norm in the discriminators",
            published="spectral normalization of 'each convolution layer'",
            resolved="of the convolutions, not of the fully connected layers; LeakyReLU, no batch-norm",
            field="spectral_norm",
        ),
        Ambiguity(
            topic="fully connected layer 512 to 1024",
            published="Tables 2 and 3 print 512 inputs, but the map before it is 3 x 3 at 160 pixels",
            resolved="the map is flattened: 4,608 to 1,024",
            field="discriminator_head",
        ),
        Ambiguity(
            topic="local crop",
            published="not said",
            resolved="three fifths of the image: 96 at 160 pixels (GLCIC for CelebA), 40 at 64",
            field="local_size",
        ),
        LARGE_HOLES,
        Ambiguity(
            topic="length of the phases",
            published="Tc and Td are not given",
            resolved="18, 2 and 80 % of the budget, as in GLCIC",
            field="completion_fraction, discriminator_fraction",
        ),
        Ambiguity(
            topic="optimizer",
            published="SGD with learning rate 0.001; no momentum, batch size or number of epochs",
            resolved="faithful track: momentum 0.9, batch 16; uniform track: Adam like all models",
            field="momentum",
        ),
        Ambiguity(
            topic="length of training",
            published="no number of epochs, iterations or images",
            resolved="preset paper: 3.6 million images seen (20 times the 180,000 training images), our choice",
        ),
        Ambiguity(
            topic="training masks",
            published="three kinds are made (section 4.1); which of them trained the models of Table 4 is not said",
            resolved="the mask that is evaluated, or a mixture of the three where several are (--train-mask)",
        ),
    )

    def faithful_optimizer(self) -> OptimizerSpec:
        """Return SGD with the momentum of the config."""
        return replace(self.published_optimizer, momentum=self.config.momentum)

    def build_generator(self) -> nn.Module:
        """Build Table 1: 6,300,035 parameters."""
        return InpaintingNetwork(self.config, fill_pixel(self.config, self.task))

    def build_discriminator(self) -> DualDiscriminator:
        """Build Tables 2 and 3 and the layer that joins them: 37,719,937 parameters at 160 pixels."""
        return DualDiscriminator(
            3 if self.config.discriminator_input == "image" else 4,
            self.task.size,
            self.local_size,
            branches=self.config.discriminators,
            # One convolution more than the local branch (Tables 2 and 3), so that maps of
            # 160 and 96 pixels both end at 3 x 3.
            global_depth=6,
            options=LayerOptions(
                width=self.config.width,
                spectral_norm=self.config.spectral_norm,
                activation=Activation(self.config.leaky_slope),
                head=self.config.discriminator_head,
            ),
        )

    def layer_table(self) -> Mapping[str, list[Layer]]:
        """Return Tables 1, 3 and 2 of the paper."""
        notes = {7 + i: f"dilation {d}" for i, d in enumerate(self.config.dilations)} | {17: "sigmoid"}
        verb = "joined by" if self.config.skips == "concat" else "plus"
        notes |= {row: f"{verb} output of row {source}" for row, source in self.config.joins.items()}
        rows = self.config.rows()
        for number, row in enumerate(rows, start=1):
            if self.config.is_gated(number) and row.kind != "gated":
                notes[number] = f"{notes[number]}, gated" if number in notes else "gated"
        return {"generator": describe_layers(rows, self.config.width, notes), **self.discriminator_tables()}
