"""LPIPS (Zhang et al. 2018, arXiv:1801.03924), v0.1: the numbers of the ``lpips`` package, to the last bit.

The linear weights are the package's files; the backbone is built by torchvision and gets its ImageNet weights from
torchvision's cache (``TORCH_HOME``). The package's own network is not used: it asks torchvision for ``pretrained=``,
which torchvision has announced to drop. A cached file is never fetched again; what is neither cached nor downloadable
is unavailable, with the reason, within seconds.
"""

from __future__ import annotations

import contextlib
import importlib.util
import pickle
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.backbones import MetricUnavailableError, load_imagenet_features
from bench.evaluation.image_batch import ImageBatch
from bench.evaluation.metrics import image_metric
from reports.results.metric_info import MetricInfo

#: Images through the backbone at once: VGG16's first maps take 13 MB an image at 160 px.
_CHUNK = 16
#: Backbone -> name of its weights, and the layers of its feature extractor whose outputs are compared (all ReLU
#: outputs; SqueezeNet's last ones are of its fire modules).
_LAYERS = {
    "alex": ("alexnet", (1, 4, 7, 9, 11)),
    "vgg": ("vgg16", (3, 8, 15, 22, 29)),
    "squeeze": ("squeezenet", (1, 4, 7, 9, 10, 11, 12)),
}
#: Mean and spread of ImageNet's images in [-1, 1], to which the package scales.
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)

Distance = Callable[[Tensor, Tensor], Tensor]


@cache
def lpips_distance(backbone: str, device: torch.device) -> Distance:
    """Build LPIPS as a function of two uint8 image batches ``(N, 3, H, W)``, giving ``(N,)`` float64.

    Args:
        backbone: ``alex``, ``vgg`` or ``squeeze``.
        device: where the images will be.

    Raises:
        MetricUnavailableError: the backbone is neither cached nor downloadable, or its file is damaged.
    """
    network = LpipsNetwork(backbone).to(device)

    def distance(a: Tensor, b: Tensor) -> Tensor:
        with torch.inference_mode(), without_autocast(device):
            parts = [
                network(_scaled(x), _scaled(y)).flatten()
                for x, y in zip(torch.split(a, _CHUNK), torch.split(b, _CHUNK), strict=True)
            ]
        return torch.cat(parts).double()

    return distance


@image_metric(
    MetricInfo(
        name="lpips_alex",
        heading="LPIPS (Alex)",
        digits=4,
        value_range=(0.0, None),
        higher_is_better=False,
        convention="8-bit RGB composite scaled to [-1, 1], AlexNet with the linear weights v0.1",
        source="Zhang et al. 2018 (arXiv:1801.03924)",
        oracle="the lpips package, v0.1",
        group="primary",
        weights="AlexNet's ImageNet weights (torchvision, BSD-3-Clause)",
    ),
    load=partial(lpips_distance, "alex"),
)
def lpips_alex(images: ImageBatch) -> Tensor:
    """Compute LPIPS with AlexNet.

    Examples:
        >>> from bench.evaluation.image_batch import example_batch
        >>> lpips_alex(example_batch()).numpy().round(4)  # needs the weights
        array([0.1018])
    """
    return lpips_distance("alex", images.truth.device)(images.composite, images.truth)


@image_metric(
    MetricInfo(
        name="lpips_vgg",
        heading="LPIPS (VGG)",
        digits=4,
        value_range=(0.0, None),
        higher_is_better=False,
        convention="as lpips_alex, with VGG16",
        source="Zhang et al. 2018 (arXiv:1801.03924)",
        oracle="the lpips package, v0.1",
        weights="VGG16's ImageNet weights (torchvision, BSD-3-Clause)",
    ),
    load=partial(lpips_distance, "vgg"),
)
def lpips_vgg(images: ImageBatch) -> Tensor:
    """Compute LPIPS with VGG16.

    Examples:
        >>> from bench.evaluation.image_batch import example_batch
        >>> lpips_vgg(example_batch()).numpy().round(4)  # needs the weights
        array([0.3022])
    """
    return lpips_distance("vgg", images.truth.device)(images.composite, images.truth)


