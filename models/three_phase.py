"""Train in GLCIC's three phases, as MGS-IIM does too: weighted squared error, then two discriminators, then both.

Iizuka et al., "Globally and Locally Consistent Image Completion" (SIGGRAPH 2017), section 4 and algorithm 1.
The model files define generators, discriminators, and what their papers change of the procedure.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

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
from models.layers.dual_discriminator import DualDiscriminator
from models.layers.local_crop import crop_at, default_local_size, hole_corners, random_corners
from models.losses import (
    AdversarialLoss,
    discriminator_loss,
    discriminator_score,
    generator_loss,
    mse_over_pixels,
    mse_over_weights,
    squared_norm,
)

SIZE_MULTIPLE = 4
MIN_SIZE = 32
#: ``mse_reduction`` -> loss.
_SQUARED_ERRORS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "weights": mse_over_weights,
    "image": mse_over_pixels,
    "sum": squared_norm,
}

#: Shares measured over 300 masks of each kind at 160 px (``tests/models/layers/test_local_crop.py``).
LARGE_HOLES = Ambiguity(
    topic="holes larger than the local crop",
    published="do not occur: rectangles no larger than the crop",
    resolved="the crop shows the middle of the hole's bounding box: 81 % of the pixels of holes of kind shapes "
    "(72 % of which exceed it), 76 % of freeform (64 %), all of center and random-rect",
    field="local_size",
    deviation=True,
)


@dataclass(frozen=True, kw_only=True)
class ThreePhaseConfig:
    """Options that GLCIC and MGS-IIM share; defaults are GLCIC's.

    Attributes:
        width: multiple of the published channels; below 1 only for tests.
        fill: value of the hole in the generator's input: the training split's mean pixel, or zero.
        local_size: side of the local crop; ``None``: three fifths of the image, 96 at 160 and 40 at 64.
        discriminator_input: whether the discriminators see the mask as a fourth channel.
        discriminator_fake: the fake image of the discriminators: the composite or the generator's raw output.
        real_crop: position of the real local crop: ``random`` anywhere, or at the ``hole`` like the fake one.
        adversarial_loss: ``bce`` on logits, or ``hinge``.
        adversarial_weight: alpha, of the adversarial term in the generator's loss.
        valid_weight: of the squared error outside the hole, beside 1 inside.
        mse_reduction: divide an image's squared error by its ``weights``, by all pixels of the ``image`` (GLCIC's
            public port), or not at all (``sum``: the squared norm of GLCIC's equation 2). Under SGD this acts as the
            learning rate: at 160 px, ``sum`` is 19,200 times ``weights`` for the center hole.
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
    mse_reduction: Literal["weights", "image", "sum"] = "weights"
    discriminator_weight: float = 1.0
    completion_fraction: float = 0.18
    discriminator_fraction: float = 0.02

    def __post_init__(self) -> None:
        check_fields(self)
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
        # With its mask, a real crop at another position than the hole shows an empty mask, a fake one never.
        if self.discriminator_input == "image+mask" and self.real_crop == "random":
            raise ValueError(
                "real_crop='random' needs discriminator_input='image': the mask would tell real from fake"
            )

    def local_side(self, size: int) -> int:
        """Return the side of the local crop for images of side ``size``."""
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
        """Build a network ``(image, mask) -> raw`` that fills the hole itself; see :func:`masked_input`."""

    @abstractmethod
    def build_discriminator(self) -> DualDiscriminator:
        """Build the discriminators for ``self.task.size`` and ``self.local_size``."""

    def faithful_optimizer(self) -> OptimizerSpec:
        """Return the optimizer of all networks on the faithful track."""
        return self.published_optimizer

    @classmethod
    def resolved_config(cls, config: ThreePhaseConfig, task: Task) -> dict[str, Any]:
        """Return the options with the side of the local crop at this size."""
        return super().resolved_config(config, task) | {"local_size": config.local_side(task.size)}

    @classmethod
    def validate(cls, config: ThreePhaseConfig, size: int) -> None:
        """Require a multiple of 4 (two stride-2 layers down and up) that holds the local crop."""
        if size % SIZE_MULTIPLE or size < MIN_SIZE:
            raise UnsupportedSizeError(
                f"{cls.__name__} takes multiples of {SIZE_MULTIPLE} from {MIN_SIZE} pixels, not {size}"
            )
        if config.local_side(size) > size:
            raise UnsupportedSizeError(
                f"local_size {config.local_side(size)} does not fit into images of {size} pixels"
            )

    def phases(self, budget: Budget) -> list[Phase]:
        """Return completion, discriminator, joint: 18, 2 and 80 % (GLCIC: 90,000, 10,000 and 400,000 steps)."""
        config, optimizer = self.config, budget.optimizer(self.faithful_optimizer())
        alone = {"completion": config.completion_fraction, "discriminator": config.discriminator_fraction}
        steps = budget.split({**alone, "joint": 1.0 - sum(alone.values())})
        # The discriminator moves first in a joint step, so that the generator answers the updated one.
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
        """Run the generator on the image with its hole filled, and the mask."""
        raw = self.networks["generator"](batch.image, batch.mask)
        return Completion(raw, composite(batch.image, raw, batch.mask))

    def loss(self, network: str, batch: Batch, completion: Completion, phase: Phase) -> dict[str, Tensor]:
        """Return the squared error, in the joint phase plus alpha times the adversarial term (GLCIC eq. 2, 4)."""
        if network == "discriminator":
            return self._discriminator_loss(batch, completion)
        valid_weight = self.config.valid_weight
        # The mask itself where it suffices: the default stays bit for bit what it was without the option.
        weight = batch.mask if valid_weight == 0 else batch.mask + valid_weight * (1 - batch.mask)
        error = _SQUARED_ERRORS[self.config.mse_reduction](completion.raw, batch.image, weight)
        # The completion phase trains the generator by squared error alone (algorithm 1, t < Tc).
        if "discriminator" not in phase.networks:
            return {"loss": error, "mse": error}
        # Positions come from the masks alone: no gradient passes through where a
        # crop is taken, only through its pixels.
        corners = hole_corners(batch.mask, self.local_size)
        # Fakes alone: their batch-norm statistics are those of the fakes in the discriminator's own update.
        fake = self._discriminate(self._fake(completion), batch.mask, corners, advance=batch.is_first_piece)
        adversarial = generator_loss(fake, self.config.adversarial_loss)
        return {
            "loss": error + self.config.adversarial_weight * adversarial,
            "mse": error,
            "adversarial": adversarial,
        }

    def _discriminator_loss(self, batch: Batch, completion: Completion) -> dict[str, Tensor]:
        """Judge real and fake images in one forward (GLCIC eq. 3)."""
        corners = hole_corners(batch.mask, self.local_size)
        real_corners = corners
        if self.config.real_crop == "random":
            real_corners = batch.draw(
                lambda count, generator: random_corners(
                    count, batch.size, self.local_size, generator, batch.image.device
                )
            )
        # One forward for both kinds: the discriminator's weights, most of the model, are read once.
        logits = self._discriminate(
            torch.cat([batch.image, self._fake(completion)]),
            torch.cat([batch.mask, batch.mask]),
            torch.cat([real_corners, corners]),
            populations=2,
            advance=batch.is_first_piece,
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

    def _discriminate(
        self, image: Tensor, mask: Tensor, corners: Tensor, *, populations: int = 1, advance: bool
    ) -> Tensor:
        """Compute the logits of images and of their crops at ``corners``."""
        if self.config.discriminator_input == "image+mask":
            # Before the crop is taken, so that it shows the same part of the mask.
            image = torch.cat([image, mask], dim=1)
        local = crop_at(image, corners, self.local_size)
        logits: Tensor = self.networks["discriminator"](image, local, populations, advance)
        return logits

    def discriminator_tables(self) -> dict[str, list[Layer]]:
        """Return the discriminators' part of :meth:`layer_table`."""
        discriminator = self.networks["discriminator"]
        assert isinstance(discriminator, DualDiscriminator)
        return discriminator.layer_tables()


def masked_input(image: Tensor, mask: Tensor, fill: Tensor) -> Tensor:
    """Return ``(N, 4, H, W)``: the image with ``fill`` (``(1, 3, 1, 1)``) in the hole, and the mask."""
    # Selected, not multiplied, so that nothing under the hole passes, not even NaN.
    return torch.cat([torch.where(mask > 0.5, fill, image), mask], dim=1)


def fill_pixel(config: ThreePhaseConfig, task: Task) -> Tensor:
    """Return the value of the hole in the generator's input, ``(1, 3, 1, 1)``."""
    pixel = task.mean_pixel if config.fill == "mean-pixel" else (0.0, 0.0, 0.0)
    return torch.tensor(pixel, dtype=torch.float32).view(1, 3, 1, 1)
