"""The seam between the one trainer and the models, and the conventions both sides keep.

Conventions (said here, held everywhere):

* images are RGB float32 ``(N, 3, H, W)`` in ``[0, 1]``; a model that wants another range converts inside its file;
* masks are float32 ``(N, 1, H, W)`` with **1 = hole, 0 = known**; partial convolution inverts inside its own file;
* ``composite = image * (1 - mask) + output * mask``: known pixels are returned bit for bit.
"""

from __future__ import annotations

import math
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from models.learning_rates import schedule_factor

Track = Literal["uniform", "faithful"]


class Box(NamedTuple):
    """A rectangle in pixels: rows ``top .. top + height - 1``, columns ``left .. left + width - 1``."""

    top: int
    left: int
    height: int
    width: int


def composite(image: Tensor, output: Tensor, mask: Tensor) -> Tensor:
    """``image * (1 - mask) + output * mask`` for binary masks, exact also where ``output`` is not finite.

    Args:
        image: ``(N, 3, H, W)`` in [0, 1].
        output: ``(N, 3, H, W)``, the model's raw output.
        mask: ``(N, 1, H, W)``, 1 = hole.
    """
    return torch.where(mask > 0.5, output, image)


@dataclass(frozen=True, slots=True)
class Batch:
    """What a model sees of one step.

    Attributes:
        image: ``(N, 3, H, W)`` float32 in [0, 1], the truth. Only losses may look under the hole.
        mask: ``(N, 1, H, W)`` float32, 1 = hole.
        ids: ``(N,)`` int64, positions of the images in their split.
        step: the training step, from 0.
        generator: a CPU random generator seeded by (seed, step), for whatever a loss draws (see :meth:`draw`).
        offset: position of the first image in the whole batch of the step, where this is a piece of it.
        global_batch_size: images in the whole batch; ``None`` if this is it.
    """

    image: Tensor
    mask: Tensor
    ids: Tensor
    step: int
    generator: torch.Generator
    offset: int = 0
    global_batch_size: int | None = None

    def __len__(self) -> int:
        """Number of images."""
        return self.image.shape[0]

    @property
    def size(self) -> int:
        """Side of the square images in pixels."""
        return self.image.shape[-1]

    def draw(self, rows: Callable[[int, torch.Generator], Tensor]) -> Tensor:
        """Rows ``(N, ...)`` for these images, drawn for the whole batch: the same on one device, on many, in pieces.

        Args:
            rows: (number of images, generator) -> that many rows.
        """
        whole = len(self) if self.global_batch_size is None else self.global_batch_size
        return rows(whole, self.generator)[self.offset : self.offset + len(self)]

    def split(self, micro_batch: int | None) -> list[Batch]:
        """The batch in order, cut into pieces of at most ``micro_batch`` images (``None``: one piece).

        Every piece has a generator of its own in the state of this one's, which stays as it is.
        """
        side = len(self) if micro_batch is None else min(micro_batch, len(self))
        return [self.piece(i, min(i + side, len(self))) for i in range(0, len(self), side)]

    def piece(self, start: int, stop: int) -> Batch:
        """Images ``start .. stop - 1``, which draw what they would have drawn as part of this batch."""
        generator = torch.Generator()
        generator.set_state(self.generator.get_state())
        return replace(
            self,
            image=self.image[start:stop],
            mask=self.mask[start:stop],
            ids=self.ids[start:stop],
            generator=generator,
            offset=self.offset + start,
            global_batch_size=len(self) if self.global_batch_size is None else self.global_batch_size,
        )


@dataclass(frozen=True, slots=True)
class Completion:
    """One generator forward.

    Attributes:
        raw: ``(N, 3, H, W)`` float32, the network's own picture in the range [0, 1] (not clamped).
        composite: ``(N, 3, H, W)`` float32, :func:`composite` of image, ``raw`` and mask.
        extras: what else the model's own losses need of this forward (a coarse stage, say).
    """

    raw: Tensor
    composite: Tensor
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    def detach(self) -> Completion:
        """The same pictures, cut from the graph: what a discriminator's loss may see."""
        return Completion(
            self.raw.detach(), self.composite.detach(), {k: v.detach() for k, v in self.extras.items()}
        )


