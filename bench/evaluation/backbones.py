"""The published weights that metrics and losses stand on: which there are, whether they are cached, how to get them."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from bench.errors import BenchError, UsageError
from bench.pretrained_weights import MetricUnavailableError, cached_file, download, published_digest
from models.registry import suggest

#: ``altered``: readable weights, though not the published file (saved again by another program); ``damaged``: not
#: even that.
State = Literal["cached", "missing", "altered", "damaged"]


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """One file of weights.

    Attributes:
        name: as ``bench weights fetch`` takes it.
        url: where it is published; its file's name ends in the first digits of its SHA-256.
        needed_by: what is not to be had without it.
        megabytes: about its size.
    """

    name: str
    url: str
    needed_by: str
    megabytes: int

    @property
    def file(self) -> Path:
        """Where torch keeps (or would keep) it."""
        return cached_file(self.url)

    def state(self) -> State:
        """How it stands; reads the whole file."""
        if not self.file.is_file():
            return "missing"
        try:
            with self.file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            if digest.startswith(published_digest(self.url)):
                return "cached"
            torch.load(self.file, map_location="cpu", weights_only=True)
        except Exception:  # a reader of foreign bytes may raise anything
            return "damaged"
        return "altered"


def backbones() -> dict[str, Backbone]:
    """Name -> backbone; that of FID only where its package is installed, which knows the address."""
    from torchvision import models

    def published(name: str, weights: Any, needed_by: str, megabytes: int) -> Backbone:
        return Backbone(
            name=name, url=str(weights.IMAGENET1K_V1.url), needed_by=needed_by, megabytes=megabytes
        )

    found = [
        published("alexnet", models.AlexNet_Weights, "LPIPS (lpips_alex)", 233),
        published("vgg16", models.VGG16_Weights, "PConv's perceptual and style terms, lpips_vgg", 528),
        published("squeezenet", models.SqueezeNet1_1_Weights, "lpips_squeeze", 5),
    ]
    if importlib.util.find_spec("torch_fidelity"):
        from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

        found.append(Backbone(name="inception", url=URL_INCEPTION_V3, needed_by="FID", megabytes=91))
    return {backbone.name: backbone for backbone in found}


def choose(names: tuple[str, ...]) -> list[Backbone]:
    """The named backbones, or all.

    Raises:
        UsageError: a name that is none (with suggestions).
    """
    known = backbones()
    for name in names:
        if name not in known:
            raise UsageError(f"no backbone {name!r}{suggest(name, known)}")
    return [known[name] for name in dict.fromkeys(names)] or list(known.values())


def fetch(backbone: Backbone, *, progress: bool = False) -> bool:
    """Make sure that the published file is cached; one that is altered or damaged is replaced. Whether it was fetched.

    Raises:
        BenchError: it cannot be downloaded, or not be written. What was cached before is still there.
    """
    if backbone.state() == "cached":
        return False
    try:
        download(backbone.url, progress=progress)
    except MetricUnavailableError as error:
        raise BenchError(f"{backbone.name}: {error}") from error
    return True
