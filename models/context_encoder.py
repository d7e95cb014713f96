"""Context Encoder: "Context Encoders: Feature Learning by Inpainting", Pathak et al., CVPR 2016.

Paper: https://arxiv.org/abs/1604.07379. Repository: https://github.com/pathak22/context-encoder, whose
``train.lua`` and ``train_random.lua`` give the architecture (not the AlexNet of the paper's feature study).

| what | published or ambiguous | here | field |
|---|---|---|---|
| head | center patch; another network for random regions | by the training hole, labeled | ``head`` |
| size | 128 px (random regions also 64) | 64, 128, 160 (2x2 bottleneck, 80 px patch) | |
| 64 px, center | not published | a layer less in encoder, decoder, discriminator | |
| discriminator at 160 | ends 1x1 | ends 2x2, logits averaged | |
| overlap | patch's outer 4 px visible, 10x L2 | hole's inner 4 px | ``overlap``, ``overlap_weight`` |
| loss, in [-1, 1] | 0.999 L2 | same | ``reconstruction_weight`` |
| | 0.001 BCE | same | ``adversarial_weight`` |
| random regions, L2 | over the whole image | same | |
| bottleneck | 4000 (README), 100 (code's default) | 4000 | ``bottleneck`` |
| fill | (117, 104, 123) of 255 | same | ``fill`` |
| convolution biases | zeroed every step | none | |
| optimizer | Adam 2e-3 (G), 2e-4 (D), beta1 0.5; batch 64 | same on the faithful track | |
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from models.base import (
    Ambiguity,
    Batch,
    Box,
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
from models.layers.cpu_kernels import MatrixConv2d, MatrixConvTranspose2d
from models.losses import (
    band_weight,
    discriminator_loss,
    discriminator_score,
    generator_loss,
    mse_over_pixels,
)
from models.registry import register

SIZES = (64, 128, 160)


@dataclass(frozen=True, kw_only=True)
class ContextEncoderConfig:
    """Context Encoder's options; see the table in the module's docstring.

    Attributes:
        head: ``patch`` (the center hole only), ``full``, or ``auto``: by the training hole.
        width: channels of the first layer, 64 as published.
        bottleneck: channels of the code.
        fill: value of the hole in the input, RGB in [0, 1].
        overlap: pixels of the band along the inside of the hole's border.
        overlap_weight: its weight in L2.
        reconstruction_weight: of L2.
        adversarial_weight: of the generator's adversarial term.
    """

    head: Literal["auto", "patch", "full"] = "auto"
    width: int = 64
    bottleneck: int = 4000
    fill: tuple[float, float, float] = (117 / 255, 104 / 255, 123 / 255)
    overlap: int = 4
    overlap_weight: float = 10.0
    reconstruction_weight: float = 0.999
    adversarial_weight: float = 0.001

    def __post_init__(self) -> None:
        check_fields(self)
        if min(self.width, self.bottleneck) < 1:
            raise ValueError("width and bottleneck must be at least 1")
        if self.overlap < 0:
            raise ValueError(f"overlap must not be negative, not {self.overlap}")


def center_box(size: int) -> Box:
    """Return the published hole: the central square of half the side.

    >>> center_box(64)
    Box(top=16, left=16, height=32, width=32)
    """
    return Box(size // 4, size // 4, size // 2, size // 2)


def init_dcgan(module: nn.Module) -> None:
    """Draw weights as DCGAN and Context Encoder do: convolutions N(0, 0.02), batch-norm N(1, 0.02)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


