"""Published weights in torch's cache (``TORCH_HOME``): used as they are where cached, otherwise fetched once.

Weights that are neither cached nor downloadable raise :class:`MetricUnavailableError` with the reason, within seconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse
from urllib.request import Request, urlopen

import torch
from torch import nn

from bench.errors import BenchError, UsageError
from models.registry import did_you_mean

#: Seconds without an answer after which a server counts as out of reach.
_TIMEOUT_SECONDS = 5.0


class MetricUnavailableError(Exception):
    """Raised where a metric cannot be computed. The message is the reason, in one line."""


def cached_file(url: str, name: str | None = None) -> Path:
    """Return where torch keeps (or would keep) the file of ``url``, under ``name`` if that is not the address's own."""
    return Path(torch.hub.get_dir()) / "checkpoints" / (name or Path(urlparse(url).path).name)


def require_package_weights(url: str, name: str | None = None) -> Path:
    """Return the file of ``url`` in torch's cache, fetched if need be; only a download is held to its digest.

    Raises:
        MetricUnavailableError: it is neither cached nor downloadable.
    """
    file = cached_file(url, name)
    # A cached file is taken as it is: it may have been put there by hand, where there is no network.
    return file if file.is_file() else download_weights(url, name)


def download_weights(url: str, name: str | None = None, *, progress: bool = False) -> Path:
    """Fetch ``url`` into torch's cache (as ``name``); an earlier file is replaced once the new one is complete.

    Raises:
        MetricUnavailableError: it cannot be downloaded.
    """
    file = cached_file(url, name)
    try:
        # Asked first: nothing in torch.hub limits the time of a name look-up.
        _reach(url)
        file.parent.mkdir(parents=True, exist_ok=True)
        with _socket_timeout(_TIMEOUT_SECONDS):
            torch.hub.download_url_to_file(
                url, str(file), hash_prefix=published_digest(file), progress=progress
            )
    except (OSError, HTTPException, RuntimeError) as error:
        raise MetricUnavailableError(
            f"{file.name} is not in torch's cache and cannot be downloaded ({first_line(error)}); "
            f"put {url} into hub/checkpoints under TORCH_HOME" + (f" as {name}" if name else "")
        ) from error
    return file


def published_digest(file: Path) -> str:
    """Return the first digits of the file's SHA-256, in which its name ends.

    >>> published_digest(Path("vgg16-397923af.pth"))
    '397923af'
    """
    # torchvision and torch-fidelity name files NAME-DIGEST, which torch.hub relies on as well.
    return file.stem.rsplit("-", 1)[-1]


