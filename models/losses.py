"""Losses shared by several architectures."""

from pathlib import Path
from typing import Literal
from urllib.parse import urlparse

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VGG16_Weights

from models.errors import MissingWeightsError

# Adversarial losses on logits, in float32 whatever the precision of the networks.
#
# ``bce``: Goodfellow et al. 2014, the generator's in its non-saturating form. ``hinge``: Lim & Ye 2017, Miyato
# et al. 2018. All are means over the batch.


AdversarialLoss = Literal["bce", "hinge"]


def discriminator_loss(real: Tensor, fake: Tensor, kind: AdversarialLoss) -> Tensor:
    """What a discriminator minimises; a scalar.

    ``bce``: ``-log D(real) - log(1 - D(fake))``, which is log 4 = 1.386 for one that cannot tell.
    ``hinge``: ``max(0, 1 - D(real)) + max(0, 1 + D(fake))``, then 2.

    Args:
        real: logits of true images, any shape.
        fake: logits of completed images.
        kind: see above.
    """
    real, fake = real.float(), fake.float()
    if kind == "bce":
        return F.softplus(-real).mean() + F.softplus(fake).mean()
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def generator_loss(fake: Tensor, kind: AdversarialLoss) -> Tensor:
    """What a generator minimises; a scalar. ``bce``: ``-log D(fake)``. ``hinge``: ``-D(fake)``."""
    fake = fake.float()
    return F.softplus(-fake).mean() if kind == "bce" else -fake.mean()


def discriminator_score(logits: Tensor, kind: AdversarialLoss) -> Tensor:
    """Mean verdict for the log: a probability of being real (``bce``) or the mean logit (``hinge``)."""
    logits = logits.detach().float()
    return (torch.sigmoid(logits) if kind == "bce" else logits).mean()


# Distances between pictures, and smoothness: what the published losses are made of.
#
# All return scalars in float32 whatever autocast does, and all average over **every** element of the picture
# ("size-averaged": NVIDIA/partialconv#9), not over the hole alone: a term's weight then means what it meant to
# its authors.


