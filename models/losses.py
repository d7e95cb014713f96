"""Losses shared by several architectures: adversarial, reconstruction, and perceptual terms on VGG16.

All return scalars in float32 whatever autocast does, and all are means over the batch, so that the gradients of equal
micro-batches average to those of the whole batch. A reconstruction loss says in its name what the error is divided by;
unless it says otherwise that is **every** element of the image ("size-averaged": NVIDIA/partialconv#9), not the hole
alone, so that a published weight means here what it meant to its authors.

VGG16 uses torchvision's ``VGG16_Weights.IMAGENET1K_V1`` from torchvision's own cache (``TORCH_HOME``).
"""

from pathlib import Path
from typing import Literal
from urllib.parse import urlparse

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VGG16_Weights

from models.errors import MissingWeightsError

#: ``bce``: Goodfellow et al. 2014, with the non-saturating generator loss. ``hinge``: Lim and Ye 2017.
AdversarialLoss = Literal["bce", "hinge"]

#: ImageNet's RGB mean and standard deviation in [0, 1], as torchvision's weights expect them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_WEIGHTS = VGG16_Weights.IMAGENET1K_V1
#: Index in torchvision's ``vgg16().features`` and channels of each convolution; a max-pool ends each stage.
_STAGES: tuple[tuple[tuple[int, int, int], ...], ...] = (
    ((0, 3, 64), (2, 64, 64)),
    ((5, 64, 128), (7, 128, 128)),
    ((10, 128, 256), (12, 256, 256), (14, 256, 256)),
)


def discriminator_loss(real: Tensor, fake: Tensor, kind: AdversarialLoss) -> Tensor:
    """Compute the discriminator's adversarial loss.

    ``bce``: ``-log D(real) - log(1 - D(fake))``, which is log 4 = 1.386 for a discriminator that cannot tell them
    apart (Goodfellow et al. 2014, eq. 1). ``hinge``: ``max(0, 1 - D(real)) + max(0, 1 + D(fake))``, then 2 (Lim and
    Ye 2017; Miyato et al. 2018, eq. 16).

    Args:
        real: logits of real images, any shape.
        fake: logits of completed images.
        kind: ``bce`` or ``hinge``.
    """
    real, fake = real.float(), fake.float()
    if kind == "bce":
        # softplus(-x) = -log sigmoid(x), without the overflow of either function.
        return F.softplus(-real).mean() + F.softplus(fake).mean()
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def generator_loss(fake: Tensor, kind: AdversarialLoss) -> Tensor:
    """Compute the generator's adversarial loss: ``-log D(fake)`` for ``bce``, ``-D(fake)`` for ``hinge``."""
    fake = fake.float()
    return F.softplus(-fake).mean() if kind == "bce" else -fake.mean()


def discriminator_score(logits: Tensor, kind: AdversarialLoss) -> Tensor:
    """Return the mean probability of being real (``bce``) or the mean logit (``hinge``), for the training log."""
    logits = logits.detach().float()
    return (torch.sigmoid(logits) if kind == "bce" else logits).mean()


