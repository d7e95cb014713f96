"""Define what the one trainer and the models expect of each other, and the conventions that both keep.

Conventions, stated here and kept everywhere:

* images are RGB float32 ``(N, 3, H, W)`` in ``[0, 1]``; a model that wants another range converts inside its file;
* masks are float32 ``(N, 1, H, W)`` with **1 = hole, 0 = known**; partial convolution inverts inside its own file;
* ``composite = image * (1 - mask) + output * mask``: known pixels are returned bit for bit.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.learning_rate_schedules import UNIFORM_LEARNING_RATE, UNIFORM_SCHEDULE, schedule_factor

Track = Literal["uniform", "faithful"]


class Box(NamedTuple):
    """A rectangle in pixels: rows ``top .. top + height - 1``, columns ``left .. left + width - 1``."""

    top: int
    left: int
    height: int
    width: int


def composite(image: Tensor, output: Tensor, mask: Tensor) -> Tensor:
    """Return ``image * (1 - mask) + output * mask`` for binary masks, exact even where ``output`` is not finite.

    Examples:
        >>> image, output = torch.tensor([[[[0.2, 0.2]]]]), torch.tensor([[[[0.9, float("nan")]]]])
        >>> composite(image, output, torch.tensor([[[[1.0, 0.0]]]])).tolist()
        [[[[0.8999999761581421, 0.20000000298023224]]]]

    Args:
        image: ``(N, 3, H, W)`` in [0, 1].
        output: ``(N, 3, H, W)``, the model's raw output.
        mask: ``(N, 1, H, W)``, 1 = hole.
    """
    # A product would turn 0 * inf of an untrained network into NaN in known pixels.
    return torch.where(mask > 0.5, output, image)


class ChannelConstant(nn.Module):
    """One number per channel as a buffer ``value`` of shape ``(1, C, 1, 1)``, for :attr:`InpaintingModel.frozen`.

    A constant that is made anew in every step would be copied to a GPU from pageable memory, which may wait for the
    device and cannot be captured in a CUDA graph.

    Examples:
        >>> ChannelConstant((0.5, 0.25, 0.0))().shape
        torch.Size([1, 3, 1, 1])
    """

    value: Tensor

    def __init__(self, values: Sequence[float]) -> None:
        super().__init__()
        # Not persistent: the value is the config's, and a saved copy could only disagree with it.
        self.register_buffer("value", torch.tensor(values).view(1, -1, 1, 1), persistent=False)

    def forward(self) -> Tensor:
        """Return the constant."""
        return self.value


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy what was drawn on the host to the device, through pinned memory to a GPU, so that the host does not wait.

    Examples:
        >>> send(torch.arange(2), torch.device("cpu"))
        tensor([0, 1])
    """
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


