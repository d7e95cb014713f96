"""GLCIC's training procedure, which MGS-IIM takes over: three phases, weighted MSE, two discriminators.

Iizuka et al., "Globally and Locally Consistent Image Completion" (SIGGRAPH 2017), section 4 and algorithm 1.
A model file says what its generator and its discriminator are and what of the procedure its paper changes.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from models.base import (
    Batch,
    Budget,
    Completion,
    InpaintingModel,
    Layer,
    OptimizerSpec,
    Phase,
    Task,
    check_choices,
    composite,
)
from models.errors import UnsupportedSizeError
from models.layers.dual_discriminator import DualDiscriminator
from models.layers.local_crop import crop_at, default_local_size, hole_corners, random_corners
from models.losses import AdversarialLoss, discriminator_loss, discriminator_score, generator_loss

SIZE_MULTIPLE = 4
MIN_SIZE = 32


@dataclass(frozen=True, kw_only=True)
class ThreePhaseConfig:
    """What the two models' configs share. Defaults are GLCIC's.

    Attributes:
        width: multiple of the published channels; below 1 only for tests.
        fill: what the generator sees in the hole: the training split's mean pixel, or zero.
        local_size: side of the local crop; ``None``: three fifths of the image, 96 at 160 and 40 at 64.
        discriminator_input: whether the discriminators see the mask as a fourth channel.
        discriminator_fake: what they are shown as fake, the composite or the generator's raw picture.
        real_crop: where the real local crop lies: ``random`` anywhere, or at the ``hole`` like the fake one.
        adversarial_loss: ``bce`` on logits, or ``hinge``.
        adversarial_weight: alpha, of the adversarial term in the generator's loss.
        valid_weight: of the squared error outside the hole, beside 1 inside.
        mse_mean: the squared error is divided by its ``weights``, or by all pixels of the ``image`` (GLCIC's
            port).
        discriminator_weight: of the discriminator's loss; GLCIC's eq. 4 has alpha here, which Adam does not
            see.
        completion_fraction: of the training, in which the generator learns alone from squared error (Tc).
        discriminator_fraction: of the training, in which the discriminators learn alone (Td).
    """

    width: float = 1.0
    fill: Literal["mean-pixel", "zero"] = "mean-pixel"
    local_size: int | None = None
    discriminator_input: Literal["image", "image+mask"] = "image"
    discriminator_fake: Literal["composite", "raw"] = "composite"
    real_crop: Literal["random", "hole"] = "random"
    adversarial_loss: AdversarialLoss = "bce"
    adversarial_weight: float = 4e-4
    valid_weight: float = 0.0
    mse_mean: Literal["weights", "image"] = "weights"
    discriminator_weight: float = 1.0
    completion_fraction: float = 0.18
    discriminator_fraction: float = 0.02

    def __post_init__(self) -> None:
        check_choices(self)
        if not 0 < self.width <= 4:
            raise ValueError(f"width must lie in (0, 4], not {self.width}")
        if self.local_size is not None and self.local_size < MIN_SIZE:
            raise ValueError(f"local_size must be at least {MIN_SIZE} pixels, not {self.local_size}")
        for name in ("adversarial_weight", "valid_weight", "discriminator_weight"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be a number from 0, not {getattr(self, name)}")
        alone = self.completion_fraction, self.discriminator_fraction
        if min(alone) <= 0 or sum(alone) >= 1:
            raise ValueError(
                "completion_fraction and discriminator_fraction must be above 0 and together below 1, "
                f"not {alone[0]} and {alone[1]}"
            )
        if self.discriminator_input == "image+mask" and self.real_crop == "random":
            raise ValueError(
                "real_crop='random' needs discriminator_input='image': the mask would tell real from fake"
            )

    def local_side(self, size: int) -> int:
        """Side of the local crop for images of side ``size``."""
        return default_local_size(size) if self.local_size is None else self.local_size


class ThreePhaseModel(InpaintingModel):
    """Completion, discriminator, joint. Subclasses build the networks and name the published optimizer."""

    Config: ClassVar[type] = ThreePhaseConfig
    config: ThreePhaseConfig
    published_optimizer: ClassVar[OptimizerSpec]

    def __init__(self, config: ThreePhaseConfig, task: Task) -> None:
        super().__init__(config, task)
        self.validate(config, task.size)
        self.local_size = config.local_side(task.size)
        self.networks["generator"] = self.build_generator()
        self.networks["discriminator"] = self.build_discriminator()

    @abstractmethod
    def build_generator(self) -> nn.Module:
        """A network ``(image, mask) -> raw`` that fills the hole itself; see :func:`masked_input`."""

    @abstractmethod
    def build_discriminator(self) -> DualDiscriminator:
        """The discriminators, for ``self.task.size`` and ``self.local_size``."""

    @classmethod
    def validate(cls, config: ThreePhaseConfig, size: int) -> None:
        """Two stride-2 layers down and up: sizes are multiples of 4, and hold the local crop."""
        if size % SIZE_MULTIPLE or size < MIN_SIZE:
            raise UnsupportedSizeError(
                f"{cls.__name__} takes multiples of {SIZE_MULTIPLE} from {MIN_SIZE} pixels, not {size}"
            )
        if config.local_side(size) > size:
            raise UnsupportedSizeError(
                f"local_size {config.local_side(size)} does not fit into images of {size} pixels"
            )

    def phases(self, budget: Budget) -> list[Phase]:
        """Completion, discriminator, joint: 18, 2 and 80 % (GLCIC: 90,000, 10,000 and 400,000 steps)."""
        config, optimizer = self.config, budget.optimizer(self.published_optimizer)
        alone = {"completion": config.completion_fraction, "discriminator": config.discriminator_fraction}
        steps = budget.split({**alone, "joint": 1.0 - sum(alone.values())})
        networks = {
            "completion": ("generator",),
            "discriminator": ("discriminator",),
            "joint": ("discriminator", "generator"),
        }
        return [
            Phase(name=name, num_steps=steps[name], optimizers=dict.fromkeys(movers, optimizer))
            for name, movers in networks.items()
        ]

    def complete(self, batch: Batch) -> Completion:
        """One generator forward on the image with its hole filled, and the mask."""
        raw = self.networks["generator"](batch.image, batch.mask)
        return Completion(raw, composite(batch.image, raw, batch.mask))

    def loss(self, network: str, batch: Batch, completion: Completion, phase: Phase) -> dict[str, Tensor]:
        """Generator: weighted MSE, if joint plus alpha times the adversarial term (GLCIC eq. 2, 4)."""
        if network == "discriminator":
            return self._discriminator_loss(batch, completion)
        error = weighted_mse(
            completion.raw, batch.image, batch.mask, self.config.valid_weight, self.config.mse_mean
        )
        if "discriminator" not in phase.networks:
            return {"loss": error, "mse": error}
        corners = hole_corners(batch.mask, self.local_size)
        fake = self._judge(self._fake(completion), batch.mask, corners)
        adversarial = generator_loss(fake, self.config.adversarial_loss)
        return {
            "loss": error + self.config.adversarial_weight * adversarial,
            "mse": error,
            "adversarial": adversarial,
        }

    def _discriminator_loss(self, batch: Batch, completion: Completion) -> dict[str, Tensor]:
        """Real and fake pictures in one forward."""
        corners = hole_corners(batch.mask, self.local_size)
        real_corners = corners
        if self.config.real_crop == "random":
            real_corners = batch.draw(
                lambda count, generator: random_corners(
                    count, batch.size, self.local_size, generator, batch.image.device
                )
            )
        logits = self._judge(
            torch.cat([batch.image, self._fake(completion)]),
            torch.cat([batch.mask, batch.mask]),
            torch.cat([real_corners, corners]),
            populations=2,
        )
        real, fake = logits.chunk(2)
        kind = self.config.adversarial_loss
        return {
            "loss": self.config.discriminator_weight * discriminator_loss(real, fake, kind),
            "real_score": discriminator_score(real, kind),
            "fake_score": discriminator_score(fake, kind),
        }

    def _fake(self, completion: Completion) -> Tensor:
        return completion.composite if self.config.discriminator_fake == "composite" else completion.raw

    def _judge(self, picture: Tensor, mask: Tensor, corners: Tensor, populations: int = 1) -> Tensor:
        """Logits of pictures and of their crops at ``corners``."""
        if self.config.discriminator_input == "image+mask":
            picture = torch.cat([picture, mask], dim=1)
        local = crop_at(picture, corners, self.local_size)
        logits: Tensor = self.networks["discriminator"](picture, local, populations)
        return logits

    def discriminator_tables(self) -> dict[str, list[Layer]]:
        """The discriminators' part of :meth:`layer_table`."""
        discriminator = self.networks["discriminator"]
        assert isinstance(discriminator, DualDiscriminator)
        return discriminator.layer_tables()


