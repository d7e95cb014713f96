"""Generate the example that ``bench new-model`` writes: a small U-Net, complete and commented."""

from __future__ import annotations

_SOURCE = '''"""@LABEL@: a small U-Net for image inpainting. Replace this with your paper, authors and link."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from models.base import (
    Batch,
    Budget,
    Completion,
    InpaintingModel,
    OptimizerSpec,
    Phase,
    Task,
    composite,
)
from models.config_fields import check_fields
from models.errors import UnsupportedSizeError
from models.registry import register
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Options; change them on the command line with --set @NAME@.FIELD=VALUE."""

    width: int = 48
    hole_weight: float = 6.0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.width < 1:
            raise ValueError(f"width must be at least 1, not {self.width}")


class UNet(nn.Module):
    """Three scales with skips; from an image with a gray hole and its mask to RGB in [0, 1]."""

    def __init__(self, width: int) -> None:
        super().__init__()

        def block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
            convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            return nn.Sequential(
                convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)
            )

        self.first = block(4, width)
        self.down1 = block(width, 2 * width, stride=2)
        self.down2 = block(2 * width, 4 * width, stride=2)
        self.bottom = nn.Sequential(*(block(4 * width, 4 * width) for _ in range(3)))
        self.up2 = block(6 * width, 2 * width)
        self.up1 = block(3 * width, width)
        self.last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, 4, H, W)`` to ``(N, 3, H, W)``, float32 in [0, 1]."""
        fine = self.first(x)
        middle = self.down1(fine)
        coarse = self.bottom(self.down2(middle))
        middle = self.up2(
            torch.cat([nn.functional.interpolate(coarse, scale_factor=2.0), middle], 1)
        )
        fine = self.up1(
            torch.cat([nn.functional.interpolate(middle, scale_factor=2.0), fine], 1)
        )
        # float(): in bf16 the output would have too few levels.
        output: Tensor = torch.sigmoid(self.last(fine).float())
        return output


# The arguments of @register are read without importing this file, so they must be literals.
@register(
    "@NAME@",
    label="@LABEL@",
    summary="a small U-Net with skips, L1 loss",
    groups=("mine",),
)
class Model(InpaintingModel):
    """One generator, one phase, an L1 loss that weighs the hole more."""

    Config = UNetConfig
    config: UNetConfig
    # Presets change config fields; make 'smoke' as small as possible.
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"smoke": {"width": 4}}

    def __init__(self, config: UNetConfig, task: Task) -> None:
        super().__init__(config, task)
        # Everything that is trained goes into self.networks; an adversarial loss adds 'discriminator'.
        self.networks["generator"] = UNet(config.width)

    @classmethod
    def validate(cls, config: UNetConfig, size: int) -> None:
        """Reject sizes that the network cannot take; called before anything starts."""
        if size % 4:
            raise UnsupportedSizeError(f"needs a multiple of 4, not {size}")

    def phases(self, budget: Budget) -> list[Phase]:
        """Define which network is trained when, by which optimizer.

        budget.optimizer() returns the same one for all models on the uniform track.
        """
        steps = budget.split({"train": 1.0})
        published = OptimizerSpec(name="adam", learning_rate=2e-4)
        return [
            Phase(
                name="train",
                num_steps=steps["train"],
                optimizers={"generator": budget.optimizer(published)},
            )
        ]

    def complete(self, batch: Batch) -> Completion:
        """Run one forward. Images are in [0, 1], masks are 1 in the hole; never use pixels under it."""
        known = batch.image * (1 - batch.mask) + 0.5 * batch.mask
        raw = self.networks["generator"](torch.cat([known, batch.mask], 1))
        return Completion(raw, composite(batch.image, raw, batch.mask))

    def loss(
        self, network: str, batch: Batch, completion: Completion, phase: Phase
    ) -> dict[str, Tensor]:
        """Return named terms: 'loss' is minimized, the others are logged and plotted in the report."""
        error = (completion.raw - batch.image).abs()
        hole, valid = (error * batch.mask).mean(), (error * (1 - batch.mask)).mean()
        return {
            "loss": self.config.hole_weight * hole + valid,
            "hole": hole,
            "valid": valid,
        }
'''


def template_source(name: str) -> str:
    """Return the text of a model file that registers ``name`` (lower-case words joined by dashes).

    >>> 'label="My Unet"' in template_source("my-unet")
    True
    """
    return _SOURCE.replace("@NAME@", name).replace("@LABEL@", name.replace("-", " ").title())