@dataclass(frozen=True, slots=True)
class Batch:
    """The images and masks of one training step, or a piece of them.

    Attributes:
        image: ``(N, 3, H, W)`` float32 in [0, 1], the ground truth. Only losses may look under the hole.
        mask: ``(N, 1, H, W)`` float32, 1 = hole.
        ids: ``(N,)`` int64, positions of the images in their split.
        step: the training step, from 0.
        generator: a CPU random generator seeded by (seed, step), for whatever a loss draws (see :meth:`draw`).
        offset: position of the first image in the global batch of the step, where this is a piece of it.
        global_batch_size: images in the global batch; ``None`` if this is it.
        is_first_piece: false for every micro-batch of a step but the first. State that moves once a step, such as the
            power iteration of spectral normalization, moves with the first piece.
        image_ids: names of the images, for what a stochastic model draws; empty in training.
    """

    image: Tensor
    mask: Tensor
    ids: Tensor
    step: int
    generator: torch.Generator
    offset: int = 0
    global_batch_size: int | None = None
    is_first_piece: bool = True
    image_ids: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of images."""
        return self.image.shape[0]

    @property
    def size(self) -> int:
        """Side of the square images in pixels."""
        return self.image.shape[-1]

    def draw(self, rows: Callable[[int, torch.Generator], Tensor]) -> Tensor:
        """Draw ``(N, ...)`` for these images, the same on one device, on many, and in micro-batches.

        Rows are drawn for the global batch, of which this batch takes its own.

        Args:
            rows: called with a number of images and a generator; returns that many rows.
        """
        # Every piece draws all rows from a generator in the same state, so that the split does not change any row.
        count = len(self) if self.global_batch_size is None else self.global_batch_size
        return rows(count, self.generator)[self.offset : self.offset + len(self)]

    def split(self, micro_batch: int | None) -> list[Batch]:
        """Split into consecutive pieces of at most ``micro_batch`` images (``None``: one piece).

        Every piece gets a copy of this batch's generator, which itself is not advanced.
        """
        length = len(self) if micro_batch is None else min(micro_batch, len(self))
        return [self.piece(i, min(i + length, len(self))) for i in range(0, len(self), length)]

    def piece(self, start: int, stop: int) -> Batch:
        """Return images ``start .. stop - 1``, which draw what they would have drawn as part of this batch."""
        # A copy of the state: drawing for one piece must not move the numbers of the next.
        generator = torch.Generator()
        generator.set_state(self.generator.get_state())
        return replace(
            self,
            image=self.image[start:stop],
            mask=self.mask[start:stop],
            ids=self.ids[start:stop],
            generator=generator,
            offset=self.offset + start,
            # A piece of a piece still belongs to the batch of the whole step.
            global_batch_size=len(self) if self.global_batch_size is None else self.global_batch_size,
            is_first_piece=self.is_first_piece and start == 0,
            image_ids=self.image_ids[start:stop],
        )

    def names(self) -> tuple[str, ...]:
        """Return the names of the images, or their positions in the split where they have none."""
        return self.image_ids or tuple(map(str, self.ids.tolist()))


@dataclass(frozen=True, slots=True)
class Completion:
    """The result of one generator forward.

    Attributes:
        raw: ``(N, 3, H, W)`` float32, the network's output in the range [0, 1] (not clamped).
        composite: ``(N, 3, H, W)`` float32, :func:`composite` of image, ``raw`` and mask.
        extras: further tensors that the model's own losses need (the output of a coarse stage, for example).
    """

    raw: Tensor
    composite: Tensor
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    def detach(self) -> Completion:
        """Return the same tensors without their graph, as a discriminator's loss may see them."""
        return Completion(
            self.raw.detach(), self.composite.detach(), {k: v.detach() for k, v in self.extras.items()}
        )


@dataclass(frozen=True, kw_only=True)
class OptimizerSpec:
    """An optimizer by name, with a learning rate that is a pure function of the step.

    Examples:
        >>> OptimizerSpec(name="adam", learning_rate=4e-4, schedule="linear").learning_rate_at(75, num_steps=100)
        0.0001

    Attributes:
        name: the algorithm.
        learning_rate: the base rate, which ``schedule`` scales.
        betas: Adam's decay rates of the two moments.
        momentum: SGD's momentum.
        schedule: name of a schedule in :data:`models.learning_rate_schedules.SCHEDULES`.
    """

    name: Literal["adam", "adadelta", "sgd"]
    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.0
    schedule: str = "constant"

    def __post_init__(self) -> None:
        # Looks the name up, so that a typo fails here and not at the first step.
        schedule_factor(self.schedule, 0, 1)

    def learning_rate_at(self, step: int, num_steps: int) -> float:
        """Return the learning rate of ``step`` (from 0) in a training of ``num_steps`` steps."""
        return self.learning_rate * schedule_factor(self.schedule, step, num_steps)

    def describe(self) -> str:
        """Return the optimizer in one line, with every constant it uses.

        Examples:
            >>> OptimizerSpec(name="sgd", learning_rate=1e-3, momentum=0.9).describe()
            'sgd, rate 0.001, momentum 0.9, constant'
            >>> OptimizerSpec(name="adam", learning_rate=2e-4, betas=(0.5, 0.999)).describe()
            'adam, rate 0.0002, betas 0.5 and 0.999, constant'
        """
        constants = {
            "adam": f", betas {self.betas[0]:g} and {self.betas[1]:g}",
            "sgd": f", momentum {self.momentum:g}",
        }
        return f"{self.name}, rate {self.learning_rate:g}{constants.get(self.name, '')}, {self.schedule}"

    @property
    def kind(self) -> tuple[Any, ...]:
        """Everything but the learning rate: optimizer state is kept between phases where this is equal."""
        return (self.name, self.betas, self.momentum)


