"""GLCIC: globally and locally consistent image completion.

Paper: Iizuka, Simo-Serra, Ishikawa, "Globally and Locally Consistent Image Completion", ACM Transactions on
Graphics 36(4), SIGGRAPH 2017, https://doi.org/10.1145/3072959.3073659
Code: https://github.com/satoshiiizuka/siggraph2017_inpainting (inference only). The port
meant below is https://github.com/otenim/GLCIC-PyTorch; its faults (discriminator steps that add the
generator's stale gradient, one crop for a whole batch, no composite before the discriminator) are not
repeated.

======================  ===============================  ===============================  ======================
topic                   published                        here                             config field
======================  ===============================  ===============================  ======================
output                  sigmoid, images in [0, 1]        the same                         --
norm and activation     batch-norm after every           convolution, batch-norm, ReLU    activation_order
                        convolution but the last, order  (generator and discriminators)
                        unsaid; port: ReLU first
norm of discriminators  batch-norm (port)                the same; real and fake apart    discriminator_norm
local crop              128 at 256 px                    96 at 160 (port, CelebA), 40 at  local_size
                                                         64
global convolutions     6 at 256 px                      5 (port, CelebA at 160)          global_convolutions
crop of the real image  random position                  random, for each image apart     real_crop
shown as fake           completed image; port: raw       composite                        discriminator_fake
                        output
weight outside hole     0                                0                                valid_weight
reduction of the error  squared norm; port: mean over    mean over the hole               mse_reduction
                        the image
alpha                   4e-4                             4e-4                             adversarial_weight
discriminator's loss    scaled by alpha                  not scaled (Adam does not see a  discriminator_weight
                                                         factor)
phases                  90,000 / 10,000 / 400,000 steps  18 / 2 / 80 % of the budget      completion_fraction,
                                                                                          discriminator_fraction
optimizer               Adadelta, batch 96               faithful track: learning rate    (track)
                                                         1.0
fill                    mean pixel of the training data  the same                         fill
post-processing         Telea, then Poisson blending     none; or the published one, and  post_processing
                                                         so labeled
======================  ===============================  ===============================  ======================
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.base import Ambiguity, Batch, Completion, Layer, OptimizerSpec, Task, composite
from models.errors import MissingPackageError
from models.layers.conv_block import RELU, ConvBlock, LayerRow, describe_layers, scale_channels
from models.layers.dual_discriminator import DualDiscriminator, LayerOptions
from models.layers.gated_conv import same_conv
from models.registry import register
from models.three_phase import LARGE_HOLES, ThreePhaseConfig, ThreePhaseModel, fill_pixel, masked_input

#: Radius of the fast marching in post-processing, in pixels (the authors' ``inpaint.lua``).
TELEA_RADIUS = 1
#: Table 1 of the paper: kind, kernel, stride, channels in and out.
TABLE_1 = tuple(
    LayerRow(kind=kind, kernel=kernel, stride=stride, inputs=inputs, outputs=outputs)  # type: ignore[arg-type]
    for kind, kernel, stride, inputs, outputs in (
        ("conv", 5, 1, 4, 64),
        ("conv", 3, 2, 64, 128),
        ("conv", 3, 1, 128, 128),
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


@dataclass(frozen=True, kw_only=True)
class GLCICConfig(ThreePhaseConfig):
    """Options of GLCIC, besides :class:`~models.three_phase.ThreePhaseConfig`.

    Attributes:
        dilations: of rows 7 to 10.
        activation_order: ``norm-act`` (conv, batch-norm, ReLU) or ``act-norm`` (conv, ReLU, batch-norm), in the
            generator and in the discriminators.
        discriminator_norm: batch-norm after every convolution of the discriminators, or ``none``.
        global_convolutions: 5 (CelebA at 160 px) or 6 (the paper's, at 256 px).
        post_processing: of completed images in evaluation; see :func:`telea_and_poisson`.
    """

    dilations: tuple[int, int, int, int] = (2, 4, 8, 16)
    activation_order: Literal["norm-act", "act-norm"] = "norm-act"
    discriminator_norm: Literal["batch", "none"] = "batch"
    global_convolutions: Literal[5, 6] = 5
    post_processing: Literal["none", "telea+poisson"] = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.dilations) != 4 or min(self.dilations) < 1:
            raise ValueError(f"dilations must be four numbers from 1, not {self.dilations}")


class CompletionNetwork(nn.Module):
    """Rows 1 to 17 of Table 1: image and mask in, image out."""

    fill: Tensor

    def __init__(self, config: GLCICConfig, fill: Tensor) -> None:
        super().__init__()
        # Not saved: it is the training split's mean pixel, which the task carries.
        self.register_buffer("fill", fill, persistent=False)
        dilations = iter(config.dilations)
        blocks = []
        for number, row in enumerate(TABLE_1[:-1], start=1):
            blocks.append(
                ConvBlock(
                    # RGB and mask are four channels at any width.
                    4 if number == 1 else scale_channels(row.inputs, config.width),
                    scale_channels(row.outputs, config.width),
                    row,
                    dilation=next(dilations) if row.kind == "dilated" else 1,
                    activation=RELU,
                    order=config.activation_order,
                )
            )
        self.blocks = nn.Sequential(*blocks)
        self.output = same_conv(scale_channels(TABLE_1[-1].inputs, config.width), 3, TABLE_1[-1].kernel)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Map ``(N, 3, H, W)`` in [0, 1] and ``(N, 1, H, W)`` to an image in [0, 1], float32."""
        x = self.blocks(masked_input(image, mask, self.fill))
        logits: Tensor = self.output(x)
        # float32 first: a sigmoid in bfloat16 has 128 levels between 0.5 and 1.
        return logits.float().sigmoid()


@register(
    "glcic",
    label="GLCIC",
    summary="Dilated encoder-decoder with global and local discriminators, trained in three phases.",
    paper="Iizuka et al., SIGGRAPH 2017, https://doi.org/10.1145/3072959.3073659",
    groups=("paper",),
)
class GLCIC(ThreePhaseModel):
    """Iizuka et al. 2017; see the head of this file."""

    Config = GLCICConfig
    config: GLCICConfig
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"smoke": {"width": 0.125}}
    published_batch_size = 96
    published_optimizer = OptimizerSpec(name="adadelta", learning_rate=1.0)
    ambiguities = (
        Ambiguity(
            topic="order of batch-norm and ReLU",
            published="both after every convolution but the last; the public port puts ReLU first",
            resolved="convolution, batch-norm, ReLU, in the generator and in the discriminators",
            field="activation_order",
        ),
        Ambiguity(
            topic="norm in the discriminators",
            published="batch-norm in the public port",
            resolved="batch-norm, with separate statistics of real and of completed images",
            field="discriminator_norm",
        ),
        Ambiguity(
            topic="local crop",
            published="128 of 256 pixels; 96 of 160 for CelebA in the public port",
            resolved="three fifths of the image (96 at 160 pixels, 40 at 64), around the hole",
            field="local_size",
        ),
        LARGE_HOLES,
        Ambiguity(
            topic="convolutions of the global discriminator",
            published="6 at 256 pixels; 5 at 160 in the public port",
            resolved="5",
            field="global_convolutions",
        ),
        Ambiguity(
            topic="crop of the real image",
            published="at a random position",
            resolved="at a random position, drawn for each image (the port draws one for a batch)",
            field="real_crop",
        ),
        Ambiguity(
            topic="what the discriminator sees as fake",
            published="the completed image; the public port shows the raw output",
            resolved="the composite",
            field="discriminator_fake",
        ),
        Ambiguity(
            topic="error outside the hole",
            published="none: the error is masked",
            resolved="weight 0",
            field="valid_weight",
        ),
        Ambiguity(
            topic="reduction of the squared error, to which alpha belongs",
            published="squared norm of the masked error; the public port averages over the whole image",
            resolved="mean over the hole; over the image, the adversarial term outweighs it under Adam",
            field="mse_reduction",
        ),
        Ambiguity(
            topic="scale of the discriminator's loss",
            published="multiplied by alpha",
            resolved="not multiplied; Adam does not see a constant factor, Adadelta's first steps do",
            field="discriminator_weight",
            deviation=True,
        ),
        Ambiguity(
            topic="length of the phases",
            published="90,000, 10,000 and 400,000 steps",
            resolved="18, 2 and 80 % of the budget",
            field="completion_fraction, discriminator_fraction",
        ),
        Ambiguity(
            topic="post-processing",
            published="Telea inpainting, then Poisson blending",
            resolved="none, since the networks are compared; telea+poisson labels the row (post-processed)",
            field="post_processing",
            deviation=True,
        ),
    )

    @classmethod
    def requirements(cls, config: GLCICConfig) -> None:
        """Raise :class:`models.errors.MissingPackageError` if post-processing is on without OpenCV."""
        if config.post_processing != "none":
            require_opencv()

    @classmethod
    def label_suffix(cls, config: GLCICConfig, task: Task) -> str:
        """Return ``(post-processed)`` where post-processing is on."""
        return "" if config.post_processing == "none" else "(post-processed)"

    def complete(self, batch: Batch) -> Completion:
        """Run the generator, and in evaluation the post-processing if it is on; ``raw`` is never processed."""
        done = super().complete(batch)
        # Losses need the gradient of the composite, which the 8-bit post-processing does not have.
        if self.config.post_processing == "none" or self.networks["generator"].training:
            return done
        processed = telea_and_poisson(done.composite, batch.mask)
        return Completion(done.raw, composite(batch.image, processed, batch.mask))

    def build_generator(self) -> nn.Module:
        """Build the completion network: 6,072,131 parameters."""
        return CompletionNetwork(self.config, fill_pixel(self.config, self.task))

    def build_discriminator(self) -> DualDiscriminator:
        """Build local and global discriminators with ReLU and batch-norm: 39,557,121 parameters at 160 pixels."""
        return DualDiscriminator(
            3 if self.config.discriminator_input == "image" else 4,
            self.task.size,
            self.local_size,
            global_depth=self.config.global_convolutions,
            options=LayerOptions(
                width=self.config.width,
                batch_norm=self.config.discriminator_norm == "batch",
                activation=RELU,
                activation_first=self.config.activation_order == "act-norm",
            ),
        )

    def layer_table(self) -> Mapping[str, list[Layer]]:
        """Return Tables 1 and 2 of the paper."""
        notes = {7 + i: f"dilation {d}" for i, d in enumerate(self.config.dilations)} | {17: "sigmoid"}
        return {
            "generator": describe_layers(TABLE_1, self.config.width, notes),
            **self.discriminator_tables(),
        }