def _reach(url: str) -> None:
    """Request the file's headers, in a thread: no socket timeout covers the name look-up.

    Raises:
        OSError, HTTPException: no answer in time, or a refusal.
    """
    outcome: list[Exception | None] = []

    def ask() -> None:
        try:
            with urlopen(Request(url, method="HEAD"), timeout=_TIMEOUT_SECONDS):  # nosec B310
                outcome.append(None)
        except (OSError, HTTPException) as error:
            outcome.append(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    # Twice: once for the look-up, once for the answer. A thread that is still stuck then ends with the
    # process.
    asking.join(2 * _TIMEOUT_SECONDS)
    if not outcome:
        raise TimeoutError(f"no answer from {urlparse(url).hostname} in {2 * _TIMEOUT_SECONDS:.0f} s")
    if outcome[0] is not None:
        raise outcome[0]


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Set the default socket timeout: torch.hub passes none, and a silent server would block the run forever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def first_line(error: BaseException) -> str:
    """Return the first sentence of an error's message.

    >>> first_line(ValueError("cut off. Try again"))
    'cut off'
    """
    # A URLError hides the reason that a reader needs.
    reason = getattr(error, "reason", error)
    lines = str(reason).strip().splitlines()
    return lines[0].split(". ")[0].rstrip(".:") if lines else type(error).__name__


#: ``altered``: readable weights that are not the published file (saved again by another program); ``damaged``:
#: not readable.
State = Literal["cached", "missing", "altered", "damaged"]


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """One file of weights.

    Attributes:
        name: as ``bench weights fetch`` takes it.
        url: where it is published; its file's name ends in the first digits of its SHA-256.
        needed_by: metrics and losses that need it.
        megabytes: approximate size.
        license: of the weights.
        file_name: in torch's cache, where it is not the address's own.
    """

    name: str
    url: str
    needed_by: str
    megabytes: int
    license: str = "license unknown"
    file_name: str | None = None

    @property
    def file(self) -> Path:
        """Path in torch's cache, whether or not the file exists."""
        return cached_file(self.url, self.file_name)

    def state(self) -> State:
        """Check the cached file against its published digest; reads the whole file."""
        if not self.file.is_file():
            return "missing"
        try:
            with self.file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            # The digest first: a file with the right one needs no look inside.
            if digest.startswith(published_digest(self.file)):
                return "cached"
            torch.load(self.file, map_location="cpu", weights_only=True)
        except Exception:  # a reader of foreign bytes may raise anything
            return "damaged"
        return "altered"


def list_backbones() -> dict[str, Backbone]:
    """List the backbones by name; torch-fidelity's only where it is installed, since it knows their addresses."""
    from torchvision import models

    def published(name: str, weights: Any, needed_by: str, megabytes: int) -> Backbone:
        return Backbone(
            name=name,
            url=str(weights.IMAGENET1K_V1.url),
            needed_by=needed_by,
            megabytes=megabytes,
            license="BSD-3-Clause",
        )

    found = [
        published("alexnet", models.AlexNet_Weights, "LPIPS (lpips_alex)", 233),
        published("vgg16", models.VGG16_Weights, "PConv's perceptual and style terms, lpips_vgg, dists", 528),
        published("squeezenet", models.SqueezeNet1_1_Weights, "lpips_squeeze", 5),
    ]
    if importlib.util.find_spec("torch_fidelity"):
        from torch_fidelity.feature_extractor_clip import MODEL_METADATA, MODEL_URLS
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

        found += [
            Backbone(
                name="inception",
                url=URL_INCEPTION_V3,
                needed_by="fid, kid, p_ids, u_ids",
                megabytes=91,
                license="Apache-2.0",
            ),
            Backbone(
                name="clip",
                url=MODEL_URLS["clip-vit-b-32"],
                needed_by="fd_clip",
                megabytes=338,
                license="MIT",
                file_name=f"clip-vit-b-32-{MODEL_METADATA['clip-vit-b-32']['hash']}.pt",
            ),
        ]
    return {backbone.name: backbone for backbone in found}


def load_imagenet_features(name: str) -> nn.Sequential:
    """Build the convolutional part of a torchvision classifier with its ImageNet weights, frozen.

    Args:
        name: ``alexnet``, ``vgg16`` or ``squeezenet``.

    Raises:
        MetricUnavailableError: the weights are neither cached nor downloadable, or damaged.
    """
    from torchvision import models

    builders = {"alexnet": models.alexnet, "vgg16": models.vgg16, "squeezenet": models.squeezenet1_1}
    file = require_package_weights(list_backbones()[name].url)
    try:
        # Cached files may have been put there by anybody, so nothing but tensors is loaded.
        state = torch.load(file, map_location="cpu", weights_only=True)
        # On no device, so that no initial weights are drawn (from a generator that a training may be using).
        with torch.device("meta"):
            features: nn.Sequential = builders[name](weights=None).features
        own = {k.removeprefix("features."): v for k, v in state.items() if k.startswith("features.")}
        # Assigned, since tensors on the device "meta" have no memory to copy into.
        features.load_state_dict(own, assign=True)
    # Whatever is wrong with the file, the remedy is the same.
    except Exception as error:  # a reader of foreign bytes may raise anything
        raise MetricUnavailableError(
            f"{file.name} in torch's cache is not readable as these weights ({first_line(error)}); delete it"
        ) from error
    return features.requires_grad_(False).eval()


def select_backbones(names: tuple[str, ...]) -> list[Backbone]:
    """Return the named backbones, or all of them.

    Raises:
        UsageError: a name that is none (with suggestions).
    """
    known = list_backbones()
    for name in names:
        if name not in known:
            raise UsageError(f"no backbone {name!r}{did_you_mean(name, known)}")
    return [known[name] for name in dict.fromkeys(names)] or list(known.values())


def fetch_backbone(backbone: Backbone, *, progress: bool = False) -> bool:
    """Make sure that the published file is cached, replacing an altered or damaged one; return whether it was fetched.

    Raises:
        BenchError: it cannot be downloaded, or not be written. What was cached before is still there.
    """
    # Altered and damaged ones are fetched again: whoever asks by name wants the published file.
    if backbone.state() == "cached":
        return False
    try:
        download_weights(backbone.url, backbone.file_name, progress=progress)
    except MetricUnavailableError as error:
        raise BenchError(f"{backbone.name}: {error}") from error
    return True