#: What every network of every model is trained with on the uniform track.
UNIFORM_OPTIMIZER = OptimizerSpec(
    name="adam", learning_rate=UNIFORM_LEARNING_RATE, betas=(0.5, 0.999), schedule=UNIFORM_SCHEDULE
)


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A stretch of training in which the same networks are updated in the same order.

    Attributes:
        name: ``completion``, ``discriminator``, ``joint``, ``train``, ``fine-tune`` ...
        num_steps: at least 1.
        optimizers: network -> optimizer, in the order in which a step updates the networks. A network is a key of
            :attr:`InpaintingModel.networks`; ``generator`` comes last, against the updated discriminator.
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
        # A phase without networks would only move the clock, and hide a typo in a name.
        if not self.optimizers:
            raise ValueError(f"phase {self.name!r} trains no network")

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of the trained networks, in order of their updates."""
        return tuple(self.optimizers)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The length of a training, and which optimizers it uses.

    Attributes:
        num_steps: steps of all phases together: the images-seen budget divided by the batch size.
        track: ``uniform`` gives every network ``uniform_optimizer``; ``faithful`` the optimizer of its paper.
        uniform_optimizer: used for every network on the uniform track.
        steps_per_phase: if given, every phase has exactly this many steps and ``num_steps`` is ignored.
    """

    num_steps: int
    track: Track = "uniform"
    uniform_optimizer: OptimizerSpec = UNIFORM_OPTIMIZER
    steps_per_phase: int | None = None

    def optimizer(self, published: OptimizerSpec) -> OptimizerSpec:
        """Return ``published`` on the faithful track, the uniform optimizer otherwise."""
        return published if self.track == "faithful" else self.uniform_optimizer

    def split(self, fractions: Mapping[str, float]) -> dict[str, int]:
        """Divide ``num_steps`` among phases by fractions that sum to 1; every phase gets at least one step.

        The longest phase absorbs the rounding. With fewer steps than phases every phase has one step.

        Examples:
            >>> Budget(num_steps=100).split({"completion": 0.18, "discriminator": 0.02, "joint": 0.8})
            {'completion': 18, 'discriminator': 2, 'joint': 80}
        """
        # Fractions come out of subtractions such as 1 - 0.18 - 0.02, which do not sum to 1 exactly.
        if not math.isclose(sum(fractions.values()), 1.0):
            raise ValueError(f"phase fractions must sum to 1, not {sum(fractions.values())}")
        if self.steps_per_phase is not None:
            return dict.fromkeys(fractions, self.steps_per_phase)
        # At least one step each, so that a smoke run passes through every phase.
        steps = {name: max(1, round(self.num_steps * part)) for name, part in fractions.items()}
        longest = max(fractions, key=lambda name: fractions[name])
        # With fewer steps than phases the remainder is negative, hence the lower bound.
        steps[longest] = max(1, steps[longest] + self.num_steps - sum(steps.values()))
        return steps


@dataclass(frozen=True, kw_only=True)
class Task:
    """Everything about data and masks on which a model's construction may depend. Models know no mask names.

    Attributes:
        size: side of the square images in pixels.
        fixed_hole_box: the hole if it is the same box in every mask (the center hole), else ``None``: in the masks of
            the training, or, for a baseline without training, in those it is evaluated on.
        mean_pixel: RGB mean of the training split in [0, 1].
        mean_image: ``(3, size, size)`` float32 mean image of the training split, or ``None`` where unknown.
        seed: of the training; for models that draw random numbers beside their weights: samples, external programs.
    """

    size: int
    fixed_hole_box: Box | None = None
    mean_pixel: tuple[float, float, float] = (0.5, 0.5, 0.5)
    mean_image: Tensor | None = None
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class FitData:
    """The images from which a training-free baseline is computed (:meth:`InpaintingModel.fit`).

    Attributes:
        images: ``(N, S, S, 3)`` uint8, the training images; may be memory-mapped, so slice before computing.
        validation: ``(V, S, S, 3)`` uint8, the images on which settings may be chosen.
        validation_masks: ``(V, S, S)`` uint8, 1 = hole: masks of the kind that is evaluated.
        device: where to compute.
    """

    images: NDArray[np.uint8]
    validation: NDArray[np.uint8]
    validation_masks: NDArray[np.uint8]
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


