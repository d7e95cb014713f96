"""Parameters, counted by hand from the published tables: the models have them, and ``docs/models.md`` says so."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from models.base import Box, InpaintingModel, Task
from models.discovery import load_model

DOCUMENT = Path(__file__).parents[2] / "docs" / "models.md"


def conv(kernel: int, inputs: int, outputs: int, *, bias: bool = True) -> int:
    return kernel * kernel * inputs * outputs + (outputs if bias else 0)


def norm(*channels: int) -> int:
    """Batch-norm's scales and shifts."""
    return 2 * sum(channels)


def context_encoder(size: int, *, centre: bool) -> tuple[int, int]:
    """``train.lua``, ``train_random.lua``: 4 x 4 kernels without bias, batch-norm on all but the first and last."""
    small = size == 64
    down = [3, 64, 128, 256, 512] if small else [3, 64, 64, 128, 256, 512]
    up = [4000, 512, 256, 128, 64, 3]
    if centre and small:
        up.remove(64)
    if not centre and not small:
        up.insert(-1, 64)
    channels = [*down, *up]
    generator = sum(conv(4, a, b, bias=False) for a, b in pairwise(channels)) + norm(*channels[2:-1])
    critic = [3, 64, 128, 256] if small and centre else [3, 64, 128, 256, 512]
    if not centre and not small:
        critic.insert(1, 64)
    discriminator = sum(conv(4, a, b, bias=False) for a, b in pairwise([*critic, 1])) + norm(*critic[2:])
    return generator, discriminator


def table_1(*, gated: Sequence[int]) -> int:
    """Table 1 of GLCIC and of MGS-IIM; a gated row has twice the filters."""
    inputs = [4, 64, 128, 128, *[256] * 9, 128, 128, 64, 32]
    outputs = [*inputs[1:], 3]
    kernels = [5, *[3] * 11, 4, 3, 4, 3, 3]
    rows = zip(kernels, inputs, outputs, strict=True)
    total = sum(conv(k, a, b) * (2 if n in gated else 1) for n, (k, a, b) in enumerate(rows, start=1))
    return total + norm(*outputs[:-1])


def branch(inputs: int, depth: int, side: int, *, batch_norm: bool) -> int:
    """5 x 5 convolutions of stride 2, whose last map, ``side`` wide, a fully connected layer takes to 1,024."""
    channels = [inputs, 64, 128, 256, 512, 512, 512][: depth + 1]
    convolutions = sum(conv(5, a, b) for a, b in pairwise(channels))
    return convolutions + (norm(*channels[1:]) if batch_norm else 0) + (512 * side * side + 1) * 1024


def glcic_discriminators(size: int) -> int:
    """Local crops of 96 and 40 pixels end 3 and 2 wide, pictures of 160 and 64 pixels 5 and 2."""
    local, whole = {160: (3, 5), 64: (2, 2)}[size]
    return branch(3, 5, local, batch_norm=True) + branch(3, 5, whole, batch_norm=True) + 2049


def mgs_iim_discriminators(size: int) -> int:
    """Table 2's five convolutions end 3 and 2 wide, Table 3's six 3 and 1."""
    local, whole = {160: (3, 3), 64: (2, 1)}[size]
    return branch(4, 5, local, batch_norm=False) + branch(4, 6, whole, batch_norm=False) + 2049


def mgs_iim_global(size: int) -> int:
    """Table 3 alone."""
    return branch(4, 6, {160: 3, 64: 1}[size], batch_norm=False) + 1025


def deepfillv2() -> tuple[int, int]:
    """Count base 24, twice the filters in gated layers, two outputs; six 5 x 5 convolutions on image and mask."""

    def gated(*layers: tuple[int, int, int]) -> int:
        return sum(2 * conv(kernel, a, b) for a, b, kernel in layers)

    same = [(96, 96, 3)] * 2
    up = [(96, 48, 3), (48, 48, 3), (48, 24, 3), (24, 12, 3)]
    coarse = gated((4, 24, 5), (24, 48, 3), (48, 48, 3), (48, 96, 3), *same, *same, *same, *same, *up)
    start = [(3, 24, 5), (24, 24, 3), (24, 48, 3)]
    convolutions = gated(*start, (48, 48, 3), (48, 96, 3), (96, 96, 3), *same, *same)
    attention = gated(*start, (48, 96, 3), *same, *same)
    decoder = gated((192, 96, 3), (96, 96, 3), *up)
    critic = [4, 64, 128, 256, 256, 256, 256]
    generator = coarse + convolutions + attention + decoder + 2 * conv(3, 12, 3)
    return generator, sum(conv(5, a, b) for a, b in pairwise(critic))


def pconv(levels: int) -> int:
    """Kernels 7, 5, 5, 3 ...; bias on the last convolution only, batch-norm on all but the first and last."""
    widths = [3, *(64 * min(2**n, 8) for n in range(levels))]
    kernels = [7, 5, 5, *[3] * (levels - 3)]
    down = sum(conv(k, a, b, bias=False) for k, (a, b) in zip(kernels, pairwise(widths), strict=True))
    up = sum(conv(3, deep + skip, skip, bias=skip == 3) for skip, deep in pairwise(widths))
    return down + up + norm(*widths[2:]) + norm(*widths[1:-1])


