"""LPIPS (Zhang et al. 2018, arXiv:1801.03924) through the ``lpips`` package, v0.1.

Its linear weights come with the package; the backbone's ImageNet weights come through torchvision's cache
(``TORCH_HOME``). A cached file is never fetched again. What is neither cached nor downloadable is said to be
unavailable, with the reason, within seconds.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import warnings
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from bench.evaluation.image_batch import ImageBatch
from bench.evaluation.metrics import image_metric
from bench.pretrained_weights import MetricUnavailableError, cached_file, first_line, require_package_weights
from reports.results.metric_info import MetricInfo

#: Images through the backbone at once: VGG16's first maps take 13 MB an image at 160 px.
_CHUNK = 16

Distance = Callable[[Tensor, Tensor], Tensor]


@cache
def lpips_distance(backbone: str, device: torch.device) -> Distance:
    """LPIPS as a function of two uint8 image batches ``(N, 3, H, W)``, giving ``(N,)`` float64.

    Args:
        backbone: ``alex``, ``vgg`` or ``squeeze``.
        device: where the images will be.

    Raises:
        MetricUnavailableError: the backbone is neither cached nor downloadable, or its file is damaged.
    """
    network = _network(backbone).to(device)

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


def _scaled(image: Tensor) -> Tensor:
    """[-1, 1], the range LPIPS was fitted on."""
    return image.float().div_(127.5).sub_(1)


@contextlib.contextmanager
def without_autocast(device: torch.device) -> Iterator[None]:
    """float32 throughout, whatever the caller runs in: neither autocast nor TF32."""
    cudnn = torch.backends.cudnn
    # Its flags default to cuDNN off, and not to what is set. Its search for the fastest algorithm stays off, since
    # which one wins would show in the last digits.
    flags = cudnn.flags(enabled=cudnn.enabled, deterministic=cudnn.deterministic, allow_tf32=False)
    with torch.autocast(device.type, enabled=False), flags:
        yield


def _network(backbone: str) -> torch.nn.Module:
    require_package_weights(_url(backbone))
    # The package prints while it is built, calls torchvision in a deprecated way, and draws initial weights
    # (overwritten at once) from torch's generator, which a training may be using.
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            torch.random.fork_rng(devices=[]),
        ):
            warnings.simplefilter("ignore")
            import lpips

            network: torch.nn.Module = lpips.LPIPS(net=backbone, version="0.1", verbose=False)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
        name = cached_file(_url(backbone)).name
        raise MetricUnavailableError(
            f"{name} in torch's cache is not readable as these weights ({first_line(error)}); delete it"
        ) from error
    return network.requires_grad_(False).eval()


def _url(backbone: str) -> str:
    from torchvision import models

    weights: dict[str, Any] = {
        "alex": models.AlexNet_Weights,
        "vgg": models.VGG16_Weights,
        "squeeze": models.SqueezeNet1_1_Weights,
    }
    return str(weights[backbone].IMAGENET1K_V1.url)