@dataclass(frozen=True, kw_only=True)
class OptimizerSpec:
    """An optimizer by name, with a learning rate that is a pure function of the step.

    Attributes:
        name: the algorithm.
        learning_rate: the base rate, which ``schedule`` scales.
        betas: Adam's decay rates of the two moments.
        momentum: SGD's momentum.
        schedule: name of a schedule in :data:`models.learning_rates.SCHEDULES`.
    """

    name: Literal["adam", "adadelta", "sgd"]
    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.0
    schedule: str = "constant"

    def __post_init__(self) -> None:
        schedule_factor(self.schedule, 0, 1)

    def learning_rate_at(self, step: int, num_steps: int) -> float:
        """Return the rate for ``step`` (from 0) of a training of ``num_steps`` steps."""
        return self.learning_rate * schedule_factor(self.schedule, step, num_steps)

    @property
    def kind(self) -> tuple[Any, ...]:
        """What must agree for optimizer state to be carried from one phase into the next: all but the rate."""
        return (self.name, self.betas, self.momentum)


#: What every network of every model is trained with on the uniform track.
UNIFORM_OPTIMIZER = OptimizerSpec(name="adam", learning_rate=4e-4, betas=(0.5, 0.999), schedule="linear")


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of training in which the same networks move in the same order.

    Attributes:
        name: ``completion``, ``discriminator``, ``joint``, ``train``, ``fine-tune`` ...
        num_steps: at least 1.
        optimizers: network -> optimizer, in the order in which the networks move within a step. A network is a
            key of :attr:`InpaintingModel.networks`; ``generator`` moves last, against the updated discriminator.
        frozen_batch_norm: names of submodules of ``networks`` (``"generator.encoder"``) whose batch-norm layers
            use and keep their running statistics during this phase.
    """

    name: str
    num_steps: int
    optimizers: Mapping[str, OptimizerSpec]
    frozen_batch_norm: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise ValueError(f"phase {self.name!r} needs at least one step, not {self.num_steps}")
        if not self.optimizers:
            raise ValueError(f"phase {self.name!r} trains nobody")

    @property
    def networks(self) -> tuple[str, ...]:
        """Who is trained, in order of moving."""
        return tuple(self.optimizers)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much training a model may have, and by whose rules.

    Attributes:
        num_steps: steps in all, counted from the images-seen budget and the batch size.
        track: ``uniform`` gives every network ``uniform_optimizer``; ``faithful`` what its paper says.
        uniform_optimizer: used for every network on the uniform track.
        steps_per_phase: if given, every phase has exactly this many steps and ``num_steps`` is ignored.
    """

    num_steps: int
    track: Track = "uniform"
    uniform_optimizer: OptimizerSpec = UNIFORM_OPTIMIZER
    steps_per_phase: int | None = None

    def optimizer(self, published: OptimizerSpec) -> OptimizerSpec:
        """The optimizer of a network whose paper says ``published``."""
        return published if self.track == "faithful" else self.uniform_optimizer

    def split(self, fractions: Mapping[str, float]) -> dict[str, int]:
        """Steps per phase for the given fractions (they sum to 1); each at least 1, together ``num_steps``.

        The longest phase takes up the rounding. With fewer steps than phases every phase has one step.
        """
        if not math.isclose(sum(fractions.values()), 1.0):
            raise ValueError(f"phase fractions must sum to 1, not {sum(fractions.values())}")
        if self.steps_per_phase is not None:
            return dict.fromkeys(fractions, self.steps_per_phase)
        steps = {name: max(1, round(self.num_steps * part)) for name, part in fractions.items()}
        longest = max(fractions, key=lambda name: fractions[name])
        steps[longest] = max(1, steps[longest] + self.num_steps - sum(steps.values()))
        return steps


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is to be learnt, as far as a model's construction may depend on it. Models know no mask names.

    Attributes:
        size: side of the square images in pixels.
        fixed_hole_box: the hole if it is the same box in every training mask (the centre hole), else ``None``.
        mean_pixel: RGB mean of the training split in [0, 1].
        mean_image: ``(3, size, size)`` float32 mean picture of the training split, or ``None`` where unknown.
    """

    size: int
    fixed_hole_box: Box | None = None
    mean_pixel: tuple[float, float, float] = (0.5, 0.5, 0.5)
    mean_image: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A row of ``bench show``: one layer as the paper's table names it."""

    name: str
    kind: str
    kernel: str
    stride: str
    in_channels: str
    out_channels: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Ambiguity:
    """One doubt about a paper and how it is resolved (``bench show``, the report's list of deviations).

    ``field`` names the config field that changes it, empty where there is none. ``deviation`` marks what departs
    from the publication rather than fills a gap in it.
    """

    topic: str
    published: str
    resolved: str
    field: str = ""
    deviation: bool = False