def weighted_mse(
    output: Tensor,
    target: Tensor,
    mask: Tensor,
    valid_weight: float = 0.0,
    mean: Literal["weights", "image"] = "weights",
) -> Tensor:
    """Squared error weighted 1 in the hole and ``valid_weight`` outside; a scalar, the mean over images.

    Args:
        output: ``(N, 3, H, W)`` in [0, 1].
        target: the same shape.
        mask: ``(N, 1, H, W)``, 1 = hole.
        valid_weight: from 0.
        mean: divide by the sum of an image's ``weights``, which makes it a weighted mean, or by all its pixels
            (``image``, as GLCIC's public port, ``mse_loss(out * M, x * M)``: a quarter of that for a centre hole).
    """
    weight = mask if valid_weight == 0 else mask + valid_weight * (1 - mask)
    error = weight * (output.float() - target).square()
    if mean == "image":
        return error.mean()
    total = weight.sum(dim=(1, 2, 3)).clamp(min=1) * output.shape[1]
    return (error.sum(dim=(1, 2, 3)) / total).mean()


def masked_input(image: Tensor, mask: Tensor, fill: Tensor) -> Tensor:
    """``(N, 4, H, W)``: the image with ``fill`` (``(1, 3, 1, 1)``) in the hole, and the mask.

    Chosen, not multiplied, so that nothing under the hole comes through, be it NaN.
    """
    return torch.cat([torch.where(mask > 0.5, fill, image), mask], dim=1)


def fill_pixel(config: ThreePhaseConfig, task: Task) -> Tensor:
    """``(1, 3, 1, 1)``: what the generator sees in the hole."""
    pixel = task.mean_pixel if config.fill == "mean-pixel" else (0.0, 0.0, 0.0)
    return torch.tensor(pixel, dtype=torch.float32).view(1, 3, 1, 1)