def require_opencv() -> None:
    """Raise :class:`models.errors.MissingPackageError` where OpenCV is not installed."""
    if importlib.util.find_spec("cv2") is None:
        raise MissingPackageError("post-processing needs OpenCV: pip install 'inpaint-bench[opencv]'")


def telea_and_poisson(completed: Tensor, mask: Tensor) -> Tensor:
    """Fit the colors of the hole to its border: GLCIC's published post-processing (Iizuka et al. 2017, section 4.3).

    Fast marching fills the hole (Telea 2004); then Poisson blending (Perez et al. 2003) keeps the gradients of the
    completion and takes the colors of the border from the fast marching. With OpenCV on the CPU, in 8 bits, without
    gradient, with the calls and the radius of the authors' ``inpaint.lua``, which exchanges rows and columns when it
    looks for the position of the hole; here the hole stays where it is.

    Args:
        completed: ``(N, 3, H, W)`` in [0, 1], the composite.
        mask: ``(N, 1, H, W)``, 1 = hole.

    Returns:
        ``(N, 3, H, W)`` in [0, 1], rounded to 8 bits.
    """
    images = (completed.detach().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    holes = (mask[:, 0] > 0.5).byte().cpu().numpy() * 255
    done = [_process_one(np.ascontiguousarray(p), h) for p, h in zip(images, holes, strict=True)]
    return torch.from_numpy(np.stack(done)).permute(0, 3, 1, 2).to(completed) / 255


def _process_one(image: NDArray[np.uint8], hole: NDArray[np.uint8]) -> NDArray[np.uint8]:
    import cv2

    # The whole hole by fast marching first: its colors are the border condition of the blending.
    marched: Any = cv2.inpaint(image, hole, TELEA_RADIUS, cv2.INPAINT_TELEA)
    # seamlessClone takes no hole on the image's outermost pixels: they keep the fast marching's colors.
    inner = np.zeros_like(hole)
    inner[1:-1, 1:-1] = hole[1:-1, 1:-1]
    left, top, width, height = cv2.boundingRect(inner)
    # Nor one of two pixels or fewer across: it shrinks the hole by a pixel on each side.
    if min(width, height) < 3:
        return np.asarray(marched)
    # seamlessClone places the middle of the hole's bounding box here,
    # rounded like this: the hole stays in place.
    center = (left + width // 2, top + height // 2)
    return np.asarray(cv2.seamlessClone(image, marched, inner, center, cv2.NORMAL_CLONE))
