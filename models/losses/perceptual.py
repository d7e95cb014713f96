"""Perceptual and style terms on VGG16 (Gatys et al. 2016; Johnson et al. 2016; Liu et al. 2018, eq. 3-5).

Weights are torchvision's ``VGG16_Weights.IMAGENET1K_V1``, through torchvision's cache (``TORCH_HOME``).
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlparse

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import VGG16_Weights

from models.errors import MissingWeightsError

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


def gram(features: Tensor) -> Tensor:
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
        target_gram = gram(truth)
        style = style + 2 * F.l1_loss(gram(ours), torch.cat([target_gram, target_gram]))
    return perceptual, style
