"""A global and a local discriminator whose features are joined into one logit.

Iizuka et al., "Globally and Locally Consistent Image Completion" (SIGGRAPH 2017), section 3.3;
MGS-IIM Tables 2 and 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from models.base import Layer
from models.layers.conv_block import LEAKY_RELU, Activation, scale_channels
from models.layers.cpu_kernels import SmallMapConv2d
from models.layers.spectral_norm import SpectralConv2d, SpectralLinear, call_layer

Branches = Literal["both", "global", "local"]
Head = Literal["flatten", "gap"]
SpectralNorm = Literal["convs", "all", "none"]

#: Channels of the 5x5, stride 2 convolutions; a branch of five or six uses the first ones.
CHANNELS = (64, 128, 256, 512, 512, 512)
FEATURES = 1024
KERNEL = 5


@dataclass(frozen=True, kw_only=True)
class LayerOptions:
    """What the layers of both branches are made of.

    Attributes:
        width: multiple of the published channels.
        batch_norm: after every convolution.
        spectral_norm: on the convolutions, on the fully connected layers too, or nowhere.
        activation: of every layer but the last.
        activation_first: batch-norm follows the activation rather than the convolution.
        head: the fully connected layer takes the last map whole (``flatten``) or its mean (``gap``).
    """

    width: float = 1.0
    batch_norm: bool = False
    spectral_norm: SpectralNorm = "none"
    activation: Activation = LEAKY_RELU
    activation_first: bool = False
    head: Head = "flatten"


class Branch(nn.Module):
    """5x5 convolutions of stride 2 down to a vector of features.

    Args:
        in_channels: of the image.
        size: its side in pixels.
        depth: number of convolutions, up to 6.
        options: of the layers.
    """

    def __init__(self, in_channels: int, size: int, depth: int, options: LayerOptions) -> None:
        super().__init__()
        self.options = options
        conv = SmallMapConv2d if options.spectral_norm == "none" else SpectralConv2d
        linear = SpectralLinear if options.spectral_norm == "all" else nn.Linear
        channels = [in_channels, *(scale_channels(c, options.width) for c in CHANNELS[:depth])]
        self.convs = nn.ModuleList(
            conv(before, after, KERNEL, stride=2, padding=KERNEL // 2) for before, after in pairwise(channels)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) for c in channels[1:]) if options.batch_norm else None
        for _ in range(depth):
            # With padding 2, a stride-2 convolution of 5 x 5 rounds the side up.
            size = (size + 1) // 2
        self.fc = linear(
            channels[-1] * (size * size if options.head == "flatten" else 1),
            scale_channels(FEATURES, options.width),
        )

    def forward(self, x: Tensor, populations: int = 1, advance: bool = True) -> Tensor:
        """Map ``(N, in_channels, size, size)`` to ``(N, features)``; see :meth:`DualDiscriminator.forward`."""
        activation = self.options.activation
        for i, conv in enumerate(self.convs):
            x = call_layer(conv, x, advance)
            if self.norms is None:
                # In place: nothing else needs the convolution's output, and these maps are the largest.
                x = activation.in_place(x)
            elif self.options.activation_first:
                x = _normalize(self.norms[i], activation(x), populations)
            else:
                x = activation.in_place(_normalize(self.norms[i], x, populations))
        x = x.flatten(1) if self.options.head == "flatten" else x.mean(dim=(2, 3))
        return activation.in_place(call_layer(self.fc, x, advance))


def _normalize(norm: nn.Module, x: Tensor, populations: int) -> Tensor:
    """Apply batch-norm with the statistics of each of the ``populations`` equal parts of the batch alone."""
    if populations == 1:
        normed: Tensor = norm(x)
        return normed
    # One call a part also updates the running statistics once a part, as separate forwards would.
    return torch.cat([norm(part) for part in x.chunk(populations)])


class DualDiscriminator(nn.Module):
    """One logit for an image and a crop of it.

    Args:
        in_channels: 3, or 4 with the mask.
        size: side of the images in pixels.
        local_size: side of the crops.
        branches: both, or one of them alone (an ablation; the other's features are then absent, not zero).
        global_depth: convolutions of the global branch.
        local_depth: convolutions of the local branch.
        options: of the layers.
    """

    def __init__(
        self,
        in_channels: int,
        size: int,
        local_size: int,
        *,
        branches: Branches = "both",
        global_depth: int = 5,
        local_depth: int = 5,
        options: LayerOptions,
    ) -> None:
        super().__init__()
        has_local, has_global = branches != "global", branches != "local"
        self.local_branch = Branch(in_channels, local_size, local_depth, options) if has_local else None
        self.global_branch = Branch(in_channels, size, global_depth, options) if has_global else None
        features = scale_channels(FEATURES, options.width) * (2 if branches == "both" else 1)
        self.verdict = (SpectralLinear if options.spectral_norm == "all" else nn.Linear)(features, 1)

    def forward(self, image: Tensor, crop: Tensor, populations: int = 1, advance: bool = True) -> Tensor:
        """Compute logits ``(N, 1)``, positive for real.

        Real and completed images pass in one forward, which loads every weight once. Batch-norm, where there is any,
        then takes its statistics from each of the ``populations`` equal parts of the batch alone, exactly as if they
        had come one after another.

        Args:
            image: ``(N, in_channels, size, size)``.
            crop: ``(N, in_channels, local_size, local_size)``.
            populations: number of kinds of images that follow each other in the batch, in equal numbers.
            advance: take the power iteration of spectral normalization; false for all micro-batches of a step but
                the first.
        """
        features = []
        if self.local_branch is not None:
            features.append(self.local_branch(crop, populations, advance))
        if self.global_branch is not None:
            features.append(self.global_branch(image, populations, advance))
        joined = torch.cat(features, dim=1) if len(features) > 1 else features[0]
        return call_layer(self.verdict, joined, advance)

    def layer_tables(self) -> dict[str, list[Layer]]:
        """Return Tables 2 and 3 of MGS-IIM, and the layer that joins the branches, for ``bench show``."""
        named = (("local discriminator", self.local_branch), ("global discriminator", self.global_branch))
        tables = {name: _layers(branch) for name, branch in named if branch is not None}
        join = Layer(
            name="1",
            kind="FC",
            kernel="-",
            stride="-",
            in_channels=str(self.verdict.in_features),
            out_channels="1",
            note="of the concatenated features; logit of a probability",
        )
        return {**tables, "verdict": [join]}


def _layers(branch: Branch) -> list[Layer]:
    spectral = isinstance(branch.convs[0], SpectralConv2d)
    rows = []
    for number, conv in enumerate(branch.convs, start=1):
        assert isinstance(conv, nn.Conv2d)
        rows.append(
            Layer(
                name=str(number),
                kind="Spectralconv" if spectral else "Conv",
                kernel=f"{KERNEL}x{KERNEL}",
                stride="2x2",
                in_channels=str(conv.in_channels),
                out_channels=str(conv.out_channels),
            )
        )
    channels = int(rows[-1].out_channels)
    side = round((branch.fc.in_features // channels) ** 0.5)
    note = (
        f"{side} x {side} map, flattened to {branch.fc.in_features}"
        if branch.options.head == "flatten"
        else "mean over positions"
    )
    rows.append(
        Layer(
            name=str(len(rows) + 1),
            kind="FC",
            kernel="-",
            stride="-",
            in_channels=str(channels),
            out_channels=str(branch.fc.out_features),
            note=note,
        )
    )
    return rows