class InpaintingModel(ABC):
    """Base of every registered model: networks, phases, one forward, and a loss for each network.

    A subclass is constructed as ``Model(config, task)`` with an instance of its own ``Config`` (a frozen,
    keyword-only dataclass that validates itself), fills :attr:`networks`, and is registered by
    :func:`models.registry.register`. Weights are initialised from torch's global generator, which the caller seeds.
    """

    Config: ClassVar[type]
    #: Preset name -> config fields it changes (``{"smoke": {"width": 0.125}}``).
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    #: Batch size of the faithful track.
    published_batch_size: ClassVar[int] = 16
    #: False for fills that have nothing to train: no networks, no phases, only evaluated.
    trained: ClassVar[bool] = True
    #: What the paper leaves open, and how it is resolved here.
    ambiguities: ClassVar[tuple[Ambiguity, ...]] = ()

    def __init__(self, config: Any, task: Task) -> None:
        self.config = config
        self.task = task
        #: ``generator``, and ``discriminator`` if any: trained, wrapped and checkpointed. Empty for untrained fills.
        self.networks = nn.ModuleDict()
        #: Loss networks: neither trained, wrapped nor checkpointed.
        self.frozen = nn.ModuleDict()

    @classmethod
    def validate(cls, config: Any, size: int) -> None:
        """Raise :class:`models.errors.UnsupportedSizeError` if images of ``size`` pixels cannot be taken.

        Cheap, and asked for every cell before the first one starts.
        """

    @classmethod
    def requirements(cls, config: Any) -> None:
        """Raise :class:`models.errors.MissingWeightsError` if pretrained weights that are required cannot be had."""

    @classmethod
    def completion_config(cls, config: Any) -> Any:
        """``config`` without what only training needs (loss networks and their weights): enough to complete."""
        return config

    @classmethod
    def label_suffix(cls, config: Any, task: Task) -> str:
        """What every table must add to the model's label (``"(no perceptual/style)"``), or ``""``."""
        return ""

    @classmethod
    def not_applicable(cls, config: Any, task: Task, hole_box: Box | None) -> str | None:
        """Why a model built for ``task`` cannot complete masks whose fixed box is ``hole_box``; ``None`` if it can."""
        return None

    @abstractmethod
    def phases(self, budget: Budget) -> list[Phase]:
        """The phases in order; empty for an untrained fill."""

    @abstractmethod
    def complete(self, batch: Batch) -> Completion:
        """One generator forward. Must not depend on the pixels of ``batch.image`` under the hole."""

    @abstractmethod
    def loss(self, network: str, batch: Batch, completion: Completion, phase: Phase) -> dict[str, Tensor]:
        """Named terms for ``network``, among them ``"loss"``, the scalar to minimise; the others are only logged.

        A mean over the batch, so that gradients of equal micro-batches average to that of the whole.
        """

    def layer_table(self) -> Mapping[str, list[Layer]]:
        """Network -> its layers in the manner of the paper's tables, for ``bench show``."""
        return {}


# Checking the fields of a config that take one of a few words.


def check_choices(config: Any) -> None:
    """Raise ``ValueError`` for a field annotated ``Literal[...]`` whose value is none of its words."""
    for name, hint in typing.get_type_hints(type(config)).items():
        words = typing.get_args(hint)
        if typing.get_origin(hint) is Literal and getattr(config, name) not in words:
            raise ValueError(
                f"{name} must be one of {', '.join(map(repr, words))}, not {getattr(config, name)!r}"
            )
