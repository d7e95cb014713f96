"""LPIPS (Zhang et al. 2018, arXiv:1801.03924) through the ``lpips`` package, v0.1.

Its linear weights come with the package; the backbone's ImageNet weights come through torchvision's cache
(``TORCH_HOME``). A cached file is never fetched again. What is neither cached nor downloadable is said to be
unavailable, with the reason, within seconds.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from urllib.request import Request, urlopen

import torch
from torch import Tensor

#: Seconds without an answer after which a server counts as out of reach.
_TIMEOUT_SECONDS = 5.0
#: Images through the backbone at once: VGG16's first maps take 13 MB an image at 160 px.
_CHUNK = 16

Distance = Callable[[Tensor, Tensor], Tensor]


class MetricUnavailableError(Exception):
    """A metric cannot be computed here. The message is the reason, in one line."""


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
        with torch.inference_mode(), _full_precision(device):
            parts = [
                network(_scaled(x), _scaled(y)).flatten()
                for x, y in zip(torch.split(a, _CHUNK), torch.split(b, _CHUNK), strict=True)
            ]
        return torch.cat(parts).double()

    return distance


def backbone_file(backbone: str) -> Path:
    """Where torchvision keeps (or would keep) the weights of ``alex``, ``vgg`` or ``squeeze``."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(_url(backbone)).path).name


def _scaled(image: Tensor) -> Tensor:
    """[-1, 1], the range LPIPS was fitted on."""
    return image.float().div_(127.5).sub_(1)


@contextlib.contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """float32 throughout, whatever the caller runs in: neither autocast nor TF32."""
    with torch.autocast(device.type, enabled=False), torch.backends.cudnn.flags(allow_tf32=False):
        yield


def _network(backbone: str) -> torch.nn.Module:
    _require(backbone)
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
        name = backbone_file(backbone).name
        raise MetricUnavailableError(
            f"{name} in torchvision's cache is not readable as these weights ({_one_line(error)}); delete it"
        ) from error
    return network.requires_grad_(False).eval()


def _require(backbone: str) -> None:
    """Make sure that the weights are in torchvision's cache; only a download is held to its digest."""
    file, url = backbone_file(backbone), _url(backbone)
    if file.is_file():
        return
    try:
        _reach(url)
        file.parent.mkdir(parents=True, exist_ok=True)
        digest = file.stem.rsplit("-", 1)[-1]
        with _socket_timeout(_TIMEOUT_SECONDS):
            torch.hub.download_url_to_file(url, str(file), hash_prefix=digest, progress=False)
    except (OSError, HTTPException, RuntimeError) as error:
        raise MetricUnavailableError(
            f"{file.name} is not in torchvision's cache and cannot be downloaded ({_one_line(error)}); "
            f"put {url} into hub/checkpoints under TORCH_HOME"
        ) from error


def _reach(url: str) -> None:
    """Ask the server for the file's headers. In a thread, since no timeout covers the look-up of its name.

    Raises:
        OSError, HTTPException: no answer in time, or a refusal.
    """
    outcome: list[Exception | None] = []

    def ask() -> None:
        try:
            with urlopen(Request(url, method="HEAD"), timeout=_TIMEOUT_SECONDS):
                outcome.append(None)
        except (OSError, HTTPException) as error:
            outcome.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(2 * _TIMEOUT_SECONDS)
    if not outcome:
        raise TimeoutError(f"no answer from {urlparse(url).hostname} in {2 * _TIMEOUT_SECONDS:.0f} s")
    if outcome[0] is not None:
        raise outcome[0]


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """torch.hub passes no timeout of its own, so that a silent server would hold the run for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _one_line(error: BaseException) -> str:
    reason = getattr(error, "reason", error)
    lines = str(reason).strip().splitlines()
    return lines[0].split(". ")[0].rstrip(".:") if lines else type(error).__name__


def _url(backbone: str) -> str:
    from torchvision import models

    weights: dict[str, Any] = {
        "alex": models.AlexNet_Weights,
        "vgg": models.VGG16_Weights,
        "squeeze": models.SqueezeNet1_1_Weights,
    }
    return str(weights[backbone].IMAGENET1K_V1.url)
