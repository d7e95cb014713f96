"""Blocks of convolution, batch-norm and activation in a stated order, and the rows of published tables of layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from models.base import Layer
from models.layers.gated_conv import GatedConv2d, same_conv

Order = Literal["norm-act", "act-norm", "act-gate"]
#: Slope of the leaky ReLU below zero, as DCGAN, DeepFillv2's code and pix2pixHD have it.
LEAKY_SLOPE = 0.2


@dataclass(frozen=True)
class Activation:
    """A leaky ReLU; with slope 0, ReLU.

    >>> import torch
    >>> Activation(0.2)(torch.tensor([-1.0, 2.0])).tolist()
    [-0.20000000298023224, 2.0]
    """

    slope: float = 0.0

    def __call__(self, x: Tensor) -> Tensor:
        """Return the activation of ``x`` in a new tensor."""
        return F.leaky_relu(x, self.slope) if self.slope else F.relu(x)

    def in_place(self, x: Tensor) -> Tensor:
        """Overwrite ``x`` with its activation, where no other gradient needs ``x``."""
        return F.leaky_relu_(x, self.slope) if self.slope else F.relu_(x)


RELU = Activation()
LEAKY_RELU = Activation(LEAKY_SLOPE)


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One row of a published table of layers, at width 1."""

    kind: Literal["conv", "gated", "dilated", "deconv", "output"]
    kernel: int
    stride: int
    inputs: int
    outputs: int


def scale_channels(channels: int, width: float) -> int:
    """Return the channels of a network ``width`` times as wide, at least 4.

    >>> scale_channels(64, 1.0), scale_channels(64, 0.125), scale_channels(8, 0.125)
    (64, 8, 4)
    """
    return channels if width == 1 else max(4, round(channels * width))


class ConvBlock(nn.Module):
    """A convolution (plain, dilated or transposed; gated or not) with batch-norm and activation.

    Orders: ``norm-act`` is conv, (gate,) batch-norm, activation; ``act-norm`` is conv, (gate,) activation,
    batch-norm; ``act-gate`` is DeepFillv2's ``activation(features) * sigmoid(gates)`` without norm, and for a
    convolution without gates the same as ``norm-act``.

    Args:
        in_channels: channels in, at the width that is built.
        out_channels: channels out, after gating.
        row: kernel, stride and kind as published; a ``deconv`` is transposed.
        dilation: spacing of the taps.
        gated: multiply by ``sigmoid`` of gates of its own.
        activation: of the features.
        order: of activation, gate and batch-norm, as above.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        row: LayerRow,
        *,
        dilation: int = 1,
        gated: bool = False,
        activation: Activation = RELU,
        order: Order = "norm-act",
    ) -> None:
        super().__init__()
        self.activation = activation
        # DeepFillv2's order says nothing of plain convolutions: they keep their batch-norm.
        self.order: Order = "norm-act" if order == "act-gate" and not gated else order
        transposed = row.kind == "deconv"
        self.conv: nn.Module
        if gated:
            self.conv = GatedConv2d(
                in_channels,
                out_channels,
                row.kernel,
                stride=row.stride,
                dilation=dilation,
                transposed=transposed,
                activation=activation if self.order == "act-gate" else None,
            )
        else:
            self.conv = same_conv(
                in_channels,
                out_channels,
                row.kernel,
                stride=row.stride,
                dilation=dilation,
                transposed=transposed,
            )
        self.norm = nn.BatchNorm2d(out_channels) if self.order != "act-gate" else None

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, in_channels, H, W)`` to ``(N, out_channels, H', W')``."""
        x = self.conv(x)
        if self.norm is None:
            return x
        if self.order == "act-norm":
            # Not in place: the gate's or the convolution's output may be needed by its own gradient.
            normed: Tensor = self.norm(self.activation(x))
            return normed
        # In place: the gradient of batch-norm needs its input, not its output.
        return self.activation.in_place(self.norm(x))


def describe_layers(rows: tuple[LayerRow, ...], width: float, notes: dict[int, str]) -> list[Layer]:
    """Build the rows of ``bench show``; ``notes`` are keyed by row number, from 1."""
    names = {
        "conv": "Conv",
        "gated": "Gateconv",
        "dilated": "Dilatedconv",
        "deconv": "Deconv",
        "output": "Output",
    }
    last = len(rows)
    return [
        Layer(
            name=str(number),
            kind=names[row.kind],
            kernel=f"{row.kernel}x{row.kernel}",
            stride=f"{row.stride}x{row.stride}",
            in_channels=str(row.inputs if number == 1 else scale_channels(row.inputs, width)),
            out_channels=str(row.outputs if number == last else scale_channels(row.outputs, width)),
            note=notes.get(number, ""),
        )
        for number, row in enumerate(rows, start=1)
    ]