def lama_fourier() -> tuple[int, int]:
    """Nine blocks of two fast Fourier convolutions, 128 local and 384 global channels; pix2pixHD's discriminator."""

    def normed(kernel: int, inputs: int, outputs: int, *, bias: bool = False) -> int:
        return conv(kernel, inputs, outputs, bias=bias) + norm(outputs)

    spectral = normed(1, 384, 192) + normed(1, 2 * 192, 2 * 192) + conv(1, 192, 384, bias=False)
    local, whole = 128, 384
    paths = sum(conv(3, a, b, bias=False) for a, b in ((local, local), (local, whole), (whole, local)))
    blocks = 9 * 2 * (paths + spectral + norm(local, whole))
    widths = [64, 128, 256, 512]
    down = normed(7, 4, 64) + sum(normed(3, a, b) for a, b in pairwise(widths))
    up = sum(normed(3, b, a, bias=True) for a, b in pairwise(widths)) + conv(7, 64, 3)
    critic = [64, 128, 256, 512, 512]
    discriminator = (
        conv(4, 3, 64) + sum(normed(4, a, b, bias=True) for a, b in pairwise(critic)) + conv(4, 512, 1)
    )
    return down + blocks + up, discriminator


#: name -> size -> generator, discriminators.
BY_HAND: dict[str, dict[int, tuple[int, int]]] = {
    "context-encoder": {s: context_encoder(s, centre=True) for s in (160, 64)},
    "context-encoder, other masks": {s: context_encoder(s, centre=False) for s in (160, 64)},
    "glcic": {s: (table_1(gated=()), glcic_discriminators(s)) for s in (160, 64)},
    "pconv": {s: (pconv(5), 0) for s in (160, 64)},
    "mgs-iim": {s: (table_1(gated=(1, 2, 3)), mgs_iim_discriminators(s)) for s in (160, 64)},
    "mgs-iim-no-gate": {s: (table_1(gated=()), mgs_iim_discriminators(s)) for s in (160, 64)},
    "mgs-iim-no-sn": {s: (table_1(gated=(1, 2, 3)), mgs_iim_discriminators(s)) for s in (160, 64)},
    "mgs-iim-no-skip": {s: (table_1(gated=(1, 2, 3)), mgs_iim_discriminators(s)) for s in (160, 64)},
    "mgs-iim-single-d": {s: (table_1(gated=(1, 2, 3)), mgs_iim_global(s)) for s in (160, 64)},
    "mgs-iim-gate-all": {s: (table_1(gated=range(1, 17)), mgs_iim_discriminators(s)) for s in (160, 64)},
    "deepfillv2": dict.fromkeys((160, 64), deepfillv2()),
    "lama-fourier": dict.fromkeys((160, 64), lama_fourier()),
}


def counted(name: str, size: int) -> tuple[int, int]:
    """Parameters of the model as built, without allocating them."""
    name, _, other_masks = name.partition(", ")
    box = None if other_masks else Box(size // 4, size // 4, size // 2, size // 2)
    entry = load_model(name)
    with torch.device("meta"):
        model: InpaintingModel = entry.model(entry.config("quick"), Task(size=size, fixed_hole_box=box))
    counts = {k: sum(p.numel() for p in network.parameters()) for k, network in model.networks.items()}
    return counts["generator"], counts.get("discriminator", 0)


@pytest.mark.parametrize("size", [160, 64])
@pytest.mark.parametrize("name", BY_HAND)
def test_models_have_the_parameters_counted_by_hand(name: str, size: int) -> None:
    assert counted(name, size) == BY_HAND[name][size]


@pytest.mark.parametrize(("levels", "millions"), [(4, 4.54), (5, 11.62), (6, 18.70), (7, 25.78), (8, 32.86)])
def test_pconv_with_other_numbers_of_levels(levels: int, millions: float) -> None:
    entry = load_model("pconv")
    with torch.device("meta"):
        model = entry.model(entry.config("quick", levels=levels), Task(size=2**levels))
    assert sum(p.numel() for p in model.networks["generator"].parameters()) == pconv(levels)
    assert round(pconv(levels) / 1e6, 2) == millions


def test_hand_counts_are_the_published_ones() -> None:
    """Counts known from public code: Context Encoder's, GLCIC's without batch-norm, PConv's at n = 7."""
    assert BY_HAND["context-encoder"][160][0] == 71_124_544
    assert BY_HAND["glcic"][160][0] - 5_952 == 6_066_179
    assert pconv(7) == 25_779_796
    assert BY_HAND["mgs-iim"][160] == (6_300_035, 37_719_937)
    assert round(BY_HAND["deepfillv2"][160][0] / 1e6, 1) == 4.1
    assert round(BY_HAND["lama-fourier"][160][0] / 1e6) == 27


def test_the_document_gives_these_counts() -> None:
    """The table in docs/models.md has a row for each: its counts at 160, at 64 where they differ, or "as `name`"."""
    text = DOCUMENT.read_text(encoding="utf-8")
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    rows = {cells[0].replace("`", ""): (cells[1], cells[3]) for cells in lines if len(cells) == 6}
    for name, sizes in BY_HAND.items():
        for network, said in enumerate(rows[name]):
            wanted = list(dict.fromkeys((sizes[160][network], sizes[64][network])))
            if said.startswith("as `"):
                twin = BY_HAND[said.removeprefix("as ").strip("`")]
                assert wanted == list(dict.fromkeys((twin[160][network], twin[64][network]))), name
            elif wanted == [0]:
                assert said == "none", name
            else:
                assert [int(n.replace(",", "")) for n in re.findall(r"\d[\d,]+", said)] == wanted, name
