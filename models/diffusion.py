"""A small denoising diffusion model, conditioned on the known pixels and the mask: one of many plausible completions.

Not a reproduction of one paper, but the common form of conditional diffusion at a size that a CPU trains at 64 px:
conditioning as in Palette (Saharia et al., SIGGRAPH 2022, https://arxiv.org/abs/2111.05826), v-prediction (Salimans and
Ho, ICLR 2022, https://arxiv.org/abs/2202.00512, appendix D), the cosine schedule (Nichol and Dhariwal, ICML 2021,
https://arxiv.org/abs/2102.09672, in continuous time) and deterministic sampling (DDIM: Song et al., ICLR 2021,
https://arxiv.org/abs/2010.02502, eq. 12 with eta = 0).

With ``a = cos(pi t / 2)``, ``s = sin(pi t / 2)``, an image ``x`` in [-1, 1] and noise ``e``, the hole of the network's
input is ``x_t = a x + s e``, the network predicts ``v = a e - s x``, and ``x = a x_t - s v``.

A completion is a function of the image, the mask and the noise of its first step, which is drawn from (seed of the
training, sample, image id) alone: never from the position in a batch or the size of the batch.

| what | choices | here | field |
|---|---|---|---|
| network | U-Net at full resolution | U-Net behind a pixel unshuffle by 2: a quarter of the positions | ``width`` |
| loss | on the whole image or the hole | mean squared error of v in the hole (known pixels are given) | |
| sampling steps | 1,000 in Palette | 25 | ``sampling_steps`` |
| average of the weights | exponential, in most papers | none: the learning rate decays to zero instead | |
| optimizer | Adam 1e-4 in Palette | Adam 2e-4 on the faithful track | |

What a short training gives on CelebA at 64 px: ``docs/measurements/diffusion-64.md``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
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
    send,
)
from models.config_fields import check_fields
from models.errors import UnsupportedSizeError
from models.losses import mse_over_weights
from models.registry import register

#: Channels of the three levels, as multiples of the width.
LEVELS = (1, 2, 3)
SIZE_MULTIPLE = 8
MIN_SIZE = 32
_GROUPS = 8


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """Options of the diffusion model; see the table at the head of this file.

    Attributes:
        width: channels of the first level, a multiple of 8.
        sampling_steps: network evaluations a completion takes, at most 50.
    """

    width: int = 48
    sampling_steps: int = 25

    def __post_init__(self) -> None:
        check_fields(self)
        if self.width < _GROUPS or self.width % _GROUPS:
            raise ValueError(f"width must be a multiple of {_GROUPS}, not {self.width}")
        if not 1 <= self.sampling_steps <= 50:
            raise ValueError(f"sampling_steps must lie between 1 and 50, not {self.sampling_steps}")


def gaussian_noise(size: int, seed: int, sample: int, image_id: str) -> Tensor:
    """Draw ``(3, size, size)`` float32 normal noise, a pure function of its arguments on every machine.

    From the raw output of NumPy's Philox generator, whose stream is guaranteed, by the Box-Muller transform.

    >>> a, b = gaussian_noise(32, 0, 0, "x.jpg"), gaussian_noise(32, 0, 1, "x.jpg")
    >>> torch.equal(a, gaussian_noise(32, 0, 0, "x.jpg")), torch.equal(a, b)
    (True, False)
    """
    key = hashlib.sha256(f"noise\0{seed}\0{sample}\0{image_id}".encode()).digest()[:16]
    count = 3 * size * size
    # Box-Muller makes numbers in pairs.
    raw = np.random.Philox(key=int.from_bytes(key, "little")).random_raw(count + count % 2)
    # The upper 53 bits as a number in (0, 1]: the logarithm of 0 does not exist.
    uniform = ((raw >> np.uint64(11)).astype(np.float64) + 1.0) / 2.0**53
    radius, angle = np.sqrt(-2 * np.log(uniform[0::2])), 2 * math.pi * uniform[1::2]
    normal = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()[:count]
    return torch.from_numpy(normal.reshape(3, size, size).astype(np.float32))


def signal_and_noise(time: Tensor) -> tuple[Tensor, Tensor]:
    """Return the factors of image and noise at ``time`` in [0, 1]; their squares sum to 1."""
    return torch.cos(time * math.pi / 2), torch.sin(time * math.pi / 2)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with group norm and SiLU, the second norm scaled and shifted by the time."""

    def __init__(self, inputs: int, outputs: int, time_channels: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(_GROUPS, inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(_GROUPS, outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.time = nn.Linear(time_channels, 2 * outputs)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        # The block starts near its skip. Not at zero, or the first convolution would get no gradient in the first step.
        nn.init.normal_(self.conv2.weight, std=1e-3)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Map ``(N, inputs, H, W)`` and ``(N, time_channels)`` to ``(N, outputs, H, W)``."""
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.time(time)[:, :, None, None].chunk(2, dim=1)
        # 1 + scale, so that a time layer that says nothing leaves the norm as it is.
        h = self.conv2(F.silu(self.norm2(h) * (1 + scale) + shift))
        result: Tensor = h + self.skip(x)
        return result


class Attention(nn.Module):
    """Self-attention over all positions of the innermost map, so that both sides of a face agree."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(_GROUPS, channels)
        self.project_in = nn.Conv2d(channels, 3 * channels, 1)
        self.project_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, H, W)`` to the same shape."""
        query, key, value = self.project_in(self.norm(x)).flatten(2).transpose(1, 2).chunk(3, dim=2)
        mixed = F.scaled_dot_product_attention(query, key, value)
        result: Tensor = x + self.project_out(mixed.transpose(1, 2).reshape(x.shape))
        return result


class Denoiser(nn.Module):
    """The U-Net that predicts v: three levels behind a pixel unshuffle, attention at the innermost.

    Args:
        width: channels of the first level.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        channels = [width * multiple for multiple in LEVELS]
        self.width, time_channels = width, 4 * width
        self.embed = nn.Sequential(
            nn.Linear(width, time_channels), nn.SiLU(), nn.Linear(time_channels, time_channels), nn.SiLU()
        )
        # Noisy image, known pixels and mask: 7 channels of 2 x 2 pixels each.
        self.first = nn.Conv2d(28, channels[0], 3, padding=1)
        self.down = nn.ModuleList(ResidualBlock(c, c, time_channels) for c in channels)
        self.shrink = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in pairwise(channels))
        self.middle = ResidualBlock(channels[-1], channels[-1], time_channels)
        self.attention = Attention(channels[-1])
        # Twice the channels: each level takes the skip of its size beside its own input.
        self.up = nn.ModuleList(ResidualBlock(2 * c, c, time_channels) for c in reversed(channels))
        self.grow = nn.ModuleList(
            nn.Conv2d(b, a, 3, padding=1) for a, b in reversed(list(pairwise(channels)))
        )
        self.norm = nn.GroupNorm(_GROUPS, channels[0])
        # v has three channels, each of 2 x 2 pixels.
        self.last = nn.Conv2d(channels[0], 12, 3, padding=1)

    def forward(self, noisy: Tensor, known: Tensor, mask: Tensor, time: Tensor) -> Tensor:
        """Predict v, ``(N, 3, S, S)`` float32, from images in [-1, 1], the mask, and times ``(N,)`` in [0, 1]."""
        embedded = self.embed(_sinusoids(time, self.width))
        x = self.first(F.pixel_unshuffle(torch.cat([noisy, known, mask], dim=1), 2))
        skips = []
        for level, block in enumerate(self.down):
            x = block(x, embedded)
            skips.append(x)
            if level < len(self.shrink):
                x = self.shrink[level](x)
        x = self.attention(self.middle(x, embedded))
        for level, block in enumerate(self.up):
            x = block(torch.cat([x, skips.pop()], dim=1), embedded)
            if level < len(self.grow):
                x = self.grow[level](F.interpolate(x, scale_factor=2.0, mode="nearest"))
        v: Tensor = F.pixel_shuffle(self.last(F.silu(self.norm(x))), 2)
        return v.float()


def _sinusoids(time: Tensor, channels: int) -> Tensor:
    """Embed times ``(N,)`` in [0, 1] as ``(N, channels)`` sines and cosines of geometric frequencies."""
    rates = torch.exp(torch.linspace(0, math.log(1000), channels // 2, device=time.device))
    # From a quarter turn over all of time, which tells early from late, to a thousand of them.
    angles = time[:, None] * rates * math.pi / 2
    return torch.cat([angles.sin(), angles.cos()], dim=1)


@register(
    "diffusion",
    label="Diffusion (conditional)",
    summary="A small denoising diffusion model, conditioned on known pixels and mask; its completions are samples.",
    paper="after Saharia et al., SIGGRAPH 2022, https://arxiv.org/abs/2111.05826",
    groups=("modern",),
)
class Diffusion(InpaintingModel):
    """Conditional denoising diffusion; see the head of this file."""

    Config = DiffusionConfig
    config: DiffusionConfig
    stochastic = True
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"smoke": {"width": 8, "sampling_steps": 2}}
    published_batch_size = 16
    ambiguities = (
        Ambiguity(
            topic="size of the network",
            published="Palette: hundreds of millions of parameters at 256 px",
            resolved="2.6 million behind a pixel unshuffle by 2, so that a CPU trains it at 64 px",
            field="width",
            deviation=True,
        ),
        Ambiguity(
            topic="sampling",
            published="Palette: 1,000 ancestral steps",
            resolved="25 deterministic steps (DDIM); the noise of the first is all that is random",
            field="sampling_steps",
            deviation=True,
        ),
        Ambiguity(
            topic="average of the weights",
            published="exponential moving average",
            resolved="none: the shared trainer has none, and decays the learning rate to zero instead",
            deviation=True,
        ),
    )

    def __init__(self, config: DiffusionConfig, task: Task) -> None:
        super().__init__(config, task)
        self.validate(config, task.size)
        self.networks["generator"] = Denoiser(config.width)

    @classmethod
    def validate(cls, config: DiffusionConfig, size: int) -> None:
        """Require a multiple of 8: the pixel unshuffle and two stride-2 layers."""
        if size % SIZE_MULTIPLE or size < MIN_SIZE:
            raise UnsupportedSizeError(
                f"diffusion takes multiples of {SIZE_MULTIPLE} from {MIN_SIZE} pixels, not {size}"
            )

    def phases(self, budget: Budget) -> list[Phase]:
        """Return one phase with one network."""
        spec = budget.optimizer(OptimizerSpec(name="adam", learning_rate=2e-4))
        return [
            Phase(
                name="train",
                num_steps=budget.split({"train": 1.0})["train"],
                optimizers={"generator": spec},
            )
        ]

    def complete(self, batch: Batch) -> Completion:
        """In training, denoise the hole from a random time; in evaluation, return the first sample."""
        return self._denoise_once(batch) if self.networks["generator"].training else self.sample(batch, 0)

    def _denoise_once(self, batch: Batch) -> Completion:
        """Add noise of a random time to each hole and predict the image from it; extras: v and its target."""
        # One row for each image of the global batch, so that micro-batches draw what the whole batch draws.
        shape = batch.image.shape[1:]
        time = batch.draw(lambda count, generator: torch.rand(count, generator=generator))
        noise = batch.draw(lambda count, generator: torch.randn(count, *shape, generator=generator))
        time, noise = (send(x, batch.image.device) for x in (time, noise))
        image = batch.image * 2 - 1
        signal, spread = (x[:, None, None, None] for x in signal_and_noise(time))
        noisy = signal * image + spread * noise
        v = self._predict(noisy, image, batch.mask, time)
        # x = a x_t - s v, which holds for the exact v because a^2 + s^2 = 1.
        raw = (signal * noisy - spread * v + 1) / 2
        extras = {"v": v, "target": signal * noise - spread * image}
        return Completion(raw, composite(batch.image, raw, batch.mask), extras)

    def sample(self, batch: Batch, sample: int) -> Completion:
        """Draw completion number ``sample`` of each image, one image at a time.

        A batch of one computes the same bytes whatever the caller's batch size; sums in larger batches round in
        another order, which 25 steps would amplify.
        """
        drawn = []
        for part, name in zip(batch.split(1), batch.names(), strict=True):
            noise = gaussian_noise(batch.size, self.task.seed, sample, name)
            drawn.append(self._denoise(part.image * 2 - 1, part.mask, noise.to(part.image.device)[None]))
        raw = (torch.cat(drawn) + 1) / 2
        return Completion(raw, composite(batch.image, raw, batch.mask))

    def _denoise(self, image: Tensor, mask: Tensor, noise: Tensor) -> Tensor:
        """Integrate from noise to an image in [-1, 1] in equal steps of time (DDIM, eq. 12 with eta = 0)."""
        times = torch.linspace(1.0, 0.0, self.config.sampling_steps + 1, device=image.device)
        x, predicted = noise, noise
        for now, after in pairwise(times):
            signal, spread = signal_and_noise(now)
            v = self._predict(x, image, mask, now.expand(len(x)))
            # Clamped as in Palette's code: a prediction beyond the range of images pulls the next steps there.
            predicted = (signal * x - spread * v).clamp(-1, 1)
            # The noise that x implies. Time 0 is only ever an end of a step, so the divisor is not zero.
            direction = (x - signal * predicted) / spread
            signal, spread = signal_and_noise(after)
            x = signal * predicted + spread * direction
        return predicted

    def _predict(self, noisy: Tensor, image: Tensor, mask: Tensor, time: Tensor) -> Tensor:
        """Run the network on the noisy hole and the known pixels, which carry no noise."""
        hole = mask > 0.5
        # Zero is the middle of [-1, 1]; the mask tells it from a gray pixel.
        known = torch.where(hole, 0.0, image)
        v: Tensor = self.networks["generator"](torch.where(hole, noisy, known), known, mask, time)
        return v

    def loss(self, network: str, batch: Batch, completion: Completion, phase: Phase) -> dict[str, Tensor]:
        """Return the mean squared error of v in the hole."""
        # A sample has no v: in evaluation mode the loss takes a forward of its own.
        extras = completion.extras or self._denoise_once(batch).extras
        # Known pixels are given, and an error there would teach the network to copy.
        error = mse_over_weights(extras["v"], extras["target"], batch.mask)
        return {"loss": error}

    def layer_table(self) -> Mapping[str, list[Layer]]:
        """Return the convolutions of the network in order."""
        return {"generator": _layers(self.networks["generator"])}


def _layers(network: nn.Module) -> list[Layer]:
    return [
        Layer(
            name=name,
            kind="conv",
            kernel="x".join(map(str, module.kernel_size)),
            stride="x".join(map(str, module.stride)),
            in_channels=str(module.in_channels),
            out_channels=str(module.out_channels),
        )
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