def weighted_l1(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Compute ``mean(weight * |output - target|)`` over all elements of ``(N, C, H, W)``.

    Args:
        output: ``(N, C, H, W)``.
        target: the same shape.
        weight: ``(N, 1, H, W)``.
    """
    return (weight.float() * (output.float() - target.float()).abs()).mean()


def mse_over_pixels(output: Tensor, target: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """Compute ``mean(weight * (output - target)^2)``, divided by all elements of ``(N, C, H, W)``.

    >>> output, target = torch.tensor([[[[1.0, 0.0]]]]), torch.zeros(1, 1, 1, 2)
    >>> hole = torch.tensor([[[[1.0, 0.0]]]])
    >>> [round(f(output, target, hole).item(), 3) for f in (mse_over_pixels, mse_over_weights, squared_norm)]
    [0.5, 1.0, 1.0]

    Args:
        output: ``(N, C, H, W)``.
        target: the same shape.
        weight: broadcasts to ``(N, C, H, W)``; a mask makes this the loss of GLCIC's public port.
    """
    return (weight * (output.float() - target.float()).square()).mean()


def mse_over_weights(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Compute each image's weighted mean of the squared error, divided by its sum of weights; average over images.

    With the mask as weight this is the mean over the hole, whatever the hole's size.

    Args:
        output: ``(N, C, H, W)``.
        target: the same shape.
        weight: ``(N, 1, H, W)``, not negative.
    """
    error = weight * (output.float() - target).square()
    # An image without a hole has no weight at all: its error is 0, not 0 / 0.
    total = weight.sum(dim=(1, 2, 3)).clamp(min=1) * output.shape[1]
    return (error.sum(dim=(1, 2, 3)) / total).mean()


def squared_norm(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Compute each image's *sum* of weighted squared errors, not divided at all; average over images.

    With the mask as weight this is ``||M * (C(x, M) - x)||^2`` (GLCIC, Iizuka et al. 2017, eq. 2).

    Args:
        output: ``(N, C, H, W)``.
        target: the same shape.
        weight: ``(N, 1, H, W)``.
    """
    return (weight * (output.float() - target).square()).sum(dim=(1, 2, 3)).mean()


def band_weight(
    height: int, width: int, band: int, weight: float, device: torch.device | None = None
) -> Tensor:
    """Return ``(1, 1, height, width)`` with ``weight`` within ``band`` pixels of the border and 1 inside.

    >>> band_weight(3, 4, 1, 10.0)[0, 0].tolist()
    [[10.0, 10.0, 10.0, 10.0], [10.0, 1.0, 1.0, 10.0], [10.0, 10.0, 10.0, 10.0]]
    """
    result = torch.full((1, 1, height, width), weight, device=device)
    result[:, :, band : height - band, band : width - band] = 1.0
    return result


def total_variation(image: Tensor, region: Tensor | None = None) -> Tensor:
    """Compute the anisotropic total variation: mean absolute difference of vertical plus horizontal neighbors.

    >>> total_variation(torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])).item()
    1.0

    Args:
        image: ``(N, C, H, W)``.
        region: ``(N, 1, H, W)`` in {0, 1}; only pairs with both pixels inside count, divided by all pairs
            (Liu et al. 2018, eq. 6). ``None``: the whole image.
    """
    image = image.float()
    down = (image[:, :, 1:] - image[:, :, :-1]).abs()
    across = (image[:, :, :, 1:] - image[:, :, :, :-1]).abs()
    if region is not None:
        region = region.float()
        down = down * (region[:, :, 1:] * region[:, :, :-1])
        across = across * (region[:, :, :, 1:] * region[:, :, :, :-1])
    return down.mean() + across.mean()


def dilate_mask(mask: Tensor, pixels: int = 1) -> Tensor:
    """Grow ``mask`` ``(N, 1, H, W)`` by ``pixels`` in all eight directions.

    >>> dilate_mask(torch.tensor([[[[0.0, 0.0, 0.0, 1.0]]]])).tolist()
    [[[[0.0, 0.0, 1.0, 1.0]]]]
    """
    # Max pooling pads with minus infinity, so the image's border does not count as hole.
    return F.max_pool2d(mask.float(), 2 * pixels + 1, stride=1, padding=pixels)


def vgg16_file() -> Path:
    """Return the path at which torchvision keeps (or would keep) the weights."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(_WEIGHTS.url).path).name


def require_vgg16(remedy: str) -> None:
    """Download the weights (528 MB) unless they are cached.

    Args:
        remedy: what else the user can do, as a clause for the error message.

    Raises:
        MissingWeightsError: they are neither cached nor downloadable.
    """
    file = vgg16_file()
    if file.is_file():
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        # torchvision ends a file's name with the first digits of its SHA-256.
        digest = file.stem.rsplit("-", 1)[-1]
        torch.hub.download_url_to_file(_WEIGHTS.url, str(file), hash_prefix=digest, progress=False)
    except (OSError, RuntimeError) as error:
        raise MissingWeightsError(
            f"VGG16 weights are needed for the perceptual and style terms; {file} is missing and could not "
            f"be downloaded ({error}). Save {_WEIGHTS.url} as that file, or {remedy}"
        ) from error


