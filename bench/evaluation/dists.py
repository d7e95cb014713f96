"""DISTS (Ding, Ma, Wang, Simoncelli 2020, arXiv:2004.07728): structure and texture of VGG16's maps.

The learned weights are those that torchmetrics ships (extra ``dists``); VGG16's come through torchvision's cache.
"""

from __future__ import annotations

import importlib.util
import pickle
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.backbones import MetricUnavailableError, load_imagenet_features
from bench.evaluation.image_batch import ImageBatch
from bench.evaluation.lpips import without_autocast
from bench.evaluation.metrics import image_metric
from reports.results.metric_info import MetricInfo

#: Images through the network at once, as for LPIPS.
_CHUNK = 16
#: VGG16's last ReLU of each stage.
_LAYERS = (3, 8, 15, 22, 29)
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: Keeps the ratios of equations 4 and 5 finite.
_C = 1e-6


@cache
def dists_distance(device: torch.device) -> Callable[[Tensor, Tensor], Tensor]:
    """Build DISTS as a function of two uint8 image batches ``(N, 3, H, W)``, giving ``(N,)`` float64.

    Raises:
        MetricUnavailableError: torchmetrics is not installed, or VGG16's weights are missing or damaged.
    """
    network = DistsNetwork().to(device)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        # In float32 under any precision of the run: the weights were fitted so, and values of runs must
        # compare.
        with torch.inference_mode(), without_autocast(device):
            parts = [
                network(x.float().div(255), y.float().div(255))
                for x, y in zip(torch.split(a, _CHUNK), torch.split(b, _CHUNK), strict=True)
            ]
        return torch.cat(parts).double()

    return distance


@image_metric(
    MetricInfo(
        name="dists",
        heading="DISTS",
        digits=4,
        value_range=(0.0, None),
        higher_is_better=False,
        convention="8-bit RGB composite scaled to [0, 1], at its own size (the authors' script reduces large images to "
        "256 pixels first)",
        source="Ding et al. 2020 (arXiv:2004.07728)",
        oracle="torchmetrics deep_image_structure_and_texture_similarity",
        weights="VGG16's ImageNet weights (torchvision, BSD-3-Clause) and the authors' alpha and beta (MIT, in "
        "torchmetrics)",
    ),
    load=dists_distance,
)
def dists(images: ImageBatch) -> Tensor:
    """Compute DISTS.

    Examples:
        >>> from bench.evaluation.image_batch import example_batch
        >>> dists(example_batch()).numpy().round(4)  # needs the weights  # needs the extra dists
        array([0.2796])
    """
    return dists_distance(images.truth.device)(images.composite, images.truth)


class DistsNetwork(nn.Module):
    """The network of DISTS, for images in [0, 1]; VGG16 whose pooling is the root of a smoothed square.

    Raises:
        MetricUnavailableError: see :func:`dists_distance`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = load_imagenet_features("vgg16")
        weights = _load_learned_weights()
        # Normalized over all stages at once: the weights of texture and structure sum to 1.
        total = weights["alpha"].sum() + weights["beta"].sum()
        # The image itself counts as the first stage.
        channels = [3, 64, 128, 256, 512, 512]
        self._alpha = torch.split(weights["alpha"] / total, channels, dim=1)
        self._beta = torch.split(weights["beta"] / total, channels, dim=1)
        self.register_buffer("mean", torch.tensor(_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(_STD).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Compute the distances ``(N,)`` of two batches: equation 6 of the paper."""
        similarity = torch.zeros(len(a), device=a.device)
        for x, y, alpha, beta in zip(self._maps(a), self._maps(b), self._alpha, self._beta, strict=True):
            mean_x, mean_y = x.mean([2, 3], keepdim=True), y.mean([2, 3], keepdim=True)
            texture = (2 * mean_x * mean_y + _C) / (mean_x**2 + mean_y**2 + _C)
            var_x = ((x - mean_x) ** 2).mean([2, 3], keepdim=True)
            var_y = ((y - mean_y) ** 2).mean([2, 3], keepdim=True)
            # By the mean of products, as the authors' code has it, and not by products of differences.
            covariance = (x * y).mean([2, 3], keepdim=True) - mean_x * mean_y
            structure = (2 * covariance + _C) / (var_x + var_y + _C)
            weighted = alpha.to(x.device) * texture + beta.to(x.device) * structure
            similarity = similarity + weighted.sum(dim=(1, 2, 3))
        return 1 - similarity

    def _maps(self, image: Tensor) -> list[Tensor]:
        """Extract the image itself and the maps of five stages."""
        # The image itself is compared unscaled; only the network's input is standardized.
        maps, hidden = [image], (image - self.mean) / self.std
        for index, layer in enumerate(self.features):
            hidden = _l2_pool(hidden) if isinstance(layer, nn.MaxPool2d) else layer(hidden)
            if index in _LAYERS:
                maps.append(hidden)
            if index == _LAYERS[-1]:
                break
        return maps


def _l2_pool(maps: Tensor) -> Tensor:
    """Halve the maps by the root of their squares under a 3 x 3 Hann window (section 3.1 of the paper)."""
    taps = maps.new_tensor([0.5, 1.0, 0.5])
    window = torch.outer(taps, taps) / 4
    channels = maps.shape[1]
    weights = window.expand(channels, 1, 3, 3)
    # The authors' constant, which keeps the gradient of the root finite.
    return (F.conv2d(maps**2, weights, stride=2, padding=1, groups=channels) + 1e-12).sqrt()


def _load_learned_weights() -> dict[str, Tensor]:
    spec = importlib.util.find_spec("torchmetrics")
    if spec is None or not spec.origin:
        raise MetricUnavailableError("torchmetrics is not installed; pip install 'inpaint-bench[dists]'")
    file = Path(spec.origin).parent / "functional" / "image" / "dists_models" / "weights.pt"
    try:
        # Weights are data: a file that holds anything but tensors is refused.
        weights: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
        return {name: weights[name].detach() for name in ("alpha", "beta")}
    except (OSError, EOFError, RuntimeError, KeyError, pickle.UnpicklingError) as error:
        raise MetricUnavailableError(f"torchmetrics has no readable weights of DISTS ({error})") from error