@image_metric(
    MetricInfo(
        name="lpips_squeeze",
        heading="LPIPS (SqueezeNet)",
        digits=4,
        value_range=(0.0, None),
        higher_is_better=False,
        convention="as lpips_alex, with SqueezeNet 1.1",
        source="Zhang et al. 2018 (arXiv:1801.03924)",
        oracle="the lpips package, v0.1",
        weights="SqueezeNet's ImageNet weights (torchvision, BSD-3-Clause)",
    ),
    load=partial(lpips_distance, "squeeze"),
)
def lpips_squeeze(images: ImageBatch) -> Tensor:
    """Compute LPIPS with SqueezeNet 1.1.

    Examples:
        >>> from bench.evaluation.image_batch import example_batch
        >>> lpips_squeeze(example_batch()).numpy().round(4)  # needs the weights
        array([0.1339])
    """
    return lpips_distance("squeeze", images.truth.device)(images.composite, images.truth)


class LpipsNetwork(nn.Module):
    """The network of LPIPS v0.1, for images in [-1, 1].

    Args:
        backbone: ``alex``, ``vgg`` or ``squeeze``.

    Raises:
        MetricUnavailableError: the backbone is neither cached nor downloadable, or its file is damaged.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, backbone: str) -> None:
        super().__init__()
        name, self._layers = _LAYERS[backbone]
        self.features = load_imagenet_features(name)
        linear = load_linear_weights(backbone)
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1))
        # As buffers, so that they move to the device with the network and are no parameters.
        for place in range(len(self._layers)):
            self.register_buffer(f"linear{place}", linear[f"lin{place}.model.1.weight"])
        self.requires_grad_(False).eval()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Compute the distances ``(N, 1, 1, 1)`` of two batches: equation 1 of the paper."""
        # Layers are added one by one in the package's order, to be equal to the last bit.
        distance = torch.zeros((), device=a.device)
        for place, (x, y) in enumerate(zip(self._maps(a), self._maps(b), strict=True)):
            weights: Tensor = getattr(self, f"linear{place}")
            distance = distance + F.conv2d((x - y) ** 2, weights).mean([2, 3], keepdim=True)
        return distance

    def _maps(self, image: Tensor) -> list[Tensor]:
        """Extract the compared maps, each pixel's channels scaled to unit length."""
        maps = []
        hidden = (image - self.shift) / self.scale
        for index, layer in enumerate(self.features):
            hidden = layer(hidden)
            if index in self._layers:
                length = torch.sqrt(torch.sum(hidden**2, dim=1, keepdim=True))
                # Added to the length, as in the package, and not under the root.
                maps.append(hidden / (length + 1e-10))
            if index == self._layers[-1]:
                break
        return maps


def load_linear_weights(backbone: str) -> dict[str, Tensor]:
    """Read the linear weights from the package's file, without importing the package.

    Raises:
        MetricUnavailableError: the package or its file is missing or damaged.
    """
    spec = importlib.util.find_spec("lpips")
    if spec is None or not spec.origin:
        raise MetricUnavailableError("lpips is not installed; pip install lpips")
    file = Path(spec.origin).parent / "weights" / "v0.1" / f"{backbone}.pth"
    try:
        weights: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        raise MetricUnavailableError(
            f"{file.name} of the lpips package is not readable; install it again"
        ) from error
    return weights


def _scaled(image: Tensor) -> Tensor:
    """Scale levels to [-1, 1], the range LPIPS was fitted on."""
    return image.float().div_(127.5).sub_(1)


@contextlib.contextmanager
def without_autocast(device: torch.device) -> Iterator[None]:
    """Compute in float32 whatever the caller runs in: neither autocast nor TF32."""
    cudnn = torch.backends.cudnn
    # Its flags default to cuDNN off, and not to what is set. Its search for the fastest algorithm stays off, since
    # which one wins would show in the last digits.
    flags = cudnn.flags(enabled=cudnn.enabled, deterministic=cudnn.deterministic, allow_tf32=False)
    with torch.autocast(device.type, enabled=False), flags:
        yield