class VGG16Features(nn.Module):
    """Outputs of VGG16's pool1, pool2 and pool3, frozen; drawing nothing from torch's random generator.

    Raises:
        MissingWeightsError: see :func:`require_vgg16`.
    """

    def __init__(self, remedy: str = "set vgg_losses = off") -> None:
        super().__init__()
        require_vgg16(remedy)
        try:
            # Mapped: of the file's 528 MB only the first seven convolutions are read.
            state = torch.load(vgg16_file(), map_location="cpu", weights_only=True, mmap=True)
        except (OSError, RuntimeError) as error:
            raise MissingWeightsError(
                f"{vgg16_file()} is not a readable torch file ({error}); delete it for a new one, or {remedy}"
            ) from error
        self.stages = nn.ModuleList()
        for stage in _STAGES:
            layers: list[nn.Module] = []
            for index, inputs, outputs in stage:
                # On the meta device a layer allocates and draws nothing before its weights are assigned.
                layer = nn.Conv2d(inputs, outputs, 3, padding=1, device="meta")
                # Copied, so that the file is not kept mapped.
                kept = {name: state[f"features.{index}.{name}"].clone() for name in ("weight", "bias")}
                layer.load_state_dict(kept, assign=True)
                layers += [layer, nn.ReLU(inplace=True)]
            self.stages.append(nn.Sequential(*layers, nn.MaxPool2d(2)))
        self.requires_grad_(False).eval()

    def forward(self, normalized: Tensor) -> list[Tensor]:
        """Map ``(N, 3, H, W)``, normalized as for ImageNet, to three maps of 64, 128 and 256 channels."""
        maps = []
        for stage in self.stages:
            normalized = stage(normalized)
            maps.append(normalized)
        return maps


def gram_matrix(features: Tensor) -> Tensor:
    """Compute ``F F^T / (C H W)``, ``(N, C, C)`` in float32 (Gatys et al. 2016; Liu et al. 2018, eq. 4).

    >>> gram_matrix(torch.tensor([[[[1.0, 0.0]], [[2.0, 2.0]]]])).tolist()
    [[[0.25, 0.5], [0.5, 2.0]]]
    """
    with torch.autocast(features.device.type, enabled=False):
        flat = features.float().flatten(2)
        return flat @ flat.transpose(1, 2) / (flat.shape[1] * flat.shape[2])


def perceptual_and_style(
    vgg: nn.Module, raw: Tensor, composite: Tensor, target: Tensor
) -> tuple[Tensor, Tensor]:
    """Sum the size-averaged L1 distances of ``raw`` and of ``composite`` to ``target`` over pool1 to pool3.

    Args:
        vgg: :class:`VGG16Features`.
        raw: ``(N, 3, H, W)``, normalized as for ImageNet, like the two below.
        composite: the same with the known pixels pasted back.
        target: the ground truth.

    Returns:
        The perceptual term (distance of features, eq. 3 of Liu et al. 2018) and the style term (distance of Gram
        matrices, eq. 4 and 5), unweighted.
    """
    with torch.no_grad():
        target_maps = vgg(target)
    # VGG16 has no batch-norm: one pass over both images equals two.
    output_maps = vgg(torch.cat([raw, composite]))
    perceptual = raw.new_zeros((), dtype=torch.float32)
    style = raw.new_zeros((), dtype=torch.float32)
    for ours, truth in zip(output_maps, target_maps, strict=True):
        both = torch.cat([truth, truth])
        # A mean over 2N elements is half the sum of the two means.
        perceptual = perceptual + 2 * F.l1_loss(ours.float(), both.float())
        target_gram = gram_matrix(truth)
        style = style + 2 * F.l1_loss(gram_matrix(ours), torch.cat([target_gram, target_gram]))
    return perceptual, style
