"""The example that ``bench new-model`` writes: a small U-Net, complete and commented."""

from __future__ import annotations

_SOURCE = '''"""@LABEL@: a small U-Net for image inpainting. Replace this with your paper, authors and link."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.errors import UnsupportedSizeError
from models.base import Batch, Budget, Completion, InpaintingModel, OptimizerSpec, Phase, Task, composite
from models.registry import register


@dataclass(frozen=True, kw_only=True)
class Config:
    """What can be changed from the command line with --set @NAME@.FIELD=VALUE."""

    width: int = 48
    hole_weight: float = 6.0

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width must be at least 1, not {self.width}")


class UNet(nn.Module):
    """Three scales with skips. Input: image with a grey hole, and the mask (1 = hole); output: RGB in [0, 1]."""

    def __init__(self, width: int) -> None:
        super().__init__()

        def block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
            convolution = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2))

        self.first = block(4, width)
        self.down1 = block(width, 2 * width, stride=2)
        self.down2 = block(2 * width, 4 * width, stride=2)
        self.bottom = nn.Sequential(*(block(4 * width, 4 * width) for _ in range(3)))
        self.up2 = block(6 * width, 2 * width)
        self.up1 = block(3 * width, width)
        self.last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, 4, H, W)`` -> ``(N, 3, H, W)`` float32 in [0, 1]."""
        fine = self.first(x)
        middle = self.down1(fine)
        coarse = self.bottom(self.down2(middle))
        middle = self.up2(torch.cat([nn.functional.interpolate(coarse, scale_factor=2.0), middle], 1))
        fine = self.up1(torch.cat([nn.functional.interpolate(middle, scale_factor=2.0), fine], 1))
        # float(): under bf16 autocast a sigmoid in 8 bits would quantise the picture.
        return torch.sigmoid(self.last(fine).float())


# The arguments of @register are read without importing this file: keep them literals.
@register("@NAME@", label="@LABEL@", summary="a small U-Net with skips, L1 loss", groups=("mine",))
class Model(InpaintingModel):
    """One generator, one phase, an L1 loss that weighs the hole more."""

    Config = Config
    # Presets change config fields; 'smoke' should be as small as it can be.
    presets = {"smoke": {"width": 4}}  # noqa: RUF012

    def __init__(self, config: Config, task: Task) -> None:
        super().__init__(config, task)
        # Everything trained goes into self.networks; a second entry 'discriminator' would be a second network.
        self.networks["generator"] = UNet(config.width)

    @classmethod
    def validate(cls, config: Config, size: int) -> None:
        """Asked before anything starts."""
        if size % 4:
            raise UnsupportedSizeError(f"needs a multiple of 4, not {size}")

    def phases(self, budget: Budget) -> list[Phase]:
        """Who is trained when. budget.optimizer() gives every model the same one on the uniform track."""
        steps = budget.split({"train": 1.0})
        published = OptimizerSpec(name="adam", learning_rate=2e-4)
        return [
            Phase(name="train", num_steps=steps["train"], optimizers={"generator": budget.optimizer(published)})
        ]

    def complete(self, batch: Batch) -> Completion:
        """One forward. Images are in [0, 1], masks are 1 in the hole; nothing under the hole may be looked at."""
        known = batch.image * (1 - batch.mask) + 0.5 * batch.mask
        raw = self.networks["generator"](torch.cat([known, batch.mask], 1))
        return Completion(raw, composite(batch.image, raw, batch.mask))

    def loss(self, network: str, batch: Batch, completion: Completion, phase: Phase) -> dict[str, Tensor]:
        """Named terms; 'loss' is minimised, the others are logged and drawn in the report."""
        error = (completion.raw - batch.image).abs()
        hole, valid = (error * batch.mask).mean(), (error * (1 - batch.mask)).mean()
        return {"loss": self.config.hole_weight * hole + valid, "hole": hole, "valid": valid}
'''


def template_source(name: str) -> str:
    """The text of a model file that registers ``name`` (lower-case words joined by dashes)."""
    return _SOURCE.replace("@NAME@", name).replace("@LABEL@", name.replace("-", " ").title())
