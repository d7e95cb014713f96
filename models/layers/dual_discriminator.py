"""A global and a local discriminator whose features are joined into one verdict.

Iizuka et al., "Globally and Locally Consistent Image Completion" (SIGGRAPH 2017), section 3.3;
MGS-IIM Tables 2 and 3.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from models.base import Layer
from models.layers.conv_block import Activation, apply_activation, scale_channels
from models.layers.cpu_kernels import SmallMapConv2d
from models.layers.spectral_norm import SpectralConv2d, SpectralLinear

Branches = Literal["both", "global", "local"]
Head = Literal["flatten", "gap"]
SpectralNorm = Literal["convs", "all", "none"]

#: Channels of the 5x5, stride 2 convolutions; a branch of five or six uses the first ones.
CHANNELS = (64, 128, 256, 512, 512, 512)
FEATURES = 1024
KERNEL = 5


class Branch(nn.Module):
    """5x5 convolutions of stride 2 down to a vector of features.

    Args:
        in_channels: of the picture.
        size: its side in pixels.
        depth: number of convolutions, up to 6.
        width: multiple of the published channels.
        batch_norm: after every convolution.
        spectral_norm: on the convolutions, on the fully connected layer too, or nowhere.
        activation: after every layer, the fully connected one too.
        head: the fully connected layer takes the last map whole (``flatten``) or its mean (``gap``).
    """

    def __init__(
        self,
        in_channels: int,
        size: int,
        depth: int,
        *,
        width: float,
        batch_norm: bool,
        spectral_norm: SpectralNorm,
        activation: Activation,
        head: Head,
    ) -> None:
        super().__init__()
        self.activation: Activation = activation
        self.head: Head = head
        conv = SmallMapConv2d if spectral_norm == "none" else SpectralConv2d
        linear = SpectralLinear if spectral_norm == "all" else nn.Linear
        channels = [in_channels, *(scale_channels(c, width) for c in CHANNELS[:depth])]
        self.convs = nn.ModuleList(
            conv(before, after, KERNEL, stride=2, padding=KERNEL // 2) for before, after in pairwise(channels)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(c) for c in channels[1:]) if batch_norm else None
        for _ in range(depth):
            size = (size + 1) // 2
        self.fc = linear(
            channels[-1] * (size * size if head == "flatten" else 1), scale_channels(FEATURES, width)
        )

    def forward(self, x: Tensor, populations: int = 1) -> Tensor:
        """``(N, in_channels, size, size)`` to ``(N, features)``."""
        for i, conv in enumerate(self.convs):
            x = conv(x)
            if self.norms is not None:
                x = _normalise(self.norms[i], x, populations)
            x = apply_activation(x, self.activation)
        x = x.flatten(1) if self.head == "flatten" else x.mean(dim=(2, 3))
        return apply_activation(self.fc(x), self.activation)


def _normalise(norm: nn.Module, x: Tensor, populations: int) -> Tensor:
    """Batch-norm with the statistics of each of the ``populations`` equal parts of the batch alone."""
    if populations == 1:
        normed: Tensor = norm(x)
        return normed
    return torch.cat([norm(part) for part in x.chunk(populations)])


class DualDiscriminator(nn.Module):
    """Verdict on a picture and on a crop of it, as one logit.

    Args:
        in_channels: 3, or 4 with the mask.
        size: side of the pictures in pixels.
        local_size: side of the crops.
        branches: both, or one of them alone (an ablation; the other's features are then absent, not zero).
        global_depth: convolutions of the global branch.
        local_depth: convolutions of the local branch.
        width: multiple of the published channels.
        batch_norm: after every convolution.
        spectral_norm: on the convolutions, on the fully connected layers too, or nowhere.
        activation: of every layer but the last.
        head: see :class:`Branch`.
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
        width: float = 1.0,
        batch_norm: bool = False,
        spectral_norm: SpectralNorm = "none",
        activation: Activation = "leaky-relu",
        head: Head = "flatten",
    ) -> None:
        super().__init__()

        def branch(side: int, depth: int) -> Branch:
            return Branch(
                in_channels,
                side,
                depth,
                width=width,
                batch_norm=batch_norm,
                spectral_norm=spectral_norm,
                activation=activation,
                head=head,
            )

        self.local_branch = branch(local_size, local_depth) if branches != "global" else None
        self.global_branch = branch(size, global_depth) if branches != "local" else None
        features = scale_channels(FEATURES, width) * (2 if branches == "both" else 1)
        self.verdict = (SpectralLinear if spectral_norm == "all" else nn.Linear)(features, 1)

    def forward(self, picture: Tensor, crop: Tensor, populations: int = 1) -> Tensor:
        """Logits ``(N, 1)``, positive for real.

        Real and completed pictures go through in one forward, which loads every weight once. Batch-norm,
        where there is any, then takes its statistics from each of the ``populations`` equal parts of the
        batch alone, exactly as if they had come one after another.

        Args:
            picture: ``(N, in_channels, size, size)``.
            crop: ``(N, in_channels, local_size, local_size)``.
            populations: how many kinds of pictures follow each other in the batch, in equal numbers.
        """
        features = []
        if self.local_branch is not None:
            features.append(self.local_branch(crop, populations))
        if self.global_branch is not None:
            features.append(self.global_branch(picture, populations))
        logits: Tensor = self.verdict(torch.cat(features, dim=1) if len(features) > 1 else features[0])
        return logits

    def layer_tables(self) -> dict[str, list[Layer]]:
        """Rows for ``bench show``: Tables 2 and 3 of MGS-IIM, and the layer that joins the branches."""
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
        if branch.head == "flatten"
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