@dataclass(frozen=True, kw_only=True)
class FitCost:
    """What :meth:`InpaintingModel.fit` and the completions after it will take.

    Attributes:
        flops: floating-point operations of the fit.
        flops_per_image: of completing one image.
        memory_bytes: largest memory in use at a time.
        note: one line for the user, such as the number of images and the kind of solve.
    """

    flops: float
    flops_per_image: float
    memory_bytes: float
    note: str


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
    """One open question of a publication and how it is resolved here.

    Shown by ``bench show`` and in the report's list of deviations.

    Attributes:
        topic: what is open.
        published: what the paper, or its authors' code, says.
        resolved: what is done here.
        field: the config fields that change it, comma-separated; empty where there is none.
        deviation: whether this departs from the publication rather than fills a gap in it.
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
    :func:`models.registry.register`. Weights are initialized from torch's global generator, which the caller seeds.

    A training-free baseline sets ``trained = False``, has no networks and no phases, and may compute what it needs
    from the training images in :meth:`fit`.
    """

    Config: ClassVar[type]
    #: Preset name -> config fields it changes (``{"smoke": {"width": 0.125}}``).
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    #: Batch size of the faithful track.
    published_batch_size: ClassVar[int] = 16
    #: False for training-free baselines: no networks, no phases, only fitted and evaluated.
    trained: ClassVar[bool] = True
    #: True where completions are samples, of which :meth:`sample` draws as many as are asked for.
    stochastic: ClassVar[bool] = False
    #: True where :meth:`fit` must be called before the first completion.
    needs_fit: ClassVar[bool] = False
    #: What the paper leaves open, and how it is resolved here.
    ambiguities: ClassVar[tuple[Ambiguity, ...]] = ()

    def __init__(self, config: Any, task: Task) -> None:
        self.config = config
        self.task = task
        #: ``generator``, and ``discriminator`` if any: trained, wrapped and checkpointed. Empty without training.
        self.networks = nn.ModuleDict()
        #: Constants and loss networks: neither trained, wrapped nor checkpointed.
        self.frozen = nn.ModuleDict()

    @classmethod
    def is_seeded(cls, config: Any) -> bool:
        """Return whether seeds give different completions, so that each is a cell of its own."""
        return cls.trained

    @classmethod
    def draws_samples(cls, config: Any) -> bool:
        """Return whether a model of this config is stochastic, so that several samples of an image differ."""
        return cls.stochastic

    def records(self) -> list[dict[str, Any]]:
        """Return what is to be kept beside a cell's results, one JSON object an entry; mostly nothing."""
        return []

    @classmethod
    def validate(cls, config: Any, size: int) -> None:
        """Raise :class:`models.errors.UnsupportedSizeError` if the model cannot take images of ``size`` pixels.

        Must be cheap: it is called for every cell before the first one starts.
        """

    @classmethod
    def requirements(cls, config: Any) -> None:
        """Raise :class:`models.errors.MissingWeightsError` if pretrained weights that are required cannot be had."""

    @classmethod
    def completion_config(cls, config: Any) -> Any:
        """Return ``config`` without what only training needs (loss networks and their weights)."""
        return config

    @classmethod
    def resolved_config(cls, config: Any, task: Task) -> dict[str, Any]:
        """Return the fields of ``config`` with the values they take for ``task``, for ``bench show``.

        A model whose field may be ``None`` ("derived from the size") returns the derived value in its place.
        """
        return dataclasses.asdict(config)

    @classmethod
    def label_suffix(cls, config: Any, task: Task) -> str:
        """Return what every table must add to the model's label (``"(no perceptual/style)"``), or ``""``."""
        return ""

    @classmethod
    def not_applicable(cls, config: Any, task: Task, hole_box: Box | None) -> str | None:
        """Return why a model built for ``task`` cannot complete masks with the fixed box ``hole_box``, or ``None``."""
        return None

    def fit(self, data: FitData, chosen: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Compute a training-free baseline from images; called once, before the first completion.

        Args:
            data: training and validation images.
            chosen: what an earlier call for the same key returned; nothing is then chosen again.

        Returns:
            What was chosen on the validation images, as plain JSON values, for the record.
        """
        return {}

    @classmethod
    def fit_cost(cls, config: Any, task: Task, num_images: int) -> FitCost | None:
        """Estimate :meth:`fit` on ``num_images`` training images; ``None`` where there is nothing to fit."""
        return None

    @abstractmethod
    def phases(self, budget: Budget) -> list[Phase]:
        """Return the phases in order; none for a training-free baseline."""

    @abstractmethod
    def complete(self, batch: Batch) -> Completion:
        """Run one generator forward. The result must not depend on the pixels of ``batch.image`` under the hole."""

    def sample(self, batch: Batch, sample: int) -> Completion:
        """Draw completion number ``sample`` of each image; :meth:`complete` in evaluation mode draws number 0.

        A stochastic model draws its noise from the task's seed, ``sample`` and :meth:`Batch.names` alone, so that its
        result depends on no batch. A deterministic model has one completion, whatever ``sample``.
        """
        return self.complete(batch)

    @abstractmethod
    def loss(self, network: str, batch: Batch, completion: Completion, phase: Phase) -> dict[str, Tensor]:
        """Return named terms for ``network``, among them ``"loss"``, the scalar to minimize; others are only logged.

        The loss must be a mean over the batch, so that the gradients of equal micro-batches average to those of the
        whole batch.
        """

    def layer_table(self) -> Mapping[str, list[Layer]]:
        """Map each network to its layers as the paper's tables list them, for ``bench show``."""
        return {}