class Generator(nn.Module):
    """Encoder, bottleneck, decoder: all kernels 4 x 4, stride 2 except at the bottleneck.

    Args:
        size: 64, 128 or 160.
        full: predict the whole image instead of the central patch.
        width: channels of the first layer.
        bottleneck: channels of the code.
    """

    def __init__(self, size: int, *, full: bool, width: int, bottleneck: int) -> None:
        super().__init__()
        small, w = size == 64, width
        # At 64 px one level less, so that the map still reaches 4 x 4 before the bottleneck.
        down = [3, w, 2 * w, 4 * w, 8 * w] if small else [3, w, w, 2 * w, 4 * w, 8 * w]
        # Every deconvolution doubles the side, the last one (to RGB) too. The patch is half the image's side,
        # so its decoder is one layer shorter.
        up = [8 * w, 4 * w, 2 * w] + ([] if small and not full else [w]) + ([w] if full and not small else [])
        encoder: list[nn.Module] = []
        for index, (inputs, outputs) in enumerate(itertools.pairwise(down)):
            # No biases in either network: train.lua has them, and sets them to zero before every step.
            encoder.append(nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False))
            # As in DCGAN, the first convolution has no batch-norm.
            encoder += [nn.BatchNorm2d(outputs)] if index else []
            encoder.append(nn.LeakyReLU(0.2, inplace=True))
        self.encoder = nn.Sequential(*encoder)
        self.bottleneck = nn.Sequential(
            MatrixConv2d(8 * w, bottleneck, 4), nn.BatchNorm2d(bottleneck), nn.LeakyReLU(0.2, inplace=True)
        )
        decoder: list[nn.Module] = [
            MatrixConvTranspose2d(bottleneck, 8 * w, 4),
            nn.BatchNorm2d(8 * w),
            nn.ReLU(inplace=True),
        ]
        for inputs, outputs in itertools.pairwise(up):
            decoder.append(nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False))
            decoder += [nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        # Tanh: the repository trains on images in [-1, 1].
        decoder += [nn.ConvTranspose2d(up[-1], 3, 4, 2, 1, bias=False), nn.Tanh()]
        self.decoder = nn.Sequential(*decoder)
        self.apply(init_dcgan)

    def forward(self, filled: Tensor) -> Tensor:
        """Map ``(N, 3, S, S)``, filled, to a patch ``(N, 3, S/2, S/2)`` or the image, float32; all in [-1, 1]."""
        return cast(Tensor, self.decoder(self.bottleneck(self.encoder(filled)))).float()


class Discriminator(nn.Module):
    """DCGAN's discriminator: 4 x 4 kernels, stride 2 down to 4 or 5 pixels, then the mean logit of 4 x 4 windows.

    Args:
        widths: channels after each stride-2 convolution.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        # One shorter on the right: the last width has no successor.
        for index, (inputs, outputs) in enumerate(zip([3, *widths], widths, strict=False)):
            layers.append(nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False))
            layers += [nn.BatchNorm2d(outputs)] if index else []
            layers.append(nn.LeakyReLU(0.2, inplace=True))
        self.layers = nn.Sequential(*layers)
        self.head = nn.Conv2d(widths[-1], 1, 4, bias=False)
        self.apply(init_dcgan)

    def forward(self, image: Tensor) -> Tensor:
        """Map ``(N, 3, S, S)`` in [-1, 1] to logits ``(N,)``, float32."""
        # The head leaves one logit for 64 and 128 pixels, and four for 160.
        return cast(Tensor, self.head(self.layers(image))).float().mean((1, 2, 3))


@register(
    "context-encoder",
    label="Context Encoder",
    summary="encoder, bottleneck of 4000 and decoder that predict the center patch; L2 and one discriminator",
    paper="Pathak et al., CVPR 2016, https://arxiv.org/abs/1604.07379",
    groups=("paper",),
)
class ContextEncoder(InpaintingModel):
    """Context Encoder; see the module's docstring."""

    Config: ClassVar[type] = ContextEncoderConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"smoke": {"width": 8, "bottleneck": 64}}
    published_batch_size = 64
    ambiguities: ClassVar[tuple[Ambiguity, ...]] = (
        Ambiguity(
            topic="head",
            published="64 x 64 center patch of 128 px; a second network for random regions",
            resolved="the patch where every training hole is the center box, else the full-image network",
            field="head",
        ),
        Ambiguity(
            topic="image size",
            published="128 px",
            resolved="64, 128, 160; at 160 unchanged layers give a 2 x 2 bottleneck and an 80 px patch",
            deviation=True,
        ),
        Ambiguity(
            topic="64 px form of the center network",
            published="not given (the random-region code drops one 64-64 layer of each network)",
            resolved="encoder 64-64, decoder 128-64 and discriminator 256-512 dropped",
            deviation=True,
        ),
        Ambiguity(
            topic="discriminator at 160 px",
            published="ends in 1 x 1",
            resolved="ends in 2 x 2; the logits are averaged",
            deviation=True,
        ),
        Ambiguity(
            topic="overlap band",
            published="the patch's outer 4 pixels are visible to the network and weigh 10x",
            resolved="the masks hide them; the 10x weight applies to the inner 4 pixels of the hole",
            field="overlap, overlap_weight",
            deviation=True,
        ),
        Ambiguity(
            topic="L2 of the random-region network",
            published="over the whole image, unweighted (useOverlapPred=0)",
            resolved="same",
        ),
        Ambiguity(
            topic="bottleneck",
            published="4000 in the README's command, 100 as the code's default",
            resolved="4000",
            field="bottleneck",
        ),
        Ambiguity(
            topic="generator's learning rate",
            published="10x the discriminator's (2e-3), since 0 < wtl2 < 1; the PyTorch port uses 2e-4",
            resolved="2e-3 on the faithful track",
        ),
        Ambiguity(
            topic="convolution biases", published="present, zeroed before every step", resolved="absent"
        ),
        Ambiguity(
            topic="discriminator's forwards",
            published="real and fake separately (batch-norm); the generator reuses the fake pass",
            resolved="separately; the generator sees the updated discriminator (the shared trainer's order)",
            deviation=True,
        ),
    )

    def __init__(self, config: ContextEncoderConfig, task: Task) -> None:
        super().__init__(config, task)
        self.validate(config, task.size)
        self.box = None if _full(config, task) else center_box(task.size)
        # The discriminator sees what the generator paints: a patch of half the side needs one level less.
        full, w = self.box is None, config.width
        widths = [w, 2 * w, 4 * w, 8 * w]
        if full and task.size != 64:
            widths = [w, *widths]
        elif task.size == 64 and not full:
            widths = widths[:-1]
        self.networks["generator"] = Generator(task.size, full=full, width=w, bottleneck=config.bottleneck)
        self.networks["discriminator"] = Discriminator(widths)
        self.frozen["fill"] = ChannelConstant(config.fill)

    @classmethod
    def resolved_config(cls, config: ContextEncoderConfig, task: Task) -> dict[str, Any]:
        """Return the options with the head that the task gets."""
        return super().resolved_config(config, task) | {"head": "full" if _full(config, task) else "patch"}

    @classmethod
    def validate(cls, config: ContextEncoderConfig, size: int) -> None:
        """Raise :class:`models.errors.UnsupportedSizeError` unless the size is 64, 128 or 160."""
        if size not in SIZES:
            raise UnsupportedSizeError(
                f"Context Encoder's layers fit 64, 128 and 160 px, not {size} (its 4 x 4 bottleneck)"
            )

    @classmethod
    def label_suffix(cls, config: ContextEncoderConfig, task: Task) -> str:
        """Return ``(random region)`` for the full-image network."""
        return "(random region)" if _full(config, task) else ""

    @classmethod
    def not_applicable(cls, config: ContextEncoderConfig, task: Task, hole_box: Box | None) -> str | None:
        """Exclude masks other than the center box for the patch network, which predicts nothing else."""
        if _full(config, task) or (hole_box is not None and tuple(hole_box) == center_box(task.size)):
            return None
        return "trained for the center hole, it predicts only that box; train it with these masks"

    def phases(self, budget: Budget) -> list[Phase]:
        """Return one joint phase: discriminator, then generator."""
        return [
            Phase(
                name="joint",
                num_steps=budget.split({"joint": 1.0})["joint"],
                optimizers={
                    "discriminator": budget.optimizer(
                        OptimizerSpec(name="adam", learning_rate=2e-4, betas=(0.5, 0.999))
                    ),
                    # Ten times the discriminator's rate, as train.lua sets it where 0 < wtl2 < 1.
                    "generator": budget.optimizer(
                        OptimizerSpec(name="adam", learning_rate=2e-3, betas=(0.5, 0.999))
                    ),
                },
            )
        ]

    def complete(self, batch: Batch) -> Completion:
        """Predict the whole image, or the patch, which ``raw`` shows in its place in the filled input."""
        # Selected, not multiplied, so that nothing under the hole passes, not even NaN.
        filled = torch.where(batch.mask > 0.5, self.frozen["fill"](), batch.image)
        raw = (self.networks["generator"](filled * 2 - 1) + 1) / 2
        if self.box is not None:
            # Known pixels of ``raw`` are the input's own: the network predicts none of them.
            top, left, height, width = self.box
            patch, raw = raw, filled.clone()
            raw[:, :, top : top + height, left : left + width] = patch
        return Completion(raw, composite(batch.image, raw, batch.mask))

    def loss(self, network: str, batch: Batch, completion: Completion, phase: Phase) -> dict[str, Tensor]:
        """Return BCE of real and fake for the discriminator, ``0.999 L2 + 0.001 BCE`` for the generator (eq. 1-3)."""
        discriminator = self.networks["discriminator"]
        fake = self._judged_part(completion.raw)
        if network == "discriminator":
            # Two forwards: with batch-norm, real and fake must not share a batch.
            real_logits, fake_logits = discriminator(self._judged_part(batch.image)), discriminator(fake)
            return {
                "loss": discriminator_loss(real_logits, fake_logits, "bce"),
                "real_score": discriminator_score(real_logits, "bce"),
                "fake_score": discriminator_score(fake_logits, "bce"),
            }
        weight: Tensor | float = 1.0
        if self.box is not None:
            side, band = fake.shape[-1], self.config.overlap
            # Only the patch has the band: the random-region code does not weight (useOverlapPred=0).
            weight = band_weight(side, side, band, self.config.overlap_weight, fake.device)
        l2 = mse_over_pixels(fake, self._judged_part(batch.image), weight)
        # Adversarial and L2 weight sum to 1 (wtl2), and belong to errors in [-1, 1],
        # which are four times those in [0, 1].
        adversarial = generator_loss(discriminator(fake), "bce")
        loss = self.config.reconstruction_weight * l2 + self.config.adversarial_weight * adversarial
        return {"loss": loss, "reconstruction": l2, "adversarial": adversarial}

    def _judged_part(self, image: Tensor) -> Tensor:
        """Return what losses and discriminator see: the patch or the whole image, in [-1, 1]."""
        if self.box is not None:
            top, left, height, width = self.box
            image = image[:, :, top : top + height, left : left + width]
        return image * 2 - 1

    def layer_table(self) -> Mapping[str, list[Layer]]:
        """Return both networks' convolutions in order."""
        return {name: _layers(network) for name, network in self.networks.items()}


def _full(config: ContextEncoderConfig, task: Task) -> bool:
    """Return whether the task gets the full-image network."""
    if config.head != "auto":
        return config.head == "full"
    return task.fixed_hole_box is None or tuple(task.fixed_hole_box) != center_box(task.size)


def _layers(network: nn.Module) -> list[Layer]:
    """Build one row per convolution, noting the layers after it."""
    rows: list[Layer] = []
    notes: list[list[str]] = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            kind = "deconv" if isinstance(module, nn.ConvTranspose2d) else "conv"
            rows.append(
                Layer(
                    name=name,
                    kind=kind,
                    kernel="4 x 4",
                    stride=str(module.stride[0]),
                    in_channels=str(module.in_channels),
                    out_channels=str(module.out_channels),
                )
            )
            notes.append([])
        elif isinstance(module, nn.BatchNorm2d | nn.LeakyReLU | nn.ReLU | nn.Tanh):
            # Norm and activation belong to the row of the convolution before them.
            notes[-1].append(type(module).__name__.replace("2d", ""))
    return [
        Layer(**{**vars(row), "note": ", ".join(note) or "logits"})
        for row, note in zip(rows, notes, strict=True)
    ]