def weighted_l1(output: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """``mean(weight * |output - target|)`` over all of ``(N, C, H, W)``; ``weight`` is ``(N, 1, H, W)``."""
    return (weight.float() * (output.float() - target.float()).abs()).mean()


def weighted_mse(output: Tensor, target: Tensor, weight: Tensor | float = 1.0) -> Tensor:
    """``mean(weight * (output - target)^2)`` over all of ``(N, C, H, W)``; ``weight`` broadcasts."""
    return (weight * (output.float() - target.float()).square()).mean()


def band_weight(
    height: int, width: int, band: int, weight: float, device: torch.device | None = None
) -> Tensor:
    """``(1, 1, height, width)``: ``weight`` within ``band`` pixels of the border, 1 inside."""
    result = torch.full((1, 1, height, width), weight, device=device)
    result[:, :, band : height - band, band : width - band] = 1.0
    return result


def total_variation(image: Tensor, region: Tensor | None = None) -> Tensor:
    """Anisotropic total variation: mean absolute difference of neighbours, down plus across.

    Args:
        image: ``(N, C, H, W)``.
        region: ``(N, 1, H, W)`` in {0, 1}; only pairs with both pixels inside count, divided by all pairs
            (Liu et al. 2018, eq. 6). ``None``: the whole picture.
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
    """``mask`` ``(N, 1, H, W)`` grown by ``pixels`` in all eight directions."""
    return F.max_pool2d(mask.float(), 2 * pixels + 1, stride=1, padding=pixels)


# Perceptual and style terms on VGG16 (Gatys et al. 2016; Johnson et al. 2016; Liu et al. 2018, eq. 3-5).
#
# Weights are torchvision's ``VGG16_Weights.IMAGENET1K_V1``, through torchvision's cache (``TORCH_HOME``).


#: ImageNet's RGB mean and standard deviation in [0, 1], as torchvision's weights expect them.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_WEIGHTS = VGG16_Weights.IMAGENET1K_V1
#: Position in torchvision's ``vgg16().features`` and channels of each convolution; a pool ends each stage.
_STAGES: tuple[tuple[tuple[int, int, int], ...], ...] = (
    ((0, 3, 64), (2, 64, 64)),
    ((5, 64, 128), (7, 128, 128)),
    ((10, 128, 256), (12, 256, 256), (14, 256, 256)),
)


def vgg16_file() -> Path:
    """Where torchvision keeps (or would keep) the weights."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(_WEIGHTS.url).path).name


def require_vgg16(remedy: str) -> None:
    """Make sure that the weights are cached, downloading them (528 MB) if they are not.

    Args:
        remedy: what else the user can do, as a clause.

    Raises:
        MissingWeightsError: they are neither cached nor downloadable.
    """
    file = vgg16_file()
    if file.is_file():
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        digest = file.stem.rsplit("-", 1)[-1]
        torch.hub.download_url_to_file(_WEIGHTS.url, str(file), hash_prefix=digest, progress=False)
    except (OSError, RuntimeError) as error:
        raise MissingWeightsError(
            f"VGG16 weights are needed for the perceptual and style terms; {file} is missing and could not "
            f"be downloaded ({error}). Put {_WEIGHTS.url} in that place, or {remedy}"
        ) from error


class VGG16Features(nn.Module):
    """Outputs of VGG16's pool1, pool2 and pool3, frozen. Draws nothing from torch's random generator.

    Raises:
        MissingWeightsError: see :func:`require_vgg16`.
    """

    def __init__(self, remedy: str = "set vgg_losses = off") -> None:
        super().__init__()
        require_vgg16(remedy)
        try:
            state = torch.load(vgg16_file(), map_location="cpu", weights_only=True, mmap=True)
        except (OSError, RuntimeError) as error:
            raise MissingWeightsError(
                f"{vgg16_file()} is not a readable torch file ({error}); delete it for a new one, or {remedy}"
            ) from error
        self.stages = nn.ModuleList()
        for stage in _STAGES:
            layers: list[nn.Module] = []
            for index, inputs, outputs in stage:
                layer = nn.Conv2d(inputs, outputs, 3, padding=1, device="meta")
                kept = {name: state[f"features.{index}.{name}"].clone() for name in ("weight", "bias")}
                layer.load_state_dict(kept, assign=True)
                layers += [layer, nn.ReLU(inplace=True)]
            self.stages.append(nn.Sequential(*layers, nn.MaxPool2d(2)))
        self.requires_grad_(False).eval()

    def forward(self, normalised: Tensor) -> list[Tensor]:
        """``(N, 3, H, W)``, in ImageNet's normalisation, to three maps of 64, 128, 256 channels."""
        maps = []
        for stage in self.stages:
            normalised = stage(normalised)
            maps.append(normalised)
        return maps


def gram_matrix(features: Tensor) -> Tensor:
    """``(N, C, C)`` float32: ``F F^T / (C H W)``, the kernel of the style term (Liu et al. 2018, eq. 4)."""
    with torch.autocast(features.device.type, enabled=False):
        flat = features.float().flatten(2)
        return flat @ flat.transpose(1, 2) / (flat.shape[1] * flat.shape[2])


def perceptual_and_style(
    vgg: nn.Module, raw: Tensor, composite: Tensor, target: Tensor
) -> tuple[Tensor, Tensor]:
    """Sums over pool1-3 of size-averaged L1 distances, of ``raw`` and of ``composite`` to ``target``.

    Args:
        vgg: :class:`VGG16Features`.
        raw: ``(N, 3, H, W)``, ImageNet-normalised, like the two below.
        composite: the same with the known pixels pasted back.
        target: the truth.

    Returns:
        The perceptual term (features, eq. 3) and the style term (Gram matrices, eq. 4 and 5), unweighted.
    """
    with torch.no_grad():
        wanted = vgg(target)
    # VGG16 has no batch-norm: one pass over both pictures equals two.
    made = vgg(torch.cat([raw, composite]))
    perceptual = raw.new_zeros((), dtype=torch.float32)
    style = raw.new_zeros((), dtype=torch.float32)
    for ours, truth in zip(made, wanted, strict=True):
        both = torch.cat([truth, truth])
        # A mean over 2N elements is half the sum of the two means.
        perceptual = perceptual + 2 * F.l1_loss(ours.float(), both.float())
        target_gram = gram_matrix(truth)
        style = style + 2 * F.l1_loss(gram_matrix(ours), torch.cat([target_gram, target_gram]))
    return perceptual, style
